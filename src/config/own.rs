//! Directives of Watchfire's own in a `sentinel.conf`: lines that Redis takes for comments, so that
//! the file stays one that it can read: `# watchfire-<name> <value>`, or
//! `# watchfire-<name> <group> <value>`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Severity};
use super::rewrite::{Setting, VOTE};
use super::rules::{TIME_MS_MAX, closest};
use super::settings::{FLAP_PAUSE_MS, GroupSettings, HelloKey};
use super::state::GroupState;
use super::types::Secret;

/// Shortest hello secret, in bytes.
pub(super) const SECRET_MIN: usize = 16;

const PREFIX: &str = "watchfire-";
/// Names the journal that adds to the file. Not for operators.
pub(super) const JOURNAL: &str = "watchfire-journal";
pub(super) const SECRET_FILE: &str = "watchfire-hello-secret-file";
pub(super) const SIGNED_ONLY: &str = "watchfire-hello-signed-only";
/// All that give a group a time.
pub(super) const GROUP_TIMES: &[GroupTime] = &[
    GroupTime {
        name: "watchfire-refused-after",
        default_ms: 0,
        get: |group| group.refused_after_ms,
        set: |group, ms| group.refused_after_ms = ms,
    },
    GroupTime {
        name: "watchfire-flap-pause",
        default_ms: FLAP_PAUSE_MS,
        get: |group| group.flap_pause_ms,
        set: |group, ms| group.flap_pause_ms = ms,
    },
];

/// A directive that gives a group a time, in ms; 0 means never.
pub(super) struct GroupTime {
    pub(super) name: &'static str,
    /// What holds without it.
    pub(super) default_ms: u64,
    pub(super) get: fn(&GroupSettings) -> u64,
    set: fn(&mut GroupSettings, u64),
}

/// True for the name of a directive of ours that a sentinel writes back.
pub(super) fn is_own(name: &str) -> bool {
    [VOTE, JOURNAL, SECRET_FILE, SIGNED_ONLY].contains(&name) || is_group_time(name)
}

fn is_group_time(name: &str) -> bool {
    GROUP_TIMES.iter().any(|known| known.name == name)
}

/// The words of each line of ours in a file's text.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Vec<String>> {
    let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let ours =
        |words: &Vec<String>| matches!(&words[..], [sign, name, ..] if sign == "#" && is_own(name));
    text.lines().map(words).filter(ours)
}

/// Such a line as a rewrite has it.
pub(super) fn plain(words: Vec<String>) -> String {
    Setting::line(words).text()
}

/// The line that gives a group its time by a directive without our prefix, as an example.
pub(super) fn group_time_example(directive: &str) -> Option<String> {
    let known = GROUP_TIMES.iter().find(|time| time.name.strip_prefix(PREFIX) == Some(directive));
    known.map(|time| format!("# {} <name> <ms>", time.name))
}

/// Reads what lines of ours say of groups, the last of several for one group, and takes it over.
pub(super) fn read_groups(
    text: &str,
    groups: &mut BTreeMap<String, GroupState>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ["#", name, values @ ..] = &words[..] else { continue };
        let Some(time) = GROUP_TIMES.iter().find(|time| time.name == *name) else { continue };
        let finding = match values {
            [group, ms] => match (groups.get_mut(*group), ms.parse::<u64>()) {
                (Some(group), Ok(ms)) if ms <= TIME_MS_MAX => {
                    (time.set)(&mut group.settings, ms);
                    continue;
                }
                (None, _) => Diagnostic::new(
                    Severity::Warning,
                    format!("{name}: No such master with specified name."),
                )
                .help("the line is taken for a comment"),
                _ => Diagnostic::error(format!("{name}: '{ms}' is no time"))
                    .help("write a number of milliseconds, 0 for never"),
            },
            _ => Diagnostic::error(format!("{name} takes a group and a time"))
                .help(format!("write: # {name} <name> <ms>")),
        };
        found.push(at_line(index, finding));
    }
    found
}

/// Reads them out of a file's text; `file` gives the content of a small file, or why it cannot be
/// had.
pub(super) fn read(
    text: &str,
    file: &dyn Fn(&Path) -> Result<String, String>,
) -> (Option<HelloKey>, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let (mut secret, mut signed_only) = (None, None);
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let unspaced = words.first().and_then(|word| word.strip_prefix('#'));
        if unspaced.is_some_and(|name| name.starts_with("watchfire-hello") || is_group_time(name)) {
            // A switch that is not thrown must not look as if it were.
            let finding = Diagnostic::new(Severity::Warning, "This line is taken for a comment");
            found.push(at_line(index, finding.help("a blank belongs between '#' and the name")));
        }
        let ["#", name, values @ ..] = &words[..] else { continue };
        let is_elsewhere = [VOTE, JOURNAL].contains(name) || is_group_time(name);
        if !name.starts_with(PREFIX) || is_elsewhere {
            continue;
        }
        let at = |finding: Diagnostic| at_line(index, finding);
        match (*name, values) {
            (SECRET_FILE, [path]) => match file(Path::new(path)).and_then(good_secret) {
                Ok(text) => secret = Some((text, PathBuf::from(path))),
                Err(why) => found
                    .push(at(Diagnostic::error(format!("{SECRET_FILE} {path}: {why}"))
                        .help("name a file that this user can read, with at least 16 characters"))),
            },
            (SIGNED_ONLY, [value @ ("yes" | "no")]) => {
                signed_only = Some((*value == "yes", index));
            }
            (SECRET_FILE, _) => {
                found.push(at(Diagnostic::error(format!("{SECRET_FILE} takes the path of a file"))))
            }
            (SIGNED_ONLY, _) => {
                found.push(at(Diagnostic::error(format!("{SIGNED_ONLY} is 'yes' or 'no'"))));
            }
            _ => {
                let of_groups = GROUP_TIMES.iter().map(|time| time.name);
                let meant = closest(name, of_groups.chain([SECRET_FILE, SIGNED_ONLY]));
                let help = meant.map_or("it is taken for a comment".to_owned(), |meant| {
                    format!("did you mean '{meant}'?")
                });
                let message = format!("Watchfire has no directive '{name}'");
                found.push(at(Diagnostic::new(Severity::Warning, message).help(help)));
            }
        }
    }
    let wanted = signed_only.filter(|(yes, _)| *yes);
    if let (Some((_, index)), None, true) = (wanted, &secret, found.is_empty()) {
        let finding = Diagnostic::error(format!("{SIGNED_ONLY} needs a secret"))
            .help(format!("add a line: # {SECRET_FILE} <path>"));
        found.push(at_line(index, finding));
    }
    let key = |(secret, file)| HelloKey { secret, file, signed_only: wanted.is_some() };
    (secret.map(key), found)
}

/// The id of the journal that adds to the file with this text.
pub(super) fn journal(text: &str) -> Option<&str> {
    text.lines().rev().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        match [words.next()?, words.next()?, words.next()?] {
            ["#", JOURNAL, id] => Some(id),
            _ => None,
        }
    })
}

fn at_line(index: usize, finding: Diagnostic) -> Diagnostic {
    Diagnostic { line: index + 1, ..finding }
}

/// The secret in a file's content, its last line end aside.
pub(super) fn good_secret(content: String) -> Result<Secret, String> {
    let text = content.trim_end_matches(['\n', '\r']);
    match text.len() {
        ..SECRET_MIN => Err(format!("the secret has fewer than {SECRET_MIN} characters")),
        _ => Ok(Secret::new(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (Option<HelloKey>, Vec<String>) {
        let file = |path: &Path| match path.to_str() {
            Some("good") => Ok("0123456789abcdef\n".to_owned()),
            Some("short") => Ok("0123\n".to_owned()),
            _ => Err("No such file or directory".to_owned()),
        };
        let (key, found) = read(text, &file);
        let told = |finding: &Diagnostic| {
            format!("{} {}: {}", finding.severity, finding.line, finding.message)
        };
        (key, found.iter().map(told).collect())
    }

    #[test]
    fn a_secret_is_read_from_its_file() {
        let (key, told) = found("port 1\n# watchfire-hello-secret-file good\n");
        let secret = Secret::new("0123456789abcdef");
        assert_eq!(
            key,
            Some(HelloKey { secret: secret.clone(), file: "good".into(), signed_only: false })
        );
        assert!(told.is_empty(), "{told:?}");
        let both = "# watchfire-hello-signed-only yes\n# watchfire-hello-secret-file good\n";
        assert_eq!(
            found(both).0,
            Some(HelloKey { secret, file: "good".into(), signed_only: true })
        );
        for text in ["# a comment\n# watchfire is good\n#watchfire-x\n", "# watchfire-vote g 1 x\n"]
        {
            assert_eq!(found(text), (None, vec![]));
        }
    }

    #[test]
    fn a_groups_time_is_read_from_its_last_line_and_what_is_wrong_is_named() {
        let settings = GroupSettings::new(crate::config::types::Address::new("::1", 1), 2);
        let group = GroupState::fresh(settings, None);
        let read = |text: &str| {
            let mut groups = BTreeMap::from([("m".to_owned(), group.clone())]);
            let found = read_groups(text, &mut groups);
            let told = found.iter().map(|f| format!("{} {}: {}", f.severity, f.line, f.message));
            (groups["m"].settings.refused_after_ms, told.collect::<Vec<_>>())
        };
        let twice = "# watchfire-refused-after m 100\n# watchfire-refused-after m 200\n";
        assert_eq!(read(twice), (200, vec![]));
        for (line, expected) in [
            ("x 200", "warning 1: watchfire-refused-after: No such master with specified name."),
            ("m 2s", "error 1: watchfire-refused-after: '2s' is no time"),
            ("m -1", "error 1: watchfire-refused-after: '-1' is no time"),
            ("m", "error 1: watchfire-refused-after takes a group and a time"),
        ] {
            let line = format!("# watchfire-refused-after {line}");
            assert_eq!(read(&line), (0, vec![expected.to_owned()]), "{line}");
            assert_eq!(found(&line), (None, vec![]), "told once");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            (
                "\n# watchfire-hello-secret-file gone\n",
                "error 2: watchfire-hello-secret-file gone: No such file or directory",
            ),
            (
                "# watchfire-hello-secret-file short",
                "error 1: watchfire-hello-secret-file short: the secret has fewer than 16 \
                 characters",
            ),
            (
                "# watchfire-hello-secret-file",
                "error 1: watchfire-hello-secret-file takes the path of a file",
            ),
            (
                "# watchfire-hello-signed-only perhaps",
                "error 1: watchfire-hello-signed-only is 'yes' or 'no'",
            ),
            (
                "# watchfire-hello-signed-only yes",
                "error 1: watchfire-hello-signed-only needs a secret",
            ),
            ("#watchfire-hello-signed-only yes", "warning 1: This line is taken for a comment"),
            ("#watchfire-refused-after m 1", "warning 1: This line is taken for a comment"),
            (
                "# watchfire-hello-secretfile good",
                "warning 1: Watchfire has no directive 'watchfire-hello-secretfile'",
            ),
        ] {
            assert_eq!(found(text), (None, vec![expected.to_owned()]));
        }
    }
}
