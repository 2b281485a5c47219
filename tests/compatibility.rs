//! docs/compatibility.md is complete and honest: whatever a running sentinel offers, and each
//! event, directive, field and flag of the sources, has a row; each row tells its status and names
//! tests that exist.

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use support::node::{Node, Nodes};
use support::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use watchfire::sentinel::EventKind;

/// What a status may begin with.
const STATUSES: &[&str] =
    &["as Redis", "as Valkey", "differs:", "ours:", "ignored:", "not offered:"];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// One row of a table: what, status, tests.
struct Row {
    line: usize,
    section: String,
    cells: Vec<String>,
}

/// The document: its rows of facts, and where its tests are (short name, file).
struct Document {
    rows: Vec<Row>,
    files: BTreeMap<String, String>,
}

impl Document {
    fn read() -> Document {
        let text = read("docs/compatibility.md");
        let (mut rows, mut files) = (Vec::new(), BTreeMap::new());
        let mut section = String::new();
        let mut in_body = false;
        for (at, line) in text.lines().enumerate() {
            if let Some(title) = line.strip_prefix("## ") {
                section = title.to_owned();
            }
            if !line.starts_with('|') {
                in_body = false;
            } else if line.starts_with("|--") {
                in_body = true;
            } else if in_body {
                let cells = line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned());
                let cells: Vec<String> = cells.collect();
                assert_eq!(cells.len(), 3, "docs/compatibility.md:{}: three cells", at + 1);
                if section == "Where the tests are" {
                    let file = names(&cells[1]).pop().expect("a file");
                    for short in names(&cells[0]) {
                        files.insert(short, file.clone());
                    }
                } else {
                    rows.push(Row { line: at + 1, section: section.clone(), cells });
                }
            }
        }
        Document { rows, files }
    }

    /// Everything in backticks in the first cells of the sections whose titles begin so.
    fn known(&self, sections: &[&str]) -> BTreeSet<String> {
        let rows =
            self.rows.iter().filter(|row| sections.iter().any(|s| row.section.starts_with(s)));
        rows.flat_map(|row| names(&row.cells[0])).collect()
    }

    #[track_caller]
    fn has_all<T: AsRef<str>>(&self, sections: &[&str], what: &str, all: &[T]) {
        assert!(!all.is_empty(), "no {what} was found: the sources look otherwise than they did");
        let known = self.known(sections);
        let missing: Vec<&str> =
            all.iter().map(AsRef::as_ref).filter(|name| !known.contains(*name)).collect();
        assert!(missing.is_empty(), "{what} without a row under {sections:?}: {missing:#?}");
    }
}

/// What stands in backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Each text that stands in `source` between `before` and the next quote.
fn quoted(source: &str, before: &str) -> Vec<String> {
    let parts = source.split(before).skip(1);
    parts.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn everything_that_a_sentinel_offers_has_a_row() {
    let document = Document::read();
    let node = Node::start(Nodes::Bundled, &[]);
    let sentinel = Sentinel::start(Program::Watchfire, Syntax::Conf, &Watch::of(node.port));

    let commands = sentinel.call(&["COMMAND", "LIST"]);
    let commands: Vec<String> =
        commands.items().iter().map(|name| name.text().to_uppercase().replace('|', " ")).collect();
    assert!(commands.len() > 60, "{commands:?}");
    document.has_all(&["SENTINEL", "Other commands"], "commands", &commands);

    let names = |words: &[&str]| -> Vec<String> {
        sentinel.call(words).pairs().into_iter().map(|(name, _)| name).collect()
    };
    document.has_all(&["Fields of SENTINEL"], "fields", &names(&["SENTINEL", "MASTER", GROUP]));
    let parameters = names(&["SENTINEL", "CONFIG", "GET", "*"]);
    document.has_all(&["SENTINEL"], "parameters of CONFIG", &parameters);
    document.has_all(&["SENTINEL"], "parameters of DEBUG", &names(&["SENTINEL", "DEBUG"]));
    document.has_all(&["Other commands"], "fields of HELLO", &names(&["HELLO"]));

    let info = sentinel.call(&["INFO", "everything"]).text();
    let fields = info.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned()));
    document.has_all(&["INFO"], "fields of INFO", &fields.collect::<Vec<_>>());
    let line = sentinel.call(&["CLIENT", "INFO"]).text();
    let fields = line.split_whitespace().filter_map(|field| Some(field.split_once('=')?.0));
    document.has_all(&["CLIENT LIST"], "fields of CLIENT LIST", &fields.collect::<Vec<_>>());
}

#[test]
fn everything_in_the_sources_has_a_row() {
    let document = Document::read();
    let events: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
    document.has_all(&["Events"], "events", &events);

    let entries = read("src/sentinel/entries.rs");
    document.has_all(&["Fields of SENTINEL"], "fields", &quoted(&entries, "entry.put(\""));
    document.has_all(&["Flags"], "flags", &quoted(&entries, "flags.push(\""));
    let failover = read("src/sentinel/failover.rs");
    let states =
        failover.split("fn state_name").nth(1).and_then(|rest| rest.split("\n    }").next());
    let states = quoted(states.expect("the function of that name"), "=> \"");
    document.has_all(&["Flags"], "states of a failover", &states);

    let source = read("src/config/sentinel_conf/mod.rs");
    let phases = ["Process", "Monitor", "Group"].map(|phase| format!("Phase::{phase}, \""));
    let directives: Vec<String> = phases.iter().flat_map(|phase| quoted(&source, phase)).collect();
    assert!(directives.len() > 20, "{directives:?}");
    document.has_all(&["`sentinel` directives"], "directives", &directives);

    let source = read("src/config/sentinel_conf/general.rs");
    let acted_on = source.split("ACTED_ON: &[&str] = &[").nth(1);
    let acted_on = acted_on.and_then(|rest| rest.split("];").next()).expect("the table");
    let acted_on: Vec<&str> = acted_on.split('"').skip(1).step_by(2).collect();
    document.has_all(&["General directives"], "directives", &acted_on);
}

#[test]
fn every_status_is_one_of_those_that_are_explained() {
    for Row { line, cells, .. } in Document::read().rows {
        let status = STATUSES.iter().find(|status| cells[1].starts_with(**status));
        assert!(status.is_some(), "docs/compatibility.md:{line}: no status: {}", cells[1]);
        let reason = cells[1].split_once(": ").map_or(cells[1].len(), |(_, reason)| reason.len());
        assert!(reason > 5, "docs/compatibility.md:{line}: a reason is missing");
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let Document { rows, files } = Document::read();
    let sources: BTreeMap<&String, String> =
        files.iter().map(|(short, file)| (short, read(file))).collect();
    let mut named = BTreeSet::new();
    for Row { line, cells, .. } in &rows {
        let at = format!("docs/compatibility.md:{line}");
        let tests = names(&cells[2]);
        assert!(
            !tests.is_empty() || cells[1].starts_with("not offered:"),
            "{at}: no test shows this"
        );
        for test in tests {
            let (short, function) = test.split_once("::").unwrap_or_else(|| panic!("{at}: {test}"));
            let source = sources.get(&short.to_owned());
            let source = source.unwrap_or_else(|| panic!("{at}: no file is called {short}"));
            assert!(is_test(source, function), "{at}: there is no test {test}");
            named.insert(short.to_owned());
        }
    }
    // Between the tables, too.
    let text = read("docs/compatibility.md");
    for test in names(&text).into_iter().filter(|name| !name.contains(' ')) {
        let Some((short, function)) = test.split_once("::") else { continue };
        let source = sources.get(&short.to_owned());
        assert!(source.is_some_and(|source| is_test(source, function)), "there is no test {test}");
    }
    let unused: Vec<&String> = files.keys().filter(|short| !named.contains(*short)).collect();
    assert!(unused.is_empty(), "no row names a test of {unused:?}");
}

/// Whether a source has this test: a function with the attribute, or one of which
/// `over_both_nodes!` makes tests.
fn is_test(source: &str, function: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {function}(")) else { return false };
    let has_attribute = before.lines().rev().take(4).any(|line| line.trim().ends_with("test]"));
    let made = source.split("over_both_nodes!").skip(1).filter_map(|rest| rest.split(';').next());
    let mut made = made.flat_map(|names| names.split(|c: char| !c.is_alphanumeric() && c != '_'));
    has_attribute || made.any(|name| name == function)
}

#[test]
fn what_is_no_test_is_seen() {
    let source =
        "#[test]\nfn a() {}\n\n\n\n\n\n\nfn b() {}\nover_both_nodes!(c);\nfn c(n: Nodes) {}";
    assert!(is_test(source, "a") && is_test(source, "c"));
    assert!(!is_test(source, "b") && !is_test(source, "d"));
}
