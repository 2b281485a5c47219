//! The operator: what he says to sentinels, and how he helps, as the documents ask of him, where no
//! sentinel can know.

use std::collections::BTreeSet;
use std::fmt;

use super::client::read_address;
use super::faults::{Fault, FaultKind, Order};
use super::host::Host;
use super::plan::Shape;
use super::wellness::field;
use super::wire::{Ms, Note, Proc};
use super::words;
use super::world::{PROBE_MS, World};
use crate::resp::Value;
use crate::sentinel::Request;
use crate::sentinel::types::Address;

/// So long after all is healed sentinels should be of one mind, in ms.
const DISAGREE_MS: Ms = 60_000;

/// What an operator does that no sentinel could know to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Help {
    /// `RESET *`: something is gone for good.
    Reset,
    /// `MONITOR`, after a REMOVE if need be: a file was lost or old, or names the wrong master.
    Monitor,
    /// `SET`: a sentinel does not have the settings of the group.
    Set,
    /// `REPLICAOF`: a node is known to no sentinel, or left alone.
    ReplicaOf,
    /// `SLAVEOF NO ONE`: there is no master, and no sentinel may make one.
    NoOne,
    /// A master that moved gets its old address again: nobody can replace it, or there are
    /// sentinels that cannot find each other without it.
    AddressBack,
}

impl fmt::Display for Help {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Help::Reset => "RESET",
            Help::Monitor => "MONITOR",
            Help::Set => "SET",
            Help::ReplicaOf => "REPLICAOF",
            Help::NoOne => "SLAVEOF NO ONE",
            Help::AddressBack => "an address back",
        })
    }
}

impl World {
    /// Says to sentinels what an operator has to say, in order; comes again while one is out of
    /// reach.
    pub(super) fn run_errands(&mut self) {
        for (n, request) in std::mem::take(&mut self.errands) {
            // Whether it could be written is seen later: the reply waits for the disk.
            if self.order(n, request.clone()).is_none() || self.hosts[n].disk.failing {
                self.errands.push_back((n, request));
            }
        }
        if !self.errands.is_empty() {
            self.net.remind(PROBE_MS, Note::Operator);
        }
    }

    /// An operator asks a sentinel for something. `None` if that is out of reach; the reply is
    /// `None` if it waits for the disk.
    pub(super) fn order(&mut self, n: usize, request: Request) -> Option<Option<Value>> {
        let proc = Proc::Sentinel(n);
        if !self.is_awake(proc) {
            return None;
        }
        match &request {
            Request::Set { name, .. } => self.watch.checkers.tuned(n, name, self.net.now()),
            Request::Monitor { name, .. } => self.watch.checkers.monitored(n, name),
            _ => {}
        }
        let text = words::typed(&request);
        let reply = self.hosts[n].ask(&mut self.net, &mut self.watch, request);
        self.tell(|_| {
            let reply = reply.as_ref().map_or_else(|| "answered later".into(), words::reply);
            format!("an operator asks {proc}: {text} ({reply})")
        });
        self.after_sentinel(n);
        Some(reply)
    }

    pub(super) fn reset_all(&mut self) {
        self.watch.helps.insert(Help::Reset);
        for n in 0..self.hosts.len() {
            self.errands.push_back((n, Request::Reset("*".into())));
        }
    }

    /// Where a sentinel says that the master is.
    pub(super) fn told_by(&mut self, n: usize, group: usize) -> Option<Address> {
        if !self.is_awake(Proc::Sentinel(n)) {
            return None;
        }
        let request = Request::MasterAddress(Shape::group_name(group));
        let told = self.hosts[n].ask(&mut self.net, &mut self.watch, request);
        self.after_sentinel(n);
        read_address(&told?).map(|at| self.by_name(&at))
    }

    /// The name of the node that is at this address, where nodes have names and sentinels tell
    /// their addresses; else the same.
    pub(super) fn by_name(&self, told: &Address) -> Address {
        let here = |n: &usize| {
            let node = &self.nodes[*n];
            node.address.port == told.port && self.net.ip(node.proc) == told.host
        };
        let is_shown = self.plan.shape.shows_ips;
        let node = (0..self.nodes.len()).find(|n| is_shown && here(n));
        node.map_or_else(|| told.clone(), |n| self.nodes[n].address.clone())
    }

    /// The master that a node follows.
    pub(super) fn master_followed(&self, n: usize) -> Option<Address> {
        self.nodes[n].following().map(|master| self.by_name(master))
    }

    /// Where another sentinel says that the master is; the operator asks one after the other until
    /// one names an address at which there is a node.
    pub(super) fn told_master(&mut self, group: usize, except: usize) -> Address {
        let mut nowhere = None;
        for n in (0..self.hosts.len()).filter(|n| *n != except) {
            match self.told_by(n, group) {
                Some(address) if self.is_somewhere(&address) => return address,
                told => nowhere = nowhere.or(told),
            }
        }
        if let Some(address) = nowhere {
            return address;
        }
        // He knows which was the master, even if it does not run.
        let nodes = self.plan.shape.nodes_of(group);
        let was_master = nodes.clone().find(|n| self.nodes[*n].following().is_none());
        let master = was_master.map(|n| self.nodes[n].address.clone());
        let master = self.master_of(group, &[]).or(master);
        master.unwrap_or_else(|| self.nodes[nodes.start].address.clone())
    }

    /// An operator makes a replica of those that run a master, where there is none: the one of
    /// which he is told, if any.
    fn make_master(&mut self, group: usize, told: Option<&Address>) -> Option<Address> {
        let runs = |n: &usize| self.net.running(Proc::Node(*n));
        let running = self.plan.shape.nodes_of(group).filter(runs);
        let worth =
            |n: &usize| (Some(&self.nodes[*n].address) == told, self.nodes[*n].history().len());
        let n = running.max_by_key(worth)?;
        self.watch.helps.insert(Help::NoOne);
        self.tell(|_| format!("an operator says SLAVEOF NO ONE to node {n}"));
        self.nodes[n].become_master(&mut self.net);
        Some(self.nodes[n].address.clone())
    }

    /// MONITOR and SET, as soon as the sentinel can be reached.
    pub(super) fn monitor_again(&mut self, n: usize, group: usize, master: Address) {
        let monitor = Request::Monitor {
            name: Shape::group_name(group),
            host: master.host,
            port: master.port.to_string(),
            quorum: self.plan.shape.quorum.to_string(),
        };
        self.errands.push_back((n, monitor));
        self.set_again(n, group);
    }

    fn set_again(&mut self, n: usize, group: usize) {
        self.errands.push_back((n, set(group, &self.plan.shape.settings())));
    }

    /// A sentinel says of a group that it has the settings of this run.
    fn is_set(&self, entry: &Value) -> bool {
        let settings = self.plan.shape.settings();
        settings.iter().all(|(name, value)| field(entry, name) == Some(&value.to_string()))
    }

    /// Some time after all is healed an operator looks around. A node that was down at a RESET or
    /// REMOVE is known to nobody when it is back, and has to be sent to its master, as has one of
    /// which the log says that it is left alone; a sentinel with an old file may not watch a group
    /// that it was told to watch since; one that died before it answered may not have its settings.
    pub(super) fn adopt_forgotten(&mut self) {
        self.bring_back_masters();
        if self.healed_at.is_some_and(|at| self.net.now() > at + DISAGREE_MS) {
            self.settle_quarrels();
        }
        let groups = self.plan.shape.groups;
        for at in 0..self.hosts.len() * groups {
            let (n, group) = (at / groups, at % groups);
            let request = Request::Master(Shape::group_name(group));
            let answer = self.hosts[n].ask(&mut self.net, &mut self.watch, request);
            let mut led_away = self.watch.led_away.remove(&(n, Shape::group_name(group)));
            // Or that a stranger lives in its place, though all are back in theirs.
            led_away |= self.watch.displaced.remove(&(n, Shape::group_name(group)));
            // The log names the master of which nobody has told the sentinel. That may follow ours.
            let mut named = self.master_of(group, &[]).filter(|_| led_away);
            // Or its file names an address that the master left before it could meet the others.
            let told = self.told_by(n, group);
            if told.is_some_and(|told| !self.is_somewhere(&told)) {
                let others = self.told_master(group, n);
                if self.is_somewhere(&others) {
                    (led_away, named) = (true, Some(others));
                }
            }
            if led_away && self.order(n, Request::Remove(Shape::group_name(group))).is_some() {
                self.watch.checkers.removed(n, &Shape::group_name(group));
            }
            if led_away && named.is_none() {
                named = self.make_master(group, None);
            }
            if led_away || matches!(answer, Some(Value::Error(_))) {
                let master = named.unwrap_or_else(|| self.told_master(group, n));
                self.watch.helps.insert(Help::Monitor);
                self.monitor_again(n, group, master);
            } else if answer.is_some_and(|answer| !self.is_set(&answer)) {
                self.watch.helps.insert(Help::Set);
                self.set_again(n, group);
            }
        }
        self.run_errands();
        let moves = |fault: &Fault| {
            matches!(fault.kind, FaultKind::Move(_) | FaultKind::Swap(..) | FaultKind::Trade(..))
        };
        let moved = self.must_reset || self.plan.faults.iter().any(moves);
        if !moved && !self.forgetful && !self.was_reset() {
            return;
        }
        for group in 0..self.plan.shape.groups {
            let master = self.told_master(group, usize::MAX);
            let mut known = BTreeSet::from([master.clone()]);
            for n in 0..self.hosts.len() {
                known.extend(self.known_replicas(n, group));
            }
            for n in self.plan.shape.nodes_of(group) {
                // Or it follows an address at which nobody is any more.
                let lost =
                    self.master_followed(n).is_some_and(|master| !self.is_somewhere(&master));
                let address = &self.nodes[n].address;
                let left_alone =
                    *address != master && self.watch.left_alone.contains(&address.to_string());
                if known.contains(address) && !lost && !left_alone || *address == master {
                    continue;
                }
                let master = self.told_master(group, usize::MAX);
                if self.master_followed(n).as_ref() == Some(&master) {
                    continue;
                }
                self.watch.helps.insert(Help::ReplicaOf);
                self.tell(|_| format!("an operator sends node {n} to {master}"));
                self.nodes[n].follow(&mut self.net, master);
            }
        }
    }

    /// The logs say that sentinels name different masters of one configuration: those that do not
    /// name the one with the most data are told anew.
    fn settle_quarrels(&mut self) {
        for group in 0..self.plan.shape.groups {
            if !self.watch.quarrels.contains(&Shape::group_name(group)) {
                continue;
            }
            let told: Vec<_> = (0..self.hosts.len()).map(|n| self.told_by(n, group)).collect();
            if told.iter().flatten().collect::<BTreeSet<_>>().len() < 2 {
                continue;
            }
            let leads = |n: &usize| {
                let node = &self.nodes[*n];
                self.net.running(node.proc) && node.following().is_none()
            };
            let masters = self.plan.shape.nodes_of(group).filter(leads);
            let Some(n) = masters.max_by_key(|n| self.nodes[*n].history().len()) else { continue };
            let master = self.nodes[n].address.clone();
            for (n, told) in told.into_iter().enumerate() {
                let name = Shape::group_name(group);
                if told.is_some_and(|told| told != master)
                    && self.order(n, Request::Remove(name.clone())).is_some()
                {
                    self.watch.checkers.removed(n, &name);
                    self.watch.helps.insert(Help::Monitor);
                    self.monitor_again(n, group, master.clone());
                }
            }
        }
    }

    /// The log says that nobody can replace a master that is none any more: he makes it one. Or it
    /// moved, and nobody can replace it, or there are sentinels that cannot meet the others without
    /// it: its address is given back to it.
    pub(super) fn bring_back_masters(&mut self) {
        let no_candidate = std::mem::take(&mut self.watch.no_candidate);
        let may_be_apart = self.was_reset() || self.forgetful || !self.plan.shape.late.is_empty();
        for group in 0..self.plan.shape.groups {
            let told = self.told_master(group, usize::MAX);
            let none_can = no_candidate.contains(&Shape::group_name(group));
            if self.is_somewhere(&told) {
                // It follows another, and its `replica-priority` forbids to promote it.
                if none_can && (self.master_of(group, &[]).is_none() || self.is_misled(&told)) {
                    self.make_master(group, Some(&told));
                }
                continue;
            }
            if !none_can && !may_be_apart {
                continue;
            }
            for n in self.plan.shape.nodes_of(group) {
                if self.plan.shape.node_address(n) == told {
                    self.watch.helps.insert(Help::AddressBack);
                    self.tell(|_| format!("an operator gives node {n} its address back: {told}"));
                    self.kill(Proc::Node(n), false);
                    self.place_node(n, self.plan.shape.machine_of(Proc::Node(n)), told.port);
                    self.start(Proc::Node(n));
                }
            }
        }
    }

    /// True if the node at this address was sent to itself, by a name that lied.
    fn is_misled(&self, address: &Address) -> bool {
        let node = (0..self.nodes.len()).find(|n| self.nodes[*n].address == *address);
        let follows_itself =
            node.is_some_and(|n| self.master_followed(n).as_ref() == Some(address));
        self.plan.shape.named && follows_itself
    }

    /// True if sentinels are told in this run to forget.
    pub(super) fn was_reset(&self) -> bool {
        let was_reset = |fault: &Fault| {
            matches!(fault.kind, FaultKind::Order(_, Order::Reset(_) | Order::Remove(_)))
        };
        self.plan.faults.iter().any(was_reset)
    }

    /// True if every sentinel's masters are where nodes are.
    pub(super) fn has_masters(&mut self) -> bool {
        (0..self.plan.shape.groups).all(|group| {
            let told = self.told_master(group, usize::MAX);
            self.is_somewhere(&told)
        })
    }

    /// True if a node is at this address.
    pub(super) fn is_somewhere(&self, address: &Address) -> bool {
        self.nodes.iter().any(|node| node.address == *address)
    }

    /// True if a sentinel names this node as the master of its group, or remembers it as such.
    pub(super) fn is_told_master(&self, n: usize) -> bool {
        let group = Shape::group_name(self.plan.shape.group_of(n));
        let remembers = |host: &Host| {
            let mut known = host.disk.contents().filter_map(|state| state.groups.get(&group));
            known.any(|known| known.settings.master == self.nodes[n].address)
        };
        self.hosts.iter().any(remembers)
    }

    /// A node of the group that runs as its master, other than these.
    pub(super) fn master_of(&self, group: usize, except: &[usize]) -> Option<Address> {
        self.plan
            .shape
            .nodes_of(group)
            .filter(|n| !except.contains(n) && self.net.running(Proc::Node(*n)))
            .find(|n| self.nodes[*n].following().is_none())
            .map(|n| self.nodes[n].address.clone())
    }
}

pub(super) fn set(group: usize, options: &[(&str, u64)]) -> Request {
    let words =
        options.iter().flat_map(|(option, value)| [(*option).to_owned(), value.to_string()]);
    Request::Set { name: Shape::group_name(group), options: words.collect() }
}
