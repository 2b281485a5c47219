//! What can be read of a sentinel by those who look on: the simulator's checkers, metrics, status.

use std::collections::BTreeMap;

use super::core::Core;
use super::group::Group;
use super::info::Role;
use super::types::{Address, Epoch, GroupName, RunId};

/// A reading of one sentinel between two inputs.
#[derive(Clone, Copy)]
pub struct View<'a> {
    core: &'a Core,
    groups: &'a BTreeMap<GroupName, Group>,
}

/// A group in a [`View`].
#[derive(Debug, Clone, PartialEq)]
pub struct GroupView {
    /// Its name.
    pub name: GroupName,
    /// Where the master is, as clients are told.
    pub master: Address,
    /// The epoch of that configuration.
    pub config_epoch: Epoch,
    /// The last epoch in which this sentinel voted, and for whom.
    pub vote: (Epoch, Option<RunId>),
    /// The master is subjectively down.
    pub sdown: bool,
    /// The master is objectively down.
    pub odown: bool,
    /// The state of a failover that this sentinel tries or leads.
    pub failover_state: Option<&'static str>,
    /// This sentinel still repoints replicas after a failover that it led.
    pub repointing: bool,
    /// Other sentinels known.
    pub peers: u32,
    /// The replicas.
    pub replicas: Vec<NodeView>,
}

/// A replica in a [`GroupView`].
#[derive(Debug, Clone, PartialEq)]
pub struct NodeView {
    /// Where it is.
    pub address: Address,
    /// It is subjectively down.
    pub sdown: bool,
    /// Its last INFO said master.
    pub says_master: bool,
    /// Its last INFO said that its link to its master is up.
    pub link_up: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(core: &'a Core, groups: &'a BTreeMap<GroupName, Group>) -> View<'a> {
        View { core, groups }
    }

    /// This sentinel's id.
    pub fn my_id(&self) -> &'a RunId {
        &self.core.my_id
    }

    /// The newest epoch it knows.
    pub fn current_epoch(&self) -> Epoch {
        self.core.current_epoch
    }

    /// It has just woken from a stall and decides nothing.
    pub fn in_tilt(&self) -> bool {
        self.core.in_tilt()
    }

    /// The groups by name.
    pub fn groups(&self) -> impl Iterator<Item = GroupView> {
        self.groups.values().map(|group| group.view(self.core))
    }
}

impl Group {
    fn view(&self, core: &Core) -> GroupView {
        let node = |node: &super::node::Node| NodeView {
            address: node.address.clone(),
            sdown: node.sdown_since.is_some(),
            says_master: node.role() == Some(Role::Master),
            link_up: node.info.as_ref().is_some_and(|info| info.link_up),
        };
        GroupView {
            name: self.name.clone(),
            master: self.shown_master(core),
            config_epoch: self.config_epoch,
            vote: (self.leader_epoch, self.voted_for.clone()),
            sdown: self.master.sdown_since.is_some(),
            odown: self.odown_since.is_some(),
            failover_state: self.failover.as_ref().map(|failover| failover.state_name()),
            repointing: self.repoint.is_some(),
            peers: self.peers.len() as u32,
            replicas: self.replicas.values().map(node).collect(),
        }
    }
}
