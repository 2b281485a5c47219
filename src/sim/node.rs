//! A model of a Redis node, as far as sentinels, replicas and writing clients can see it: roles, a
//! history of writes, full and partial resynchronisation, the hello channel, the transactions of a
//! failover, restarts with and without data, and the ways in which a node can be half well.

use std::collections::{BTreeMap, VecDeque};

use super::dice::Dice;
use super::net::Net;
use super::wire::{
    Ask, Change, ConnId, Entry, Ms, News, Packet, Proc, Purpose, ReplId, Timer, Write,
};
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

/// What is wrong with a node at present.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ailment {
    /// It accepts, and never answers a request.
    pub(super) hung: bool,
    /// It gets round to a request up to so late, in ms.
    pub(super) slow_ms: Ms,
    /// It answers requests with this error: BUSY, MISCONF, NOAUTH.
    pub(super) error: Option<&'static str>,
    /// Its INFO shows an offset larger by so much.
    pub(super) boast: u64,
    /// Its master does not let it in.
    pub(super) unlinked: bool,
    /// The sentinels have a wrong password for it.
    pub(super) locked: bool,
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
    /// `replica-priority`
    pub(super) priority: u32,
    shape: NodeShape,
    dice: Dice,
    run_id: RunId,
    started_at: Ms,
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
        Node {
            proc,
            address,
            ailment: Ailment::default(),
            priority,
            shape,
            run_id: dice.run_id(),
            started_at: 0,
            loading_until: 0,
            following: master.clone(),
            filed: master,
            history: Vec::new(),
            offset: 1,
            replid: dice.number(),
            dice,
            before: None,
            backlog_from: 1,
            upstream: Upstream::None,
            down_since: None,
            master_at: None,
            sessions: BTreeMap::new(),
            waiting: VecDeque::new(),
            crons: 0,
        }
    }

    /// Whom it follows; `None` for a master.
    pub(super) fn following(&self) -> Option<&Address> {
        self.following.as_ref()
    }

    /// True for a replica that has a copy and gets the stream.
    pub(super) fn in_sync(&self) -> bool {
        matches!(self.upstream, Upstream::Up { .. })
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

    /// It goes on where it is from here on, under a history of its own.
    fn begin_history(&mut self) {
        self.offset = self.history.last().map_or(1, |entry| entry.end);
        self.replid = self.dice.number();
        self.before = None;
    }

    /// This is wrong with it from now on, and nothing else.
    pub(super) fn suffer(&mut self, net: &mut Net, ailment: Ailment) {
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
        self.loading_until = net.now() + self.dice.skewed(0..=self.shape.loading_ms);
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
        net.timer(self.proc, self.dice.below(CRON_MS), Timer::Tick);
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
            }
            News::Timer(Timer::Tick) => self.cron(net),
            News::Timer(Timer::CopyReady { conn }) => self.send_copy(net, conn),
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
                self.loading_until = net.now() + self.dice.skewed(0..=self.shape.loading_ms / 4);
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
                let without_data = self.following.is_some() && !self.in_sync();
                if self.loading(net) || without_data {
                    net.close(self.proc, conn);
                    return;
                }
                net.send(self.proc, conn, Packet::Greeted);
                let online = self.can_continue(replid, offset);
                if online {
                    self.send_missed(net, conn, offset);
                } else {
                    let after = self.dice.skewed(1..=self.shape.copy_ms);
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

    fn publish(&self, net: &mut Net, payload: &str) {
        for (conn, session) in &self.sessions {
            if *session == Session::Subscriber {
                net.send(self.proc, *conn, Packet::Published(payload.to_owned()));
            }
        }
    }

    fn answer(&mut self, net: &mut Net, conn: ConnId, ask: Ask) {
        if self.ailment.hung {
            return;
        }
        if ask == Ask::Command(Command::Ping)
            && self.ailment.error.is_none()
            && !self.ailment.locked
            && !self.loading(net)
        {
            net.send(self.proc, conn, Packet::Pong);
            return;
        }
        let reply = self.execute(net, conn, ask);
        net.send(self.proc, conn, Packet::Reply(Box::new(reply)));
    }

    fn execute(&mut self, net: &mut Net, conn: ConnId, ask: Ask) -> Value {
        if self.ailment.locked && matches!(ask, Ask::Command(_)) {
            return Value::error("NOAUTH Authentication required.");
        }
        if let Some(error) = self.ailment.error {
            let writes_only = error.starts_with("MISCONF");
            let harmless = !matches!(ask, Ask::Set(_) | Ask::Command(Command::Ping));
            match ask {
                Ask::Command(Command::ScriptKill) if error.starts_with("BUSY") => {
                    self.ailment.error = None;
                    return Value::ok();
                }
                _ if writes_only && harmless => {}
                _ => return Value::error(error),
            }
        }
        let loading = self.loading(net);
        match ask {
            Ask::Command(Command::Info) => Value::bulk(self.info(net)),
            Ask::Command(Command::Hello { payload }) => {
                // A master's messages reach the subscribers of its replicas too.
                match self.following {
                    None => {
                        let bytes = 60 + payload.len() as u64;
                        self.propagate(net, Change::Publish(payload), bytes);
                    }
                    Some(_) => self.publish(net, &payload),
                }
                Value::Integer(1)
            }
            Ask::Command(Command::Promote) => self.transaction(net, conn, None),
            Ask::Command(Command::Follow { master }) => self.transaction(net, conn, Some(master)),
            _ if loading => loading_error(),
            Ask::Command(Command::ScriptKill) => Value::error("NOTBUSY No scripts in execution"),
            Ask::Command(Command::Ping) => Value::Simple("PONG".into()),
            Ask::Set(write) => self.write(net, write),
            _ => Value::error("ERR unknown command"),
        }
    }

    /// MULTI, SLAVEOF, CONFIG REWRITE, two CLIENT KILLs, EXEC, INFO: their replies.
    fn transaction(&mut self, net: &mut Net, conn: ConnId, master: Option<Address>) -> Value {
        let queued = || Value::Simple("QUEUED".into());
        let mut replies = vec![Value::ok(), queued(), queued(), queued(), queued()];
        if self.loading(net) {
            // SLAVEOF is refused, and so the whole.
            replies[1] = loading_error();
            replies
                .push(Value::error("EXECABORT Transaction discarded because of previous errors."));
        } else {
            let mut done = vec![match master {
                None => self.become_master(net),
                Some(master) => self.follow(net, master),
            }];
            done.push(match self.shape.rewrites {
                true => {
                    self.filed = self.following.clone();
                    Value::ok()
                }
                false => Value::error("ERR The server is running without a config file"),
            });
            for kind in [Session::Commands, Session::Subscriber] {
                done.push(self.kill_clients(net, conn, &kind));
            }
            replies.push(Value::Array(done));
        }
        replies.push(Value::bulk(self.info(net)));
        Value::Array(replies)
    }

    fn become_master(&mut self, net: &mut Net) -> Value {
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

    /// The one who asks is spared, unless he listens on a connection of the other kind.
    fn kill_clients(&mut self, net: &mut Net, asker: ConnId, victim: &Session) -> Value {
        let own = self.sessions.remove(&asker);
        let before = self.sessions.len();
        self.drop_sessions(net, |session| session == victim);
        let killed = before - self.sessions.len();
        if let Some(own) = own {
            self.sessions.insert(asker, own);
        }
        Value::Integer(killed as i64)
    }

    fn write(&mut self, net: &mut Net, write: Write) -> Value {
        if self.following.is_some() {
            return Value::error("READONLY You can't write against a read only replica.");
        }
        self.propagate(net, Change::Write(write), 40);
        Value::ok()
    }

    /// INFO as Redis 7.0 prints it, as far as a sentinel or a person looks at it.
    fn info(&self, net: &Net) -> String {
        use std::fmt::Write;
        let mut text = format!(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:{}\r\ntcp_port:{}\r\n\
             uptime_in_seconds:{}\r\nloading:{}\r\n# Replication\r\n",
            self.run_id,
            self.address.port,
            (net.now() - self.started_at) / 1_000,
            u8::from(self.loading(net)),
        );
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{name}:{value}\r\n");
        };
        let shown = self.offset + self.ailment.boast;
        match &self.following {
            None => line("role", &"master"),
            Some(master) => {
                let up = self.in_sync();
                line("role", &"slave");
                line("master_host", &master.host);
                line("master_port", &master.port);
                line("master_link_status", if up { &"up" } else { &"down" });
                line("slave_repl_offset", &shown);
                if !up {
                    let since = match self.down_since {
                        Some(at) => (net.now() - at) as i64 / 1_000,
                        None => self.shape.never_up_s,
                    };
                    line("master_link_down_since_seconds", &since);
                }
                line("slave_priority", &self.priority);
                line("replica_announced", &1);
            }
        }
        let replicas = self.sessions.values().filter_map(|session| match session {
            Session::Replica { address, online } => Some((address, *online)),
            _ => None,
        });
        for (n, (address, online)) in replicas.enumerate() {
            let state = if online { "online" } else { "send_bulk" };
            line(
                &format!("slave{n}"),
                &format_args!(
                    "ip={},port={},state={state},offset={shown},lag=0",
                    address.host, address.port
                ),
            );
        }
        line("master_repl_offset", &shown);
        if !self.history.is_empty() && !self.loading(net) {
            line("db0", &format_args!("keys={},expires=0,avg_ttl=0", self.history.len()));
        }
        text
    }
}

fn loading_error() -> Value {
    Value::error("LOADING Redis is loading the dataset in memory")
}

#[cfg(test)]
mod tests {
    use super::super::net::{NetShape, ip_of};
    use super::super::wire::Happening;
    use super::*;

    const CLIENT: Proc = Proc::Client(0);

    /// Nodes that follow the first one, and a client that talks to them.
    struct Trial {
        net: Net,
        nodes: Vec<Node>,
        heard: Vec<(ConnId, Packet)>,
        lost: Vec<ConnId>,
    }

    impl Trial {
        fn new(nodes: usize) -> Trial {
            let shape = NetShape { jitter_ms: 2, patience_ms: 10_000 };
            let mut net = Net::new(shape, Dice::new(1, "net"));
            net.add(CLIENT, 9, None);
            net.start(CLIENT);
            let address = |n: usize| Address::new(ip_of(n), 6379);
            let shape = NodeShape {
                rewrites: true,
                loading_ms: 1,
                copy_ms: 50,
                silence_ms: 60_000,
                never_up_s: -1,
                backlog: 4_000,
                priority: Some(100),
            };
            let nodes = (0..nodes)
                .map(|n| {
                    let (proc, master) = (Proc::Node(n), (n > 0).then(|| address(0)));
                    net.add(proc, n, Some(6379));
                    net.start(proc);
                    let dice = Dice::new(n as u64, "node");
                    let mut node = Node::new(proc, address(n), master, shape.clone(), dice);
                    node.start(&mut net);
                    node
                })
                .collect();
            Trial { net, nodes, heard: Vec::new(), lost: Vec::new() }
        }

        fn run(&mut self, ms: Ms) {
            let until = self.net.now() + ms;
            self.net.remind(ms, 0);
            while let Some(happening) = self.net.next(until) {
                match happening {
                    Happening::To(Proc::Node(n), news) => self.nodes[n].take(&mut self.net, news),
                    Happening::To(_, News::Packet(conn, packet)) => self.heard.push((conn, packet)),
                    Happening::To(_, News::Lost(conn, _)) => self.lost.push(conn),
                    _ => {}
                }
            }
        }

        fn dial(&mut self, node: usize, purpose: Purpose) -> ConnId {
            let address = self.nodes[node].address.clone();
            let conn = self.net.dial(CLIENT, &address, purpose, 1_000);
            self.run(50);
            conn
        }

        fn ask(&mut self, conn: ConnId, ask: Ask) -> Value {
            self.heard.clear();
            self.net.send(CLIENT, conn, Packet::Ask(Box::new(ask)));
            self.run(50);
            let reply = self.heard.iter().find_map(|(c, packet)| match packet {
                Packet::Reply(reply) if *c == conn => Some((**reply).clone()),
                Packet::Pong if *c == conn => Some(Value::Simple("PONG".into())),
                _ => None,
            });
            reply.expect("the node answers")
        }

        fn command(&mut self, conn: ConnId, command: Command) -> Value {
            self.ask(conn, Ask::Command(command))
        }

        fn info(&mut self, conn: ConnId) -> String {
            self.command(conn, Command::Info).text().unwrap_or_default().to_owned()
        }

        fn restart(&mut self, n: usize) {
            self.net.kill(Proc::Node(n));
            self.net.start(Proc::Node(n));
            self.nodes[n].start(&mut self.net);
        }

        fn writes(&self, n: usize) -> Vec<Write> {
            self.nodes[n].history().iter().map(|entry| entry.write).collect()
        }
    }

    #[test]
    fn a_replica_copies_and_then_follows_the_stream() {
        let mut trial = Trial::new(2);
        let conn = trial.dial(0, Purpose::Commands);
        assert_eq!(trial.ask(conn, Ask::Set(1)), Value::ok());
        trial.run(2_000);
        assert!(trial.nodes[1].in_sync());
        trial.ask(conn, Ask::Set(2));
        trial.run(100);
        assert_eq!(trial.writes(1), [1, 2]);
        let info = trial.info(conn);
        assert!(info.contains("role:master\r\n"), "{info}");
        assert!(info.contains("slave0:ip=10.0.0.2,port=6379,state=online"), "{info}");
        let replica = trial.dial(1, Purpose::Commands);
        let info = trial.info(replica);
        assert!(info.contains("role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n"));
        assert!(info.contains("master_link_status:up\r\n"), "{info}");
        let refused = trial.ask(replica, Ask::Set(3));
        assert!(matches!(refused, Value::Error(e) if e.starts_with("READONLY")));
    }

    #[test]
    fn a_promotion_keeps_the_data_and_drops_everybody_elses_connections() {
        let mut trial = Trial::new(3);
        let conn = trial.dial(0, Purpose::Commands);
        trial.ask(conn, Ask::Set(1));
        trial.run(3_000);
        let (mine, other) = (trial.dial(1, Purpose::Commands), trial.dial(1, Purpose::Commands));
        let subscription = trial.dial(1, Purpose::Subscribe);
        let Value::Array(replies) = trial.command(mine, Command::Promote) else {
            panic!("no array")
        };
        assert_eq!(replies.len(), 7);
        let expected = [Value::ok(), Value::ok(), Value::Integer(1), Value::Integer(1)];
        assert_eq!(replies[5], Value::Array(expected.to_vec()));
        assert!(replies[6].text().is_some_and(|info| info.contains("role:master\r\n")));
        assert_eq!(trial.lost, [other, subscription]);
        assert_eq!(trial.writes(1), [1]);
        // The third node is told to follow, goes on, and gets what is written from then on.
        let third = trial.dial(2, Purpose::Commands);
        let master = trial.nodes[1].address.clone();
        trial.command(third, Command::Follow { master });
        trial.ask(mine, Ask::Set(2));
        trial.run(2_000);
        assert_eq!(trial.writes(2), [1, 2]);
    }

    #[test]
    fn a_replica_goes_on_where_it_can_and_copies_where_it_ran_ahead() {
        let mut trial = Trial::new(3);
        trial.run(3_000);
        let (old, new) = (trial.dial(0, Purpose::Commands), trial.dial(1, Purpose::Commands));
        trial.command(new, Command::Promote);
        // Node 2 still follows node 0 and so runs ahead of the point at which node 1 left.
        trial.ask(old, Ask::Set(1));
        trial.run(100);
        assert_eq!(trial.writes(2), [1]);
        assert!(!trial.nodes[1].can_continue(trial.nodes[2].replid, trial.nodes[2].offset));
        let (third, master) = (trial.dial(2, Purpose::Commands), trial.nodes[1].address.clone());
        trial.command(third, Command::Follow { master });
        trial.ask(new, Ask::Set(2));
        trial.run(3_000);
        assert_eq!(trial.writes(2), [2], "what node 1 does not have is wiped");
        // A short break costs no copy.
        let (replid, offset) = (trial.nodes[2].replid, trial.nodes[2].offset);
        trial.net.cut_between(Proc::Node(1), Proc::Node(2));
        trial.ask(new, Ask::Set(3));
        assert!(trial.nodes[1].can_continue(replid, offset));
        trial.run(3_000);
        assert_eq!(trial.writes(2), [2, 3]);
    }

    #[test]
    fn a_message_on_the_master_reaches_subscribers_of_its_replicas() {
        let mut trial = Trial::new(2);
        trial.run(3_000);
        let subscription = trial.dial(1, Purpose::Subscribe);
        let conn = trial.dial(0, Purpose::Commands);
        trial.command(conn, Command::Hello { payload: "x".into() });
        let heard = (subscription, Packet::Published("x".into()));
        assert!(trial.heard.contains(&heard), "{:?}", trial.heard);
    }

    #[test]
    fn a_node_that_rewrote_its_file_comes_back_in_the_role_it_had() {
        let mut trial = Trial::new(2);
        trial.run(3_000);
        let conn = trial.dial(1, Purpose::Commands);
        trial.command(conn, Command::Promote);
        let before = trial.nodes[1].run_id.clone();
        trial.restart(1);
        assert_eq!(trial.nodes[1].following(), None);
        assert_ne!(trial.nodes[1].run_id, before);
    }

    #[test]
    fn a_master_that_comes_back_empty_wipes_its_replica() {
        let mut trial = Trial::new(2);
        let conn = trial.dial(0, Purpose::Commands);
        trial.ask(conn, Ask::Set(1));
        trial.run(3_000);
        assert_eq!(trial.writes(1), [1]);
        trial.nodes[0].refit(Data::Empty, None);
        trial.restart(0);
        trial.run(4_000);
        assert!(trial.writes(1).is_empty());
    }

    #[test]
    fn a_loading_node_says_so_and_runs_no_transaction() {
        let mut trial = Trial::new(1);
        trial.nodes[0].loading_until = 10_000;
        let conn = trial.dial(0, Purpose::Commands);
        assert_eq!(trial.command(conn, Command::Ping), loading_error());
        let Value::Array(replies) = trial.command(conn, Command::Promote) else {
            panic!("no array")
        };
        assert!(matches!(&replies[5], Value::Error(e) if e.starts_with("EXECABORT")));
        assert!(replies[6].text().is_some_and(|info| info.contains("loading:1")));
    }

    #[test]
    fn a_replica_comes_back_to_a_master_that_restarted() {
        let mut trial = Trial::new(2);
        trial.run(3_000);
        trial.net.kill(Proc::Node(0));
        trial.run(2_500);
        assert!(!trial.nodes[1].in_sync());
        trial.net.start(Proc::Node(0));
        trial.nodes[0].start(&mut trial.net);
        trial.run(3_000);
        assert!(trial.nodes[1].in_sync());
    }

    #[test]
    fn ailments_show_in_what_a_node_answers() {
        let mut trial = Trial::new(1);
        let conn = trial.dial(0, Purpose::Commands);
        trial.nodes[0].ailment.error = Some("BUSY a script runs");
        assert_eq!(trial.command(conn, Command::Ping), Value::error("BUSY a script runs"));
        trial.command(conn, Command::ScriptKill);
        assert_eq!(trial.command(conn, Command::Ping), Value::Simple("PONG".into()));
        trial.nodes[0].ailment.boast = 1_000;
        assert!(trial.info(conn).contains("master_repl_offset:1001\r\n"));
        trial.nodes[0].ailment = Ailment { slow_ms: 500, ..Ailment::default() };
        trial.heard.clear();
        for n in 0..5 {
            trial.net.send(CLIENT, conn, Packet::Ask(Box::new(Ask::Set(n))));
        }
        trial.run(600);
        assert_eq!(trial.heard.len(), 5);
        assert_eq!(trial.writes(0), [0, 1, 2, 3, 4]);
    }
}
