//! Scripts of the operator: `queue` decides which of them runs when, `run` runs them. Who adds one
//! never waits: a script that hangs, or cannot even be started, holds up nothing but its own place.
//!
//! A script is executed without a shell, in the environment and working directory of the sentinel,
//! with its standard streams and no other descriptor. It is the first of a process group of its
//! own, so that the time limit ends whatever it started and waits for; Redis would end the script
//! alone and leave what hangs. Scripts that run when the sentinel ends are left to themselves.

mod orphans;
mod queue;
mod run;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

pub use queue::Pending;
pub(super) use run::run;

use self::queue::{Call, Queue};
use crate::sentinel::ScriptTimes;

/// Longest argument, in bytes: what Redis has room for in an event. Far longer ones would keep the
/// system from starting a script at all.
const ARG_BYTES_MAX: usize = 1023;

/// The scripts that wait and run. Cheap to clone.
#[derive(Clone)]
pub struct Scripts(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to start, or there are other times.
    changed: Notify,
    /// The zero of the queue's clock.
    started: Instant,
    dropped: AtomicU64,
}

impl Scripts {
    /// No script yet.
    pub(super) fn new() -> Scripts {
        Scripts(Arc::new(Shared {
            queue: Mutex::default(),
            changed: Notify::new(),
            started: Instant::now(),
            dropped: AtomicU64::new(0),
        }))
    }

    /// Adds a script to the queue, from which it is started as soon as it can be.
    pub(crate) fn add(&self, script: PathBuf, args: Vec<String>) {
        let args = args.into_iter().map(fit).collect();
        if let Some(call) = self.queue().push(Call { script, args }) {
            let dropped = self.0.dropped.fetch_add(1, Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(
                    "Too many scripts wait: {} {} is not run ({dropped} dropped so far)",
                    call.script.display(),
                    call.args.join(" ")
                );
            }
        }
        self.0.changed.notify_one();
    }

    /// Scripts have these times from now on.
    pub(crate) fn set_times(&self, times: ScriptTimes) {
        self.queue().times = times;
        self.0.changed.notify_one();
    }

    /// How many scripts run, and how many run or wait.
    pub fn counts(&self) -> (usize, usize) {
        self.queue().counts()
    }

    /// All scripts that run or wait, the oldest first.
    pub fn pending(&self) -> Vec<Pending> {
        let now_ms = self.now_ms();
        self.queue().pending(now_ms)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// An argument as the system can pass it on: like a string of C it ends before its first NUL.
fn fit(mut arg: String) -> String {
    let end = arg.find('\0').unwrap_or(arg.len()).min(ARG_BYTES_MAX);
    arg.truncate(arg.floor_char_boundary(end));
    arg
}
