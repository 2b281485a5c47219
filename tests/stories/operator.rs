//! What operators do while everything runs: settings of a sentinel changed, crashes simulated, a
//! master that hands over, events asked for afterwards.

use std::time::{Duration, Instant};

use crate::support::client::{Client, Reply};
use crate::support::group::Plan;
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::{holds_for, wait_for, wait_until};
use crate::support::writer::{Writer, missing};

/// One parameter, as `CONFIG GET` shows it.
fn config(sentinel: &Sentinel, name: &str) -> Option<String> {
    sentinel.call(&["SENTINEL", "CONFIG", "GET", name]).field(name)
}

/// Some settings, changed in one line.
const SETTINGS: [(&str, &str); 5] = [
    ("announce-ip", "127.0.0.1"),
    ("announce-port", "26999"),
    ("sentinel-user", "joe"),
    ("sentinel-pass", "s3 cret"),
    ("loglevel", "verbose"),
];

fn change_settings(sentinel: &Sentinel) {
    let pairs = SETTINGS.iter().flat_map(|(name, value)| [*name, *value]);
    let words: Vec<&str> = ["SENTINEL", "CONFIG", "SET"].into_iter().chain(pairs).collect();
    assert_eq!(sentinel.call(&words), Reply::Simple("OK".into()));
}

fn assert_changed(sentinel: &Sentinel) {
    for (name, value) in SETTINGS {
        assert_eq!(config(sentinel, name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn settings_outlive_a_crash_in_a_sentinel_conf_that_redis_reads() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    let mut sentinel = Sentinel::start(Program::Watchfire, Syntax::Conf, &Watch::of(node.port));
    assert!(!sentinel.process().log().contains("Accepted a connection"));
    change_settings(&sentinel);
    // The log's level changes at once: this connection is told of already.
    assert_changed(&sentinel);
    let told = "Accepted a connection";
    wait_until(5, "the log tells more", || sentinel.process().log().contains(told));
    sentinel.kill9();
    sentinel.restart();
    assert_changed(&sentinel);
    assert!(!sentinel.process().log().contains("s3 cret"), "no password reaches the log");
    let text = std::fs::read_to_string(sentinel.file()).expect("its file");
    assert!(text.contains("# The one group of this story."), "{text}");
    // Unset, and as at the beginning.
    let unset = ["announce-ip", "", "sentinel-pass", "", "announce-port", "0"];
    let words = [&["SENTINEL", "CONFIG", "SET"][..], &unset].concat();
    assert_eq!(sentinel.call(&words), Reply::Simple("OK".into()));
    sentinel.kill9();
    sentinel.restart_as(Program::Redis);
    // Redis 7.0 shows one parameter at a time, and no loglevel.
    for (name, value) in [
        ("announce-ip", ""),
        ("announce-port", "0"),
        ("sentinel-user", "joe"),
        ("sentinel-pass", ""),
    ] {
        assert_eq!(config(&sentinel, name).as_deref(), Some(value), "{name} as Redis reads it");
    }
}

#[test]
fn settings_outlive_a_crash_beside_a_yaml_file_until_that_is_edited() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    let mut sentinel = Sentinel::start(Program::Watchfire, Syntax::Yaml, &Watch::of(node.port));
    let original = std::fs::read_to_string(sentinel.file()).expect("its file");
    change_settings(&sentinel);
    sentinel.kill9();
    sentinel.restart();
    assert_changed(&sentinel);
    let log = sentinel.process().log();
    assert!(log.contains("announce-port is as SENTINEL CONFIG SET left it"), "{log}");
    assert!(!log.contains("s3 cret"), "no password reaches the log");
    assert_eq!(std::fs::read_to_string(sentinel.file()).expect("its file"), original);

    let edited = original.clone() + "announce: {port: 27000}\n";
    std::fs::write(sentinel.file(), edited).expect("edited");
    sentinel.kill9();
    sentinel.restart();
    assert_eq!(config(&sentinel, "announce-port").as_deref(), Some("27000"), "edited: taken");
    assert_eq!(config(&sentinel, "loglevel").as_deref(), Some("verbose"), "not edited: stays");
    let log = sentinel.process().log();
    assert!(log.contains("announce-port was set by SENTINEL CONFIG SET"), "{log}");
}

#[test]
fn passwords_for_other_sentinels_change_in_a_living_quorum() {
    let mut group = Plan::over(Nodes::Redis).sentinels(&[Program::Watchfire; 3]).start();
    let began = Instant::now();
    for password in ["one", "two"] {
        for sentinel in &group.sentinels {
            let set = ["SENTINEL", "CONFIG", "SET", "sentinel-pass", password];
            assert_eq!(sentinel.call(&set), Reply::Simple("OK".into()));
        }
    }
    // Longer than down-after.
    holds_for(Duration::from_millis(2_500), "nobody counts as down for that", || {
        group.events.since(began, "+sdown").is_empty()
    });
    group.wait_until_known();
    let old = group.watch.master;
    group.node(old).kill9();
    group.wait_for_new_master(old, 30);
}

#[test]
fn a_simulated_crash_ends_the_leader_with_code_99_and_the_others_go_on() {
    for (flag, event) in
        [("crash-after-election", "+elected-leader"), ("crash-after-promotion", "+promoted-slave")]
    {
        let mut group = Plan::over(Nodes::Redis).sentinels(&[Program::Watchfire; 3]).start();
        for sentinel in &group.sentinels {
            let reply = sentinel.call(&["SENTINEL", "SIMULATE-FAILURE", flag]);
            assert_eq!(reply, Reply::Simple("OK".into()));
        }
        let old = group.watch.master;
        group.node(old).kill9();
        let (dead, status) = wait_for(30, "a sentinel crashes", || {
            let mut ended = group.sentinels.iter_mut().enumerate();
            ended.find_map(|(at, sentinel)| Some((at, sentinel.process().exit()?)))
        });
        assert_eq!(status.code(), Some(99), "{flag}");
        for (at, sentinel) in group.sentinels.iter().enumerate() {
            if at != dead {
                // Every call forgets what was asked for before.
                sentinel.call(&["SENTINEL", "SIMULATE-FAILURE", "help"]);
            }
        }
        let log = group.sentinels[dead].process().log();
        let mut lines = log.lines().rev();
        let last: Vec<&str> = lines.by_ref().take(2).collect();
        assert!(last[0].contains("simulate-failure") && last[1].contains(event), "{last:?}");
        let new = group.wait_for_new_master(old, 40);
        group.sentinels[dead].restart();
        wait_until(20, "the crashed one names the same master", || {
            group.sentinels[dead].master_port() == Some(new)
        });
    }
}

#[test]
fn a_master_that_hands_over_loses_no_acknowledged_write() {
    let mut group = Plan::over(Nodes::Redis).sentinels(&[Program::Watchfire; 3]).start();
    let writer = Writer::start(&group.sentinel_ports());
    for turn in 0..3 {
        writer.wait_for_more(200);
        let old = group.agreed_master().expect("all name the same");
        let began = Instant::now();
        let order = ["SENTINEL", "FAILOVER", GROUP, "COORDINATED"];
        let ordered = group.sentinels[turn].call(&order);
        assert_eq!(ordered, Reply::Simple("OK".into()));
        let new = group.wait_for_new_master(old, 30);
        group.wait_until_they_follow(new, &group.ports_but(new), 30);
        assert!(group.events.since(began, "+sdown").is_empty(), "nobody was down");
        assert!(group.events.since(began, "+convert-to-slave").is_empty(), "there was one master");
        writer.first_elsewhere(old, began, 20);
    }
    let master = group.agreed_master().expect("all name the same");
    let writes = writer.stop();
    assert!(writes.len() > 600, "{}", writes.len());
    assert_eq!(missing(master, &writes), Vec::<u64>::new(), "acknowledged and lost");
    // Both have written their roles down.
    let replica = group.ports_but(master)[0];
    let file = group.node(replica).dir().join("redis.conf");
    wait_until(5, "the configuration of a replica says so", || {
        std::fs::read_to_string(&file)
            .is_ok_and(|text| text.contains(&format!("127.0.0.1 {master}")))
    });
}

#[test]
fn a_master_that_may_not_be_told_to_hold_writes_hands_over_itself() {
    // As before Redis 6.2, and as for a user without that right.
    let without = "user default on nopass ~* &* +@all -client|pause";
    let mut group = Plan::over(Nodes::Redis).replicas(&[&[without], &[without]]).start();
    let first = group.watch.master;
    let writer = Writer::start(&group.sentinel_ports());
    let mut failed_over = |words: &[&str]| {
        let old = group.agreed_master().expect("all name the same");
        let order = [&["SENTINEL", "FAILOVER", GROUP], words].concat();
        assert_eq!(group.sentinels[0].call(&order), Reply::Simple("OK".into()));
        let new = group.wait_for_new_master(old, 30);
        group.wait_until_they_follow(new, &group.ports_but(new), 30);
        (group.sentinels[0].process().log(), new)
    };
    // The first master may be told; none of the others.
    let (log, second) = failed_over(&["COORDINATED"]);
    assert!(second != first && !log.contains("No hand-over of mymaster"), "{log}");
    let (log, third) = failed_over(&["COORDINATED"]);
    assert!(!log.contains("No hand-over of mymaster"), "{log}");
    if third == first {
        failed_over(&["COORDINATED"]);
    }
    let (log, _) = failed_over(&[]);
    assert!(log.contains("No hand-over of mymaster: the master refused: NOPERM"), "{log}");
    writer.wait_for_more(100);
}

#[test]
fn who_connects_after_a_failover_learns_what_was_announced() {
    let mut group = Plan::over(Nodes::Redis).sentinels(&[Program::Watchfire; 3]).start();
    let events = |sentinel: &Sentinel, more: &[&str]| -> Vec<[String; 3]> {
        let mut client: Client = sentinel.client();
        let reply = client.call(&[&["SENTINEL", "EVENTS"], more].concat()).expect("an answer");
        let field = |entry: &Reply, name: &str| entry.field(name).expect("each has this field");
        let fields = |entry: &Reply| ["id", "channel", "payload"].map(|name| field(entry, name));
        reply.items().iter().map(fields).collect()
    };
    let [id, ..] = events(&group.sentinels[0], &["COUNT", "1"]).pop().expect("events of the start");
    let old = group.watch.master;
    group.node(old).kill9();
    let new = group.wait_for_new_master(old, 30);
    // The master is named at once, and announced once that is on disk.
    let announced = |events: &[[String; 3]]| events.iter().any(|e| e[1] == "+switch-master");
    wait_until(10, "it is announced", || announced(&events(&group.sentinels[0], &["SINCE", &id])));
    let missed = events(&group.sentinels[0], &["SINCE", &id]);
    let switch = format!("{GROUP} 127.0.0.1 {old} 127.0.0.1 {new}");
    let at = |channel: &str| missed.iter().position(|event| event[1] == channel);
    let switched = at("+switch-master").expect("it was announced");
    assert_eq!(missed[switched][2], switch);
    assert!(at("+sdown").is_some_and(|down| down < switched), "{missed:?}");
    let heard = group.events.all();
    let of_first = heard.iter().filter(|h| h.by == group.sentinels[0].port);
    let last: Vec<String> = of_first.map(|h| format!("{} {}", h.event, h.text)).collect();
    let told: Vec<String> = missed.iter().map(|[_, c, p]| format!("{c} {p}")).collect();
    let told = &told[..=switched];
    assert!(last.windows(told.len()).any(|part| part == told), "the same in the same order");

    group.sentinels[0].kill9();
    group.sentinels[0].restart();
    let since = |id: &str| events(&group.sentinels[0], &["SINCE", id]);
    wait_until(10, "it tells of its beginning", || !since(&id).is_empty());
    let again = since(&id);
    assert_ne!(
        again[0][0].split_once('-').map(|(run, _)| run),
        id.split_once('-').map(|(run, _)| run)
    );
    assert_eq!(again[0][1], "+monitor", "another run, told from its beginning");
}
