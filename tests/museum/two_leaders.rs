//! Two leaders in adjacent epochs fail over the same master at once:
//! <https://github.com/redis/redis/pull/2370>, open since 2015.
//!
//! What was seen: one sentinel is elected in epoch 1 and promotes a replica; another, which sees
//! the master down a little later, knows that epoch but has not voted in it. It takes epoch 2,
//! gets the votes of the very same voters, and promotes a replica, too, maybe another one.
//!
//! Why: in Redis a vote binds for its epoch only, and the next epoch is free at once. Nothing
//! gives the first leader the time to act.
//!
//! Ours: a vote binds its voter for the leader's tenure, and the leader promotes within that time
//! or not at all.

use watchfire::sim::{Data, FaultKind, Ms, Order, Outcome, Plan, Proc, Shape};

use crate::hall::{Kind, draw, fault, lines, plan, sweep};

const SEEDS: u64 = 60;
/// How long a vote of ours binds, in ms.
const TENURE_MS: Ms = 5_000;

/// The master dies; sentinel 1 notices it later than the others, and is badly connected with
/// sentinel 0. The replicas are busy, so that a promotion takes its time.
fn story(kind: Kind, seed: u64) -> Plan {
    let shape = Shape { faults_ms: 25_000, ..Shape::default() };
    let machine = |n| shape.machine_of(Proc::Sentinel(n));
    let later = Order::Set(0, "down-after-milliseconds", 1_050 + draw(seed, 1, 1_300));
    let slow = FaultKind::Slow(machine(0), machine(1), 1_000 + draw(seed, 2, 2_000));
    let mut faults = vec![
        fault(15_000, 20_000, FaultKind::Order(1, later)),
        fault(19_000, 15_000, slow),
        fault(20_000 + draw(seed, 3, 2_000), 15_000, FaultKind::CrashNode(0, Data::Same, false)),
    ];
    faults.extend([1, 2].map(|n| fault(19_000, 15_000, FaultKind::SlowNode(n, 900))));
    plan(kind, seed, &shape, faults)
}

/// Two sentinels are elected to fail over the same master within one tenure, and the first of them
/// has not said meanwhile that it gives up.
fn shows_two_leaders(outcome: &Outcome) -> bool {
    let elected: Vec<_> = lines(outcome, "sentinel", "+elected-leader").collect();
    let gave_up: Vec<_> = lines(outcome, "sentinel", "\"I gave up epoch").collect();
    elected.windows(2).any(|two| {
        let between = two[0].at_ms..=two[1].at_ms;
        let gave_up = gave_up.iter().any(|l| l.who == two[0].who && between.contains(&l.at_ms));
        !gave_up
            && two[0].who != two[1].who
            && two[0].what == two[1].what
            && two[1].at_ms - two[0].at_ms < TENURE_MS
    })
}

#[test]
fn two_leaders_act_at_once() {
    let stock = sweep(0..SEEDS, |seed| story(Kind::Stock, seed), shows_two_leaders);
    let ours = sweep(0..SEEDS, |seed| story(Kind::Ours, seed), shows_two_leaders);
    println!("two leaders at once: stock in {} of {SEEDS}, ours in {}", stock.len(), ours.len());
    assert!(!stock.is_empty());
    assert!(ours.is_empty(), "{ours:?}");
}
