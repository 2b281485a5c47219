//! Too few sentinels: nothing happens, the survivor says why, and help that returns is enough.

use std::time::{Duration, Instant};

use crate::support::group::Plan;
use crate::support::node::Nodes;
use crate::support::sentinel::{GROUP, Program};
use crate::support::wait::{holds_for, wait_until};

over_both_nodes!(one_of_three_sentinels_does_nothing_until_another_returns);

fn one_of_three_sentinels_does_nothing_until_another_returns(nodes: Nodes) {
    let mut group = Plan::over(nodes).start();
    let old = group.watch.master;
    let alone = Instant::now();
    group.sentinels[1].kill9();
    group.sentinels[2].kill9();
    let ckquorum = ["SENTINEL", "CKQUORUM", GROUP];
    wait_until(10, "CKQUORUM says that a failover is out of reach", || {
        let said = group.sentinels[0].call(&ckquorum);
        said.is_error() && said.text().starts_with("NOQUORUM 1 usable Sentinels.")
    });

    group.node(old).kill9();
    group.events.wait(alone, 10, "+sdown", "master ");
    holds_for(Duration::from_secs(4), "the survivor changes nothing", || {
        group.sentinels[0].master_port() == Some(old)
    });
    for event in ["+odown", "+elected-leader", "+switch-master"] {
        let heard = group.events.since(alone, event);
        assert!(heard.is_empty(), "one sentinel of three may not: {heard:?}");
    }
    if Program::under_test() == Program::Watchfire {
        let log = group.sentinels[0].process().log().to_lowercase();
        assert!(log.contains("quorum"), "the survivor's log says what is missing:\n{log}");
    }

    group.sentinels[1].restart();
    let new = group.wait_for_new_master(old, 40);
    let left = group.ports_but(new).into_iter().find(|p| *p != old).expect("a second replica");
    group.wait_until_they_follow(new, &[left], 30);
    // The failover may be over before the survivor's own ping says that the other is back.
    wait_until(10, "CKQUORUM says that two of three are enough", || {
        !group.sentinels[0].call(&ckquorum).is_error()
    });
}
