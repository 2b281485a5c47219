//! What a model node answers to sentinels and clients.

use super::{Node, Session};
use crate::resp::Value;
use crate::sentinel::Command;
use crate::sentinel::types::Address;
use crate::sim::net::Net;
use crate::sim::wire::{Ask, Change, ConnId, Ms, Packet, Timer, Write};

impl Node {
    pub(super) fn answer(&mut self, net: &mut Net, conn: ConnId, ask: Ask) {
        if self.ailment.hung {
            return;
        }
        if self.is_held(conn) || self.holds_writes(net.now()) && self.may_replicate(&ask) {
            self.held.push_back((conn, ask));
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
            Ask::Command(Command::HoldWrites { ms, .. }) => {
                let done = self.hold_writes(net, ms);
                Value::Array(vec![done, Value::bulk(self.info(net))])
            }
            Ask::Command(Command::FreeWrites) => {
                self.held_until = 0;
                // Those that wait go on after this.
                net.timer(self.proc, 0, Timer::Unpause);
                Value::ok()
            }
            Ask::Command(Command::Promote) => self.transaction(net, conn, None),
            Ask::Command(Command::Follow { master }) => self.transaction(net, conn, Some(master)),
            _ if loading => loading_error(),
            Ask::Command(Command::ScriptKill) => Value::error("NOTBUSY No scripts in execution"),
            Ask::Command(Command::Ping) if self.is_stale() && !self.shape.serves_stale => {
                Value::error(MASTERDOWN)
            }
            Ask::Command(Command::Ping) => Value::Simple("PONG".into()),
            Ask::Set(write) => self.write(net, write),
            _ => Value::error("ERR unknown command"),
        }
    }

    /// `CLIENT PAUSE ms WRITE`, which older versions do not know; of two the longer one counts.
    fn hold_writes(&mut self, net: &mut Net, ms: Ms) -> Value {
        if self.shape.is_old() {
            return Value::error("ERR Unknown subcommand or wrong number of arguments for 'PAUSE'");
        }
        self.held_until = self.held_until.max(net.now() + ms);
        net.timer(self.proc, ms, Timer::Unpause);
        Value::ok()
    }

    /// Whatever waits on this connection comes first.
    pub(super) fn is_held(&self, conn: ConnId) -> bool {
        self.held.iter().any(|(held, _)| *held == conn)
    }

    /// A write or a message, which a replica would have to be told: none is taken while writes are
    /// held. A replica refuses writes before that.
    fn may_replicate(&self, ask: &Ask) -> bool {
        match ask {
            Ask::Set(_) => self.following.is_none(),
            Ask::Command(Command::Hello { .. }) => true,
            _ => false,
        }
    }

    /// What was held goes on, if that is over.
    pub(super) fn go_on(&mut self, net: &mut Net) {
        if !self.holds_writes(net.now()) {
            for (conn, ask) in std::mem::take(&mut self.held) {
                self.answer(net, conn, ask);
            }
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
        line("master_replid", &format_args!("{:040x}", self.replid));
        if let Some((before, _)) = self.before {
            line("master_replid2", &format_args!("{before:040x}"));
        }
        line("master_repl_offset", &shown);
        if !self.history.is_empty() && !self.loading(net) {
            line("db0", &format_args!("keys={},expires=0,avg_ttl=0", self.history.len()));
        }
        text
    }
}

const MASTERDOWN: &str =
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";

pub(super) fn loading_error() -> Value {
    Value::error("LOADING Redis is loading the dataset in memory")
}
