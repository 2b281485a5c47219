//! The wall clock, read in one place. It may jump: durations are measured by other clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970; zero where the clock stands before it.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}
