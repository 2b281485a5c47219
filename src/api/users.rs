//! The users of a sentinel: who they are, what they may do, what was denied to them. Every
//! connection asks here before it carries out a command.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;

use super::clients::Client;
use super::table::{self, Found};
use crate::acl::{Acl, BadRule, Catalog, Denial, Denied, Log, Reason, Row, Wish, join_selectors};
use crate::config::bytes::{decode, encode};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::load::read_acl_file;
use crate::config::settings::SentinelSettings;
use crate::config::types::Secret;
use crate::config::users::{BEYOND_RULES, UserLine, UserLines};
use crate::wall_clock::unix_ms;

/// All users, what was denied, and where the users are kept.
pub struct Users {
    acl: RwLock<Acl>,
    log: Mutex<Log>,
    /// `aclfile`
    pub(super) file: Option<PathBuf>,
    requirepass: Option<Secret>,
    /// For a `sentinel.conf` without an ACL file.
    lines: UserLines,
    /// Denials by [`Reason`], as INFO counts them.
    pub(super) denied: [AtomicU64; 3],
}

/// Commands that a sentinel of Redis 7.0 does not have: with a rule that names one it does not
/// start.
const NOT_IN_REDIS: [&str; 3] = ["client|setinfo", "client|no-touch", "sentinel|events"];

/// The first of a user's rules that names such a command, or one by Valkey's name.
fn unknown_to_redis<'a>(rules: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    rules.into_iter().find(|rule| {
        let rule = rule.trim_matches(['(', ')']).to_ascii_lowercase();
        let Some(name) = rule.strip_prefix(['+', '-']) else { return false };
        let of_valkey = |found: Found| found.original().is_some() && found.name() == name;
        NOT_IN_REDIS.contains(&name) || table::every().any(of_valkey)
    })
}

fn not_for_redis(user: &str, rule: &str) -> String {
    format!(
        "The rule {rule} of user {user} names a command that a Redis Sentinel of 7.0 does not \
         know: it would not start with this file"
    )
}

/// The commands that rules can name; nobody needs leave to use the others.
static CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| {
    let all = table::every().filter(|found| !BEYOND_RULES.contains(&&*found.name()));
    Arc::new(Catalog::new(all.map(|found| Row {
        name: found.name(),
        categories: found.command.kind.categories,
        open: found.command.kind.is_open(),
        same_as: found.original(),
    })))
});

impl Users {
    /// The users that a configuration declares; changes of users go to `lines`. Beside the users:
    /// what is worth telling.
    ///
    /// # Errors
    /// All that is wrong with the users.
    pub fn open(
        settings: &SentinelSettings,
        lines: UserLines,
    ) -> Result<(Arc<Users>, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut acl = Acl::new(CATALOG.clone(), settings.acl_all_channels);
        let mut found: Vec<Diagnostic> =
            settings.users.iter().filter_map(|user| declare(&mut acl, user)).collect();
        if let Some(file) = &settings.acl_file {
            found.extend(read(&mut acl, file).err().map(|error| {
                Diagnostic::error(format!("Aborting startup because of ACL errors: {error}"))
                    .help("correct the file, or remove the line 'aclfile'")
            }));
        }
        if found.iter().any(Diagnostic::is_error) {
            return Err(found);
        }
        let users = Users {
            log: Mutex::new(Log::new(settings.acllog_max_len)),
            file: settings.acl_file.clone(),
            requirepass: settings.requirepass.clone(),
            lines,
            denied: Default::default(),
            acl: RwLock::new(acl),
        };
        let closed = users.require_password(&mut users.write());
        if closed && (settings.acl_file.is_some() || declares_default(settings)) {
            let text = "The default user is declared without a password; 'requirepass' is taken";
            found.push(Diagnostic::new(Severity::Warning, text).help("declare one or the other"));
        }
        Ok((Arc::new(users), found))
    }

    /// The users as they are.
    pub(super) fn acl(&self) -> RwLockReadGuard<'_, Acl> {
        // Users are replaced as a whole, so that a panic leaves them whole.
        self.acl.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Acl> {
        self.acl.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn require_password(&self, acl: &mut Acl) -> bool {
        let password = self.requirepass.as_ref();
        password.is_some_and(|password| acl.require_password(&password.bytes()))
    }

    /// Changes users; what changed is written with the next state.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Acl) -> T) -> T {
        let mut acl = self.write();
        let before = acl.lines();
        let result = change(&mut acl);
        let now = acl.lines();
        if self.file.is_none() && now != before {
            self.warn(now.iter().filter(|line| !before.contains(line)));
            self.lines.set(now.iter().map(|line| decode(line)).collect());
        }
        result
    }

    /// Tells what an operator would learn too late: at the next start, ours or that of Redis.
    fn warn<'a>(&self, lines: impl Iterator<Item = &'a Vec<u8>>) {
        if !self.lines.is_written() {
            tracing::warn!(
                "Users were changed, and that is not kept: the configuration file is not written \
                 by this sentinel. Change them there, too, or use an ACL file"
            );
        }
        for line in lines {
            let line = String::from_utf8_lossy(line);
            let mut words = line.split(' ');
            let name = words.nth(1).unwrap_or_default();
            if let Some(rule) = unknown_to_redis(words) {
                tracing::warn!("{}", not_for_redis(name, rule));
            }
        }
    }

    /// What keeps a Redis Sentinel from starting with the users that are declared.
    pub fn not_for_redis(settings: &SentinelSettings) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for user in &settings.users {
            let rules: Vec<&str> = user.rules.iter().map(Secret::reveal).collect();
            if let Some(rule) = unknown_to_redis(rules.iter().flat_map(|r| r.split(' '))) {
                found
                    .push(user.finding(Severity::Warning, not_for_redis(&user.shown_name(), rule)));
            }
        }
        let file = settings.acl_file.as_ref();
        let content = file.and_then(|file| read_acl_file(file).ok()).unwrap_or_default();
        for (index, line) in String::from_utf8_lossy(&content).lines().enumerate() {
            let mut words = line.split_ascii_whitespace().skip(1);
            if let (Some(name), Some(rule)) = (words.next(), unknown_to_redis(words)) {
                let finding = Diagnostic::new(Severity::Warning, not_for_redis(name, rule));
                let finding = Diagnostic { line: index + 1, ..finding };
                found.extend(file.map(|file| finding.in_file(file)));
            }
        }
        let help = "leave the rule out before you go back to Redis Sentinel";
        found.into_iter().map(|finding| finding.help(help)).collect()
    }

    /// Takes over the ACL file again. Blocks while it is read.
    ///
    /// # Errors
    /// Redis's words; no user is changed then.
    pub(super) fn load(&self, file: &Path) -> Result<(), String> {
        let mut fresh = self.acl().clone();
        read(&mut fresh, file)?;
        self.require_password(&mut fresh);
        *self.write() = fresh;
        Ok(())
    }

    /// The log of denials.
    pub(super) fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a denial.
    pub(super) fn deny(&self, reason: Reason, object: &[u8], username: &[u8], client: &Client) {
        self.denied[reason as usize].fetch_add(1, Relaxed);
        let denied = Denied {
            reason,
            object: object.to_vec(),
            username: username.to_vec(),
            client: client.line(),
        };
        self.log().add(denied, unix_ms());
    }
}

/// What a request asks for, without the names of its channels.
pub(super) fn channels<'a>(found: &Found, args: &'a [Bytes]) -> (Vec<&'a [u8]>, bool) {
    let names = match found.command.name {
        "subscribe" | "psubscribe" => &args[1..],
        "publish" => &args[1..2],
        _ => &[],
    };
    (names.iter().map(|name| &name[..]).collect(), found.command.name == "psubscribe")
}

/// Whether a user may carry out a request, whose number of arguments is right.
///
/// # Errors
/// What is denied.
pub(super) fn check(acl: &Acl, user: &[u8], found: &Found, args: &[Bytes]) -> Result<(), Denial> {
    let Some(command) = acl.catalog().find(&found.name()) else {
        // QUIT and RESET.
        return if found.command.kind.is_open() { Ok(()) } else { Err(Denial::Command) };
    };
    let (channels, patterns) = channels(found, args);
    let behind = if found.container.is_some() { 2 } else { 1 };
    let first_arg = args.get(behind).map(|arg| &arg[..]);
    let wish = Wish { command, first_arg, channels: &channels, patterns };
    // A user that was deleted a moment ago may do nothing.
    acl.get(user).ok_or(Denial::Command)?.check(&wish, acl.catalog())
}

/// Takes over a declared user; returns what there is to say about it.
fn declare(acl: &mut Acl, line: &UserLine) -> Option<Diagnostic> {
    let rules = line.rules();
    let error = |rule: String, error: &dyn std::fmt::Display| {
        line.finding(Severity::Error, format!("Error in user declaration '{rule}': {error}"))
            .help("the rules are those of Redis 7, and the commands those of a sentinel")
    };
    let joined = match join_selectors(&rules) {
        Ok(joined) => joined,
        Err(at) => {
            let rule = BadRule { index: at, error: crate::acl::RuleError::Syntax };
            let text = "Unmatched parenthesis in selector definition";
            return Some(error(rule.shown(&rules), &text));
        }
    };
    let name = encode(&line.name);
    if let Err(bad) = acl.define(&name, &joined) {
        return Some(error(bad.shown(&joined), &bad.error));
    }
    let disabled = acl.get(&name).is_some_and(|user| !user.is_enabled());
    disabled.then(|| {
        line.finding(
            Severity::Note,
            format!(
                "The user '{}' is disabled (there is no 'on' modifier in the user description). \
                 Make sure this is not a configuration error.",
                line.shown_name()
            ),
        )
    })
}

fn declares_default(settings: &SentinelSettings) -> bool {
    settings.users.iter().any(|user| user.name == crate::acl::DEFAULT_USER)
}

fn read(acl: &mut Acl, file: &Path) -> Result<(), String> {
    let content = read_acl_file(file)?;
    acl.load(&file.to_string_lossy(), &content).map_err(|error| error.to_string())
}
