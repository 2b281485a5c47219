//! Nodes that know their master by another address than the sentinels do: a name, an alias, an
//! address inside. They are the group's all the same.

use std::time::Instant;

use crate::support::events::Recorder;
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::wait_until;

over_both_nodes!(a_replica_that_follows_a_name_is_promoted);

fn a_replica_that_follows_a_name_is_promoted(nodes: Nodes) {
    let _slot = slots::one();
    let mut master = Node::start(nodes, &[]);
    // The sentinels know the master as 127.0.0.1.
    let follow = format!("replicaof localhost {}", master.port);
    let replicas = [Node::start(nodes, &[&follow]), Node::start(nodes, &[&follow])];
    wait_until(20, "the replicas follow", || replicas.iter().all(|r| r.follows(master.port)));
    let watch = Watch::of(master.port);
    let start = |_| Sentinel::start(Program::under_test(), Syntax::Conf, &watch);
    let mut sentinels: Vec<Sentinel> = (0..3).map(start).collect();
    let ports: Vec<u16> = sentinels.iter().map(|sentinel| sentinel.port).collect();
    let events = Recorder::start(&ports);
    wait_until(30, "all see the replicas, and each other", || {
        sentinels.iter().all(|s| {
            s.master("num-other-sentinels").as_deref() == Some("2")
                && replicas.iter().all(|replica| {
                    let entry = s.replica(replica.port);
                    entry
                        .is_some_and(|entry| entry.field("master-link-status") == Some("ok".into()))
                })
        })
    });
    let (old, killed) = (master.port, Instant::now());
    master.kill9();
    wait_until(20, "one of them is the master, and the other follows it", || {
        let new = sentinels[0].master_port().filter(|port| *port != old);
        new.is_some_and(|new| {
            sentinels.iter().all(|s| s.master_port() == Some(new))
                && replicas.iter().all(|replica| replica.port == new || replica.follows(new))
        })
    });
    assert!(events.since(killed, "-failover-abort-no-good-slave").is_empty());
    let log = sentinels[0].process().log();
    assert!(!log.contains("left alone"), "{log}");
}
