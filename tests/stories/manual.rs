//! Failovers on request, and whom a failover chooses.

use std::time::{Duration, Instant};

use crate::support::client::Reply;
use crate::support::group::{Group, Plan};
use crate::support::node::Nodes;
use crate::support::sentinel::{GROUP, Program};
use crate::support::wait::wait_until;
use crate::support::writer::{Writer, missing};

over_both_nodes!(
    a_requested_failover_turns_the_chain,
    planned_failovers_lose_no_acknowledged_write,
    priorities_decide,
    the_replica_with_most_data_is_chosen,
);

const FAILOVER: [&str; 3] = ["SENTINEL", "FAILOVER", GROUP];

fn a_requested_failover_turns_the_chain(nodes: Nodes) {
    let mut group = Plan::over(nodes).start();
    let old = group.watch.master;
    let ok = Reply::Simple("OK".into());
    assert_eq!(group.sentinels[0].call(&FAILOVER), ok);
    let again = group.sentinels[0].call(&FAILOVER).text();
    assert_eq!(again, "INPROG Failover already in progress");

    let new = group.wait_for_new_master(old, 30);
    group.wait_until_they_follow(new, &group.ports_but(new), 30);
    assert_roles(&mut group, new);

    let unknown = group.sentinels[0].call(&["SENTINEL", "FAILOVER", "nobody"]);
    assert_eq!(unknown, Reply::Error("ERR No such master with that name".into()));
}

/// ROLE of every node: one master that lists all others, and replicas connected to it.
fn assert_roles(group: &mut Group, master: u16) {
    let others = group.ports_but(master);
    wait_until(10, "ROLE of the master lists every replica", || {
        let role = group.node(master).call(&["ROLE"]);
        let listed = role.items().get(2).map_or(0, |replicas| replicas.items().len());
        role.items()[0].text() == "master" && listed == others.len()
    });
    for port in others {
        let role = group.node(port).call(&["ROLE"]);
        let told: Vec<String> = role.items().iter().map(Reply::text).collect();
        assert_eq!(told[..2], ["slave", "127.0.0.1"]);
        assert_eq!(role.items()[2], Reply::Integer(master.into()));
        assert_eq!(told[3], "connected");
    }
}

fn planned_failovers_lose_no_acknowledged_write(nodes: Nodes) {
    const STICKY_FROM: u64 = 1_000_000;
    let mut group = Plan::over(nodes).sentinels(&[Program::Watchfire; 3]).start();
    let followers = Writer::start(&group.sentinel_ports());
    let mut sticky = Vec::new();
    for turn in 0..6 {
        let old = group.agreed_master().expect("all name the same");
        // It stays with this node, whatever that becomes.
        sticky.push(Writer::through(old, STICKY_FROM * (turn + 1)));
        followers.wait_for_more(100);
        let began = Instant::now();
        let order = [&FAILOVER[..], &["COORDINATED"][..turn as usize % 2]].concat();
        let sentinel = &group.sentinels[turn as usize % 3];
        assert_eq!(sentinel.call(&order), Reply::Simple("OK".into()));
        let new = group.wait_for_new_master(old, 30);
        group.wait_until_they_follow(new, &group.ports_but(new), 30);
        followers.first_elsewhere(old, began, 20);
    }
    let master = group.agreed_master().expect("all name the same");
    for writer in sticky.into_iter().chain([followers]) {
        let writes = writer.stop();
        assert!(writes.len() > 50, "{}", writes.len());
        assert_eq!(missing(master, &writes), Vec::<u64>::new(), "acknowledged and lost");
    }
    for sentinel in &mut group.sentinels {
        assert!(!sentinel.process().log().contains("No hand-over"), "the master held its writes");
    }
}

fn priorities_decide(nodes: Nodes) {
    // Priority 0 is never chosen; of the others the lower number wins.
    let lines: &[&[&'static str]] =
        &[&["replica-priority 0"], &["replica-priority 80"], &["replica-priority 20"]];
    let mut group = Plan::over(nodes).replicas(lines).start();
    let [old, never, second, first] = [0, 1, 2, 3].map(|at| group.nodes[at].port);
    group.node(old).kill9();
    assert_eq!(group.wait_for_new_master(old, 30), first);
    group.wait_until_they_follow(first, &[never, second], 30);
    group.node(first).kill9();
    assert_eq!(group.wait_for_new_master(first, 40), second);
    group.wait_until_they_follow(second, &[never], 30);

    // Only priority 0 is left beside the dead ones.
    for sentinel in &group.sentinels {
        wait_until(15, "the dead nodes are seen as down", || {
            [old, first].iter().all(|port| {
                let flags = sentinel.replica(*port).and_then(|r| r.field("flags"));
                flags.is_some_and(|flags| flags.contains("s_down"))
            })
        });
        let said = sentinel.call(&FAILOVER).text();
        assert_eq!(said, "NOGOODSLAVE No suitable replica to promote");
    }
}

fn the_replica_with_most_data_is_chosen(nodes: Nodes) {
    let mut group = Plan::over(nodes).start();
    let [old, behind, ahead] = [0, 1, 2].map(|at| group.nodes[at].port);
    // One replica sleeps through the last writes, but too shortly to be called down. They are more
    // than the sockets between the two can hold, so it cannot catch up from those.
    group.node(behind).process().freeze();
    let mut master = group.node(old).client();
    let value = "x".repeat(1_000_000);
    for n in 0..40 {
        master.send(&["SET", &format!("big:{n}"), &value]).expect("the master reads");
    }
    for _ in 0..40 {
        assert_eq!(master.receive().expect("the master answers").text(), "OK");
    }
    wait_until(5, "the other replica has everything", || {
        let offset = group.node(old).replication("master_repl_offset");
        group.node(ahead).replication("slave_repl_offset") == offset
    });
    group.node(old).kill9();
    group.node(behind).process().thaw();
    wait_until(5, "the sleeper answers again", || group.node(behind).replication("role").is_some());

    assert_eq!(group.wait_for_new_master(old, 30), ahead);
    group.wait_until_they_follow(ahead, &[behind], 30);
    let mut follower = group.node(behind).client();
    assert_eq!(follower.call(&["EXISTS", "big:39"]).ok(), Some(Reply::Integer(1)));
    assert!(!follower.is_readable(Duration::from_millis(1)).expect("connected"), "one reply only");
}
