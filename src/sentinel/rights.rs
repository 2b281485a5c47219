//! What nodes and other sentinels do not let us do: a password that is missing or wrong, a right
//! that our user lacks, a command that has another name there. Redis's sentinels notice it when a
//! failover needs it. Here each is told as soon as it shows, by the name of the command: in the
//! log, as an event, and in the entry, until it is put right.

use std::collections::BTreeMap;

use super::Sentinel;
use super::core::Core;
use super::event::{EventKind, Level};
use super::group::Group;
use super::types::{Address, GroupName, RunId};
use crate::resp::Value;

/// The question to another sentinel who it is, as a right. Redis before 6.2 does not know it.
pub(crate) const MYID: &str = "SENTINEL|MYID";
/// The commands without which a node can be neither promoted nor sent to another master: they go
/// together, in one transaction.
pub(super) const FOR_FAILOVER: &[&str] = &["MULTI", "SLAVEOF", "CONFIG", "CLIENT", "EXEC"];

/// How the error begins that a node sends, before it closes the connection, to whom it has no place
/// for (`maxclients`). It answers nothing that was asked.
pub(crate) const FULL: &str = "ERR max number of clients";

/// Why a command was refused, by what the error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It wants a password, and got none.
    NoAuth,
    /// It got a wrong one.
    WrongPass,
    /// Our user may not do that.
    NoPerm,
    /// It is in protected mode, and we come from elsewhere.
    Denied,
    /// It has as many clients as its `maxclients` allows, and takes no more.
    Full,
    /// It knows no command of that name.
    Unknown,
    /// One side does not trust the other's certificate, or they agree on no version of TLS.
    Untrusted,
    /// The command has another meaning there: PING is not answered as PING is.
    Misnamed,
    /// Nobody refuses us but our own system, which has no room for another connection.
    OwnLimit,
}

impl Refusal {
    /// What an error reply says of our standing; `None` for all other errors.
    pub(super) fn of(error: &str) -> Option<Refusal> {
        const STARTS: [(&str, Refusal); 7] = [
            ("NOAUTH", Refusal::NoAuth),
            ("WRONGPASS", Refusal::WrongPass),
            ("NOPERM", Refusal::NoPerm),
            ("ERR invalid password", Refusal::WrongPass),
            ("DENIED", Refusal::Denied),
            (FULL, Refusal::Full),
            ("ERR unknown command", Refusal::Unknown),
        ];
        STARTS.iter().find(|(start, _)| error.starts_with(start)).map(|(_, refusal)| *refusal)
    }

    /// What an answer to PING says of it. Any answer shows life; one that is neither PONG nor an
    /// error is that of another command.
    pub(super) fn of_ping(reply: &Value) -> Option<Refusal> {
        const OTHER_ARITY: &str = "ERR wrong number of arguments";
        match reply {
            Value::Error(error) if error.starts_with(OTHER_ARITY) => Some(Refusal::Misnamed),
            Value::Error(error) => Refusal::of(error),
            Value::Simple(text) if is_pong(text) => None,
            _ => Some(Refusal::Misnamed),
        }
    }

    /// It concerns one command, not all of them.
    pub(super) fn is_of_command(self) -> bool {
        matches!(self, Refusal::NoPerm | Refusal::Unknown)
    }

    /// The word for it in events and entries: the node's own where it has one.
    pub(super) fn code(self) -> &'static str {
        match self {
            Refusal::NoAuth => "NOAUTH",
            Refusal::WrongPass => "WRONGPASS",
            Refusal::NoPerm => "NOPERM",
            Refusal::Denied => "DENIED",
            Refusal::Full => "maxclients",
            Refusal::Unknown => "unknown-command",
            Refusal::Untrusted => "untrusted",
            Refusal::Misnamed => "not-a-pong",
            Refusal::OwnLimit => "own-limit",
        }
    }

    /// What an operator can do about it, for a node.
    pub(super) fn mend(self, command: &str) -> String {
        match self {
            Refusal::NoAuth => "it wants a password: set auth-pass for this group".into(),
            Refusal::WrongPass => "auth-pass or auth-user of this group is wrong".into(),
            Refusal::NoPerm => format!("the user of auth-user may not send {command}"),
            Refusal::Denied => "it is in protected mode: set its bind and a password".into(),
            Refusal::Full => "raise its maxclients, or end connections that nobody needs".into(),
            Refusal::Unknown => format!(
                "it does not know {command}: name it with sentinel rename-command, or let it have \
                 that command"
            ),
            Refusal::Untrusted => "check tls-ca-cert-file and tls-cert-file on both sides".into(),
            Refusal::OwnLimit => {
                "raise the limit of this sentinel: ulimit -n, or LimitNOFILE in a systemd unit"
                    .into()
            }
            Refusal::Misnamed => {
                format!("sentinel rename-command names another command than {command}")
            }
        }
    }

    /// The same for another sentinel.
    fn mend_for_peer(self, command: &str) -> String {
        match self {
            Refusal::NoAuth => "it wants a password: set sentinel-pass".into(),
            Refusal::WrongPass => "sentinel-pass or sentinel-user is wrong".into(),
            Refusal::NoPerm => format!("the user of sentinel-user may not send {command}"),
            other => other.mend(command),
        }
    }
}

/// What an answer says of our right to that very command. Where nothing is allowed at all PING
/// tells it, for all of them.
pub(super) fn refusal_of_command(reply: &Value) -> Option<Refusal> {
    match reply {
        Value::Error(error) => Refusal::of(error).filter(|refusal| refusal.is_of_command()),
        _ => None,
    }
}

/// True for the answers that end a silence, as in Redis.
pub(super) fn is_pong(text: &str) -> bool {
    ["PONG", "LOADING", "MASTERDOWN"].iter().any(|good| text.starts_with(good))
}

/// What one node or sentinel refuses, by command.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<String, Refusal>);

impl Refusals {
    /// Takes note; true if that is news.
    fn note(&mut self, command: &str, refusal: Option<Refusal>) -> bool {
        match refusal {
            Some(refusal) => self.0.insert(command.to_owned(), refusal) != Some(refusal),
            None => self.0.remove(command).is_some(),
        }
    }

    /// Why this command is refused; `None` if it is not.
    pub(super) fn of(&self, command: &str) -> Option<Refusal> {
        self.0.get(command).copied()
    }

    /// A command of these that is refused.
    pub(super) fn among(&self, commands: &[&str]) -> Option<(&str, Refusal)> {
        let mut found = self.0.iter().filter(|(name, _)| commands.contains(&name.as_str()));
        found.next().map(|(name, refusal)| (name.as_str(), *refusal))
    }

    /// As an entry shows it, such as `CONFIG NOPERM,SLAVEOF NOPERM`; `None` if all is well.
    pub(super) fn shown(&self) -> Option<String> {
        let each = self.0.iter().map(|(command, why)| format!("{command} {}", why.code()));
        let all: Vec<String> = each.collect();
        (!all.is_empty()).then(|| all.join(","))
    }
}

/// `<details> <command> <code>`
fn payload(details: &str, command: &str, refusal: Option<Refusal>) -> String {
    match refusal {
        Some(refusal) => format!("{details} {command} {}", refusal.code()),
        None => format!("{details} {command}"),
    }
}

fn kind(refusal: Option<Refusal>) -> EventKind {
    if refusal.is_some() { EventKind::ConfigError } else { EventKind::ConfigErrorEnd }
}

impl Group {
    /// A node let us do something, or did not.
    pub(super) fn note_right(
        &mut self,
        core: &mut Core,
        address: &Address,
        command: &str,
        refusal: Option<Refusal>,
    ) {
        let Some(node) = self.node_mut(address) else { return };
        if !node.refusals.note(command, refusal) {
            return;
        }
        let name = self.name.clone();
        let details = self.node_details(core, address);
        core.announce(kind(refusal), Some(&name), payload(&details, command, refusal));
        // Of PING the log hears again and again; see `Node::shut_out`. AUTH is told by the link.
        let told_elsewhere = ["PING", "AUTH"].contains(&command);
        let Some(refusal) = refusal.filter(|_| !told_elsewhere) else { return };
        let follows = match command {
            _ if FOR_FAILOVER.contains(&command) => {
                "until this is put right it can be neither promoted nor sent to another master"
            }
            "INFO" => "until this is put right nothing is known of its role and its data",
            "SCRIPT" => "a script that hangs there cannot be ended",
            _ => "until this is put right other sentinels are not found through it",
        };
        let text = format!(
            "{address} refuses {command} ({}): {}; {follows}",
            refusal.code(),
            refusal.mend(command)
        );
        core.say(Level::Warning, Some(&name), text);
    }
}

impl Sentinel {
    /// Another sentinel let us do something, or did not.
    pub(super) fn note_peer_right(&mut self, id: &RunId, command: &str, refusal: Option<Refusal>) {
        let refusal = refusal.filter(|why| command != MYID || *why != Refusal::Unknown);
        let Some(link) = self.core.peers.get_mut(id) else { return };
        if !link.refusals.note(command, refusal) {
            return;
        }
        // It is one link, whatever the number of groups that share it.
        let first: Option<GroupName> = link.groups.first().cloned();
        let address = link.address.clone();
        let Some(group) = first.as_ref().and_then(|name| self.groups.get(name)) else { return };
        let details = group.peer_details(&self.core, id);
        let payload = payload(&details, command, refusal);
        self.core.announce(kind(refusal), first.as_ref(), payload);
        if let Some(refusal) = refusal.filter(|_| command != "AUTH") {
            let follows = match command {
                MYID => "another one in its place would not be noticed",
                _ => "it does not count as one that can agree or vote",
            };
            let text = format!(
                "Sentinel {} ({address}) refuses {command} ({}): {}; until this is put right \
                 {follows}",
                id.short(),
                refusal.code(),
                refusal.mend_for_peer(command)
            );
            self.core.say(Level::Warning, None, text);
        }
    }
}
