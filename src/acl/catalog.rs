//! Which commands there are, and in which categories: what rules can name.

use std::collections::BTreeMap;

/// All categories of Redis 7.2, in the order of `ACL CAT`. Most have no command of a sentinel, but
/// a rule may name them.
pub const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// A command or subcommand of a [`Catalog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(usize);

/// One command or subcommand, as a catalog is made of them.
#[derive(Debug, Clone)]
pub struct Row {
    /// `ping`, or `sentinel|masters`; in lower case.
    pub name: String,
    /// Such as `@admin`.
    pub categories: &'static [&'static str],
    /// Everybody may use it, even before AUTH.
    pub open: bool,
    /// It is another command under a second name: rules about either are about both.
    pub same_as: Option<String>,
}

/// The commands that rules can name.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: Vec<Row>,
    by_name: BTreeMap<String, CommandId>,
    children: BTreeMap<CommandId, Vec<CommandId>>,
}

impl Catalog {
    /// A catalog of these commands. A container comes before its subcommands, a command before its
    /// second names.
    pub fn new(rows: impl IntoIterator<Item = Row>) -> Catalog {
        let mut catalog = Catalog::default();
        for row in rows {
            let same = row.same_as.as_ref().and_then(|name| catalog.by_name.get(name)).copied();
            let id = same.unwrap_or(CommandId(catalog.entries.len()));
            catalog.by_name.insert(row.name.clone(), id);
            if same.is_none() {
                let parent = row.name.split_once('|').and_then(|(top, _)| catalog.find(top));
                if let Some(parent) = parent {
                    catalog.children.entry(parent).or_default().push(id);
                }
                catalog.entries.push(row);
            }
        }
        catalog
    }

    /// The command of this name, in any case: `ping`, `sentinel|masters`.
    pub fn find(&self, name: &str) -> Option<CommandId> {
        self.by_name.get(&name.to_ascii_lowercase()).copied()
    }

    /// Its name; of a command with two names, the one that every version of Redis knows.
    pub fn name(&self, id: CommandId) -> &str {
        &self.entries[id.0].name
    }

    /// Everybody may use it.
    pub(super) fn is_open(&self, id: CommandId) -> bool {
        self.entries[id.0].open
    }

    pub(super) fn is_subcommand(&self, id: CommandId) -> bool {
        self.name(id).contains('|')
    }

    /// A container's subcommands.
    pub(super) fn children(&self, id: CommandId) -> &[CommandId] {
        self.children.get(&id).map_or(&[], Vec::as_slice)
    }

    /// All commands and subcommands.
    pub(super) fn all(&self) -> impl Iterator<Item = CommandId> {
        (0..self.entries.len()).map(CommandId)
    }

    /// The commands of a category, in any case; `None` if Redis knows no such category.
    pub fn category(&self, name: &str) -> Option<impl Iterator<Item = CommandId>> {
        let known = CATEGORIES.iter().find(|known| known.eq_ignore_ascii_case(name))?;
        let has = |id: &CommandId| {
            self.entries[id.0].categories.iter().any(|c| c.strip_prefix('@') == Some(known))
        };
        Some(self.all().filter(has))
    }
}
