//! A link's stream, with an eye on what a hostile node could do to it: the Redis client behind it
//! buffers a reply until it is whole, however long it grows, so the bytes that come without a whole
//! reply are counted and limited here. It also keeps why the stream ended, which that client
//! forgets.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

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
    /// Something was written. The client reads first, and throws away what it has not asked for,
    /// such as the words of a node in protected mode; so nothing is read before.
    spoken: bool,
    /// Who waits for that.
    reader: Option<Waker>,
}

impl Metered {
    pub(super) fn new(stream: Stream, meter: Arc<Meter>) -> Metered {
        Metered { stream, meter, spoken: false, reader: None }
    }

    /// Where the other side takes no more, what it said before it ended the connection, such as why
    /// it does not want us, waits to be read; a client that learns of the end by writing would
    /// never read it. So writing goes nowhere then, and reading finds the end.
    fn unless_ended<T>(&self, result: io::Result<T>, done: T) -> io::Result<T> {
        match result {
            Err(error) if lost_reason(&error) == LostReason::Closed => Ok(done),
            result => result.map_err(|error| self.meter.end(error)),
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.spoken {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
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
        self.spoken = true;
        self.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(self.unless_ended(written, bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(self.unless_ended(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
