//! Open files: a sentinel with many clients must not lack those that it needs for its own work.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for links, the state, scripts, the log and the listeners, where the limit allows.
const RESERVED: u64 = 512;
/// The least that is kept of a low limit: this part of it.
const RESERVED_PART: u64 = 2;

/// Raises the limit of open files for so many clients, as far as this process may. Returns how many
/// clients there is room for, at least one.
pub(in crate::cli) fn make_room_for(clients: u32) -> u32 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = u64::from(clients) + RESERVED;
    let Some(mut room) = current.filter(|limit| *limit < wanted) else { return clients };
    let goal = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if goal > room && setrlimit(Resource::Nofile, Rlimit { current: Some(goal), maximum }).is_ok() {
        room = goal;
    }
    clients_within(room, clients)
}

fn clients_within(room: u64, clients: u32) -> u32 {
    let left = room.saturating_sub(RESERVED).max(room / RESERVED_PART).max(1);
    clients.min(u32::try_from(left).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_kept_back() {
        for (room, clients) in [(10_512, 10_000), (4_096, 3_584), (1_024, 512), (64, 32), (1, 1)] {
            assert_eq!(clients_within(room, 10_000), clients, "{room}");
        }
        assert_eq!(clients_within(1_024, 100), 100);
    }
}
