//! One connection as bytes: requests go out as fast as the other side takes them, replies come in
//! one by one. An idle connection holds no buffers, since there may be ten thousand.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::lost_reason;
use crate::net::Stream;
use crate::resp::{ReplyDecoder, ReplyLimits, Value, encode_command};
use crate::sentinel::LostReason;

/// What a node may say at a time. The longest honest reply is INFO: some ten KB, and 40 bytes more
/// for each database in use.
const LIMITS: ReplyLimits =
    ReplyLimits { max_bulk: 1 << 20, max_line: 64 << 10, max_reply: 1 << 20, max_depth: 8 };
/// Bytes read at a time, into a buffer that all connections of a thread share.
const READ_BYTES: usize = 64 << 10;
/// A send buffer of at most this size is kept while nothing is to be sent.
const KEPT_BYTES: usize = 512;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

pub(super) struct Wire {
    stream: Stream,
    decoder: ReplyDecoder,
    received: BytesMut,
    to_send: BytesMut,
    /// Something was written that may wait in the stream.
    unflushed: bool,
    /// The other side takes no more.
    deaf: bool,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Wire {
        let (received, to_send) = (BytesMut::new(), BytesMut::new());
        let decoder = ReplyDecoder::new(LIMITS);
        Wire { stream, decoder, received, to_send, unflushed: false, deaf: false }
    }

    /// Puts a request behind those that are to be sent.
    pub(super) fn say(&mut self, words: &[impl AsRef<[u8]>]) {
        if !self.deaf {
            encode_command(words, &mut self.to_send);
        }
    }

    /// Sends what is to be sent, until something was received. Nothing is lost if it is given up
    /// and called again.
    pub(super) async fn exchange(&mut self) -> Result<(), LostReason> {
        poll_fn(|context| self.poll_exchange(context)).await
    }

    /// The next whole reply of what was received.
    pub(super) fn reply(&mut self) -> Result<Option<Value>, LostReason> {
        let reply = self.decoder.feed(&mut self.received).map_err(|error| {
            let text = error.to_string();
            let text = text.strip_prefix("protocol error in a reply: ").unwrap_or(&text);
            LostReason::Other(format!("Protocol error: {text}"))
        })?;
        if reply.is_none() && self.received.is_empty() {
            self.received = BytesMut::new();
        }
        Ok(reply)
    }

    fn poll_exchange(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LostReason>> {
        self.poll_send(context)?;
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            Poll::Ready(match read {
                Err(error) => Err(lost_reason(&error)),
                Ok(()) if buffer.filled().is_empty() => Err(LostReason::Closed),
                Ok(()) => {
                    self.received.extend_from_slice(buffer.filled());
                    Ok(())
                }
            })
        })
    }

    /// Where the other side takes no more, what it said before it ended the connection, such as why
    /// it does not want us, waits to be read: so writing goes nowhere then, and reading finds the
    /// end.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Result<(), LostReason> {
        while !self.to_send.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.to_send) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(count)) => {
                    self.to_send.advance(count);
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return self.ended(&error),
            }
        }
        if self.to_send.capacity() > KEPT_BYTES {
            self.to_send = BytesMut::new();
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(context)
        {
            self.unflushed = false;
            if let Err(error) = flushed {
                return self.ended(&error);
            }
        }
        Ok(())
    }

    fn ended(&mut self, error: &std::io::Error) -> Result<(), LostReason> {
        match lost_reason(error) {
            LostReason::Closed => {
                self.deaf = true;
                self.to_send = BytesMut::new();
                Ok(())
            }
            reason => Err(reason),
        }
    }
}
