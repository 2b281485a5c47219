//! Defects put in on purpose, between a core and its world, to show that the checkers find them.
//! Those of the core itself are in `mutants`.

use super::wire::Ms;
use crate::sentinel::{Command, Effect, Event, EventKind};

/// A defect of one sentinel (the first) or of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Its disk says "written" at once, and writes seconds later.
    EagerDisk,
    /// It starts anew with an empty memory, but the same id, after a crash.
    Amnesia,
    /// It calls a healthy master down.
    CriesWolf,
    /// The first one freezes when all is healed, and is never thawed.
    NeverHealed,
}

/// How long the eager disk really takes, in ms.
pub(super) const EAGER_DISK_MS: Ms = 3_000;

/// What goes out instead of this effect.
pub(super) fn tamper(sabotage: Sabotage, at: Ms, effect: Effect) -> Vec<Effect> {
    match (sabotage, effect) {
        (Sabotage::CriesWolf, Effect::Send { link, command: Command::Info })
            if at.is_multiple_of(7) =>
        {
            let event = Event { kind: EventKind::Sdown, group: None, payload: "wolf".into() };
            vec![Effect::Announce(event), Effect::Send { link, command: Command::Info }]
        }
        (_, effect) => vec![effect],
    }
}
