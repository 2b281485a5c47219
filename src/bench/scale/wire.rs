//! A connection to a sentinel or to the nodes' stage.

use std::io;
use std::net::Ipv4Addr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::resp::{ReplyDecoder, ReplyLimits, Value, encode_command};

/// One question after the other. It waits without a limit: whoever asks knows how long to wait,
/// and drops a connection whose answer may still be under way.
pub(super) struct Wire {
    stream: TcpStream,
    decoder: ReplyDecoder,
    bytes: BytesMut,
}

impl Wire {
    /// To a port of 127.0.0.1.
    pub(super) async fn open(port: u16) -> io::Result<Wire> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let decoder = ReplyDecoder::new(ReplyLimits::default());
        Ok(Wire { stream, decoder, bytes: BytesMut::new() })
    }

    /// The answer to a command; one that is an error is an error.
    pub(super) async fn ask(&mut self, words: &[&str]) -> io::Result<Value> {
        let mut out = BytesMut::new();
        encode_command(words, &mut out);
        self.stream.write_all(&out).await?;
        match self.next().await? {
            Value::Error(text) => Err(io::Error::other(format!("{}: {text}", words.join(" ")))),
            value => Ok(value),
        }
    }

    /// The next answer or message, whenever it comes.
    pub(super) async fn next(&mut self) -> io::Result<Value> {
        loop {
            if let Some(value) = self.decoder.feed(&mut self.bytes).map_err(io::Error::other)? {
                return Ok(value);
            }
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
