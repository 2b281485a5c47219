//! What comes to a sentinel, shown to the checkers with what they must know of it, and the answer
//! that it may owe.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Host, Link, Net, Watch};
use crate::config::state::State;
use crate::resp::Value;
use crate::sentinel::types::{Address, EPOCH_JUMP_MAX, Epoch, RunId};
use crate::sentinel::{Command, Effect, Input, LinkEvent, LinkId, Request, TargetKind};
use crate::sim::checkers::{Seat, Speaker};
use crate::sim::rules::Rule;
use crate::sim::wire::Ms;

impl Host {
    /// Shows to the checkers what comes in.
    pub(super) fn overhear(&self, net: &Net, watch: &mut Watch, input: &Input) {
        let from = match input {
            Input::Link { link, .. } => self.links.get(link).map(|link| &link.known_as),
            _ => None,
        };
        if let Some(disk) = self.read_disk(net)
            && !self.stock
        {
            let speaker = self.speaker(net.now(), &disk);
            let disk = (self.disk.has_failed(), self.disk.is_settled());
            let read = match input {
                // About nobody, for it.
                Input::Request { request, .. } if !self.understands(net, request) => {
                    Cow::Owned(Input::Wake)
                }
                _ => net.shown.input(input),
            };
            if self.is_puzzled(net) {
                watch.checkers.puzzled(self.number);
            }
            watch.checkers.hears(&speaker, from, &read, disk);
        }
    }

    /// True if it knows a node by its name and by its address, where sentinels show addresses.
    pub(super) fn is_puzzled(&self, net: &Net) -> bool {
        if net.shown.is_empty() {
            return false;
        }
        let mut once = BTreeSet::new();
        let mut nodes = self.links.values().filter(|l| l.target.kind == TargetKind::Node);
        nodes.any(|link| !once.insert(&link.known_as))
    }

    /// True if it can know whom a question is about.
    pub(super) fn understands(&self, net: &Net, question: &Request) -> bool {
        let Request::IsMasterDown { host, port, .. } = question else { return true };
        let port = u16::try_from(*port);
        net.shown.is_empty() || port.is_ok_and(|p| self.knows_whom(net, &Address::new(host, p)))
    }

    /// True if it can know whom an address means that others show: what a name means is unknown
    /// until it is told, by a connection or by a lookup, and so is the name of an address.
    pub(super) fn knows_whom(&self, net: &Net, at: &Address) -> bool {
        let node = net.shown.node(at);
        let is_known = |link: &Link| {
            link.known_as == node && (link.target.address == *at || link.ear.is_meant(&at.host))
        };
        self.links.values().any(is_known)
    }

    /// Now and then it is asked what it should have done by now.
    pub(super) fn look(&self, net: &Net, watch: &mut Watch) {
        if !self.stock
            && watch.checkers.is_to_be_looked_at(self.number, net.now())
            && let Some(disk) = self.read_disk(net)
        {
            watch.checkers.look(&self.speaker(net.now(), &disk), &self.seat());
        }
    }

    /// What it was told until now.
    pub(super) fn seat(&self) -> Seat<'_> {
        let (mut ears, mut peers) = (BTreeMap::new(), BTreeMap::new());
        let mut twice = Vec::new();
        for link in self.links.values() {
            let of_kind = match link.target.kind {
                TargetKind::Node => &mut ears,
                TargetKind::Sentinel => &mut peers,
            };
            if of_kind.insert(&link.known_as, &link.ear).is_some() {
                twice.push(&link.known_as);
            }
        }
        for address in twice {
            ears.remove(address);
            peers.remove(address);
        }
        let settled = self.disk.is_settled();
        Seat { ears, peers, hellos: &self.hellos, settled }
    }

    /// True if it has seen this process at the address of a node of the group since it started.
    pub(in crate::sim) fn has_met(&self, run_id: &RunId, group: &str) -> bool {
        let Some(group) = self.disk.content().and_then(|state| state.groups.get(group)) else {
            return false;
        };
        let mut nodes = group.replicas.iter().chain([&group.settings.master]);
        nodes.any(|at| self.has_seen(run_id, at))
    }

    /// The same of one address.
    pub(in crate::sim) fn has_seen(&self, run_id: &RunId, at: &Address) -> bool {
        self.links.values().any(|link| link.known_as == *at && link.ear.has_been(run_id))
    }

    /// What its disk remembers, as it is to be read.
    pub(super) fn read_disk(&self, net: &Net) -> Option<Cow<'_, State>> {
        self.disk.content().map(|state| net.shown.state(state))
    }

    pub(super) fn speaker<'a>(&self, now: Ms, disk: &'a State) -> Speaker<'a> {
        let since = self.busy_since.unwrap_or(now);
        let (waited_ms, number, id) = (self.waited_ms, self.number, &disk.my_id);
        Speaker { at: now, since, waited_ms, number, id, disk }
    }

    /// Whoever shows an older configuration than ours is to be told the newer one at once: over
    /// which link, and of which group. Not if it is being told already.
    pub(super) fn debt(&self, input: &Input) -> Option<(LinkId, String)> {
        let payload = match input {
            Input::Link { event: LinkEvent::Hello { payload }, .. } => payload,
            Input::Request { request: Request::Hello(payload), .. } => payload,
            _ => return None,
        };
        let (sender, id, current, group, config) = read_sender(payload)?;
        let disk = self.disk.content().filter(|_| !self.stock)?;
        let known = disk.groups.get(group)?;
        if current > disk.current_epoch + EPOCH_JUMP_MAX {
            return None;
        }
        if config >= known.config_epoch || known.sentinels.get(&id) != Some(&sender) {
            return None;
        }
        let mut links = self.links.iter().filter(|(_, link)| {
            link.target.kind == TargetKind::Sentinel && link.target.address == sender
        });
        // With two links one is that of a former self.
        let (Some((id, link)), None) = (links.next(), links.next()) else { return None };
        let of_group = |payload: &str| payload.split(',').nth(4) == Some(group);
        let told =
            |command: &Command| matches!(command, Command::Hello { payload } if of_group(payload));
        let being_told = link.commands.unanswered.iter().any(told);
        (link.commands.up && self.disk.is_settled() && !being_told).then(|| (*id, group.to_owned()))
    }

    pub(super) fn demand_debt(&mut self, now: Ms, watch: &mut Watch) {
        if let Some((_, group)) = self.debt.take() {
            let how = format!("sentinel {} does not say what it knows of {group}", self.number);
            watch.checkers.fail(now, Rule::WhoeverLagsIsToldAtOnce, how);
        }
    }
}

/// The answer that a master is down.
pub(super) fn says_down(effect: &Effect) -> bool {
    let Effect::Reply { reply: Value::Array(items), .. } = effect else { return false };
    items.first() == Some(&Value::Integer(1))
}

/// Whence a hello comes, from whom, its epoch, its group and the configuration epoch.
fn read_sender(payload: &str) -> Option<(Address, RunId, Epoch, &str, Epoch)> {
    let fields: Vec<&str> = payload.split(',').collect();
    let [host, port, id, current, group, _, _, config] = fields[..] else { return None };
    let sender = Address::new(host, port.parse().ok()?);
    Some((sender, RunId::parse(id)?, current.parse().ok()?, group, config.parse().ok()?))
}
