//! `SENTINEL SIMULATE-FAILURE`: the process is to end as by a crash, at one of the two moments that
//! an operator who tests his set-up cares about.

use super::Sentinel;
use super::core::Core;
use super::effect::Effect;
use super::event::Level;
use crate::resp::Value;

/// A moment at which the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Right after `+elected-leader`.
    Election,
    /// Right after `+promoted-slave`.
    Promotion,
}

/// Names, moments, and what the log says of them.
const MOMENTS: [(&str, Moment, &str); 2] = [
    (
        "crash-after-election",
        Moment::Election,
        "Failure simulation: this Sentinel will crash after being elected as the leader of a \
         failover",
    ),
    (
        "crash-after-promotion",
        Moment::Promotion,
        "Failure simulation: this Sentinel will crash after a replica that it promoted has become \
         the master",
    ),
];

impl Moment {
    /// Its bit in INFO's `sentinel_simulate_failure_flags`.
    fn flag(self) -> u8 {
        match self {
            Moment::Election => 1,
            Moment::Promotion => 2,
        }
    }
}

impl Core {
    /// Ends the process if that is asked for at this moment; what was announced before is out by
    /// then, and what it rests on is on disk.
    pub(super) fn crash_if_asked(&mut self, moment: Moment) {
        if self.simulated & moment.flag() != 0 {
            self.out.emit_durable(Effect::Crash);
        }
    }
}

impl Sentinel {
    /// `SENTINEL SIMULATE-FAILURE flag ...`: what was asked for before is forgotten.
    pub(super) fn simulate_failure(&mut self, words: &[String]) -> Value {
        self.core.simulated = 0;
        let mut flags = 0;
        for word in words {
            if word.eq_ignore_ascii_case("help") {
                return Value::Array(MOMENTS.map(|(name, ..)| Value::bulk(name)).into());
            }
            let named = MOMENTS.iter().find(|(name, ..)| word.eq_ignore_ascii_case(name));
            let Some((_, moment, _)) = named else {
                return Value::error("ERR Unknown failure simulation specified");
            };
            flags |= moment.flag();
        }
        self.core.simulated = flags;
        for (_, _, told) in MOMENTS.iter().filter(|(_, moment, _)| flags & moment.flag() != 0) {
            self.core.say(Level::Warning, None, *told);
        }
        Value::ok()
    }
}
