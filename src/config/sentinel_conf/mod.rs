//! Redis's `sentinel.conf`: directives in, settings and state out, and back again when the state
//! changes. The order of the lines does not matter, and all errors are found at once.

mod general;
mod group;
mod number;
mod render;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;
mod transport;
mod users;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::conf::{Line, Statement};
use super::diagnostic::{Diagnostic, Severity};
use super::own;
use super::rewrite::Setting;
use super::rules::{closest, remarks};
use super::settings::{GroupSettings, SentinelSettings};
use super::state::GroupState;
use super::types::{EPOCH_MAX, RunId, Secret};
use super::users::UserLines;

pub(super) use render::render;
pub(super) use transport::{is_placed, tls_versions};

/// The runtime state that a `sentinel.conf` carries among its settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfState {
    /// `sentinel myid`; `None` before the first start.
    pub my_id: Option<RunId>,
    /// `sentinel current-epoch`, or the highest epoch of a group where that is higher.
    pub current_epoch: u64,
    /// The groups with their settings and what is known of them.
    pub groups: BTreeMap<String, GroupState>,
}

/// What the files declare, without the command line, and the command line beside it: a rewrite adds
/// only what differs.
#[derive(Debug, Clone, Default)]
pub(super) struct Declared {
    pub(super) settings: SentinelSettings,
    pub(super) groups: BTreeMap<String, GroupSettings>,
    pub(super) overrides: Vec<Line>,
    /// The lines that stood in the file itself, not in one that it includes, as a rewrite has them.
    pub(super) own: BTreeSet<String>,
    /// The users, once they differ from what is declared.
    pub(super) user_lines: UserLines,
}

/// A line as a rewrite has it: its words in plain, the directive's in lower case.
pub(super) fn plain(line: &Line) -> String {
    let mut words: Vec<Cow<'_, str>> = line.words.iter().map(|w| (&*w.text).into()).collect();
    let about = if line.name() == "sentinel" { 2 } else { 1 };
    for word in words.iter_mut().take(about) {
        if word.bytes().any(|b| b.is_ascii_uppercase()) {
            word.to_mut().make_ascii_lowercase();
        }
    }
    Setting::line(words).text()
}

/// When a directive is read: those of a group need the group, and a group needs to know whether it
/// may be given by host name.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Process,
    Monitor,
    Group,
}

/// The directives that follow the word `sentinel`, with their arguments.
const DIRECTIVES: &[Directive] = &[
    (Phase::Process, "announce-ip", "<ip>"),
    (Phase::Process, "announce-port", "<port>"),
    (Phase::Process, "deny-scripts-reconfig", "yes|no"),
    (Phase::Process, "sentinel-user", "<user>"),
    (Phase::Process, "sentinel-pass", "<password>"),
    (Phase::Process, "current-epoch", "<epoch>"),
    (Phase::Process, "myid", "<id>"),
    (Phase::Process, "resolve-hostnames", "yes|no"),
    (Phase::Process, "announce-hostnames", "yes|no"),
    (Phase::Monitor, "monitor", "<name> <host> <port> <quorum>"),
    (Phase::Group, "down-after-milliseconds", "<name> <ms>"),
    (Phase::Group, "failover-timeout", "<name> <ms>"),
    (Phase::Group, "parallel-syncs", "<name> <count>"),
    (Phase::Group, "notification-script", "<name> <path>"),
    (Phase::Group, "client-reconfig-script", "<name> <path>"),
    (Phase::Group, "auth-pass", "<name> <password>"),
    (Phase::Group, "auth-user", "<name> <user>"),
    (Phase::Group, "rename-command", "<name> <command> <new-name>"),
    (Phase::Group, "master-reboot-down-after-period", "<name> <ms>"),
    (Phase::Group, "primary-reboot-down-after-period", "<name> <ms>"),
    (Phase::Group, "config-epoch", "<name> <epoch>"),
    (Phase::Group, "leader-epoch", "<name> <epoch>"),
    (Phase::Group, "known-replica", "<name> <ip> <port>"),
    (Phase::Group, "known-slave", "<name> <ip> <port>"),
    (Phase::Group, "known-sentinel", "<name> <ip> <port> <id>"),
];

/// Reads the directives of one sentinel over what is known already (from YAML, or nothing).
/// `executable` tells whether a script can be run. The result is whole even if there are errors; it
/// must not be used then.
pub(super) fn read(
    known: (SentinelSettings, ConfState),
    statements: &[Statement],
    executable: &dyn Fn(&Path) -> bool,
) -> (SentinelSettings, ConfState, Vec<Diagnostic>) {
    let mut reader = Reader::new(known, statements, executable);
    let meanings: Vec<_> = statements.iter().map(|statement| meaning(&statement.line)).collect();
    for phase in [Phase::Process, Phase::Monitor, Phase::Group] {
        for (index, meaning) in meanings.iter().enumerate() {
            // What means nothing is told of among what concerns the process.
            if meaning.map_or(Phase::Process, |(phase, ..)| *phase) == phase {
                reader.index = index;
                let outcome = reader.statement(&statements[index].line, *meaning);
                outcome.unwrap_or_else(|fault| reader.report(fault));
            }
        }
    }
    reader.finish()
}

/// A directive that follows the word `sentinel`.
type Directive = (Phase, &'static str, &'static str);

/// The directive of a line that begins with `sentinel`, if it is one that is known.
fn meaning(line: &Line) -> Option<&'static Directive> {
    line.word(0).filter(|word| word.eq_ignore_ascii_case("sentinel"))?;
    let second = line.word(1)?;
    DIRECTIVES.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(second))
}

/// Takes the votes out of the comments of a file: they count where their epoch is the group's
/// `leader-epoch`, so that a vote cast since by Redis, which keeps our comments, makes them void.
pub(super) fn read_votes(text: &str, state: &mut ConfState) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ["#", super::rewrite::VOTE, group, epoch, id] = words[..] else { continue };
        let (Some(group), Ok(epoch)) = (state.groups.get_mut(group), epoch.parse::<u64>()) else {
            continue;
        };
        if group.leader_epoch == epoch && epoch > 0 {
            group.voted_for = RunId::parse(id);
        }
    }
}

/// What is wrong with a directive: which word (0 is its first), and what to do.
struct Fault {
    word: usize,
    severity: Severity,
    message: String,
    help: Option<String>,
}

impl Fault {
    fn new(word: usize, message: impl Into<String>) -> Fault {
        Fault { word, severity: Severity::Error, message: message.into(), help: None }
    }

    fn warning(word: usize, message: impl Into<String>) -> Fault {
        Fault { severity: Severity::Warning, ..Fault::new(word, message) }
    }

    fn note(word: usize, message: impl Into<String>) -> Fault {
        Fault { severity: Severity::Note, ..Fault::new(word, message) }
    }

    /// Makes it a warning: the line is left out.
    fn ignored(self, help: &str) -> Fault {
        Fault { severity: Severity::Warning, ..self.help(help) }
    }

    fn help(mut self, help: impl Into<String>) -> Fault {
        self.help = Some(help.into());
        self
    }
}

struct Reader<'a> {
    statements: &'a [Statement],
    executable: &'a dyn Fn(&Path) -> bool,
    settings: SentinelSettings,
    state: ConfState,
    /// Which statement is being read.
    index: usize,
    /// Which statement each group's `monitor` is.
    monitored_at: BTreeMap<String, usize>,
    /// Which statement the last `aclfile` is.
    acl_file_at: Option<usize>,
    /// Groups whose `monitor` is not good.
    broken: BTreeSet<String>,
    /// The findings, each with its statement.
    found: Vec<(usize, Diagnostic)>,
}

impl<'a> Reader<'a> {
    fn new(
        (settings, state): (SentinelSettings, ConfState),
        statements: &'a [Statement],
        executable: &'a dyn Fn(&Path) -> bool,
    ) -> Reader<'a> {
        Reader {
            statements,
            executable,
            settings,
            state,
            index: 0,
            monitored_at: BTreeMap::new(),
            acl_file_at: None,
            broken: BTreeSet::new(),
            found: Vec::new(),
        }
    }

    /// Reads a directive, which has this meaning behind the word `sentinel`.
    fn statement(&mut self, line: &Line, meaning: Option<&Directive>) -> Result<(), Fault> {
        let words: Vec<&str> = line.words.iter().map(|w| w.text.as_str()).collect();
        let Some((phase, name, usage)) = meaning else {
            return match (&*line.name(), words.get(1)) {
                ("sentinel", Some(directive)) => Err(unknown(&directive.to_ascii_lowercase())),
                // Redis ignores a lone `sentinel`.
                ("sentinel", None) => Ok(()),
                (name, _) => self.general(name, &words),
            };
        };
        let args = &words[2..];
        let nameless_sentinel = *name == "known-sentinel" && args.len() == 3;
        if args.len() != usage.split(' ').count() && !nameless_sentinel {
            let word = words.len().min(2 + usage.split(' ').count());
            let more = match *name {
                "auth-pass" | "auth-user" | "sentinel-pass" | "sentinel-user" => {
                    ", in quotes if it has blanks: Redis leaves them out when it saves the file"
                }
                _ => "",
            };
            return Err(Fault::new(word, "Unrecognized sentinel configuration statement.")
                .help(format!("write: sentinel {name} {usage}{more}")));
        }
        match phase {
            Phase::Process => self.process(name, args[0]),
            Phase::Monitor => self.monitor(args),
            Phase::Group => self.group(name, args),
        }
    }

    /// A directive that is about this sentinel rather than a group.
    fn process(&mut self, directive: &str, value: &str) -> Result<(), Fault> {
        let some = || Some(value.to_owned()).filter(|v| !v.is_empty());
        match directive {
            "announce-ip" => self.settings.announce_ip = some(),
            "announce-port" => {
                let number = number::number(value, 0);
                match u16::try_from(number) {
                    Ok(_) => self.tell_number(2, value, number),
                    // Redis announces what no port can be, and other sentinels drop its hellos.
                    Err(_) => self.report(
                        Fault::warning(2, format!("{number} is no port, and is not announced"))
                            .help("a port is a number from 1 to 65535; 0 announces none"),
                    ),
                }
                self.settings.announce_port = u16::try_from(number).ok().filter(|&p| p != 0);
            }
            "sentinel-user" => self.settings.sentinel_user = some(),
            "sentinel-pass" => self.settings.sentinel_pass = some().map(Secret::new),
            "current-epoch" => {
                self.state.current_epoch = self.state.current_epoch.max(self.epoch(2, value)?);
            }
            "myid" => {
                let fault = || {
                    Fault::new(2, "Malformed Sentinel id in myid option.").help(
                        "an id has 40 hexadecimal digits; without the line a new one is made, \
                         and the other sentinels take this one for a new member",
                    )
                };
                self.state.my_id = Some(RunId::parse(value).ok_or_else(fault)?);
            }
            flag => {
                let plural = if flag == "deny-scripts-reconfig" { "options" } else { "option" };
                let on = yes_no(value).ok_or_else(|| {
                    Fault::new(2, format!("Please specify yes or no for the {flag} {plural}."))
                })?;
                match flag {
                    "deny-scripts-reconfig" => self.settings.deny_scripts_reconfig = on,
                    "resolve-hostnames" => self.settings.resolve_hostnames = on,
                    _ => self.settings.announce_hostnames = on,
                }
            }
        }
        Ok(())
    }

    fn epoch(&mut self, word: usize, value: &str) -> Result<u64, Fault> {
        let epoch = number::epoch(value);
        if epoch > EPOCH_MAX {
            return Err(Fault::new(word, "value is not an integer or out of range").help(
                "no election can follow such an epoch; stop all its sentinels and lower it",
            ));
        }
        if value.parse() != Ok(epoch) {
            let message = format!("'{value}' is no epoch: {epoch} is read, as in Redis");
            self.report(Fault::warning(word, message).help(format!("write {epoch}")));
        }
        if epoch > u64::from(u32::MAX) {
            self.report(Fault::warning(word, "No sentinel counts that many failovers").help(
                "somebody gave this epoch to the group; stop all its sentinels and lower it",
            ));
        }
        Ok(epoch)
    }

    /// Notes a finding about the statement that is being read.
    fn report(&mut self, fault: Fault) {
        self.report_at(self.index, fault);
    }

    fn report_at(&mut self, index: usize, fault: Fault) {
        let statement = &self.statements[index];
        let finding = statement.finding(fault.severity, fault.word, &fault.message);
        self.found.push((
            index,
            match fault.help {
                Some(help) => finding.help(help),
                None => finding,
            },
        ));
    }

    fn finish(mut self) -> (SentinelSettings, ConfState, Vec<Diagnostic>) {
        self.finish_access();
        let settings = self.state.groups.iter().map(|(n, g)| (n.clone(), g.settings.clone()));
        let known = |name: &str| self.state.groups.get(name).map_or(0, |g| g.sentinels.len());
        for remark in remarks(&settings.collect(), known) {
            // Redis starts with all of them.
            let severity = remark.severity.min(Severity::Warning);
            let fault = Fault { severity, ..Fault::new(2, remark.message) };
            // A group from YAML was looked at there.
            if let Some(&index) = self.monitored_at.get(&remark.group) {
                self.report_at(index, fault.help(remark.help));
            }
        }
        for group in self.state.groups.values() {
            let epochs = group.config_epoch.max(group.leader_epoch);
            self.state.current_epoch = self.state.current_epoch.max(epochs);
        }
        self.found.sort_by_key(|(index, _)| *index);
        (self.settings, self.state, self.found.into_iter().map(|(_, d)| d).collect())
    }
}

fn unknown(directive: &str) -> Fault {
    let fault = Fault::new(1, "Unrecognized sentinel configuration statement.");
    if let Some(example) = own::group_time_example(directive) {
        return fault.help(format!("Redis does not know it, so it is a comment to it: {example}"));
    }
    match closest(directive, DIRECTIVES.iter().map(|(_, name, _)| *name)) {
        Some(meant) => fault.help(format!("did you mean '{meant}'?")),
        None => fault.help("no version of Redis or Valkey Sentinel has this directive"),
    }
}

fn yes_no(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
