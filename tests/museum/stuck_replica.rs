//! One replica that never follows delays the news, with `parallel-syncs 1`. (Read in the source of
//! Redis and Valkey, and seen.)
//!
//! Users saw clients hang for minutes after a failover that had long happened. The stock sentinel
//! that leads announces `+switch-master` only after all replicas follow, or after
//! `failover-timeout`, three minutes by default. With `parallel-syncs 1` a single replica that
//! never gets a link (a wrong `masterauth`, say) holds up all that come behind it.
//!
//! Ours announces the switch as soon as the promotion is durable: where the master is does not
//! depend on who follows it.

use watchfire::sim::{Data, FaultKind, Outcome, Shape};

use crate::hall::{Kind, fault, first, lines, live, unmended};

const DIES: u64 = 20_000;
const FAILOVER_TIMEOUT_MS: u64 = 60_000;

/// From the promotion to the leader's own news of it, in ms.
#[track_caller]
fn delay_ms(outcome: &Outcome) -> u64 {
    let promoted = first(outcome, "sentinel", "+promoted-slave").expect("a failover");
    let switch = first(outcome, &promoted.who, "+switch-master").expect("the leader tells of it");
    switch.at_ms - promoted.at_ms
}

#[test]
fn the_switch_is_announced_at_once() {
    let shape = Shape {
        nodes_per_group: 4,
        parallel_syncs: 1,
        failover_timeout_ms: FAILOVER_TIMEOUT_MS,
        priorities: [(3, 10)].into(),
        faults_ms: 107_000,
        ..Shape::default()
    };
    // Node 3 is promoted; node 1, the first in order, never gets a link to it.
    let faults = || {
        vec![
            fault(DIES, 200_000, FaultKind::CrashNode(0, Data::Same, false)),
            fault(DIES, 200_000, FaultKind::Unlinked(1)),
        ]
    };
    let stock = live(&unmended(Kind::Stock, 1, &shape, faults()));
    let stock_ms = delay_ms(&stock);
    assert!(stock_ms >= FAILOVER_TIMEOUT_MS, "{stock_ms}");
    assert!(first(&stock, "sentinel", "+failover-end-for-timeout").is_some());

    let ours = live(&unmended(Kind::Ours, 1, &shape, faults()));
    let ours_ms = delay_ms(&ours);
    println!(
        "from promotion to the leader's +switch-master: stock {stock_ms} ms, ours {ours_ms} ms"
    );
    assert!(ours_ms < 100, "{ours_ms}");
    let told: Vec<_> = lines(&ours, "sentinel", "+switch-master").collect();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|line| line.at_ms < DIES + 3_000), "{told:?}");
}
