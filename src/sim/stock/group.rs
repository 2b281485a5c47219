//! One master with its replicas and peers, and what a tick does for it.

use std::collections::BTreeMap;

use super::core::{Core, Owner, Whom};
use super::failover::{Failover, Step};
use super::instance::{
    FAST_INFO_PERIOD_MS, INFO_PERIOD_MS, Instance, Role, Saying, master_details, peer_details,
    replica_details,
};
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{Epoch, EventKind, GroupName, Instant};

/// A replica, and how far its reconfiguration has come. As in Redis these are flags, not a state:
/// one that was given up is sent and done.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) instance: Instance,
    pub(super) promoted: bool,
    pub(super) sent: bool,
    pub(super) in_progress: bool,
    pub(super) done: bool,
    pub(super) sent_at: Instant,
}

/// Another sentinel, and what it said last. Its opinion is about "the master", whichever that was
/// when it was asked: it outlives a change of address.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) instance: Instance,
    pub(super) hello_at: Instant,
    pub(super) says_down: bool,
    pub(super) answered_at: Instant,
    pub(super) leader: Option<String>,
    pub(super) leader_epoch: Epoch,
}

pub(super) struct Group {
    pub(super) name: GroupName,
    /// Its `master` is the configured address.
    pub(super) settings: GroupSettings,
    pub(super) declared: Option<GroupSettings>,
    pub(super) config_epoch: Epoch,
    pub(super) leader_epoch: Epoch,
    /// For whom we voted; forgotten by a restart and by a change of address.
    pub(super) leader: Option<String>,
    pub(super) master: Instance,
    pub(super) odown_since: Option<Instant>,
    pub(super) failover: Failover,
    pub(super) replicas: BTreeMap<Address, Replica>,
    pub(super) peers: BTreeMap<RunId, Peer>,
}

impl super::Stock {
    pub(super) fn add_group(&mut self, name: GroupName, state: GroupState) {
        let group = Group::new(&mut self.core, name.clone(), state);
        let payload = format!("{} quorum {}", group.details(), group.settings.quorum);
        self.core.announce(EventKind::Monitor, Some(&name), payload);
        self.groups.insert(name, group);
    }
}

impl Group {
    fn new(core: &mut Core, name: GroupName, state: GroupState) -> Group {
        let owner = Owner { group: name.clone(), whom: Whom::Master };
        let at = state.settings.master.clone();
        let mut group = Group {
            master: Instance::new(core, owner, at, &state.settings, Role::Master),
            name,
            settings: state.settings,
            declared: state.declared,
            config_epoch: state.config_epoch,
            leader_epoch: state.leader_epoch,
            leader: None,
            odown_since: None,
            failover: Failover::default(),
            replicas: BTreeMap::new(),
            peers: BTreeMap::new(),
        };
        for address in state.replicas {
            group.add_replica(core, address);
        }
        for (id, address) in state.sentinels {
            group.add_peer(core, id, address);
        }
        group
    }

    pub(super) fn instance_mut(&mut self, whom: &Whom) -> Option<&mut Instance> {
        match whom {
            Whom::Master => Some(&mut self.master),
            Whom::Replica(at) => self.replicas.get_mut(at).map(|replica| &mut replica.instance),
            Whom::Peer(id) => self.peers.get_mut(id).map(|peer| &mut peer.instance),
        }
    }

    pub(super) fn add_replica(&mut self, core: &mut Core, address: Address) {
        let whom = Whom::Replica(address.clone());
        let owner = Owner { group: self.name.clone(), whom };
        let replica = Replica {
            instance: Instance::new(core, owner, address.clone(), &self.settings, Role::Slave),
            promoted: false,
            sent: false,
            in_progress: false,
            done: false,
            sent_at: core.now,
        };
        self.replicas.insert(address, replica);
    }

    pub(super) fn add_peer(&mut self, core: &mut Core, id: RunId, address: Address) {
        let owner = Owner { group: self.name.clone(), whom: Whom::Peer(id.clone()) };
        let peer = Peer {
            instance: Instance::new(core, owner, address, &self.settings, Role::Master),
            hello_at: core.now,
            says_down: false,
            answered_at: core.now,
            leader: None,
            leader_epoch: 0,
        };
        self.peers.insert(id, peer);
    }

    pub(super) fn remove_peer(&mut self, core: &mut Core, id: &RunId) -> bool {
        let peer = self.peers.remove(id);
        peer.inspect(|peer| drop(core.disconnect(peer.instance.link))).is_some()
    }

    /// Closes all links.
    pub(super) fn close(&mut self, core: &mut Core) {
        core.disconnect(self.master.link);
        self.drop_replicas(core);
        self.drop_peers(core);
    }

    fn drop_replicas(&mut self, core: &mut Core) {
        for replica in std::mem::take(&mut self.replicas).into_values() {
            core.disconnect(replica.instance.link);
        }
    }

    fn drop_peers(&mut self, core: &mut Core) {
        for peer in std::mem::take(&mut self.peers).into_values() {
            core.disconnect(peer.instance.link);
        }
    }

    pub(super) fn details(&self) -> String {
        master_details(&self.name, &self.settings.master)
    }

    pub(super) fn replica_details(&self, at: &Address) -> String {
        replica_details(at, &self.name, &self.settings.master)
    }

    pub(super) fn announce(&self, core: &mut Core, kind: EventKind) {
        core.announce(kind, Some(&self.name), self.details());
    }

    pub(super) fn announce_replica(&self, core: &mut Core, kind: EventKind, at: &Address) {
        core.announce(kind, Some(&self.name), self.replica_details(at));
    }

    /// Where clients and hellos are sent: the promoted replica once it is promoted, although the
    /// switch is announced later.
    pub(super) fn shown(&self) -> &Address {
        self.failover.shown(&self.settings.master)
    }

    /// `sentinelHandleRedisInstance` for all of them.
    pub(super) fn tick(&mut self, core: &mut Core) {
        let down_after_ms = self.settings.down_after_ms;
        let saying = Saying {
            group: &self.name,
            master: self.failover.shown(&self.settings.master),
            config_epoch: self.config_epoch,
        };
        self.master.tend(core, down_after_ms, Some(INFO_PERIOD_MS), &saying);
        if !core.tilt {
            self.act(core);
        }
        let Group { name, settings, master: _, failover, replicas, peers, .. } = self;
        let saying = Saying {
            group: name,
            master: failover.shown(&settings.master),
            config_epoch: self.config_epoch,
        };
        let hurry = self.odown_since.is_some() || failover.step != Step::None;
        for (at, replica) in replicas {
            let hurry = hurry || replica.instance.link_down_ms != 0;
            let period = if hurry { FAST_INFO_PERIOD_MS } else { INFO_PERIOD_MS };
            replica.instance.tend(core, down_after_ms, Some(period), &saying);
            if !core.tilt
                && let Some(kind) = replica.instance.check_down(core, settings, false)
            {
                let details = replica_details(at, name, &settings.master);
                core.announce(kind, Some(name), details);
            }
        }
        for (id, peer) in peers {
            peer.instance.tend(core, down_after_ms, None, &saying);
            if !core.tilt
                && let Some(kind) = peer.instance.check_down(core, settings, false)
            {
                let details = peer_details(id, &peer.instance.address, name, &settings.master);
                core.announce(kind, Some(name), details);
            }
        }
    }

    /// The acting half of a tick, for the master.
    fn act(&mut self, core: &mut Core) {
        let now = core.now;
        let slave_for = match self.master.role {
            Role::Slave => now.since(self.master.role_since),
            Role::Master => 0,
        };
        let patience = self.settings.down_after_ms + 2 * INFO_PERIOD_MS;
        let reboot = self.settings.master_reboot_down_after_ms;
        let rebooting = self.master.rebooted_at.is_some_and(|at| now.since(at) > reboot);
        let unfit = slave_for > patience || rebooting;
        if let Some(kind) = self.master.check_down(core, &self.settings, unfit) {
            self.announce(core, kind);
        }
        self.check_odown(core);
        if self.start_failover_if_needed(core) {
            self.ask_peers(core, true);
        }
        self.advance(core);
        self.ask_peers(core, false);
    }

    fn check_odown(&mut self, core: &mut Core) {
        let agree = 1 + self.peers.values().filter(|peer| peer.says_down).count();
        let need = self.settings.quorum;
        let odown = self.master.sdown && agree >= need as usize;
        if odown == self.odown_since.is_some() {
            return;
        }
        if odown {
            self.odown_since = Some(core.now);
            let payload = format!("{} #quorum {agree}/{need}", self.details());
            core.announce(EventKind::Odown, Some(&self.name), payload);
        } else {
            self.odown_since = None;
            self.announce(core, EventKind::OdownEnd);
        }
    }

    /// `sentinelMasterLooksSane`
    pub(super) fn master_is_sane(&self, now: Instant) -> bool {
        self.master.role == Role::Master
            && !self.master.sdown
            && self.odown_since.is_none()
            && super::instance::age(now, self.master.info_at) < 2 * INFO_PERIOD_MS
    }

    /// `sentinelResetMaster`. Nothing of this is written.
    pub(super) fn reset(&mut self, core: &mut Core, with_peers: bool) {
        self.drop_replicas(core);
        if with_peers {
            self.drop_peers(core);
        }
        self.odown_since = None;
        self.leader = None;
        self.failover = Failover { epoch: self.failover.epoch, ..Failover::default() };
        self.master.forget(core, &self.settings);
    }

    /// `sentinelResetMasterAndChangeAddress`: peers stay, with their opinions.
    pub(super) fn change_address(&mut self, core: &mut Core, to: Address) {
        let mut replicas: Vec<Address> =
            self.replicas.keys().filter(|at| **at != to).cloned().collect();
        let old = std::mem::replace(&mut self.settings.master, to.clone());
        if old != to && !replicas.contains(&old) {
            replicas.push(old);
        }
        self.master.address = to;
        self.reset(core, false);
        self.master.sdown_since = None;
        for at in replicas {
            self.add_replica(core, at.clone());
            self.announce_replica(core, EventKind::Slave, &at);
        }
        core.flush();
    }

    /// Its lines of the configuration file. From the promotion on they name the new master, and
    /// the old one in the place of the promoted replica.
    pub(super) fn state(&self) -> GroupState {
        let shown = self.shown();
        let old = &self.settings.master;
        let replica = |at: &Address| if at == shown { old.clone() } else { at.clone() };
        GroupState {
            settings: GroupSettings { master: shown.clone(), ..self.settings.clone() },
            declared: self.declared.clone(),
            config_epoch: self.config_epoch,
            leader_epoch: self.leader_epoch,
            voted_for: None,
            replicas: self.replicas.keys().map(replica).collect(),
            sentinels: self
                .peers
                .iter()
                .map(|(id, peer)| (id.clone(), peer.instance.address.clone()))
                .collect(),
        }
    }
}
