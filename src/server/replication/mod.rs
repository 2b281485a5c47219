//! Replication by Redis's own protocol (PSYNC2). A master counts the bytes of its command stream
//! and keeps the latest in a backlog; a replica applies the stream, counts the same bytes, and
//! hands them on unchanged to replicas of its own. So every node of a chain can take the place of
//! any other.
//!
//! * here: what both roles share, and the stream;
//! * [`master`]: serving replicas: PSYNC, snapshots, acknowledgements;
//! * [`replica`]: following a master, as the owner task sees it;
//! * [`link`]: the task that talks to the master.

#[doc(hidden)]
pub mod fuzz;
mod link;
mod master;
mod replica;

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tracing::info;

use crate::config::types::RunId;
use crate::resp::encode_command;

use super::backlog::History;
use super::client::{ClientId, Kind};
use super::node::Node;

pub(super) use link::LinkEvent;
pub(super) use master::Peer;
pub(super) use replica::{Phase, Upstream};

/// The replication state of a node.
#[derive(Debug)]
pub(super) struct Replication {
    pub(super) history: History,
    /// The database that the stream has selected; `None` makes the next write select its own.
    stream_db: Option<usize>,
    /// Stream bytes of the event being handled.
    stream: BytesMut,
    /// A client waits for acknowledgements, so replicas are to be asked for them.
    wants_ack: bool,
    /// Clients that are replicas, in the order in which they came.
    pub(super) replicas: Vec<ClientId>,
    /// Since when a master has had no replica.
    alone_since: Instant,
    last_ping: Instant,
    /// The master that is followed; `None` on a master.
    pub(super) upstream: Option<Upstream>,
    /// Counts links, so that news of an old one is told from news of the present one.
    attempts: u64,
}

impl Replication {
    pub(super) fn new() -> Replication {
        let now = Instant::now();
        Replication {
            history: History::new(new_id()),
            stream_db: None,
            stream: BytesMut::new(),
            wants_ack: false,
            replicas: Vec::new(),
            alone_since: now,
            last_ping: now,
            upstream: None,
            attempts: 0,
        }
    }

    /// `master_repl_offset`: the number of the last stream byte.
    pub(super) fn offset(&self) -> u64 {
        self.history.offset() + self.stream.len() as u64
    }
}

fn new_id() -> RunId {
    RunId::from_bytes(rand::random())
}

impl Node {
    pub(super) fn is_replica(&self) -> bool {
        self.replication.upstream.is_some()
    }

    /// Whether this is a replica whose link to the master is not up.
    pub(super) fn is_stale(&self) -> bool {
        self.replication.upstream.as_ref().is_some_and(|u| u.phase != Phase::Connected)
    }

    /// Writes the effects of a command or transaction to the stream; tells whether there were any.
    pub(super) fn send_effects(&mut self) -> bool {
        let effects = std::mem::take(&mut self.effects);
        // A replica's stream is its master's; without a backlog nobody has ever listened.
        if effects.is_empty() || self.is_replica() || !self.replication.history.has_backlog() {
            return false;
        }
        let is_one = effects.len() == 1;
        if !is_one {
            self.select_in_stream(effects[0].0);
            encode_command(&["MULTI"], &mut self.replication.stream);
        }
        for (db, args) in effects {
            self.select_in_stream(db);
            encode_command(&args, &mut self.replication.stream);
        }
        if !is_one {
            encode_command(&["EXEC"], &mut self.replication.stream);
        }
        true
    }

    fn select_in_stream(&mut self, db: usize) {
        if self.replication.stream_db.replace(db) != Some(db) {
            encode_command(&["SELECT", &db.to_string()], &mut self.replication.stream);
        }
    }

    /// Puts the stream bytes of this event into the backlog and hands them to every replica.
    pub(super) fn flush_stream(&mut self) {
        if std::mem::take(&mut self.replication.wants_ack) && !self.is_replica() {
            encode_command(&["REPLCONF", "GETACK", "*"], &mut self.replication.stream);
        }
        if self.replication.stream.is_empty() {
            return;
        }
        let bytes = self.replication.stream.split().freeze();
        self.replication.history.append(&bytes);
        for id in self.replication.replicas.clone() {
            self.stream_to(id, bytes.clone());
        }
    }

    fn stream_to(&mut self, id: ClientId, bytes: Bytes) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Kind::Replica(peer) = &mut client.kind else { return };
        if let Some(bytes) = peer.hold(bytes) {
            self.send(id, bytes);
        } else {
            self.note_output(id);
        }
    }

    /// Disconnects all replicas: they come back and learn what has changed.
    fn disconnect_replicas(&mut self) {
        for id in self.replication.replicas.clone() {
            self.kill(id);
        }
    }

    /// `REPLICAOF NO ONE`: a new history grows out of the present one, and every key stays.
    pub(super) fn become_master(&mut self) {
        let Some(_) = self.replication.upstream else { return };
        self.drop_link_task();
        self.forget_master_client();
        self.flush_stream();
        self.replication.upstream = None;
        self.config.replicaof = None;
        self.replication.history.promote(new_id());
        self.replication.stream_db = None;
        self.replication.alone_since = self.now;
        let history = &self.replication.history;
        info!(
            "Setting secondary replication ID to {}, valid up to offset: {}. New replication ID \
             is {}",
            history.previous_id().map_or("", RunId::as_str),
            history.second_offset().unwrap_or(0),
            history.id()
        );
        self.disconnect_replicas();
        info!("MASTER MODE enabled (user request)");
    }

    /// What depends on the configuration is brought in line with it.
    pub(super) fn config_changed(&mut self) {
        let size = usize::try_from(self.config.repl_backlog_size.0).unwrap_or(usize::MAX);
        self.replication.history.resize(size);
        self.gate.set_max(self.config.maxclients as usize);
    }
}
