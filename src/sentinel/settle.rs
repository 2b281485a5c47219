//! `SENTINEL SET` and `SENTINEL RESET`: an operator changes a group while it runs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::core::Core;
use super::event::EventKind;
use super::group::Group;
use super::health::Health;
use super::mutant::Guard;
use super::node::{HELLO_PERIOD_MS, Node};
use super::types::{Address, RunId, Secret};
use crate::config::bytes::encode;
use crate::config::rules::TIME_MS_MAX;
use crate::config::settings::GroupSettings;
use crate::resp::number::parse_int;

/// How long replicas and sentinels have after a RESET to show that they live, in ms: three hellos
/// fit in, and a few attempts to connect.
const CONFIRM_MS: u64 = 4 * HELLO_PERIOD_MS;

/// One option of `SENTINEL SET`, read and valid.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Number { option: String, value: String, number: u64 },
    Script { option: String, path: String },
    AuthPass(String),
    AuthUser(String),
    Rename { from: String, to: String },
}

/// Reads all options before any of them is applied: one bad option changes nothing (in Redis those
/// before it are kept). The error is a complete reply.
pub(super) fn read_options(words: &[String], deny_scripts: bool) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    let mut words = words.iter();
    while let Some(option) = words.next() {
        let unknown =
            || format!("ERR Unknown option or number of arguments for SENTINEL SET '{option}'");
        let invalid =
            |value: &str| format!("ERR Invalid argument '{value}' for SENTINEL SET '{option}'");
        let lower = option.to_ascii_lowercase();
        let value = words.next().ok_or_else(unknown)?;
        changes.push(match lower.as_str() {
            "down-after-milliseconds" | "failover-timeout" | "parallel-syncs" | "quorum" => {
                number(option, value, 1).ok_or_else(|| invalid(value))?
            }
            "master-reboot-down-after-period"
            | "primary-reboot-down-after-period"
            | "refused-after"
            | "flap-pause" => number(option, value, 0).ok_or_else(|| invalid(value))?,
            "notification-script" | "client-reconfig-script" if deny_scripts => {
                return Err("ERR Reconfiguration of scripts path is denied for security \
                            reasons. Check the deny-scripts-reconfig configuration directive in \
                            your Sentinel configuration"
                    .into());
            }
            "notification-script" | "client-reconfig-script" => {
                Change::Script { option: option.clone(), path: value.clone() }
            }
            "auth-pass" => Change::AuthPass(value.clone()),
            "auth-user" => Change::AuthUser(value.clone()),
            "rename-command" => {
                let to = words.next().ok_or_else(unknown)?;
                if value.is_empty() || to.is_empty() {
                    return Err(invalid(if value.is_empty() { value } else { to }));
                }
                Change::Rename { from: value.clone(), to: to.clone() }
            }
            _ => return Err(unknown()),
        });
    }
    Ok(changes)
}

fn number(option: &str, value: &str, least: u64) -> Option<Change> {
    let most = match option.to_ascii_lowercase().as_str() {
        "quorum" => u64::from(u32::MAX),
        // What a `sentinel.conf` may say, or the rewritten one could not be read at the next start.
        "parallel-syncs" => i32::MAX as u64,
        _ => TIME_MS_MAX,
    };
    let number = parse_int(value.as_bytes()).and_then(|n| u64::try_from(n).ok());
    let number = number.filter(|n| (least..=most).contains(n))?;
    Some(Change::Number { option: option.to_owned(), value: value.to_owned(), number })
}

impl Change {
    /// What `+set` says: option and value as typed, passwords hidden.
    pub(super) fn shown(&self) -> String {
        match self {
            Change::Number { option, value, .. } => format!("{option} {value}"),
            Change::Script { option, path } => format!("{option} {path}"),
            Change::AuthPass(_) => "auth-pass ******".into(),
            Change::AuthUser(user) => {
                format!("auth-user {}", String::from_utf8_lossy(&encode(user)))
            }
            Change::Rename { from, to } => format!("rename-command {from} {to}"),
        }
    }

    /// Links opened before know nothing of this change.
    pub(super) fn concerns_links(&self) -> bool {
        matches!(self, Change::AuthPass(_) | Change::AuthUser(_) | Change::Rename { .. })
    }

    /// It sets this number.
    pub(super) fn is_of(&self, name: &str) -> bool {
        matches!(self, Change::Number { option, .. } if option.eq_ignore_ascii_case(name))
    }

    pub(super) fn apply(self, settings: &mut GroupSettings) {
        let given = |text: String| (!text.is_empty()).then_some(text);
        match self {
            Change::Number { option, number, .. } => match option.to_ascii_lowercase().as_str() {
                "down-after-milliseconds" => settings.down_after_ms = number,
                "failover-timeout" => settings.failover_timeout_ms = number,
                "parallel-syncs" => settings.parallel_syncs = number as u32,
                "quorum" => settings.quorum = number as u32,
                "refused-after" => settings.refused_after_ms = number,
                "flap-pause" => settings.flap_pause_ms = number,
                _ => settings.master_reboot_down_after_ms = number,
            },
            Change::Script { option, path } => {
                let path = given(path).map(PathBuf::from);
                match option.to_ascii_lowercase().as_str() {
                    "notification-script" => settings.notification_script = path,
                    _ => settings.client_reconfig_script = path,
                }
            }
            Change::AuthPass(password) => settings.auth_pass = given(password).map(Secret::new),
            Change::AuthUser(user) => settings.auth_user = given(user),
            Change::Rename { from, to } => {
                let from = from.to_ascii_uppercase();
                match from.eq_ignore_ascii_case(&to) {
                    true => settings.rename_commands.remove(&from),
                    false => settings.rename_commands.insert(from, to),
                };
            }
        }
    }
}

impl Group {
    /// Opens all links to nodes anew, with the credentials and names in force now.
    pub(super) fn reopen_links(&mut self, core: &mut Core) {
        let nodes = std::iter::once(&mut self.master).chain(self.replicas.values_mut());
        for node in nodes {
            node.reopen(core, &self.name, &self.settings);
        }
    }

    /// `SENTINEL RESET`: forgets what is gone. Replicas and sentinels that answer stay, since they
    /// would be found again; in Redis they are forgotten, too, and a master that dies before they
    /// are found has no successor. Who answers is seen within [`CONFIRM_MS`]. Epochs and our vote
    /// are kept: a vote once given is never given otherwise.
    pub(super) fn reset(&mut self, core: &mut Core) {
        if core.holds(Guard::ResetEndsFailover) {
            self.give_up(core);
        }
        self.odown_since = None;
        self.repoint = None;
        self.attempts = 0;
        self.not_before = core.now();
        self.held_back = None;
        self.said = None;
        self.master.rebooted_at = None;
        for node in std::iter::once(&mut self.master).chain(self.replicas.values_mut()) {
            node.forget_sdown();
            node.hasten_info();
        }
        self.hasten_hellos(core);
        self.forget_silent(core, |node| !node.health.up, |health| !health.up);
        self.reset_at = Some(core.now());
        let details = self.master_details(core);
        core.announce(EventKind::ResetMaster, Some(&self.name), details);
    }

    /// Some time after a RESET: who has shown no sign of life since is forgotten.
    pub(super) fn confirm_members(&mut self, core: &mut Core) {
        let Some(at) = self.reset_at else { return };
        if !core.due(at.plus(CONFIRM_MS)) || !core.holds(Guard::ResetConfirms) {
            return;
        }
        self.reset_at = None;
        let heard_of: BTreeSet<RunId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.hello.is_some_and(|hello| hello.at > at))
            .map(|(id, _)| id.clone())
            .collect();
        let silent_ids: Vec<RunId> =
            self.peers.keys().filter(|id| !heard_of.contains(*id)).cloned().collect();
        for id in silent_ids {
            self.forget_peer(core, &id);
        }
        let foreign: Vec<Address> = self
            .replicas
            .values()
            .filter(|node| self.is_foreign(core, node) || self.is_the_master(node))
            .map(|node| node.address.clone())
            .collect();
        self.forget_silent(
            core,
            |node| {
                // Asked at once, it may have told in the same ms; the next time is too late.
                let told = node.info_at.is_some_and(|told| told >= at);
                let answered = node.health.last_ok > at && told;
                !answered || foreign.contains(&node.address)
            },
            |health| health.last_ok <= at,
        );
    }

    fn forget_silent(
        &mut self,
        core: &mut Core,
        is_gone: impl Fn(&Node) -> bool,
        is_silent: impl Fn(&Health) -> bool,
    ) {
        let gone = self.replicas.values().filter(|node| is_gone(node));
        for address in gone.map(|node| node.address.clone()).collect::<Vec<_>>() {
            if let Some(node) = self.replicas.remove(&address) {
                core.disconnect(node.link());
                core.origins.forget_place(&self.name, &address);
            }
        }
        let silent = |id: &&RunId| core.peers.get(*id).is_none_or(|link| is_silent(&link.health));
        for id in self.peers.keys().filter(silent).cloned().collect::<Vec<_>>() {
            self.forget_peer(core, &id);
        }
        if self.peers.is_empty() {
            self.listening = Some(None);
        }
        core.out.touch_group(&self.name);
    }

    fn forget_peer(&mut self, core: &mut Core, id: &RunId) {
        self.peers.remove(id);
        core.leave_peer(id, &self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::Address;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read_before_any_is_applied() {
        for (line, expected) in [
            ("quorum 0", "ERR Invalid argument '0' for SENTINEL SET 'quorum'"),
            ("Quorum x", "ERR Invalid argument 'x' for SENTINEL SET 'Quorum'"),
            (
                "quorum 3 colour red",
                "ERR Unknown option or number of arguments for SENTINEL SET 'colour'",
            ),
            (
                "rename-command GET",
                "ERR Unknown option or number of arguments for SENTINEL SET 'rename-command'",
            ),
            // More than a `sentinel.conf` can say; Redis's number is an int.
            (
                "parallel-syncs 2147483648",
                "ERR Invalid argument '2147483648' for SENTINEL SET 'parallel-syncs'",
            ),
            ("quorum 4294967296", "ERR Invalid argument '4294967296' for SENTINEL SET 'quorum'"),
        ] {
            assert_eq!(read_options(&words(line), true), Err(expected.into()), "{line}");
        }
    }

    #[test]
    fn changes_apply_and_passwords_stay_hidden() {
        let mut settings = GroupSettings::new(Address::new("::1", 1), 2);
        let line =
            "quorum 3 DOWN-AFTER-milliseconds 7 auth-pass s3cret rename-command config geheim";
        for change in read_options(&words(line), true).expect("good options") {
            assert!(!change.shown().contains("s3cret"));
            change.apply(&mut settings);
        }
        assert_eq!((settings.quorum, settings.down_after_ms), (3, 7));
        assert_eq!(settings.auth_pass, Some(Secret::new("s3cret")));
        assert_eq!(settings.rename_commands["CONFIG"], "geheim");
    }
}
