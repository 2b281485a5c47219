//! Redis's access control lists: users, their passwords as SHA-256, the commands and channels that
//! each may use, the ACL file, and the log of what was denied.
//!
//! Pure: which commands exist comes in as a [`Catalog`], the time with each call; files are read
//! and written elsewhere. [`Acl`] holds the users; a rule (`+sentinel|masters`, `&+switch-master`,
//! `>password`) changes a [`User`] or one of its selectors; [`Log`] remembers denials.

mod catalog;
mod log;
mod rule;
mod selector;
#[cfg(test)]
mod tests;
mod user;
mod users;

pub use catalog::{CATEGORIES, Catalog, CommandId, Row};
pub use log::{Denied, Entry, Log, Reason};
pub use rule::{RuleError, join_selectors};
pub use selector::{Denial, Selector, Wish};
pub use user::User;
pub use users::{Acl, BadRule, DEFAULT_USER, LoadError};
