//! What is done with a hello: getting to know other sentinels, taking over newer configurations.

use std::net::IpAddr;

use super::Sentinel;
use super::core::Core;
use super::event::{EventKind, Level};
use super::group::{Group, MEMBERS_MAX};
use super::hello::{GiveUp, Hello};
use super::info::Role;
use super::mutant::Guard;
use super::node::HELLO_PERIOD_MS;
use super::peer::{Heard, Peer};
use super::signed;
use super::timers::Subject;
use super::types::{Address, GroupName, RunId};
use crate::config::rules::valid_host;
use crate::config::settings::HelloKey;

/// How long two sentinels may name different masters in one epoch, in ms, before that is said: by
/// then whoever can see that it is wrong has given in.
const DISPUTE_MS: u64 = 10_000;
/// Said where two sentinels name different masters of one configuration, for that long.
pub(crate) const TOLD_WRONG: &str = "one of us was told wrong";

impl Sentinel {
    /// A hello was heard on a node, or said to us by its sender.
    pub(super) fn hear_hello(&mut self, payload: &str) {
        let Some(HelloKey { secret, signed_only, .. }) = &self.core.settings.hello_key else {
            if signed::is_signed(payload) {
                // It is said plainly, too, unless all but us have the secret.
                self.note_unbelieved(payload);
            } else {
                self.hear_words(payload, None);
            }
            return;
        };
        match (signed::read(secret, payload), signed_only) {
            (signed::Heard::Signed { counter, payload }, _) => {
                self.hear_words(payload, Some(counter));
            }
            (signed::Heard::Plain, false) => self.hear_words(payload, None),
            (signed::Heard::Plain, true) => self.count_unsigned(payload),
            (signed::Heard::Forged, _) => {
                self.note_unbelieved(payload);
                let whom = match Hello::parse(signed::inner(payload)) {
                    Ok(hello) => format!("{} at {}", hello.id.short(), hello.sender),
                    Err(_) => "nobody known".to_owned(),
                };
                self.count_bad_hello(&format!(
                    "it is signed with another secret than ours, in the name of {whom}: the hello \
                     secrets of the two differ, or somebody forges"
                ));
            }
        }
    }

    /// Somebody whom we may not believe watches a group of ours.
    fn note_unbelieved(&mut self, payload: &str) {
        let Ok(hello) = Hello::parse(signed::inner(payload)) else { return };
        let Some(group) = self.groups.get_mut(hello.group.as_str()) else { return };
        if group.listening.is_some() && group.peers.is_empty() {
            group.unbelieved_at = Some(self.core.now());
        }
    }

    /// Somebody has no secret: a stock sentinel, one of ours that was not told, or an intruder.
    fn count_unsigned(&mut self, payload: &str) {
        let whom = match Hello::parse(payload) {
            // Ours, from before all were signed.
            Ok(hello) if self.core.is_own_address(&hello.sender) => return,
            Ok(hello) => format!("of {} at {}", hello.id.short(), hello.sender),
            Err(_) => "of nobody known".to_owned(),
        };
        self.note_unbelieved(payload);
        self.core.unsigned_hellos += 1;
        let count = self.core.unsigned_hellos;
        if count.is_power_of_two() {
            let text = format!(
                "Ignored a hello {whom} that nobody signed ({count} ignored so far): each sentinel \
                 of this set-up needs the hello secret, and stock sentinels have no place in it"
            );
            self.core.say(Level::Warning, None, text);
        }
    }

    /// `counter`: of a signed hello.
    fn hear_words(&mut self, payload: &str, counter: Option<u64>) {
        if counter.is_none() && self.is_echo(payload) {
            return;
        }
        if let Some(given_up) = GiveUp::parse(payload) {
            let group: GroupName = given_up.group.as_str().into();
            if counter.is_none_or(|counter| !self.is_said_again(&group, &given_up.id, counter)) {
                self.hear_give_up(&given_up);
            }
            return;
        }
        let hello = match Hello::parse(payload) {
            Ok(hello) => hello,
            Err(why) => return self.count_bad_hello(&why),
        };
        let Some((name, _)) = self.groups.get_key_value(hello.group.as_str()) else { return };
        let name = name.clone();
        if hello.id == self.core.my_id {
            return self.hear_own_id(&hello.sender, counter);
        }
        let names_allowed = self.core.settings.resolve_hostnames;
        let usable = |host: &str| valid_host(host, names_allowed);
        if !usable(&hello.sender.host) || !usable(&hello.master.host) {
            return self.count_bad_hello(if names_allowed {
                "it holds what is neither an IP address nor a host name"
            } else {
                "it holds a host name, and resolve-hostnames is off"
            });
        }
        if self.core.is_own_address(&hello.sender) {
            // A late word of the one who lived here before us, or two live behind one address.
            return self.count_bad_hello(
                "another sentinel says that it lives at our own address: each needs an address of \
                 its own, or an announce-port",
            );
        }
        if counter.is_some_and(|counter| self.is_said_again(&name, &hello.id, counter)) {
            return;
        }
        let is_known = self.groups.get(&name).is_some_and(|g| g.peers.contains_key(&hello.id));
        self.meet(&name, &hello.id, &hello.sender);
        let peer = self.groups.get_mut(&name).and_then(|group| group.peers.get_mut(&hello.id));
        // Who is not taken in, since the group is full, moves nothing.
        let Some(peer) = peer else { return };
        peer.counter = counter.unwrap_or(peer.counter);
        peer.echo = None;
        // No sentinel says so, but nothing may be configured in an epoch that is still to come.
        let told = hello.current_epoch.max(hello.config_epoch);
        let reached = self.core.follow_to(told, !is_known);
        if reached < told {
            let from = format!("{} ({}) says hello in", hello.id.short(), hello.sender);
            self.core.count_absurd_epoch(&from, told);
        }
        self.core.adopt_epoch(reached, &name);
        // To be looked up among all groups, and only of interest where it may be taken over.
        let config = self.groups.get(&name).map(|group| group.config_epoch);
        let owner = match config == Some(hello.config_epoch) {
            true => None,
            false => self.owner_elsewhere(&name, &hello.master),
        };
        let Some(group) = self.groups.get_mut(&name) else { return };
        let news = group.take_hello(&mut self.core, &hello, owner);
        if news || !group.quiet {
            self.touch(Subject::Group(name));
        } else if counter.is_none() && group.agrees(&self.core, &hello) {
            let shown = group.shown.clone();
            if let Some(peer) = group.peers.get_mut(&hello.id) {
                peer.echo = shown.map(|shown| (payload.into(), shown));
            }
        }
    }

    /// True for what its sender said before, word for word, and what changed nothing then. Each
    /// hello is heard on all nodes of its group, again and again; so this is what most of them are.
    fn is_echo(&mut self, payload: &str) -> bool {
        let Some(group) = payload.split(',').nth(4).and_then(|name| self.groups.get_mut(name))
        else {
            return false;
        };
        let (quiet, shown) = (group.quiet, &group.shown);
        let echoes = |peer: &&mut Peer| {
            peer.echo
                .as_ref()
                .is_some_and(|(said, with)| **said == *payload && shown.as_ref() == Some(with))
        };
        let Some(peer) = group.peers.values_mut().find(echoes).filter(|_| quiet) else {
            return false;
        };
        let now = self.core.now();
        let Some(heard) = &mut peer.hello else { return false };
        if heard.config_epoch != group.config_epoch || self.core.is_own_address(&peer.address) {
            return false;
        }
        heard.at = now;
        peer.last_hello = now;
        true
    }

    /// True for a signed hello that was said before one that we know: it is late, or a repetition
    /// by somebody who has no secret. Of whom we do not know, old words count for nothing.
    fn is_said_again(&mut self, name: &GroupName, id: &RunId, counter: u64) -> bool {
        let wall_ms = self.core.clock.wall_ms;
        let peer = self.groups.get_mut(name).and_then(|group| group.peers.get_mut(id));
        // Of whom nothing has been heard since we started, the clock decides.
        let Some(peer) = peer.filter(|peer| peer.counter > 0) else {
            let stale = wall_ms.abs_diff(counter) > signed::NEWCOMER_CLOCK_MS;
            if stale {
                self.count_bad_hello(
                    "it is signed by a sentinel that was not heard before, with a clock far from \
                     ours: an old one said again, or one of the two clocks is wrong",
                );
            }
            return stale;
        };
        let again = counter <= peer.counter;
        let far = peer.counter.saturating_sub(counter) > HELLO_PERIOD_MS;
        peer.counter = peer.counter.max(counter);
        if again && far {
            self.count_bad_hello(
                "it is older than what its sender has said since: said again by somebody else, or \
                 its sender's clock was set back",
            );
        }
        again
    }

    /// A candidate stands no more: who voted for it may vote for others, and stand, at once.
    fn hear_give_up(&mut self, given_up: &GiveUp) {
        let Some((name, _)) = self.groups.get_key_value(given_up.group.as_str()) else { return };
        let name = name.clone();
        if let Some(group) = self.groups.get_mut(&name) {
            group.released(&mut self.core, &given_up.id, given_up.epoch);
            self.touch(Subject::Group(name));
        }
    }

    fn count_bad_hello(&mut self, why: &str) {
        self.core.bad_hellos += 1;
        if self.core.bad_hellos.is_power_of_two() {
            let text =
                format!("Ignored a hello message: {why} ({} ignored so far)", self.core.bad_hellos);
            self.core.say(Level::Warning, None, text);
        }
    }

    /// Makes sure that this sentinel is known to the group, under this address.
    fn meet(&mut self, name: &GroupName, id: &RunId, address: &Address) {
        let Some(group) = self.groups.get(name) else { return };
        let known = group.peers.get(id);
        if known.is_some_and(|peer| peer.address == *address) {
            return;
        }
        let known = known.is_some();
        // In other groups, too: it moves in all of them.
        let mut bereft = Vec::new();
        while let Some((group, old)) = self.holder_of(address, id)
            && self.core.holds(Guard::OneSentinelPerAddress)
        {
            bereft.extend(self.replace_peer(&group, &old));
        }
        match known {
            true => self.move_peer(name, id, address),
            false => self.join(name, id, address),
        }
        // A majority is one of as many as before: who lives there counts in each group that lost
        // one, even before it speaks of it.
        for group in bereft.iter().filter(|group| *group != name) {
            if self.groups.get(group).is_some_and(|group| !group.peers.contains_key(id)) {
                self.join(group, id, address);
            }
        }
    }

    /// A sentinel is new to the group.
    fn join(&mut self, name: &GroupName, id: &RunId, address: &Address) {
        let Some(group) = self.groups.get(name) else { return };
        if group.peers.len() >= MEMBERS_MAX {
            return self.count_bad_hello("its group has as many sentinels as it may have");
        }
        let known_elsewhere = self.core.peers.get(id).is_some_and(|l| l.address != *address);
        if known_elsewhere {
            self.move_peer(name, id, address);
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        group.insert_peer(&mut self.core, id.clone(), address.clone());
        self.core.out.touch_group(name);
        let details = group.peer_details(&self.core, id);
        self.core.announce(EventKind::Sentinel, Some(name), details);
    }

    /// Another group that has its master at this address, or a replica that is the very process
    /// that followed its master. (That it knows a node there says little: it may be one that it
    /// leaves alone.) Two groups may watch the same nodes: that is the case if it has our master,
    /// too.
    /// Whoever followed our own master is ours, whatever another group thinks.
    fn owner_elsewhere(&self, name: &GroupName, address: &Address) -> Option<GroupName> {
        let group = self.groups.get(name).filter(|group| !group.master.is_at(address))?;
        if group.replicas.values().any(|node| node.is_at(address) && node.is_ours()) {
            return None;
        }
        let master = &group.master.address;
        let owns = |group: &Group| {
            let mut replicas = group.replicas.values();
            group.master.is_at(address)
                || replicas.any(|node| node.is_at(address) && node.is_ours())
        };
        let owns = |other: &Group| owns(other) && !other.holds_address(master);
        if address.host.parse::<IpAddr>().is_ok() {
            let mut others = self.core.claims.groups_at(address).into_iter();
            return others.find(|other| other != name && self.groups.get(other).is_some_and(owns));
        }
        // Names may be written in other letters than ours.
        let mut others = self.groups.iter().filter(|(other, _)| *other != name);
        others.find(|(_, other)| owns(other)).map(|(name, _)| name.clone())
    }

    /// Somebody else whom a group has at this address.
    pub(super) fn holder_of(&self, address: &Address, id: &RunId) -> Option<(GroupName, RunId)> {
        let at =
            self.core.peers.iter().filter(|(old, link)| link.address == *address && *old != id);
        at.filter_map(|(old, link)| Some((link.groups.first()?.clone(), old.clone()))).min()
    }

    /// Another id says to live at this address: the old one is gone from all groups, which are
    /// returned.
    pub(super) fn replace_peer(&mut self, name: &GroupName, old: &RunId) -> Vec<GroupName> {
        if let Some(group) = self.groups.get(name) {
            let details = group.peer_details(&self.core, old);
            self.core.announce(EventKind::SentinelInvalidAddr, Some(name), details);
        }
        let mut bereft = Vec::new();
        for (name, group) in &mut self.groups {
            if group.peers.remove(old).is_some() {
                self.core.leave_peer(old, name);
                self.core.out.mark(name);
                bereft.push(name.clone());
            }
        }
        bereft
    }

    /// A known sentinel has another address: it moves in all groups, and so does its link.
    fn move_peer(&mut self, name: &GroupName, id: &RunId, address: &Address) {
        let mut others = 0;
        for (other, group) in &mut self.groups {
            if let Some(peer) = group.peers.get_mut(id) {
                peer.moved(address.clone());
                self.core.out.mark(other);
                others += u32::from(other != name);
            }
        }
        if let Some(mut link) = self.core.peers.remove(id) {
            link.moved(&mut self.core, id, address.clone());
            self.core.peers.insert(id.clone(), link);
            self.touch(Subject::Peers);
        }
        self.core.out.touch();
        let Some(group) = self.groups.get(name) else { return };
        let master = group.master_details(&self.core);
        let payload = format!("{master} ip {} port {} for {id}", address.host, address.port);
        self.core.announce(EventKind::SentinelAddressSwitch, Some(name), payload);
        if others > 0 {
            let details = group.peer_details(&self.core, id);
            let payload = format!("{details} {others} additional matching instances");
            self.core.announce(EventKind::SentinelAddressUpdate, Some(name), payload);
        }
    }
}

impl Group {
    /// True for a hello that says nothing but what is so for us, too.
    fn agrees(&self, core: &Core, hello: &Hello) -> bool {
        hello.config_epoch == self.config_epoch
            && hello.current_epoch <= core.current_epoch
            && self.master.is_at(&hello.master)
            && self.peers.get(&hello.id).is_some_and(|peer| peer.address == hello.sender)
    }

    /// True if a step must follow, whatever else is under way.
    /// `owner`: another group, whose node the master is that is named.
    fn take_hello(&mut self, core: &mut Core, hello: &Hello, owner: Option<GroupName>) -> bool {
        let now = core.now();
        let older = hello.config_epoch < self.config_epoch;
        let newer =
            hello.config_epoch > self.config_epoch || older && !core.holds(Guard::HigherConfigOnly);
        // What was elected in an epoch that we have not reached yet is heard again.
        let newer = newer && hello.config_epoch <= core.current_epoch.max(self.config_epoch);
        let newer = newer && !self.refuses_config(core, hello, owner);
        if newer {
            self.adopt_config(core, hello);
        }
        let Some(peer) = self.peers.get_mut(&hello.id) else { return newer };
        let first = peer.hello.is_none();
        peer.last_hello = now;
        peer.hello = Some(Heard {
            at: now,
            current_epoch: hello.current_epoch,
            config_epoch: hello.config_epoch,
        });
        let lags = hello.config_epoch < self.config_epoch;
        if lags && core.holds(Guard::LaggardsTold) {
            // Tell it at once.
            peer.next_hello = now;
        }
        let settled = hello.config_epoch == self.config_epoch && self.settle_dispute(core, hello);
        newer || first || lags || settled
    }

    /// A stock sentinel may have elected a node of somebody else's: the address was given away. Its
    /// data are not ours, and clients that are sent there would write among the others'. The next
    /// election goes by a higher epoch, and puts the stock sentinels right.
    fn refuses_config(&mut self, core: &mut Core, hello: &Hello, owner: Option<GroupName>) -> bool {
        let Some(owner) = owner.filter(|_| core.holds(Guard::StolenNotAdopted)) else {
            return false;
        };
        let told = Some((hello.master.clone(), hello.config_epoch));
        if self.refused_config != told {
            let (id, master, name) = (hello.id.short(), &hello.master, &self.name);
            let text = format!(
                "{id} ({}) names {master} as the master of {name} since epoch {}: refused, since \
                 it is a node of {owner}. Its address was given to another node. {name} is left \
                 with {} until a node of its own is elected: take {master} out of the other \
                 sentinels (SENTINEL REMOVE and MONITOR there)",
                hello.sender, hello.config_epoch, self.master.address,
            );
            core.say(Level::Warning, Some(&self.name), text);
            self.refused_config = told;
        }
        true
    }

    /// A peer may name another master in the very same epoch: their files did so in the beginning,
    /// or stock sentinels were told to fail over at once. No epoch will ever decide that, but the
    /// nodes may: if our master says that it follows the other one, with a link that works, we
    /// give in. True if so.
    fn settle_dispute(&mut self, core: &mut Core, hello: &Hello) -> bool {
        let ours = self.shown_master(core);
        if self.master.is_at(&hello.master) || ours == hello.master {
            return false;
        }
        let follows = self.master.info.as_ref().is_some_and(|info| {
            info.role == Role::Slave && info.link_up && info.master.as_ref() == Some(&hello.master)
        });
        let truth_ms = 2 * core.tune.info_period_ms;
        let lives = self.master.health.up && self.master.info_within(core, truth_ms);
        if follows && lives && self.failover.is_none() {
            let text = format!(
                "{} names {} as the master of {}, and {ours}, which I named, follows it: so do I",
                hello.id.short(),
                hello.master,
                self.name
            );
            core.say(Level::Warning, Some(&self.name), text);
            self.follow_config(core, hello);
            return true;
        }
        let now = core.now();
        let (since, said) = match &self.dispute {
            Some((master, since, said)) if *master == hello.master => (*since, *said),
            _ => (now, false),
        };
        let due = !said && now.since(since) >= DISPUTE_MS;
        if due {
            let text = format!(
                "{} ({}) names {} as the master of {} and I name {ours}, in the same configuration \
                 epoch {}: {TOLD_WRONG}. REMOVE the group from that sentinel and \
                 MONITOR it with the right master, or order a FAILOVER",
                hello.id.short(),
                hello.sender,
                hello.master,
                self.name,
                self.config_epoch
            );
            core.say(Level::Warning, Some(&self.name), text);
        }
        self.dispute = Some((hello.master.clone(), since, said || due));
        false
    }

    /// A newer configuration: the higher epoch wins, everywhere and without asking.
    fn adopt_config(&mut self, core: &mut Core, hello: &Hello) {
        self.config_epoch = hello.config_epoch;
        core.out.touch_group(&self.name);
        self.config_in = core.out.newest();
        core.out.rests_on_disk(&self.name);
        if self.master.is_at(&hello.master) && core.holds(Guard::SameMasterNoSwitch) {
            self.recall_hellos(core);
            let late = self.failover.as_ref().is_some_and(|f| f.epoch <= hello.config_epoch);
            if late && core.holds(Guard::LateFailoverEnds) {
                let why = format!(
                    "{} says that the same master was elected in epoch {}",
                    hello.id.short(),
                    hello.config_epoch
                );
                self.abort(core, EventKind::AbortNotElected, why);
            }
            return;
        }
        self.follow_config(core, hello);
    }

    fn follow_config(&mut self, core: &mut Core, hello: &Hello) {
        let known = self.replicas.values().find(|node| node.is_at(&hello.master));
        let to = known.map_or_else(|| hello.master.clone(), |node| node.address.clone());
        let details = self.peer_details(core, &hello.id);
        core.announce_durable(EventKind::ConfigUpdateFrom, Some(&self.name), details);
        let from = self.shown_master(core);
        self.switch_master(core, to);
        self.run_reconfig_script(core, "observer", &from, &self.shown_master(core));
    }
}
