//! Who flaps rests: after three failovers in a row comes one in each `flap-pause`. Kept twice: by
//! what a sentinel surely counts, for it may not stand earlier, and by what it may count at most,
//! for then it has to.

use std::collections::BTreeMap;

use super::super::choice::Place;
use super::super::{Checkers, Speaker};
use crate::sentinel::{Event, EventKind};
use crate::sim::rules::Rule;
use crate::sim::wire::Ms;

/// So many failovers do not wait.
const BURST: Ms = 3;

/// When the failovers of each group are paid for, at one in each `flap-pause`.
#[derive(Debug, Default)]
pub(super) struct Flapping {
    least: BTreeMap<Place, Ms>,
    most: BTreeMap<Place, Ms>,
}

impl Flapping {
    pub(super) fn died(&mut self, sentinel: usize) {
        self.least.retain(|place, _| place.0 != sentinel);
        self.most.retain(|place, _| place.0 != sentinel);
    }

    /// Until when it may wait.
    pub(super) fn until(&self, place: &Place, pause_ms: Ms) -> Ms {
        let paid_at = self.most.get(place).copied().unwrap_or_default();
        paid_at.saturating_sub((BURST - 1) * pause_ms)
    }
}

impl Checkers {
    /// It has another master, or stands for election.
    pub(in super::super) fn weigh_flapping(&mut self, speaker: &Speaker, event: &Event) {
        let Some(name) = event.group.as_ref() else { return };
        let Some(group) = speaker.disk.groups.get(&**name) else { return };
        let place = (speaker.number, name.to_string());
        let pause_ms = group.settings.flap_pause_ms;
        let told = speaker.told();
        // Its new master cannot have been called down before it says that it has one.
        let soon = told.at - told.since < group.settings.down_after_ms / 2;
        let down = soon && self.master_down(&place).is_some();
        let Flapping { least, most } = &mut self.prompt.flapping;
        match event.kind {
            EventKind::SwitchMaster => {
                let paid_at = most.entry(place.clone()).or_default();
                *paid_at = (told.at.max(*paid_at) + pause_ms).min(told.at + BURST * pause_ms);
                if down {
                    let paid_at = least.entry(place).or_default();
                    // By the fastest clock.
                    let next = told.since.max(*paid_at) + pause_ms - pause_ms / 100;
                    *paid_at = next.min(told.since + BURST * pause_ms - BURST * pause_ms / 100);
                }
            }
            EventKind::Monitor | EventKind::Unmonitor | EventKind::Set => {
                least.remove(&place);
            }
            EventKind::TryFailover => {
                let paid_at = least.get(&place).copied().unwrap_or_default();
                let early_ms = paid_at.saturating_sub((BURST - 1) * pause_ms + told.at);
                let ordered = self.ledger.is_untried(speaker.number, name);
                if pause_ms > 0 && early_ms > 0 && !ordered {
                    let how = format!("stands in {name} {early_ms} ms too early: it flaps");
                    self.broken(speaker, Rule::WhoFlapsRests, how);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "flapping_tests.rs"]
mod tests;
