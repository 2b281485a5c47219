//! Identities that do not count right: <https://github.com/redis/redis/issues/6194> (ids that are
//! gone still count), <https://github.com/redis/redis/issues/4652> (two sentinels share one id).
//!
//! What was seen: a container starts with a new id each time, the old ids stay, and after a few
//! restarts the sentinels that live are no majority of those that are known. Or a machine is
//! cloned together with the sentinel's file: two sentinels have one id, the log fills with
//! `+sentinel-address-switch`, and the vote for that id elects both.
//!
//! Why: Redis takes the id for the sentinel. It never forgets one, and never looks whether its own
//! comes from elsewhere; that a hello with its own id may be another's it does not consider.
//!
//! Ours: a sentinel that hears its own id from another address takes a new one and says so. An
//! id whose address another one has taken over is gone. Ids that are gone with their addresses do
//! count, since nobody can tell them from sentinels that are cut off, but the log says how many
//! are missing to a majority, and RESET makes nobody blind.

use watchfire::sim::{Data, FaultKind, Memory, Order, Outcome, Plan, Shape};

use crate::hall::{Kind, draw, fault, first, lines, live, plan, sweep, unmended, wins};

const SEEDS: u64 = 40;

/// Sentinel 1 is started from a copy of the files of sentinel 0; then the master dies, in half of
/// the runs so soon that both still have one id.
fn clones(kind: Kind, seed: u64) -> Plan {
    let shape = Shape { faults_ms: 35_000, ..Shape::default() };
    let lives_ms = if seed.is_multiple_of(2) { 1_500 } else { 9_500 };
    let dies_at = 20_500 + lives_ms + draw(seed, 1, 2_000);
    let faults = vec![
        fault(20_000, 500, FaultKind::Clone(1, 0)),
        fault(dies_at, 15_000, FaultKind::CrashNode(0, Data::Same, false)),
    ];
    plan(kind, seed, &shape, faults)
}

/// Two sentinels are elected in one epoch.
fn shows_two_winners(outcome: &Outcome) -> bool {
    let wins = wins(outcome);
    wins.iter().any(|a| wins.iter().any(|b| a.epoch == b.epoch && a.who != b.who))
}

#[test]
fn one_vote_elects_two_clones() {
    let stock = sweep(0..SEEDS, |seed| clones(Kind::Stock, seed), shows_two_winners);
    let ours = sweep(0..SEEDS, |seed| clones(Kind::Ours, seed), shows_two_winners);
    println!("clones elected at once: stock in {} of {SEEDS}, ours in {}", stock.len(), ours.len());
    assert!(!stock.is_empty());
    assert!(ours.is_empty(), "{ours:?}");
    let outcome = live(&clones(Kind::Ours, 1));
    let renamed = lines(&outcome, "sentinel", "has my id").count();
    assert!((1..=2).contains(&renamed), "said {renamed} times");
}

/// Sentinel 2 is lost twice, and comes back elsewhere with a new id. Then it is lost together with
/// the master. Two of three sentinels live; at last an operator resets them.
fn restarts(kind: Kind, seed: u64) -> Plan {
    let shape = Shape { faults_ms: 50_000, ..Shape::default() };
    let mut faults: Vec<_> =
        (0..2).map(|n| fault(15_000 + 5_000 * n, 1_000, FaultKind::Replace(2))).collect();
    faults.push(fault(35_000, 100_000, FaultKind::CrashNode(0, Data::Same, false)));
    faults.push(fault(35_000, 100_000, FaultKind::CrashSentinel(2, Memory::Kept)));
    faults.extend((0..2).map(|n| fault(50_000, 0, FaultKind::Order(n, Order::Reset(0)))));
    unmended(kind, seed, &shape, faults)
}

#[test]
fn ids_that_are_gone_count_for_ever() {
    let stock = live(&restarts(Kind::Stock, 2));
    assert_eq!(wins(&stock), [], "two of five are no majority");
    assert!(stock.groups[0].masters.is_empty(), "and after RESET nobody knows a replica");
    let ours = live(&restarts(Kind::Ours, 2));
    let said = "only 2 of 5 sentinels can be reached, and 3 votes are needed";
    let said_at = first(&ours, "sentinel", said).expect("a reason").at_ms;
    let won_at = wins(&ours).first().expect("RESET is the remedy").at;
    assert!(said_at < 50_000 && won_at > 50_000, "said at {said_at}, elected at {won_at}");
    assert_eq!(ours.groups[0].masters.len(), 1);
}
