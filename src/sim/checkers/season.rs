//! What may happen at all: while nothing fails, while something does, and once all is well again.

use crate::sentinel::EventKind;

/// Whether something fails at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Season {
    /// Nothing has failed yet: nothing may be called down or need repair.
    Calm,
    /// Things fail.
    Rough,
    /// All is well again: no failover may begin, but what was missed may still be noticed.
    After,
}

impl Season {
    /// What nobody may announce now.
    pub(super) fn forbids(self, kind: EventKind) -> bool {
        let failover = matches!(
            kind,
            EventKind::Odown
                | EventKind::TryFailover
                | EventKind::ElectedLeader
                | EventKind::SwitchMaster
        );
        let trouble = matches!(
            kind,
            EventKind::Sdown
                | EventKind::ConvertToSlave
                | EventKind::FixSlaveConfig
                | EventKind::Reboot
                | EventKind::Tilt
        );
        match self {
            Season::Calm => failover || trouble,
            Season::Rough => false,
            Season::After => failover,
        }
    }
}
