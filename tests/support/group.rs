//! A whole group: a master, its replicas, the sentinels that watch it, and a recorder of what they
//! say.

use std::path::Path;
use std::time::Instant;

use super::client::Reply;
use super::events::Recorder;
use super::node::{Node, Nodes};
use super::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use super::slots::{self, Slot};
use super::wait::{wait_for, wait_until};

/// What a group is made of. Starts as one master, two replicas, three sentinels of quorum 2, down
/// after 1 s.
pub struct Plan {
    nodes: Nodes,
    replicas: Vec<Vec<&'static str>>,
    programs: Vec<Program>,
    syntax: Syntax,
    quorum: u32,
    down_after_ms: u64,
    failover_timeout_ms: u64,
    more: fn(&Path) -> String,
    alone: bool,
    node_lines: Vec<&'static str>,
}

impl Plan {
    /// The usual group over one kind of nodes.
    pub fn over(nodes: Nodes) -> Plan {
        Plan {
            nodes,
            replicas: vec![vec![]; 2],
            programs: vec![Program::under_test(); 3],
            syntax: Syntax::Conf,
            quorum: 2,
            down_after_ms: 1_000,
            failover_timeout_ms: 6_000,
            more: |_| String::new(),
            alone: false,
            node_lines: vec![],
        }
    }

    /// The replicas, each with lines for its redis.conf.
    pub fn replicas(mut self, replicas: &[&[&'static str]]) -> Plan {
        self.replicas = replicas.iter().map(|lines| lines.to_vec()).collect();
        self
    }

    /// The sentinels, each by the program that plays it.
    pub fn sentinels(mut self, programs: &[Program]) -> Plan {
        self.programs = programs.to_vec();
        self
    }

    /// The syntax of the sentinels' files.
    pub fn syntax(mut self, syntax: Syntax) -> Plan {
        self.syntax = syntax;
        self
    }

    /// `down-after-milliseconds`.
    pub fn down_after_ms(mut self, down_after_ms: u64) -> Plan {
        self.down_after_ms = down_after_ms;
        self
    }

    /// `failover-timeout`, in ms.
    pub fn failover_timeout_ms(mut self, failover_timeout_ms: u64) -> Plan {
        self.failover_timeout_ms = failover_timeout_ms;
        self
    }

    /// More lines for each sentinel's file, made from its folder.
    pub fn more(mut self, more: fn(&Path) -> String) -> Plan {
        self.more = more;
        self
    }

    /// Votes for ODOWN.
    pub fn quorum(mut self, quorum: u32) -> Plan {
        self.quorum = quorum;
        self
    }

    /// A master sends its data at once, where Redis waits 5 s for more replicas that want it.
    pub fn quick_syncs(mut self) -> Plan {
        self.node_lines.push("repl-diskless-sync-delay 0");
        self
    }

    /// No other story runs meanwhile: for heavy load and for measured times.
    pub fn alone(mut self) -> Plan {
        self.alone = true;
        self
    }

    /// Starts everything, and waits until replicas follow and every sentinel knows everybody.
    pub fn start(self) -> Group {
        let slot = if self.alone { slots::all() } else { slots::one() };
        let master = Node::start(self.nodes, &self.node_lines);
        let watch = Watch {
            master: master.port,
            quorum: self.quorum,
            down_after_ms: self.down_after_ms,
            failover_timeout_ms: self.failover_timeout_ms,
        };
        let mut nodes = vec![master];
        for lines in &self.replicas {
            let lines = [&self.node_lines[..], lines].concat();
            nodes.push(Node::replica_of(self.nodes, watch.master, &lines));
        }
        wait_until(20, "every replica follows the master", || {
            nodes[1..].iter().all(|n| n.follows(watch.master))
        });
        let start = |program: &Program| {
            let text = |port, dir: &Path| watch.config(self.syntax, port, dir) + &(self.more)(dir);
            Sentinel::start_with(*program, self.syntax.file_name(), text)
        };
        let sentinels: Vec<Sentinel> = self.programs.iter().map(start).collect();
        let ports: Vec<u16> = sentinels.iter().map(|s| s.port).collect();
        let events = Recorder::start(&ports);
        let group = Group { nodes, sentinels, events, watch, _slot: slot };
        group.wait_until_known();
        group
    }
}

/// A running group. Everything ends when it is dropped.
pub struct Group {
    /// The nodes; the first one began as master.
    pub nodes: Vec<Node>,
    /// The sentinels.
    pub sentinels: Vec<Sentinel>,
    /// What the sentinels announced.
    pub events: Recorder,
    /// What the sentinels were told.
    pub watch: Watch,
    _slot: Slot,
}

impl Group {
    /// Waits until every sentinel sees all nodes and all other sentinels, and nobody down; and has
    /// heard of every replica that its link is up, which Redis's sentinel asks every 10 s.
    #[track_caller]
    pub fn wait_until_known(&self) {
        wait_until(30, "every sentinel knows every replica and every other sentinel", || {
            let knows = |s| self.is_seen_by(s) && all_replicas(s, "master-link-status", "ok");
            self.sentinels.iter().all(knows)
        });
    }

    /// Waits until every sentinel sees all nodes and all other sentinels, and nobody down.
    #[track_caller]
    pub fn wait_until_seen(&self) {
        wait_until(30, "every sentinel sees every replica and every other sentinel", || {
            self.sentinels.iter().all(|s| self.is_seen_by(s))
        });
    }

    fn is_seen_by(&self, sentinel: &Sentinel) -> bool {
        let (replicas, others) = (self.nodes.len() - 1, self.sentinels.len() - 1);
        sentinel.master("num-slaves") == Some(replicas.to_string())
            && sentinel.master("num-other-sentinels") == Some(others.to_string())
            && sentinel.master("flags").as_deref() == Some("master")
            && all_replicas(sentinel, "flags", "slave")
            && sentinel.call(&["SENTINEL", "CKQUORUM", GROUP]).text().starts_with("OK")
    }

    /// The node on a port.
    #[track_caller]
    pub fn node(&mut self, port: u16) -> &mut Node {
        self.nodes.iter_mut().find(|n| n.port == port).expect("a node of this group")
    }

    /// Ports of the sentinels.
    pub fn sentinel_ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(|s| s.port).collect()
    }

    /// The master that all running sentinels name, if they name the same.
    pub fn agreed_master(&mut self) -> Option<u16> {
        let mut named = Vec::new();
        for sentinel in &mut self.sentinels {
            if sentinel.process().exit().is_none() {
                named.push(sentinel.master_port()?);
            }
        }
        named.dedup();
        (named.len() == 1).then(|| named[0])
    }

    /// Waits until all running sentinels name one master that is not `old` and says so itself.
    #[track_caller]
    pub fn wait_for_new_master(&mut self, old: u16, seconds: u64) -> u16 {
        wait_for(seconds, "all sentinels name one new master", || {
            let new = self.agreed_master().filter(|new| *new != old)?;
            let role = self.node(new).replication("role");
            (role.as_deref() == Some("master")).then_some(new)
        })
    }

    /// Waits until each node of `ports` follows `master`.
    #[track_caller]
    pub fn wait_until_they_follow(&self, master: u16, ports: &[u16], seconds: u64) {
        wait_until(seconds, &format!("nodes {ports:?} follow {master}"), || {
            self.nodes.iter().filter(|n| ports.contains(&n.port)).all(|n| n.follows(master))
        });
    }

    /// Ports of all nodes but `one`.
    pub fn ports_but(&self, one: u16) -> Vec<u16> {
        self.nodes.iter().map(|n| n.port).filter(|port| *port != one).collect()
    }

    /// The first time since `since` at which a sentinel announced `event` with `part` in its
    /// payload, in ms after `since`.
    pub fn ms_until(&self, since: Instant, event: &str, part: &str) -> Option<u128> {
        let heard = self.events.since(since, event);
        heard.iter().find(|h| h.text.contains(part)).map(|h| (h.at - since).as_millis())
    }
}

/// Whether a field of every replica has this value, as a sentinel sees it.
fn all_replicas(sentinel: &Sentinel, field: &str, value: &str) -> bool {
    let replicas = sentinel.call(&["SENTINEL", "REPLICAS", GROUP]);
    replicas.items().iter().all(|r: &Reply| r.field(field).as_deref() == Some(value))
}
