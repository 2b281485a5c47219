//! A replica with fewer data is promoted: <https://github.com/redis/redis/issues/13483>.
//!
//! What was seen: `SENTINEL FAILOVER` chose the replica with the smaller offset; the others, and
//! the old master, had to copy everything from it, and clients got NOREPLICAS for three minutes.
//!
//! Why: the choice looks at the last INFO of each replica. It is asked for again when a failover
//! begins, but nobody waits for the answer: of a replica that is busy for a moment it may be 10 s
//! old, and who was asked later seems to hold more. And `replica-priority` comes first, so that a
//! preferred replica wins even if it lost its master long ago.
//!
//! Ours: the leader asks all candidates afresh and waits for them before it chooses, for 1 s while
//! the master lives and 200 ms if it does not. `replica-priority` still comes
//! before the offset, but only among replicas that kept their link to the master for as long as
//! there was a master.

use std::collections::BTreeMap;

use watchfire::sim::{Data, FaultKind, Order, Outcome, Plan, Proc, Shape};

use crate::hall::{Kind, draw, fault, lines, plan, sweep};

const SEEDS: u64 = 40;
/// The replica that falls behind.
const STALE: usize = 1;

fn shape() -> Shape {
    Shape { faults_ms: 25_000, ..Shape::default() }
}

/// Replica 1 loses its master.
fn falls_behind(at: u64) -> Vec<watchfire::sim::Fault> {
    vec![
        fault(at, 20_000, FaultKind::Unlinked(STALE)),
        fault(at, 0, FaultKind::Cut(Proc::Node(0), Proc::Node(STALE))),
    ]
}

fn chooses_stale(outcome: &Outcome) -> bool {
    let stale = format!("+selected-slave slave {} ", shape().node_address(STALE));
    lines(outcome, "sentinel", &stale).next().is_some()
}

#[test]
fn an_old_info_decides_a_failover_by_hand() {
    let story = |kind, seed| -> Plan {
        // INFO is asked for every 10 s, and last was at 20 s.
        let mut faults = falls_behind(25_000);
        let by_hand = FaultKind::Order(0, Order::Failover(0));
        faults.push(fault(26_500 + draw(seed, 1, 3_000), 0, by_hand));
        faults.push(fault(26_000, 10_000, FaultKind::SlowNode(2, 500)));
        plan(kind, seed, &shape(), faults)
    };
    let stock = sweep(0..SEEDS, |seed| story(Kind::Stock, seed), chooses_stale);
    let ours = sweep(0..SEEDS, |seed| story(Kind::Ours, seed), chooses_stale);
    println!("old INFO decides: stock in {} of {SEEDS}, ours in {}", stock.len(), ours.len());
    assert!(!stock.is_empty());
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn priority_prefers_a_replica_that_lost_its_master_before() {
    let story = |kind, seed| -> Plan {
        let mut faults = falls_behind(20_000);
        let dies_at = 25_000 + draw(seed, 1, 1_500);
        faults.push(fault(dies_at, 10_000, FaultKind::CrashNode(0, Data::Same, false)));
        let shape = Shape { priorities: BTreeMap::from([(STALE, 1)]), ..shape() };
        plan(kind, seed, &shape, faults)
    };
    let stock = sweep(0..8, |seed| story(Kind::Stock, seed), chooses_stale);
    let ours = sweep(0..8, |seed| story(Kind::Ours, seed), chooses_stale);
    println!("priority first: stock in {} of 8, ours in {}", stock.len(), ours.len());
    assert_eq!(stock.len(), 8);
    assert!(ours.is_empty(), "{ours:?}");
}
