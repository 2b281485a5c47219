//! Directives of Watchfire's own in a `sentinel.conf`: lines that Redis takes for comments, so that
//! the file stays one that it can read: `# watchfire-<name> <value>`.

use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Severity};
use super::rewrite::VOTE;
use super::rules::closest;
use super::settings::HelloKey;
use super::types::Secret;

/// Shortest hello secret, in bytes.
pub(super) const SECRET_MIN: usize = 16;

const PREFIX: &str = "watchfire-";
/// Names the journal that adds to the file. Not for operators.
pub(super) const JOURNAL: &str = "watchfire-journal";
pub(super) const SECRET_FILE: &str = "watchfire-hello-secret-file";
pub(super) const SIGNED_ONLY: &str = "watchfire-hello-signed-only";

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
        if words.first().is_some_and(|word| word.starts_with("#watchfire-hello")) {
            // A switch that is not thrown must not look as if it were.
            let finding = Diagnostic::new(Severity::Warning, "This line is taken for a comment");
            found.push(at_line(index, finding.help("a blank belongs between '#' and the name")));
        }
        let ["#", name, values @ ..] = &words[..] else { continue };
        if !name.starts_with(PREFIX) || [VOTE, JOURNAL].contains(name) {
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
                let meant = closest(name, [SECRET_FILE, SIGNED_ONLY]);
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
            (
                "# watchfire-hello-secretfile good",
                "warning 1: Watchfire has no directive 'watchfire-hello-secretfile'",
            ),
        ] {
            assert_eq!(found(text), (None, vec![expected.to_owned()]));
        }
    }
}
