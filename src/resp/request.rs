//! What clients send: an incremental decoder of commands, for servers and for the replication
//! stream.
//!
//! The decoder looks into the caller's read buffer, remembers how far it got, and takes a command
//! out only once it is whole. It allocates by what has arrived, never by what a header claims, and
//! it refuses a header that breaks a limit before its body is read.

use std::mem::size_of;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::number::parse_int;
use super::value::Value;

/// Arguments that an unauthenticated client may send in one command.
const UNAUTHENTICATED_ARGS: i64 = 10;
/// Bytes that an unauthenticated client may send in one argument.
const UNAUTHENTICATED_BULK: i64 = 16 * 1024;
/// The list of argument positions is kept from command to command up to this many entries.
const KEPT_POSITIONS: usize = 1024;

/// What one command may claim. The defaults are Redis's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in one argument: `proto-max-bulk-len`, 512 MiB.
    pub max_bulk: usize,
    /// Arguments in one command: 2^31 - 1, as in Redis from 7.0 on; `max_request` bites earlier.
    pub max_multibulk: usize,
    /// Bytes in an inline command or in a header line: 64 KiB.
    pub max_inline: usize,
    /// Bytes that one command may hold in memory, with 32 for each of its arguments:
    /// `client-query-buffer-limit`, 1 GiB.
    pub max_request: usize,
    /// `false` holds the client to 10 arguments of 16 KiB, as Redis does before AUTH.
    pub authenticated: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_bulk: 512 << 20,
            max_multibulk: i32::MAX as usize,
            max_inline: 64 << 10,
            max_request: 1 << 30,
            authenticated: true,
        }
    }
}

impl Limits {
    /// The limits of a client that has yet to authenticate.
    pub fn unauthenticated() -> Limits {
        Limits { authenticated: false, ..Limits::default() }
    }
}

/// One whole command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The command's name and its arguments; never empty. For an array these are slices of `raw`:
    /// who keeps one for long should copy it, since it holds the whole read buffer in memory.
    pub args: Vec<Bytes>,
    /// The command as it came, without blank lines or empty arrays before it: the bytes that count
    /// in a replication offset, and that a replica hands on unchanged.
    pub raw: Bytes,
    /// Whether it came as a line of text rather than as an array; a master never sends that.
    pub inline: bool,
}

impl Request {
    /// The length of the command on the wire, in bytes.
    pub fn bytes(&self) -> usize {
        self.raw.len()
    }
}

/// The peer broke the protocol: it gets [`ProtocolError::reply`] and its connection is closed,
/// since where the next command begins is unknown. The texts are Redis's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The count after `*` is no number or too big.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The length after `$` is no number, negative or too big.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// An argument does not start with `$`.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// A line that starts with `*` does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLineTooLong,
    /// The line before an argument does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLineTooLong,
    /// An inline command does not end.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// A quote in an inline command is not closed, or text follows right behind a closing one.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// More than 10 arguments before AUTH.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// More than 16 KiB in an argument before AUTH.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// The arguments are within their limits, but their sum is not. Redis closes such a connection
    /// without a word.
    #[error("Protocol error: too big request")]
    RequestTooBig,
}

impl ProtocolError {
    /// The reply to send before the connection is closed.
    pub fn reply(&self) -> Value {
        Value::Error(format!("ERR {self}"))
    }
}

/// Takes commands out of a read buffer, one at a time.
///
/// Between two calls the caller may append to the buffer but must not change or remove what is
/// there.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Where the next piece (header line or argument) starts, from the start of the buffer.
    position: usize,
    /// No line end was found between `position` and here, so that no byte is looked at twice.
    scanned: usize,
    /// Arguments that are still to come; 0 before the header of an array.
    missing: usize,
    /// The length of the argument at `position`, once its header is known.
    bulk: Option<usize>,
    /// Where the arguments read so far lie in the buffer.
    found: Vec<Range<usize>>,
}

impl Decoder {
    /// A decoder for a new connection.
    pub fn new(limits: Limits) -> Decoder {
        Decoder { limits, position: 0, scanned: 0, missing: 0, bulk: None, found: Vec::new() }
    }

    /// Changes the limits from the next header on: after a successful AUTH, or CONFIG SET.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the next whole command out of `buf`; `None` asks for more bytes. Blank lines and empty
    /// arrays are dropped in silence. After an error the connection must be closed.
    pub fn feed(&mut self, buf: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        while self.missing == 0 {
            match buf.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(count) = self.array_header(buf)? else { return Ok(None) };
                    if count == 0 {
                        buf.advance(self.position);
                        self.restart();
                    }
                    self.missing = count;
                }
                Some(_) => {
                    let Some(request) = self.inline(buf)? else { return Ok(None) };
                    if !request.args.is_empty() {
                        return Ok(Some(request));
                    }
                }
            }
        }
        while self.missing > 0 {
            if !self.argument(buf)? {
                return Ok(None);
            }
        }
        Ok(Some(self.take_array(buf)))
    }

    /// Reads `*count`; a negative count means 0.
    fn array_header(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line(buf, ProtocolError::MultibulkLineTooLong)? else {
            return Ok(None);
        };
        let count = parse_int(&buf[line.start + 1..line.end])
            .filter(|count| *count <= self.limits.max_multibulk as i64)
            .ok_or(ProtocolError::InvalidMultibulkLength)?;
        if count > UNAUTHENTICATED_ARGS && !self.limits.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.move_to(line.end + 2);
        Ok(Some(usize::try_from(count).unwrap_or(0)))
    }

    /// Reads one argument, or as much of it as is there; `true` once it is whole.
    fn argument(&mut self, buf: &[u8]) -> Result<bool, ProtocolError> {
        let length = match self.bulk {
            Some(length) => length,
            None => match self.bulk_header(buf)? {
                Some(length) => length,
                None => return Ok(false),
            },
        };
        self.bulk = Some(length);
        let end = self.position + length;
        // Like Redis, this skips two bytes behind the argument without a look at them.
        if buf.len() < end + 2 {
            return Ok(false);
        }
        self.found.push(self.position..end);
        self.move_to(end + 2);
        self.bulk = None;
        self.missing -= 1;
        Ok(true)
    }

    /// Reads `$length`.
    fn bulk_header(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line(buf, ProtocolError::BulkLineTooLong)? else {
            return Ok(None);
        };
        if buf[line.start] != b'$' {
            return Err(ProtocolError::ExpectedBulk(buf[line.start]));
        }
        let length = parse_int(&buf[line.start + 1..line.end])
            .filter(|length| (0..=self.limits.max_bulk as i64).contains(length))
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if length > UNAUTHENTICATED_BULK && !self.limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.move_to(line.end + 2);
        let overhead = (self.found.len() + 1) * size_of::<Bytes>();
        let held = self.position.saturating_add(length as usize).saturating_add(overhead);
        if held > self.limits.max_request {
            return Err(ProtocolError::RequestTooBig);
        }
        Ok(Some(length as usize))
    }

    /// Finds the line at `position` up to its CR, once the byte behind the CR is there too.
    fn line(
        &mut self,
        buf: &[u8],
        too_long: ProtocolError,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let end = memchr::memchr(b'\r', &buf[self.scanned..]).map(|found| self.scanned + found);
        self.scanned = end.unwrap_or(buf.len());
        if self.scanned - self.position > self.limits.max_inline {
            return Err(too_long);
        }
        Ok(end.filter(|end| end + 1 < buf.len()).map(|end| self.position..end))
    }

    /// Takes a line of text off the buffer; its arguments are empty if it is blank.
    fn inline(&mut self, buf: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        let end = memchr::memchr2(b'\n', 0, &buf[self.scanned..]).map(|found| self.scanned + found);
        // As in Redis, whose strings end there, a line with a zero byte has no end.
        let end = end.inspect(|end| self.scanned = *end).filter(|end| buf[*end] == b'\n');
        let begun = if end.is_some() { self.scanned } else { buf.len() };
        if begun > self.limits.max_inline {
            return Err(ProtocolError::InlineTooLong);
        }
        let Some(end) = end else { return Ok(None) };
        let line = buf[..end].strip_suffix(b"\r").unwrap_or(&buf[..end]);
        let args = split_words(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.restart();
        Ok(Some(Request { args, raw: buf.split_to(end + 1).freeze(), inline: true }))
    }

    fn take_array(&mut self, buf: &mut BytesMut) -> Request {
        let raw = buf.split_to(self.position).freeze();
        let args = self.found.drain(..).map(|range| raw.slice(range)).collect();
        self.found.shrink_to(KEPT_POSITIONS);
        self.restart();
        Request { args, raw, inline: false }
    }

    fn move_to(&mut self, position: usize) {
        self.position = position;
        self.scanned = position;
    }

    fn restart(&mut self) {
        self.move_to(0);
    }
}

/// Splits a line into words by the rules of Redis's `sdssplitargs`: words between blanks, `"..."`
/// with escapes (`\n \r \t \b \a \xHH`), `'...'` with `\'` only. `None` if a quote is not closed or
/// something follows right behind a closing one.
fn split_words(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = trim_start(line);
    while !rest.is_empty() {
        let mut word = Vec::new();
        rest = trim_start(read_word(rest, &mut word)?);
        words.push(Bytes::from(word));
    }
    Some(words)
}

fn trim_start(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|b| is_blank(**b)).count();
    &text[blanks..]
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Reads one word and returns what follows it.
fn read_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return Some(rest),
            // Fewer than may stand between words.
            [b' ' | b'\t' | b'\r', ..] => return Some(rest),
            [b'"', quoted @ ..] => return closed(read_double_quoted(quoted, word)?),
            [b'\'', quoted @ ..] => return closed(read_single_quoted(quoted, word)?),
            [b, more @ ..] => {
                word.push(*b);
                more
            }
        }
    }
}

/// A closing quote ends the word: a blank or the end of the line must follow.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(|b| is_blank(*b)).then_some(rest)
}

fn read_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, more) = match rest {
            [] => return None,
            [b'"', more @ ..] => return Some(more),
            [b'\\', b'x', high, low, more @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex_digit(*high) << 4 | hex_digit(*low), more)
            }
            [b'\\', escaped, more @ ..] => (unescape(*escaped), more),
            [byte, more @ ..] => (*byte, more),
        };
        word.push(byte);
        rest = more;
    }
}

fn read_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, more) = match rest {
            [] => return None,
            [b'\\', b'\'', more @ ..] => (b'\'', more),
            [b'\'', more @ ..] => return Some(more),
            [byte, more @ ..] => (*byte, more),
        };
        word.push(byte);
        rest = more;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
