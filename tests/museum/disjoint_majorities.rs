//! Disjoint majorities while sentinels are added: <https://github.com/redis/redis/issues/6459>.
//!
//! What was asked there: A, B and C watch a master, D and E are added. A knows them already, B and
//! C do not yet. The master dies: A is elected by D and E, a majority of five; B by C, a majority
//! of three. Can that be? Nobody answered. It can.
//!
//! Why: each sentinel counts the majority of those that it has met, and a sentinel that has just
//! begun votes at once for whoever asks.
//!
//! Ours: a sentinel that knows no peers of a group listens first, for longer than the pause
//! between two hellos, and takes no part in elections before. By then it has met whoever can be
//! met, and told them of itself, so that all count it.

use watchfire::sim::{Data, FaultKind, Outcome, Plan, Proc, Shape};

use crate::hall::{Kind, draw, fault, plan, sweep, wins};

const SEEDS: u64 = 60;

/// Two sentinels join, and the master dies before all have met. Sentinels 1 and 2 miss the first
/// hellos of the new ones, because their connections to the nodes broke; they are far from them and
/// from sentinel 0.
fn story(kind: Kind, seed: u64) -> Plan {
    let shape = Shape {
        sentinels: 5,
        late: vec![3, 4],
        down_after_ms: 500,
        backoff_ms: (1_000, 2_000),
        faults_ms: 14_000,
        ..Shape::default()
    };
    let join_at = 20_000;
    // Stock sentinels say their first hello 2 s after they joined, ours at once.
    let hello_at = join_at + if seed.is_multiple_of(2) { 2_000 } else { 0 };
    let cut_at = hello_at - 450 + draw(seed, 1, 450);
    let dies_at = hello_at - 200 + draw(seed, 2, 800);
    let machine = |n| shape.machine_of(Proc::Sentinel(n));
    let mut faults = vec![
        fault(join_at, 0, FaultKind::Join(3)),
        fault(join_at, 0, FaultKind::Join(4)),
        fault(dies_at, 15_000, FaultKind::CrashNode(0, Data::Same, false)),
    ];
    for n in [1, 2] {
        for (other, ms) in [(0, 1_500), (3, 4_000), (4, 4_000)] {
            let slow = FaultKind::Slow(machine(n), machine(other), ms);
            faults.push(fault(19_000, 10_000, slow));
        }
        for node in shape.nodes_of(0) {
            faults.push(fault(cut_at, 0, FaultKind::Cut(Proc::Sentinel(n), Proc::Node(node))));
        }
    }
    plan(kind, seed, &shape, faults)
}

/// Two sentinels are elected in one epoch.
fn shows_two_majorities(outcome: &Outcome) -> bool {
    let wins = wins(outcome);
    wins.iter().any(|a| wins.iter().any(|b| a.epoch == b.epoch && a.who != b.who))
}

#[test]
fn two_are_elected_in_one_epoch() {
    let stock = sweep(0..SEEDS, |seed| story(Kind::Stock, seed), shows_two_majorities);
    let ours = sweep(0..SEEDS, |seed| story(Kind::Ours, seed), shows_two_majorities);
    println!("disjoint majorities: stock in {} of {SEEDS}, ours in {}", stock.len(), ours.len());
    assert!(!stock.is_empty());
    assert!(ours.is_empty(), "{ours:?}");
}
