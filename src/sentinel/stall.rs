//! A process that did not run for a while: stopped, paused with its machine, starved. What was not
//! watched counts against nobody; after a long stall nothing is decided until news has come in. The
//! events and fields of Redis's TILT tell of it.

use super::Sentinel;
use super::event::EventKind;
use super::mutant::Guard;
use super::timers::Subject;
use super::types::{Clock, Instant};

/// Lateness, in ms, that a busy machine may have without being called a stall.
const LATE_MS: u64 = 50;
/// Longest time, in ms, in which nothing is due.
pub(super) const BEAT_MS: u64 = 1_000;

impl Sentinel {
    /// Compares the time with the deadline that was to be kept.
    pub(super) fn notice_stall(&mut self, clock: Clock) {
        let Some(deadline) = self.deadline() else { return };
        // What was due and was not done yet when something was heard was late then.
        let late_ms = clock.mono.since(deadline.max(self.core.now()));
        if late_ms <= LATE_MS || !self.core.holds(Guard::StallForgiven) {
            return;
        }
        self.core.unwatched_ms += late_ms;
        if late_ms < self.core.tune.tilt_trigger_ms {
            return;
        }
        self.core.clock = clock;
        for group in self.groups.values_mut() {
            for node in std::iter::once(&mut group.master).chain(group.replicas.values_mut()) {
                node.health.restart_window(&self.core);
                node.closed_port = None;
            }
            group.peers.values_mut().for_each(super::peer::Peer::forget_opinion);
        }
        let ids: Vec<_> = self.core.peers.keys().cloned().collect();
        for id in ids {
            if let Some(mut link) = self.core.peers.remove(&id) {
                link.health.restart_window(&self.core);
                self.core.peers.insert(id, link);
            }
        }
        let until = clock.mono.plus(self.core.tune.tilt_period_ms);
        if self.core.tilt_until.is_none() {
            self.core.tilt_since = Some(clock.mono);
            self.core.announce(EventKind::Tilt, None, "#tilt mode entered");
        }
        self.core.tilt_until = Some(until);
        self.timers.set(Subject::Tilt, Some(until));
    }

    /// The time after a stall may be over.
    pub(super) fn run_tilt(&mut self) -> Option<Instant> {
        let until = self.core.tilt_until?;
        if self.core.now() < until {
            return Some(until);
        }
        self.core.tilt_until = None;
        self.core.tilt_since = None;
        self.core.announce(EventKind::TiltEnd, None, "#tilt mode exited");
        for name in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.touch(Subject::Group(name));
        }
        None
    }
}
