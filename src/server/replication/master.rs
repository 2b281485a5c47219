//! The master's side: replicas attach by PSYNC, get a snapshot or a piece of the backlog, then the
//! stream; they acknowledge what they have.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::resp::{Value, encode_command};
use crate::server::client::{Blocked, Client, ClientId, Delivery, Kind};
use crate::server::info::VERSION;
use crate::server::keyspace::{self, Db, Entry};
use crate::server::node::{Node, random_hex};
use crate::server::rdb;
use crate::wall_clock::unix_ms;

use super::new_id;

/// Snapshot chunks that may wait for a replica's connection.
const SNAPSHOT_CHUNKS: usize = 16;
/// Size of a snapshot chunk.
const SNAPSHOT_CHUNK: usize = 64 * 1024;

/// How far a replica is, in the words of INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::server) enum PeerState {
    #[default]
    SendBulk,
    Online,
}

impl PeerState {
    pub(in crate::server) fn name(self) -> &'static str {
        match self {
            PeerState::SendBulk => "send_bulk",
            PeerState::Online => "online",
        }
    }
}

/// A replica as its master sees it.
#[derive(Debug, Default, Clone)]
pub(in crate::server) struct Peer {
    /// `REPLCONF listening-port`.
    pub(in crate::server) port: u16,
    /// `REPLCONF ip-address`.
    pub(in crate::server) ip: Option<String>,
    /// `REPLCONF capa eof`: it takes a snapshot whose length is not known beforehand.
    pub(in crate::server) eof: bool,
    /// `REPLCONF capa psync2`: it understands `+CONTINUE <id>`.
    pub(in crate::server) psync2: bool,
    /// `REPLCONF rdb-only 1`: it wants a snapshot and no stream.
    pub(in crate::server) snapshot_only: bool,
    /// It sent `SYNC`, the command of old, and never acknowledges.
    silent: bool,
    pub(in crate::server) state: PeerState,
    pub(in crate::server) acked: u64,
    acked_at: Option<Instant>,
    /// The stream behind an EOF-marked snapshot, until the first acknowledgement: a replica that
    /// reads the mark as the last bytes received must not get more behind it.
    held: Option<Vec<Bytes>>,
    held_bytes: usize,
}

impl Peer {
    /// Stream bytes that wait for the first acknowledgement.
    pub(in crate::server) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Keeps stream bytes if they must wait; gives them back if they may go.
    pub(super) fn hold(&mut self, bytes: Bytes) -> Option<Bytes> {
        if self.snapshot_only {
            return None;
        }
        let Some(held) = &mut self.held else { return Some(bytes) };
        self.held_bytes += bytes.len();
        held.push(bytes);
        None
    }

    /// Whole seconds since its last acknowledgement.
    pub(in crate::server) fn lag_s(&self, now: Instant) -> u64 {
        self.acked_at.map_or(0, |at| now.duration_since(at).as_secs())
    }

    /// The address to show: what it announced, else where it connects from.
    pub(in crate::server) fn address(&self, client: &Client) -> (String, u16) {
        let from = || client.addr.rsplit_once(':').map_or("", |(host, _)| host);
        let ip = self.ip.clone().unwrap_or_else(|| from().trim_matches(['[', ']']).to_string());
        (ip, self.port)
    }
}

impl Node {
    /// `PSYNC id offset` and `SYNC`. The reply, if any, is queued here, before what follows it.
    pub(in crate::server) fn attach(&mut self, id: ClientId, request: Option<(&str, i64)>) {
        self.flush_stream();
        let Some(client) = self.clients.get_mut(&id) else { return };
        let mut peer = client.announced.clone();
        peer.silent = request.is_none();
        peer.acked_at = Some(self.now);
        let (host, port) = peer.address(client);
        let shown = if port > 0 { format!("{host}:{port}") } else { client.addr.clone() };
        info!("Replica {shown} asks for synchronization");
        let position = request.and_then(|(id, at)| self.replication.history.accepts(id, at));
        match position {
            Some(position) => self.attach_partial(id, peer, position, &shown),
            None => {
                if request.is_some_and(|(asked, _)| !asked.starts_with('?')) {
                    self.stats.sync_partial_err += 1;
                    info!("Partial resynchronization not accepted: full resync for {shown}");
                }
                self.attach_full(id, peer, request.is_some(), &shown);
            }
        }
    }

    fn attach_partial(&mut self, id: ClientId, mut peer: Peer, position: u64, shown: &str) {
        let history = &self.replication.history;
        let Some([head, tail]) = history.since(position) else { return };
        let bytes = Bytes::from([head, tail].concat());
        let (size, asked) = (bytes.len(), peer.psync2);
        let reply = if asked { format!("CONTINUE {}", history.id()) } else { "CONTINUE".into() };
        peer.state = PeerState::Online;
        self.stats.sync_partial_ok += 1;
        self.reply(id, &Value::Simple(reply));
        self.send(id, bytes);
        self.enlist(id, peer);
        info!(
            "Partial resynchronization request from {shown} accepted. Sending {size} bytes of \
             backlog starting from offset {position}."
        );
    }

    fn attach_full(&mut self, id: ClientId, mut peer: Peer, has_reply: bool, shown: &str) {
        let backlog = usize::try_from(self.config.repl_backlog_size.0).unwrap_or(usize::MAX);
        self.replication.history.begin(new_id(), backlog);
        if !self.is_replica() {
            // The snapshot selects no database: the first write after it must.
            self.replication.stream_db = None;
        }
        let history = &self.replication.history;
        let reply = format!("FULLRESYNC {} {}", history.id(), history.offset());
        if has_reply {
            self.reply(id, &Value::Simple(reply));
        }
        self.stats.sync_full += 1;
        let snapshot = self.snapshot();
        let (chunks, receiver) = mpsc::channel(SNAPSHOT_CHUNKS);
        let mark = peer.eof.then(random_hex);
        if peer.eof {
            peer.held = Some(Vec::new());
        }
        info!("Full resync requested by replica {shown}; streaming {} keys", snapshot.keys());
        // Encoding takes a core for a while; the owner task and the connections go on meanwhile.
        tokio::task::spawn_blocking(move || snapshot.send(mark, &chunks));
        let stall = Duration::from_secs(u64::from(self.config.repl_timeout));
        if let Some(client) = self.clients.get_mut(&id) {
            client.outbox.deliver(Delivery::Snapshot(receiver, stall));
        }
        self.enlist(id, peer);
    }

    fn enlist(&mut self, id: ClientId, peer: Peer) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.kind = Kind::Replica(Box::new(peer));
        self.replication.replicas.push(id);
    }

    /// All entries as of now. Keys and values are shared, not copied, so this takes about the time
    /// of one walk over the table and no memory for the data itself. An issue of its own,
    /// "snapshots without fork", is to spread even that walk.
    fn snapshot(&self) -> Snapshot {
        let take = |(db, content): (usize, &Db)| {
            (db as u32, content.expiring() as u64, content.entries().cloned().collect())
        };
        let used = |(_, content): &(usize, &Db)| content.len() > 0;
        Snapshot {
            dbs: self.keyspace.dbs().iter().enumerate().filter(used).map(take).collect(),
            id: self.replication.history.id().to_string(),
            offset: self.replication.history.offset(),
            stream_db: self.stream_db_for_snapshot(),
        }
    }

    /// The stream of a replica goes on with the database that its master selected last; a master's
    /// starts with a SELECT.
    fn stream_db_for_snapshot(&self) -> u32 {
        let master = self.replication.upstream.as_ref().and_then(|u| u.client);
        let db = master.and_then(|id| self.clients.get(&id)).map_or(0, |c| c.db);
        u32::try_from(db).unwrap_or(0)
    }

    pub(in crate::server) fn snapshot_sent(&mut self, id: ClientId) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(&id) else { return };
        let addr = client.addr.clone();
        let Kind::Replica(peer) = &mut client.kind else { return };
        peer.state = PeerState::Online;
        peer.acked_at = Some(now);
        if peer.snapshot_only {
            self.close_after_reply(id);
            return;
        }
        info!("Synchronization with replica {addr} succeeded");
        // As Redis does: a replica must be told what it missed, also if no write comes for long.
        self.replication.last_ping = now;
    }

    /// `REPLCONF ACK offset`.
    pub(in crate::server) fn acknowledged(&mut self, id: ClientId, offset: u64) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Kind::Replica(peer) = &mut client.kind else { return };
        peer.acked = peer.acked.max(offset);
        peer.acked_at = Some(now);
        if peer.state == PeerState::Online {
            peer.held_bytes = 0;
            for bytes in peer.held.take().unwrap_or_default() {
                self.send(id, bytes);
            }
        }
        self.answer_waits();
    }

    /// A replica's connection has ended.
    pub(in crate::server) fn replica_gone(&mut self, client: &Client) {
        info!("Connection with replica {} lost.", client.addr);
        self.replication.replicas.retain(|id| *id != client.id);
        if self.replication.replicas.is_empty() {
            self.replication.alone_since = self.now;
        }
    }

    pub(in crate::server) fn peers(&self) -> impl Iterator<Item = (&Client, &Peer)> {
        let clients = self.replication.replicas.iter().filter_map(|id| self.clients.get(id));
        clients.filter_map(|client| match &client.kind {
            Kind::Replica(peer) => Some((client, &**peer)),
            _ => None,
        })
    }

    /// Replicas that are online and acknowledged within `min-replicas-max-lag`.
    pub(in crate::server) fn good_replicas(&self) -> usize {
        let max_lag_s = u64::from(self.config.min_replicas_max_lag);
        let is_good = |(_, p): &(&Client, &Peer)| {
            p.state == PeerState::Online && p.lag_s(self.now) <= max_lag_s
        };
        self.peers().filter(is_good).count()
    }

    pub(in crate::server) fn has_enough_replicas(&self) -> bool {
        let wanted = self.config.min_replicas_to_write as usize;
        let is_on = wanted > 0 && self.config.min_replicas_max_lag > 0;
        !is_on || self.good_replicas() >= wanted
    }

    pub(in crate::server) fn replicas_at(&self, offset: u64) -> usize {
        self.peers().filter(|(_, p)| p.state == PeerState::Online && p.acked >= offset).count()
    }

    /// Lets a client wait for replicas: `WAIT`.
    pub(in crate::server) fn wait_for_replicas(
        &mut self,
        id: ClientId,
        replicas: i64,
        offset: u64,
        until: Option<Instant>,
    ) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.blocked = Some(Blocked::Wait { replicas, offset, until });
            self.waiting.push((until, id));
            self.replication.wants_ack = true;
        }
    }

    /// Answers those whose wait is over.
    pub(in crate::server) fn answer_waits(&mut self) {
        for (_, id) in self.waiting.clone() {
            let blocked = self.clients.get(&id).and_then(|c| c.blocked.as_ref());
            let Some(Blocked::Wait { replicas, offset, until }) = blocked else {
                self.waiting.retain(|(_, other)| *other != id);
                continue;
            };
            let count = self.replicas_at(*offset) as i64;
            if count < *replicas && until.is_none_or(|until| until > self.now) {
                continue;
            }
            self.waiting.retain(|(_, other)| *other != id);
            if let Some(client) = self.clients.get_mut(&id) {
                client.blocked = None;
            }
            self.reply(id, &Value::Integer(count));
            self.run_queue(id);
        }
    }

    /// Once a second: pings, timeouts, the end of a backlog that nobody needs.
    pub(in crate::server) fn replication_tick(&mut self) {
        let timeout_s = u64::from(self.config.repl_timeout);
        let is_late = |(_, p): &(&Client, &Peer)| {
            p.state == PeerState::Online && !p.silent && p.lag_s(self.now) > timeout_s
        };
        let late: Vec<ClientId> = self.peers().filter(is_late).map(|(c, _)| c.id).collect();
        for id in late {
            let addr = self.clients.get(&id).map_or("", |c| &c.addr);
            warn!("Disconnecting timedout replica (streaming sync): {addr}");
            self.kill(id);
        }
        if self.is_replica() {
            self.send_ack();
            return;
        }
        let period = Duration::from_secs(u64::from(self.config.repl_ping_replica_period));
        let has_replicas = !self.replication.replicas.is_empty();
        if has_replicas && self.now.duration_since(self.replication.last_ping) >= period {
            self.replication.last_ping = self.now;
            encode_command(&["PING"], &mut self.replication.stream);
        }
        let ttl = Duration::from_secs(u64::from(self.config.repl_backlog_ttl));
        let alone = self.now.duration_since(self.replication.alone_since);
        if !has_replicas && !ttl.is_zero() && alone > ttl && self.replication.history.has_backlog()
        {
            self.replication.history.end(new_id());
            info!("Replication backlog freed after {} seconds without replicas.", alone.as_secs());
        }
    }
}

/// The data of a moment, on its way to a replica.
struct Snapshot {
    /// Number, count of deadlines, entries.
    dbs: Vec<(u32, u64, Vec<Entry>)>,
    id: String,
    offset: u64,
    stream_db: u32,
}

impl Snapshot {
    fn keys(&self) -> usize {
        self.dbs.iter().map(|(_, _, entries)| entries.len()).sum()
    }

    /// Encodes and sends everything; an empty chunk says that it is whole. With a mark the length
    /// need not be known; without one the snapshot is encoded twice, first to count its bytes.
    fn send(self, mark: Option<String>, chunks: &mpsc::Sender<Bytes>) {
        let created_s = unix_ms() / 1000;
        let header = match &mark {
            Some(mark) => format!("$EOF:{mark}\r\n"),
            None => {
                let mut length = 0;
                self.encode(created_s, &mut |chunk| {
                    length += chunk.len();
                    true
                });
                format!("${length}\r\n")
            }
        };
        let mut send = |chunk: Bytes| chunks.blocking_send(chunk).is_ok();
        let whole = send(header.into())
            && self.encode(created_s, &mut send)
            && mark.is_none_or(|mark| send(mark.into()));
        if whole {
            send(Bytes::new());
        }
    }

    /// Encodes in chunks; stops with `false` as soon as `take` does not want more.
    fn encode(&self, created_s: u64, take: &mut impl FnMut(Bytes) -> bool) -> bool {
        let mut out = BytesMut::with_capacity(SNAPSHOT_CHUNK);
        let position =
            rdb::Position { stream_db: self.stream_db, id: &self.id, offset: self.offset };
        let preamble = rdb::Preamble {
            redis_version: VERSION,
            created_s,
            used_memory: 0,
            position: Some(position),
        };
        let mut writer = rdb::Writer::new(&preamble, &mut out);
        for (db, expiring, entries) in &self.dbs {
            writer.select_db(*db, entries.len() as u64, *expiring, &mut out);
            for entry in entries {
                let keyspace::Value::String(string) = &entry.value;
                writer.write_string(&entry.key, string, entry.expire_at_ms, &mut out);
                if out.len() >= SNAPSHOT_CHUNK && !take(out.split().freeze()) {
                    return false;
                }
            }
        }
        writer.finish(&mut out);
        take(out.freeze())
    }
}
