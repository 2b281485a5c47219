//! An ordered failover beside a master that lives loses nothing, or the sentinel says that it may.

use std::collections::{BTreeMap, BTreeSet};

use super::choice::{Place, group_at};
use super::{Checkers, Claim, Said, Speaker};
use crate::sentinel::types::Address;
use crate::sentinel::{Effect, EventKind, NO_HAND_OVER};
use crate::sim::rules::Rule;

/// The ordered failovers that are under way.
#[derive(Debug, Default)]
pub(super) struct HandOvers {
    /// Those of which it was said that something may be lost.
    warned: BTreeSet<Place>,
    /// Those in which something may be lost, and what.
    doubted: BTreeMap<Place, String>,
}

impl HandOvers {
    pub(super) fn died(&mut self, sentinel: usize) {
        self.warned.retain(|(number, _)| *number != sentinel);
        self.doubted.retain(|(number, _), _| *number != sentinel);
    }
}

impl Checkers {
    /// A sentinel says something. Its warning may wait for the disk longer than its order to the
    /// replica does; what it announces comes after both.
    pub(super) fn weigh_hand_over(&mut self, speaker: &Speaker, said: &Said) {
        let place = |group: &str| (speaker.number, group.to_owned());
        match said.effect {
            Effect::Say { group: Some(group), text, .. } if text.starts_with(NO_HAND_OVER) => {
                self.hand_overs.doubted.remove(&place(group));
                self.hand_overs.warned.insert(place(group));
            }
            Effect::Announce(event) => {
                let Some(group) = event.group.as_deref() else { return };
                let doubted = self.hand_overs.doubted.remove(&place(group));
                match event.kind {
                    EventKind::TryFailover => drop(self.hand_overs.warned.remove(&place(group))),
                    EventKind::PromotedSlave if self.master_down(&place(group)).is_none() => {
                        if let Some(how) = doubted {
                            self.broken(speaker, Rule::WhatIsHandedOverIsWhole, how);
                        }
                    }
                    EventKind::PromotedSlave | EventKind::AbortSlaveTimeout => {}
                    _ => {
                        if let Some(how) = doubted {
                            self.hand_overs.doubted.insert(place(group), how);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// A sentinel promotes a node. Where that was ordered, the old master is to be looked at.
    pub(super) fn claims_hand_over(&mut self, speaker: &Speaker, to: &Address, node: usize) {
        let Some((name, group)) = group_at(speaker, to) else { return };
        let place = (speaker.number, name.to_owned());
        if self.is_handed_over(&place) && !self.mixed {
            let master = group.settings.master.clone();
            self.claims.push(Claim::HandsOver { place, node, master });
        }
    }

    /// Its master lives, and it was not said that something may be lost. Whoever is promoted was
    /// chosen some time ago then, and waited for until it had all: others may have come nearer, or
    /// back, meanwhile.
    pub(super) fn is_handed_over(&self, place: &Place) -> bool {
        let ordered = self.is_forced(place) && self.master_down(place).is_none();
        ordered && !self.hand_overs.warned.contains(place)
    }

    /// It was seen that something may be lost.
    pub(in crate::sim) fn doubt_hand_over(&mut self, place: &Place, how: String) {
        self.hand_overs.doubted.insert(place.clone(), how);
    }
}
