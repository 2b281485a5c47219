//! The log of denials: `ACL LOG`.

use std::collections::VecDeque;

/// Denials of the same kind within this time, in ms, make one entry.
const GROUPING_MS: u64 = 60_000;
/// Bytes of a name that an entry keeps, whatever a client sends.
const NAME_MAX: usize = 1024;

/// Why something was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A wrong password, or no such user.
    Auth,
    /// A command.
    Command,
    /// A channel.
    Channel,
}

impl Reason {
    /// Its name in `ACL LOG`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Auth => "auth",
            Reason::Command => "command",
            Reason::Channel => "channel",
        }
    }
}

/// What was denied, and to whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Denied {
    /// Why.
    pub reason: Reason,
    /// The command, the channel, or for a wrong password the command that carried it.
    pub object: Vec<u8>,
    /// The user, or who it wanted to be.
    pub username: Vec<u8>,
    /// The connection, as CLIENT LIST shows it.
    pub client: String,
}

/// An entry: a denial and how often it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The latest of its kind.
    pub denied: Denied,
    /// How often.
    pub count: u64,
    /// Unique and growing.
    pub id: u64,
    /// When it came first: ms since 1970.
    pub created_ms: u64,
    /// When it came last: ms since 1970.
    pub updated_ms: u64,
}

/// The latest denials, the newest first.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Entry>,
    entries_max: usize,
    last_id: u64,
}

impl Log {
    /// An empty log of at most `entries_max` entries (`acllog-max-len`).
    pub fn new(entries_max: usize) -> Log {
        Log { entries: VecDeque::new(), entries_max, last_id: 0 }
    }

    /// Adds a denial; `now_ms` counts since 1970.
    pub fn add(&mut self, mut denied: Denied, now_ms: u64) {
        denied.object.truncate(NAME_MAX);
        denied.username.truncate(NAME_MAX);
        let same = |entry: &Entry| {
            let known = &entry.denied;
            known.reason == denied.reason
                && known.object == denied.object
                && known.username == denied.username
                && now_ms.abs_diff(entry.updated_ms) <= GROUPING_MS
        };
        let known = self.entries.iter().position(same).and_then(|at| self.entries.remove(at));
        let entry = match known {
            Some(known) => Entry { denied, count: known.count + 1, updated_ms: now_ms, ..known },
            None => {
                let id = self.last_id;
                self.last_id += 1;
                Entry { denied, count: 1, id, created_ms: now_ms, updated_ms: now_ms }
            }
        };
        self.entries.push_front(entry);
        self.entries.truncate(self.entries_max);
    }

    /// The entries, the newest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// `ACL LOG RESET`
    pub fn reset(&mut self) {
        self.entries.clear();
    }
}
