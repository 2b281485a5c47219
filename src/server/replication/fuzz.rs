//! A door for the fuzz targets, which live outside this crate: a link to a master whose side of the
//! conversation is given. It is no `cfg(fuzzing)`: `tests/fuzz.rs` runs the same targets without
//! it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use super::link::{LinkEvent, Plan, converse};
use crate::config::types::{Address, RunId, Secret};
use crate::server::node::Event;

/// Databases of the node that follows.
pub const DATABASES: usize = 16;

/// What became of a link.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Followed {
    /// The stages and what they brought, in words.
    pub events: Vec<String>,
    /// The bytes of the stream that were handed over, command by command.
    pub stream: Vec<u8>,
    /// The commands of the stream.
    pub commands: usize,
    /// Bytes of the keys of a snapshot that was taken.
    pub loaded: usize,
    /// Why it ended.
    pub failure: String,
}

/// Follows a master that says `said`, in pieces of `piece` bytes, and then hangs up. `resume` asks
/// it to continue, `password` makes the greeting longer.
///
/// # Errors
/// The system gives no runtime.
pub fn follow(
    said: &[u8],
    piece: usize,
    resume: bool,
    password: bool,
) -> std::io::Result<Followed> {
    thread_local! {
        // A runtime for each run would take more time than the run.
        static RUNTIME: std::io::Result<Runtime> =
            Builder::new_current_thread().enable_time().build();
    }
    // Nobody takes the events out before the end: each needs at least a byte from the master.
    let (events, mut inbox) = mpsc::channel(said.len() + 16);
    let (acks, outgoing) = mpsc::channel(1);
    let mut plan = Plan {
        attempt: 1,
        target: Address::new("127.0.0.1", 6379),
        user: String::new(),
        password: password.then(|| Secret::new("secret")),
        announce_port: 6380,
        announce_ip: String::new(),
        wanted: resume.then(|| (RunId::from_bytes([7; 20]), 100)),
        timeout: Duration::from_secs(3600),
        databases: DATABASES,
        max_string: 512 << 20,
        events,
        outgoing,
    };
    let master = Master { said: Bytes::copy_from_slice(said), piece: piece.max(1) };
    let ended = RUNTIME.with(|runtime| match runtime {
        Ok(runtime) => Ok(runtime.block_on(converse(&mut plan, master))),
        Err(error) => Err(std::io::Error::from(error.kind())),
    })?;
    drop(acks);
    let mut followed = Followed::default();
    match ended {
        Ok(never) => match never {},
        Err(failure) => followed.failure = failure.to_string(),
    }
    while let Ok(Event::Link { event, .. }) = inbox.try_recv() {
        followed.take(event);
    }
    Ok(followed)
}

impl Followed {
    fn take(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Phase(phase) => self.events.push(phase.name().to_owned()),
            // How often this comes is a matter of time.
            LinkEvent::Transfer { .. } => {}
            LinkEvent::Continued { id } => self.events.push(format!("continued as {id:?}")),
            LinkEvent::Loaded(loaded) => {
                let keys: Vec<usize> = loaded.dbs.iter().map(|db| db.len()).collect();
                let (id, offset, db) = (&loaded.id, loaded.offset, loaded.stream_db);
                self.events.push(format!("loaded {keys:?} of {id} at {offset}, database {db}"));
                let sizes = loaded.dbs.iter().flat_map(|db| db.entries()).map(|e| e.key.len());
                self.loaded = sizes.sum();
            }
            LinkEvent::Stream(requests) => {
                self.commands += requests.len();
                requests.iter().for_each(|r| self.stream.extend_from_slice(&r.raw));
            }
            LinkEvent::Lost(failure) => self.failure = failure.to_string(),
        }
    }
}

/// The master's end of the connection.
struct Master {
    said: Bytes,
    piece: usize,
}

impl AsyncRead for Master {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = self.piece.min(self.said.len()).min(buf.remaining());
        buf.put_slice(&self.said[..length]);
        self.said.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Master {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
