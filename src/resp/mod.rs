//! RESP2 and RESP3, the wire format of Redis and Valkey: values, an incremental request decoder, an
//! encoder. Pure: bytes in, values out; no socket is known here.

pub mod glob;
mod value;

pub use value::Value;
