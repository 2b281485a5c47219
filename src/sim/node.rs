//! A model of a Redis node, as far as sentinels, replicas and writing clients can see it: roles, a
//! history of writes, full and partial resynchronisation, the hello channel, the transactions of a
//! failover, restarts with and without data, and the ways in which a node can be half well. What it
//! answers stands in `answer`.

mod answer;

use std::collections::{BTreeMap, VecDeque};

use super::ailment::Ailment;
use super::dice::Dice;
use super::net::Net;
use super::wire::{Ask, Change, ConnId, Entry, Ms, News, Packet, Proc, Purpose, ReplId, Timer};
use crate::resp::Value;
use crate::sentinel::Command;
use crate::sentinel::types::{Address, RunId};

/// A node's regular work, in ms: a replica tries to reach its master, a master pings its replicas.
const CRON_MS: Ms = 1_000;
/// A master pings its replicas through the stream once in so many runs of the regular work.
const STREAM_PING_EVERY: u64 = 10;

/// How the nodes of this run behave.
#[derive(Debug, Clone)]
pub(super) struct NodeShape {
    /// They have a file to rewrite, and so remember across a restart whom they follow.
    pub(super) rewrites: bool,
    /// Reading the data at a start takes up to so long, in ms.
    pub(super) loading_ms: Ms,
    /// A full copy takes up to so long, in ms.
    pub(super) copy_ms: Ms,
    /// `repl-timeout`, in ms.
    pub(super) silence_ms: Ms,
    /// `repl-backlog-size`, in bytes.
    pub(super) backlog: u64,
    /// `replica-priority`; `None` where each node has its own.
    pub(super) priority: Option<u32>,
    /// What INFO says of a link to the master that was never up, in s.
    pub(super) never_up_s: i64,
    /// The offset of the first master's history in the beginning, in bytes.
    pub(super) first_offset: u64,
    /// `replica-serve-stale-data`
    pub(super) serves_stale: bool,
}

impl NodeShape {
    /// Redis before 6.2, as far as it matters.
    fn is_old(&self) -> bool {
        self.never_up_s >= 0
    }
}

/// With which data a node comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// All of them.
    Same,
    /// All that was written in some last time is missing.
    Old,
    /// None.
    Empty,
}

/// What a node has accepted a connection for.
#[derive(Debug, Clone, PartialEq)]
enum Session {
    Commands,
    Subscriber,
    Replica { address: Address, online: bool },
}

/// The way to the own master.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Upstream {
    None,
    Connecting(ConnId),
    Copying(ConnId),
    Up { conn: ConnId, heard_at: Ms },
}

impl Upstream {
    fn conn(self) -> Option<ConnId> {
        match self {
            Upstream::None => None,
            Upstream::Connecting(conn) | Upstream::Copying(conn) | Upstream::Up { conn, .. } => {
                Some(conn)
            }
        }
    }
}

/// One node.
pub(super) struct Node {
    pub(super) proc: Proc,
    /// Where it says to be: an IP address or a name.
    pub(super) address: Address,
    ailment: Ailment,
    /// The same when it began: some of it may be over.
    caught: Ailment,
    /// `replica-priority`
    pub(super) priority: u32,
    shape: NodeShape,
    dice: Dice,
    run_id: RunId,
    pub(super) started_at: Ms,
    loading_until: Ms,
    following: Option<Address>,
    /// What its file says about that.
    filed: Option<Address>,
    /// All writes in the order in which they were made; survives a restart.
    history: Vec<Entry>,
    offset: u64,
    replid: ReplId,
    /// The history that this one went on from, and the offset at which it did: `master_replid2`.
    before: Option<(ReplId, u64)>,
    /// The first offset that the backlog still holds.
    backlog_from: u64,
    upstream: Upstream,
    /// Since when the link to the master is down; `None` while up or if it never was.
    down_since: Option<Ms>,
    /// When it was last seen to be a master.
    master_at: Option<Ms>,
    sessions: BTreeMap<ConnId, Session>,
    /// Requests that a slow node has not got round to.
    waiting: VecDeque<(ConnId, Ask)>,
    /// Until then it takes no writes (`CLIENT PAUSE`).
    held_until: Ms,
    /// What waits for that, and whatever came behind it on the same connections.
    held: VecDeque<(ConnId, Ask)>,
    crons: u64,
}

impl Node {
    pub(super) fn new(
        proc: Proc,
        address: Address,
        master: Option<Address>,
        shape: NodeShape,
        mut dice: Dice,
    ) -> Node {
        let priority = shape.priority.unwrap_or_else(|| dice.within(1..=3) as u32 * 50);
        let first_offset = if master.is_none() { shape.first_offset } else { 1 };
        Node {
            proc,
            address,
            ailment: Ailment::default(),
            caught: Ailment::default(),
            priority,
            shape,
            run_id: dice.run_id(),
            started_at: 0,
            loading_until: 0,
            following: master.clone(),
            filed: master,
            history: Vec::new(),
            offset: first_offset,
            replid: dice.number(),
            dice,
            before: None,
            backlog_from: first_offset,
            upstream: Upstream::None,
            down_since: None,
            master_at: None,
            sessions: BTreeMap::new(),
            waiting: VecDeque::new(),
            held_until: 0,
            held: VecDeque::new(),
            crons: 0,
        }
    }

    /// Whom it follows; `None` for a master.
    pub(super) fn following(&self) -> Option<&Address> {
        self.following.as_ref()
    }

    /// Whom it follows after a start, as its file says.
    pub(super) fn starts_behind(&self) -> Option<&Address> {
        self.filed.as_ref()
    }

    /// True for a replica that has a copy and gets the stream.
    pub(super) fn in_sync(&self) -> bool {
        matches!(self.upstream, Upstream::Up { .. })
    }

    /// True if it says to have more than it has.
    pub(super) fn boasts(&self) -> bool {
        self.ailment.boast > 0
    }

    /// True while it takes no writes.
    pub(super) fn holds_writes(&self, now: Ms) -> bool {
        now < self.held_until
    }

    /// True for a replica whose data may be old.
    fn is_stale(&self) -> bool {
        self.following.is_some() && !self.in_sync()
    }

    /// When it last was a master, as of `now`.
    pub(super) fn master_at(&self, now: Ms, running: bool) -> Option<Ms> {
        if running && self.following.is_none() { Some(now) } else { self.master_at }
    }

    pub(super) fn history(&self) -> &[Entry] {
        &self.history
    }

    fn loading(&self, net: &Net) -> bool {
        net.now() < self.loading_until
    }

    /// What its file and disk say from now on; it does not run.
    pub(super) fn refit(&mut self, data: Data, filed: Option<Option<Address>>) {
        match data {
            Data::Same => {}
            Data::Old => {
                let kept = self.dice.below(self.history.len() as u64 + 1) as usize;
                self.history.truncate(kept);
                self.begin_history();
            }
            Data::Empty => {
                self.history.clear();
                self.begin_history();
            }
        }
        if let Some(filed) = filed {
            self.filed = filed;
        }
    }

    /// Who this process is.
    pub(super) fn run_id(&self) -> &RunId {
        &self.run_id
    }

    /// It goes on where it is from here on, under a history of its own.
    fn begin_history(&mut self) {
        self.offset = self.history.last().map_or(1, |entry| entry.end);
        self.replid = self.dice.number();
        self.before = None;
    }

    /// This is wrong with it from now on, and nothing else.
    pub(super) fn suffer(&mut self, net: &mut Net, ailment: Ailment) {
        if ailment == self.caught {
            return;
        }
        self.caught = ailment.clone();
        if ailment.unlinked && !self.ailment.unlinked {
            self.leave_master(net);
            self.down_since = self.following.is_some().then(|| net.now());
        }
        self.ailment = ailment;
    }

    /// Begins a life, with the data of the last one.
    pub(super) fn start(&mut self, net: &mut Net) {
        self.run_id = self.dice.run_id();
        self.started_at = net.now();
        self.loading_until = net.now() + self.takes(self.shape.loading_ms);
        self.following = self.filed.clone();
        if self.following.is_none() {
            // Only a replica finds the name of its history in its file.
            self.begin_history();
        }
        self.backlog_from = self.offset;
        self.upstream = Upstream::None;
        self.down_since = None;
        self.sessions.clear();
        self.waiting.clear();
        self.held_until = 0;
        self.held.clear();
        net.timer(self.proc, self.dice.below(CRON_MS), Timer::Tick);
    }

    /// How long it takes to read or copy all data, in ms; none need no time.
    fn takes(&mut self, most: Ms) -> Ms {
        if self.history.is_empty() { 0 } else { self.dice.skewed(1..=most.max(1)) }
    }

    /// Its life ended.
    pub(super) fn stopped(&mut self, now: Ms) {
        self.master_at = self.master_at(now, true);
    }

    /// What comes to it.
    pub(super) fn take(&mut self, net: &mut Net, news: News) {
        match news {
            News::Packet(conn, packet) => self.packet(net, conn, packet),
            News::Lost(conn, _) if self.upstream.conn() == Some(conn) => self.lose_master(net),
            News::Lost(conn, _) => {
                self.sessions.remove(&conn);
                self.held.retain(|(held, _)| *held != conn);
            }
            News::Timer(Timer::Tick) => self.cron(net),
            News::Timer(Timer::CopyReady { conn }) => self.send_copy(net, conn),
            News::Timer(Timer::Unpause) => self.go_on(net),
            News::Timer(Timer::Answer) => {
                if let Some((conn, ask)) = self.waiting.pop_front() {
                    self.answer(net, conn, ask);
                }
            }
            News::Timer(_) => {}
        }
    }

    fn packet(&mut self, net: &mut Net, conn: ConnId, packet: Packet) {
        match packet {
            Packet::Greet(purpose) => self.greet(net, conn, *purpose),
            Packet::Ping if self.is_quick() && !self.loading(net) && !self.is_held(conn) => {
                net.send(self.proc, conn, Packet::Pong);
            }
            Packet::Ping => {
                let ask = Box::new(Ask::Command(Command::Ping));
                self.packet(net, conn, Packet::Ask(ask));
            }
            Packet::Ask(ask) => {
                if self.ailment.slow_ms > 0 || !self.waiting.is_empty() {
                    let after = self.dice.below(self.ailment.slow_ms + 1);
                    self.waiting.push_back((conn, *ask));
                    net.timer(self.proc, after, Timer::Answer);
                } else {
                    self.answer(net, conn, *ask);
                }
            }
            Packet::Greeted if self.upstream == Upstream::Connecting(conn) => {
                self.upstream = Upstream::Copying(conn);
            }
            Packet::Copy { replid, history, offset } if self.upstream.conn() == Some(conn) => {
                // All that was here is wiped, and what came is read in.
                self.drop_replicas(net);
                self.history = history;
                (self.offset, self.replid, self.before) = (offset, replid, None);
                self.backlog_from = offset;
                self.loading_until = net.now() + self.takes(self.shape.loading_ms / 4);
                self.linked(net, conn);
            }
            Packet::Continue { replid, missed, offset } if self.upstream.conn() == Some(conn) => {
                if replid != self.replid {
                    self.before = Some((self.replid, self.offset));
                    self.replid = replid;
                    self.drop_replicas(net);
                }
                self.linked(net, conn);
                for entry in missed {
                    self.apply(net, Change::Write(entry.write), entry.end);
                }
                self.offset = offset;
            }
            Packet::Stream { change, offset } if self.upstream.conn() == Some(conn) => {
                self.upstream = Upstream::Up { conn, heard_at: net.now() };
                self.apply(net, *change, offset);
            }
            _ => {}
        }
    }

    /// True if it answers a PING at once, and well.
    fn is_quick(&self) -> bool {
        let Ailment { hung, slow_ms, error, locked, .. } = &self.ailment;
        self.waiting.is_empty() && !hung && *slow_ms == 0 && error.is_none() && !locked
    }

    fn linked(&mut self, net: &Net, conn: ConnId) {
        self.upstream = Upstream::Up { conn, heard_at: net.now() };
        self.down_since = None;
    }

    fn greet(&mut self, net: &mut Net, conn: ConnId, purpose: Purpose) {
        let session = match purpose {
            Purpose::Commands => Session::Commands,
            Purpose::Subscribe => Session::Subscriber,
            Purpose::Replicate { address, replid, offset } => {
                // -LOADING or -NOMASTERLINK: the replica tries again.
                let without_data = self.is_stale();
                if self.loading(net) || without_data {
                    net.close(self.proc, conn);
                    return;
                }
                net.send(self.proc, conn, Packet::Greeted);
                let online = self.can_continue(replid, offset);
                if online {
                    self.send_missed(net, conn, offset);
                } else {
                    let after = self.takes(self.shape.copy_ms);
                    net.timer(self.proc, after, Timer::CopyReady { conn });
                }
                self.sessions.insert(conn, Session::Replica { address, online });
                return;
            }
        };
        self.sessions.insert(conn, session);
        net.send(self.proc, conn, Packet::Greeted);
    }

    fn can_continue(&self, replid: ReplId, offset: u64) -> bool {
        let same = replid == self.replid;
        let older = self.before.is_some_and(|(id, until)| id == replid && offset <= until);
        (same || older) && (self.backlog_from..=self.offset).contains(&offset)
    }

    fn send_missed(&self, net: &mut Net, conn: ConnId, offset: u64) {
        let from = self.history.partition_point(|entry| entry.end <= offset);
        let missed = self.history[from..].to_vec();
        let (replid, offset) = (self.replid, self.offset);
        net.send(self.proc, conn, Packet::Continue { replid, missed, offset });
    }

    fn send_copy(&mut self, net: &mut Net, conn: ConnId) {
        if let Some(Session::Replica { online, .. }) = self.sessions.get_mut(&conn) {
            *online = true;
            let (replid, history) = (self.replid, self.history.clone());
            net.send(self.proc, conn, Packet::Copy { replid, history, offset: self.offset });
        }
    }

    /// Regular work of every second.
    fn cron(&mut self, net: &mut Net) {
        self.crons += 1;
        net.timer(self.proc, CRON_MS, Timer::Tick);
        if self.loading(net) {
            return;
        }
        match (self.following.clone(), self.upstream) {
            (Some(master), Upstream::None) => self.dial_master(net, &master),
            (Some(_), Upstream::Up { heard_at, .. })
                if net.now() - heard_at > self.shape.silence_ms =>
            {
                self.leave_master(net);
                self.down_since = Some(net.now());
            }
            (Some(_), upstream) => {
                if let Some(conn) = upstream.conn() {
                    net.send(self.proc, conn, Packet::Ack);
                }
            }
            (None, _) if self.crons.is_multiple_of(STREAM_PING_EVERY) => {
                self.propagate(net, Change::Ping, 14);
            }
            (None, _) => {}
        }
    }

    fn dial_master(&mut self, net: &mut Net, master: &Address) {
        if self.ailment.unlinked {
            return;
        }
        let purpose = Purpose::Replicate {
            address: self.address.clone(),
            replid: self.replid,
            offset: self.offset,
        };
        let conn = net.dial(self.proc, master, purpose, self.shape.silence_ms);
        self.upstream = Upstream::Connecting(conn);
    }

    fn lose_master(&mut self, net: &Net) {
        if self.in_sync() {
            self.down_since = Some(net.now());
        }
        self.upstream = Upstream::None;
    }

    fn leave_master(&mut self, net: &mut Net) {
        if let Some(conn) = self.upstream.conn() {
            net.close(self.proc, conn);
        }
        self.upstream = Upstream::None;
    }

    fn drop_replicas(&mut self, net: &mut Net) {
        self.drop_sessions(net, |session| matches!(session, Session::Replica { .. }));
    }

    fn drop_sessions(&mut self, net: &mut Net, which: impl Fn(&Session) -> bool) {
        let proc = self.proc;
        self.sessions.retain(|conn, session| {
            let drop = which(session);
            if drop {
                self.held.retain(|(held, _)| held != conn);
                net.close(proc, *conn);
            }
            !drop
        });
    }

    /// A change made here, as the master.
    fn propagate(&mut self, net: &mut Net, change: Change, bytes: u64) {
        let has_replicas =
            self.sessions.values().any(|session| matches!(session, Session::Replica { .. }));
        if has_replicas || matches!(change, Change::Write(_)) {
            let offset = self.offset + bytes;
            self.apply(net, change, offset);
        } else if let Change::Publish(payload) = change {
            self.publish(net, &payload);
        }
    }

    /// A change of the stream: done here, and passed on to own replicas.
    fn apply(&mut self, net: &mut Net, change: Change, offset: u64) {
        self.offset = offset;
        self.backlog_from = self.backlog_from.max(offset.saturating_sub(self.shape.backlog));
        match &change {
            Change::Write(write) => self.history.push(Entry { end: offset, write: *write }),
            Change::Publish(payload) => self.publish(net, payload),
            Change::Ping => {}
        }
        for (conn, session) in &self.sessions {
            if matches!(session, Session::Replica { online: true, .. }) {
                let change = Box::new(change.clone());
                net.send(self.proc, *conn, Packet::Stream { change, offset });
            }
        }
    }

    /// `SLAVEOF NO ONE`
    pub(super) fn become_master(&mut self, net: &mut Net) -> Value {
        if self.following.take().is_some() {
            self.before = Some((self.replid, self.offset));
            self.replid = self.dice.number();
            self.leave_master(net);
            self.drop_replicas(net);
            self.down_since = None;
        }
        Value::ok()
    }

    /// `SLAVEOF host port`
    pub(super) fn follow(&mut self, net: &mut Net, master: Address) -> Value {
        if self.following.as_ref() == Some(&master) {
            return Value::Simple("OK Already connected to specified master".into());
        }
        self.master_at = self.master_at(net.now(), true);
        self.leave_master(net);
        self.drop_replicas(net);
        self.down_since = None;
        self.dial_master(net, &master);
        self.following = Some(master);
        Value::ok()
    }

    fn publish(&self, net: &mut Net, payload: &str) {
        for (conn, session) in &self.sessions {
            if *session == Session::Subscriber {
                net.send(self.proc, *conn, Packet::Published(payload.to_owned()));
            }
        }
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
