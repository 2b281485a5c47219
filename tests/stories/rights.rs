//! What nodes and sentinels let us do: whatever is wrong with passwords, ACL rights and names of
//! commands is told by name while all is well, and is no reason for a failover.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::events::Recorder;
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::{holds_for, wait_until};

const ALL_RIGHTS: &str = "+ping +info +publish +subscribe +client|setname +client|kill +multi \
                          +exec +slaveof +config|rewrite +script|kill allchannels";

fn user(password: &str, rights: &str) -> String {
    format!("user watch on >{password} {rights}")
}

/// A sentinel of this group, with more lines in its file.
fn sentinel(watch: &Watch, lines: &[String]) -> Sentinel {
    let text = |port: u16, dir: &Path| {
        format!("{}{}\n", watch.config(Syntax::Conf, port, dir), lines.join("\n"))
    };
    Sentinel::start_with(Program::Watchfire, "sentinel.conf", text)
}

/// Three of them that know each other and the one replica, and what they announce.
fn three(watch: &Watch, lines: &[String], replica: &Node) -> (Vec<Sentinel>, Recorder) {
    let sentinels: Vec<Sentinel> = (0..3).map(|_| sentinel(watch, lines)).collect();
    let ports: Vec<u16> = sentinels.iter().map(|sentinel| sentinel.port).collect();
    let events = Recorder::start(&ports);
    wait_until(30, "the sentinels know each other and the replica", || {
        replica.follows(watch.master)
            && sentinels.iter().all(|s| {
                s.call(&["SENTINEL", "CKQUORUM", GROUP]).text().starts_with("OK 3")
                    && s.master("num-slaves").as_deref() == Some("1")
            })
    });
    (sentinels, events)
}

fn logs_in(password: &str) -> Vec<String> {
    vec![
        format!("sentinel auth-user {GROUP} watch"),
        format!("sentinel auth-pass {GROUP} {password}"),
    ]
}

fn errors(sentinel: &Sentinel) -> Option<String> {
    sentinel.master("config-errors")
}

#[test]
fn a_right_that_is_missing_is_named_long_before_it_is_needed() {
    let _slot = slots::one();
    let without = ALL_RIGHTS.replace("+slaveof ", "").replace("+exec ", "");
    let node = Node::start(Nodes::Redis, &[&user("sesame", &without)]);
    let began = Instant::now();
    let mut sentinel = sentinel(&Watch::of(node.port), &logs_in("sesame"));
    let events = Recorder::start(&[sentinel.port]);
    wait_until(20, "both rights that are missing are named", || {
        errors(&sentinel).as_deref() == Some("EXEC NOPERM,SLAVEOF NOPERM")
    });
    let log = sentinel.process().log();
    for text in ["refuses SLAVEOF (NOPERM): the user of auth-user may not", "refuses EXEC (NOPERM)"]
    {
        assert!(log.contains(text), "{text}:\n{log}");
    }
    assert!(!log.contains("sesame"), "{log}");
    assert_eq!(node.replication("role").as_deref(), Some("master"));
    assert_eq!(sentinel.master("flags").as_deref(), Some("master"));

    node.call(&["ACL", "SETUSER", "watch", "+slaveof", "+exec"]);
    wait_until(30, "what was put right is shown no more", || {
        sentinel.master("flags").is_some() && errors(&sentinel).is_none()
    });
    let over = events.since(began, "-config-error");
    assert!(over.iter().any(|heard| heard.text.ends_with(" SLAVEOF")), "{over:?}");
}

#[test]
fn looking_for_rights_promotes_nobody() {
    let _slot = slots::one();
    for nodes in [Nodes::Redis, Nodes::Bundled] {
        let master = Node::start(nodes, &[]);
        let replica = Node::replica_of(nodes, master.port, &[]);
        wait_until(20, "the replica follows", || replica.follows(master.port));
        let watcher = sentinel(&Watch::of(master.port), &[]);
        let checks = |node: &Node| {
            let stats = node.call(&["INFO", "commandstats"]).text();
            stats.contains("cmdstat_multi:") || nodes == Nodes::Bundled
        };
        wait_until(20, "both nodes have been looked at", || checks(&master) && checks(&replica));
        let quiet = Duration::from_secs(2);
        holds_for(quiet, "the replica follows, and nothing is refused", || {
            replica.follows(master.port) && errors(&watcher).is_none()
        });
    }
}

#[test]
fn a_wrong_name_for_ping_fails_nobody_over() {
    let _slot = slots::one();
    let master = Node::start(Nodes::Redis, &[]);
    let replica = Node::replica_of(Nodes::Redis, master.port, &[]);
    wait_until(20, "the replica follows", || replica.follows(master.port));
    let watch = Watch { quorum: 1, down_after_ms: 500, ..Watch::of(master.port) };
    for name in ["NO-SUCH-COMMAND", "TIME", "ECHO"] {
        let line = format!("sentinel rename-command {GROUP} PING {name}");
        let began = Instant::now();
        let sentinel = sentinel(&watch, &[line]);
        let events = Recorder::start(&[sentinel.port]);
        wait_until(20, "the wrong name is told, and the flag is Redis's", || {
            let flags = sentinel.master("flags").unwrap_or_default();
            flags.starts_with("s_down,master") && errors(&sentinel).is_some()
        });
        holds_for(Duration::from_secs(2), "nothing else comes of it", || {
            events.since(began, "+sdown").is_empty() && events.since(began, "+odown").is_empty()
        });
        assert!(errors(&sentinel).is_some_and(|why| why.contains("PING ")), "{name}");
    }
    assert!(replica.follows(master.port));
}

#[test]
fn renamed_commands_are_found_wanting_or_are_used() {
    let _slot = slots::one();
    let renamed = ["rename-command SLAVEOF follow-me", "rename-command CONFIG \"\""];
    let node = Node::start(Nodes::Redis, &renamed);
    let told = format!("sentinel rename-command {GROUP} SLAVEOF follow-me");
    let sentinel = sentinel(&Watch::of(node.port), &[told]);
    wait_until(20, "the command that is gone is named, the renamed one is found", || {
        errors(&sentinel).as_deref() == Some("CONFIG unknown-command")
    });
}

#[test]
fn a_password_is_changed_at_run_time_and_nobody_is_down_for_a_moment() {
    let _slot = slots::one();
    let line = user("old-one", ALL_RIGHTS);
    let mut master = Node::start(Nodes::Redis, &[&line]);
    let replica = Node::replica_of(Nodes::Redis, master.port, &[&line]);
    let watch = Watch { down_after_ms: 800, ..Watch::of(master.port) };
    let sentinels: Vec<Sentinel> = (0..3).map(|_| sentinel(&watch, &logs_in("old-one"))).collect();
    let ports: Vec<u16> = sentinels.iter().map(|sentinel| sentinel.port).collect();
    let events = Recorder::start(&ports);
    wait_until(30, "the sentinels know each other and the replica", || {
        sentinels.iter().all(|s| {
            s.call(&["SENTINEL", "CKQUORUM", GROUP]).text().starts_with("OK 3")
                && s.replica(replica.port).is_some_and(|r| r.field("flags") == Some("slave".into()))
        })
    });
    let began = Instant::now();
    for node in [&master, &replica] {
        node.call(&["ACL", "SETUSER", "watch", ">new-one"]);
    }
    for sentinel in &sentinels {
        let set = sentinel.call(&["SENTINEL", "SET", GROUP, "auth-pass", "new-one"]);
        assert_eq!(set.text(), "OK");
    }
    for node in [&master, &replica] {
        node.call(&["ACL", "SETUSER", "watch", "<old-one"]);
    }
    holds_for(Duration::from_secs(4), "nobody is called down, nobody complains", || {
        ["+sdown", "+odown", "+config-error", "+reboot"]
            .iter()
            .all(|event| events.since(began, event).is_empty())
    });
    // And what was changed is what is used.
    master.kill9();
    wait_until(30, "the replica is promoted", || {
        sentinels.iter().all(|s| s.master_port() == Some(replica.port))
            && replica.replication("role").as_deref() == Some("master")
    });
}

#[test]
fn a_master_in_protected_mode_is_not_down() {
    let _slot = slots::one();
    let mut master = Node::start(Nodes::Redis, &["protected-mode no"]);
    let replica = Node::replica_of(Nodes::Redis, master.port, &["protected-mode no"]);
    let watch = Watch { down_after_ms: 500, ..Watch::of(master.port) };
    // Only who comes from 127.0.0.1 is at home for Redis.
    let from_elsewhere = ["bind-source-addr 127.0.0.2\nbind 127.0.0.1 127.0.0.2".to_owned()];
    let (sentinels, events) = three(&watch, &from_elsewhere, &replica);
    let began = Instant::now();
    master.call(&["CONFIG", "SET", "protected-mode", "yes"]);
    master.call(&["CLIENT", "KILL", "TYPE", "normal"]);
    master.call(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait_until(20, "it is named", || {
        sentinels.iter().all(|s| errors(s).is_some_and(|why| why.contains("PING DENIED")))
    });
    holds_for(Duration::from_secs(8), "and is not called down", || {
        events.since(began, "+sdown").is_empty() && events.since(began, "+odown").is_empty()
    });
    assert!(replica.follows(master.port));
    // Its death is another matter.
    master.kill9();
    wait_until(30, "the replica is promoted", || {
        sentinels.iter().all(|s| s.master_port() == Some(replica.port))
            && replica.replication("role").as_deref() == Some("master")
    });
}

/// As many clients as its `maxclients` allows: whoever comes anew is turned away.
#[test]
fn a_master_that_takes_no_more_clients_is_not_down() {
    let _slot = slots::one();
    let mut master = Node::start(Nodes::Redis, &[]);
    let replica = Node::replica_of(Nodes::Redis, master.port, &[]);
    let watch = Watch { down_after_ms: 500, ..Watch::of(master.port) };
    let (sentinels, events) = three(&watch, &[], &replica);
    let began = Instant::now();
    let mut client = master.client();
    for words in [
        &["CONFIG", "SET", "maxclients", "1"][..],
        &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
        &["CLIENT", "KILL", "TYPE", "pubsub"],
    ] {
        client.call(words).expect("it answers");
    }
    wait_until(20, "it is named", || {
        sentinels.iter().all(|s| errors(s).is_some_and(|why| why.contains("PING maxclients")))
    });
    holds_for(Duration::from_secs(8), "and is not called down", || {
        events.since(began, "+sdown").is_empty() && events.since(began, "+odown").is_empty()
    });
    assert_eq!(client.call(&["SET", "key", "value"]).expect("it answers").text(), "OK");
    // Its death is another matter.
    master.kill9();
    wait_until(30, "the replica is promoted", || {
        sentinels.iter().all(|s| s.master_port() == Some(replica.port))
            && replica.replication("role").as_deref() == Some("master")
    });
}

#[test]
fn a_newcomer_without_a_right_to_the_channel_demotes_nobody() {
    let _slot = slots::one();
    let deaf = user("deaf", &ALL_RIGHTS.replace("allchannels", "resetchannels"));
    let mut master = Node::start(Nodes::Redis, &[&deaf]);
    let replica = Node::replica_of(Nodes::Redis, master.port, &[&deaf]);
    let watch = Watch::of(master.port);
    let sentinels: Vec<Sentinel> = (0..3).map(|_| sentinel(&watch, &[])).collect();
    let newcomer = sentinel(&watch, &logs_in("deaf"));
    wait_until(30, "all know the replica, and one may not listen", || {
        replica.follows(master.port)
            && sentinels.iter().all(|s| {
                s.call(&["SENTINEL", "CKQUORUM", GROUP]).text().starts_with("OK 3")
                    && s.master("num-slaves").as_deref() == Some("1")
            })
            && newcomer.master("num-slaves").as_deref() == Some("1")
            && errors(&newcomer).is_some_and(|why| why.contains("SUBSCRIBE NOPERM"))
    });
    master.kill9();
    wait_until(30, "the replica is promoted", || {
        sentinels.iter().all(|s| s.master_port() == Some(replica.port))
            && replica.replication("role").as_deref() == Some("master")
    });
    master.restart();
    holds_for(Duration::from_secs(12), "the new master stays one", || {
        replica.replication("role").as_deref() == Some("master")
    });
    wait_until(20, "the old one is its replica", || master.follows(replica.port));
    assert_eq!(newcomer.master_port(), Some(master.port), "of which the newcomer knows nothing");
    let said = newcomer.call(&["SENTINEL", "CKQUORUM", GROUP]).text();
    assert!(said.contains("takes no part in elections yet"), "{said}");
}
