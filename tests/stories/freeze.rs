//! Processes that stop without dying (SIGSTOP): a frozen master is replaced and comes back as a
//! replica; a frozen sentinel does no harm when it wakes up with an old view of the world.

use std::time::{Duration, Instant};

use crate::support::group::Plan;
use crate::support::node::Nodes;
use crate::support::wait::holds_for;
use crate::support::writer::{Writer, missing};

over_both_nodes!(a_frozen_master_is_replaced_and_thaws);

fn a_frozen_master_is_replaced_and_thaws(nodes: Nodes) {
    let mut group = Plan::over(nodes).start();
    let writer = Writer::start(&group.sentinel_ports());
    writer.wait_for_more(100);
    let old = group.watch.master;
    group.node(old).process().freeze();
    let frozen = Instant::now();
    writer.first_elsewhere(old, frozen, 30);
    let new = group.wait_for_new_master(old, 30);

    group.node(old).process().thaw();
    group.wait_until_they_follow(new, &group.ports_but(new), 30);
    group.wait_until_known();
    let writes = writer.stop();
    // The signal takes a moment to arrive, and an answer to be read.
    let surely = frozen + Duration::from_millis(500);
    let after: Vec<_> = writes.iter().filter(|w| w.at > surely).copied().collect();
    assert!(after.iter().all(|w| w.by == new), "only the new master accepts writes");
    assert_eq!(missing(new, &after), Vec::<u64>::new());
}

#[test]
fn a_frozen_sentinel_fails_nobody_over_when_it_thaws() {
    let mut group = Plan::over(Nodes::Redis).start();
    let (began, master) = (Instant::now(), group.watch.master);
    let sleeper = group.sentinels[0].port;
    group.sentinels[0].process().freeze();
    group.events.wait(began, 10, "+sdown", "sentinel ");
    holds_for(Duration::from_secs(5), "the others stay with the master", || {
        group.sentinels[1..].iter().all(|s| s.master_port() == Some(master))
    });

    let thawed = Instant::now();
    group.sentinels[0].process().thaw();
    group.events.wait(thawed, 10, "-sdown", "sentinel ");
    holds_for(Duration::from_secs(3), "everybody stays with the master", || {
        group.sentinels.iter().all(|s| s.master_port() == Some(master))
    });
    for event in ["+odown", "+try-failover", "+switch-master", "+vote-for-leader"] {
        let heard = group.events.since(began, event);
        assert!(heard.is_empty(), "nothing happened, but {sleeper} thawed and: {heard:?}");
    }
    assert_eq!(group.sentinels[0].master("flags").as_deref(), Some("master"));
}
