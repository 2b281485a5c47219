//! What the table of commands is made of, and how a request finds its command there. Dispatch, the
//! errors for unknown commands and wrong arity, COMMAND and every HELP are driven by it; its rows
//! are in `rows`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::rows::COMMANDS;
use super::session::{Outcome, Session};
use crate::resp::Value;
use crate::sentinel::Request;

/// How much of an unknown name or of the arguments behind it an error repeats, in bytes.
const QUOTED_MAX: usize = 128;

/// One command or subcommand.
pub(crate) struct Command {
    /// Lower-case name; of a subcommand without its container.
    pub(crate) name: &'static str,
    /// Words, the name and the container's name included; negative: at least that many.
    pub(crate) arity: i64,
    /// Flags and ACL categories.
    pub(crate) kind: &'static Kind,
    /// The first version of Redis (for aliases: Valkey) that has it.
    pub(crate) since: &'static str,
    /// One sentence for COMMAND DOCS and HELP.
    pub(crate) summary: &'static str,
    /// What follows the name.
    pub(crate) args: &'static [Arg],
    /// Hints for clients and proxies, as COMMAND INFO shows them.
    pub(crate) tips: &'static [&'static str],
    /// A second name of another command: HELP leaves it out.
    pub(crate) alias: bool,
    /// The other name, where it is Valkey's name for the very same command.
    pub(crate) same_as: Option<&'static str>,
    /// For an old name: since which version of Redis it is replaced, and by what.
    pub(crate) replaced: Option<(&'static str, &'static str)>,
    /// Subcommands; with some, the second word must be one of them.
    pub(crate) subcommands: &'static [Command],
    /// Who answers.
    pub(crate) run: Run,
}

/// Who answers a command.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// Nobody: it only holds subcommands.
    Container,
    /// The connection itself, once every earlier command has its reply.
    Here(fn(&mut Session, &[Bytes]) -> Outcome),
    /// The core; several such commands of one connection may be under way.
    Core(fn(&[Bytes]) -> Result<Request, Value>),
}

/// Flags and ACL categories that commands of one kind share, in Redis's order.
pub(crate) struct Kind {
    /// The documentation group.
    pub(crate) group: &'static str,
    /// Such as `admin`.
    pub(crate) flags: &'static [&'static str],
    /// Such as `@admin`.
    pub(crate) categories: &'static [&'static str],
}

impl Kind {
    /// True for a command that clients may send before AUTH.
    pub(crate) fn is_open(&self) -> bool {
        self.flags.contains(&"no_auth")
    }
}

/// One argument, for COMMAND DOCS and HELP.
pub(crate) struct Arg {
    /// The name, such as `master-name`.
    pub(crate) name: &'static str,
    /// `string`, `integer`, `pattern`, `pure-token` (a word to be typed as it is) or `block`.
    pub(crate) kind: &'static str,
    /// May be left out.
    pub(crate) optional: bool,
    /// May come several times.
    pub(crate) multiple: bool,
    /// The arguments of a block.
    pub(crate) parts: &'static [Arg],
}

impl Arg {
    /// As a usage line shows it, such as `[<option> <value> ...]`.
    pub(crate) fn usage(&self) -> String {
        let once = match self.kind {
            "pure-token" => self.name.to_ascii_uppercase(),
            "block" => self.parts.iter().map(Arg::usage).collect::<Vec<_>>().join(" "),
            _ => format!("<{}>", self.name),
        };
        match (self.optional, self.multiple) {
            (false, false) => once,
            (true, false) => format!("[{once}]"),
            (false, true) => format!("{once} [{once} ...]"),
            (true, true) => format!("[{once} ...]"),
        }
    }
}

impl Command {
    fn subcommand(&self, name: &[u8]) -> Option<&Command> {
        self.subcommands.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
    }

    fn takes(&self, words: usize) -> bool {
        let (words, least) = (words as u64, self.arity.unsigned_abs());
        if self.arity < 0 { words >= least } else { words == least }
    }
}

/// A command and, for a subcommand, what contains it.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    /// The command or subcommand.
    pub(crate) command: &'static Command,
    /// Of a subcommand.
    pub(crate) container: Option<&'static Command>,
}

impl Found {
    /// `ping`, or `sentinel|masters`.
    pub(crate) fn name(&self) -> String {
        match self.container {
            Some(container) => format!("{}|{}", container.name, self.command.name),
            None => self.command.name.to_owned(),
        }
    }

    /// Of a Valkey name, the name that every version of Redis knows.
    pub(crate) fn original(&self) -> Option<String> {
        let name = self.command.same_as?;
        Some(self.container.map_or(name.to_owned(), |top| format!("{}|{name}", top.name)))
    }
}

/// What the commands are called, where `rename-command` changed that.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    /// The names with these changes: from the original name to the new one, in lower case, which is
    /// empty for a command that is taken away.
    pub(crate) fn new(renamed: BTreeMap<String, String>) -> Names {
        Names(renamed)
    }

    /// Finds what a request asks for, with Redis's errors for unknown names and wrong numbers of
    /// arguments. `args` is never empty.
    pub(crate) fn find(&self, args: &[Bytes]) -> Result<Found, Value> {
        let found = self.look_up(args)?;
        if found.command.takes(args.len()) { Ok(found) } else { Err(wrong_arity(&found)) }
    }

    /// The same, whatever the number of arguments.
    pub(crate) fn look_up(&self, args: &[Bytes]) -> Result<Found, Value> {
        let top = self.top(&args[0]).ok_or_else(|| unknown_command(args))?;
        match args.get(1).filter(|_| !top.subcommands.is_empty()) {
            Some(word) => match top.subcommand(word) {
                Some(command) => Ok(Found { command, container: Some(top) }),
                None => Err(unknown_subcommand(&args[0], word)),
            },
            None => Ok(Found { command: top, container: None }),
        }
    }

    /// Finds `ping` or `sentinel|masters`, as COMMAND INFO and COMMAND DOCS name commands.
    pub(crate) fn by_name(&self, name: &[u8]) -> Option<Found> {
        let mut parts = name.splitn(2, |byte| *byte == b'|');
        let container = self.top(parts.next()?)?;
        match parts.next() {
            None => Some(Found { command: container, container: None }),
            Some(name) => {
                let command = container.subcommand(name)?;
                Some(Found { command, container: Some(container) })
            }
        }
    }

    /// All commands without their subcommands, but those that were taken away.
    pub(crate) fn all(&self) -> impl Iterator<Item = Found> {
        let there = |command: &&Command| self.0.get(command.name).is_none_or(|new| !new.is_empty());
        COMMANDS.iter().filter(there).map(|command| Found { command, container: None })
    }

    fn top(&self, name: &[u8]) -> Option<&'static Command> {
        let new = |(_, new): &(&String, &String)| {
            !new.is_empty() && name.eq_ignore_ascii_case(new.as_bytes())
        };
        let original = match self.0.iter().find(new) {
            Some((original, _)) => original.as_bytes(),
            None => name,
        };
        let is = |command: &&Command| original.eq_ignore_ascii_case(command.name.as_bytes());
        let found = COMMANDS.iter().find(is)?;
        let moved = original == name && self.0.contains_key(found.name);
        (!moved || self.0[found.name] == found.name).then_some(found)
    }
}

/// All commands and subcommands by their original names.
pub(crate) fn every() -> impl Iterator<Item = Found> {
    Names::default()
        .all()
        .collect::<Vec<_>>()
        .into_iter()
        .flat_map(|top| std::iter::once(top).chain(under(top.command)))
}

/// A command's subcommands.
pub(crate) fn under(container: &'static Command) -> impl Iterator<Item = Found> {
    container.subcommands.iter().map(|command| Found { command, container: Some(container) })
}

/// The error for a wrong number of arguments.
pub(crate) fn wrong_arity(found: &Found) -> Value {
    Value::error(format!("ERR wrong number of arguments for '{}' command", found.name()))
}

fn unknown_command(args: &[Bytes]) -> Value {
    let mut rest = String::new();
    for arg in &args[1..] {
        if rest.len() >= QUOTED_MAX {
            break;
        }
        rest += &format!("'{}' ", quoted(arg, QUOTED_MAX - rest.len()));
    }
    let name = quoted(&args[0], QUOTED_MAX);
    Value::error(format!("ERR unknown command '{name}', with args beginning with: {rest}"))
}

fn unknown_subcommand(container: &[u8], word: &[u8]) -> Value {
    let container = quoted(container, QUOTED_MAX).to_ascii_uppercase();
    let word = quoted(word, QUOTED_MAX);
    Value::error(format!("ERR unknown subcommand '{word}'. Try {container} HELP."))
}

/// At most `max` bytes of an argument as text; like Redis, it ends at a zero byte.
pub(crate) fn quoted(arg: &[u8], max: usize) -> String {
    let end = arg.iter().take(max).position(|byte| *byte == 0).unwrap_or(max.min(arg.len()));
    String::from_utf8_lossy(&arg[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::users;

    fn error(words: &[&str]) -> String {
        let args: Vec<Bytes> = words.iter().map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
        match Names::default().find(&args) {
            Ok(found) => found.name(),
            Err(Value::Error(text)) => text,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_finds_its_command_or_redis_s_error() {
        let long = "e".repeat(200);
        for (words, expected) in [
            (&["PING"][..], "ping".to_owned()),
            (&["Sentinel", "MASTERS"], "sentinel|masters".into()),
            (&["command"], "command".into()),
            (
                &["echo", "hi", "ho"],
                "ERR unknown command 'echo', with args beginning with: 'hi' 'ho' ".into(),
            ),
            (&["get"], "ERR unknown command 'get', with args beginning with: ".into()),
            (&["sentinel", "Foo"], "ERR unknown subcommand 'Foo'. Try SENTINEL HELP.".into()),
            (&["sentinel"], "ERR wrong number of arguments for 'sentinel' command".into()),
            (
                &["SENTINEL", "Masters", "x"],
                "ERR wrong number of arguments for 'sentinel|masters' command".into(),
            ),
            (&["ping", "a", "b"], "ping".into()),
            (&["role", "b"], "ERR wrong number of arguments for 'role' command".into()),
            (
                &["a", &long, "b"],
                format!(
                    "ERR unknown command 'a', with args beginning with: '{}' ",
                    "e".repeat(128)
                ),
            ),
            (&["a\0b", "c\0d"], "ERR unknown command 'a', with args beginning with: 'c' ".into()),
        ] {
            assert_eq!(error(words), expected, "{words:?}");
        }
    }

    #[test]
    fn renamed_commands_are_found_by_their_new_names_only() {
        let renamed = [("shutdown", "Halt"), ("role", ""), ("ping", "ping"), ("info", "role")];
        let names = renamed.map(|(from, to)| (from.to_owned(), to.to_ascii_lowercase()));
        let names = Names::new(names.into());
        let name = |word: &[u8]| names.by_name(word).map(|found| found.name());
        for (word, expected) in [
            ("shutdown", None),
            ("HALT", Some("shutdown")),
            ("ping", Some("ping")),
            ("info", None),
            ("role", Some("info")),
            ("auth", Some("auth")),
            ("", None),
        ] {
            assert_eq!(name(word.as_bytes()).as_deref(), expected, "{word}");
        }
        assert!(names.all().all(|found| found.command.name != "role"));
    }

    #[test]
    fn the_configuration_knows_the_same_commands() {
        let rows: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
        let mut known = [&users::COMMANDS[..], &users::BEYOND_RULES].concat();
        known.sort_unstable();
        assert_eq!(rows, known);
    }

    #[test]
    fn names_are_lower_case_and_unique() {
        for list in std::iter::once(COMMANDS).chain(COMMANDS.iter().map(|c| c.subcommands)) {
            let mut names: Vec<_> = list.iter().map(|command| command.name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
            assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
        }
    }

    #[test]
    fn usage_lines_come_from_the_arguments() {
        let usage = |name: &[u8]| {
            let args = Names::default().by_name(name).unwrap().command.args;
            args.iter().map(Arg::usage).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(usage(b"sentinel|monitor"), "<name> <ip> <port> <quorum>");
        assert_eq!(usage(b"sentinel|set"), "<master-name> <option> <value> [<option> <value> ...]");
        assert_eq!(usage(b"unsubscribe"), "[<channel> ...]");
    }
}
