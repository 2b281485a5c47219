//! A `sentinel.conf` goes from Redis's sentinel to ours and back, with all that may stand in one:
//! several groups, names, IPv6, passwords that need quotes, renamed commands, scripts.

use std::collections::BTreeMap;
use std::fs;

use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{Program, Sentinel};
use crate::support::slots;
use crate::support::wait::wait_until;

/// A password with all that quoting is about; Redis reads it, but does not write it so.
const HARD: &str = "a 'b' \"c\" #d \\ \u{fc}";
/// One that Redis can write, too.
const TAME: &str = "p#ss\\w\u{f6}rd$1";
/// The second group.
const SECOND: &str = "gr\u{f6}\u{df}e:2";

/// A master and its replica behind a password; the master under `::1`, too.
struct Pair {
    master: Node,
    /// Ends with it.
    _replica: Node,
}

impl Pair {
    fn start(password: &str) -> Pair {
        let quoted = quoted(password);
        let (pass, auth) = (format!("requirepass {quoted}"), format!("masterauth {quoted}"));
        let everywhere = "bind 127.0.0.1 -::1";
        let hidden = "rename-command CONFIG cfg-of-mine";
        let lines = [pass.as_str(), &auth, everywhere, hidden];
        let master = Node::start(Nodes::Redis, &lines);
        let replica = Node::replica_of(Nodes::Redis, master.port, &lines);
        Pair { master, _replica: replica }
    }
}

/// Where masters are said to be: under IPv6, where this system has it.
fn loopback() -> &'static str {
    if std::net::TcpListener::bind(("::1", 0)).is_ok() { "::1" } else { "127.0.0.1" }
}

fn quoted(password: &str) -> String {
    format!("\"{}\"", password.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What both programs say of a file: their id, and of each group what was configured and learned.
fn told(sentinel: &Sentinel) -> BTreeMap<String, String> {
    let mut told = BTreeMap::from([("id".to_owned(), sentinel.id())]);
    let epoch = sentinel.call(&["INFO", "sentinel"]).text();
    told.insert("masters".into(), epoch.lines().nth(1).unwrap_or_default().to_owned());
    let mut note = |about: String, entry: &crate::support::client::Reply, fields: &[&str]| {
        for field in fields {
            let value = entry.field(field).unwrap_or_else(|| format!("no {field}"));
            told.insert(format!("{about} {field}"), value);
        }
    };
    for group in ["first", SECOND] {
        let master = sentinel.call(&["SENTINEL", "MASTER", group]);
        note(
            group.to_owned(),
            &master,
            &[
                "ip",
                "port",
                "flags",
                "runid",
                "config-epoch",
                "num-slaves",
                "num-other-sentinels",
                "quorum",
                "down-after-milliseconds",
                "failover-timeout",
                "parallel-syncs",
                "notification-script",
                "client-reconfig-script",
            ],
        );
        for replica in sentinel.call(&["SENTINEL", "REPLICAS", group]).items() {
            let name = replica.field("name").expect("a name");
            let fields = ["ip", "port", "flags", "runid", "master-link-status", "master-port"];
            note(format!("{group} replica {name}"), replica, &fields);
        }
        for other in sentinel.call(&["SENTINEL", "SENTINELS", group]).items() {
            let name = other.field("name").expect("a name");
            note(format!("{group} sentinel {name}"), other, &["ip", "port", "runid", "flags"]);
        }
    }
    told
}

fn healthy(told: &BTreeMap<String, String>) -> bool {
    let flags = told.iter().filter(|(about, _)| about.ends_with(" flags"));
    let flags: Vec<_> = flags.map(|(_, flags)| flags.as_str()).collect();
    let runid = told.iter().filter(|(about, _)| about.ends_with("runid"));
    // Two masters, two replicas, and the other sentinel of the first group.
    flags.len() == 5
        && flags.iter().all(|flags| ["master", "slave", "sentinel"].contains(flags))
        && runid.into_iter().all(|(_, id)| id.len() == 40)
        && told.iter().all(|(a, v)| !a.ends_with("master-link-status") || v == "ok")
}

#[track_caller]
fn when_healthy(sentinel: &Sentinel) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    wait_until(30, "it knows everybody and nobody is down", || {
        last = told(sentinel);
        healthy(&last)
    });
    last
}

fn conf(port: u16, dir: &std::path::Path, pairs: [(&Pair, &str); 2]) -> String {
    let [(first, first_pass), (second, second_pass)] = pairs;
    let (p1, p2) = (first.master.port, second.master.port);
    let (q1, q2, six) = (quoted(first_pass), quoted(second_pass), loopback());
    format!(
        "# What the operator wrote stays.\n\
         sentinel down-after-milliseconds {SECOND} 60000 \n\
         \tsentinel   auth-pass first {q1}\n\
         \n\
         # by name\n\
         sentinel monitor {SECOND} localhost {p2} 1\n\
         sentinel auth-pass {SECOND} {q2}\n\
         sentinel rename-command {SECOND} CONFIG cfg-of-mine\n\
         sentinel rename-command first CONFIG \"cfg-of-mine\"\n\
         SENTINEL notification-script first /bin/true\n\
         sentinel client-reconfig-script first '/bin/true'\n\
         sentinel failover-timeout first 61000\n\
         sentinel parallel-syncs {SECOND} 3\n\
         always-show-logo yes\n\
         port {port}\n\
         bind 127.0.0.1\n\
         dir \"{}\"\n\
         # IPv6\n\
         sentinel monitor first {six} {p1} 2\n\
         sentinel resolve-hostnames yes\n\
         # the end",
        dir.display()
    )
}

/// Runs the file through a list of programs; each must say the same of it.
fn goes_through(passwords: [&str; 2], programs: &[Program]) {
    let pairs = passwords.map(Pair::start);
    let text = |port, dir: &std::path::Path| {
        conf(port, dir, [(&pairs[0], passwords[0]), (&pairs[1], passwords[1])])
    };
    let mut sentinel = Sentinel::start_with(programs[0], "sentinel.conf", text);
    // Somebody else watches the first group. It says one address for itself: it would be heard
    // under `::1` from the master and under 127.0.0.1 from the replica, where it does not listen
    // under both, and Redis's sentinel then switches between the two with every hello.
    let port = pairs[0].master.port;
    let _other = Sentinel::start_with(Program::Redis, "other.conf", |own, dir| {
        let auth = format!("sentinel auth-pass first {}", quoted(passwords[0]));
        let monitor = format!("sentinel monitor first {} {port} 2", loopback());
        let own = format!("port {own}\nbind 127.0.0.1\nsentinel announce-ip 127.0.0.1\n");
        format!("{own}dir {}\n{monitor}\n{auth}\n", dir.display())
    });
    let before = when_healthy(&sentinel);
    for (&program, next) in programs.iter().zip(&programs[1..]) {
        assert_eq!(sentinel.call(&["SENTINEL", "FLUSHCONFIG"]).text(), "OK");
        assert!(sentinel.process().terminate().success());
        let text = fs::read_to_string(sentinel.file()).expect("its file");
        let comments = ["# What the operator wrote stays.\n", "# by name\n", "# IPv6\n"];
        for comment in comments.into_iter().chain(["\n# the end\n", "\nalways-show-logo yes\n"]) {
            assert!(text.contains(comment), "{comment:?} is lost by {program:?}:\n{text}");
        }
        assert_eq!(text.matches("sentinel monitor ").count(), 2, "{text}");
        sentinel.restart_as(*next);
        let after = when_healthy(&sentinel);
        assert_eq!(after, before, "{next:?} says otherwise than {program:?} of\n{text}");
    }
}

#[test]
fn a_file_goes_there_and_back_twice() {
    let _slot = slots::all();
    let (redis, ours) = (Program::Redis, Program::Watchfire);
    goes_through([TAME, "plain"], &[redis, ours, redis, ours, redis]);
}

/// Redis writes such a password without its quotes and does not start again, so it comes last.
#[test]
fn redis_reads_passwords_that_it_could_not_write() {
    let _slot = slots::all();
    let (redis, ours) = (Program::Redis, Program::Watchfire);
    goes_through([HARD, TAME], &[ours, ours, redis]);
}
