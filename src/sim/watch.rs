//! Who watches a whole run: the story, the checkers, and an operator who reads all logs.

use std::collections::BTreeSet;

use super::checkers::Checkers;
use super::operator::Help;
use super::story::{Fingerprint, Story};
use crate::sentinel::{
    Effect, Event, EventKind, IF_THAT_IS_THE_MASTER, LEFT_ALONE, NEW_ID, NOT_THE_MASTER,
    THE_MASTER, TOLD_WRONG,
};

/// Who watches and listens to all sentinels.
pub(super) struct Watch {
    pub(super) story: Story,
    pub(super) checkers: Checkers,
    pub(super) print: Fingerprint,
    pub(super) effects: u64,
    pub(super) inputs: u64,
    /// Failovers begun (`+try-failover`).
    pub(super) tries: u64,
    /// Addresses of nodes of which the log says that they are left alone.
    pub(super) left_alone: BTreeSet<String>,
    /// Sentinels whose log says that a group's master follows one that they do not know.
    pub(super) led_away: BTreeSet<(usize, String)>,
    /// Sentinels whose log says that a stranger lives in the place of a group's master.
    pub(super) displaced: BTreeSet<(usize, String)>,
    /// Groups of whose master the logs say that sentinels do not agree.
    pub(super) quarrels: BTreeSet<String>,
    /// Groups for which a failover found nobody to promote.
    pub(super) no_candidate: BTreeSet<String>,
    /// Switches of leaders and observers (`+switch-master`).
    pub(super) switches: u64,
    /// What the operator did that no sentinel could know to do.
    pub(super) helps: BTreeSet<Help>,
    /// A sentinel has taken another id, and is still known by the old one.
    pub(super) renamed: bool,
}

impl Watch {
    pub(super) fn read_log(&mut self, sentinel: usize, effect: &Effect) {
        match effect {
            Effect::Announce(Event { kind: EventKind::TryFailover, .. }) => self.tries += 1,
            Effect::Announce(Event { kind: EventKind::SwitchMaster, group, .. }) => {
                self.switches += 1;
                let group = group.as_ref().map(|group| group.to_string());
                self.displaced.remove(&(sentinel, group.unwrap_or_default()));
            }
            Effect::Announce(Event { kind: EventKind::AbortNoGoodSlave, group, .. }) => {
                self.no_candidate.extend(group.iter().map(|group| group.to_string()));
            }
            Effect::Say { text, .. } if text.contains(LEFT_ALONE) => {
                self.left_alone.extend(text.split(' ').next().map(str::to_owned));
            }
            Effect::Say { text, group: Some(group), .. }
                if text.contains(IF_THAT_IS_THE_MASTER) =>
            {
                self.led_away.insert((sentinel, group.to_string()));
            }
            Effect::Say { text, group: Some(group), .. } if text.contains(NOT_THE_MASTER) => {
                self.displaced.insert((sentinel, group.to_string()));
            }
            Effect::Say { text, group: Some(group), .. } if text.contains(THE_MASTER) => {
                self.displaced.remove(&(sentinel, group.to_string()));
            }
            Effect::Say { text, group: Some(group), .. } if text.contains(TOLD_WRONG) => {
                self.quarrels.insert(group.to_string());
            }
            Effect::Say { text, .. } if text.contains(NEW_ID) => self.renamed = true,
            _ => {}
        }
    }
}
