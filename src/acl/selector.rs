//! A set of permissions: commands, key patterns and channels. Every user has one, and may have
//! more.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, CommandId};
use super::rule::{RuleError, has_blanks};
use crate::resp::glob;

/// What somebody asks to do.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The command.
    pub command: CommandId,
    /// The word behind the command, or behind the subcommand.
    pub first_arg: Option<&'a [u8]>,
    /// The channels that it names.
    pub channels: &'a [&'a [u8]],
    /// The channels are patterns (PSUBSCRIBE), which must be allowed to the letter.
    pub patterns: bool,
}

/// What is not allowed of a [`Wish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// The command.
    Command,
    /// The channel of this number.
    Channel(usize),
}

/// A key pattern: kept for the file's sake, since a sentinel has no keys.
#[derive(Clone, PartialEq)]
struct KeyPattern {
    pattern: String,
    read: bool,
    write: bool,
}

/// Permissions of one user.
#[derive(Clone, PartialEq)]
pub struct Selector {
    allowed: BTreeSet<CommandId>,
    /// `+@all` came last: commands that later versions bring are allowed, too.
    future: bool,
    /// `+command|first-argument`
    first_args: BTreeMap<CommandId, BTreeSet<String>>,
    /// The rules about commands since the last `+@all` or `-@all`, in order.
    rules: Vec<String>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<String>,
}

impl Selector {
    /// No commands, no keys; channels as `acl-pubsub-default` has it.
    pub(super) fn new(all_channels: bool) -> Selector {
        Selector {
            allowed: BTreeSet::new(),
            future: false,
            first_args: BTreeMap::new(),
            rules: Vec::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }

    /// Everything.
    pub(super) fn all(catalog: &Catalog) -> Selector {
        let mut selector = Selector::new(true);
        selector.all_keys = true;
        selector.every_command(catalog, true);
        selector
    }

    /// Applies one rule.
    ///
    /// # Errors
    /// See [`RuleError`]; nothing is changed then.
    pub(super) fn apply(&mut self, rule: &str, catalog: &Catalog) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_str() {
            "allkeys" | "~*" => {
                self.all_keys = true;
                self.keys.clear();
            }
            "resetkeys" => {
                self.all_keys = false;
                self.keys.clear();
            }
            "allchannels" | "&*" => {
                self.all_channels = true;
                self.channels.clear();
            }
            "resetchannels" => {
                self.all_channels = false;
                self.channels.clear();
            }
            "allcommands" | "+@all" => self.every_command(catalog, true),
            "nocommands" | "-@all" => self.every_command(catalog, false),
            _ => return self.apply_one(rule, catalog),
        }
        Ok(())
    }

    fn apply_one(&mut self, rule: &str, catalog: &Catalog) -> Result<(), RuleError> {
        if let Some(category) = rule.strip_prefix("+@") {
            self.category(category, true, catalog)
        } else if let Some(category) = rule.strip_prefix("-@") {
            self.category(category, false, catalog)
        } else if let Some(command) = rule.strip_prefix('+') {
            self.allow(command, catalog)
        } else if let Some(command) = rule.strip_prefix('-') {
            let id = catalog.find(command).ok_or(RuleError::Unknown)?;
            self.change(id, false, catalog);
            self.note(catalog.name(id), false);
            Ok(())
        } else if let Some(pattern) = rule.strip_prefix('~') {
            self.keys(pattern, true, true)
        } else if let Some(rest) = rule.strip_prefix('%') {
            let (kinds, pattern) = rest.split_once('~').ok_or(RuleError::Syntax)?;
            match kinds.to_ascii_uppercase().as_str() {
                "R" => self.keys(pattern, true, false),
                "W" => self.keys(pattern, false, true),
                "RW" | "WR" => self.keys(pattern, true, true),
                _ => Err(RuleError::Syntax),
            }
        } else if let Some(channel) = rule.strip_prefix('&') {
            self.channel(channel)
        } else {
            Err(RuleError::Syntax)
        }
    }

    fn every_command(&mut self, catalog: &Catalog, allow: bool) {
        self.allowed = if allow { catalog.all().collect() } else { BTreeSet::new() };
        self.future = allow;
        self.first_args.clear();
        self.rules.clear();
    }

    fn category(&mut self, name: &str, allow: bool, catalog: &Catalog) -> Result<(), RuleError> {
        let ids: Vec<_> = catalog.category(name).ok_or(RuleError::Unknown)?.collect();
        for id in ids {
            self.change(id, allow, catalog);
        }
        self.note(&format!("@{}", name.to_ascii_lowercase()), allow);
        Ok(())
    }

    fn allow(&mut self, name: &str, catalog: &Catalog) -> Result<(), RuleError> {
        let Some((command, sub)) = name.rsplit_once('|') else {
            let id = catalog.find(name).ok_or(RuleError::Unknown)?;
            self.change(id, true, catalog);
            self.note(catalog.name(id), true);
            return Ok(());
        };
        let id = catalog.find(command).ok_or(RuleError::Unknown)?;
        if catalog.is_subcommand(id) {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if sub.is_empty() || has_blanks(sub) {
            return Err(RuleError::Syntax);
        }
        if catalog.children(id).is_empty() {
            self.first_args.entry(id).or_default().insert(sub.to_ascii_lowercase());
            self.note(name, true);
        } else {
            let id = catalog.find(name).ok_or(RuleError::Unknown)?;
            self.change(id, true, catalog);
            self.note(catalog.name(id), true);
        }
        Ok(())
    }

    /// A container brings its subcommands along.
    fn change(&mut self, id: CommandId, allow: bool, catalog: &Catalog) {
        for id in std::iter::once(&id).chain(catalog.children(id)) {
            self.first_args.remove(id);
            if allow {
                self.allowed.insert(*id);
            } else {
                self.allowed.remove(id);
            }
        }
    }

    /// Remembers a rule about commands; it outdates those about the same command or its parts.
    fn note(&mut self, name: &str, allow: bool) {
        let name = name.to_ascii_lowercase();
        let part = format!("{name}|");
        self.rules.retain(|rule| rule[1..] != name && !rule[1..].starts_with(&part));
        self.rules.push(format!("{}{name}", if allow { '+' } else { '-' }));
    }

    fn keys(&mut self, pattern: &str, read: bool, write: bool) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AllKeys);
        }
        if has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => (known.read, known.write) = (known.read | read, known.write | write),
            None => self.keys.push(KeyPattern { pattern: pattern.to_owned(), read, write }),
        }
        Ok(())
    }

    fn channel(&mut self, pattern: &str) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::AllChannels);
        }
        if has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_owned());
        }
        Ok(())
    }

    /// Whether these permissions are enough.
    ///
    /// # Errors
    /// The first thing that they lack.
    pub(super) fn check(&self, wish: &Wish<'_>, catalog: &Catalog) -> Result<(), Denial> {
        let by_first_arg = || {
            let allowed = self.first_args.get(&wish.command)?;
            let given = std::str::from_utf8(wish.first_arg?).ok()?.to_ascii_lowercase();
            allowed.contains(&given).then_some(())
        };
        let allowed = self.allowed.contains(&wish.command) || catalog.is_open(wish.command);
        if !allowed && by_first_arg().is_none() {
            return Err(Denial::Command);
        }
        match wish.channels.iter().position(|name| !self.may_hear(name, wish.patterns)) {
            Some(at) => Err(Denial::Channel(at)),
            None => Ok(()),
        }
    }

    /// Whether a channel, or a pattern of channels, is allowed.
    pub(super) fn may_hear(&self, name: &[u8], is_pattern: bool) -> bool {
        let matches = |allowed: &String| match is_pattern {
            true => allowed.as_bytes() == name,
            false => glob::matches(allowed.as_bytes(), name),
        };
        self.all_channels || self.channels.iter().any(matches)
    }

    /// The rules about commands, as they can be given again.
    pub fn commands(&self) -> String {
        let first = if self.future { "+@all" } else { "-@all" };
        let rules = std::iter::once(first).chain(self.rules.iter().map(String::as_str));
        rules.collect::<Vec<_>>().join(" ")
    }

    /// The key patterns.
    pub fn key_patterns(&self) -> String {
        if self.all_keys {
            return "~*".to_owned();
        }
        let shown = |key: &KeyPattern| match (key.read, key.write) {
            (true, false) => format!("%R~{}", key.pattern),
            (false, true) => format!("%W~{}", key.pattern),
            _ => format!("~{}", key.pattern),
        };
        self.keys.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    /// The channel patterns.
    pub fn channel_patterns(&self) -> String {
        if self.all_channels {
            return "&*".to_owned();
        }
        self.channels.iter().map(|name| format!("&{name}")).collect::<Vec<_>>().join(" ")
    }

    /// All of it, as a line of `ACL LIST` has it.
    pub(super) fn describe(&self) -> String {
        let reset = if self.all_channels { "" } else { "resetchannels" };
        let parts =
            [self.key_patterns(), reset.to_owned(), self.channel_patterns(), self.commands()];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(" ")
    }
}
