//! A connection to a node or sentinel that asks one question at a time and gives up soon.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::resp::{ReplyDecoder, ReplyLimits, Value, encode_command};

/// After an error it is of no more use: an answer may still be under way.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: ReplyDecoder,
}

impl Wire {
    pub(super) async fn open(address: SocketAddr, within: Duration) -> io::Result<Wire> {
        let stream = timeout(within, TcpStream::connect(address)).await.map_err(late)??;
        stream.set_nodelay(true)?;
        let decoder = ReplyDecoder::new(ReplyLimits::default());
        Ok(Wire { stream, buffer: BytesMut::new(), decoder })
    }

    /// Sends a command and takes the next answer; an answer that is an error is an answer.
    pub(super) async fn ask(
        &mut self,
        words: &[impl AsRef<[u8]>],
        within: Duration,
    ) -> io::Result<Value> {
        let answer = async {
            self.send(words).await?;
            self.next().await
        };
        timeout(within, answer).await.map_err(late)?
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

fn late(_: tokio::time::error::Elapsed) -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Asks once, over a connection of its own.
pub(super) async fn ask_once(
    address: SocketAddr,
    words: &[impl AsRef<[u8]>],
    within: Duration,
) -> io::Result<Value> {
    Wire::open(address, within).await?.ask(words, within).await
}

/// Where a sentinel says that the master is.
pub(super) fn master_address(answer: &Value) -> Option<SocketAddr> {
    let Value::Array(parts) = answer else { return None };
    let [host, port] = parts.as_slice() else { return None };
    Some(SocketAddr::new(host.text()?.parse().ok()?, port.text()?.parse().ok()?))
}

/// The fields of one instance, `name value name value ...`.
pub(super) fn fields(answer: &Value) -> Option<BTreeMap<&str, &str>> {
    let Value::Array(words) = answer else { return None };
    words.chunks(2).map(|pair| Some((pair.first()?.text()?, pair.get(1)?.text()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(words: &[&str]) -> Value {
        Value::Array(words.iter().map(Value::bulk).collect())
    }

    #[test]
    fn answers_of_sentinels() {
        let address = "127.0.0.1:7001".parse().ok();
        assert_eq!(master_address(&array(&["127.0.0.1", "7001"])), address);
        assert_eq!(master_address(&Value::NullArray), None);
        let answer = array(&["flags", "master", "quorum", "2"]);
        let expected = BTreeMap::from([("flags", "master"), ("quorum", "2")]);
        assert_eq!(fields(&answer), Some(expected));
        assert_eq!(fields(&array(&["flags"])), None);
    }
}
