//! A connection to a node, a sentinel, or the stage of the nodes that are played.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

use crate::resp::{ReplyDecoder, ReplyLimits, Value, encode_command};

/// One question after the other. It waits without a limit: whoever asks knows how long to wait, and
/// drops a connection whose answer may still be under way.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: ReplyDecoder,
}

impl Wire {
    pub(super) async fn open(address: impl ToSocketAddrs) -> io::Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let decoder = ReplyDecoder::new(ReplyLimits::default());
        Ok(Wire { stream, buffer: BytesMut::new(), decoder })
    }

    /// To a port of 127.0.0.1.
    pub(super) async fn local(port: u16) -> io::Result<Wire> {
        Wire::open((Ipv4Addr::LOCALHOST, port)).await
    }

    /// Sends a command and takes the next answer; an answer that is an error is an answer.
    pub(super) async fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Value> {
        self.send(words).await?;
        self.next().await
    }

    /// The same, but an answer that is an error is an error.
    pub(super) async fn obtain(&mut self, words: &[&str]) -> io::Result<Value> {
        match self.ask(words).await? {
            Value::Error(text) => Err(io::Error::other(format!("{}: {text}", words.join(" ")))),
            value => Ok(value),
        }
    }

    pub(super) async fn send(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut out = BytesMut::new();
        encode_command(words, &mut out);
        self.stream.write_all(&out).await
    }

    /// The next answer or message, whenever it comes.
    pub(super) async fn next(&mut self) -> io::Result<Value> {
        loop {
            let fed = self.decoder.feed(&mut self.buffer).map_err(io::Error::other)?;
            if let Some(value) = fed {
                return Ok(value);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// What comes of it in this time; `TimedOut` if nothing does.
pub(super) async fn within<T>(
    time: Duration,
    what: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(time, what).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
