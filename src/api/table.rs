//! What the table of commands is made of, and how a request finds its command there. Dispatch, the
//! errors for unknown commands and wrong arity, COMMAND and every HELP are driven by it; its rows
//! are in `rows`.

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
}

/// Finds what a request asks for, with Redis's errors for unknown names and wrong numbers of
/// arguments. `args` is never empty.
pub(crate) fn find(args: &[Bytes]) -> Result<Found, Value> {
    let top = top(&args[0]).ok_or_else(|| unknown_command(args))?;
    let found = match args.get(1).filter(|_| !top.subcommands.is_empty()) {
        Some(word) => match top.subcommand(word) {
            Some(command) => Found { command, container: Some(top) },
            None => return Err(unknown_subcommand(&args[0], word)),
        },
        None => Found { command: top, container: None },
    };
    if found.command.takes(args.len()) { Ok(found) } else { Err(wrong_arity(&found)) }
}

/// Finds `ping` or `sentinel|masters`, as COMMAND INFO and COMMAND DOCS name commands.
pub(crate) fn by_name(name: &[u8]) -> Option<Found> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let container = top(parts.next()?)?;
    match parts.next() {
        None => Some(Found { command: container, container: None }),
        Some(name) => {
            let command = container.subcommand(name)?;
            Some(Found { command, container: Some(container) })
        }
    }
}

/// All commands without their subcommands.
pub(crate) fn all() -> impl Iterator<Item = Found> {
    COMMANDS.iter().map(|command| Found { command, container: None })
}

/// A command's subcommands.
pub(crate) fn under(container: &'static Command) -> impl Iterator<Item = Found> {
    container.subcommands.iter().map(|command| Found { command, container: Some(container) })
}

fn top(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
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

    fn error(words: &[&str]) -> String {
        let args: Vec<Bytes> = words.iter().map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
        match find(&args) {
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
            let args = by_name(name).unwrap().command.args;
            args.iter().map(Arg::usage).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(usage(b"sentinel|monitor"), "<name> <ip> <port> <quorum>");
        assert_eq!(usage(b"sentinel|set"), "<master-name> <option> <value> [<option> <value> ...]");
        assert_eq!(usage(b"unsubscribe"), "[<channel> ...]");
    }
}
