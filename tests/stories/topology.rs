//! Groups change while they are watched: replicas come and go, groups are added, set, reset and
//! removed by SENTINEL commands, and all of that outlives a restart.

use std::time::Instant;

use crate::support::client::Reply;
use crate::support::group::Plan;
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::wait_until;

over_both_nodes!(a_replica_disappears_and_another_appears);

fn a_replica_disappears_and_another_appears(nodes: Nodes) {
    let mut group = Plan::over(nodes).start();
    let (master, lost) = (group.watch.master, group.nodes[1].port);
    let began = Instant::now();
    group.node(lost).kill9();
    let details = format!("slave 127.0.0.1:{lost} 127.0.0.1 {lost} @ {GROUP} 127.0.0.1 {master}");
    assert_eq!(group.events.wait(began, 10, "+sdown", "slave ").text, details);
    let flags = |s: &Sentinel| s.replica(lost).and_then(|r| r.field("flags"));
    wait_until(10, "every sentinel sees the replica down", || {
        group.sentinels.iter().all(|s| flags(s).is_some_and(|f| f.starts_with("s_down,slave")))
    });

    let added = Node::replica_of(nodes, master, &[]);
    let name = format!("slave 127.0.0.1:{}", added.port);
    group.events.wait(began, 20, "+slave", &name);
    group.nodes.push(added);

    group.node(lost).restart();
    assert_eq!(group.events.wait(began, 15, "-sdown", "slave ").text, details);
    group.wait_until_known();
    assert_eq!(group.agreed_master(), Some(master));
}

#[test]
fn two_names_for_the_same_nodes_end_with_one_master() {
    let _slot = slots::one();
    let mut master = Node::start(Nodes::Redis, &[]);
    let replicas = [(); 2].map(|()| Node::replica_of(Nodes::Redis, master.port, &[]));
    let names = [GROUP, "again"];
    let config = |port: u16, dir: &std::path::Path| {
        let group = |name: &str| {
            format!(
                "sentinel monitor {name} 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds {name} 1000\n",
                master.port
            )
        };
        let groups: String = names.iter().map(|name| group(name)).collect();
        format!("port {port}\nbind 127.0.0.1\ndir {}\n{groups}", dir.display())
    };
    let start = |()| Sentinel::start_with(Program::under_test(), "sentinel.conf", config);
    let sentinels = [(); 3].map(start);
    let knows = |s: &Sentinel, name: &str, field: &str| {
        s.call(&["SENTINEL", "MASTER", name]).field(field).unwrap_or_default()
    };
    wait_until(40, "all know all", || {
        sentinels.iter().all(|s| {
            names.iter().all(|name| {
                knows(s, name, "num-slaves") == "2" && knows(s, name, "num-other-sentinels") == "2"
            })
        })
    });
    wait_until(20, "both follow", || replicas.iter().all(|of| of.follows(master.port)));
    master.kill9();
    wait_until(30, "both names mean one replica, which the other one follows", || {
        let named: Vec<String> =
            sentinels.iter().flat_map(|s| names.map(|name| knows(s, name, "port"))).collect();
        let [a, b] = &replicas;
        [(a, b), (b, a)].into_iter().any(|(new, other)| {
            named.iter().all(|port| *port == new.port.to_string()) && other.follows(new.port)
        })
    });
}

#[test]
fn groups_added_and_changed_at_run_time_survive_a_restart_conf() {
    run_time_changes_survive(Syntax::Conf);
}

#[test]
fn groups_added_and_changed_at_run_time_survive_a_restart_yaml() {
    if Program::under_test() == Program::Watchfire {
        run_time_changes_survive(Syntax::Yaml);
    }
}

fn run_time_changes_survive(syntax: Syntax) {
    let _slot = slots::one();
    let [first, second] = [(); 2].map(|()| Node::start(Nodes::Redis, &[]));
    let mut sentinel = Sentinel::start(Program::under_test(), syntax, &Watch::of(first.port));
    let port = second.port.to_string();
    let ok = Reply::Simple("OK".into());
    let do_it = |sentinel: &Sentinel, words: &[&str]| {
        assert_eq!(sentinel.call(&[&["SENTINEL"], words].concat()), ok, "{words:?}");
    };
    do_it(&sentinel, &["MONITOR", "added", "127.0.0.1", &port, "3"]);
    do_it(&sentinel, &["SET", "added", "down-after-milliseconds", "4321", "quorum", "2"]);
    do_it(&sentinel, &["SET", GROUP, "parallel-syncs", "7"]);
    let twice = sentinel.call(&["SENTINEL", "MONITOR", "added", "127.0.0.1", &port, "3"]);
    assert_eq!(twice.text(), "ERR Duplicate master name.");
    let id = sentinel.id();

    sentinel.kill9();
    sentinel.restart();
    assert_eq!(sentinel.id(), id);
    let added = sentinel.call(&["SENTINEL", "MASTER", "added"]);
    let known = |field: &str| added.field(field).unwrap_or_default();
    assert_eq!(
        [known("port"), known("quorum"), known("down-after-milliseconds")],
        [port.as_str(), "2", "4321"]
    );
    assert_eq!(sentinel.master("parallel-syncs").as_deref(), Some("7"));

    do_it(&sentinel, &["REMOVE", GROUP]);
    sentinel.kill9();
    sentinel.restart();
    assert_eq!(sentinel.master_port(), None, "a removed group stays removed");
    let masters = sentinel.call(&["SENTINEL", "MASTERS"]);
    assert_eq!(masters.items().len(), 1, "{masters}");
}

/// Unlike in Redis who lives is not forgotten for a while, so nobody is found again.
#[test]
fn reset_forgets_who_is_gone_and_nobody_else() {
    let mut group = Plan::over(Nodes::Redis).start();
    let (master, lost, left) = (group.watch.master, group.nodes[1].port, group.nodes[2].port);
    let killed = Instant::now();
    group.node(lost).kill9();
    group.events.wait(killed, 20, "+sdown", "slave ");
    let began = Instant::now();
    let sentinel = &group.sentinels[0];
    assert_eq!(sentinel.call(&["SENTINEL", "RESET", "no-such-*"]), Reply::Integer(0));
    assert_eq!(sentinel.call(&["SENTINEL", "RESET", "my*"]), Reply::Integer(1));
    let heard = group.events.wait(began, 5, "+reset-master", "");
    assert_eq!(heard.text, format!("master {GROUP} 127.0.0.1 {master}"));
    wait_until(20, "the replica that is gone is forgotten", || sentinel.replica(lost).is_none());
    assert!(sentinel.replica(left).is_some());
    assert_eq!(sentinel.master("num-other-sentinels").as_deref(), Some("2"));
    for event in ["+sentinel", "+slave"] {
        let found = group.events.since(began, event);
        assert!(found.iter().all(|heard| heard.by != sentinel.port), "{event}: {found:?}");
    }
}
