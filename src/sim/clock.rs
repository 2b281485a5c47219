//! A monotonic clock that does not run quite as the world does.

use super::wire::Ms;
use crate::sentinel::Instant;

/// A clock that is not the world's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skewed {
    /// What it shows in the beginning, in ms.
    pub(super) begin_ms: u64,
    /// So many millionths too fast.
    pub(super) ppm: i64,
}

impl Skewed {
    /// What it shows at this moment.
    pub(super) fn at(self, now: Ms) -> Instant {
        let drift = now as i64 * self.ppm / 1_000_000;
        Instant::from_ms(self.begin_ms + now.saturating_add_signed(drift))
    }

    /// Virtual time from `now` until this clock shows `deadline`.
    pub(super) fn until(self, deadline: Instant, now: Ms) -> Ms {
        let mut wait = deadline.since(self.at(now));
        wait = wait.saturating_sub(wait / 50);
        while self.at(now + wait) < deadline {
            wait += 1;
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_clock_reaches_its_deadline_and_not_before() {
        for ppm in [-10_000, -3, 0, 3, 10_000] {
            let clock = Skewed { begin_ms: 17, ppm };
            for (now, wait) in [(0, 0), (5, 1), (1_000, 999), (70_000, 180_000)] {
                let deadline = clock.at(now).plus(wait);
                let after = clock.until(deadline, now);
                assert!(clock.at(now + after) >= deadline, "{ppm} {now} {wait}");
                assert!(after == 0 || clock.at(now + after - 1) < deadline, "{ppm} {now} {wait}");
            }
        }
    }
}
