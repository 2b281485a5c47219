//! One connection: reads requests and hands them to the owner task in batches, one batch at a time;
//! writes what the owner delivers. A client that does not read its replies is not read from, so it
//! holds back itself and nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::resp::{Decoder, Limits, Request};

use super::client::{ClientId, Delivery, Shared};
use super::node::Event;

/// The most requests in one batch, so that no client keeps the owner task for long.
const BATCH: usize = 256;
/// Bytes read ahead while a batch is being answered.
const READ_AHEAD: usize = 64 * 1024;
/// Room made for one read.
const READ_SIZE: usize = 16 * 1024;

/// A connection just accepted.
pub(super) struct Connection {
    pub(super) id: ClientId,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) limits: Limits,
    pub(super) events: mpsc::Sender<Event>,
}

impl Connection {
    /// Serves the client until either side ends it.
    pub(super) async fn serve(self, stream: TcpStream) {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let newcomer = Event::Connected {
            id: self.id,
            peer: self.peer,
            local: self.local,
            sender,
            shared: shared.clone(),
        };
        if self.events.send(newcomer).await.is_err() {
            return;
        }
        let (reader, writer) = stream.into_split();
        let mut session = Session {
            id: self.id,
            events: self.events.clone(),
            deliveries,
            shared: shared.clone(),
            reader,
            writer,
            buffer: BytesMut::new(),
            decoder: Decoder::new(self.limits),
            limits: self.limits,
            in_batch: true,
            broken: false,
        };
        tokio::select! {
            () = shared.kill.cancelled() => {}
            _ = session.run() => {}
        }
        // The owner ends first at a stop; then nobody is left to tell.
        let _ = self.events.send(Event::Gone { id: self.id }).await;
    }
}

struct Session {
    id: ClientId,
    events: mpsc::Sender<Event>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    shared: Arc<Shared>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    buffer: BytesMut,
    decoder: Decoder,
    limits: Limits,
    /// The owner is busy with a batch, or has yet to take note of the connection.
    in_batch: bool,
    /// The client broke the protocol; nothing more is read.
    broken: bool,
}

impl Session {
    async fn run(&mut self) -> std::io::Result<()> {
        loop {
            let may_read = !self.broken && (!self.in_batch || self.buffer.len() < READ_AHEAD);
            if may_read {
                self.buffer.reserve(READ_SIZE);
            }
            tokio::select! {
                biased;
                delivery = self.deliveries.recv() => match delivery {
                    Some(delivery) => {
                        if !self.take(delivery).await? {
                            return Ok(());
                        }
                    }
                    None => return Ok(()),
                },
                read = self.reader.read_buf(&mut self.buffer), if may_read => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.hand_over().await;
                }
            }
        }
    }

    /// Does what the owner says; `false` ends the connection.
    async fn take(&mut self, delivery: Delivery) -> std::io::Result<bool> {
        match delivery {
            Delivery::Bytes(chunks) => {
                for chunk in chunks {
                    self.write(&chunk).await?;
                }
            }
            Delivery::Snapshot(chunks, stall) => self.write_snapshot(chunks, stall).await?,
            Delivery::BatchDone => {
                self.in_batch = false;
                self.hand_over().await;
            }
            Delivery::Close => {
                let _ = self.writer.shutdown().await;
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn write(&mut self, chunk: &Bytes) -> std::io::Result<()> {
        self.writer.write_all(chunk).await?;
        self.shared.unwritten.fetch_sub(chunk.len(), Ordering::Relaxed);
        Ok(())
    }

    /// A snapshot that breaks off ends the connection: the replica must not take it for whole.
    async fn write_snapshot(
        &mut self,
        mut chunks: mpsc::Receiver<Bytes>,
        stall: Duration,
    ) -> std::io::Result<()> {
        while let Some(chunk) = chunks.recv().await {
            if chunk.is_empty() {
                let _ = self.events.send(Event::SnapshotSent { id: self.id }).await;
                return Ok(());
            }
            tokio::time::timeout(stall, self.writer.write_all(&chunk)).await??;
        }
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }

    /// Decodes what is there and hands it to the owner, unless it is still busy with the last
    /// batch.
    async fn hand_over(&mut self) {
        if self.in_batch || self.broken {
            return;
        }
        let authenticated = self.shared.authenticated.load(Ordering::Relaxed);
        self.decoder.set_limits(Limits { authenticated, ..self.limits });
        let mut requests: Vec<Request> = Vec::new();
        let mut error = None;
        while requests.len() < BATCH {
            match self.decoder.feed(&mut self.buffer) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(e) => {
                    self.broken = true;
                    error = Some(e);
                    break;
                }
            }
        }
        if requests.is_empty() && error.is_none() {
            return;
        }
        self.in_batch = true;
        let event = Event::Requests { id: self.id, requests, error };
        // If the owner is gone, so is the delivery channel, which ends the session.
        let _ = self.events.send(event).await;
    }
}
