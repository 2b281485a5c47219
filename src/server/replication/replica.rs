//! The replica's side, as the owner task sees it: which master, how the link stands, and applying
//! the stream.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::config::types::Address;
use crate::resp::{Request, encode_command};
use crate::server::client::{Client, ClientId, Kind, Outbox};
use crate::server::commands::find;
use crate::server::node::Node;

use super::link::{self, Failure, LinkEvent, Loaded, Plan};

/// Messages to the master that may wait. They are acknowledgements: a later one says more.
const OUTGOING: usize = 16;
/// After a link breaks it is tried again at once, then after this, then every second.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(1);
/// The longest pause where the master's data is what cannot be taken.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How far the link is, in the words of ROLE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Phase {
    Connect,
    Connecting,
    Handshake,
    Sync,
    Connected,
}

impl Phase {
    pub(in crate::server) fn name(self) -> &'static str {
        match self {
            Phase::Connect => "connect",
            Phase::Connecting => "connecting",
            Phase::Handshake => "handshake",
            Phase::Sync => "sync",
            Phase::Connected => "connected",
        }
    }
}

/// A snapshot coming in.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Transfer {
    pub(in crate::server) total: Option<u64>,
    pub(in crate::server) read: u64,
}

/// The master that this node follows.
#[derive(Debug)]
pub(in crate::server) struct Upstream {
    pub(in crate::server) target: Address,
    pub(in crate::server) phase: Phase,
    /// The client that stands for the master while the link is up.
    pub(in crate::server) client: Option<ClientId>,
    pub(in crate::server) transfer: Option<Transfer>,
    pub(in crate::server) last_io: Instant,
    /// Since when the link is down; `None` if it never was up.
    pub(in crate::server) down_since: Option<Instant>,
    attempt: u64,
    task: Option<AbortHandle>,
    outgoing: Option<mpsc::Sender<Bytes>>,
    retry_at: Option<Instant>,
    failures: u32,
    /// Whether this node's history may be continued; false before the first synchronisation.
    resume: bool,
    /// The database that the stream had selected when the link broke.
    db: usize,
    /// Bytes of a transaction that has begun and not ended. They count once it is whole.
    unapplied: BytesMut,
    /// Why a command of the stream failed here, if one did since the last look.
    pub(in crate::server) error: Option<String>,
}

impl Upstream {
    fn new(target: Address, resume: bool, now: Instant) -> Upstream {
        Upstream {
            target,
            phase: Phase::Connect,
            client: None,
            transfer: None,
            last_io: now,
            down_since: None,
            attempt: 0,
            task: None,
            outgoing: None,
            retry_at: Some(now),
            failures: 0,
            resume,
            db: 0,
            unapplied: BytesMut::new(),
            error: None,
        }
    }
}

impl Node {
    /// Starts to follow the master of the conf file.
    pub(in crate::server) fn follow_configured_master(&mut self) {
        if let Some(target) = self.config.replicaof.clone() {
            self.replication.upstream = Some(Upstream::new(target, false, self.now));
            self.connect_if_due();
        }
    }

    /// `REPLICAOF host port`. A master's own history may go on at the new one: it asks for the byte
    /// after its last, which the new master grants if it grew out of the same history.
    pub(in crate::server) fn follow(&mut self, target: Address) {
        let (resume, db) = match &self.replication.upstream {
            Some(old) => (old.resume, self.stream_db_of_master().unwrap_or(old.db)),
            None => (true, 0),
        };
        self.drop_link_task();
        self.forget_master_client();
        self.flush_stream();
        self.config.replicaof = Some(target.clone());
        info!("REPLICAOF {target} enabled (user request)");
        let mut upstream = Upstream::new(target, resume, self.now);
        upstream.db = db;
        self.replication.upstream = Some(upstream);
    }

    fn stream_db_of_master(&self) -> Option<usize> {
        let id = self.replication.upstream.as_ref()?.client?;
        self.clients.get(&id).map(|c| c.db)
    }

    pub(in crate::server) fn next_connect(&self) -> Option<Instant> {
        self.replication.upstream.as_ref().and_then(|u| u.retry_at)
    }

    /// Opens the link if its time has come.
    pub(in crate::server) fn connect_if_due(&mut self) {
        if self.next_connect().is_none_or(|at| at > self.now) || self.stopping {
            return;
        }
        // What was applied in this very turn counts as well, or it would be asked for again.
        self.flush_stream();
        self.replication.attempts += 1;
        let attempt = self.replication.attempts;
        let Some(upstream) = &mut self.replication.upstream else { return };
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        let (id, offset) = self.replication.history.wanted();
        let announced = self.config.replica_announce_port;
        let plan = Plan {
            attempt,
            target: upstream.target.clone(),
            user: self.config.masteruser.clone(),
            password: self.config.masterauth.clone(),
            announce_port: if announced > 0 { announced } else { self.config.port },
            announce_ip: self.config.replica_announce_ip.clone(),
            wanted: upstream.resume.then(|| (id.clone(), offset)),
            timeout: Duration::from_secs(u64::from(self.config.repl_timeout)),
            databases: self.config.databases as usize,
            max_string: usize::try_from(self.config.proto_max_bulk_len.0).unwrap_or(usize::MAX),
            events: self.events.clone(),
            outgoing,
        };
        upstream.attempt = attempt;
        upstream.retry_at = None;
        upstream.phase = Phase::Connecting;
        upstream.outgoing = Some(sender);
        if upstream.failures == 0 {
            info!("Connecting to MASTER {}", upstream.target);
        }
        upstream.task = Some(tokio::spawn(link::run(plan)).abort_handle());
    }

    pub(in crate::server) fn link_event(&mut self, attempt: u64, event: LinkEvent) {
        let now = self.now;
        if !matches!(event, LinkEvent::Stream(_)) {
            self.flush_stream();
        }
        let Some(upstream) = &mut self.replication.upstream else { return };
        if upstream.attempt != attempt || upstream.task.is_none() {
            return;
        }
        upstream.last_io = now;
        match event {
            LinkEvent::Phase(phase) => {
                upstream.phase = phase;
                if phase == Phase::Sync {
                    upstream.transfer = Some(Transfer { total: None, read: 0 });
                }
            }
            LinkEvent::Transfer { total, read } => {
                upstream.transfer = Some(Transfer { total, read });
            }
            LinkEvent::Continued { id } => {
                info!("Successful partial resynchronization with master.");
                let size = usize::try_from(self.config.repl_backlog_size.0).unwrap_or(usize::MAX);
                let db = upstream.db;
                if self.replication.history.proceed(id, size) {
                    info!("Master replication ID changed to {}", self.replication.history.id());
                    self.disconnect_replicas();
                }
                self.link_up(db);
            }
            LinkEvent::Loaded(loaded) => self.adopt(*loaded),
            LinkEvent::Stream(requests) => self.apply(requests),
            LinkEvent::Lost(failure) => self.link_failed(&failure),
        }
    }

    /// Puts a loaded snapshot in place of the data.
    fn adopt(&mut self, loaded: Loaded) {
        let old = self.keyspace.replace(loaded.dbs);
        crate::server::free_elsewhere(old);
        // Their history is not this node's any more.
        self.disconnect_replicas();
        let size = usize::try_from(self.config.repl_backlog_size.0).unwrap_or(usize::MAX);
        self.replication.history.adopt(loaded.id, loaded.offset, size);
        self.replication.stream.clear();
        self.link_up(loaded.stream_db);
        self.send_ack();
    }

    fn link_up(&mut self, db: usize) {
        let id = self.new_client_id();
        let Some(upstream) = &mut self.replication.upstream else { return };
        upstream.phase = Phase::Connected;
        upstream.transfer = None;
        upstream.failures = 0;
        upstream.down_since = None;
        upstream.resume = true;
        upstream.unapplied.clear();
        upstream.client = Some(id);
        let addr = upstream.target.to_string();
        let mut client =
            Client::new(id, addr, String::new(), Outbox::new(None, Default::default()));
        client.kind = Kind::Master;
        client.authenticated = true;
        client.db = db;
        self.clients.insert(id, client);
        info!("MASTER <-> REPLICA link is up");
    }

    /// Executes commands of the stream and counts their bytes.
    fn apply(&mut self, requests: Vec<Request>) {
        let Some(id) = self.replication.upstream.as_ref().and_then(|u| u.client) else { return };
        self.stats.repl_input_bytes += requests.iter().map(|r| r.raw.len() as u64).sum::<u64>();
        if let Some(client) = self.clients.get_mut(&id) {
            client.last_request = self.now;
        }
        for request in requests {
            if let Err(unknown) = find(&request.args) {
                self.stream_refused(&unknown);
                return;
            }
            let raw = request.raw.clone();
            self.execute(id, request);
            let failed = self.replication.upstream.as_mut().and_then(|u| u.error.take());
            if let Some(why) = failed {
                self.stream_refused(&why);
                return;
            }
            let in_transaction =
                self.clients.get(&id).is_some_and(|client| client.transaction.is_some());
            let Some(upstream) = &mut self.replication.upstream else { return };
            upstream.unapplied.extend_from_slice(&raw);
            if !in_transaction {
                self.replication.stream.extend_from_slice(&upstream.unapplied.split());
            }
        }
    }

    /// The master wrote what this node cannot store. Going on would leave data that differs while
    /// the offset says that it is the same; so the link is given up, and a full synchronisation
    /// decides.
    fn stream_refused(&mut self, why: &str) {
        warn!("This node cannot follow its master: {why}. Use a Redis or Valkey server as replica");
        if let Some(upstream) = &mut self.replication.upstream {
            upstream.resume = false;
            upstream.failures = upstream.failures.max(1);
        }
        self.link_failed(&Failure::Stream(why.to_string()));
    }

    /// Tells the master how far this node is.
    pub(in crate::server) fn send_ack(&mut self) {
        let offset = self.replication.offset().to_string();
        let Some(upstream) = &self.replication.upstream else { return };
        let Some(outgoing) = upstream.outgoing.as_ref().filter(|_| upstream.client.is_some())
        else {
            return;
        };
        let mut ack = BytesMut::new();
        encode_command(&["REPLCONF", "ACK", &offset], &mut ack);
        // If the link is that busy, the next one will do.
        let _ = outgoing.try_send(ack.freeze());
    }

    /// Ends the link for a reason of this side.
    pub(in crate::server) fn link_lost(&mut self, reason: &str) {
        self.link_failed(&Failure::Io(std::io::Error::other(reason.to_string())));
    }

    fn link_failed(&mut self, failure: &Failure) {
        let db = self.stream_db_of_master();
        self.drop_link_task();
        self.forget_master_client();
        let now = self.now;
        let Some(upstream) = &mut self.replication.upstream else { return };
        let was_up = upstream.phase == Phase::Connected;
        upstream.db = db.unwrap_or(upstream.db);
        upstream.phase = Phase::Connect;
        upstream.transfer = None;
        upstream.unapplied.clear();
        let pause = match upstream.failures {
            n if failure.is_lasting() => LONGEST_RETRY.min(RETRY * 2u32.saturating_pow(n)),
            0 if was_up => Duration::ZERO,
            0 => FIRST_RETRY,
            _ => RETRY,
        };
        upstream.retry_at = Some(now + pause);
        if was_up {
            upstream.down_since = Some(now);
            warn!("Connection with master lost: {failure}");
            info!("Caching the disconnected master state.");
        } else {
            upstream.failures = upstream.failures.saturating_add(1);
            warn!("MASTER {}: {failure}. Trying again in {pause:?}", upstream.target);
        }
    }

    pub(in crate::server) fn drop_link_task(&mut self) {
        let Some(upstream) = &mut self.replication.upstream else { return };
        upstream.outgoing = None;
        if let Some(task) = upstream.task.take() {
            task.abort();
        }
    }

    pub(in crate::server) fn forget_master_client(&mut self) {
        let client = self.replication.upstream.as_mut().and_then(|u| u.client.take());
        if let Some(mut client) = client.and_then(|id| self.clients.remove(&id)) {
            for watch in client.watches.drain(..) {
                self.keyspace.unwatch(watch);
            }
        }
    }
}
