//! Does a group flap? Where one promoted node after the other goes down, the cause is not the node:
//! each failover then only costs all clients their connections, and may cost writes. So a few may
//! follow one another at once, and those after them come one by one, with a pause between them.
//! Redis waits for twice `failover-timeout` after each failover, the first one included.

use super::core::Core;
use super::group::Group;
use super::mutant::Guard;
use super::types::Instant;

/// So many failovers need not wait for one another.
const BURST: u64 = 3;

/// What a group has had of failovers that nobody ordered.
#[derive(Debug, Default)]
pub(super) struct Flap {
    /// Each failover counts for one `flap-pause`, one after the other: when the last is over.
    paid_at: Option<Instant>,
}

impl Group {
    /// Another master takes the place of one that is down for us.
    pub(super) fn note_failover(&mut self, core: &Core) {
        let paid_at = self.flap.paid_at.map_or(core.now(), |at| at.max(core.now()));
        self.flap.paid_at = Some(paid_at.plus(self.settings.flap_pause_ms));
    }

    /// A sentence if too many failovers came one after the other for another one now. Also where
    /// others still count fewer: they lead then, if they can.
    pub(super) fn why_no_more(&self, core: &mut Core) -> Option<String> {
        let pause_ms = self.settings.flap_pause_ms;
        let paid_at = self.flap.paid_at.filter(|_| core.holds(Guard::FlappingRests))?;
        let ahead_ms = paid_at.since(core.now());
        let allowed_ms = (BURST - 1).saturating_mul(pause_ms);
        if pause_ms == 0 || ahead_ms <= allowed_ms {
            return None;
        }
        core.due(core.now().plus(ahead_ms - allowed_ms));
        Some(format!(
            "No failover of {0} for now: it flaps, {BURST} of its masters went down one after the \
             other. From now on one is replaced in {pause_ms} ms (flap-pause). Look for what \
             brings them down; SENTINEL FAILOVER {0} does not wait, and SENTINEL SET {0} \
             flap-pause 0 ends this",
            self.name
        ))
    }
}
