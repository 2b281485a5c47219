//! A link's stream, with an eye on what a hostile node could do to it: the Redis client behind it
//! buffers a reply until it is whole, however long it grows, so the bytes that come without a whole
//! reply are counted and limited here. It also keeps why the stream ended, which that client
//! forgets.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::lost_reason;
use crate::net::Stream;
use crate::sentinel::LostReason;

/// Bytes that may come before a reply is whole. The longest honest one is INFO: some ten KB, and 40
/// bytes more for each database in use.
pub(super) const REPLY_BYTES_MAX: usize = 1 << 20;

/// What is known about a stream; shared with the one who waits for its replies.
#[derive(Default)]
pub(super) struct Meter {
    /// Bytes since the last whole reply that was asked for.
    unanswered: AtomicUsize,
    ended: OnceLock<LostReason>,
}

impl Meter {
    /// A reply is whole: the next one may be as long.
    pub(super) fn answered(&self) {
        self.unanswered.store(0, Ordering::Relaxed);
    }

    /// Why the stream ended, if it did.
    pub(super) fn ended(&self) -> Option<LostReason> {
        self.ended.get().cloned()
    }

    fn end(&self, error: io::Error) -> io::Error {
        self.ended.get_or_init(|| lost_reason(&error));
        error
    }

    fn count(&self, bytes: usize) -> io::Result<()> {
        let held = self.unanswered.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if bytes == 0 {
            self.ended.get_or_init(|| LostReason::Closed);
        } else if held > REPLY_BYTES_MAX {
            return Err(io::Error::other(format!(
                "Protocol error: {REPLY_BYTES_MAX} bytes came without a whole reply"
            )));
        }
        Ok(())
    }
}

/// The stream itself.
pub(super) struct Metered {
    stream: Stream,
    meter: Arc<Meter>,
}

impl Metered {
    pub(super) fn new(stream: Stream, meter: Arc<Meter>) -> Metered {
        Metered { stream, meter }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        let counted = read.and_then(|()| self.meter.count(buffer.filled().len() - before));
        Poll::Ready(counted.map_err(|error| self.meter.end(error)))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(written.map_err(|error| self.meter.end(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
