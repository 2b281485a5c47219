//! One node as sentinels see it: its role, its INFO, and who is connected.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use super::End;
use crate::resp::{Protocol, Value, encode};

/// What redis-server 7.0.15 answers to INFO when it is empty.
const INFO: &str = include_str!("info.txt");

/// A connection to a node.
pub(super) struct Session {
    pub(super) stream: TcpStream,
    pub(super) ended: End,
    state: std::cell::RefCell<State>,
}

#[derive(Default)]
struct State {
    resp3: bool,
    subscribed: bool,
    /// Has asked for INFO.
    informed: bool,
    /// Requests since MULTI.
    queued: Option<Vec<Vec<Bytes>>>,
}

impl Session {
    pub(super) fn new(stream: TcpStream) -> Session {
        Session { stream, ended: End::new(), state: Default::default() }
    }

    fn protocol(&self) -> Protocol {
        if self.state.borrow().resp3 { Protocol::Resp3 } else { Protocol::Resp2 }
    }

    pub(super) fn reply(&self, value: &Value, out: &mut BytesMut) {
        encode(value, self.protocol(), out);
    }

    /// Delivers a message at once, or ends a connection that takes none.
    fn push(&self, items: [Value; 3]) {
        let mut bytes = BytesMut::new();
        self.reply(&Value::Push(items.into()), &mut bytes);
        if self.stream.try_write(&bytes).ok() != Some(bytes.len()) {
            self.ended.cancel();
        }
    }
}

/// What a command asks of the whole stage.
pub(super) enum Asked {
    Reply(Value),
    /// SLAVEOF: `None` is NO ONE.
    Follow(Option<(Ipv4Addr, u16)>),
}

pub(super) struct Node {
    pub(super) ip: Ipv4Addr,
    run_id: String,
    /// `None`: a master.
    pub(super) follows: Option<(Ipv4Addr, u16)>,
    /// Reads and never answers.
    pub(super) hung: bool,
    sessions: Vec<Weak<Session>>,
}

impl Node {
    pub(super) fn new(ip: Ipv4Addr, follows: Option<(Ipv4Addr, u16)>) -> Node {
        let run_id = format!("{:040x}", u128::from(u32::from(ip)) + (1 << 100));
        Node { ip, run_id, follows, hung: false, sessions: Vec::new() }
    }

    pub(super) fn enter(&mut self, session: &Rc<Session>) {
        self.sessions.retain(|session| session.strong_count() > 0);
        self.sessions.push(Rc::downgrade(session));
    }

    pub(super) fn leave(&mut self, session: &Rc<Session>) {
        self.sessions.retain(|other| !std::ptr::eq(other.as_ptr(), Rc::as_ptr(session)));
    }

    pub(super) fn close_all(&self) {
        self.sessions.iter().filter_map(Weak::upgrade).for_each(|session| session.ended.cancel());
    }

    /// Whether somebody who is connected now has seen its INFO.
    pub(super) fn has_informed(&self) -> bool {
        let mut sessions = self.sessions.iter().filter_map(Weak::upgrade);
        sessions.any(|session| session.state.borrow().informed)
    }

    /// Answers one request, or queues it; what concerns others is handed back.
    pub(super) fn answer(
        &mut self,
        session: &Session,
        words: &[Bytes],
        replication: impl Fn(&Node) -> String,
        port: u16,
    ) -> Asked {
        let name = words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        let name = std::str::from_utf8(&name).unwrap_or_default();
        {
            let mut state = session.state.borrow_mut();
            if let Some(queued) = &mut state.queued
                && !["EXEC", "DISCARD"].contains(&name)
            {
                queued.push(words.to_vec());
                return Asked::Reply(Value::Simple("QUEUED".into()));
            }
        }
        let word = |at: usize| words.get(at).and_then(|word| std::str::from_utf8(word).ok());
        let is = |at: usize, text: &str| word(at).is_some_and(|w| w.eq_ignore_ascii_case(text));
        let reply = match name {
            "PING" => match session.state.borrow().subscribed && !session.state.borrow().resp3 {
                true => Value::Array(vec![Value::bulk("pong"), Value::bulk("")]),
                false => Value::Simple("PONG".into()),
            },
            "INFO" => {
                session.state.borrow_mut().informed = true;
                let mut text = INFO.replace("{run_id}", &self.run_id);
                text = text.replace("{port}", &port.to_string());
                text = text.replace("{replication}", &replication(self));
                Value::bulk(text.replace('\n', "\r\n"))
            }
            "HELLO" => {
                let resp3 = is(1, "3");
                session.state.borrow_mut().resp3 = resp3;
                let pair = |key: &str, value: Value| (Value::bulk(key), value);
                Value::Map(vec![
                    pair("server", Value::bulk("redis")),
                    pair("version", Value::bulk("7.0.15")),
                    pair("proto", Value::Integer(if resp3 { 3 } else { 2 })),
                    pair("id", Value::Integer(1)),
                    pair("mode", Value::bulk("standalone")),
                    pair("role", Value::bulk(self.role())),
                    pair("modules", Value::Array(Vec::new())),
                ])
            }
            "ROLE" => Value::Array(vec![Value::bulk(self.role())]),
            "PUBLISH" => Value::Integer(self.publish(words)),
            "SUBSCRIBE" => {
                session.state.borrow_mut().subscribed = true;
                let channel = word(1).unwrap_or_default();
                let items = [Value::bulk("subscribe"), Value::bulk(channel), Value::Integer(1)];
                Value::Push(items.into())
            }
            "MULTI" => {
                session.state.borrow_mut().queued = Some(Vec::new());
                Value::ok()
            }
            "SLAVEOF" | "REPLICAOF" => {
                return match (is(1, "NO"), word(1), word(2)) {
                    (true, ..) => Asked::Follow(None),
                    (_, Some(ip), Some(port)) => match (ip.parse(), port.parse()) {
                        (Ok(ip), Ok(port)) => Asked::Follow(Some((ip, port))),
                        _ => Asked::Reply(Value::error("ERR Invalid master port")),
                    },
                    _ => Asked::Reply(Value::error("ERR wrong number of arguments")),
                };
            }
            "CLIENT" if is(1, "KILL") => {
                let pubsub = is(3, "pubsub");
                let mut killed = 0;
                for other in self.sessions.iter().filter_map(Weak::upgrade) {
                    let is_pubsub = other.state.borrow().subscribed;
                    if is_pubsub == pubsub && !std::ptr::eq(Rc::as_ptr(&other), session) {
                        other.ended.cancel();
                        killed += 1;
                    }
                }
                Value::Integer(killed)
            }
            "SET" if self.follows.is_some() => {
                Value::error("READONLY You can't write against a read only replica.")
            }
            "AUTH" | "CLIENT" | "CONFIG" | "SET" => Value::ok(),
            "SCRIPT" => Value::error("NOTBUSY No scripts in execution right now."),
            name => {
                Value::error(format!("ERR unknown command '{name}', with args beginning with: "))
            }
        };
        Asked::Reply(reply)
    }

    /// The requests of a transaction, which ends with that.
    pub(super) fn queued(session: &Session) -> Option<Vec<Vec<Bytes>>> {
        session.state.borrow_mut().queued.take()
    }

    fn publish(&self, words: &[Bytes]) -> i64 {
        let [_, channel, payload] = words else { return 0 };
        let mut heard = 0;
        for session in self.sessions.iter().filter_map(Weak::upgrade) {
            if session.state.borrow().subscribed {
                session.push([
                    Value::bulk("message"),
                    Value::Bulk(channel.clone()),
                    Value::Bulk(payload.clone()),
                ]);
                heard += 1;
            }
        }
        heard
    }

    fn role(&self) -> &'static str {
        if self.follows.is_some() { "slave" } else { "master" }
    }
}

/// The section `Replication` of INFO; `replicas` are a master's, `up` is a replica's link.
pub(super) fn replication(
    node: &Node,
    replicas: &[Ipv4Addr],
    up: bool,
    port: u16,
    histories: [&str; 2],
) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(line);
        text.push('\n');
    };
    match node.follows {
        None => {
            line(format_args!("role:master"));
            line(format_args!("connected_slaves:{}", replicas.len()));
            for (at, ip) in replicas.iter().enumerate() {
                line(format_args!("slave{at}:ip={ip},port={port},state=online,offset=1000,lag=0"));
            }
        }
        Some((ip, port)) => {
            line(format_args!("role:slave\nmaster_host:{ip}\nmaster_port:{port}"));
            let status = if up { "up" } else { "down" };
            line(format_args!("master_link_status:{status}\nmaster_last_io_seconds_ago:0"));
            line(format_args!("master_sync_in_progress:0\nslave_read_repl_offset:1000"));
            line(format_args!("slave_repl_offset:1000"));
            if !up {
                line(format_args!("master_link_down_since_seconds:1"));
            }
            line(format_args!("slave_priority:100\nslave_read_only:1\nreplica_announced:1"));
            line(format_args!("connected_slaves:0"));
        }
    }
    let [now, before] = histories;
    line(format_args!("master_failover_state:no-failover"));
    line(format_args!("master_replid:{now}\nmaster_replid2:{before}"));
    line(format_args!("master_repl_offset:1000\nsecond_repl_offset:-1\nrepl_backlog_active:1"));
    line(format_args!("repl_backlog_size:1048576\nrepl_backlog_first_byte_offset:1"));
    line(format_args!("repl_backlog_histlen:1000"));
    text
}
