//! Holds the walls that one crate has no compiler for: which room may name which, what is absent
//! from the pure rooms, and the shape of files. A failure names the file, the line and the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Longest line of a Rust file, in characters.
const COLUMNS_MAX: usize = 100;
/// Longest Rust file, in lines, without its tests.
const LINES_MAX: usize = 700;

/// Which rooms a room may name; a room that is missing here may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    (
        "cli",
        &["demo", "bench", "api", "sim", "daemon", "server", "net", "sentinel", "config", "resp"],
    ),
    ("demo", &[]),
    ("bench", &["demo", "resp"]),
    ("api", &["acl", "daemon", "net", "sentinel", "config", "resp", "wall_clock"]),
    ("sim", &["sentinel", "config", "resp"]),
    ("daemon", &["net", "sentinel", "config", "resp", "wall_clock"]),
    ("server", &["net", "config", "resp", "wall_clock"]),
    ("net", &["config", "resp"]),
    ("sentinel", &["config", "resp"]),
    ("config", &[]),
    ("acl", &["resp"]),
    ("resp", &[]),
    ("wall_clock", &[]),
];

/// Rooms without time, sockets, files, chance or logs of their own.
const PURE: &[&str] = &["sentinel", "resp", "config", "acl"];

/// What no pure room may name outside its tests: a word or path, and what stands in its stead.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "the daemon does the waiting"),
    ("async", "the daemon does the waiting"),
    ("await", "the daemon does the waiting"),
    ("std::net::TcpStream", "links belong to the daemon"),
    ("TcpListener", "links belong to the daemon"),
    ("UdpSocket", "links belong to the daemon"),
    ("UnixStream", "links belong to the daemon"),
    ("std::fs", "only config/load.rs reads files, only the daemon's store writes them"),
    ("std::time::Instant", "time comes in with every call"),
    ("std::thread", "a pure room runs in its caller's task"),
    ("std::env", "what matters comes in as settings"),
    ("SystemTime", "time comes in with every call"),
    ("HashMap", "its order is random: use BTreeMap"),
    ("HashSet", "its order is random: use BTreeSet"),
    ("rand", "chance comes from the seed"),
    ("tracing", "the core announces, the daemon logs"),
    ("println!", "the core announces, the daemon logs"),
    ("eprintln!", "the core announces, the daemon logs"),
];

/// The one file of a pure room that may read files and environment variables.
const READS: &str = "src/config/load.rs";

/// Folders that tools fill.
const FILLED: &[&str] =
    &[".venv", "node_modules", "target", "__pycache__", "corpus", "artifacts", "coverage"];

/// Words that no Rust file may hold, tests included.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];

#[test]
fn the_walls_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz", "config", "docs", ".ci"] {
        collect(&root.join(folder), &mut files);
    }
    for entry in std::fs::read_dir(root).expect("the crate's folder can be read").flatten() {
        if entry.path().is_file() && entry.file_name() != ".git" {
            files.push(entry.path());
        }
    }
    let sources: BTreeMap<String, String> = files
        .iter()
        .filter_map(|path| Some((path, std::fs::read_to_string(path).ok()?)))
        .map(|(path, text)| {
            let name = path.strip_prefix(root).expect("found under the root");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect();
    assert!(sources.contains_key("src/lib.rs"), "the walk found no sources");
    let faults = check(&sources);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// All files below `folder`, but none of the folders that tools fill.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !FILLED.iter().any(|filled| name == *filled) {
                collect(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}

/// Every fault in `sources` (path from the root, text), as `file:line: rule`.
fn check(sources: &BTreeMap<String, String>) -> Vec<String> {
    let test_files = files_that_are_tests(sources);
    let mut faults = Vec::new();
    for (name, text) in sources {
        machine_paths(name, text, &mut faults);
        if !name.ends_with(".rs") {
            continue;
        }
        let code = code_only(text);
        shape(name, text, test_files.contains(name), &mut faults);
        unfinished(name, &code, &mut faults);
        if let Some(room) = room_of(name) {
            let tested = if test_files.contains(name) { 0 } else { lines_before_tests(&code) };
            arrows(name, room, &code, &mut faults);
            if PURE.contains(&room) {
                purity(name, &code, tested, &mut faults);
            }
        }
    }
    faults
}

/// `src/daemon/store.rs` and `src/daemon.rs` are both in the room `daemon`.
fn room_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("src/")?;
    Some(rest.split('/').next()?.trim_end_matches(".rs"))
}

fn machine_paths(name: &str, text: &str, faults: &mut Vec<String>) {
    // Put together here, so that this file does not name them.
    let paths = ["home", "work", "root"].map(|folder| format!("/{folder}/"));
    for (at, line) in text.lines().enumerate() {
        if let Some(path) = paths.iter().find(|path| line.contains(path.as_str())) {
            faults.push(format!("{name}:{}: path of one machine: {path}", at + 1));
        }
    }
}

fn shape(name: &str, text: &str, is_test: bool, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{name}:1: a Rust file starts with //! and says what it is for"));
    }
    for (at, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            faults.push(format!("{name}:{}: {columns} columns, {COLUMNS_MAX} at most", at + 1));
        }
    }
    let lines = lines_before_tests(&code_only(text));
    if !is_test && lines > LINES_MAX {
        faults.push(format!("{name}:{lines}: {lines} lines without tests, {LINES_MAX} at most"));
    }
}

fn unfinished(name: &str, code: &str, faults: &mut Vec<String>) {
    for (at, line) in code.lines().enumerate() {
        if let Some(word) = UNFINISHED.iter().find(|word| names(line, word)) {
            faults.push(format!("{name}:{}: unfinished work: {word}", at + 1));
        }
    }
}

fn arrows(name: &str, room: &str, code: &str, faults: &mut Vec<String>) {
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == room) else {
        faults.push(format!("{name}:1: room '{room}' is not in the plan (tests/tidy.rs, ARROWS)"));
        return;
    };
    for (line, named) in rooms_named(code) {
        if named != room && !allowed.contains(&named.as_str()) {
            faults.push(format!("{name}:{line}: {room}/ may not name {named}/: arrows point down"));
        }
    }
}

fn purity(name: &str, code: &str, until: usize, faults: &mut Vec<String>) {
    for (at, line) in code.lines().take(until).enumerate() {
        for (word, instead) in IMPURE {
            let reads = name == READS && ["std::fs", "std::env"].contains(word);
            if names(line, word) && !reads {
                faults.push(format!("{name}:{}: pure room names {word}: {instead}", at + 1));
            }
        }
        let time = line.contains("std::time::{") && names(line, "Instant");
        if time {
            faults.push(format!("{name}:{}: pure room names std::time::Instant", at + 1));
        }
    }
}

/// Whether `line` holds `word` as a whole word or path.
fn names(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let starts = !word.starts_with(part) || !before.is_some_and(part);
        starts && (!word.ends_with(part) || !after.is_some_and(part))
    })
}

/// The rooms named as `crate::room`, `watchfire::room` or `crate::{room, ...}`, with their lines.
fn rooms_named(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for prefix in ["crate::", "watchfire::"] {
        for (at, _) in code.match_indices(prefix) {
            // `$crate::` is the same crate; `mycrate::` would be another one.
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + prefix.len()..];
            for word in first_words(rest) {
                found.push((line, word));
            }
        }
    }
    // Macros and types of the crate's root are not rooms.
    found.retain(|(_, word)| ARROWS.iter().any(|(room, _)| room == word));
    found
}

/// The first word of each branch of a use tree: `a::b` gives a; `{a::{b}, c}` gives a and c.
fn first_words(tree: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(inner) = tree.strip_prefix('{') else { return vec![word(tree)] };
    let mut words = vec![word(inner)];
    let mut depth = 0;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => words.push(word(&inner[at + 1..])),
            _ => {}
        }
    }
    words
}

/// Files that are tests as a whole: those under tests/, and modules declared under `#[cfg(test)]`.
fn files_that_are_tests(sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, text) in sources.iter().filter(|(name, _)| name.ends_with(".rs")) {
        if !name.starts_with("src/") {
            found.insert(name.clone());
            continue;
        }
        let stem = name.trim_end_matches(".rs").trim_end_matches("/mod").to_owned();
        let code = code_only(text);
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let Some(module) = pair[1].split("mod ").nth(1).and_then(|m| m.strip_suffix(';'))
            else {
                continue;
            };
            let own = format!("{stem}/{module}");
            found.insert(format!("{own}.rs"));
            found.extend(sources.keys().filter(|k| k.starts_with(&format!("{own}/"))).cloned());
        }
    }
    found
}

/// How many lines come before the tests at the file's end.
fn lines_before_tests(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let is_start = |pair: &&[&str]| {
        pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].trim_end().ends_with('{')
    };
    lines.windows(2).take_while(|pair| !is_start(pair)).count()
        + usize::from(!lines.windows(2).any(|pair| is_start(&pair)))
}

/// `text` with the content of comments and of string and character literals blanked; lines stay.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// If a comment or literal starts at `at`: where it ends.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let find = |from: usize, what: &[char]| {
        (from..rest.len())
            .find(|i| rest[*i..].starts_with(what))
            .map_or(rest.len(), |i| i + what.len())
    };
    let part_of_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let length = match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => find(2, &['*', '/']),
        ['r', '"' | '#', ..] if !part_of_word || chars[at - 1] == 'b' => {
            let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
            if rest.get(1 + hashes) != Some(&'"') {
                return None; // a raw identifier
            }
            let mut close = vec!['"'];
            close.resize(1 + hashes, '#');
            find(2 + hashes, &close)
        }
        ['"', ..] => escaped_end(rest, '"'),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => escaped_end(rest, '\''),
        _ => return None,
    };
    Some(at + length)
}

fn escaped_end(rest: &[char], close: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != close {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The faults of one made-up file.
fn faults_of(name: &str, text: &str) -> Vec<String> {
    check(&BTreeMap::from([(name.to_owned(), text.to_owned())]))
}

#[test]
fn each_rule_can_fail() {
    let long = format!("//! x\n// {}\n", "x".repeat(COLUMNS_MAX));
    let big = format!("//! x\n{}", "fn f() {}\n".repeat(LINES_MAX));
    let path = format!("//! x\nconst P: &str = \"/{}/me\";\n", "home");
    for (name, text, line, rule) in [
        ("src/net/a.rs", "fn f() {}\n", 1, "starts with //!"),
        ("src/net/a.rs", &long, 2, "columns"),
        ("src/net/a.rs", &big, LINES_MAX + 1, "lines without tests"),
        ("src/net/a.rs", &path, 2, "path of one machine"),
        ("README.md", &path, 2, "path of one machine"),
        ("src/net/a.rs", "//! x\nfn f() { todo!() }\n", 2, "todo!"),
        ("src/net/a.rs", "//! x\nfn f() { unimplemented!() }\n", 2, "unimplemented!"),
        ("src/net/a.rs", "//! x\nfn f() { dbg!(1); }\n", 2, "dbg!"),
        ("tests/a.rs", "//! x\n\n#[ignore]\n#[test] fn f() {}\n", 3, "#[ignore"),
        ("tests/a.rs", "//! x\n#[ignore = \"slow\"]\n", 2, "#[ignore"),
        ("src/attic/mod.rs", "//! x\n", 1, "not in the plan"),
        ("src/server/a.rs", "//! x\nuse crate::sentinel::View;\n", 2, "may not name sentinel/"),
        ("src/server/a.rs", "//! x\nuse crate::{net, daemon::Store};\n", 2, "may not name daemon/"),
        ("src/server/a.rs", "//! x\nuse crate::{\n    net::{a, b},\n    api,\n};\n", 2, "api/"),
        ("src/sentinel/a.rs", "//! x\nuse crate::daemon::Store;\n", 2, "may not name daemon/"),
        ("src/resp/a.rs", "//! x\ntype C = crate::config::Settings;\n", 2, "may not name config/"),
        ("src/main.rs", "//! x\nfn main() { watchfire::demo::run() }\n", 2, "may not name demo/"),
        ("src/sentinel/a.rs", "//! x\nuse tokio::time;\n", 2, "names tokio"),
        ("src/sentinel/a.rs", "//! x\nasync fn f() {}\n", 2, "names async"),
        ("src/resp/a.rs", "//! x\nuse std::net::TcpStream;\n", 2, "TcpStream"),
        ("src/config/a.rs", "//! x\nuse std::fs;\n", 2, "names std::fs"),
        ("src/sentinel/a.rs", "//! x\nuse std::time::Instant;\n", 2, "std::time::Instant"),
        ("src/sentinel/a.rs", "//! x\nuse std::time::{Duration, Instant};\n", 2, "Instant"),
        ("src/sentinel/a.rs", "//! x\ntype T = std::time::SystemTime;\n", 2, "SystemTime"),
        ("src/sentinel/a.rs", "//! x\nuse std::collections::HashMap;\n", 2, "BTreeMap"),
        ("src/sentinel/a.rs", "//! x\ntype S = hashbrown::HashSet<u8>;\n", 2, "BTreeSet"),
        ("src/sentinel/a.rs", "//! x\nfn f() -> u8 { rand::random() }\n", 2, "names rand"),
        ("src/sentinel/a.rs", "//! x\nfn f() { tracing::info!(\"x\") }\n", 2, "names tracing"),
        ("src/resp/a.rs", "//! x\nfn f() { println!() }\n", 2, "println!"),
    ] {
        let faults = faults_of(name, text);
        let found =
            faults.iter().any(|f| f.starts_with(&format!("{name}:{line}: ")) && f.contains(rule));
        assert!(found, "{text:?} in {name} must break '{rule}', but: {faults:?}");
    }
}

#[test]
fn what_is_allowed_passes() {
    let tests =
        "//! x\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}\n";
    let long_tests =
        format!("//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(800));
    for (name, text) in [
        ("src/sentinel/a.rs", tests),
        ("src/net/a.rs", &long_tests),
        ("src/config/load.rs", "//! x\nuse std::fs;\n"),
        (
            "src/sentinel/a.rs",
            "//! No tokio here.\n// rand::random()\nconst S: &str = \"async\";\n",
        ),
        ("src/sentinel/a.rs", "//! x\nfn operand() { let random = r#\"a \"tokio\" b\"#; }\n"),
        ("src/sentinel/a.rs", "//! x\nuse crate::config::types::RunId;\nuse super::Instant;\n"),
        (
            "src/resp/a.rs",
            "//! x\nfn f<'a>(x: &'a [u8]) -> char { '\"' }\nconst T: &str = \"tokio\";\n",
        ),
        ("src/daemon/a.rs", "//! x\nuse crate::{sentinel::{Sentinel, View}, net};\n"),
        ("src/cli/a.rs", "//! x\nuse crate::demo;\nuse std::time::Instant;\n"),
    ] {
        assert_eq!(faults_of(name, text), Vec::<String>::new(), "{text:?} in {name}");
    }
    let whole = BTreeMap::from([
        ("src/resp/mod.rs".to_owned(), "//! x\n#[cfg(test)]\nmod tests;\n".to_owned()),
        ("src/resp/tests.rs".to_owned(), "//! x\nuse std::fs;\n".to_owned()),
    ]);
    assert_eq!(check(&whole), Vec::<String>::new());
}
