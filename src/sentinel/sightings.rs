//! At which place each process was seen, by its run id: so a node is recognised whose address was
//! given to another group's node while both run, as when containers change networks.
//!
//! A stranger is a process that another group had before, that came to this place after another
//! one, and that does not answer any more where it was. Until its old place has told, it may as
//! well be one node that two groups know by two addresses; once that was seen it is so for good.

use std::collections::{BTreeMap, BTreeSet};

use super::Sentinel;
use super::core::Core;
use super::event::Level;
use super::group::Group;
use super::node::Node;
use super::timers::Subject;
use super::types::{Address, GroupName, Instant, RunId};

/// A node of a group.
type Place = (GroupName, Address);

/// Who lives at a place.
#[derive(Debug)]
struct Sight {
    run_id: RunId,
    /// Another one lived there before.
    before: Option<RunId>,
    /// When this one was first seen there, and last.
    first: Instant,
    last: Instant,
    /// The connection stands over which that was seen.
    up: bool,
}

/// What a group may think of the process at one of its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is its own, as far as anybody knows.
    Ours,
    /// That depends on what is found at this place.
    Doubtful(Place),
    /// It is the node of another group, from this place.
    Stranger(Place),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    places: BTreeMap<Place, Sight>,
    /// Which group had a process first, and where in it that was seen last.
    homes: BTreeMap<RunId, Place>,
    /// Processes that two groups have under two addresses.
    shared: BTreeSet<RunId>,
    /// Places where somebody may live who is none of theirs.
    uneasy: BTreeSet<Place>,
}

impl Sightings {
    /// This process answered at this place.
    pub(super) fn seen(&mut self, place: &Place, run_id: &RunId, now: Instant) {
        let known = self.places.remove(place);
        let sight = match known {
            Some(sight) if sight.run_id == *run_id => Sight { last: now, up: true, ..sight },
            other => {
                let before = other.map(|sight| {
                    self.forget_process(sight.before.filter(|id| id != run_id), place);
                    sight.run_id
                });
                Sight { run_id: run_id.clone(), before, first: now, last: now, up: true }
            }
        };
        self.places.insert(place.clone(), sight);
        let home = self.homes.entry(run_id.clone()).or_insert_with(|| place.clone());
        if home.0 == place.0 {
            home.1.clone_from(&place.1);
        }
    }

    /// Of those that left a place the last one is remembered, and no other.
    fn forget_process(&mut self, run_id: Option<RunId>, place: &Place) {
        if let Some(run_id) = run_id.filter(|run_id| self.homes.get(run_id) == Some(place)) {
            self.homes.remove(&run_id);
            self.shared.remove(&run_id);
        }
    }

    /// The connection to this place is lost.
    pub(super) fn lost(&mut self, place: &Place) {
        self.places.get_mut(place).into_iter().for_each(|sight| sight.up = false);
    }

    /// The group is no more.
    pub(super) fn forget(&mut self, group: &GroupName) {
        self.places.retain(|place, _| place.0 != *group);
        self.homes.retain(|_, place| place.0 != *group);
        self.uneasy.retain(|place| place.0 != *group);
    }

    /// Places of which something may have become clear.
    fn uneasy(&self) -> Vec<Place> {
        self.uneasy.iter().cloned().collect()
    }

    /// What a group may think of the process that was seen last at a place of its own.
    pub(super) fn judge(&mut self, place: &Place) -> Standing {
        let standing = self.standing(place);
        match standing {
            Standing::Ours => self.uneasy.remove(place),
            _ => self.uneasy.insert(place.clone()),
        };
        standing
    }

    fn standing(&mut self, place: &Place) -> Standing {
        let Some(sight) = self.places.get(place) else { return Standing::Ours };
        let Some(home) = self.homes.get(&sight.run_id) else { return Standing::Ours };
        // Two groups may watch the same nodes.
        let overlap = self.places.contains_key(&(home.0.clone(), place.1.clone()));
        let came_after = sight.before.is_some();
        if home.0 == place.0 || !came_after || overlap || self.shared.contains(&sight.run_id) {
            return Standing::Ours;
        }
        match self.places.get(home) {
            // That group is no more.
            None => Standing::Ours,
            Some(there) if there.run_id != sight.run_id || !there.up => {
                Standing::Stranger(home.clone())
            }
            Some(there) if there.last >= sight.first => {
                self.shared.insert(sight.run_id.clone());
                Standing::Ours
            }
            Some(_) => Standing::Doubtful(home.clone()),
        }
    }
}

impl Sentinel {
    /// Something was seen somewhere: whoever waits for that judges anew.
    pub(super) fn follow_sightings(&mut self) {
        for place in self.core.sightings.uneasy() {
            let Some(group) = self.groups.get_mut(&place.0) else { continue };
            let standing = group.judge_standing(&mut self.core, &place.1);
            if let Standing::Doubtful((name, address)) = standing {
                let other = self.groups.get_mut(&name);
                other
                    .and_then(|group| group.node_mut(&address))
                    .into_iter()
                    .for_each(Node::hasten_info);
                self.touch(Subject::Group(name));
            } else {
                self.touch(Subject::Group(place.0));
            }
        }
    }
}

impl Group {
    /// Whether the node at this address is ours, or has to be taken for another group's.
    pub(super) fn judge_standing(&mut self, core: &mut Core, address: &Address) -> Standing {
        let place = (self.name.clone(), address.clone());
        let standing = core.sightings.judge(&place);
        let watched = core.watched();
        let Some(node) = self.node_mut(address) else { return standing };
        let Standing::Stranger((group, from)) = &standing else {
            node.in_doubt = standing != Standing::Ours;
            node.stranger_since = None;
            return standing;
        };
        node.in_doubt = true;
        if node.stranger_since.is_none() {
            node.stranger_since = Some(watched);
            let text = format!(
                "{address} is another group's node now: the process that answers there was \
                 {group}'s, at {from}. It counts as silence of ours, and is sent nowhere. Give the \
                 two their addresses back, or tell the sentinels where they are (SENTINEL REMOVE \
                 and MONITOR)"
            );
            core.say(Level::Warning, Some(&self.name), text);
        }
        standing
    }
}
