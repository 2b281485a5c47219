//! A node of another group is adopted at a reused address:
//! <https://github.com/redis/redis/issues/2335>, and with its data promoted:
//! <https://github.com/redis/redis/issues/14313>.
//!
//! What was seen: containers get each other's addresses. Where a sentinel knew a replica of one
//! group there is now a replica of another; it is made a replica of the first group's master, and
//! its data are thrown away.
//!
//! Why: for Redis a replica is an address. One that follows another master than ours is put right
//! after `failover-timeout`, whoever it is.
//!
//! Ours: a node that follows a master which is none of this group is not ours to put right.

use watchfire::sim::{FaultKind, Outcome, Plan, Shape};

use crate::hall::{Kind, fault, lines, plan, sweep};

const SEEDS: u64 = 10;

fn shape() -> Shape {
    Shape { groups: 2, faults_ms: 40_000, ..Shape::default() }
}

/// A replica of the first group and one of the second get each other's address.
fn story(kind: Kind, seed: u64) -> Plan {
    plan(kind, seed, &shape(), vec![fault(20_000, 2_000, FaultKind::Swap(1, 4))])
}

/// A node follows the master of the other group.
fn shows_adoption(outcome: &Outcome) -> bool {
    [("node 1", 3), ("node 4", 0)].into_iter().any(|(node, foreign)| {
        let follows = format!("follows {} now", shape().node_address(foreign));
        lines(outcome, node, &follows).next().is_some()
    })
}

#[test]
fn a_node_of_another_group_is_adopted() {
    let stock = sweep(0..SEEDS, |seed| story(Kind::Stock, seed), shows_adoption);
    let ours = sweep(0..SEEDS, |seed| story(Kind::Ours, seed), shows_adoption);
    println!("wrong group adopted: stock in {} of {SEEDS}, ours in {}", stock.len(), ours.len());
    assert_eq!(stock.len() as u64, SEEDS);
    assert!(ours.is_empty(), "{ours:?}");
}
