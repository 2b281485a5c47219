//! What can happen to a group, and by what it is measured.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::writer::Habit;

/// `down-after` where only the refused connections shall tell that the master is down.
const LONG_DOWN_AFTER: Duration = Duration::from_secs(30);

/// What is done to the master, or asked of the sentinels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL
    Kill,
    /// SIGSTOP: it hangs.
    Stop,
    /// SHUTDOWN NOSAVE; counted from its end, before which the node waits for its replicas.
    Shutdown,
    /// Packets from and to its host vanish.
    Blackhole,
    /// SENTINEL FAILOVER, while all is well.
    Order,
    /// SENTINEL FAILOVER ... COORDINATED, which Redis does not have.
    Coordinated,
    /// SIGKILL with a long `down-after` and, where it exists, a short `refused-after`.
    Refused,
    /// SIGKILL while two of three sentinels are frozen for a while, with a quorum of one.
    Election,
}

/// How a fault is written on the command line, and said in a headline.
const NAMES: [(Fault, &str, &str); 8] = [
    (Fault::Kill, "kill", "kill -9"),
    (Fault::Stop, "stop", "SIGSTOP"),
    (Fault::Shutdown, "shutdown", "SHUTDOWN NOSAVE"),
    (Fault::Blackhole, "blackhole", "black-holed host"),
    (Fault::Order, "order", "SENTINEL FAILOVER"),
    (Fault::Coordinated, "coordinated", "SENTINEL FAILOVER ... COORDINATED (Redis: without)"),
    (Fault::Refused, "refused", "kill -9 with refused-after 200 ms (Redis: without)"),
    (Fault::Election, "election", "kill -9, no majority for a while"),
];

impl Fault {
    /// The headline of its section.
    pub(super) fn title(self) -> &'static str {
        NAMES.iter().find(|(fault, ..)| *fault == self).map_or("", |(.., title)| title)
    }

    /// Each `down-after` that it is tried with, of those asked for.
    pub(super) fn down_afters(self, asked: &[Duration]) -> Vec<Duration> {
        match self {
            Fault::Refused => vec![LONG_DOWN_AFTER],
            // The master is well, or what counts comes long after: one is enough.
            Fault::Order | Fault::Coordinated | Fault::Election => {
                asked.iter().copied().max().into_iter().collect()
            }
            _ => asked.to_vec(),
        }
    }

    /// Times count from when `down-after` has passed; else from the fault.
    pub(super) fn counts_from_down_after(self) -> bool {
        matches!(self, Fault::Kill | Fault::Stop | Fault::Shutdown | Fault::Blackhole)
    }

    /// The master is well and goes on, until it is told to stop.
    pub(super) fn is_order(self) -> bool {
        matches!(self, Fault::Order | Fault::Coordinated)
    }

    /// How many sentinels must find the master down.
    pub(super) fn quorum(self) -> usize {
        if self == Fault::Election { 1 } else { 2 }
    }

    /// Who writes.
    pub(super) fn clients(self) -> &'static [Habit] {
        if self.is_order() { &[Habit::Following, Habit::Sticky] } else { &[Habit::Sticky] }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(fault, ..)| fault == self).map_or("", |(_, name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let found = NAMES.iter().find(|(_, name, _)| *name == text);
        found.map(|(fault, ..)| *fault).ok_or_else(|| {
            format!("no such fault; there are {}", NAMES.map(|(_, name, _)| name).join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_read_as_it_is_written() {
        for (fault, name, title) in NAMES {
            assert_eq!(name.parse(), Ok(fault));
            assert_eq!(fault.to_string(), name);
            assert_eq!(fault.title(), title);
        }
        let error = "unplug".parse::<Fault>().expect_err("no fault");
        assert!(error.contains("kill, stop, shutdown"), "{error}");
    }
}
