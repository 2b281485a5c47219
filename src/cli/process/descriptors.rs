//! Open files: a sentinel with many clients must not lack those that it needs for its own work.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for the state, scripts, the log, the listeners, and links that come to be known,
/// where the limit allows.
const RESERVED: u64 = 512;
/// The least that is kept of a low limit: this part of it.
const RESERVED_PART: u64 = 2;

/// How many descriptors there are.
pub(in crate::cli) struct Room {
    /// How many clients there is room for, at least one.
    pub(in crate::cli) clients: u32,
    /// False if there are not even enough for the links.
    pub(in crate::cli) is_enough: bool,
    /// The limit, if there is one.
    pub(in crate::cli) limit: Option<u64>,
}

/// Raises the limit of open files as far as this process may, for so many clients and links.
pub(in crate::cli) fn make_room_for(clients: u32, links: u64) -> Room {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = u64::from(clients) + links + RESERVED;
    let Some(mut limit) = current.filter(|limit| *limit < wanted) else {
        return Room { clients, is_enough: true, limit: current };
    };
    let goal = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit { current: Some(goal), maximum };
    if goal > limit && setrlimit(Resource::Nofile, raised).is_ok() {
        limit = goal;
    }
    Room {
        clients: clients_within(limit, clients, links),
        is_enough: limit > links,
        limit: Some(limit),
    }
}

fn clients_within(limit: u64, clients: u32, links: u64) -> u32 {
    let least = limit.saturating_sub(links).min(limit / RESERVED_PART);
    let left = limit.saturating_sub(links + RESERVED).max(least).max(1);
    clients.min(u32::try_from(left).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_kept_back() {
        for (room, clients) in [(10_512, 10_000), (4_096, 3_584), (1_024, 512), (64, 32), (1, 1)] {
            assert_eq!(clients_within(room, 10_000, 0), clients, "{room}");
        }
        assert_eq!(clients_within(1_024, 100, 7), 100);
        assert_eq!(clients_within(20_000, 10_000, 3_007), 10_000);
        assert_eq!(clients_within(20_000, 10_000, 18_007), 1_993);
        assert_eq!(clients_within(20_000, 10_000, 30_007), 1, "links go first");
    }
}
