//! Nodes that do not do what the configuration says: replicas still to be repointed after a
//! failover, a returning old master, a replica of a wrong master.

use super::core::Core;
use super::effect::Command;
use super::election::majority;
use super::event::{EventKind, Level};
use super::group::Group;
use super::info::{Info, Role};
use super::mutant::Guard;
use super::node::{HELLO_PERIOD_MS, Node, Reconf};
use super::types::{Address, GroupName, Instant, RunId};

/// How long a node must have been steadily wrong before a sentinel that did not lead the last
/// failover puts it right, in ms: time enough to hear of a newer configuration that makes it right.
const SETTLED_MS: u64 = 4 * HELLO_PERIOD_MS;

/// Pause after a node refused a SLAVEOF (it is loading its data, say) before it is sent another, in
/// ms.
const REFUSED_PAUSE_MS: u64 = 1_000;

/// For so long, in ms, the hello of a sentinel shows what it knows now.
const LATELY_MS: u64 = 5 * HELLO_PERIOD_MS;
/// Said of a node that is somebody else's.
pub(crate) const LEFT_ALONE: &str = "it is left alone";
/// Said of a master that follows a stranger, with the stranger's address.
pub(crate) const IF_THAT_IS_THE_MASTER: &str = "if that is the master now, say SENTINEL REMOVE";

/// The leader's work after the promotion: all replicas are to follow the new master.
#[derive(Debug)]
pub(super) struct Repoint {
    pub(super) started: Instant,
}

/// What is wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It says master and is not ours.
    Master,
    /// It follows another master; `linked` if that works.
    WrongMaster { linked: bool },
    /// It belongs to somebody else: its address was given to another node. Nothing of ours.
    Foreign,
}

impl Group {
    /// Puts right what is wrong and due.
    pub(super) fn repair(&mut self, core: &mut Core) {
        if core.in_tilt() || (self.failover.is_some() && core.holds(Guard::NoRepairInFailover)) {
            return;
        }
        let newcomer = self.listening.is_some() && self.repoint.is_none();
        if newcomer && core.holds(Guard::NewcomerListens) {
            // The others, if there are any, may know a newer configuration than ours.
            return;
        }
        self.watch_progress(core);
        let sane = self.master_is_sane(core) || !core.holds(Guard::MasterSane);
        if sane && !self.lags_behind(core) {
            let faulty = self.replicas.iter().filter(|(_, node)| self.fault(core, node).is_some());
            for address in faulty.map(|(address, _)| address.clone()).collect::<Vec<_>>() {
                self.repair_node(core, &address);
            }
        }
        self.end_repoint(core);
    }

    /// A master was elected in an epoch that we have not reached: another one than ours, it may be.
    fn lags_behind(&self, core: &Core) -> bool {
        let known = self.config_epoch.max(core.current_epoch);
        let said = self.peers.values().filter_map(|peer| peer.hello);
        let lately = said.filter(|hello| core.now().since(hello.at) < LATELY_MS);
        lately.map(|hello| hello.config_epoch).max() > Some(known)
    }

    /// The master says master, lately, and is not down: others may be sent to it.
    fn master_is_sane(&self, core: &Core) -> bool {
        self.master.role() == Some(Role::Master)
            && self.master.sdown_since.is_none()
            && self.master.stranger.is_none()
            && self.master.info_within(core, 2 * core.tune.info_period_ms)
    }

    pub(super) fn fault(&self, core: &Core, node: &Node) -> Option<Fault> {
        let info = node.info.as_ref()?;
        match (info.role, &info.master) {
            (Role::Slave, Some(master)) if self.master.is_at(master) => None,
            _ if self.is_the_master(node) && core.holds(Guard::NotToItself) => None,
            _ if self.is_foreign(core, node) => Some(Fault::Foreign),
            (Role::Master, _) => Some(Fault::Master),
            (Role::Slave, _) => Some(Fault::WrongMaster { linked: info.link_up }),
        }
    }

    /// The master under another name or address: an order to follow the master would make it follow
    /// itself.
    pub(super) fn is_the_master(&self, node: &Node) -> bool {
        let master = &self.master;
        let same_place = node.address.port == master.address.port
            && (node.is_at(&master.address)
                || master.is_at(&node.address)
                || node.resolved.is_some() && node.resolved == master.resolved);
        let same_process = node.run_id.is_some() && node.run_id == master.run_id;
        node.address != master.address && (same_place || same_process && master.health.up)
    }

    /// A node that was the master by another name is another process now, and so may the other be:
    /// each is asked at once, and nothing is asked of them until they have told.
    pub(super) fn part_doubles(&mut self, before: &RunId, reborn: &Address, now: Instant) {
        let is_master = *reborn == self.master.address;
        let (master, nodes) = (&mut self.master, self.replicas.values_mut());
        for node in nodes.filter(|node| is_master || node.address == *reborn) {
            let other = if is_master { &node.run_id } else { &master.run_id };
            if other.as_ref() == Some(before) {
                node.parted_at = Some(now);
                node.hasten_info();
                master.hasten_info();
            }
        }
    }

    /// An address is no identity: it may have been given to a node of somebody else's, which must
    /// not be made ours. A replica is foreign if it follows a master that is no node of this group,
    /// or a foreign one, unless it is the very process that followed ours before.
    pub(super) fn is_foreign(&self, core: &Core, node: &Node) -> bool {
        let Some(info) = &node.info else { return false };
        match (info.role, &info.master) {
            _ if node.stranger.is_some() => true,
            (Role::Slave, Some(master))
                if self.has_our_history(info) && self.group_apart(core, master).is_none() =>
            {
                false
            }
            (Role::Slave, Some(master)) => {
                let ours = (self.holds_address(master) || self.seems_to_hold(core, master))
                    && !self.replicas.values().any(|node| {
                        node.is_at(master)
                            && node.role() == Some(Role::Master)
                            && self.is_foreign_master(core, node)
                    });
                let elsewhere = || self.whose(core, master, &self.master.address).is_some();
                !ours && (!node.is_ours() || elsewhere())
            }
            (Role::Slave, None) => false,
            (Role::Master, _) => self.is_foreign_master(core, node),
        }
    }

    /// A replica's data are those of our master, whatever name or address it has for it: there may
    /// be an alias, a port that is forwarded, a network inside. Somebody else's replica has
    /// somebody else's history.
    pub(super) fn has_our_history(&self, info: &Info) -> bool {
        // A master that was made somebody's replica has that one's history, and a stranger its own.
        let is_ours = self.master.stranger.is_none();
        let master = self.master.info.as_ref();
        let master = master.filter(|master| master.role == Role::Master && is_ours);
        let ours = master.and_then(|master| master.replid.as_ref());
        ours.is_some() && ours == info.replid.as_ref()
    }

    /// A node that says master is foreign if it has replicas and none of them is ours, if another
    /// group claims its address, too, or if its data are those of another group's master.
    fn is_foreign_master(&self, core: &Core, node: &Node) -> bool {
        let holder = core.claims.holder(&node.address, &self.name);
        let is_of_both = |holder: &GroupName| {
            let run_id = node.run_id.as_ref();
            run_id.is_some_and(|run_id| core.origins.are_both(&self.name, holder, run_id))
        };
        let disputed = holder.is_some_and(|holder| !node.is_ours() && !is_of_both(holder));
        let slaves = node.info.as_ref().map_or(&[][..], |info| &info.slaves);
        let others = !slaves.is_empty() && !slaves.iter().any(|at| self.holds_address(at));
        let of_others = others && core.holds(Guard::OthersReplicasTell);
        let of_other_data = || {
            !node.is_ours()
                && node.info.as_ref().is_some_and(|info| self.is_of_other_data(core, info))
        };
        (disputed && core.holds(Guard::DisputedLeftAlone)) || of_others || of_other_data()
    }

    pub(super) fn holds_address(&self, address: &Address) -> bool {
        self.master.is_at(address) || self.replicas.values().any(|node| node.is_at(address))
    }

    /// By the last lookup a node of ours lives at this address: no connection has told what its
    /// name means, and no other group knows a node of its own there.
    pub(super) fn seems_to_hold(&self, core: &Core, address: &Address) -> bool {
        let mut nodes = std::iter::once(&self.master).chain(self.replicas.values());
        nodes.any(|node| self.seems_at(core, node, address))
    }

    /// Another group that has a node at this address, or one whose name means it and is not ours.
    fn whose<'a>(
        &self,
        core: &'a Core,
        address: &Address,
        own_name: &Address,
    ) -> Option<&'a GroupName> {
        let claims = &core.claims;
        let holder = claims.holder(address, &self.name);
        holder.or_else(|| claims.namesake(address, &self.name, own_name))
    }

    fn seems_at(&self, core: &Core, node: &Node, address: &Address) -> bool {
        node.seems_at(address)
            && self.whose(core, address, &node.address).is_none()
            && core.holds(Guard::LookupShowsFollowers)
    }

    /// A connection has told anew what the master's name means: so whoever was seen to follow that
    /// address follows the master, or did.
    pub(super) fn meet_followers(&mut self) {
        for node in self.replicas.values_mut() {
            if let Some((run_id, master)) = &node.last_followed
                && node.run_id.as_ref() == Some(run_id)
                && self.master.is_at(master)
            {
                node.followed = true;
                node.own_run_id = Some(run_id.clone());
            }
        }
    }

    /// It is the very process that followed the present master, as that is known or seems.
    pub(super) fn has_followed(&self, core: &Core, node: &Node) -> bool {
        let seems_so = |(run_id, master): &(RunId, Address)| {
            node.run_id.as_ref() == Some(run_id) && self.seems_at(core, &self.master, master)
        };
        node.has_followed()
            || node.last_followed.as_ref().is_some_and(seems_so)
                && !(node.role() == Some(Role::Master) && self.is_foreign_master(core, node))
    }

    fn repair_node(&mut self, core: &mut Core, address: &Address) {
        let Some(node) = self.replicas.get(address) else { return };
        let Some(fault) = self.fault(core, node) else { return };
        if fault == Fault::Foreign && core.holds(Guard::ForeignLeftAlone) {
            return self.leave_alone(core, address);
        }
        if node.sdown_since.is_some() || !node.health.up || node.reconf.is_some() {
            return;
        }
        if !core.out.is_durable(self.config_in) && core.holds(Guard::RepointOnDisk) {
            return;
        }
        let since = node.settled_since;
        let is_old = node.info_at.is_some_and(|at| at < node.health.opened_at);
        if is_old && core.holds(Guard::OfThisConnection) {
            // Said on an earlier connection: by now somebody else may live there.
            return;
        }
        // It may be the master by another name, where only one of the two has told its new run id.
        let have_told = |at: Instant| node.info_at >= Some(at) && self.master.info_at >= Some(at);
        if node.parted_at.is_some_and(|at| !have_told(at)) {
            return;
        }
        // A node that followed our master and now says master may know a newer configuration.
        let promoted = fault == Fault::Master && self.has_followed(core, node);
        let leading = self.repoint.is_some() && !(promoted && core.holds(Guard::PromotedHasTime));
        let seen_since = node.info_at.is_some_and(|at| at >= since);
        if !leading && !seen_since {
            return;
        }
        let said = node.info_at.unwrap_or(since);
        let confirmed = self.peers_confirm(core, since) || !core.holds(Guard::PeersConfirm);
        let at_once = !leading && self.no_news_since(core, said);
        let patience_ms = match fault {
            _ if leading || at_once || !core.holds(Guard::Patience) => 0,
            Fault::Master if confirmed => HELLO_PERIOD_MS,
            Fault::WrongMaster { linked: true } => {
                self.settings.failover_timeout_ms.max(SETTLED_MS)
            }
            _ => SETTLED_MS,
        };
        let Some(node) = self.replicas.get(address) else { return };
        let refused_at = node.refused_at.filter(|_| core.holds(Guard::RefusedWaits));
        let refused_until = refused_at.map(|at| at.plus(REFUSED_PAUSE_MS));
        if !core.due(since.plus(patience_ms)) || refused_until.is_some_and(|at| !core.due(at)) {
            return;
        }
        // A second writable master is worse than a few replicas too many in synchronisation.
        let full = self.syncing(core) >= self.settings.parallel_syncs;
        if fault != Fault::Master && full && core.holds(Guard::ParallelSyncs) {
            return;
        }
        let master = self.shown_master(core);
        let sent_at = core.now();
        let Some(node) = self.replicas.get_mut(address) else { return };
        node.reconf = Some(Reconf { sent_at, in_progress: false });
        node.refused = None;
        node.health.send(core, Command::Follow { master });
        // It is a replica now: they are refused.
        node.free_writes(core);
        let kind = match fault {
            _ if leading => EventKind::SlaveReconfSent,
            Fault::Master => EventKind::ConvertToSlave,
            _ => EventKind::FixSlaveConfig,
        };
        let details = self.node_details(core, address);
        core.announce_durable(kind, Some(&self.name), details);
    }

    /// What is said of a master that a foreign node follows.
    pub(super) fn no_node_of_ours(&self, core: &Core, master: &Address) -> String {
        if let Some(other) = self.whose(core, master, &self.master.address) {
            return format!("which is a node of {other}");
        }
        if self.holds_address(master) {
            return "which has replicas of another group".to_owned();
        }
        let nodes = std::iter::once(&self.master).chain(self.replicas.values());
        let unknown: Vec<_> = nodes.filter(|node| node.is_unknown_name()).collect();
        let but = unknown.iter().map(|node| node.address.host.as_str()).collect::<Vec<_>>();
        let but = match but.is_empty() {
            true => String::new(),
            false => format!(" (though nobody can tell yet what {} means)", but.join(", ")),
        };
        format!("which is no node of this group{but}")
    }

    /// Says once why a foreign node is left alone.
    fn leave_alone(&mut self, core: &mut Core, address: &Address) {
        let Some(node) = self.replicas.get(address) else { return };
        let in_doubt = node.stranger.as_ref().is_some_and(|of| !of.sure);
        if node.left_alone == node.run_id || in_doubt {
            return;
        }
        let whose = match node.info.as_ref().and_then(|info| info.master.as_ref()) {
            _ if node.stranger.is_some() => {
                node.stranger.as_ref().map(Group::of_whom).unwrap_or_default()
            }
            Some(at) => format!("follows {at}, {}", self.no_node_of_ours(core, at)),
            None => {
                "is a master that has replicas, an address, or data of another group".to_owned()
            }
        };
        if let Some(node) = self.replicas.get_mut(address) {
            node.left_alone.clone_from(&node.run_id);
        }
        let text = format!(
            "{address} {whose}: {LEFT_ALONE}. If its address has been given to another node, \
             SENTINEL RESET {} forgets it; if it is ours, send it SLAVEOF yourself",
            self.name
        );
        core.say(Level::Warning, Some(&self.name), text);
    }

    /// Replicas that are being repointed or copy the master's data now. One that has not got ready
    /// in `failover-timeout` does not hold up the others any longer.
    fn syncing(&self, core: &Core) -> u32 {
        let now = core.now();
        let patience_ms = self.settings.failover_timeout_ms;
        let syncing = |node: &&Node| {
            let copying = self.fault(core, node).is_none()
                && !self.is_the_master(node)
                && node.sdown_since.is_none()
                && now.since(node.settled_since) < patience_ms
                && node.info.as_ref().is_some_and(|info| !info.link_up);
            node.reconf.is_some() || (copying && core.holds(Guard::CopyingCounts))
        };
        self.replicas.values().filter(syncing).count() as u32
    }

    /// A majority, ourselves included, has said since `since` that it knows no newer configuration
    /// and no election that could make one, in a hello or when asked. Who knows nobody else must
    /// have listened all the time: else others may speak unheard.
    fn peers_confirm(&self, core: &Core, since: Instant) -> bool {
        if self.peers.is_empty() {
            let mut nodes = std::iter::once(&self.master).chain(self.replicas.values());
            return nodes.any(|node| node.subscribed_since.is_some_and(|at| at <= since));
        }
        let confirming = self.peers.values().filter(|peer| {
            let in_a_hello = peer.hello.is_some_and(|hello| {
                hello.at > since
                    && hello.config_epoch == self.config_epoch
                    && hello.current_epoch == self.config_epoch
            });
            in_a_hello || peer.has_no_news(core, self.config_epoch, since)
        });
        confirming.count() as u32 + 1 >= majority(self.voters())
    }

    /// Follows what the INFO of repointed replicas tells.
    fn watch_progress(&mut self, core: &mut Core) {
        if self.replicas.values().all(|node| node.reconf.is_none()) {
            return;
        }
        let leading = self.repoint.is_some();
        let patience_ms = self.settings.failover_timeout_ms.max(core.tune.slave_reconf_timeout_ms);
        let mut events = Vec::new();
        let faults: Vec<_> = self.replicas.values().map(|node| self.fault(core, node)).collect();
        for (node, fault) in self.replicas.values_mut().zip(faults) {
            let Some(mut reconf) = node.reconf else { continue };
            let fresh = node.info_at.is_some_and(|at| at >= reconf.sent_at);
            let linked = node.info.as_ref().is_some_and(|info| info.link_up);
            if fresh && fault.is_none() && !reconf.in_progress {
                reconf.in_progress = true;
                node.reconf = Some(reconf);
                events.push((EventKind::SlaveReconfInprog, node.address.clone()));
            }
            if reconf.in_progress && linked {
                node.reconf = None;
                events.push((EventKind::SlaveReconfDone, node.address.clone()));
            } else if !reconf.in_progress
                && core.due(reconf.sent_at.plus(core.tune.slave_reconf_timeout_ms))
            {
                node.reconf = None;
                events.push((EventKind::SlaveReconfSentTimeout, node.address.clone()));
            } else if node.sdown_since.is_some() || core.due(reconf.sent_at.plus(patience_ms)) {
                node.reconf = None;
            }
        }
        for (kind, address) in events.into_iter().filter(|_| leading) {
            let details = self.node_details(core, &address);
            core.announce_durable(kind, Some(&self.name), details);
        }
    }

    /// Ends the failover once every replica that can be reached follows, or after
    /// `failover-timeout`.
    fn end_repoint(&mut self, core: &mut Core) {
        let Some(repoint) = &self.repoint else { return };
        let done = self.replicas.values().all(|node| {
            if self.fault(core, node) == Some(Fault::Foreign) || self.is_the_master(node) {
                return true;
            }
            let follows = self.fault(core, node).is_none()
                && node.info.as_ref().is_some_and(|info| info.link_up)
                && node.reconf.is_none();
            node.sdown_since.is_some() || node.health.locked_out.is_some() || follows
        });
        let late = core.due(repoint.started.plus(self.settings.failover_timeout_ms));
        if !done && !late {
            return;
        }
        self.repoint = None;
        let details = self.master_details(core);
        if !done {
            let kind = EventKind::FailoverEndForTimeout;
            core.announce_durable(kind, Some(&self.name), details.clone());
        }
        core.announce_durable(EventKind::FailoverEnd, Some(&self.name), details);
    }
}
