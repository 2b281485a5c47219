//! One user: whether it may log in, with which passwords, and what it may do.

use std::fmt;

use sha2::{Digest, Sha256, digest};

use super::catalog::Catalog;
use super::rule::RuleError;
use super::selector::{Denial, Selector, Wish};

/// SHA-256 of a password.
type Hash = digest::Output<Sha256>;

/// A user with its permissions.
#[derive(Clone, PartialEq)]
pub struct User {
    enabled: bool,
    nopass: bool,
    /// `skip-sanitize-payload`: kept for the file's sake.
    skip_sanitize: bool,
    passwords: Vec<Hash>,
    root: Selector,
    others: Vec<Selector>,
}

/// Leaves out the passwords, though they are hashed.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", String::from_utf8_lossy(&self.root.describe()))
    }
}

impl User {
    /// A new user may do nothing and cannot log in.
    pub(super) fn new(all_channels: bool) -> User {
        User {
            enabled: false,
            nopass: false,
            skip_sanitize: false,
            passwords: Vec::new(),
            root: Selector::new(all_channels),
            others: Vec::new(),
        }
    }

    /// The default user of a sentinel without any configuration: everything, without a password.
    pub(super) fn open(catalog: &Catalog) -> User {
        User { enabled: true, nopass: true, root: Selector::all(catalog), ..User::new(true) }
    }

    /// Applies one rule; `all_channels` is `acl-pubsub-default`.
    ///
    /// # Errors
    /// See [`RuleError`]; nothing is changed then.
    pub(super) fn apply(
        &mut self,
        rule: &[u8],
        all_channels: bool,
        catalog: &Catalog,
    ) -> Result<(), RuleError> {
        match rule {
            [] => return Ok(()),
            [b'>', password @ ..] => {
                self.add_password(hash(password));
                return Ok(());
            }
            [b'<', password @ ..] => return self.remove_password(hash(password)),
            _ => {}
        }
        match rule.to_ascii_lowercase().as_slice() {
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"nopass" => {
                self.nopass = true;
                self.passwords.clear();
            }
            b"resetpass" => {
                self.nopass = false;
                self.passwords.clear();
            }
            b"sanitize-payload" => self.skip_sanitize = false,
            b"skip-sanitize-payload" => self.skip_sanitize = true,
            b"clearselectors" => self.others.clear(),
            b"reset" => *self = User::new(all_channels),
            _ => return self.apply_longer(rule, all_channels, catalog),
        }
        Ok(())
    }

    fn apply_longer(
        &mut self,
        rule: &[u8],
        all_channels: bool,
        catalog: &Catalog,
    ) -> Result<(), RuleError> {
        match rule {
            [b'#', hash @ ..] => self.add_password(parse_hash(hash)?),
            [b'!', hash @ ..] => self.remove_password(parse_hash(hash)?)?,
            [b'(', inner @ .., b')'] => {
                let mut selector = Selector::new(all_channels);
                for rule in inner.split(u8::is_ascii_whitespace).filter(|rule| !rule.is_empty()) {
                    selector.apply(rule, catalog)?;
                }
                self.others.push(selector);
            }
            _ => self.root.apply(rule, catalog)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: Hash) {
        self.nopass = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: Hash) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| *known == hash);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// Takes this password and no other.
    pub(super) fn set_password(&mut self, password: &[u8]) {
        self.passwords.clear();
        self.add_password(hash(password));
    }

    /// Whether somebody with this password may log in. Every hash is compared to its end, so the
    /// time tells nothing of the passwords.
    pub(super) fn accepts(&self, password: &[u8]) -> bool {
        let given = hash(password);
        let same = |known: &Hash| {
            let pairs = known.iter().zip(given);
            std::hint::black_box(pairs.fold(0, |differ, (a, b)| differ | (a ^ b))) == 0
        };
        let known = self.passwords.iter().fold(false, |found, known| found | same(known));
        self.enabled && (self.nopass | known)
    }

    /// `on`
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// `nopass`
    pub fn needs_no_password(&self) -> bool {
        self.nopass
    }

    /// Whether the user may do this, by one of its selectors alone.
    ///
    /// # Errors
    /// What the selector that comes closest lacks.
    pub fn check(&self, wish: &Wish<'_>, catalog: &Catalog) -> Result<(), Denial> {
        let mut closest = Denial::Command;
        for selector in std::iter::once(&self.root).chain(&self.others) {
            match selector.check(wish, catalog) {
                Ok(()) => return Ok(()),
                Err(denial) => closest = closest.max(denial),
            }
        }
        Err(closest)
    }

    /// Whether a subscription that exists may go on existing.
    pub fn may_hear(&self, channel: &[u8], is_pattern: bool) -> bool {
        let mut selectors = std::iter::once(&self.root).chain(&self.others);
        selectors.any(|selector| selector.may_hear(channel, is_pattern))
    }

    /// The flags of `ACL GETUSER`, in Redis's order.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        flags.push(if self.skip_sanitize { "skip-sanitize-payload" } else { "sanitize-payload" });
        flags
    }

    /// The hashes of the passwords, in hexadecimal.
    pub fn password_hashes(&self) -> impl Iterator<Item = String> {
        self.passwords.iter().map(|hash| format!("{hash:x}"))
    }

    /// The permissions that every user has.
    pub fn root(&self) -> &Selector {
        &self.root
    }

    /// The further selectors.
    pub fn selectors(&self) -> &[Selector] {
        &self.others
    }

    /// The rules that make this user, as `ACL LIST` and files have them. They are whole: applied to
    /// a new user they give the same one.
    pub fn describe(&self) -> Vec<u8> {
        let mut parts = vec![self.flags().join(" ").into_bytes()];
        parts.extend(self.password_hashes().map(|hash| format!("#{hash}").into_bytes()));
        parts.push(self.root.describe());
        parts.extend(self.others.iter().map(|other| [b"(", &other.describe()[..], b")"].concat()));
        parts.join(&b' ')
    }
}

fn hash(password: &[u8]) -> Hash {
    Sha256::digest(password)
}

fn parse_hash(text: &[u8]) -> Result<Hash, RuleError> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits =
        text.iter().copied().map(digit).collect::<Option<Vec<u8>>>().ok_or(RuleError::BadHash)?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let hash: [u8; 32] = bytes.try_into().map_err(|_| RuleError::BadHash)?;
    if digits.len() == 64 { Ok(hash.into()) } else { Err(RuleError::BadHash) }
}
