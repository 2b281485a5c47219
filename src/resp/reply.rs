//! What servers answer: an incremental decoder of replies of both protocol versions, for the link
//! of a replica to its master, for tests and for the client of the demo.
//!
//! Nesting is held on a list of its own, not on the call stack, so that depth costs memory that is
//! counted rather than a crash.

use std::mem::size_of;

use bytes::{Buf, BytesMut};

use super::number::parse_int;
use super::value::Value;

/// What one reply may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Bytes in one string.
    pub max_bulk: usize,
    /// Bytes in a line: a simple string, an error, a number, a header.
    pub max_line: usize,
    /// Bytes that one reply may hold in memory, with the size of a [`Value`] for each element.
    pub max_reply: usize,
    /// Aggregates within aggregates.
    pub max_depth: usize,
}

impl Default for ReplyLimits {
    fn default() -> ReplyLimits {
        ReplyLimits { max_bulk: 512 << 20, max_line: 64 << 10, max_reply: 1 << 30, max_depth: 32 }
    }
}

/// The peer broke the protocol; where its next reply begins is unknown, so the connection must be
/// closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A reply begins with a byte that names no type.
    #[error("protocol error in a reply: unknown type byte '{}'", .0.escape_ascii())]
    UnknownType(u8),
    /// A line does not end within its limit.
    #[error("protocol error in a reply: a line is longer than {0} bytes")]
    LineTooLong(usize),
    /// A number, length or boolean is malformed, or a length is out of its range.
    #[error("protocol error in a reply: bad value after '{}'", char::from(*.0))]
    BadValue(u8),
    /// A string or the whole reply is bigger than allowed.
    #[error("protocol error in a reply: more than {0} bytes")]
    TooBig(usize),
    /// Too many aggregates within aggregates.
    #[error("protocol error in a reply: nested deeper than {0}")]
    TooDeep(usize),
    /// The bytes behind a string are not CR LF.
    #[error("protocol error in a reply: no line end behind a string")]
    NoLineEnd,
}

/// Takes replies out of a read buffer, one at a time. The buffer may only grow between two calls.
#[derive(Debug)]
pub struct ReplyDecoder {
    limits: ReplyLimits,
    /// No line end was found in the buffer up to here.
    scanned: usize,
    /// The string whose header was read: its type byte and length.
    string: Option<(u8, usize)>,
    /// Aggregates that are not complete, outermost first.
    open: Vec<Aggregate>,
    /// What the parts of the present reply hold in memory, in bytes.
    held: usize,
}

/// An array, map, set, push or attribute of which elements are missing.
#[derive(Debug)]
struct Aggregate {
    mark: u8,
    missing: usize,
    items: Vec<Value>,
}

/// What one step took out of the buffer.
enum Step {
    /// Nothing: more bytes are needed.
    Wait,
    /// A header, a piece of an attribute, or a blank line.
    Went,
    /// An element or a whole reply.
    Got(Value),
}

impl ReplyDecoder {
    /// A decoder for a new connection.
    pub fn new(limits: ReplyLimits) -> ReplyDecoder {
        ReplyDecoder { limits, scanned: 0, string: None, open: Vec::new(), held: 0 }
    }

    /// Takes the next whole reply out of `buf`; `None` asks for more bytes.
    ///
    /// Bare line ends between replies are dropped: a master sends them while it prepares a
    /// snapshot. Attributes are read and dropped. A big number becomes a bulk string, a blob error
    /// an error. Text that is not UTF-8 in a line is replaced; bulk strings are kept as they are.
    pub fn feed(&mut self, buf: &mut BytesMut) -> Result<Option<Value>, ReplyError> {
        loop {
            let step = match self.string {
                Some((mark, length)) => self.string_body(mark, length, buf)?,
                None => self.line(buf)?,
            };
            let value = match step {
                Step::Wait => return Ok(None),
                Step::Went => self.close(None),
                Step::Got(value) => self.close(Some(value)),
            };
            if value.is_some() {
                self.held = 0;
                return Ok(value);
            }
        }
    }

    /// Takes a line and what it says.
    fn line(&mut self, buf: &mut BytesMut) -> Result<Step, ReplyError> {
        if self.open.is_empty() {
            let blank = buf.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            buf.advance(blank);
            self.scanned = self.scanned.saturating_sub(blank);
        }
        let end = memchr::memchr(b'\n', &buf[self.scanned..]).map(|found| self.scanned + found);
        self.scanned = end.unwrap_or(buf.len());
        if self.scanned > self.limits.max_line {
            return Err(ReplyError::LineTooLong(self.limits.max_line));
        }
        let Some(end) = end else { return Ok(Step::Wait) };
        self.scanned = 0;
        let line = buf.split_to(end + 1).freeze();
        let line = line.strip_suffix(b"\r\n").unwrap_or(&line[..end]);
        let Some((mark, rest)) = line.split_first() else {
            return Err(ReplyError::UnknownType(b'\n'));
        };
        self.hold(rest.len() + size_of::<Value>())?;
        self.typed_line(*mark, rest)
    }

    fn typed_line(&mut self, mark: u8, rest: &[u8]) -> Result<Step, ReplyError> {
        let bad = ReplyError::BadValue(mark);
        let text = || String::from_utf8_lossy(rest).into_owned();
        Ok(match mark {
            b'+' => Step::Got(Value::Simple(text())),
            b'-' => Step::Got(Value::Error(text())),
            b':' => {
                let digits = rest.strip_prefix(b"+").unwrap_or(rest);
                Step::Got(Value::Integer(parse_int(digits).ok_or(bad)?))
            }
            b'_' if rest.is_empty() => Step::Got(Value::Null),
            b'#' => Step::Got(Value::Boolean(match rest {
                b"t" => true,
                b"f" => false,
                _ => return Err(bad),
            })),
            b',' => Step::Got(Value::Double(text().parse().map_err(|_| bad)?)),
            b'(' => Step::Got(Value::bulk(rest)),
            b'$' if rest == b"-1" => Step::Got(Value::Null),
            b'*' if rest == b"-1" => Step::Got(Value::NullArray),
            b'$' | b'=' | b'!' => {
                let length = self.length(mark, rest)?;
                if length > self.limits.max_bulk {
                    return Err(ReplyError::TooBig(self.limits.max_bulk));
                }
                self.hold(length)?;
                self.string = Some((mark, length));
                Step::Went
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let count = self.length(mark, rest)?;
                let missing = if matches!(mark, b'%' | b'|') { count * 2 } else { count };
                // The claim itself is checked: elements that cannot fit need not be awaited.
                if missing.saturating_mul(size_of::<Value>()) > self.limits.max_reply {
                    return Err(ReplyError::TooBig(self.limits.max_reply));
                }
                if self.open.len() >= self.limits.max_depth {
                    return Err(ReplyError::TooDeep(self.limits.max_depth));
                }
                self.open.push(Aggregate { mark, missing, items: Vec::new() });
                Step::Went
            }
            b'_' => return Err(bad),
            other => return Err(ReplyError::UnknownType(other)),
        })
    }

    /// A length or count: 0 to 2^31 - 1.
    fn length(&self, mark: u8, text: &[u8]) -> Result<usize, ReplyError> {
        parse_int(text)
            .and_then(|number| i32::try_from(number).ok())
            .and_then(|number| usize::try_from(number).ok())
            .ok_or(ReplyError::BadValue(mark))
    }

    fn string_body(
        &mut self,
        mark: u8,
        length: usize,
        buf: &mut BytesMut,
    ) -> Result<Step, ReplyError> {
        if buf.len() < length + 2 {
            return Ok(Step::Wait);
        }
        let body = buf.split_to(length).freeze();
        if buf.split_to(2) != b"\r\n"[..] {
            return Err(ReplyError::NoLineEnd);
        }
        self.string = None;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Step::Got(match mark {
            b'!' => Value::Error(text(&body)),
            // Three letters and a colon name the format.
            b'=' if body.get(3) == Some(&b':') => Value::Verbatim(text(&body[4..])),
            b'=' => return Err(ReplyError::BadValue(mark)),
            _ => Value::Bulk(body),
        }))
    }

    /// Puts an element into the innermost open aggregate and closes what is complete by that; the
    /// whole reply if nothing is open any more.
    fn close(&mut self, mut value: Option<Value>) -> Option<Value> {
        while let Some(aggregate) = self.open.last_mut() {
            if let Some(value) = value.take() {
                aggregate.items.push(value);
                aggregate.missing -= 1;
            }
            if aggregate.missing > 0 {
                return None;
            }
            value = self.open.pop().and_then(Aggregate::finish);
            // An attribute stands beside the element that follows it and counts as none.
            value.as_ref()?;
        }
        value
    }

    /// Counts what a part of the reply will hold in memory.
    fn hold(&mut self, bytes: usize) -> Result<(), ReplyError> {
        self.held = self.held.saturating_add(bytes);
        if self.held > self.limits.max_reply {
            return Err(ReplyError::TooBig(self.limits.max_reply));
        }
        Ok(())
    }
}

impl Aggregate {
    fn finish(self) -> Option<Value> {
        match self.mark {
            b'*' => Some(Value::Array(self.items)),
            b'~' => Some(Value::Set(self.items)),
            b'>' => Some(Value::Push(self.items)),
            b'%' => {
                let mut items = self.items.into_iter();
                let pairs = std::iter::from_fn(|| Some((items.next()?, items.next()?)));
                Some(Value::Map(pairs.collect()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::encode::{Protocol, encode};
    use super::*;

    fn decode(input: &[u8], cuts: &[usize]) -> (Vec<Value>, Option<ReplyError>) {
        let limits = ReplyLimits { max_depth: 6, max_reply: 1 << 20, ..ReplyLimits::default() };
        let mut decoder = ReplyDecoder::new(limits);
        let mut buf = BytesMut::new();
        let mut values = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([input.len()]) {
            buf.extend_from_slice(&input[start..end]);
            start = end;
            loop {
                match decoder.feed(&mut buf) {
                    Ok(Some(value)) => values.push(value),
                    Ok(None) => break,
                    Err(error) => return (values, Some(error)),
                }
            }
        }
        (values, None)
    }

    #[test]
    fn every_type_of_both_versions_is_read() {
        let cases: Vec<(&str, Value)> = vec![
            ("+OK\r\n", Value::ok()),
            ("-ERR no\r\n", Value::error("ERR no")),
            (":-12\r\n", Value::Integer(-12)),
            ("$3\r\na\r\n\r\n", Value::bulk("a\r\n")),
            ("$-1\r\n", Value::Null),
            ("_\r\n", Value::Null),
            ("*-1\r\n", Value::NullArray),
            ("*0\r\n", Value::Array(vec![])),
            (",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
            (",1.5\r\n", Value::Double(1.5)),
            ("#t\r\n", Value::Boolean(true)),
            ("!7\r\nERR bad\r\n", Value::error("ERR bad")),
            ("=6\r\ntxt:ab\r\n", Value::Verbatim("ab".into())),
            ("(123456789012345678901\r\n", Value::bulk("123456789012345678901")),
            ("~1\r\n:1\r\n", Value::Set(vec![Value::Integer(1)])),
            (">1\r\n+a\r\n", Value::Push(vec![Value::Simple("a".into())])),
            (
                "%1\r\n+a\r\n:1\r\n",
                Value::Map(vec![(Value::Simple("a".into()), Value::Integer(1))]),
            ),
            ("|1\r\n+ttl\r\n:3\r\n*2\r\n|0\r\n:1\r\n|1\r\n:7\r\n*0\r\n*1\r\n*0\r\n", {
                let inner = Value::Array(vec![Value::Array(vec![])]);
                Value::Array(vec![Value::Integer(1), inner])
            }),
        ];
        for (input, value) in cases {
            assert_eq!(decode(input.as_bytes(), &[]), (vec![value], None), "{input:?}");
        }
    }

    #[test]
    fn newlines_before_a_reply_are_dropped() {
        let (values, error) = decode(b"\n\n+FULLRESYNC abc 1\r\n\n\n", &[1, 2, 5]);
        assert_eq!((values, error), (vec![Value::Simple("FULLRESYNC abc 1".into())], None));
    }

    #[test]
    fn hostile_replies_are_refused() {
        let deep = "*1\r\n".repeat(7);
        let cases: Vec<(&str, ReplyError)> = vec![
            ("hello\r\n", ReplyError::UnknownType(b'h')),
            (":1x\r\n", ReplyError::BadValue(b':')),
            ("$x\r\n", ReplyError::BadValue(b'$')),
            ("$-2\r\n", ReplyError::BadValue(b'$')),
            ("$999999999999\r\n", ReplyError::BadValue(b'$')),
            ("$1073741824\r\n", ReplyError::TooBig(512 << 20)),
            ("$2000000\r\n", ReplyError::TooBig(1 << 20)),
            ("*2000000000\r\n", ReplyError::TooBig(1 << 20)),
            ("%2147483647\r\n", ReplyError::TooBig(1 << 20)),
            ("$1\r\nabc", ReplyError::NoLineEnd),
            ("=1\r\na\r\n", ReplyError::BadValue(b'=')),
            ("*1\r\n\r\n", ReplyError::UnknownType(b'\n')),
            (&deep, ReplyError::TooDeep(6)),
        ];
        for (input, expected) in cases {
            assert_eq!(decode(input.as_bytes(), &[]).1, Some(expected), "{input:?}");
        }
        let endless = vec![b'+'; 70_000];
        assert_eq!(decode(&endless, &[]).1, Some(ReplyError::LineTooLong(64 << 10)));
        let many = format!("*20000\r\n{}", "_\r\n".repeat(20_000)).repeat(2);
        assert_eq!(decode(many.as_bytes(), &[]).0.len(), 2, "each reply has the whole limit");
    }

    /// Values that RESP3 carries without loss.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "[ -~]{0,12}".prop_map(Value::Simple),
            "[ -~]{0,12}".prop_map(Value::Error),
            any::<i64>().prop_map(Value::Integer),
            vec(any::<u8>(), 0..20).prop_map(Value::bulk),
            Just(Value::Null),
            ".{0,12}".prop_map(Value::Verbatim),
            prop::num::f64::NORMAL.prop_map(Value::Double),
            any::<bool>().prop_map(Value::Boolean),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Value::Array),
                vec(inner.clone(), 0..5).prop_map(Value::Set),
                vec(inner.clone(), 0..5).prop_map(Value::Push),
                vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    fn cuts_of(input: &[u8], cuts: &[prop::sample::Index]) -> Vec<usize> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        cuts
    }

    proptest! {
        #[test]
        fn replies_survive_the_wire_however_it_is_cut(
            values in vec(value(), 0..5),
            cuts in vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut input = BytesMut::new();
            for value in &values {
                encode(value, Protocol::Resp3, &mut input);
            }
            prop_assert_eq!(decode(&input, &cuts_of(&input, &cuts)), (values, None));
        }

        #[test]
        fn garbage_gives_the_same_however_it_is_cut(
            input in "([*$%|~>=!+:,#_(-]|-?[0-9]{1,3}|\r\n|\n|a|\\*2\r\n){0,40}",
            cuts in vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let input = input.into_bytes();
            let whole = format!("{:?}", decode(&input, &[]));
            let pieces = format!("{:?}", decode(&input, &cuts_of(&input, &cuts)));
            prop_assert_eq!(whole, pieces);
        }
    }
}
