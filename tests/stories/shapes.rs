//! Replies and events have the shape that Redis's own sentinel gives them: both watch the same
//! master in the same story, are asked the same questions, and the answers are compared.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::support::client::{Client, Reply};
use crate::support::group::{Group, Plan};
use crate::support::node::Nodes;
use crate::support::sentinel::{GROUP, Program, Sentinel};
use crate::support::wait::{wait_for, wait_until};

/// Ours, Redis's, and a third so that each has two others of which one is of the other kind.
fn both() -> Group {
    Plan::over(Nodes::Redis)
        .sentinels(&[Program::under_test(), Program::Redis, Program::under_test()])
        .start()
}

/// Fields that tell the same from both, in whole; of the others only presence and type count.
const SAME_VALUE: &[&str] = &[
    "name",
    "ip",
    "port",
    "runid",
    "flags",
    "link-refcount",
    "down-after-milliseconds",
    "role-reported",
    "config-epoch",
    "num-slaves",
    "num-other-sentinels",
    "quorum",
    "failover-timeout",
    "parallel-syncs",
    "master-link-down-time",
    "master-link-status",
    "master-host",
    "master-port",
    "slave-priority",
    "replica-announced",
    "voted-leader",
    "voted-leader-epoch",
];

/// One entry as text, a line per field in the order sent; what differs by nature is replaced by its
/// type.
fn entry(reply: &Reply) -> Vec<String> {
    let kind = match reply {
        Reply::Map(_) => "map",
        Reply::Array(_) => "flat array",
        _ => "something else",
    };
    let line = |(name, value): (String, String)| {
        let shown = if SAME_VALUE.contains(&name.as_str()) {
            value
        } else if value.parse::<i64>().is_ok() {
            "<number>".into()
        } else {
            format!("<text {value:?}>")
        };
        format!("{name} = {shown}")
    };
    std::iter::once(kind.to_owned()).chain(reply.pairs().into_iter().map(line)).collect()
}

/// Entries of one of the two lists, sorted, since their order is not part of the contract.
fn entries(reply: &Reply) -> Vec<Vec<String>> {
    let mut all: Vec<_> = reply.items().iter().map(entry).collect();
    all.sort();
    all
}

fn speak(sentinel: &Sentinel, resp3: bool) -> Client {
    let mut client = sentinel.client();
    if resp3 {
        client.call(&["HELLO", "3"]).expect("it speaks RESP3");
    }
    client
}

#[test]
fn entries_have_the_fields_of_redis_in_its_order() {
    let group = both();
    for resp3 in [false, true] {
        let [mut ours, mut theirs] = [0, 1].map(|at| speak(&group.sentinels[at], resp3));
        for words in [["MASTERS", ""], ["MASTER", GROUP], ["REPLICAS", GROUP], ["SLAVES", GROUP]] {
            let words: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
            let words = [&["SENTINEL"], &words[..]].concat();
            // A field may lag behind by a PING or INFO, so equality may take a moment.
            let mut last = (Vec::new(), Vec::new());
            let began = Instant::now();
            while last.0.is_empty() || last.0 != last.1 {
                assert!(
                    began.elapsed().as_secs() < 15,
                    "{words:?}, RESP3 {resp3}\nours:   {:#?}\ntheirs: {:#?}",
                    last.0,
                    last.1
                );
                let ask = |client: &mut Client| -> Vec<Vec<String>> {
                    let reply = client.call(&words).expect("it answers");
                    if words[1] == "MASTER" { vec![entry(&reply)] } else { entries(&reply) }
                };
                last = (ask(&mut ours), ask(&mut theirs));
            }
        }
    }
}

#[test]
fn entries_of_other_sentinels_have_the_fields_of_redis_in_its_order() {
    let group = both();
    // Both see the third one.
    let third = group.sentinels[2].id();
    for resp3 in [false, true] {
        let [ours, theirs] = [0, 1].map(|at| {
            let mut client = speak(&group.sentinels[at], resp3);
            wait_for(10, "the third sentinel is seen healthy", || {
                let all = client.call(&["SENTINEL", "SENTINELS", GROUP]).ok()?;
                let one = all.items().iter().find(|e| e.field("name").as_ref() == Some(&third))?;
                (one.field("flags")? == "sentinel").then(|| entry(one))
            })
        });
        assert_eq!(ours, theirs, "RESP3 {resp3}");
    }
}

#[test]
fn answers_have_the_words_of_redis() {
    let group = both();
    let master = group.watch.master.to_string();
    let down = ["SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1"];
    let questions: Vec<Vec<&str>> = vec![
        vec!["PING"],
        vec!["PING", "hi"],
        vec!["PING", "a", "b"],
        vec!["ECHO", "hi"],
        vec!["GET", "a"],
        vec!["ROLE"],
        vec!["SENTINEL"],
        vec!["SENTINEL", "NO-SUCH"],
        vec!["sentinel", "masters", "x"],
        vec!["SENTINEL", "MASTER", "nobody"],
        vec!["SENTINEL", "REPLICAS", "nobody"],
        vec!["SENTINEL", "SLAVES", "nobody"],
        vec!["SENTINEL", "SENTINELS", "nobody"],
        vec!["SENTINEL", "CKQUORUM", "nobody"],
        vec!["SENTINEL", "FAILOVER", "nobody"],
        vec!["SENTINEL", "REMOVE", "nobody"],
        vec!["SENTINEL", "SET", "nobody", "quorum", "1"],
        vec!["SENTINEL", "RESET", "nobody"],
        vec!["SENTINEL", "CKQUORUM", GROUP],
        vec!["SENTINEL", "FLUSHCONFIG"],
        vec!["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP],
        vec!["SENTINEL", "get-master-addr-by-name", "nobody"],
        [&down[..], &[&master, "0", "*"]].concat(),
        [&down[..], &["1", "0", "*"]].concat(),
        [&down[..], &["x", "0", "*"]].concat(),
        [&down[..], &[&master, "x", "*"]].concat(),
        vec!["SENTINEL", "SET", GROUP, "quorum", "0"],
        vec!["SENTINEL", "SET", GROUP, "quorum"],
        vec!["SENTINEL", "SET", GROUP, "no-such", "1"],
        vec!["SENTINEL", "SET", GROUP, "notification-script", "/bin/true"],
        vec!["SENTINEL", "SET", GROUP, "failover-timeout", "6000"],
        vec!["SENTINEL", "MONITOR", "m", "127.0.0.1", "1", "0"],
        vec!["SENTINEL", "MONITOR", "m", "127.0.0.1", "1", "x"],
        vec!["SENTINEL", "MONITOR", "m", "127.0.0.1", "x", "1"],
        vec!["SENTINEL", "MONITOR", "m", "127.0.0.1", "70000", "1"],
        vec!["SENTINEL", "MONITOR", "m", "no.such.host", "1", "1"],
        vec!["SENTINEL", "MONITOR", GROUP, "127.0.0.1", "1", "1"],
        vec!["PUBLISH", "news", "x"],
        vec!["CLIENT", "SETNAME", "me"],
        vec!["CLIENT", "GETNAME"],
        vec!["CLIENT", "SETNAME", "a b"],
        vec!["CLIENT", "NO-SUCH"],
        vec!["AUTH", "x"],
        vec!["HELLO", "4"],
        vec!["HELLO", "x"],
        vec!["INFO", "replication"],
        vec!["SUBSCRIBE", "+switch-master"],
        vec!["PSUBSCRIBE", "*"],
        vec!["UNSUBSCRIBE", "+switch-master"],
        vec!["SENTINEL", "MYID", "x"],
        vec!["PING"],
    ];
    for resp3 in [false, true] {
        let [mut ours, mut theirs] = [0, 1].map(|at| speak(&group.sentinels[at], resp3));
        for words in &questions {
            let said = ours.call(words).expect("it answers");
            let expected = theirs.call(words).expect("it answers");
            assert_eq!(said, expected, "{words:?}, RESP3 {resp3}");
        }
    }
}

#[test]
fn hello_and_info_have_the_fields_of_redis() {
    let group = both();
    for resp3 in [false, true] {
        let version = if resp3 { "3" } else { "2" };
        let [ours, theirs] = [0, 1].map(|at| {
            let reply = group.sentinels[at].call(&["HELLO", version]);
            let names: Vec<String> = reply.pairs().into_iter().map(|(name, _)| name).collect();
            (matches!(reply, Reply::Map(_)), names, reply.field("mode"), reply.field("proto"))
        });
        assert_eq!(ours, theirs);

        let [ours, theirs] = [0, 1].map(|at| {
            let mut client = speak(&group.sentinels[at], resp3);
            let reply = client.call(&["INFO", "sentinel"]).expect("it answers");
            assert!(matches!(reply, Reply::Bulk(_)), "INFO is a plain bulk string: {reply}");
            // The one value that may differ is how long TILT has not been.
            reply.text().lines().map(str::to_owned).collect::<Vec<_>>()
        });
        assert_eq!(ours, theirs);
    }
    let sections = |at: usize| -> Vec<String> {
        let text = group.sentinels[at].call(&["INFO"]).text();
        text.lines().filter(|l| l.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(sections(0), sections(1));
    let mode = group.sentinels[0].call(&["INFO", "server"]).text();
    assert!(mode.contains("redis_mode:sentinel\r\n"), "{mode}");
}

#[test]
fn events_have_the_words_of_redis() {
    let mut group = both();
    let began = Instant::now();
    // Each kind leads a failover on request, and sees a master die before the other kind does, so
    // that both say all that they can say.
    let mut master = group.watch.master;
    for leader in [0, 1] {
        let asked = group.sentinels[leader].call(&["SENTINEL", "FAILOVER", GROUP]);
        assert_eq!(asked, Reply::Simple("OK".into()));
        master = next_master(&mut group, master);
    }
    for first in [0, 1] {
        let settle = |s: &Sentinel, quorum: &str, down_after: &str| {
            let set = ["SENTINEL", "SET", GROUP, "quorum", quorum];
            let reply = s.call(&[&set[..], &["down-after-milliseconds", down_after]].concat());
            assert_eq!(reply, Reply::Simple("OK".into()));
        };
        settle(&group.sentinels[first], "1", "500");
        let old = master;
        group.node(old).kill9();
        let new = group.wait_for_new_master(old, 30);
        settle(&group.sentinels[first], "2", "1500");
        wait_until(20, "every sentinel sees the dead node as a replica that is down", || {
            let flags = |s: &Sentinel| s.replica(old).and_then(|r| r.field("flags"));
            group.sentinels.iter().all(|s| flags(s).is_some_and(|f| f.contains("s_down")))
        });
        group.node(old).restart();
        master = next_master(&mut group, old);
        assert_eq!(master, new);
    }
    for sentinel in &group.sentinels[..2] {
        for (option, value) in [("quorum", "2"), ("auth-pass", "secret"), ("auth-pass", "")] {
            sentinel.call(&["SENTINEL", "SET", GROUP, option, value]);
        }
        sentinel.call(&["SENTINEL", "MONITOR", "more", "127.0.0.1", "1", "2"]);
        sentinel.call(&["SENTINEL", "REMOVE", "more"]);
        sentinel.call(&["SENTINEL", "RESET", GROUP]);
    }
    // Ours forgets nobody who lives at a RESET: whoever is to be met again has to be a stranger.
    let port = master.to_string();
    for sentinel in &group.sentinels[..2] {
        sentinel.call(&["SENTINEL", "REMOVE", GROUP]);
        sentinel.call(&["SENTINEL", "MONITOR", GROUP, "127.0.0.1", &port, "2"]);
    }
    group.wait_until_known();
    let [ours, theirs] = [0, 1].map(|at| patterns(&group, group.sentinels[at].port, began));
    let mut compared = Vec::new();
    for (event, expected) in &theirs {
        let Some(said) = ours.get(event) else { continue };
        // Both saw more than one kind of instance under some names; one pattern in common is
        // enough.
        let common = said.iter().any(|pattern| expected.contains(pattern));
        assert!(common, "{event}\nours:   {said:?}\ntheirs: {expected:?}");
        compared.push(event.as_str());
    }
    println!("events compared: {compared:?}");
    for event in [
        "+switch-master",
        "+sdown",
        "+odown",
        "+slave",
        "+sentinel",
        "+set",
        "+monitor",
        "-monitor",
        "+reset-master",
        "+new-epoch",
        "+vote-for-leader",
        "+try-failover",
        "+elected-leader",
        "+failover-state-select-slave",
        "+selected-slave",
        "+failover-state-send-slaveof-noone",
        "+failover-state-wait-promotion",
        "+promoted-slave",
        "+failover-state-reconf-slaves",
        "+slave-reconf-sent",
        "+slave-reconf-inprog",
        "+slave-reconf-done",
        "+failover-end",
        "+config-update-from",
    ] {
        assert!(compared.contains(&event), "{event} was not heard from both");
    }
}

/// The master after `old`, with everybody behind it and known to everybody.
fn next_master(group: &mut Group, old: u16) -> u16 {
    let new = group.wait_for_new_master(old, 30);
    group.wait_until_they_follow(new, &group.ports_but(new), 40);
    group.wait_until_known();
    new
}

/// The payload patterns of each event that one sentinel announced.
fn patterns(group: &Group, port: u16, since: Instant) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for heard in group.events.all() {
        if heard.by == port && heard.at >= since {
            let words: Vec<String> = heard.text.split(' ').map(pattern).collect();
            let known = found.entry(heard.event).or_default();
            let pattern = words.join(" ");
            if !known.contains(&pattern) {
                known.push(pattern);
            }
        }
    }
    found
}

/// A word of a payload with what differs by nature replaced.
fn pattern(word: &str) -> String {
    if word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit()) {
        return "<id>".into();
    }
    let number = |text: &str| text.parse::<u64>().is_ok();
    if number(word) {
        return "<number>".into();
    }
    match (word.split_once(':'), word.split_once('/')) {
        (Some((host, port)), _) if number(port) => format!("{host}:<port>"),
        (_, Some((have, need))) if number(have) && number(need) => "<have>/<need>".into(),
        _ => word.to_owned(),
    }
}
