//! RESP2 and RESP3, the wire format of Redis and Valkey: values, incremental decoders of requests
//! and of replies, an encoder. Pure: bytes in, values out; no socket is known here.

pub mod confined;
mod encode;
pub mod glob;
pub mod number;
mod reply;
mod request;
mod value;

pub use encode::{Protocol, encode, encode_command};
pub use reply::{ReplyDecoder, ReplyError, ReplyLimits};
pub use request::{Decoder, Limits, ProtocolError, Request};
pub use value::Value;
