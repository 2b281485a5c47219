//! Watchfire and Redis's own sentinel side by side find each other and fail over together.

use std::time::Instant;

use crate::support::group::Plan;
use crate::support::node::Nodes;
use crate::support::sentinel::Program;

over_both_nodes!(two_of_ours_and_one_of_redis, one_of_ours_and_two_of_redis);

fn two_of_ours_and_one_of_redis(nodes: Nodes) {
    fail_over_together(nodes, &[Program::Watchfire, Program::Watchfire, Program::Redis]);
}

fn one_of_ours_and_two_of_redis(nodes: Nodes) {
    fail_over_together(nodes, &[Program::Watchfire, Program::Redis, Program::Redis]);
}

fn fail_over_together(nodes: Nodes, programs: &[Program]) {
    // Redis's sentinel reconnects no sooner than 1 s after a switch, so a shorter time lets it see
    // the new master down at once.
    let mut group = Plan::over(nodes).sentinels(programs).down_after_ms(2_500).start();
    let (killed, old) = (Instant::now(), group.watch.master);
    group.node(old).kill9();
    let new = group.wait_for_new_master(old, 40);
    let switch = format!("mymaster 127.0.0.1 {old} 127.0.0.1 {new}");
    for (sentinel, program) in group.sentinel_ports().into_iter().zip(programs) {
        let what = format!("{program:?} announces the switch");
        crate::support::wait::wait_until(20, &what, || {
            let heard = group.events.since(killed, "+switch-master");
            heard.iter().any(|h| h.by == sentinel && h.text == switch)
        });
    }
    group.node(old).restart();
    group.wait_until_they_follow(new, &group.ports_but(new), 30);
    group.wait_until_known();
    assert_eq!(group.agreed_master(), Some(new));
}
