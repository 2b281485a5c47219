//! Requests answered: SENTINEL's subcommands over what the core knows, and those that change it.

use super::Sentinel;
use super::core::Core;
use super::effect::Effect;
use super::election::majority;
use super::event::EventKind;
use super::flap::Flap;
use super::group::Group;
use super::mutant::Guard;
use super::peer::Peer;
use super::request::Request;
use super::settle::{Change, read_options};
use super::timers::Subject;
use super::types::{Address, Epoch, GroupName, RequestId, RunId};
use crate::config::rules::{GROUP_NAME_RULE, valid_group_name, valid_host};
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::resp::number::parse_int;
use crate::resp::{Value, glob};

const NO_SUCH_MASTER: &str = "ERR No such master with that name";
const NOT_SAVED: &str = "ERR Failed to save config file. Check server logs.";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

impl Sentinel {
    /// Answers at once, or, where the answer shows something new, once that is durable.
    pub(super) fn answer(&mut self, id: RequestId, request: Request) {
        let reply = match request {
            Request::Masters => {
                let entries = self.groups.values().map(|group| group.master_entry(&self.core));
                Value::Array(entries.collect())
            }
            Request::Master(name) => self.of_group(&name, |s, group| group.master_entry(&s.core)),
            Request::Replicas(name) => {
                self.of_group(&name, |s, group| group.replica_entries(&s.core))
            }
            Request::Sentinels(name) => {
                self.of_group(&name, |s, group| group.sentinel_entries(&s.core))
            }
            Request::MasterAddress(name) => match self.groups.get(name.as_str()) {
                None => Value::NullArray,
                Some(group) => {
                    let at = group.shown_master(&self.core);
                    Value::Array(vec![Value::bulk(at.host), Value::bulk(at.port.to_string())])
                }
            },
            Request::MyId => Value::bulk(self.core.my_id.as_str()),
            Request::CkQuorum(name) => self.of_group(&name, |s, group| group.check_quorum(&s.core)),
            Request::Role => {
                let names = self.groups.keys().map(|name| Value::bulk(&**name)).collect();
                Value::Array(vec![Value::bulk("sentinel"), Value::Array(names)])
            }
            Request::Info { running_scripts, queued_scripts } => {
                Value::bulk(self.info_section(running_scripts, queued_scripts))
            }
            Request::Hello(payload) => {
                self.hear_hello(&payload);
                Value::Integer(1)
            }
            Request::IsMasterDown { host, port, epoch, candidate } => {
                return self.answer_is_master_down(id, (host, port), epoch, candidate);
            }
            Request::Failover(name) => self.force_failover(&name, false),
            Request::HandOver(name) => self.force_failover(&name, true),
            Request::ConfigGet(patterns) => self.config_get(&patterns),
            Request::InfoCache(names) => self.info_cache(&names),
            Request::SimulateFailure(flags) => self.simulate_failure(&flags),
            Request::Debug(words) => self.debug(&words),
            change => {
                let reply = self.change(change);
                let effect = Effect::Reply { id, reply };
                match self.core.holds(Guard::ChangeOnDisk) {
                    true => self.core.out.emit_durable_or(effect, Some(Value::error(NOT_SAVED))),
                    false => self.core.out.emit(effect),
                }
                return self.announce_new_groups();
            }
        };
        self.core.out.emit(Effect::Reply { id, reply });
    }

    fn of_group(&self, name: &str, answer: impl Fn(&Sentinel, &Group) -> Value) -> Value {
        match self.groups.get(name) {
            Some(group) => answer(self, group),
            None => Value::error(NO_SUCH_MASTER),
        }
    }

    fn answer_is_master_down(
        &mut self,
        id: RequestId,
        (host, port): (String, i64),
        epoch: i64,
        candidate: Option<String>,
    ) {
        let asked = epoch;
        let is_credible = |epoch: &Epoch| self.core.may_be_asked_for(*epoch);
        let Some(epoch) = Epoch::try_from(epoch).ok().filter(is_credible) else {
            let whom = candidate.as_deref().and_then(RunId::parse);
            let whom = whom.map(|id| format!(" for {}", id.short())).unwrap_or_default();
            self.core.count_absurd_epoch(&format!("Refused a vote request{whom} in"), asked);
            let reply = Value::error(NOT_AN_INTEGER);
            return self.core.out.emit(Effect::Reply { id, reply });
        };
        candidate.iter().for_each(|candidate| self.hear_candidate(candidate));
        // No master is watched at a port that does not exist: answered as any unknown address is.
        let address = Address::new(host, u16::try_from(port).unwrap_or(0));
        let in_tilt = self.core.in_tilt();
        let reply = |down: bool, leader: &str, epoch: Epoch| {
            let down = Value::Integer(i64::from(down && !in_tilt));
            Value::Array(vec![down, Value::bulk(leader), Value::Integer(epoch as i64)])
        };
        let name = self.asked_after(&address);
        let Some(group) = name.and_then(|name| self.groups.get_mut(&name)) else {
            let reply = reply(false, "*", 0);
            return self.core.out.emit(Effect::Reply { id, reply });
        };
        let down = group.master.sdown_since.is_some();
        group.ask_again();
        let unvoted = reply(down, "*", 0);
        let Some(candidate) = candidate else {
            self.core.out.emit(Effect::Reply { id, reply: unvoted });
            if down {
                let name = group.name.clone();
                self.touch(Subject::Group(name));
            }
            return;
        };
        if candidate == self.core.my_id.as_str() {
            // Our own question came back, over a port that is forwarded wrongly, or a double asks:
            // our vote must not count as another one's.
            return self.core.out.emit(Effect::Reply { id, reply: unvoted });
        }
        if let Some(candidate) = RunId::parse(&candidate) {
            group.consider_vote(&mut self.core, &candidate, epoch);
        }
        let leader = group.voted_for.as_ref().map_or("*", RunId::as_str);
        let voted = match epoch {
            // Nobody wants that vote: what is asked for is the last one. None will be given in an
            // epoch up to that of the configuration.
            0 if group.leader_epoch < group.config_epoch => reply(down, "*", group.config_epoch),
            _ => reply(down, leader, group.leader_epoch),
        };
        let effect = Effect::Reply { id, reply: voted };
        let name = group.name.clone();
        match self.core.holds(Guard::VoteOnDisk) {
            true => self.core.out.emit_durable_of(&name, effect, Some(unvoted)),
            false => self.core.out.emit(effect),
        }
        self.touch(Subject::Group(name));
    }

    /// The group whose master is meant by an address: what a connection told comes before what was
    /// only looked up, and that must be plain.
    fn asked_after(&self, address: &Address) -> Option<GroupName> {
        let at = self.core.claims.groups_at(address);
        let mut at = at.iter().filter_map(|name| self.groups.get(name));
        // Names may be written in other letters than ours.
        let known = at.find(|group| group.master.is_at(address));
        let known =
            known.or_else(|| self.groups.values().find(|group| group.master.is_at(address)));
        let group = known.or_else(|| {
            let mut likely = self.groups.values().filter(|group| group.master.may_be_at(address));
            likely.next().filter(|_| likely.next().is_none())
        });
        group.map(|group| group.name.clone())
    }

    /// A manual failover: like any other it needs a majority, but no ODOWN. `coordinated` asks the
    /// master to hand its role over; see `hand_over`.
    fn force_failover(&mut self, name: &str, coordinated: bool) -> Value {
        let Some(group) = self.groups.get_mut(name) else { return Value::error(NO_SUCH_MASTER) };
        let busy = match group.promised(&self.core.my_id) {
            Some(until) => self.core.now() < until && self.core.holds(Guard::VoteBindsCandidate),
            None => false,
        };
        if group.failover.is_some() || busy {
            return Value::error("INPROG Failover already in progress");
        }
        let found = group.best_replica(&self.core, true).is_ok();
        if !found || !self.core.holds(Guard::OrderObeyed) {
            return Value::error("NOGOODSLAVE No suitable replica to promote");
        }
        if let Some(why) = group.why_no_election(&self.core) {
            return Value::error(format!("NOQUORUM {why}"));
        }
        if self.core.out.failure().is_some() {
            return Value::error(NOT_SAVED);
        }
        if self.core.holds(Guard::OrderBegins) {
            group.start_failover(&mut self.core, true);
            group.failover.iter_mut().for_each(|failover| failover.coordinated = coordinated);
        }
        let name = group.name.clone();
        self.touch(Subject::Group(name));
        Value::ok()
    }

    fn change(&mut self, request: Request) -> Value {
        match request {
            Request::FlushConfig => {
                self.core.out.touch_file();
                Value::ok()
            }
            Request::Monitor { name, host, port, quorum } => {
                self.monitor(&name, host, &port, &quorum)
            }
            Request::Remove(name) => self.remove(&name),
            Request::Reset(pattern) => self.reset(&pattern),
            Request::Set { name, options } => self.set(&name, &options),
            Request::ConfigSet(words) => self.config_set(&words),
            _ => Value::error("ERR internal error: this request changes nothing"),
        }
    }

    fn monitor(&mut self, name: &str, host: String, port: &str, quorum: &str) -> Value {
        let Some(quorum) = parse_int(quorum.as_bytes()) else {
            return Value::error("ERR Invalid quorum");
        };
        let Some(port) = parse_int(port.as_bytes()) else {
            return Value::error("ERR Invalid port");
        };
        let Some(quorum) = u32::try_from(quorum).ok().filter(|q| *q > 0) else {
            return Value::error("ERR Quorum must be 1 or greater.");
        };
        if !valid_host(&host, self.core.settings.resolve_hostnames) {
            return Value::error("ERR Invalid IP address or hostname specified");
        }
        let Some(port) = u16::try_from(port).ok().filter(|p| *p > 0) else {
            return Value::error("ERR Invalid port number.");
        };
        if self.groups.contains_key(name) {
            return Value::error("ERR Duplicate master name.");
        }
        if !valid_group_name(name) {
            return Value::error(format!("ERR Invalid master name: {GROUP_NAME_RULE}"));
        }
        // What the file declares of it stays known: at the next start that is no news, and what was
        // said here stands.
        let declared = self.removed.remove(name);
        let settings = GroupSettings {
            down_after_ms: self.core.tune.default_down_after_ms,
            failover_timeout_ms: self.core.tune.default_failover_timeout_ms,
            ..GroupSettings::new(Address::new(host, port), quorum)
        };
        self.core.out.touch();
        self.new_groups.push((name.into(), GroupState::fresh(settings, declared)));
        Value::ok()
    }

    /// MONITOR replies first and announces then.
    fn announce_new_groups(&mut self) {
        for (name, state) in std::mem::take(&mut self.new_groups) {
            self.add_group(name, state);
        }
    }

    fn remove(&mut self, name: &str) -> Value {
        let Some((name, mut group)) = self.groups.remove_entry(name) else {
            return Value::error(NO_SUCH_MASTER);
        };
        let details = group.master_details(&self.core);
        let is_untold = self.core.holds(Guard::RemovedFallsSilent) && self.core.out.forget(&name);
        if !is_untold {
            self.core.announce(EventKind::Unmonitor, Some(&name), details);
        }
        self.core.note_scripts(&name, None);
        self.core.out.emit(Effect::Show { group: name.clone(), master: None });
        group.close(&mut self.core);
        if let Some(declared) = group.declared
            && self.core.holds(Guard::RemovedStays)
        {
            self.removed.insert(name.to_string(), declared);
        }
        self.core.out.touch_group(&name);
        self.timers.set(Subject::Group(name), None);
        Value::ok()
    }

    fn reset(&mut self, pattern: &str) -> Value {
        let mut count = 0;
        for (name, group) in &mut self.groups {
            if glob::matches(pattern.as_bytes(), name.as_bytes()) {
                group.reset(&mut self.core);
                count += 1;
                self.timers.set(Subject::Group(name.clone()), Some(self.core.now()));
            }
        }
        if count > 0 {
            self.core.out.touch();
        }
        Value::Integer(count)
    }

    fn set(&mut self, name: &str, options: &[String]) -> Value {
        let Some(group) = self.groups.get_mut(name) else { return Value::error(NO_SUCH_MASTER) };
        let deny_scripts = self.core.settings.deny_scripts_reconfig;
        let changes = match read_options(options, deny_scripts) {
            Ok(changes) => changes,
            Err(error) => return Value::error(error),
        };
        let name = group.name.clone();
        let relink = changes.iter().any(Change::concerns_links);
        for change in changes {
            let shown = change.shown();
            if self.core.holds(Guard::SetHolds) {
                if change.is_of("flap-pause") {
                    group.flap = Flap::default();
                }
                change.apply(&mut group.settings);
                self.core.note_scripts(&name, Some(&group.settings));
            }
            let payload = format!("{} {shown}", group.master_details(&self.core));
            self.core.announce(EventKind::Set, Some(&name), payload);
        }
        if relink {
            group.reopen_links(&mut self.core);
        }
        self.core.out.touch_group(&name);
        self.pace_peers(&name);
        self.touch(Subject::Group(name));
        Value::ok()
    }

    /// PINGs to the peers of this group follow the shortest `down-after` of all their groups.
    fn pace_peers(&mut self, name: &GroupName) {
        for link in self.core.peers.values_mut().filter(|link| link.groups.contains(name)) {
            let of_groups = link.groups.iter().filter_map(|name| self.groups.get(name));
            let shortest = of_groups.map(|group| group.settings.down_after_ms).min();
            link.down_after_ms = shortest.unwrap_or(u64::MAX);
        }
    }

    /// `# Sentinel` of INFO.
    fn info_section(&self, running_scripts: usize, queued_scripts: usize) -> String {
        let core = &self.core;
        let tilt = core.tilt_since.map_or(-1, |since| (core.now().since(since) / 1000) as i64);
        let mut text = format!(
            "# Sentinel\r\nsentinel_masters:{}\r\nsentinel_tilt:{}\r\n\
             sentinel_tilt_since_seconds:{tilt}\r\n\
             sentinel_running_scripts:{running_scripts}\r\n\
             sentinel_scripts_queue_length:{queued_scripts}\r\n\
             sentinel_simulate_failure_flags:{}\r\n",
            self.groups.len(),
            u8::from(core.in_tilt()),
            core.simulated,
        );
        for (n, group) in self.groups.values().enumerate() {
            let down = group.master.shown_down_since(core, group.settings.down_after_ms);
            let status = match (group.odown_since, down) {
                (Some(_), _) => "odown",
                (None, Some(_)) => "sdown",
                (None, None) => "ok",
            };
            let at = group.shown_master(core);
            text += &format!(
                "master{n}:name={},status={status},address={}:{},slaves={},sentinels={}\r\n",
                group.name,
                at.host,
                at.port,
                group.replicas.len(),
                group.voters()
            );
        }
        text
    }
}

/// It can agree and vote: it answers, itself, and lets us ask.
fn is_usable(core: &Core, id: &RunId, peer: &Peer) -> bool {
    let refused = core.peers.get(id).is_some_and(|link| link.refusals.of("SENTINEL").is_some());
    peer.sdown_since.is_none() && !refused && !core.is_another(id)
}

impl Group {
    /// `SENTINEL CKQUORUM`
    fn check_quorum(&self, core: &Core) -> Value {
        let usable = self.peers.iter().filter(|(id, peer)| is_usable(core, id, peer));
        let usable = 1 + usable.count() as u32;
        let mut why = Vec::new();
        if core.out.failure().is_some() {
            why.push(
                "This Sentinel takes no part in elections, since its state cannot be written: \
                 see its log",
            );
        }
        if self.listening.is_some() {
            why.push(
                "This Sentinel takes no part in elections yet: it remembers no other one, and \
                 listens first",
            );
        }
        if core.may_be_double() {
            why.push(
                "This Sentinel takes no part in elections for now: another speaks with its id",
            );
        }
        if usable < self.settings.quorum {
            why.push(
                "Not enough available Sentinels to reach the specified quorum for this master",
            );
        }
        if usable < majority(self.voters()) {
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
}
