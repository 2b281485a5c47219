//! A model of a Redis node, as far as sentinels, replicas and writing clients can see it: roles, a
//! history of writes, full copies, the hello channel, the transactions of a failover, restarts.

use std::collections::BTreeMap;

use super::dice::Dice;
use super::net::{Change, ConnId, Ms, Net, News, Packet, Proc, Purpose, Timer, Words, Write};
use crate::resp::Value;
use crate::sentinel::hello::CHANNEL;
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
    pub(super) address: Address,
    shape: NodeShape,
    dice: Dice,
    run_id: RunId,
    started_at: Ms,
    loading_until: Ms,
    following: Option<Address>,
    /// What its file says about that.
    filed: Option<Address>,
    /// All writes in the order in which they were made; survives a restart.
    history: Vec<Write>,
    offset: u64,
    upstream: Upstream,
    /// Since when the link to the master is down; `None` while up or if it never was.
    down_since: Option<Ms>,
    sessions: BTreeMap<ConnId, Session>,
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
        Node {
            proc,
            address,
            shape,
            run_id: dice.run_id(),
            dice,
            started_at: 0,
            loading_until: 0,
            following: master.clone(),
            filed: master,
            history: Vec::new(),
            offset: 1,
            upstream: Upstream::None,
            down_since: None,
            sessions: BTreeMap::new(),
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

    pub(super) fn history(&self) -> &[Write] {
        &self.history
    }

    fn loading(&self, net: &Net) -> bool {
        net.now() < self.loading_until
    }

    /// Begins a life, with the data of the last one.
    pub(super) fn start(&mut self, net: &mut Net) {
        self.run_id = self.dice.run_id();
        self.started_at = net.now();
        self.loading_until = net.now() + self.dice.skewed(0..=self.shape.loading_ms);
        self.following = self.filed.clone();
        self.upstream = Upstream::None;
        self.down_since = None;
        self.sessions.clear();
        net.timer(self.proc, self.dice.below(CRON_MS), Timer::Tick);
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
            News::Timer(_) => {}
        }
    }

    fn packet(&mut self, net: &mut Net, conn: ConnId, packet: Packet) {
        match packet {
            Packet::Greet(purpose) => self.greet(net, conn, purpose),
            Packet::Requests(requests) => {
                let replies = self.serve(net, conn, &requests);
                net.send(self.proc, conn, Packet::Replies(replies));
            }
            Packet::Greeted if self.upstream == Upstream::Connecting(conn) => {
                self.upstream = Upstream::Copying(conn);
            }
            Packet::Copy { history, offset } if self.upstream.conn() == Some(conn) => {
                self.drop_replicas(net);
                self.history = history;
                self.offset = offset;
                self.upstream = Upstream::Up { conn, heard_at: net.now() };
                self.down_since = None;
            }
            Packet::Stream { change, offset } if self.upstream.conn() == Some(conn) => {
                self.upstream = Upstream::Up { conn, heard_at: net.now() };
                self.apply(net, change, offset);
            }
            _ => {}
        }
    }

    fn greet(&mut self, net: &mut Net, conn: ConnId, purpose: Purpose) {
        let session = match purpose {
            Purpose::Commands => Session::Commands,
            Purpose::Subscribe => Session::Subscriber,
            Purpose::Replicate(address) => {
                // -LOADING or -NOMASTERLINK: the replica tries again.
                let without_data = self.following.is_some() && !self.in_sync();
                if self.loading(net) || without_data {
                    net.close(self.proc, conn);
                    return;
                }
                let after = self.dice.skewed(1..=self.shape.copy_ms);
                net.timer(self.proc, after, Timer::CopyReady { conn });
                Session::Replica { address, online: false }
            }
        };
        self.sessions.insert(conn, session);
        net.send(self.proc, conn, Packet::Greeted);
    }

    fn send_copy(&mut self, net: &mut Net, conn: ConnId) {
        if let Some(Session::Replica { online, .. }) = self.sessions.get_mut(&conn) {
            *online = true;
            let (history, offset) = (self.history.clone(), self.offset);
            net.send(self.proc, conn, Packet::Copy { history, offset });
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
        let purpose = Purpose::Replicate(self.address.clone());
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
        match &change {
            Change::Write(write) => self.history.push(*write),
            Change::Publish(payload) => self.publish(net, payload),
            Change::Ping => {}
        }
        for (conn, session) in &self.sessions {
            if matches!(session, Session::Replica { online: true, .. }) {
                let packet = Packet::Stream { change: change.clone(), offset };
                net.send(self.proc, *conn, packet);
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

    fn serve(&mut self, net: &mut Net, conn: ConnId, requests: &[Words]) -> Vec<Value> {
        let mut queued: Option<Vec<Words>> = None;
        let mut spoiled = false;
        let mut replies = Vec::new();
        for request in requests {
            let words: Vec<&str> = request.iter().map(String::as_str).collect();
            let reply = match (&mut queued, &words[..]) {
                (None, ["MULTI"]) => {
                    queued = Some(Vec::new());
                    Value::ok()
                }
                (Some(_), ["EXEC"]) => {
                    let all = queued.take().unwrap_or_default();
                    if std::mem::take(&mut spoiled) {
                        Value::error("EXECABORT Transaction discarded because of previous errors.")
                    } else {
                        Value::Array(all.iter().map(|r| self.execute(net, conn, r)).collect())
                    }
                }
                (Some(_), words) if self.loading(net) && !runs_while_loading(words) => {
                    spoiled = true;
                    loading_error()
                }
                (Some(queue), _) => {
                    queue.push(request.clone());
                    Value::Simple("QUEUED".into())
                }
                (None, _) => self.execute(net, conn, request),
            };
            replies.push(reply);
        }
        replies
    }

    fn execute(&mut self, net: &mut Net, conn: ConnId, request: &Words) -> Value {
        let words: Vec<&str> = request.iter().map(String::as_str).collect();
        if self.loading(net) && !runs_while_loading(&words) {
            return loading_error();
        }
        match &words[..] {
            ["PING"] => Value::Simple("PONG".into()),
            ["INFO"] => Value::bulk(self.info(net)),
            ["PUBLISH", CHANNEL, payload] => {
                // A master's messages reach the subscribers of its replicas too.
                let change = Change::Publish((*payload).to_owned());
                match self.following {
                    None => self.propagate(net, change, 60 + payload.len() as u64),
                    Some(_) => self.publish(net, payload),
                }
                Value::Integer(1)
            }
            ["SLAVEOF", "NO", "ONE"] => self.become_master(net),
            ["SLAVEOF", host, port] => match port.parse() {
                Ok(port) => self.follow(net, Address::new(*host, port)),
                Err(_) => Value::error("ERR Invalid master port"),
            },
            ["CONFIG", "REWRITE"] if self.shape.rewrites => {
                self.filed = self.following.clone();
                Value::ok()
            }
            ["CONFIG", "REWRITE"] => {
                Value::error("ERR The server is running without a config file")
            }
            ["CLIENT", "KILL", "TYPE", kind] => self.kill_clients(net, conn, kind),
            ["SET", write] => self.write(net, write),
            _ => Value::error(format!("ERR unknown command '{}'", words.join(" "))),
        }
    }

    fn become_master(&mut self, net: &mut Net) -> Value {
        if self.following.take().is_some() {
            self.leave_master(net);
            self.drop_replicas(net);
            self.down_since = None;
        }
        Value::ok()
    }

    fn follow(&mut self, net: &mut Net, master: Address) -> Value {
        if self.following.as_ref() == Some(&master) {
            return Value::Simple("OK Already connected to specified master".into());
        }
        self.leave_master(net);
        self.drop_replicas(net);
        self.down_since = None;
        self.dial_master(net, &master);
        self.following = Some(master);
        Value::ok()
    }

    /// The one who asks is spared, unless he listens on a connection of the other kind.
    fn kill_clients(&mut self, net: &mut Net, asker: ConnId, kind: &str) -> Value {
        let victim = match kind {
            "normal" => Session::Commands,
            "pubsub" => Session::Subscriber,
            _ => return Value::error(format!("ERR Unknown client type '{kind}'")),
        };
        let own = self.sessions.remove(&asker);
        let before = self.sessions.len();
        self.drop_sessions(net, |session| *session == victim);
        let killed = before - self.sessions.len();
        if let Some(own) = own {
            self.sessions.insert(asker, own);
        }
        Value::Integer(killed as i64)
    }

    fn write(&mut self, net: &mut Net, write: &str) -> Value {
        let Ok(write) = write.parse() else { return Value::error("ERR syntax error") };
        if self.following.is_some() {
            return Value::error("READONLY You can't write against a read only replica.");
        }
        self.propagate(net, Change::Write(write), 40);
        Value::ok()
    }

    /// INFO as Redis 7.0 prints it, as far as a sentinel or a person looks at it.
    fn info(&self, net: &Net) -> String {
        let mut text = format!(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:{}\r\n\
             tcp_port:{}\r\nuptime_in_seconds:{}\r\n\r\n# Persistence\r\nloading:{}\r\n\r\n\
             # Replication\r\n",
            self.run_id,
            self.address.port,
            (net.now() - self.started_at) / 1_000,
            u8::from(self.loading(net)),
        );
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            text += &format!("{name}:{value}\r\n");
        };
        match &self.following {
            None => line("role", &"master"),
            Some(master) => {
                let (up, heard) = match self.upstream {
                    Upstream::Up { heard_at, .. } => (true, (net.now() - heard_at) as i64 / 1_000),
                    _ => (false, -1),
                };
                line("role", &"slave");
                line("master_host", &master.host);
                line("master_port", &master.port);
                line("master_link_status", if up { &"up" } else { &"down" });
                line("master_last_io_seconds_ago", &heard);
                let copying = matches!(self.upstream, Upstream::Copying(_));
                line("master_sync_in_progress", &u8::from(copying));
                line("slave_read_repl_offset", &self.offset);
                line("slave_repl_offset", &self.offset);
                if !up {
                    let since = self.down_since.map_or(-1, |at| (net.now() - at) as i64 / 1_000);
                    line("master_link_down_since_seconds", &since);
                }
                line("slave_priority", &100);
                line("slave_read_only", &1);
                line("replica_announced", &1);
            }
        }
        let replicas: Vec<(&Address, bool)> = self
            .sessions
            .values()
            .filter_map(|session| match session {
                Session::Replica { address, online } => Some((address, *online)),
                _ => None,
            })
            .collect();
        line("connected_slaves", &replicas.len());
        for (n, (address, online)) in replicas.iter().enumerate() {
            let state = if *online { "online" } else { "send_bulk" };
            let value = format!(
                "ip={},port={},state={state},offset={},lag=0",
                address.host, address.port, self.offset
            );
            line(&format!("slave{n}"), &value);
        }
        line("master_failover_state", &"no-failover");
        line("master_repl_offset", &self.offset);
        text
    }
}

/// Redis answers these from its first moment.
fn runs_while_loading(words: &[&str]) -> bool {
    matches!(words.first(), Some(&("INFO" | "PUBLISH" | "MULTI" | "EXEC" | "CLIENT" | "CONFIG")))
}

fn loading_error() -> Value {
    Value::error("LOADING Redis is loading the dataset in memory")
}

#[cfg(test)]
mod tests {
    use super::super::net::{Happening, NetShape, ip_of};
    use super::*;
    use crate::sentinel::Command;

    const CLIENT: Proc = Proc::Client(0);

    /// Nodes that follow the first one, and a client that talks to them.
    struct Pair {
        net: Net,
        nodes: Vec<Node>,
        heard: Vec<(ConnId, Packet)>,
        lost: Vec<ConnId>,
    }

    impl Pair {
        fn new(nodes: usize) -> Pair {
            let shape = NetShape { jitter_ms: 2, patience_ms: 10_000 };
            let mut net = Net::new(shape, Dice::new(1, "net"));
            net.add(CLIENT, 9, None);
            net.start(CLIENT);
            let address = |n: usize| Address::new(ip_of(n), 6379);
            let shape =
                NodeShape { rewrites: true, loading_ms: 1, copy_ms: 50, silence_ms: 60_000 };
            let nodes = (0..nodes)
                .map(|n| {
                    let (proc, master) = (Proc::Node(n), (n > 0).then(|| address(0)));
                    net.add(proc, n, Some(address(n)));
                    net.start(proc);
                    let dice = Dice::new(n as u64, "node");
                    let mut node = Node::new(proc, address(n), master, shape.clone(), dice);
                    node.start(&mut net);
                    node
                })
                .collect();
            Pair { net, nodes, heard: Vec::new(), lost: Vec::new() }
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

        fn ask(&mut self, conn: ConnId, requests: Vec<Words>) -> Vec<Value> {
            self.heard.clear();
            self.net.send(CLIENT, conn, Packet::Requests(requests));
            self.run(50);
            let replies = self.heard.iter().find_map(|(c, packet)| match packet {
                Packet::Replies(replies) if *c == conn => Some(replies.clone()),
                _ => None,
            });
            replies.expect("the node answers")
        }

        fn say(&mut self, conn: ConnId, text: &str) -> Value {
            let words = text.split(' ').map(str::to_owned).collect();
            self.ask(conn, vec![words]).remove(0)
        }
    }

    fn requests(command: &Command) -> Vec<Words> {
        command.requests(&BTreeMap::new())
    }

    #[test]
    fn a_replica_copies_and_then_follows_the_stream() {
        let mut world = Pair::new(2);
        let conn = world.dial(0, Purpose::Commands);
        assert_eq!(world.say(conn, "SET 1"), Value::ok());
        world.run(2_000);
        assert!(world.nodes[1].in_sync());
        world.say(conn, "SET 2");
        world.run(100);
        assert_eq!(world.nodes[1].history(), [1, 2]);
        let info = world.say(conn, "INFO").text().unwrap_or_default().to_owned();
        assert!(info.contains("role:master\r\n"), "{info}");
        assert!(info.contains("slave0:ip=10.0.0.2,port=6379,state=online"), "{info}");
        let replica = world.dial(1, Purpose::Commands);
        let info = world.say(replica, "INFO").text().unwrap_or_default().to_owned();
        assert!(info.contains("role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n"));
        assert!(info.contains("master_link_status:up\r\n"), "{info}");
        let refused = world.say(replica, "SET 3");
        assert!(matches!(refused, Value::Error(e) if e.starts_with("READONLY")));
    }

    #[test]
    fn a_promotion_keeps_the_data_and_drops_everybody_elses_connections() {
        let mut world = Pair::new(3);
        let conn = world.dial(0, Purpose::Commands);
        world.say(conn, "SET 1");
        world.run(3_000);
        let (mine, other) = (world.dial(1, Purpose::Commands), world.dial(1, Purpose::Commands));
        let subscription = world.dial(1, Purpose::Subscribe);
        let replies = world.ask(mine, requests(&Command::Promote));
        assert_eq!(replies.len(), 7);
        assert_eq!(replies[1], Value::Simple("QUEUED".into()));
        let expected = [Value::ok(), Value::ok(), Value::Integer(1), Value::Integer(1)];
        assert_eq!(replies[5], Value::Array(expected.to_vec()));
        assert!(replies[6].text().is_some_and(|info| info.contains("role:master\r\n")));
        assert_eq!(world.lost, [other, subscription]);
        assert_eq!(world.nodes[1].history(), [1]);
        // The third node is told to follow, copies, and gets what is written from then on.
        let third = world.dial(2, Purpose::Commands);
        let master = world.nodes[1].address.clone();
        world.ask(third, requests(&Command::Follow { master }));
        world.say(mine, "SET 2");
        world.run(2_000);
        assert_eq!(world.nodes[2].history(), [1, 2]);
    }

    #[test]
    fn a_message_on_the_master_reaches_subscribers_of_its_replicas() {
        let mut world = Pair::new(2);
        world.run(3_000);
        let subscription = world.dial(1, Purpose::Subscribe);
        let conn = world.dial(0, Purpose::Commands);
        world.say(conn, "PUBLISH __sentinel__:hello x");
        let heard = (subscription, Packet::Published("x".into()));
        assert!(world.heard.contains(&heard), "{:?}", world.heard);
    }

    #[test]
    fn a_node_that_rewrote_its_file_comes_back_in_the_role_it_had() {
        let mut world = Pair::new(2);
        world.run(3_000);
        let conn = world.dial(1, Purpose::Commands);
        world.ask(conn, requests(&Command::Promote));
        let before = world.nodes[1].run_id.clone();
        world.net.kill(Proc::Node(1));
        world.net.start(Proc::Node(1));
        world.nodes[1].start(&mut world.net);
        assert_eq!(world.nodes[1].following(), None);
        assert_ne!(world.nodes[1].run_id, before);
    }

    #[test]
    fn a_loading_node_says_so_and_runs_no_transaction() {
        let mut world = Pair::new(1);
        world.nodes[0].loading_until = 10_000;
        let conn = world.dial(0, Purpose::Commands);
        assert_eq!(world.say(conn, "PING"), loading_error());
        let replies = world.ask(conn, requests(&Command::Promote));
        assert!(matches!(&replies[5], Value::Error(e) if e.starts_with("EXECABORT")));
        assert!(replies[6].text().is_some_and(|info| info.contains("loading:1")));
    }

    #[test]
    fn a_replica_comes_back_to_a_master_that_restarted() {
        let mut world = Pair::new(2);
        world.run(3_000);
        world.net.kill(Proc::Node(0));
        world.run(2_500);
        assert!(!world.nodes[1].in_sync());
        world.net.start(Proc::Node(0));
        world.nodes[0].start(&mut world.net);
        world.run(3_000);
        assert!(world.nodes[1].in_sync());
    }
}
