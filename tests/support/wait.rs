//! Waiting for conditions with a deadline. Nothing in a story sleeps for a fixed time.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until `condition` yields something; fails with `what` when `seconds` have passed.
#[track_caller]
pub fn wait_for<T>(seconds: u64, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Looks until `condition` holds; fails with `what` when `seconds` have passed.
#[track_caller]
pub fn wait_until(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(seconds, what, || condition().then_some(()));
}

/// Fails as soon as `condition` does not hold during `period`: for stories in which nothing
/// happens.
#[track_caller]
pub fn holds_for(period: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < period {
        assert!(condition(), "did not stay so for {period:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A TCP port that was free a moment ago, chosen by the system, and that no other story gets: the
/// system gives one that nobody uses yet to the next who asks. Another program may take it before
/// it is used, so whoever starts a process on it tries again with another one.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return port;
        }
    }
}
