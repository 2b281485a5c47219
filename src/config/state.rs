//! What a sentinel must remember across a restart: the content of the state file, and of the state
//! lines of a `sentinel.conf`. Plain data; the core fills it, the daemon's store writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::by_name::ByName;
use super::settings::{GroupSettings, LiveSettings};
use super::types::{Address, RunId};

/// Everything that survives a crash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// `sentinel myid`.
    pub my_id: RunId,
    /// `sentinel current-epoch`.
    pub current_epoch: u64,
    /// The watched groups by name.
    pub groups: ByName<GroupState>,
    /// Groups that the configuration declares but an operator removed (`SENTINEL REMOVE`), with the
    /// declaration as it was then. They stay removed until the declaration changes. Always empty
    /// for a `sentinel.conf`, which is rewritten instead.
    #[serde(default)]
    pub removed: ByName<GroupSettings>,
    /// What `SENTINEL CONFIG SET` changed; `None` while all is as the configuration says.
    #[serde(default)]
    pub live: Option<LiveState>,
}

/// The process-wide settings of [`State`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveState {
    /// Those in force.
    pub settings: LiveSettings,
    /// What the configuration said when they were taken from it.
    pub declared: LiveSettings,
}

/// One group's share of [`State`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupState {
    /// The settings in force, `SENTINEL SET` and failovers included.
    pub settings: GroupSettings,
    /// What the configuration file said when these settings were taken from it; `None` for a group
    /// that was added at run time (`SENTINEL MONITOR`) and for a `sentinel.conf`.
    pub declared: Option<GroupSettings>,
    /// `sentinel config-epoch`.
    pub config_epoch: u64,
    /// `sentinel leader-epoch`: the last epoch in which this sentinel voted for this group.
    pub leader_epoch: u64,
    /// For whom it voted in `leader_epoch`; `None` where it is not known any more (a
    /// `sentinel.conf` that Redis wrote).
    pub voted_for: Option<RunId>,
    /// `sentinel known-replica`.
    pub replicas: Vec<Address>,
    /// `sentinel known-sentinel`, by id.
    pub sentinels: BTreeMap<RunId, Address>,
}

impl GroupState {
    /// A group about which nothing is known but its settings.
    pub fn fresh(settings: GroupSettings, declared: Option<GroupSettings>) -> GroupState {
        GroupState {
            settings,
            declared,
            config_epoch: 0,
            leader_epoch: 0,
            voted_for: None,
            replicas: Vec::new(),
            sentinels: BTreeMap::new(),
        }
    }
}
