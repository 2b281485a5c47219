//! All users, and the ACL file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::Catalog;
use super::rule::{RuleError, has_blanks, join_selectors};
use super::user::User;

/// The user of every connection that has not said who it is.
pub const DEFAULT_USER: &str = "default";

/// A rule could not be applied; no user is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRule {
    /// Which of the rules.
    pub index: usize,
    /// What is wrong with it.
    pub error: RuleError,
}

/// An ACL file cannot be taken over; the text is Redis's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(String);

/// All users.
#[derive(Clone)]
pub struct Acl {
    catalog: Arc<Catalog>,
    all_channels: bool,
    users: BTreeMap<Vec<u8>, User>,
}

impl Acl {
    /// Nobody but the default user, who may do everything without a password. `all_channels` is
    /// `acl-pubsub-default`: what new users may listen to.
    pub fn new(catalog: Arc<Catalog>, all_channels: bool) -> Acl {
        let default = User::open(&catalog);
        Acl { catalog, all_channels, users: [(DEFAULT_USER.into(), default)].into() }
    }

    /// What rules can name.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// All users by name, which may be any bytes but blanks.
    pub fn users(&self) -> impl Iterator<Item = (&[u8], &User)> {
        self.users.iter().map(|(name, user)| (name.as_slice(), user))
    }

    /// A user.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&User> {
        self.users.get(name.as_ref())
    }

    /// True if a connection has to say who it is before it may do anything.
    pub fn auth_required(&self) -> bool {
        let default = self.get(DEFAULT_USER);
        !default.is_some_and(|user| user.is_enabled() && user.needs_no_password())
    }

    /// Whether this user may log in with this password.
    pub fn accepts(&self, name: &[u8], password: &[u8]) -> bool {
        self.get(name).is_some_and(|user| user.accepts(password))
    }

    /// `ACL SETUSER`: makes or changes a user by rules, whose selectors are joined.
    ///
    /// # Errors
    /// The first rule that is wrong.
    pub fn set<T: AsRef<[u8]>>(
        &mut self,
        name: impl AsRef<[u8]>,
        rules: &[T],
    ) -> Result<(), BadRule> {
        let known = self.get(&name).cloned();
        let user = known.unwrap_or_else(|| User::new(self.all_channels));
        self.put(name.as_ref(), user, rules)
    }

    /// A `user` line: the user is what the rules say and nothing else.
    ///
    /// # Errors
    /// The first rule that is wrong.
    pub fn define<T: AsRef<[u8]>>(
        &mut self,
        name: impl AsRef<[u8]>,
        rules: &[T],
    ) -> Result<(), BadRule> {
        self.put(name.as_ref(), User::new(self.all_channels), rules)
    }

    fn put<T: AsRef<[u8]>>(
        &mut self,
        name: &[u8],
        mut user: User,
        rules: &[T],
    ) -> Result<(), BadRule> {
        for (index, rule) in rules.iter().enumerate() {
            user.apply(rule.as_ref(), self.all_channels, &self.catalog)
                .map_err(|error| BadRule { index, error })?;
        }
        self.users.insert(name.to_owned(), user);
        Ok(())
    }

    /// `requirepass`: the password of the default user, unless it has one already. Redis would
    /// leave a default user without a password open; true if that was so.
    pub fn require_password(&mut self, password: &[u8]) -> bool {
        let default =
            self.users.get_mut(DEFAULT_USER.as_bytes()).filter(|user| user.needs_no_password());
        default.map(|user| user.set_password(password)).is_some()
    }

    /// Deletes a user; false if there was none. The default user stays.
    pub fn delete(&mut self, name: &[u8]) -> bool {
        name != DEFAULT_USER.as_bytes() && self.users.remove(name).is_some()
    }

    /// Takes over the users of an ACL file, and only those; the default user, if the file does not
    /// have it, may do everything.
    ///
    /// # Errors
    /// All that is wrong with the file; nothing is changed then.
    pub fn load(&mut self, file: &str, content: &[u8]) -> Result<(), LoadError> {
        let mut fresh = Acl::new(self.catalog.clone(), self.all_channels);
        let mut errors = String::new();
        let mut seen = BTreeMap::new();
        for (index, line) in content.split(|&byte| byte == b'\n').enumerate() {
            let number = index + 1;
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let words: Vec<_> =
                line.split(|&b| b == b' ').filter(|word| !word.is_empty()).collect();
            let [b"user", name, rules @ ..] = &words[..] else {
                errors += &format!(
                    "{file}:{number} should start with user keyword followed by the username. "
                );
                continue;
            };
            if let Some(error) = fresh.line((file, number), name, rules, &mut seen) {
                errors += &error;
            }
        }
        if !errors.is_empty() {
            errors += "WARNING: ACL errors detected, no change to the previously active ACL rules \
                       was performed";
            return Err(LoadError(errors));
        }
        self.users = fresh.users;
        Ok(())
    }

    /// Takes over one line of an ACL file; returns what is wrong with it.
    fn line(
        &mut self,
        (file, number): (&str, usize),
        name: &[u8],
        rules: &[&[u8]],
        seen: &mut BTreeMap<Vec<u8>, usize>,
    ) -> Option<String> {
        let shown_name = String::from_utf8_lossy(name);
        if has_blanks(name) {
            return Some(format!(
                "'{file}:{number}: username '{shown_name}' contains invalid characters. "
            ));
        }
        if seen.insert(name.to_owned(), number).is_some() {
            return Some(format!(
                "WARNING: Duplicate user '{shown_name}' found on line {number}. "
            ));
        }
        let Ok(rules) = join_selectors(rules) else {
            return Some(format!("{file}:{number}: Unmatched parenthesis in selector definition."));
        };
        let bad = self.define(name, &rules).err()?;
        let rule = rules.get(bad.index).map(|rule| shown(rule)).unwrap_or_default();
        Some(match bad.error {
            RuleError::Unknown => {
                format!("{file}:{number}: Error in applying operation '{rule}': {}. ", bad.error)
            }
            error => format!("{file}:{number}: {error}. "),
        })
    }

    /// Whether this can be a user's name, which stands between blanks in files.
    pub fn is_name(name: &[u8]) -> bool {
        !name.is_empty() && !has_blanks(name)
    }

    /// Each user's line, as `ACL LIST` shows it and as files have it.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        let line = |(name, user): (&[u8], &User)| [b"user", name, &user.describe()].join(&b' ');
        self.users().map(line).collect()
    }
}

/// A rule as an error may show it: never a password.
pub(super) fn shown(rule: &[u8]) -> String {
    match rule {
        [first @ (b'>' | b'<' | b'#' | b'!'), ..] => format!("{}******", char::from(*first)),
        _ => String::from_utf8_lossy(rule).into_owned(),
    }
}

impl BadRule {
    /// The rule, as an error in a log may show it.
    pub fn shown<T: AsRef<[u8]>>(&self, rules: &[T]) -> String {
        rules.get(self.index).map(|rule| shown(rule.as_ref())).unwrap_or_default()
    }
}
