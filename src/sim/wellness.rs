//! When all is well: one master, all nodes behind it, all sentinels and clients of one mind, and
//! the data where they should be.

use std::collections::{BTreeMap, BTreeSet};

use super::GroupEnd;
use super::checkers::{Claim, TENURE_MS};
use super::client::read_address;
use super::faults::{Fault, FaultKind};
use super::plan::Shape;
use super::rules::Rule;
use super::wire::{Entry, Ms, Proc};
use super::world::World;
use crate::resp::Value;
use crate::sentinel::Request;
use crate::sentinel::types::Address;

/// For so long, in ms, a sentinel may not know that a node was started, and what it still holds.
const JUST_STARTED_MS: Ms = 3_000;

impl World {
    /// What keeps the world from being well; `None` if all is.
    pub(super) fn what_is_wrong(&mut self) -> Option<String> {
        if !self.errands.is_empty() {
            return Some("an operator is still at work".into());
        }
        for group in 0..self.plan.shape.groups {
            let nodes = self.plan.shape.nodes_of(group).filter(|n| !self.is_dead(*n));
            let nodes: Vec<usize> = nodes.collect();
            let is_master = |n: &usize| self.nodes[*n].following().is_none();
            let mut masters = nodes.iter().copied().filter(is_master);
            let Some(master) = masters.next() else {
                return Some(format!("no node of g{group} is a master"));
            };
            if let Some(other) = masters.next() {
                return Some(format!("nodes {master} and {other} of g{group} are masters"));
            }
            let address = self.nodes[master].address.clone();
            for n in nodes.into_iter().filter(|n| *n != master) {
                let node = &self.nodes[n];
                // A link that is half open looks like one that is quiet.
                if !self.nodes[master].history().starts_with(node.history()) {
                    return Some(format!("node {n} holds what node {master} does not"));
                }
                let follows = self.master_followed(n);
                if follows.as_ref() != Some(&address) || !node.in_sync() {
                    let state = if node.in_sync() { "in sync" } else { "not in sync" };
                    let follows = follows.map_or("nobody".into(), |master| master.to_string());
                    return Some(format!("node {n} follows {follows}, {state}, not {address}"));
                }
            }
            for n in 0..self.hosts.len() {
                if let Some(wrong) = self.what_is_wrong_with(n, group, &address) {
                    return Some(format!("sentinel {n}, g{group}: {wrong}"));
                }
            }
        }
        None
    }

    fn what_is_wrong_with(&mut self, n: usize, group: usize, master: &Address) -> Option<String> {
        if self.shell(Proc::Sentinel(n)).frozen > 0 {
            return Some("is frozen".into());
        }
        if self.hosts[n].has_unwritten() {
            return Some("has not written what it decided".into());
        }
        let name = || Shape::group_name(group);
        let request = Request::Master(name());
        let Some(entry) = self.hosts[n].ask(&mut self.net, &mut self.watch, request) else {
            return Some("does not answer".into());
        };
        let settings = self.plan.shape.settings();
        let settings = settings.into_iter().map(|(name, value)| (name, value.to_string()));
        let told = address_of(&entry).map(|at| self.by_name(&at));
        if told.as_ref() != Some(master) {
            let told = told.map_or("nobody".into(), |told| told.to_string());
            return Some(format!("the master is {told}, not {master}"));
        }
        if let Some(state) = field(&entry, "failover-state") {
            return Some(format!("a failover is in state {state}"));
        }
        let expected = [("flags", "master".to_owned())];
        for (name, value) in expected.into_iter().chain(settings) {
            let found = field(&entry, name);
            if found != Some(&value) {
                return Some(format!("{name} is {}, not {value}", found.unwrap_or("missing")));
            }
        }
        let nodes = self.plan.shape.nodes_of(group).filter(|n| self.nodes[*n].address != *master);
        let nodes = nodes.map(|n| {
            let flags = if self.is_dead(n) { None } else { Some("slave") };
            (self.nodes[n].address.to_string(), flags)
        });
        let nodes: BTreeMap<_, _> = nodes.collect();
        let mut known = self.members(n, Request::Replicas(name()));
        if self.plan.shape.shows_ips {
            // It may be known by its name, and, where others told it, by its address.
            known.remove(&master.to_string());
        }
        self.ghosts |= known.keys().any(|at| !nodes.contains_key(at));
        if let Some(wrong) = differs("replicas", &nodes, &known) {
            return Some(wrong);
        }
        let others = (0..self.hosts.len()).filter(|other| *other != n);
        let others = others.filter_map(|n| {
            let id = &self.hosts[n].disk.content()?.my_id;
            let port = self.plan.shape.sentinel_address(n).port;
            let at = Address::new(self.net.ip(Proc::Sentinel(n)), port);
            Some((format!("{id} {at}"), Some("sentinel")))
        });
        let others: BTreeMap<_, _> = others.collect();
        let known = self.members(n, Request::Sentinels(name()));
        self.ghosts |= known.keys().any(|of| !others.contains_key(of));
        differs("sentinels", &others, &known)
    }

    /// The replicas or the other sentinels that a sentinel names, and their flags. A replica's name
    /// is its address; with a sentinel's goes its address.
    fn members(&mut self, n: usize, request: Request) -> BTreeMap<String, Option<String>> {
        let peers = matches!(request, Request::Sentinels(_));
        let Some(Value::Array(entries)) =
            self.hosts[n].ask(&mut self.net, &mut self.watch, request)
        else {
            return BTreeMap::new();
        };
        let member = |entry: &Value| {
            let (name, at) = (field(entry, "name")?, address_of(entry)?);
            let name = match peers {
                true => format!("{name} {at}"),
                false => self.by_name(&at).to_string(),
            };
            Some((name, field(entry, "flags").map(str::to_owned)))
        };
        entries.iter().filter_map(member).collect()
    }

    /// From time to time a sentinel is asked for all that it knows. It has just been at work, so
    /// that the questions wake nothing in it.
    pub(super) fn audit(&mut self, n: usize) {
        if self.watch.checkers.audit_is_due(n, self.net.now()) && !self.hosts[n].doomed() {
            self.ask_all(n);
        }
    }

    /// The ledger hears and judges the answers.
    fn ask_all(&mut self, n: usize) {
        for group in 0..self.plan.shape.groups {
            let name = || Shape::group_name(group);
            for ask in [Request::Master, Request::Replicas, Request::Sentinels] {
                self.hosts[n].ask(&mut self.net, &mut self.watch, ask(name()));
            }
        }
    }

    /// The replicas that a sentinel names.
    pub(super) fn known_replicas(&mut self, n: usize, group: usize) -> Vec<Address> {
        let request = Request::Replicas(Shape::group_name(group));
        match self.hosts[n].ask(&mut self.net, &mut self.watch, request) {
            Some(Value::Array(entries)) => {
                entries.iter().filter_map(address_of).map(|at| self.by_name(&at)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What a sentinel says that it was told is what it was told.
    pub(super) fn ask_back(&mut self, n: usize, group: &str, options: &[String]) {
        if self.hosts[n].doomed() || !self.is_awake(Proc::Sentinel(n)) {
            return;
        }
        let request = Request::Master(group.to_owned());
        let Some(entry) = self.hosts[n].ask(&mut self.net, &mut self.watch, request) else {
            return;
        };
        for pair in options.chunks_exact(2) {
            // Not all that can be set is shown.
            let Some(shown) = field(&entry, &pair[0]) else { continue };
            if shown != pair[1] {
                let how = format!(
                    "sentinel {n}, {group}: {} was set to {}, and is {shown}",
                    pair[0], pair[1]
                );
                self.watch.checkers.fail(self.net.now(), Rule::WhatIsSetIsShown, how);
            }
        }
    }

    /// What a sentinel says of a node is so, and it sends none to a master of another group.
    pub(super) fn verify(&mut self, claim: &Claim) {
        let now = self.net.now();
        match claim {
            Claim::Promoted { sentinel, master, since } => {
                let shape = &self.plan.shape;
                let Some(at) = (0..self.nodes.len()).find(|n| self.nodes[*n].address == *master)
                else {
                    return;
                };
                if self.swapped.contains(&at) {
                    // Another node lived there when this was decided.
                    return;
                }
                // Where names lie, it may be another node of the group that was met.
                let lies = |fault: &Fault| matches!(fault.kind, FaultKind::FalseName(..));
                let met = match self.plan.faults.iter().any(lies) {
                    true => shape.nodes_of(shape.group_of(at)),
                    false => at..at + 1,
                };
                let seen = |n: usize| {
                    let node = &self.nodes[n];
                    node.master_at(now, self.net.running(node.proc))
                };
                let master_at = met.filter_map(seen).max();
                if master_at.is_none_or(|at| at + TENURE_MS < *since) {
                    let how = format!(
                        "sentinel {sentinel} says that {master} was \
                         promoted, which was no master"
                    );
                    self.watch.checkers.fail(now, Rule::WhatIsAnnouncedIsTrue, how);
                }
            }
            Claim::HandsOver { place, node, master } => {
                if let Some(how) = self.what_is_lost(*node, master) {
                    self.watch.checkers.doubt_hand_over(place, how);
                }
            }
            Claim::Tuned { sentinel, group, options } => self.ask_back(*sentinel, group, options),
            Claim::Promotes { sentinel, node, .. } if self.nodes[*node].priority == 0 => {
                let how = format!("sentinel {sentinel} promotes node {node}");
                self.watch.checkers.fail(now, Rule::Priority0IsNeverPromoted, how);
            }
            Claim::Promotes { sentinel, node, groups } => {
                let group = Shape::group_name(self.plan.shape.group_of(*node));
                if !groups.contains(&group) {
                    let how = format!(
                        "sentinel {sentinel} promotes node \
                         {node} for {groups:?}"
                    );
                    self.watch.checkers.fail(now, Rule::HandsOffTheNodesOfOtherGroups, how);
                }
            }
            Claim::Sent { sentinel, node, master } => {
                let shape = &self.plan.shape;
                let at = (0..self.nodes.len()).find(|n| self.nodes[*n].address == *master);
                // A stranger without replicas that says master at a given-away address looks just
                // like an old master that is back.
                let was_master = self.nodes[*node].master_at(now, true).is_some();
                let looks_old = self.swapped.contains(node) && was_master;
                let foreign = at.filter(|n| shape.group_of(*n) != shape.group_of(*node));
                // A master that has traded places goes unnoticed until it has said who it is.
                let is_news = |n: &usize| {
                    let host = &self.hosts[*sentinel];
                    self.traded.contains(n) && !host.has_seen(self.nodes[*n].run_id(), master)
                };
                let foreign = foreign.is_some_and(|n| !is_news(&n));
                let looks_old = looks_old
                    || self.watch.checkers.misled.contains(sentinel)
                    || self.is_traded_unseen(*sentinel, *node);
                if foreign && looks_old {
                    self.tell(|_| {
                        "a stranger was taken for an old master: this run is over".into()
                    });
                    self.captured = true;
                } else if foreign {
                    let how = format!(
                        "sentinel {sentinel} sends node \
                         {node} to {master}"
                    );
                    self.watch.checkers.fail(now, Rule::HandsOffTheNodesOfOtherGroups, how);
                }
            }
        }
    }

    /// What a node lacks that takes the place of a master, or what that may still be told; `None`
    /// if nothing. Of a node that has just been started the sentinel may not know that it was.
    fn what_is_lost(&self, node: usize, master: &Address) -> Option<String> {
        let now = self.net.now();
        let old = (0..self.nodes.len()).find(|n| self.nodes[*n].address == *master)?;
        let is_well = |n: usize| {
            let node = &self.nodes[n];
            let fresh = node.started_at > 0 && now < node.started_at + JUST_STARTED_MS;
            self.net.running(node.proc) && !fresh && !node.boasts() && !self.swapped.contains(&n)
        };
        if old == node || !is_well(old) || !is_well(node) {
            return None;
        }
        let (old, new) = (&self.nodes[old], &self.nodes[node]);
        if old.following().is_some() {
            return None;
        }
        let held: BTreeSet<u32> = writes(new.history()).collect();
        let lacks = writes(old.history()).find(|write| !held.contains(write));
        let goes_on = || format!("{master} takes writes, and {} takes its place", new.address);
        let lacks = lacks.map(|write| format!("{} is promoted without {write}", new.address));
        lacks.or_else(|| (!old.holds_writes(now)).then(goes_on))
    }

    /// A master has traded places, and this sentinel has not seen it in its own: it was started
    /// since, or could not reach it before.
    fn is_traded_unseen(&self, sentinel: usize, node: usize) -> bool {
        let group = Shape::group_name(self.plan.shape.group_of(node));
        let met = self.hosts[sentinel].has_met(self.nodes[node].run_id(), &group);
        self.traded.contains(&node) && !met
    }

    /// In the end all sentinels tell what they announced, and the master holds whatever was written
    /// since all is well; without any fault, whatever was ever confirmed. That its replicas hold
    /// the same is part of being well.
    pub(super) fn check_data(&mut self, well_since: Ms) {
        let now = self.net.now();
        let since = if self.plan.calm { 0 } else { well_since };
        (0..self.hosts.len()).for_each(|n| self.ask_all(n));
        for group in 0..self.plan.shape.groups {
            let nodes = &self.nodes[self.plan.shape.nodes_of(group)];
            let Some(master) = nodes.iter().find(|node| node.following().is_none()) else {
                continue;
            };
            let held: BTreeSet<u32> = writes(master.history()).collect();
            let clients = self.clients.iter().filter(|c| c.group == Shape::group_name(group));
            for client in clients {
                let mut recent = client.acked().iter().filter(|(at, _)| *at >= since).peekable();
                if recent.peek().is_none() {
                    let how = format!("{} writes nothing", client.proc);
                    self.watch.checkers.fail(now, Rule::ClientsFindTheMaster, how);
                }
                if let Some((at, write)) = recent.find(|(_, write)| !held.contains(write)) {
                    let how = format!("{write}, sent at {at} ms, is lost");
                    self.watch.checkers.fail(now, Rule::ConfirmedWritesStay, how);
                }
            }
        }
    }

    /// Who says to be master in the end, and whom sentinels name.
    pub(super) fn group_end(&mut self, group: usize) -> GroupEnd {
        let nodes = self.plan.shape.nodes_of(group);
        let runs = |n: &usize| self.net.running(Proc::Node(*n));
        let masters = nodes.filter(runs).filter(|n| self.nodes[*n].following().is_none());
        let masters = masters.collect();
        let told = (0..self.hosts.len()).map(|n| {
            if !self.is_awake(Proc::Sentinel(n)) {
                return None;
            }
            let request = Request::MasterAddress(Shape::group_name(group));
            let reply = self.hosts[n].ask(&mut self.net, &mut self.watch, request)?;
            let at = self.by_name(&read_address(&reply)?);
            (0..self.nodes.len()).find(|n| self.nodes[*n].address == at)
        });
        GroupEnd { told: told.collect(), masters }
    }

    /// Writes that were confirmed, and those of them that the master does not hold in the end.
    pub(super) fn lost_writes(&self) -> (u64, u64) {
        let (mut acked, mut lost) = (0, 0);
        for (group, client) in self.clients.iter().enumerate() {
            let nodes = &self.nodes[self.plan.shape.nodes_of(group)];
            let master = nodes.iter().find(|node| node.following().is_none());
            let held: BTreeSet<u32> =
                master.map(|m| writes(m.history()).collect()).unwrap_or_default();
            acked += client.acked().len() as u64;
            lost += client.acked().iter().filter(|(_, w)| !held.contains(w)).count() as u64;
        }
        (acked, lost)
    }
}

/// What a sentinel says of others that is not so; whoever is expected without flags may have any.
fn differs(
    what: &str,
    expected: &BTreeMap<String, Option<&str>>,
    told: &BTreeMap<String, Option<String>>,
) -> Option<String> {
    if !expected.keys().eq(told.keys()) {
        let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
        let (told, are) = (names(told.keys().collect()), names(expected.keys().collect()));
        return Some(format!("names the {what} [{told}], which are [{are}]"));
    }
    let flags = expected.values().zip(told);
    let wrong = flags
        .clone()
        .find(|(flags, (_, told))| flags.is_some_and(|flags| told.as_deref() != Some(flags)));
    wrong.map(|(flags, (name, told))| {
        let told = told.as_deref().unwrap_or("nothing");
        format!("says {told} of {name}, not {}", flags.unwrap_or_default())
    })
}

fn writes(history: &[Entry]) -> impl Iterator<Item = u32> {
    history.iter().map(|entry| entry.write)
}

/// The address in an entry of SENTINEL REPLICAS.
fn address_of(entry: &Value) -> Option<Address> {
    Some(Address::new(field(entry, "ip")?, field(entry, "port")?.parse().ok()?))
}

/// A field of an entry of SENTINEL MASTER.
pub(super) fn field<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    match entry {
        Value::Map(pairs) => {
            pairs.iter().find(|(key, _)| key.text() == Some(name)).and_then(|(_, v)| v.text())
        }
        Value::Array(items) => {
            items.chunks(2).find(|pair| pair[0].text() == Some(name)).and_then(|p| p[1].text())
        }
        _ => None,
    }
}
