//! The owner task. It alone has the data, the clients and the replication state, and takes one
//! event after the other: that makes every command atomic without a lock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::net::Gate;
use crate::resp::{ProtocolError, Request, Value};
use crate::wall_clock::unix_ms;

use super::client::{Client, ClientId, Delivery, Kind, Outbox, ReplyMode, Shared};
use super::config::Config;
use super::dispatch::Pause;
use super::info::Stats;
use super::keyspace::{Expiry, Keyspace};
use super::pubsub::PubSub;
use super::replication::{LinkEvent, Replication};

/// Events that may wait for the owner task. A connection has at most one batch among them.
pub(super) const EVENTS: usize = 1024;
/// Events handled before their output is handed over.
const EVENTS_AT_ONCE: usize = 64;
/// Keys that expire in one go before clients get their turn again.
const EXPIRE_AT_ONCE: usize = 500;
/// Housekeeping that has no moment of its own: acknowledgements, timeouts, samples.
const TICK: Duration = Duration::from_secs(1);

/// What happens to a node.
pub(super) enum Event {
    /// A connection was accepted.
    Connected {
        id: ClientId,
        peer: SocketAddr,
        local: SocketAddr,
        sender: mpsc::UnboundedSender<Delivery>,
        shared: Arc<Shared>,
    },
    /// A client sent requests, and perhaps bytes behind them that are none.
    Requests { id: ClientId, requests: Vec<Request>, error: Option<ProtocolError> },
    /// A connection ended.
    Gone { id: ClientId },
    /// A snapshot was written to a replica as a whole.
    SnapshotSent { id: ClientId },
    /// The link to the master has something to tell; `attempt` says which link.
    Link { attempt: u64, event: LinkEvent },
    /// End, as on SIGTERM.
    Stop,
}

/// The state of one data node.
pub(super) struct Node {
    pub(super) config: Config,
    pub(super) run_id: String,
    pub(super) started: Instant,
    pub(super) keyspace: Keyspace,
    pub(super) clients: HashMap<ClientId, Client>,
    pub(super) pubsub: PubSub,
    pub(super) replication: Replication,
    pub(super) stats: Stats,
    pub(super) pause: Option<Pause>,
    /// Writes of the command or transaction being executed, to be sent to replicas at its end.
    pub(super) effects: Vec<(usize, Vec<Bytes>)>,
    /// The moment of the event being handled.
    pub(super) now: Instant,
    pub(super) stopping: bool,
    /// For tasks that report back.
    pub(super) events: mpsc::Sender<Event>,
    /// Clients in `WAIT`, and until when.
    pub(super) waiting: Vec<(Option<Instant>, ClientId)>,
    /// Counts connections and holds them to `maxclients`.
    pub(super) gate: Arc<Gate>,
    ids: Arc<AtomicU64>,
    /// The command being executed is part of a transaction and must not wait.
    pub(super) inside_exec: bool,
    /// Clients with output not yet handed over.
    with_output: Vec<ClientId>,
    next_tick: Instant,
}

impl Node {
    pub(super) fn new(
        config: Config,
        gate: Arc<Gate>,
        ids: Arc<AtomicU64>,
        events: mpsc::Sender<Event>,
    ) -> Node {
        let now = Instant::now();
        Node {
            keyspace: Keyspace::new(config.databases as usize),
            config,
            run_id: random_hex(),
            started: now,
            clients: HashMap::new(),
            pubsub: PubSub::default(),
            replication: Replication::new(),
            stats: Stats::new(now),
            pause: None,
            effects: Vec::new(),
            now,
            stopping: false,
            events,
            waiting: Vec::new(),
            gate,
            ids,
            inside_exec: false,
            with_output: Vec::new(),
            next_tick: now + TICK,
        }
    }

    /// Runs until a stop is asked for; then every client is closed with its output written.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        self.set_clock();
        self.follow_configured_master();
        let mut ready = Vec::with_capacity(EVENTS_AT_ONCE);
        while !self.stopping {
            let deadline = tokio::time::Instant::from_std(self.next_deadline());
            tokio::select! {
                biased;
                _ = events.recv_many(&mut ready, EVENTS_AT_ONCE) => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
            self.set_clock();
            ready.drain(..).for_each(|event| self.handle(event));
            self.pass_time();
            self.deliver();
        }
        self.drop_link_task();
        for client in self.clients.values_mut() {
            client.outbox.deliver(Delivery::Close);
        }
        info!("The node is now ready to exit, bye bye...");
    }

    pub(super) fn set_clock(&mut self) {
        self.now = Instant::now();
        self.keyspace.now_ms = unix_ms();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected { id, peer, local, sender, shared } => {
                self.connected(id, peer, local, Outbox::new(Some(sender), shared));
            }
            Event::Requests { id, requests, error } => self.requests(id, requests, error),
            Event::Gone { id } => self.forget(id),
            Event::SnapshotSent { id } => self.snapshot_sent(id),
            Event::Link { attempt, event } => self.link_event(attempt, event),
            Event::Stop => {
                info!("User requested shutdown...");
                self.stopping = true;
            }
        }
    }

    fn connected(&mut self, id: ClientId, peer: SocketAddr, local: SocketAddr, outbox: Outbox) {
        let mut client = Client::new(id, peer.to_string(), local.to_string(), outbox);
        client.authenticated = self.config.requirepass.is_none();
        client.outbox.shared.authenticated.store(client.authenticated, Ordering::Relaxed);
        let is_open = !self.config.protected_mode || self.config.requirepass.is_some();
        client.outbox.deliver(Delivery::BatchDone);
        let is_refused = !is_open && !peer.ip().to_canonical().is_loopback();
        self.clients.insert(id, client);
        if is_refused {
            self.reply(id, &Value::error(PROTECTED));
            self.close_after_reply(id);
        }
    }

    fn requests(&mut self, id: ClientId, requests: Vec<Request>, error: Option<ProtocolError>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.last_request = self.now;
        client.in_batch = true;
        client.queue.extend(requests);
        self.run_queue(id);
        if let Some(error) = error {
            info!("Protocol error ({error}) from client: {}", self.address_of(id));
            self.reply(id, &error.reply());
            self.close_after_reply(id);
        }
    }

    pub(super) fn new_client_id(&self) -> ClientId {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn address_of(&self, id: ClientId) -> &str {
        self.clients.get(&id).map_or("?", |c| &c.addr)
    }

    /// Executes what a client has queued until it is empty or the client has to wait.
    pub(super) fn run_queue(&mut self, id: ClientId) {
        while let Some(client) = self.clients.get_mut(&id) {
            if client.blocked.is_some() || client.closing {
                return;
            }
            let Some(request) = client.queue.pop_front() else {
                if std::mem::take(&mut client.in_batch) {
                    client.outbox.deliver(Delivery::BatchDone);
                }
                return;
            };
            self.execute(id, request);
        }
    }

    /// Queues a reply, unless the client wants none.
    pub(super) fn reply(&mut self, id: ClientId, value: &Value) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if let Value::Error(_) = value {
            self.stats.error_replies += 1;
        }
        if matches!(client.reply_mode, ReplyMode::On | ReplyMode::SkipNext) && !client.closing {
            client.outbox.reply(value, client.protocol);
            self.note_output(id);
        }
    }

    /// Queues encoded bytes: messages and the replication stream.
    pub(super) fn send(&mut self, id: ClientId, bytes: Bytes) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.outbox.bytes(bytes);
            self.note_output(id);
        }
    }

    pub(super) fn note_output(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id)
            && !std::mem::replace(&mut client.has_output, true)
        {
            self.with_output.push(id);
        }
    }

    /// Hands the output of this event to replicas and clients; drops clients that let too much of
    /// it pile up.
    fn deliver(&mut self) {
        self.flush_stream();
        for id in std::mem::take(&mut self.with_output) {
            let Some(client) = self.clients.get_mut(&id) else { continue };
            client.has_output = false;
            let sent = client.outbox.flush() as u64;
            match client.is_replica() {
                true => self.stats.repl_output_bytes += sent,
                false => self.stats.output_bytes += sent,
            }
            self.hold_to_output_limit(id);
        }
    }

    fn hold_to_output_limit(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let (limit, waiting) = client.output(&self.config);
        if client.outbox.is_over(limit, waiting, self.now) {
            let (class, addr) = (client.type_name(), &client.addr);
            warn!(
                "Client {addr} ({class}) closed: {waiting} bytes wait for it, more than \
                 client-output-buffer-limit allows"
            );
            self.kill(id);
        }
    }

    /// Ends a client's connection once its replies are written.
    pub(super) fn close_after_reply(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.closing = true;
            client.outbox.deliver(Delivery::Close);
        }
    }

    /// Ends a client's connection at once.
    pub(super) fn kill(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(&id) else { return };
        if client.is_master() {
            self.link_lost("connection killed");
            return;
        }
        client.outbox.shared.kill.cancel();
        self.forget(id);
    }

    fn forget(&mut self, id: ClientId) {
        let Some(mut client) = self.clients.remove(&id) else { return };
        for watch in client.watches.drain(..) {
            self.keyspace.unwatch(watch);
        }
        self.pubsub.forget(id, &client.channels, &client.patterns);
        if let Kind::Replica(_) = client.kind {
            self.replica_gone(&client);
        }
    }

    /// Does all that is due by now.
    fn pass_time(&mut self) {
        if self.pause.as_ref().is_some_and(|p| p.until <= self.now) {
            self.resume();
        }
        if !self.is_replica() && self.pause.is_none() {
            self.keyspace.expiry = Expiry::Delete;
            self.keyspace.expire_due(EXPIRE_AT_ONCE);
            self.take_expired();
            self.send_effects();
        }
        self.answer_waits();
        self.connect_if_due();
        if self.now >= self.next_tick {
            self.next_tick = self.now + TICK;
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.stats.sample(self.now);
        self.replication_tick();
        let timeout = Duration::from_secs(u64::from(self.config.timeout));
        let is_idle = |c: &&Client| {
            matches!(c.kind, Kind::Normal)
                && c.subscriptions() == 0
                && c.blocked.is_none()
                && self.now.duration_since(c.last_request) > timeout
        };
        let mut late: Vec<ClientId> = Vec::new();
        if !timeout.is_zero() {
            late.extend(self.clients.values().filter(is_idle).map(|c| c.id));
        }
        late.into_iter().for_each(|id| self.kill(id));
        let loaded = |c: &&Client| c.outbox.unwritten() > 0;
        let loaded: Vec<ClientId> = self.clients.values().filter(loaded).map(|c| c.id).collect();
        loaded.into_iter().for_each(|id| self.hold_to_output_limit(id));
    }

    fn next_deadline(&self) -> Instant {
        let expiry = match self.keyspace.next_deadline_ms() {
            Some(at_ms) if !self.is_replica() && self.pause.is_none() => {
                Some(self.now + Duration::from_millis(at_ms.saturating_sub(self.keyspace.now_ms)))
            }
            _ => None,
        };
        let waits = self.waiting.iter().filter_map(|(until, _)| *until);
        let pause = self.pause.as_ref().map(|p| p.until);
        let others = [expiry, pause, self.next_connect()].into_iter().flatten();
        others.chain(waits).fold(self.next_tick, Instant::min)
    }
}

const PROTECTED: &str = "DENIED Redis is running in protected mode because protected mode is \
     enabled and no password is set for the default user. In this mode connections are only \
     accepted from the loopback interface. Set a password with requirepass, or turn protected mode \
     off with --protected-mode no if the network is trusted.";

/// 40 random hexadecimal digits: a run id or a replication id.
pub(super) fn random_hex() -> String {
    crate::config::types::RunId::from_bytes(rand::random()).to_string()
}
