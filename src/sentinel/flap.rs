//! Does a group flap? Where one promoted node after the other goes down, the cause is not the node:
//! each failover then only costs all clients their connections, and may cost writes. So a few may
//! follow one another at once, and those after them come one by one, with a pause between them.
//! Redis waits for twice `failover-timeout` after each failover, the first one included.

use super::core::Core;
use super::event::Level;
use super::group::Group;
use super::mutant::Guard;
use super::types::Instant;
use crate::config::settings::GroupSettings;

/// So many failovers need not wait for one another.
const BURST: u64 = 3;

/// What a group has had of failovers whose masters were down.
#[derive(Debug, Default)]
pub(super) struct Flap {
    /// Each failover counts for one `flap-pause`, one after the other: when the last is over.
    paid_at: Option<Instant>,
    /// The end of the pause that was told of last.
    told: Option<Instant>,
}

impl Group {
    /// Another master takes the place of ours. It counts if ours is down, whoever led that: others
    /// may have seen it a moment before we do. However many there are, the next one waits for no
    /// longer than a pause.
    pub(super) fn note_failover(&mut self, core: &Core) {
        let GroupSettings { down_after_ms, refused_after_ms, flap_pause_ms, .. } = self.settings;
        let pause_ms = flap_pause_ms;
        let down_after_ms = match refused_after_ms {
            0 => down_after_ms,
            refused_after_ms => down_after_ms.min(refused_after_ms),
        };
        let silent_ms = self.master.health.silent_ms(core.moment());
        if self.master.sdown_since.is_none() && silent_ms <= down_after_ms / 2 {
            return;
        }
        let paid_at = self.flap.paid_at.map_or(core.now(), |at| at.max(core.now()));
        let most = core.now().plus(BURST.saturating_mul(pause_ms));
        self.flap.paid_at = Some(paid_at.plus(pause_ms).min(most));
    }

    /// True if so many failovers came one after the other that we begin none now. The log is told
    /// once for each pause.
    pub(super) fn rests(&mut self, core: &mut Core) -> bool {
        let pause_ms = self.settings.flap_pause_ms;
        let paid_at = self.flap.paid_at.filter(|_| core.holds(Guard::FlappingRests));
        let ahead_ms = paid_at.map_or(0, |at| at.since(core.now()));
        let wait_ms = ahead_ms.saturating_sub((BURST - 1).saturating_mul(pause_ms));
        if pause_ms == 0 || wait_ms == 0 {
            return false;
        }
        let until = core.now().plus(wait_ms);
        core.due(until);
        if self.flap.told.replace(until) != Some(until) {
            let text = format!(
                "No failover of {0} for now: it flaps, {BURST} of its masters went down one after \
                 the other. The next one may begin in {1} s (flap-pause is {pause_ms} ms). \
                 Look for what brings them down; SENTINEL FAILOVER {0} does not wait, and \
                 SENTINEL SET {0} flap-pause {pause_ms} ends this pause",
                self.name,
                wait_ms.div_ceil(1_000)
            );
            core.say(Level::Warning, Some(&self.name), text);
        }
        true
    }
}
