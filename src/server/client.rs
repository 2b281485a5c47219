//! One connected client as the owner task knows it, and the way its replies take.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::resp::{Protocol, Request, Value, encode};

use super::commands::Command;
use super::config::{Config, OutputLimit};
use super::keyspace::Watch;
use super::replication::Peer;

pub(super) type ClientId = u64;

/// What the owner task hands to a connection.
#[derive(Debug)]
pub(super) enum Delivery {
    /// Bytes to write, in order.
    Bytes(Vec<Bytes>),
    /// A snapshot to write as it comes; given up if nothing moves for so long.
    Snapshot(mpsc::Receiver<Bytes>, Duration),
    /// All requests handed over are answered: the next may come.
    BatchDone,
    /// Close, once everything before this is written.
    Close,
}

/// What a connection and the owner task both look at.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Bytes delivered to the connection and not yet written.
    pub(super) unwritten: AtomicUsize,
    /// Whether the client passed `AUTH`; until then it may send only small requests.
    pub(super) authenticated: AtomicBool,
    /// Ends the connection at once.
    pub(super) kill: CancellationToken,
}

/// Replies of this size or more are handed on as they are, not copied into the reply buffer.
const HAND_ON: usize = 16 * 1024;

/// Collects a client's output during one event, and delivers it at the event's end. The channel has
/// no bound of its own: what is in it is counted and held to `client-output-buffer-limit`.
#[derive(Debug)]
pub(super) struct Outbox {
    /// None for the link to the master, which gets no replies.
    sender: Option<mpsc::UnboundedSender<Delivery>>,
    pub(super) shared: Arc<Shared>,
    buffer: BytesMut,
    chunks: Vec<Bytes>,
    soft_since: Option<Instant>,
}

impl Outbox {
    pub(super) fn new(
        sender: Option<mpsc::UnboundedSender<Delivery>>,
        shared: Arc<Shared>,
    ) -> Outbox {
        Outbox { sender, shared, buffer: BytesMut::new(), chunks: Vec::new(), soft_since: None }
    }

    pub(super) fn reply(&mut self, value: &Value, protocol: Protocol) {
        if self.sender.is_none() {
            return;
        }
        match value {
            Value::Bulk(bytes) if bytes.len() >= HAND_ON => {
                self.buffer.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
                self.bytes(bytes.clone());
                self.buffer.extend_from_slice(b"\r\n");
            }
            value => encode(value, protocol, &mut self.buffer),
        }
    }

    /// Queues bytes that are encoded already.
    pub(super) fn bytes(&mut self, bytes: Bytes) {
        if bytes.len() < HAND_ON {
            self.buffer.extend_from_slice(&bytes);
            return;
        }
        self.cut();
        self.chunks.push(bytes);
    }

    fn cut(&mut self) {
        if !self.buffer.is_empty() {
            self.chunks.push(self.buffer.split().freeze());
        }
    }

    /// Hands all output to the connection; gives how many bytes that were.
    pub(super) fn flush(&mut self) -> usize {
        self.cut();
        if self.chunks.is_empty() {
            return 0;
        }
        let chunks = std::mem::take(&mut self.chunks);
        let size = chunks.iter().map(Bytes::len).sum();
        self.shared.unwritten.fetch_add(size, Ordering::Relaxed);
        self.deliver(Delivery::Bytes(chunks));
        size
    }

    /// Hands over something else, after all output so far.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        if !matches!(delivery, Delivery::Bytes(_)) {
            self.flush();
        }
        if let Some(sender) = &self.sender {
            // A connection that is gone says so itself.
            let _ = sender.send(delivery);
        }
    }

    /// Bytes not yet written to the socket.
    pub(super) fn unwritten(&self) -> usize {
        self.shared.unwritten.load(Ordering::Relaxed)
    }

    /// Whether so many bytes of waiting output break the limit.
    pub(super) fn is_over(&mut self, limit: OutputLimit, waiting: usize, now: Instant) -> bool {
        let waiting = waiting as u64;
        if limit.soft == 0 || waiting < limit.soft {
            self.soft_since = None;
        } else if self.soft_since.is_none() {
            self.soft_since = Some(now);
        }
        let soft_for = Duration::from_secs(limit.soft_seconds);
        (limit.hard > 0 && waiting >= limit.hard)
            || self.soft_since.is_some_and(|since| now.duration_since(since) > soft_for)
    }
}

/// `CLIENT REPLY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyMode {
    On,
    Off,
    /// The command being executed is not answered, the next neither, then all are.
    SkipNext,
    Skip,
}

/// A queued `MULTI`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) queue: Vec<(&'static Command, Vec<Bytes>)>,
    /// A command was refused while queueing: `EXEC` will refuse too.
    pub(super) broken: bool,
}

/// Why a client's next request has to wait.
#[derive(Debug)]
pub(super) enum Blocked {
    /// `CLIENT PAUSE`.
    Paused,
    /// `WAIT` for so many replicas to reach an offset.
    Wait { replicas: i64, offset: u64, until: Option<Instant> },
}

/// What a connection is, in the words of `CLIENT LIST` and `CLIENT KILL`.
#[derive(Debug)]
pub(super) enum Kind {
    Normal,
    /// It sent `PSYNC` or `SYNC`.
    Replica(Box<Peer>),
    /// The link to this node's master.
    Master,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) addr: String,
    pub(super) laddr: String,
    pub(super) name: Bytes,
    pub(super) lib_name: Bytes,
    pub(super) lib_version: Bytes,
    pub(super) created: Instant,
    pub(super) last_request: Instant,
    pub(super) last_command: &'static str,
    pub(super) db: usize,
    pub(super) protocol: Protocol,
    pub(super) authenticated: bool,
    pub(super) kind: Kind,
    /// What it told by `REPLCONF` before it became a replica.
    pub(super) announced: Peer,
    pub(super) transaction: Option<Transaction>,
    pub(super) watches: Vec<Watch>,
    pub(super) channels: BTreeSet<Bytes>,
    pub(super) patterns: BTreeSet<Bytes>,
    pub(super) reply_mode: ReplyMode,
    pub(super) no_evict: bool,
    pub(super) no_touch: bool,
    pub(super) queue: VecDeque<Request>,
    /// A batch was handed over and is not done.
    pub(super) in_batch: bool,
    pub(super) blocked: Option<Blocked>,
    pub(super) closing: bool,
    /// It killed itself: it ends once its present command is answered.
    pub(super) kill_after_reply: bool,
    /// The replication offset behind this client's last write, for `WAIT`.
    pub(super) wrote_until: u64,
    pub(super) outbox: Outbox,
    /// Its id is in the list of clients with output.
    pub(super) has_output: bool,
}

impl Client {
    pub(super) fn new(id: ClientId, addr: String, laddr: String, outbox: Outbox) -> Client {
        let now = Instant::now();
        Client {
            id,
            addr,
            laddr,
            name: Bytes::new(),
            lib_name: Bytes::new(),
            lib_version: Bytes::new(),
            created: now,
            last_request: now,
            last_command: "NULL",
            db: 0,
            protocol: Protocol::Resp2,
            authenticated: false,
            kind: Kind::Normal,
            announced: Peer::default(),
            transaction: None,
            watches: Vec::new(),
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            reply_mode: ReplyMode::On,
            no_evict: false,
            no_touch: false,
            queue: VecDeque::new(),
            in_batch: false,
            blocked: None,
            closing: false,
            kill_after_reply: false,
            wrote_until: 0,
            outbox,
            has_output: false,
        }
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    pub(super) fn is_replica(&self) -> bool {
        matches!(self.kind, Kind::Replica(_))
    }

    pub(super) fn is_master(&self) -> bool {
        matches!(self.kind, Kind::Master)
    }

    /// `CLIENT LIST`'s and `CLIENT KILL`'s `TYPE`.
    pub(super) fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Master => "master",
            Kind::Replica(_) => "replica",
            Kind::Normal if self.subscriptions() > 0 => "pubsub",
            Kind::Normal => "normal",
        }
    }

    /// Which output limit it is held to, and how much output waits for it.
    pub(super) fn output(&self, config: &Config) -> (OutputLimit, usize) {
        let limits = &config.client_output_buffer_limit;
        let waiting = self.outbox.unwritten();
        match &self.kind {
            Kind::Replica(peer) => (limits.replica, waiting + peer.held_bytes()),
            _ if self.subscriptions() > 0 => (limits.pubsub, waiting),
            _ => (limits.normal, waiting),
        }
    }

    fn flags(&self) -> String {
        let mut flags = String::new();
        let mut add = |yes: bool, flag: char| flags.extend(yes.then_some(flag));
        add(self.is_replica(), 'S');
        add(self.is_master(), 'M');
        add(self.subscriptions() > 0, 'P');
        add(self.transaction.is_some(), 'x');
        add(self.blocked.is_some(), 'b');
        add(self.closing, 'c');
        add(self.no_evict, 'e');
        add(self.no_touch, 'T');
        if flags.is_empty() { "N".into() } else { flags }
    }

    /// One line of `CLIENT LIST`, without its line break.
    pub(super) fn line(&self) -> String {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags={} db={} sub={} psub={} \
             ssub=0 multi={} watch={} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem={} tot-mem=0 events=r cmd={} user=default redir=-1 resp={} lib-name={} \
             lib-ver={}",
            self.id,
            self.addr,
            self.laddr,
            text(&self.name),
            self.created.elapsed().as_secs(),
            self.last_request.elapsed().as_secs(),
            self.flags(),
            self.db,
            self.channels.len(),
            self.patterns.len(),
            self.transaction.as_ref().map_or(-1, |t| t.queue.len() as i64),
            self.watches.len(),
            self.outbox.unwritten(),
            self.last_command,
            if self.protocol == Protocol::Resp3 { 3 } else { 2 },
            text(&self.lib_name),
            text(&self.lib_version),
        )
    }
}
