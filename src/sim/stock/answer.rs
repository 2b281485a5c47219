//! Requests answered.

use super::Stock;
use super::core::Core;
use super::failover::Step;
use super::group::{Group, Peer, Replica};
use super::instance::{Instance, age};
use crate::config::rules::valid_host;
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::resp::{Value, glob};
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{Effect, Epoch, EventKind, Request, RequestId};

const NO_SUCH_MASTER: &str = "ERR No such master with that name";

impl Stock {
    pub(super) fn answer(&mut self, id: RequestId, request: Request) {
        let mut new = None;
        let reply = match request {
            Request::Master(name) => match self.groups.get(name.as_str()) {
                Some(group) => group.entry(&self.core),
                None => Value::error(NO_SUCH_MASTER),
            },
            Request::MasterAddress(name) => match self.groups.get(name.as_str()) {
                Some(group) => {
                    let at = group.shown();
                    Value::Array(vec![Value::bulk(&at.host), Value::bulk(at.port.to_string())])
                }
                None => Value::NullArray,
            },
            Request::IsMasterDown { host, port, epoch, candidate } => {
                self.is_master_down(&host, port, epoch, candidate.as_deref())
            }
            Request::Hello(payload) => {
                self.hear(&payload);
                Value::Integer(1)
            }
            Request::CkQuorum(name) => match self.groups.get(name.as_str()) {
                Some(group) => group.check_quorum(),
                None => Value::error(NO_SUCH_MASTER),
            },
            Request::Replicas(name) => match self.groups.get(name.as_str()) {
                Some(group) => group.replica_entries(),
                None => Value::error(NO_SUCH_MASTER),
            },
            Request::Sentinels(name) => match self.groups.get(name.as_str()) {
                Some(group) => group.peer_entries(),
                None => Value::error(NO_SUCH_MASTER),
            },
            Request::MyId => Value::bulk(self.core.my_id.as_str()),
            Request::Failover(name) => self.force_failover(&name),
            Request::Reset(pattern) => self.reset(&pattern),
            Request::Remove(name) => self.remove(&name),
            Request::Monitor { name, host, port, quorum } => {
                match self.monitor(&name, host, &port, &quorum) {
                    Ok(settings) => {
                        self.core.flush();
                        new = Some((name, settings));
                        Value::ok()
                    }
                    Err(error) => Value::error(error),
                }
            }
            Request::Set { name, options } => self.set(&name, &options),
            Request::FlushConfig => {
                self.core.flush();
                Value::ok()
            }
            _ => Value::error("ERR this model of a sentinel does not answer that"),
        };
        self.core.emit(Effect::Reply { id, reply });
        // MONITOR replies first and announces then.
        if let Some((name, settings)) = new {
            self.add_group(name.into(), GroupState::fresh(settings, None));
        }
    }

    /// Numbers are read as signed and used as unsigned ones.
    fn is_master_down(
        &mut self,
        host: &str,
        port: i64,
        epoch: i64,
        candidate: Option<&str>,
    ) -> Value {
        let reply = |down: bool, leader: &str, epoch: Epoch| {
            let down = Value::Integer(i64::from(down));
            Value::Array(vec![down, Value::bulk(leader), Value::Integer(epoch as i64)])
        };
        let is_meant = |group: &&mut Group| {
            let at = &group.settings.master;
            at.host == host && i64::from(at.port) == port
        };
        let Some(group) = self.groups.values_mut().find(is_meant) else {
            return reply(false, "*", 0);
        };
        let down = group.master.sdown && !self.core.tilt;
        let Some(candidate) = candidate else { return reply(down, "*", 0) };
        let (leader, epoch) = group.vote(&mut self.core, epoch as Epoch, candidate);
        reply(down, leader.unwrap_or("*"), epoch)
    }

    /// A manual failover asks nobody: two sentinels can be told to at once, and take one epoch.
    fn force_failover(&mut self, name: &str) -> Value {
        let Some(group) = self.groups.get_mut(name) else { return Value::error(NO_SUCH_MASTER) };
        if group.failover.step != Step::None {
            return Value::error("INPROG Failover already in progress");
        }
        if group.best_replica(self.core.now).is_none() {
            return Value::error("NOGOODSLAVE No suitable replica to promote");
        }
        group.start_failover(&mut self.core);
        group.failover.forced = true;
        Value::ok()
    }

    fn reset(&mut self, pattern: &str) -> Value {
        let mut count = 0;
        for (name, group) in &mut self.groups {
            if glob::matches(pattern.as_bytes(), name.as_bytes()) {
                group.reset(&mut self.core, true);
                group.announce(&mut self.core, EventKind::ResetMaster);
                count += 1;
            }
        }
        Value::Integer(count)
    }

    fn remove(&mut self, name: &str) -> Value {
        let Some(mut group) = self.groups.remove(name) else {
            return Value::error(NO_SUCH_MASTER);
        };
        group.announce(&mut self.core, EventKind::Unmonitor);
        group.close(&mut self.core);
        if let Some(declared) = group.declared {
            self.removed.insert(name.to_owned(), declared);
        }
        self.core.flush();
        Value::ok()
    }

    fn monitor(
        &mut self,
        name: &str,
        host: String,
        port: &str,
        quorum: &str,
    ) -> Result<GroupSettings, &'static str> {
        let quorum = quorum.parse::<i64>().map_err(|_| "ERR Invalid quorum")?;
        let port = port.parse::<i64>().map_err(|_| "ERR Invalid port")?;
        let quorum = u32::try_from(quorum).ok().filter(|quorum| *quorum > 0);
        let quorum = quorum.ok_or("ERR Quorum must be 1 or greater.")?;
        if !valid_host(&host, false) {
            return Err("ERR Invalid IP address or hostname specified");
        }
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        let port = port.ok_or("ERR Invalid port number.")?;
        if self.groups.contains_key(name) {
            return Err("ERR Duplicate master name.");
        }
        self.removed.remove(name);
        Ok(GroupSettings::new(Address::new(host, port), quorum))
    }

    /// Left to right; what was applied before a bad option stays applied.
    fn set(&mut self, name: &str, options: &[String]) -> Value {
        let Some(group) = self.groups.get_mut(name) else { return Value::error(NO_SUCH_MASTER) };
        let core = &mut self.core;
        for pair in options.chunks(2) {
            let option = &pair[0];
            let unknown = || {
                Value::error(format!(
                    "ERR Unknown option or number of arguments for SENTINEL SET '{option}'"
                ))
            };
            let Some(value) = pair.get(1) else { return unknown() };
            let settings = &mut group.settings;
            let number: Option<u32> = value.parse().ok().filter(|number| *number > 0);
            match (option.to_ascii_lowercase().as_str(), number) {
                ("quorum", Some(n)) => settings.quorum = n,
                ("down-after-milliseconds", Some(n)) => settings.down_after_ms = n.into(),
                ("failover-timeout", Some(n)) => settings.failover_timeout_ms = n.into(),
                ("parallel-syncs", Some(n)) => settings.parallel_syncs = n,
                ("quorum" | "down-after-milliseconds" | "failover-timeout", None)
                | ("parallel-syncs", None) => {
                    return Value::error(format!(
                        "ERR Invalid argument '{value}' for SENTINEL SET '{option}'"
                    ));
                }
                _ => return unknown(),
            }
            core.flush();
            let payload = format!("{} {option} {value}", group.details());
            core.announce(EventKind::Set, Some(&group.name), payload);
        }
        Value::ok()
    }
}

impl Group {
    fn check_quorum(&self) -> Value {
        let usable = 1 + self.peers.values().filter(|peer| !peer.instance.sdown).count();
        let mut why = Vec::new();
        if usable < self.settings.quorum as usize {
            why.push(
                "Not enough available Sentinels to reach the specified quorum for this master",
            );
        }
        if usable < self.majority() {
            why.push(
                "Not enough available Sentinels to reach the majority and authorize a failover",
            );
        }
        match why.is_empty() {
            true => Value::Simple(format!(
                "OK {usable} usable Sentinels. Quorum and failover authorization can be reached"
            )),
            false => {
                Value::error(format!("NOQUORUM {usable} usable Sentinels. {}", why.join(". ")))
            }
        }
    }

    /// The entry of `SENTINEL MASTER`, its fields in Redis's order.
    fn entry(&self, core: &Core) -> Value {
        let now = core.now;
        let master = &self.master;
        let mut fields = Vec::new();
        let mut put = |field: &str, value: &dyn std::fmt::Display| {
            fields.push((Value::bulk(field), Value::bulk(value.to_string())));
        };
        let elapsed = |at| match at {
            None => 0,
            at => age(now, at),
        };
        put("name", &self.name);
        put("ip", &self.settings.master.host);
        put("port", &self.settings.master.port);
        put("runid", &master.run_id.as_deref().unwrap_or_default());
        put("flags", &self.flags());
        put("link-pending-commands", &master.pending);
        put("link-refcount", &1);
        if self.failover.step != Step::None {
            put("failover-state", &self.failover.step.name());
        }
        put("last-ping-sent", &elapsed(master.ping_at));
        put("last-ok-ping-reply", &now.since(master.last_ok));
        put("last-ping-reply", &now.since(master.last_reply));
        if master.sdown {
            put("s-down-time", &elapsed(master.sdown_since));
        }
        if self.odown_since.is_some() {
            put("o-down-time", &elapsed(self.odown_since));
        }
        put("down-after-milliseconds", &self.settings.down_after_ms);
        put("info-refresh", &elapsed(master.info_at));
        put("role-reported", &master.role.name());
        put("role-reported-time", &now.since(master.role_since));
        put("config-epoch", &self.config_epoch);
        put("num-slaves", &self.replicas.len());
        put("num-other-sentinels", &self.peers.len());
        put("quorum", &self.settings.quorum);
        put("failover-timeout", &self.settings.failover_timeout_ms);
        put("parallel-syncs", &self.settings.parallel_syncs);
        Value::Map(fields)
    }

    /// The answer to `SENTINEL REPLICAS`, as far as the world reads it.
    fn replica_entries(&self) -> Value {
        let entry = |at: &Address, replica: &Replica| {
            member_entry("slave", &at.to_string(), &replica.instance)
        };
        Value::Array(self.replicas.iter().map(|(at, replica)| entry(at, replica)).collect())
    }

    /// The same of `SENTINEL SENTINELS`.
    fn peer_entries(&self) -> Value {
        let entry = |id: &RunId, peer: &Peer| member_entry("sentinel", id.as_str(), &peer.instance);
        Value::Array(self.peers.iter().map(|(id, peer)| entry(id, peer)).collect())
    }

    fn flags(&self) -> String {
        let flags = [
            (self.master.sdown, "s_down"),
            (self.odown_since.is_some(), "o_down"),
            (true, "master"),
            (!self.master.up || !self.master.is_subscribed(), "disconnected"),
            (self.failover.step != Step::None, "failover_in_progress"),
            (self.failover.forced, "force_failover"),
        ];
        let set: Vec<&str> = flags.into_iter().filter(|(on, _)| *on).map(|(_, f)| f).collect();
        set.join(",")
    }
}

fn member_entry(kind: &str, name: &str, of: &Instance) -> Value {
    let flags = [(of.sdown, "s_down"), (true, kind), (!of.up, "disconnected")];
    let flags: Vec<&str> = flags.into_iter().filter(|(on, _)| *on).map(|(_, f)| f).collect();
    let (port, flags) = (of.address.port.to_string(), flags.join(","));
    let fields = [("name", name), ("ip", &of.address.host), ("port", &port), ("flags", &flags)];
    Value::Map(fields.map(|(field, value)| (Value::bulk(field), Value::bulk(value))).into())
}
