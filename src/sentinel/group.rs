//! One watched master with its replicas and peers, and its one `step`: look after the links, judge
//! who is down, move the failover on, put stray nodes right.

use std::collections::BTreeMap;

use super::core::Core;
use super::effect::{Command, Effect};
use super::event::{EventKind, Level};
use super::failover::Failover;
use super::flap::Flap;
use super::hello::Hello;
use super::info::Role;
use super::mutant::Guard;
use super::node::{INFO_PERIOD_AWAITED_MS, INFO_PERIOD_RECONF_MS, INFO_PERIOD_TROUBLE_MS, Node};
use super::peer::Peer;
use super::repair::Repoint;
use super::replicas::Replicas;
use super::types::{Address, Epoch, GroupName, Instant, Revision, RunId};
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::resp::Value;

/// Replicas, and other sentinels, that one group may have: each costs a link. More are not taken
/// in.
pub(super) const MEMBERS_MAX: usize = 1_024;
/// A link to a node whose name seems to mean another one is opened anew after so long, in ms.
const RESOLVE_AGAIN_MS: u64 = 5_000;
/// A step settles in a few rounds; more is a defect that tests find, and must not hang the process.
const ROUNDS_MAX: u32 = 32;

/// A group as one sentinel sees it.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: GroupName,
    /// In force now; `settings.master` is where the master is now.
    pub(super) settings: GroupSettings,
    /// What the configuration file declares; `None` for a group added at run time.
    pub(super) declared: Option<GroupSettings>,
    pub(super) master: Node,
    /// What clients are told that the master is; see [`Effect::Show`].
    pub(super) shown: Option<Address>,
    /// [`is_quiet`](Group::is_quiet), as of the last step: whatever may change it leads to one.
    pub(super) quiet: bool,
    pub(super) replicas: Replicas,
    pub(super) peers: BTreeMap<RunId, Peer>,
    pub(super) config_epoch: Epoch,
    /// Holds the present configuration: nobody is sent to its master before.
    pub(super) config_in: Revision,
    /// The last epoch in which we voted.
    pub(super) leader_epoch: Epoch,
    pub(super) voted_for: Option<RunId>,
    /// When that vote was given, as long as it binds us; see `election`.
    pub(super) voted_at: Option<Instant>,
    /// A newcomer that knows nobody here listens before it takes part in elections: since when,
    /// once it hears.
    pub(super) listening: Option<Option<Instant>>,
    /// When a hello of this group was last heard that nobody said whom we may believe: others are
    /// here, with another secret.
    pub(super) unbelieved_at: Option<Instant>,
    /// When the last RESET was, until it is known who lives.
    pub(super) reset_at: Option<Instant>,
    pub(super) odown_since: Option<Instant>,
    pub(super) failover: Option<Failover>,
    pub(super) repoint: Option<Repoint>,
    /// Elections lost in a row, and the moment before which none is begun.
    pub(super) attempts: u32,
    pub(super) not_before: Instant,
    pub(super) flap: Flap,
    /// Until when our vote for another keeps us from standing, and gives others their lead.
    pub(super) held_back: Option<Instant>,
    /// Whom a peer names as the master in the epoch in which we name another, since when, and
    /// whether that was said.
    pub(super) dispute: Option<(Address, Instant, bool)>,
    /// Whom, and of which epoch, we refused as the master since it is somebody else's node.
    pub(super) refused_config: Option<(Address, Epoch)>,
    /// The last sentence said about why nothing happens, so that it is said once.
    pub(super) said: Option<String>,
}

impl Group {
    /// A group as remembered, with links opened to all it knows.
    pub(super) fn new(core: &mut Core, name: GroupName, state: GroupState) -> Group {
        let GroupState { settings, declared, config_epoch, leader_epoch, .. } = state;
        let now = core.now();
        core.out.rests_on_disk(&name);
        let master = Node::new(core, &name, &settings, settings.master.clone());
        let mut group = Group {
            name,
            settings,
            declared,
            master,
            shown: None,
            quiet: false,
            replicas: Replicas::default(),
            peers: BTreeMap::new(),
            config_epoch,
            config_in: core.out.newest(),
            leader_epoch,
            voted_for: state.voted_for,
            // When the vote was given is not known any more: let it bind from now on, to be safe.
            voted_at: (leader_epoch > config_epoch && core.holds(Guard::VoteBindsAfterRestart))
                .then_some(now),
            listening: state.sentinels.is_empty().then_some(None),
            unbelieved_at: None,
            reset_at: None,
            odown_since: None,
            failover: None,
            repoint: None,
            attempts: 0,
            not_before: now,
            flap: Flap::default(),
            held_back: None,
            dispute: None,
            refused_config: None,
            said: None,
        };
        for address in state.replicas {
            if address != group.master.address {
                group.insert_replica(core, address);
            }
        }
        for (id, address) in state.sentinels {
            group.insert_peer(core, id, address);
        }
        group
    }

    /// What must survive a crash.
    pub(super) fn state(&self) -> GroupState {
        GroupState {
            settings: self.settings.clone(),
            declared: self.declared.clone(),
            config_epoch: self.config_epoch,
            leader_epoch: self.leader_epoch,
            voted_for: self.voted_for.clone(),
            replicas: self.replicas.keys().cloned().collect(),
            // Whoever crashes while it listens has to listen again.
            sentinels: match self.listening {
                Some(_) => BTreeMap::new(),
                None => self.peers.iter().map(|(id, p)| (id.clone(), p.address.clone())).collect(),
            },
        }
    }

    /// Closes everything that this group holds open.
    pub(super) fn close(&mut self, core: &mut Core) {
        core.disconnect(self.master.link());
        self.drop_replicas(core);
        core.origins.forget(&self.name);
        for id in std::mem::take(&mut self.peers).into_keys() {
            core.leave_peer(&id, &self.name);
        }
    }

    pub(super) fn drop_replicas(&mut self, core: &mut Core) {
        for replica in std::mem::take(&mut self.replicas).into_values() {
            core.disconnect(replica.link());
            core.origins.forget_place(&self.name, &replica.address);
        }
    }

    pub(super) fn insert_replica(&mut self, core: &mut Core, address: Address) {
        if !self.replicas.contains_key(&address) {
            let node = Node::new(core, &self.name, &self.settings, address.clone());
            self.replicas.insert(address, node);
        }
    }

    pub(super) fn insert_peer(&mut self, core: &mut Core, id: RunId, address: Address) {
        core.join_peer(&id, &address, &self.name, self.settings.down_after_ms);
        let now = core.now();
        self.peers.insert(id, Peer::new(now, address));
    }

    /// The node at this address, as it was configured or discovered.
    pub(super) fn node_mut(&mut self, address: &Address) -> Option<&mut Node> {
        if self.master.address == *address {
            return Some(&mut self.master);
        }
        self.replicas.get_mut(address)
    }

    /// Everything that is due, until nothing moves any more. Returns when to be called again.
    pub(super) fn step(&mut self, core: &mut Core) -> Option<Instant> {
        for round in 0..ROUNDS_MAX {
            debug_assert!(round + 1 < ROUNDS_MAX, "a step of {} does not settle", self.name);
            core.begin_step();
            self.confirm_members(core);
            self.tend_links(core);
            self.listen(core);
            self.settle_origins(core);
            self.judge_nodes(core);
            self.judge_peers(core);
            self.ask_peers(core);
            self.judge_odown(core);
            let moved = self.advance_failover(core);
            self.repair(core);
            self.tend_hellos(core);
            self.tend_pings(core);
            if !moved {
                break;
            }
        }
        self.show(core);
        self.quiet = self.is_quiet(core);
        core.end_step()
    }

    /// Clients are told where the master is, if that is news.
    fn show(&mut self, core: &mut Core) {
        if !self.is_shown(core) {
            let master = Some(self.shown_master(core));
            self.shown.clone_from(&master);
            core.out.emit(Effect::Show { group: self.name.clone(), master });
        }
    }

    /// What clients are told is so.
    pub(super) fn is_shown(&self, core: &Core) -> bool {
        let port = self.master.address.port;
        let host = core.shown_host(&self.master.address, self.master.resolved.as_deref());
        self.shown.as_ref().is_some_and(|shown| shown.host == host && shown.port == port)
    }

    fn tend_links(&mut self, core: &mut Core) {
        self.resolve_again(core);
        let busy = self.failover.is_some() || self.repoint.is_some();
        let odd = self.master.sdown_since.is_some() || self.master.stranger.is_some();
        let trouble = busy || odd;
        let regular = core.tune.info_period_ms;
        let in_trouble = regular.min(INFO_PERIOD_TROUBLE_MS);
        let period = if trouble { in_trouble } else { regular };
        self.master.tend(core, &self.name, &self.settings, period);
        for node in self.replicas.values_mut() {
            let settled = node.info.as_ref().is_some_and(|info| {
                info.link_up && info.master.as_ref().is_some_and(|m| self.master.is_at(m))
            });
            let awaited = node.reconf.filter(|_| busy).map(|reconf| {
                // It mostly takes two round trips, so it is asked soon, and less often with time.
                let age_ms = core.now().since(reconf.sent_at);
                age_ms.clamp(INFO_PERIOD_RECONF_MS, INFO_PERIOD_AWAITED_MS)
            });
            let period = match (awaited, settled) {
                (Some(awaited_ms), _) => regular.min(awaited_ms),
                (None, true) => period,
                (None, false) => in_trouble,
            };
            node.tend(core, &self.name, &self.settings, period);
        }
    }

    /// A name may have meant another machine when a link was opened: then two nodes are one, or the
    /// master is somebody's replica. Such a link is opened anew, and the name asked for again.
    fn resolve_again(&mut self, core: &mut Core) {
        let nodes = || std::iter::once(&self.master).chain(self.replicas.values());
        let doubtful: Vec<Address> = nodes()
            .filter(|node| node.resolved.as_ref().is_some_and(|ip| *ip != node.address.host))
            .filter(|node| self.is_double(node) || self.is_demoted(node))
            .map(|node| node.address.clone())
            .collect();
        for address in doubtful {
            let (name, settings) = (self.name.clone(), self.settings.clone());
            if let Some(node) = self.node_mut(&address)
                && node.health.up
                && core.due(node.health.opened_at.plus(RESOLVE_AGAIN_MS))
            {
                node.reopen(core, &name, &settings);
            }
        }
    }

    /// Another node of this group that answers shows the same run id: it has two addresses, or one
    /// of the two names is wrong.
    pub(super) fn is_double(&self, node: &Node) -> bool {
        let mut nodes = std::iter::once(&self.master).chain(self.replicas.values());
        node.run_id.is_some()
            && nodes.any(|other| {
                other.address != node.address && other.health.up && other.run_id == node.run_id
            })
    }

    fn is_demoted(&self, node: &Node) -> bool {
        node.address == self.master.address && node.role() == Some(Role::Slave)
    }

    /// Says hello wherever it is due: on each node and to each peer.
    fn tend_hellos(&mut self, core: &mut Core) {
        let mut wanted = Vec::new();
        // While something is under way PING tells more; and who waits for the disk asks nobody.
        let asks = self.quiet && core.out.is_durable(core.out.newest());
        for node in std::iter::once(&mut self.master).chain(self.replicas.values_mut()) {
            if node.hello_due(core) {
                node.health.pending += 1;
                if asks && node.is_well() {
                    node.health.asked_by_hello(core, self.settings.down_after_ms);
                }
                wanted.push((node.link(), node.local_ip.clone()));
            }
        }
        for (id, peer) in &mut self.peers {
            if !core.greets(id) {
                continue;
            }
            let due = core.due_about(peer.next_hello, core.tune.hello_slack_ms())
                && !peer.hello_in_flight;
            if let Some(link) = core.peers.get_mut(id).filter(|_| due) {
                peer.hello_in_flight = true;
                peer.next_hello = core.clock.mono.plus(core.tune.publish_period_ms);
                link.health.pending += 1;
                wanted.push((link.health.link, link.local_ip.clone()));
                core.due(peer.next_hello);
            }
        }
        if wanted.is_empty() {
            return;
        }
        let mut hello = Hello {
            sender: Address::new("", 1),
            id: core.my_id.clone(),
            current_epoch: core.current_epoch,
            group: self.name.to_string(),
            master: self.shown_master(core),
            config_epoch: self.config_epoch,
        };
        for (link, local_ip) in wanted {
            hello.sender = core.own_address(local_ip.as_deref().unwrap_or_default());
            for payload in core.as_said(hello.payload()) {
                let command = Command::Hello { payload };
                match core.holds(Guard::HelloOnDisk) {
                    true => core.send_durable(link, &self.name, command),
                    false => core.send(link, command),
                }
            }
        }
    }

    /// Sends each node the PING that is due.
    fn tend_pings(&mut self, core: &mut Core) {
        for node in std::iter::once(&mut self.master).chain(self.replicas.values_mut()) {
            node.health.tend(core, self.settings.down_after_ms);
        }
    }

    /// Nothing is under way, and nothing has to be put right: what is regular changes nothing.
    fn is_quiet(&self, core: &Core) -> bool {
        self.failover.is_none()
            && self.repoint.is_none()
            && self.master.sdown_since.is_none()
            && self.master.stranger.is_none()
            && self.odown_since.is_none()
            && self.replicas.values().all(|node| self.fault(core, node).is_none())
    }

    /// The next hellos go out at once: there is news.
    pub(super) fn hasten_hellos(&mut self, core: &Core) {
        for node in std::iter::once(&mut self.master).chain(self.replicas.values_mut()) {
            node.hasten_hello(core);
        }
        for peer in self.peers.values_mut() {
            peer.next_hello = core.now();
        }
    }

    fn judge_nodes(&mut self, core: &mut Core) {
        let settings = &self.settings;
        let mut changes = Vec::new();
        for (is_master, node) in std::iter::once((true, &mut self.master))
            .chain(self.replicas.values_mut().map(|node| (false, node)))
        {
            let down = node.is_down(core, settings, is_master);
            if down == node.sdown_since.is_some() || core.in_tilt() {
                continue;
            }
            match down {
                true => node.sdown_since = Some(core.now()),
                false => node.forget_sdown(),
            }
            node.settled_since = core.now();
            let kind = if down { EventKind::Sdown } else { EventKind::SdownEnd };
            changes.push((kind, node.address.clone()));
            let silent_ms = node.health.silent_ms(core.moment());
            if down && silent_ms <= settings.down_after_ms && node.is_gone(core, settings) {
                let text = format!(
                    "{} has refused all connections for {} ms: its process is gone",
                    node.address,
                    node.refused_ms(core)
                );
                core.say(Level::Warning, Some(&self.name), text);
            }
        }
        for (kind, address) in changes {
            if address == self.master.address && core.holds(Guard::OpinionsForgotten) {
                self.peers.values_mut().for_each(Peer::forget_opinion);
                self.said = None;
            }
            let details = self.node_details(core, &address);
            core.announce(kind, Some(&self.name), details);
        }
    }

    fn judge_peers(&mut self, core: &mut Core) {
        let mut changes = Vec::new();
        for (id, peer) in &mut self.peers {
            let silent_since = core.peers.get(id).and_then(|link| link.health.silent_since);
            let down = core.silent_beyond(silent_since, self.settings.down_after_ms)
                || core.is_unheard(peer.last_hello);
            if down != peer.sdown_since.is_some() && !core.in_tilt() {
                peer.sdown_since = down.then(|| core.now());
                changes.push((id.clone(), down));
            }
        }
        for (id, down) in changes {
            let kind = if down { EventKind::Sdown } else { EventKind::SdownEnd };
            let details = self.peer_details(core, &id);
            core.announce(kind, Some(&self.name), details);
        }
    }

    /// Sentinels that see the master down, ourselves included.
    fn down_opinions(&mut self, core: &mut Core) -> u32 {
        let mut count = 1;
        for peer in self.peers.values() {
            if let Some(at) = peer.master_down_at
                && !(core.due(at.plus(core.tune.opinion_valid_ms()))
                    && core.holds(Guard::OpinionsExpire))
            {
                count += 1;
            }
        }
        count
    }

    fn judge_odown(&mut self, core: &mut Core) {
        let quorum = self.settings.quorum;
        let opinions = match self.master.sdown_since {
            Some(_) => self.down_opinions(core),
            None => 0,
        };
        let agreed = opinions >= quorum && core.holds(Guard::QuorumSuffices);
        if agreed == self.odown_since.is_some() || core.in_tilt() {
            // Others may be about to agree.
            if let Some(since) = self.master.sdown_since
                && !agreed
                && core.due(since.plus(core.tune.ask_period_ms))
            {
                self.explain_no_quorum(core, opinions);
            }
            return;
        }
        self.odown_since = agreed.then(|| core.now());
        let details = self.master_details(core);
        if agreed {
            core.note_odown();
            let payload = format!("{details} #quorum {opinions}/{quorum}");
            core.announce(EventKind::Odown, Some(&self.name), payload);
        } else {
            core.announce(EventKind::OdownEnd, Some(&self.name), details);
        }
    }

    fn explain_no_quorum(&mut self, core: &mut Core, opinions: u32) {
        let silent: Vec<String> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.sdown_since.is_some())
            .map(|(id, peer)| format!("{} ({})", id.short(), peer.address))
            .collect();
        let mut why = format!(
            "No failover of {}: its master {} is down for {opinions} of {} sentinels, quorum is {}",
            self.name,
            self.master.address,
            self.voters(),
            self.settings.quorum
        );
        if !silent.is_empty() {
            why += &format!("; unreachable sentinels: {}", silent.join(", "));
        }
        self.explain(core, why);
    }

    /// Tells the log why nothing happens; the same sentence is said once.
    pub(super) fn explain(&mut self, core: &mut Core, why: String) {
        if self.said.as_ref() != Some(&why) {
            core.say(Level::Warning, Some(&self.name), why.clone());
            self.said = Some(why);
        }
    }

    /// A peer answered whether our master is down, and for whom it voted.
    pub(super) fn take_opinion(
        &mut self,
        core: &Core,
        id: &RunId,
        question: (&Address, Epoch, bool),
        reply: &Value,
    ) {
        let (asked_master, epoch, vote_asked) = question;
        let about_this_master =
            *asked_master == self.shown_master(core) || !core.holds(Guard::OpinionOfThisMaster);
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.questions_open = peer.questions_open.saturating_sub(1);
        let Some((down, vote)) = read_opinion(reply) else { return };
        let signed_only = core.settings.hello_key.as_ref().is_some_and(|key| key.signed_only);
        if signed_only && peer.sdown_since.is_some() || core.is_another(id) {
            // Whoever has another secret counts for nothing, nor does another in its place.
            return;
        }
        if about_this_master {
            peer.master_down_at = down.then(|| core.now());
            peer.master_up_at = (!down).then(|| core.now());
        }
        if vote_asked && about_this_master {
            peer.answered_epoch = peer.answered_epoch.max(Some(epoch));
        }
        if vote.is_some() && about_this_master {
            peer.vote = vote;
        }
    }

    /// Another address is the master from now on. Nodes keep their links; the old master becomes a
    /// replica to be put right once it is back.
    pub(super) fn switch_master(&mut self, core: &mut Core, to: Address) {
        self.note_failover(core);
        let old = self.shown_master(core);
        let new_master = match self.replicas.remove(&to) {
            Some(node) => node,
            None => Node::new(core, &self.name, &self.settings, to.clone()),
        };
        let mut old_master = std::mem::replace(&mut self.master, new_master);
        old_master.forget_sdown();
        old_master.rebooted_at = None;
        self.replicas.insert(old_master.address.clone(), old_master);
        self.settings.master = to;
        // Whoever hears of it and asks at once is told the same.
        self.show(core);
        self.confirm_master(core);
        let new = self.shown_master(core);
        let payload = format!("{} {} {} {} {}", self.name, old.host, old.port, new.host, new.port);
        core.announce_durable(EventKind::SwitchMaster, Some(&self.name), payload);
        for address in self.replicas.keys().cloned().collect::<Vec<_>>() {
            let details = self.node_details(core, &address);
            core.announce(EventKind::Slave, Some(&self.name), details);
        }
    }

    /// Hellos that wait for the disk say what is so no more.
    pub(super) fn recall_hellos(&mut self, core: &mut Core) {
        if !core.holds(Guard::StaleHelloRecalled) {
            return;
        }
        for link in core.out.recall_hellos(&self.name) {
            let mut nodes = std::iter::once(&mut self.master).chain(self.replicas.values_mut());
            if let Some(node) = nodes.find(|node| node.link() == link) {
                node.hello_recalled();
            }
            for (id, peer) in &mut self.peers {
                if let Some(shared) = core.peers.get_mut(id).filter(|l| l.health.link == link) {
                    shared.health.pending = shared.health.pending.saturating_sub(1);
                    peer.hello_in_flight = false;
                }
            }
        }
    }

    /// The master of a new configuration starts with a clean slate, and so do all opinions of it.
    pub(super) fn confirm_master(&mut self, core: &mut Core) {
        core.out.touch_group(&self.name);
        self.config_in = core.out.newest();
        core.out.rests_on_disk(&self.name);
        self.recall_hellos(core);
        self.odown_since = None;
        if core.holds(Guard::ConfigEndsFailover) {
            self.give_up(core);
        }
        self.repoint = None;
        // A vote in a later epoch than this configuration's still binds us: whoever has it may not
        // know of the configuration, and act.
        let spent =
            self.config_epoch >= self.leader_epoch || self.voted_for.as_ref() == Some(&core.my_id);
        if spent || !core.holds(Guard::LaterVoteBinds) {
            self.voted_at = None;
        }
        self.attempts = 0;
        self.not_before = core.now();
        self.held_back = None;
        self.dispute = None;
        self.said = None;
        if core.holds(Guard::OpinionsForgotten) {
            self.peers.values_mut().for_each(Peer::forget_opinion);
        }
        self.master.forget_sdown();
        // What it said of its role was said before it was the master.
        if core.holds(Guard::RoleOfThisConfig) {
            self.master.role_since = core.now();
        }
        for node in std::iter::once(&mut self.master).chain(self.replicas.values_mut()) {
            node.followed = false;
            node.last_followed = None;
            node.reconf = None;
            node.settled_since = core.now();
            node.hasten_info();
        }
        core.out.touch_group(&self.name);
        self.hasten_hellos(core);
    }

    /// The master's address as it is shown to clients and peers.
    pub(super) fn shown_master(&self, core: &Core) -> Address {
        self.shown(core, &self.master)
    }

    pub(super) fn shown(&self, core: &Core, node: &Node) -> Address {
        let host = core.shown_host(&node.address, node.resolved.as_deref());
        Address::new(host, node.address.port)
    }

    /// `master <name> <ip> <port>`
    pub(super) fn master_details(&self, core: &Core) -> String {
        let at = self.shown_master(core);
        format!("master {} {} {}", self.name, at.host, at.port)
    }

    /// `slave <ip>:<port> <ip> <port> @ <name> <master-ip> <master-port>`, or the master's details.
    pub(super) fn node_details(&self, core: &Core, address: &Address) -> String {
        match self.replicas.get(address) {
            Some(node) => {
                let (at, master) = (self.shown(core, node), self.shown_master(core));
                format!(
                    "slave {} {} {} @ {} {} {}",
                    node.address, at.host, at.port, self.name, master.host, master.port
                )
            }
            None => self.master_details(core),
        }
    }

    /// `sentinel <id> <ip> <port> @ <name> <master-ip> <master-port>`
    pub(super) fn peer_details(&self, core: &Core, id: &RunId) -> String {
        let master = self.shown_master(core);
        let address = match self.peers.get(id) {
            Some(peer) => peer.address.clone(),
            None => Address::new("?", 0),
        };
        format!(
            "sentinel {id} {} {} @ {} {} {}",
            address.host, address.port, self.name, master.host, master.port
        )
    }
}

impl Node {
    /// Sentinel's subjective down: silent for longer than `down-after`; or gone, as its host has
    /// said for as long as `refused-after`; or a master in whose place a stranger answers; or one
    /// that has said for long that it is a replica; or one that restarted and did not come back in
    /// time.
    fn is_down(&mut self, core: &mut Core, settings: &GroupSettings, is_master: bool) -> bool {
        if core.silent_beyond(self.health.silent_since, settings.down_after_ms)
            || self.is_gone(core, settings)
        {
            return true;
        }
        if !is_master {
            return false;
        }
        if self.stranger.as_ref().is_some_and(|of| of.sure) {
            return true;
        }
        let patience_ms = settings.down_after_ms + 2 * core.tune.info_period_ms;
        let demoted = self.role() == Some(Role::Slave) && core.holds(Guard::DemotedIsDown);
        if demoted && core.due(self.role_since.plus(patience_ms)) {
            return true;
        }
        let reboot_ms = settings.master_reboot_down_after_ms;
        match self.rebooted_at {
            Some(at) if reboot_ms > 0 => core.due(at.plus(reboot_ms)),
            _ => false,
        }
    }
}

/// `[down, leader or "*", epoch]`; `None` if it is something else.
fn read_opinion(reply: &Value) -> Option<(bool, Option<(RunId, Epoch)>)> {
    let Value::Array(items) = reply else { return None };
    let [Value::Integer(down), leader, Value::Integer(epoch)] = &items[..] else { return None };
    let vote = leader
        .text()
        .and_then(RunId::parse)
        .zip(u64::try_from(*epoch).ok())
        .filter(|(_, epoch)| *epoch > 0);
    Some((*down == 1, vote))
}
