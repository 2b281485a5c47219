//! All nodes together: who follows whom, what has been done to them, and what was counted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::node::{Asked, Node, Session, replication};
use crate::resp::{Protocol, Value, encode};

/// The address of the first node.
const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 0]);

/// Who plays.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    /// How many groups.
    pub groups: usize,
    /// Replicas of each.
    pub replicas: usize,
    /// The number of the first group: others are played by another process.
    pub first: usize,
    /// Of all nodes.
    pub port: u16,
}

impl Cast {
    /// Where node `k` of a group lives; `k` 0 is its first master.
    pub fn ip(&self, group: usize, k: usize) -> Ipv4Addr {
        let at = (self.first + group) * (self.replicas + 1) + k;
        Ipv4Addr::from(FIRST + u32::try_from(at).unwrap_or(u32::MAX))
    }
}

/// What happened to one group since the last fault.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    /// When a node of it was promoted first, in ms after the fault.
    promoted_ms: Option<u64>,
    /// How often that happened.
    promotions: u64,
    /// How many changes of its masters there have been; names its replication history.
    generation: u64,
}

pub(super) struct Stage {
    cast: Cast,
    nodes: Vec<Node>,
    fates: Vec<Fate>,
    fault: Instant,
    commands: BTreeMap<String, u64>,
    connections: u64,
    connected: u64,
}

impl Stage {
    pub(super) fn new(cast: Cast) -> Stage {
        let mut nodes = Vec::new();
        for group in 0..cast.groups {
            let master = (cast.ip(group, 0), cast.port);
            for k in 0..=cast.replicas {
                nodes.push(Node::new(cast.ip(group, k), (k > 0).then_some(master)));
            }
        }
        let fates = vec![Fate::default(); cast.groups];
        let (fault, commands) = (Instant::now(), BTreeMap::new());
        Stage { cast, nodes, fates, fault, commands, connections: 0, connected: 0 }
    }

    fn at(&self, ip: Ipv4Addr) -> Option<usize> {
        let first = self.cast.first * (self.cast.replicas + 1);
        let at = u32::from(ip).checked_sub(FIRST)? as usize;
        at.checked_sub(first).filter(|at| *at < self.nodes.len())
    }

    fn group_of(&self, node: usize) -> std::ops::Range<usize> {
        let size = self.cast.replicas + 1;
        let first = node / size * size;
        first..first + size
    }

    /// A connection to a node; `None` if there is no such node.
    pub(super) fn enter(&mut self, ip: Ipv4Addr, session: &Rc<Session>) -> Option<usize> {
        let at = self.at(ip)?;
        self.nodes[at].enter(session);
        self.connections += 1;
        self.connected += 1;
        Some(at)
    }

    pub(super) fn leave(&mut self, node: usize, session: &Rc<Session>) {
        self.nodes[node].leave(session);
        self.connected -= 1;
    }

    pub(super) fn is_hung(&self, node: usize) -> bool {
        self.nodes[node].hung
    }

    pub(super) fn answer(
        &mut self,
        node: usize,
        session: &Session,
        words: &[Bytes],
        out: &mut BytesMut,
    ) {
        let name = words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        let name = String::from_utf8_lossy(&name);
        match self.commands.get_mut(&*name) {
            Some(count) => *count += 1,
            None => drop(self.commands.insert(name.clone().into_owned(), 1)),
        }
        if name == "EXEC" {
            let reply = match Node::queued(session) {
                None => Value::error("ERR EXEC without MULTI"),
                Some(requests) => {
                    Value::Array(requests.iter().map(|r| self.perform(node, session, r)).collect())
                }
            };
            return session.reply(&reply, out);
        }
        let reply = self.perform(node, session, words);
        session.reply(&reply, out);
    }

    fn perform(&mut self, node: usize, session: &Session, words: &[Bytes]) -> Value {
        let port = self.cast.port;
        let told = words.first().is_some_and(|name| name.eq_ignore_ascii_case(b"INFO"));
        let text = if told { self.replication(node) } else { String::new() };
        match self.nodes[node].answer(session, words, |_| text.clone(), port) {
            Asked::Reply(reply) => reply,
            Asked::Follow(whom) => {
                self.follow(node, whom);
                Value::ok()
            }
        }
    }

    fn follow(&mut self, node: usize, whom: Option<(Ipv4Addr, u16)>) {
        let group = self.group_of(node).start / (self.cast.replicas + 1);
        if whom.is_none() && self.nodes[node].follows.is_some() {
            let fate = &mut self.fates[group];
            let after = u64::try_from(self.fault.elapsed().as_millis()).unwrap_or(u64::MAX);
            fate.promoted_ms.get_or_insert(after);
            fate.promotions += 1;
            fate.generation += 1;
        }
        self.nodes[node].follows = whom;
    }

    fn replication(&self, node: usize) -> String {
        let (me, port) = (&self.nodes[node], self.cast.port);
        let members = self.group_of(node);
        let group = members.start / (self.cast.replicas + 1);
        let follow_me =
            |at: &usize| self.nodes[*at].follows == Some((me.ip, port)) && !self.nodes[*at].hung;
        let replicas: Vec<Ipv4Addr> =
            members.filter(follow_me).map(|at| self.nodes[at].ip).collect();
        let up = me
            .follows
            .and_then(|(ip, _)| self.at(ip))
            .is_some_and(|at| !self.nodes[at].hung && self.nodes[at].follows.is_none());
        let generation = self.fates[group].generation;
        let history = |generation: u64| {
            format!("{:040x}", (u128::from(generation) << 64) + (1 << 120) + group as u128)
        };
        let before = match generation.checked_sub(1) {
            Some(before) => history(before),
            None => "0".repeat(40),
        };
        replication(me, &replicas, up, port, [&history(generation), &before])
    }

    /// What is said to the stage: `HANG n` freezes the present masters of the first `n` groups
    /// (`CLOSE n` ends all connections of theirs, too), `WELL` ends all that, `PROMOTED` tells for
    /// each group after how many ms of the last fault a node was promoted (-1: not yet) and how
    /// often, `COUNTS` how many connections stand and were made, how many nodes were asked for INFO
    /// over connections that stand, and how many commands came.
    pub(super) fn command(&mut self, words: &[Bytes], out: &mut BytesMut) {
        let word = |at: usize| words.get(at).and_then(|word| std::str::from_utf8(word).ok());
        let count = word(1).and_then(|n| n.parse().ok()).unwrap_or(self.cast.groups);
        let number = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
        let name = word(0).unwrap_or_default().to_ascii_uppercase();
        let reply = match name.as_str() {
            "PING" => Value::Simple("PONG".into()),
            "HANG" | "CLOSE" => {
                self.fates.iter_mut().for_each(|fate| {
                    *fate = Fate { generation: fate.generation, ..Fate::default() };
                });
                self.fault = Instant::now();
                let size = self.cast.replicas + 1;
                for node in self.nodes.iter_mut().take(count * size) {
                    if node.follows.is_none() {
                        node.hung = true;
                        if name == "CLOSE" {
                            node.close_all();
                        }
                    }
                }
                Value::ok()
            }
            "WELL" => {
                self.nodes.iter_mut().for_each(|node| node.hung = false);
                Value::ok()
            }
            "PROMOTED" => {
                let told = |fate: &Fate| {
                    let ms = fate.promoted_ms.map_or(Value::Integer(-1), number);
                    Value::Array(vec![ms, number(fate.promotions)])
                };
                Value::Array(self.fates.iter().map(told).collect())
            }
            "COUNTS" => {
                let informed = self.nodes.iter().filter(|node| node.has_informed()).count();
                let mut counts = vec![
                    (Value::bulk("connected"), number(self.connected)),
                    (Value::bulk("connections"), number(self.connections)),
                    (Value::bulk("informed"), number(informed as u64)),
                ];
                let commands = self.commands.iter();
                counts.extend(commands.map(|(name, n)| (Value::bulk(name), number(*n))));
                Value::Map(counts)
            }
            other => Value::error(format!("ERR unknown command '{other}'")),
        };
        encode(&reply, Protocol::Resp2, out);
    }
}
