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
    pattern: Vec<u8>,
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
    channels: Vec<Vec<u8>>,
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
    pub(super) fn apply(&mut self, rule: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"allkeys" | b"~*" => {
                self.all_keys = true;
                self.keys.clear();
            }
            b"resetkeys" => {
                self.all_keys = false;
                self.keys.clear();
            }
            b"allchannels" | b"&*" => {
                self.all_channels = true;
                self.channels.clear();
            }
            b"resetchannels" => {
                self.all_channels = false;
                self.channels.clear();
            }
            b"allcommands" | b"+@all" => self.every_command(catalog, true),
            b"nocommands" | b"-@all" => self.every_command(catalog, false),
            _ => return self.apply_one(rule, catalog),
        }
        Ok(())
    }

    fn apply_one(&mut self, rule: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        match rule {
            [b'~', pattern @ ..] => self.keys(pattern, true, true),
            [b'%', rest @ ..] => {
                let at = rest.iter().position(|byte| *byte == b'~').ok_or(RuleError::Syntax)?;
                let (kinds, pattern) = (&rest[..at], &rest[at + 1..]);
                match kinds.to_ascii_uppercase().as_slice() {
                    b"R" => self.keys(pattern, true, false),
                    b"W" => self.keys(pattern, false, true),
                    b"RW" | b"WR" => self.keys(pattern, true, true),
                    _ => Err(RuleError::Syntax),
                }
            }
            [b'&', channel @ ..] => self.channel(channel),
            [b'+' | b'-', ..] => {
                // No command has a name that is no text.
                let rule = std::str::from_utf8(rule).map_err(|_| RuleError::Unknown)?;
                self.command(rule, catalog)
            }
            _ => Err(RuleError::Syntax),
        }
    }

    fn command(&mut self, rule: &str, catalog: &Catalog) -> Result<(), RuleError> {
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
        if sub.is_empty() || has_blanks(sub.as_bytes()) {
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

    fn keys(&mut self, pattern: &[u8], read: bool, write: bool) -> Result<(), RuleError> {
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

    fn channel(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
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
        let matches = |allowed: &Vec<u8>| match is_pattern {
            true => allowed == name,
            false => glob::matches(allowed, name),
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
    pub fn key_patterns(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let shown = |key: &KeyPattern| {
            let kind: &[u8] = match (key.read, key.write) {
                (true, false) => b"%R~",
                (false, true) => b"%W~",
                _ => b"~",
            };
            [kind, &key.pattern].concat()
        };
        self.keys.iter().map(shown).collect::<Vec<_>>().join(&b' ')
    }

    /// The channel patterns.
    pub fn channel_patterns(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        self.channels.iter().map(|name| [b"&", &name[..]].concat()).collect::<Vec<_>>().join(&b' ')
    }

    /// All of it, as a line of `ACL LIST` has it.
    pub(super) fn describe(&self) -> Vec<u8> {
        let reset: &[u8] = if self.all_channels { b"" } else { b"resetchannels" };
        let (keys, channels) = (self.key_patterns(), self.channel_patterns());
        let parts = [&keys, reset, &channels, self.commands().as_bytes()].map(<[u8]>::to_vec);
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(&b' ')
    }
}
