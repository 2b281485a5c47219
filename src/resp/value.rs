//! One reply, of either protocol version.

use bytes::Bytes;

/// A RESP reply. A value is protocol-neutral: the encoder writes `Map` as a flat array, `Null` as
/// `$-1`, `Push` as an array and so on when the connection speaks RESP2.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+OK`. Must hold no CR or LF; the encoder replaces them with blanks.
    Simple(String),
    /// `-ERR text`, the code word included. Must hold no CR or LF; the encoder replaces them.
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3 abc`
    Bulk(Bytes),
    /// RESP2 `$-1`, RESP3 `_`
    Null,
    /// RESP2 `*-1`, RESP3 `_`
    NullArray,
    /// `*2 ...`
    Array(Vec<Value>),
    /// RESP3 `%1 k v`, RESP2 a flat array `*2 k v`
    Map(Vec<(Value, Value)>),
    /// RESP3 `>3 ...` (out of band), RESP2 an array
    Push(Vec<Value>),
    /// RESP3 `~2 ...`, RESP2 an array
    Set(Vec<Value>),
    /// RESP3 `=7 txt:abc`, RESP2 a bulk
    Verbatim(String),
    /// RESP3 `,1.5`, RESP2 a bulk
    Double(f64),
    /// RESP3 `#t`, RESP2 `:1`
    Boolean(bool),
}

impl Value {
    /// `+OK`
    pub fn ok() -> Value {
        Value::Simple("OK".into())
    }

    /// A bulk string of the given text or bytes.
    pub fn bulk(text: impl AsRef<[u8]>) -> Value {
        Value::Bulk(Bytes::copy_from_slice(text.as_ref()))
    }

    /// An error; `text` carries its code word (`ERR`, `NOQUORUM`, ...).
    pub fn error(text: impl Into<String>) -> Value {
        Value::Error(text.into())
    }

    /// The text of a simple, bulk or verbatim string; `None` for all else or for bytes that are not
    /// UTF-8.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Simple(s) | Value::Verbatim(s) => Some(s),
            Value::Bulk(b) => std::str::from_utf8(b).ok(),
            _ => None,
        }
    }
}
