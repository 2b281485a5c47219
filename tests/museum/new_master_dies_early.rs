//! The new master dies before its failover has come to rest:
//! <https://github.com/redis/redis/issues/1309>.
//!
//! What was seen: a failover ends, the new master dies within the next seconds, and no second
//! failover ever happens.
//!
//! Why: at the time sentinels forgot each other with every switch and had to meet anew on the new
//! master, which was dead. Peers are kept since. What is left is this: the leader of the first
//! failover stays in it, repointing replicas to a dead master, for as long as that is dead, and
//! does not even know its address as that of a master when it is asked. Where its opinion or its
//! vote is needed, nobody is elected: with two sentinels, as in the issue, or with three of
//! which one was lost together with the first master.
//!
//! Ours: the failover is over for everybody once the new master is known, and whoever then sees
//! that one down starts the next.

use watchfire::sim::{Data, Fault, FaultKind, Memory, Ms, Outcome, Shape};

use crate::hall::{Kind, fault, first, lines, live, unmended};

fn shape(sentinels: usize) -> Shape {
    Shape { sentinels, faults_ms: 60_000, ..Shape::default() }
}

/// The first master dies, and the third sentinel with it, if there is one.
fn first_death(sentinels: usize) -> Vec<Fault> {
    let mut faults = vec![fault(20_000, 100_000, FaultKind::CrashNode(0, Data::Same, false))];
    let third = FaultKind::CrashSentinel(2, Memory::Kept);
    faults.extend((sentinels == 3).then(|| fault(20_000, 100_000, third)));
    faults
}

/// The master dies, and the new one as soon as the others have heard of it. Returns when, and what
/// happened.
fn story(kind: Kind, sentinels: usize) -> (Ms, Outcome) {
    let shape = shape(sentinels);
    let mut faults = first_death(sentinels);
    let one_death = live(&unmended(kind, 7, &shape, faults.clone()));
    let promoted = first(&one_death, "sentinel", "+promoted-slave slave ").expect("a failover");
    let is_promoted =
        |n: &usize| promoted.what.contains(&format!("slave {} ", shape.node_address(*n)));
    let node = shape.nodes_of(0).find(is_promoted).expect("a node of the group");
    let dies_at = promoted.at_ms + 300;
    faults.push(fault(dies_at, 100_000, FaultKind::CrashNode(node, Data::Same, false)));
    (dies_at, live(&unmended(kind, 7, &shape, faults)))
}

/// How long after the second death another replica was promoted.
fn recovery_ms((dies_at, outcome): &(Ms, Outcome)) -> Option<Ms> {
    let mut promotions = lines(outcome, "sentinel", "+promoted-slave");
    let second = promotions.find(|line| line.at_ms > *dies_at)?;
    Some(second.at_ms - dies_at)
}

#[test]
fn nobody_replaces_a_master_that_dies_early() {
    for sentinels in [2, 3] {
        let (stock, ours) = (story(Kind::Stock, sentinels), story(Kind::Ours, sentinels));
        let (slow, quick) = (recovery_ms(&stock), recovery_ms(&ours));
        println!("new master dies early, {sentinels} sentinels: stock {slow:?}, ours {quick:?} ms");
        assert_eq!(slow, None, "{sentinels} sentinels");
        assert_eq!(stock.1.groups[0].masters, [0; 0]);
        assert!(quick.is_some_and(|ms| ms < 5_000), "{sentinels} sentinels: {quick:?}");
        assert_eq!(ours.1.groups[0].masters.len(), 1);
    }
}
