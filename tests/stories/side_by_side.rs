//! One long script of commands, said to Debian's redis-sentinel and to ours over one master with
//! two replicas, in RESP2 and in RESP3: types, names, order and values of the replies are the same,
//! except where [`MEANT`] says that they differ, and why. A difference that is gone, or is another
//! one, fails the story as well.

mod script;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use script::{MEANT, SCRIPT, TYPED};

use crate::support::client::{Client, Reply};
use crate::support::group::{Group, Plan};
use crate::support::node::Nodes;
use crate::support::sentinel::Program::{Redis, Watchfire};
use crate::support::sentinel::{GROUP, Sentinel};
use crate::support::wait::wait_until;

/// Fields of entries whose values are ages, or depend on when a PING or INFO came last.
const AGES: &[&str] = &[
    "link-pending-commands",
    "last-ping-sent",
    "last-ok-ping-reply",
    "last-ping-reply",
    "s-down-time",
    "o-down-time",
    "info-refresh",
    "role-reported-time",
    "slave-repl-offset",
    "last-hello-message",
];

/// Times that are ours, with their reasons in docs/sentinel-commands.md.
const OUR_TIMES: &[&str] = &["TILT-PERIOD", "MIN-LINK-RECONNECT-PERIOD", "ELECTION-TIMEOUT"];

/// Fields of INFO and CLIENT INFO that tell of the program, of its connections or of the moment;
/// numbers are not compared in INFO's sections but the last.
const TEXTS_DIFFER: &[&str] = &[
    "redis_version",
    "redis_git_sha1",
    "redis_build_id",
    "monotonic_clock",
    "atomicvar_api",
    "gcc_version",
    "run_id",
    "executable",
    "config_file",
    "addr",
    "laddr",
    "events",
];

/// Fields of INFO that only ours has.
const OUR_FIELDS: &[&str] = &["server_mode", "server_name", "watchfire_version"];

/// Fields of CLIENT INFO and INFO since Redis 7.2.
const FIELDS_OF_7_2: &[&str] = &[
    "lib-name",
    "lib-ver",
    "acl_access_denied_auth",
    "acl_access_denied_cmd",
    "acl_access_denied_key",
    "acl_access_denied_channel",
];

/// One of the two, and how what is its own is called in what is compared.
struct Side<'a> {
    sentinel: &'a Sentinel,
    own: Vec<(String, &'static str)>,
    ports: [u16; 2],
}

impl Side<'_> {
    /// A connection in RESP2 or RESP3.
    fn connect(&self, resp3: bool) -> Client {
        let mut client = self.sentinel.client();
        if resp3 {
            client.call(&["HELLO", "3"]).expect("it speaks RESP3");
        }
        client
    }

    /// The words of a line of the script.
    fn words(&self, line: &str) -> Vec<String> {
        let [master, replica] = self.ports.map(|port| port.to_string());
        let word = |word: &str| match word {
            "''" => String::new(),
            "$MASTER" => master.clone(),
            "$REPLICA" => replica.clone(),
            "$OWN" => self.sentinel.port.to_string(),
            other => other.replace("\\t", "\t"),
        };
        line.split_whitespace().map(word).collect()
    }

    /// Asks, and shows the reply with what is this sentinel's own replaced.
    fn ask(&self, client: &mut Client, line: &str) -> String {
        if let Some(name) = line.strip_prefix("= ") {
            let entry = client.call(&["SENTINEL", "MASTER", GROUP]).expect("it answers");
            let info = client.call(&["INFO", "sentinel"]).expect("it answers").text();
            let in_info = || info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            let value = entry.field(name).or_else(|| in_info().map(str::to_owned));
            return value.unwrap_or_else(|| panic!("{name} is no field"));
        }
        let words = self.words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let reply = client.call(&words).unwrap_or_else(|e| panic!("{line}: {e}"));
        shown(line, &reply, &|text| self.masked(text))
    }

    /// The text with what is this sentinel's own replaced.
    fn masked(&self, text: String) -> String {
        self.own.iter().fold(text, |text, (own, name)| text.replace(own, name))
    }
}

/// A reply as text: type, names, order and values, without what differs by nature, `masked`.
fn shown(line: &str, reply: &Reply, masked: &dyn Fn(String) -> String) -> String {
    let line = line.to_ascii_lowercase();
    let is = |start: &str| line.starts_with(start);
    let text = match reply {
        Reply::Bulk(text) if is("info") => fields(text.lines(), ':', line != "info sentinel"),
        Reply::Bulk(text) | Reply::Verbatim(text) if is("client info") => {
            let kind = if matches!(reply, Reply::Bulk(_)) { "bulk" } else { "verbatim" };
            format!("{kind} {}", fields(text.trim_end().split(' '), '=', true))
        }
        Reply::Integer(_) if is("client id") => ":<id>".into(),
        Reply::Array(pairs) if is("hello") && pairs.len() > 3 => named(reply, &["version", "id"]),
        Reply::Map(_) if is("hello") => named(reply, &["version", "id"]),
        Reply::Array(_) | Reply::Map(_) if line == "sentinel debug" => named(reply, OUR_TIMES),
        Reply::Array(_) | Reply::Map(_) if is("sentinel config get") => named(reply, &[]),
        Reply::Array(_) | Reply::Map(_) if is("sentinel master ") => named(reply, AGES),
        Reply::Array(cached) if is("sentinel info-cache") => {
            let entry = |entry: &Reply| match entry.items() {
                [Reply::Integer(_), Reply::Bulk(info)] => {
                    format!("[<age>, {:?} ...]", info.lines().next())
                }
                _ => entry.to_string(),
            };
            let part = |part: &Reply| match part {
                Reply::Array(entries) => entries.iter().map(entry).collect::<Vec<_>>().join(" "),
                name => name.to_string(),
            };
            format!("[{}]", cached.iter().map(part).collect::<Vec<_>>().join(", "))
        }
        // The order of names and entries is not part of the contract.
        Reply::Array(names) if is("command list") => {
            let mut names: Vec<String> = names.iter().map(Reply::to_string).collect();
            names.sort();
            format!("{names:?}")
        }
        Reply::Array(entries) if is("sentinel ") && !entries.is_empty() && !is("sentinel is-") => {
            let mut entries: Vec<String> = entries.iter().map(|e| masked(named(e, AGES))).collect();
            if ["replicas", "slaves", "sentinels"].iter().any(|w| line.contains(w)) {
                entries.sort();
            }
            format!("[{}]", entries.join("\n"))
        }
        other => format!("{other}"),
    };
    masked(text)
}

/// A map, or the flat array of its pairs, with the values of some fields left out. What is no entry
/// is shown as it is.
fn named(reply: &Reply, without: &[&str]) -> String {
    if let Reply::Bulk(_) | Reply::Simple(_) = reply {
        return reply.to_string();
    }
    let pairs: Vec<(&Reply, &Reply)> = match reply {
        Reply::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        other => other.items().chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
    };
    let pair = |(name, value): (&Reply, &Reply)| {
        let (name, kind) = (name.text(), if let Reply::Bulk(_) = value { "bulk" } else { "other" });
        match without.contains(&name.as_str()) {
            true => format!("{name} <{kind}>"),
            false => format!("{name} {value}"),
        }
    };
    let kind = if let Reply::Map(_) = reply { "map" } else { "flat array" };
    let pairs: Vec<String> = pairs.into_iter().map(pair).collect();
    format!("<pairs> {} in a {kind}", pairs.join(", "))
}

/// `name:value` or `name=value` in order, what only ours has left out; with `numbers_differ` no
/// number is compared, nor is a text of [`TEXTS_DIFFER`].
fn fields<'a>(all: impl Iterator<Item = &'a str>, between: char, numbers_differ: bool) -> String {
    let shown = |field: &str| {
        let Some((name, value)) = field.split_once(between) else { return field.to_owned() };
        let number = value.parse::<f64>().is_ok();
        match numbers_differ && (number || TEXTS_DIFFER.contains(&name)) {
            true => format!("{name} <value>"),
            false => format!("{name} {value:?}"),
        }
    };
    let known = |field: &&str| {
        let name = field.split(between).next().unwrap_or_default();
        !OUR_FIELDS.contains(&name) && !FIELDS_OF_7_2.contains(&name)
    };
    all.filter(known).map(shown).collect::<Vec<_>>().join("\n")
}

/// Ours, and Redis's; a third one is another of Redis's, so that both know one more.
fn group() -> Group {
    let plan = Plan::over(Nodes::Redis).sentinels(&[Watchfire, Redis, Redis]).quick_syncs();
    plan.down_after_ms(5_000).start()
}

fn sides(group: &Group) -> [Side<'_>; 2] {
    let ids = [0, 1].map(|at| group.sentinels[at].id());
    let ports = [group.watch.master, group.nodes[1].port];
    [(0, 1), (1, 0)].map(|(at, other)| {
        let port = |at: usize| group.sentinels[at].port.to_string();
        let own = vec![
            (ids[at].clone(), "<own id>"),
            (ids[other].clone(), "<the other's id>"),
            (port(at), "<own port>"),
            (port(other), "<the other's port>"),
        ];
        Side { sentinel: &group.sentinels[at], own, ports }
    })
}

#[test]
fn one_script_is_answered_alike() {
    let group = group();
    let sides = sides(&group);
    let (mut asked, mut met) = (0, vec![false; MEANT.len()]);
    for resp3 in [false, true] {
        let [mut ours, mut theirs] = [0, 1].map(|at| sides[at].connect(resp3));
        let mut wrong = Vec::new();
        for line in SCRIPT.lines().map(str::trim).filter(|line| !line.is_empty()) {
            // In RESP3 this would be the end of it.
            if resp3 && line == "HELLO 2" {
                continue;
            }
            asked += 1;
            let said = sides[0].ask(&mut ours, line);
            let expected = sides[1].ask(&mut theirs, line);
            if let Some(at) = MEANT.iter().position(|(words, ..)| *words == line) {
                let (_, of_ours, of_theirs, _) = MEANT[at];
                met[at] = true;
                if !(said.starts_with(of_ours) && expected.starts_with(of_theirs))
                    || said == expected
                {
                    wrong.push(format!("{line}: another difference\n  {said}\n  {expected}"));
                }
                continue;
            }
            let again = |said: &str, expected: &str| said != expected && is_a_look(line);
            let (mut said, mut expected) = (said, expected);
            // A look at what a PING, an INFO or a hello has yet to tell one of the two.
            let began = Instant::now();
            while again(&said, &expected) && began.elapsed() < Duration::from_secs(15) {
                std::thread::sleep(Duration::from_millis(100));
                said = sides[0].ask(&mut ours, line);
                expected = sides[1].ask(&mut theirs, line);
            }
            if said != expected {
                wrong.push(format!("{line}\n  ours:   {said}\n  theirs: {expected}"));
            }
        }
        let protocol = if resp3 { "RESP3" } else { "RESP2" };
        assert!(wrong.is_empty(), "{protocol}, {} differ:\n{}", wrong.len(), wrong.join("\n"));
    }
    for ((line, ..), met) in MEANT.iter().zip(met) {
        assert!(met, "{line} is not in the script");
    }
    println!("{asked} lines asked of both, {} differences are meant:", MEANT.len());
    for (line, ours, theirs, why) in MEANT {
        println!("  {line}: {ours} ({theirs}): {why}");
    }
}

/// Whether a line changes nothing, so that it may be asked again.
fn is_a_look(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let looks = ["sentinel master", "sentinel replicas", "sentinel slaves", "sentinel sentinels"];
    looks.iter().chain(&["sentinel info-cache", "info "]).any(|look| line.starts_with(look))
}

#[test]
fn what_is_typed_is_answered_alike() {
    let group = group();
    let sides = sides(&group);
    for text in TYPED {
        let [ours, theirs] = sides.each_ref().map(|side| {
            let mut stream =
                TcpStream::connect(("127.0.0.1", side.sentinel.port)).expect("it is up");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            stream.write_all(text.as_bytes()).expect("it reads");
            stream.shutdown(std::net::Shutdown::Write).expect("still connected");
            let mut all = Vec::new();
            // Either way of ending a connection will do.
            let _ = stream.read_to_end(&mut all);
            side.masked(String::from_utf8_lossy(&all).into_owned())
        });
        assert_eq!(ours, theirs, "{text:?}");
    }
}

#[test]
fn help_and_the_last_words_are_alike() {
    let mut group = group();
    for container in ["SENTINEL", "CLIENT", "COMMAND", "ACL"] {
        let [ours, theirs] = [0, 1].map(|at| {
            let reply = group.sentinels[at].call(&[container, "HELP"]);
            let lines = reply.items();
            let simple = lines.iter().all(|line| matches!(line, Reply::Simple(_)));
            let told: Vec<String> = lines.iter().map(Reply::text).collect();
            // The wording is free; the head and the line of HELP itself are not.
            (simple, told[0].clone(), told.contains(&"HELP".to_owned()))
        });
        assert_eq!(ours, theirs, "{container} HELP");
    }
    // One after the other: the last one has nobody left to agree with.
    for at in [0, 1] {
        let mut client = group.sentinels[at].client();
        assert_eq!(client.call(&["SENTINEL", "RESET", GROUP]).expect("it answers").text(), ":1");
        client.send(&["SHUTDOWN", "NOSAVE"]).expect("it reads");
        assert!(client.receive().is_err(), "it ends without a word");
        let process = group.sentinels[at].process();
        wait_until(20, "the sentinel has ended", || process.exit().is_some());
        assert_eq!(process.exit().and_then(|status| status.code()), Some(0));
    }
}
