//! Replies and commands into bytes.

use bytes::{BufMut, BytesMut};

use super::number::{format_double, put_int};
use super::value::Value;

/// The version of the protocol that a connection speaks: `HELLO 2` or `HELLO 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// What every connection speaks at first.
    #[default]
    Resp2,
    /// With maps, sets, pushes, doubles and one null.
    Resp3,
}

/// Appends one reply.
pub fn encode(value: &Value, protocol: Protocol, out: &mut BytesMut) {
    let resp3 = protocol == Protocol::Resp3;
    match value {
        Value::Simple(text) => line(b'+', text, out),
        Value::Error(text) => line(b'-', text, out),
        Value::Integer(number) => header(b':', *number, out),
        Value::Bulk(bytes) => bulk(bytes, out),
        Value::Null | Value::NullArray if resp3 => out.put_slice(b"_\r\n"),
        Value::Null => out.put_slice(b"$-1\r\n"),
        Value::NullArray => out.put_slice(b"*-1\r\n"),
        Value::Array(items) => aggregate(b'*', items, protocol, out),
        Value::Push(items) => aggregate(if resp3 { b'>' } else { b'*' }, items, protocol, out),
        Value::Set(items) => aggregate(if resp3 { b'~' } else { b'*' }, items, protocol, out),
        Value::Map(pairs) => {
            let (mark, count) =
                if resp3 { (b'%', pairs.len()) } else { (b'*', pairs.len().saturating_mul(2)) };
            header(mark, count, out);
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Value::Verbatim(text) if resp3 => {
            header(b'=', text.len() + 4, out);
            out.put_slice(b"txt:");
            out.put_slice(text.as_bytes());
            out.put_slice(b"\r\n");
        }
        Value::Verbatim(text) => bulk(text.as_bytes(), out),
        Value::Double(number) if resp3 => line(b',', &format_double(*number), out),
        Value::Double(number) => bulk(format_double(*number).as_bytes(), out),
        Value::Boolean(yes) if resp3 => out.put_slice(if *yes { b"#t\r\n" } else { b"#f\r\n" }),
        Value::Boolean(yes) => header(b':', u8::from(*yes), out),
    }
}

/// Appends a command as an array of bulk strings: a request, or a piece of the replication stream.
pub fn encode_command(args: &[impl AsRef<[u8]>], out: &mut BytesMut) {
    header(b'*', args.len(), out);
    for arg in args {
        bulk(arg.as_ref(), out);
    }
}

fn header(mark: u8, number: impl itoa::Integer, out: &mut BytesMut) {
    out.put_u8(mark);
    put_int(number, out);
    out.put_slice(b"\r\n");
}

fn bulk(bytes: &[u8], out: &mut BytesMut) {
    header(b'$', bytes.len(), out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// A line must not be broken by what it carries, or its rest would be taken for another reply.
fn line(mark: u8, text: &str, out: &mut BytesMut) {
    out.put_u8(mark);
    let start = out.len();
    out.put_slice(text.as_bytes());
    for byte in &mut out[start..] {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    out.put_slice(b"\r\n");
}

fn aggregate(mark: u8, items: &[Value], protocol: Protocol, out: &mut BytesMut) {
    header(mark, items.len(), out);
    for item in items {
        encode(item, protocol, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(value: Value) -> (String, String) {
        let text = |protocol| {
            let mut out = BytesMut::new();
            encode(&value, protocol, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        (text(Protocol::Resp2), text(Protocol::Resp3))
    }

    #[test]
    fn each_value_takes_the_form_of_its_protocol() {
        let one = || vec![Value::Integer(1)];
        let cases = [
            (Value::ok(), "+OK\r\n", "+OK\r\n"),
            (Value::error("ERR no"), "-ERR no\r\n", "-ERR no\r\n"),
            (Value::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (Value::bulk("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (Value::Null, "$-1\r\n", "_\r\n"),
            (Value::NullArray, "*-1\r\n", "_\r\n"),
            (Value::Array(one()), "*1\r\n:1\r\n", "*1\r\n:1\r\n"),
            (Value::Push(one()), "*1\r\n:1\r\n", ">1\r\n:1\r\n"),
            (Value::Set(one()), "*1\r\n:1\r\n", "~1\r\n:1\r\n"),
            (
                Value::Map(vec![(Value::bulk("k"), Value::Null)]),
                "*2\r\n$1\r\nk\r\n$-1\r\n",
                "%1\r\n$1\r\nk\r\n_\r\n",
            ),
            (Value::Verbatim("ab".into()), "$2\r\nab\r\n", "=6\r\ntxt:ab\r\n"),
            (Value::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (Value::Boolean(true), ":1\r\n", "#t\r\n"),
            (Value::Boolean(false), ":0\r\n", "#f\r\n"),
        ];
        for (value, resp2, resp3) in cases {
            let shown = format!("{value:?}");
            assert_eq!(both(value), (resp2.to_string(), resp3.to_string()), "{shown}");
        }
    }

    #[test]
    fn a_line_cannot_be_broken_by_its_text() {
        assert_eq!(both(Value::error("ERR a\r\n+OK")).0, "-ERR a  +OK\r\n");
    }

    #[test]
    fn a_command_is_an_array_of_bulks() {
        let mut out = BytesMut::new();
        encode_command(&["REPLCONF", "GETACK", "*"], &mut out);
        assert_eq!(out, "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n");
        assert_eq!(out.len(), 37);
    }
}
