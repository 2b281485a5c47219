//! Users as a configuration declares them, the lines that are to stand for them in a
//! `sentinel.conf`, and the commands that there are. What the rules mean is decided by the room
//! `acl`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::bytes;
use super::diagnostic::{Diagnostic, Severity};
use super::types::Secret;

/// The commands of a Redis sentinel: rules of users and `rename-command` may name them. The room
/// `api` answers each.
pub const COMMANDS: [&str; 15] = [
    "acl",
    "auth",
    "client",
    "command",
    "hello",
    "info",
    "ping",
    "psubscribe",
    "publish",
    "punsubscribe",
    "role",
    "sentinel",
    "shutdown",
    "subscribe",
    "unsubscribe",
];

/// Commands that are answered, too, and that neither rules nor `rename-command` can name: a Redis
/// sentinel does not know them.
pub const BEYOND_RULES: [&str; 2] = ["quit", "reset"];

/// One user: a line `user <name> <rule> ...` of Redis, or an entry under `users` in YAML.
#[derive(Clone)]
pub struct UserLine {
    /// The name; as [`bytes::decode`] has it, since it may be any bytes but blanks.
    pub name: String,
    /// The rules; one that begins with `>` is a password.
    pub rules: Vec<Secret>,
    /// Where it stands, as a finding without a text.
    pub place: Diagnostic,
    /// Whether it stands in a file that another one includes.
    pub included: bool,
}

impl UserLine {
    /// A finding about this line.
    pub fn finding(&self, severity: Severity, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity, message: message.into(), ..self.place.clone() }
    }

    /// The name, as a message may show it.
    pub fn shown_name(&self) -> String {
        String::from_utf8_lossy(&bytes::encode(&self.name)).into_owned()
    }

    /// The rules, for who judges them.
    pub fn rules(&self) -> Vec<Vec<u8>> {
        self.rules.iter().map(Secret::bytes).collect()
    }

    /// The words of its line.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        ["user", &self.name].into_iter().chain(self.rules.iter().map(Secret::reveal))
    }

    /// Whether it was given on the command line.
    pub(super) fn is_option(&self) -> bool {
        self.place.file.is_none() && self.place.line == 0
    }
}

/// Where it stands makes no difference.
impl PartialEq for UserLine {
    fn eq(&self, other: &UserLine) -> bool {
        (&self.name, &self.rules) == (&other.name, &other.rules)
    }
}

/// Leaves the rules out, which may hold passwords.
impl fmt::Debug for UserLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} ({} rules)", self.name, self.rules.len())
    }
}

/// The `user` lines of all users, once they differ from what the files declare: whoever changes
/// users at run time sets them, whoever writes the file reads them. Clones share them.
#[derive(Clone, Default)]
pub struct UserLines(Arc<Mutex<Option<Vec<String>>>>, Arc<AtomicBool>);

impl UserLines {
    /// Nobody will write these lines: the configuration file stays as it is.
    pub fn are_lost(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    /// Whether somebody writes them.
    pub fn is_written(&self) -> bool {
        !self.1.load(Ordering::Relaxed)
    }

    /// From now on these lines, as [`bytes::decode`] has them, stand in the file.
    pub fn set(&self, lines: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lines);
    }

    /// The lines; `None` while the declared ones are true.
    pub fn get(&self) -> Option<Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Leaves the lines out, which hold hashes of passwords.
impl fmt::Debug for UserLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserLines")
    }
}
