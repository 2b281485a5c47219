//! An observer undoes a promotion: <https://github.com/redis/redis/issues/1445>.
//!
//! What was seen: the leader promotes a replica; before it tells anybody, another sentinel finds
//! a master where a replica should be and sends it back to the old one. The leader gives up with
//! `-failover-abort-slave-timeout`.
//!
//! Why: the leader learns of the promotion with an INFO that it sends once a second (at the time
//! of the issue once in ten), and tells nobody before. If it is held up within that second, the
//! others know of no election that could explain a second master. Redis has since made them wait
//! for 8 s, which helps unless the leader is held up for longer.
//!
//! Ours: INFO goes with the promotion in one pipeline and is repeated every 50 ms, so that the
//! others know the new master some milliseconds after the promotion. A leader that is held up
//! even so, for longer than its votes bind, does not announce what may have been undone since.

use watchfire::sim::{FaultKind, Order, Outcome, Plan, Proc, Shape};

use crate::hall::{Kind, draw, fault, first, lines, live, plan, sweep};

const SEEDS: u64 = 40;

/// An operator asks sentinel 0 for a failover, and it is held up a moment later.
fn story(kind: Kind, seed: u64, held_up_at: u64) -> Plan {
    let shape = Shape { faults_ms: 40_000, ..Shape::default() };
    let faults = vec![
        fault(20_000, 0, FaultKind::Order(0, Order::Failover(0))),
        fault(held_up_at, 20_000, FaultKind::Freeze(Proc::Sentinel(0))),
    ];
    plan(kind, seed, &shape, faults)
}

/// An observer sends the promoted replica back.
fn shows_undone_promotion(outcome: &Outcome) -> bool {
    let Some(promotion) = first(outcome, "sentinel 0", "sends SLAVEOF NO ONE to ") else {
        return false;
    };
    let promoted = promotion.what.rsplit(' ').next().expect("an address");
    let undone = format!("+convert-to-slave slave {promoted} ");
    lines(outcome, "sentinel", &undone).any(|line| line.who != "sentinel 0")
}

#[test]
fn an_observer_undoes_a_promotion() {
    let at = |seed| 20_000 + draw(seed, 1, 1_500);
    let stock = |seed| story(Kind::Stock, seed, at(seed));
    let stock = sweep(0..SEEDS, stock, shows_undone_promotion);
    let ours = |seed| story(Kind::Ours, seed, at(seed));
    let ours = sweep(0..SEEDS, ours, shows_undone_promotion);
    println!("undone promotion: stock in {} of {SEEDS}, ours in {}", stock.len(), ours.len());
    assert!(!stock.is_empty());
    assert!(ours.len() <= 1, "only the moment of the next test is left: {ours:?}");
}

/// The few milliseconds that are left, hit on purpose: the promotion is undone, and nobody has ever
/// been told of it.
#[test]
fn a_leader_that_comes_too_late_does_not_announce_an_undone_promotion() {
    let free = live(&story(Kind::Ours, 1, 39_000));
    let promoted_at = first(&free, "sentinel 0", "sends SLAVEOF NO ONE").expect("a failover").at_ms;
    let outcome = live(&story(Kind::Ours, 1, promoted_at + 1));
    assert!(shows_undone_promotion(&outcome), "the moment is hit");
    let announced = lines(&outcome, "sentinel 0", "+promoted-slave").next();
    assert!(announced.is_none(), "{announced:?}");
    assert_eq!(outcome.groups[0].told, [Some(0); 3]);
}
