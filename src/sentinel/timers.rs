//! Who wants to be woken when: one ordered queue, so that a wake-up touches only what is due.

use std::collections::{BTreeMap, BTreeSet};

use super::types::{GroupName, Instant};

/// Whose step is to be run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Group(GroupName),
    /// The links to peers, which all groups share.
    Peers,
    /// A failed write of the state is tried again.
    Write,
    /// The time after a stall is over.
    Tilt,
}

/// At most one deadline for each subject.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Instant, Subject)>,
    at: BTreeMap<Subject, Instant>,
}

impl Timers {
    /// Sets, moves or clears a subject's deadline.
    pub(super) fn set(&mut self, subject: Subject, at: Option<Instant>) {
        if self.at.get(&subject).copied() == at {
            return;
        }
        let old = match at {
            Some(at) => self.at.insert(subject.clone(), at),
            None => self.at.remove(&subject),
        };
        if let Some(old) = old {
            self.queue.remove(&(old, subject.clone()));
        }
        if let Some(at) = at {
            self.queue.insert((at, subject));
        }
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes the first subject whose time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Subject> {
        if self.first()? > now {
            return None;
        }
        let (_, subject) = self.queue.pop_first()?;
        self.at.remove(&subject);
        Some(subject)
    }
}
