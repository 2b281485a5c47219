//! Defects put in on purpose, between a core and its world, to show that the checkers find them.

use super::wire::Ms;
use crate::sentinel::{Command, Effect, Event, EventKind};

/// A defect of one sentinel (the first) or of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Its disk says "written" at once, and writes seconds later.
    EagerDisk,
    /// It starts anew with an empty memory, but the same id, after a crash.
    Amnesia,
    /// It tells everybody who asks for its vote that he has it.
    VotesForEverybody,
    /// Its hellos show, from some moment on, a config epoch lower than before.
    StaleHello,
    /// It begins a failover by promoting, before any vote is in.
    EagerPromotion,
    /// It calls a healthy master down.
    CriesWolf,
    /// It never answers again, from the middle of the faults on, and is never healed.
    NeverHealed,
}

/// How long the eager disk really takes, in ms.
pub(super) const EAGER_DISK_MS: Ms = 3_000;

/// What goes out instead of this effect. `candidate` is for whom a vote was asked, where the effect
/// answers such a question.
pub(super) fn tamper(
    sabotage: Sabotage,
    at: Ms,
    effect: Effect,
    question: Option<(&str, i64)>,
) -> Vec<Effect> {
    use crate::resp::Value;
    match (sabotage, effect) {
        (Sabotage::VotesForEverybody, Effect::Reply { id, reply: Value::Array(mut items) })
            if items.len() == 3 && question.is_some() =>
        {
            if let Some((candidate, epoch)) = question {
                items[1] = Value::bulk(candidate);
                items[2] = Value::Integer(epoch);
            }
            vec![Effect::Reply { id, reply: Value::Array(items) }]
        }
        (Sabotage::StaleHello, Effect::Send { link, command: Command::Hello { payload } })
            if at % 8_192 > 6_000 =>
        {
            let (rest, epoch) = payload.rsplit_once(',').unwrap_or((&payload, "0"));
            let lower = epoch.parse::<u64>().unwrap_or(0).saturating_sub(1);
            let payload = format!("{rest},{lower}");
            vec![Effect::Send { link, command: Command::Hello { payload } }]
        }
        (Sabotage::EagerPromotion, Effect::Send { link, command: Command::Info })
            if at.is_multiple_of(97) =>
        {
            vec![Effect::Send { link, command: Command::Promote }]
        }
        (Sabotage::CriesWolf, Effect::Send { link, command: Command::Info })
            if at.is_multiple_of(7) =>
        {
            let event = Event { kind: EventKind::Sdown, group: None, payload: "wolf".into() };
            vec![Effect::Announce(event), Effect::Send { link, command: Command::Info }]
        }
        (_, effect) => vec![effect],
    }
}
