//! The new master dies before its failover has come to rest:
//! <https://github.com/redis/redis/issues/1309>.
//!
//! What was seen: a failover ends, the new master dies within the next seconds, and no second
//! failover ever happens.
//!
//! Why: at the time sentinels forgot each other with every switch and had to meet anew on the new
//! master, which was dead. Peers are kept since. What is left is this: whoever voted in the first
//! failover starts none for twice `failover-timeout` (six minutes by default), and the leader
//! of the first stays in it, repointing replicas to a dead master, for as long as that is dead.
//! Where its vote is needed nobody is ever elected.
//!
//! Ours: the failover is over for everybody once the new master is known, and whoever then sees
//! that one down starts the next.

use watchfire::sim::{Data, Fault, FaultKind, Ms, Outcome, Shape};

use crate::hall::{Kind, fault, first, lines, live, unmended};

/// How long the second death is watched, in ms.
const WATCHED_MS: Ms = 40_000;

fn shape(quorum: u32) -> Shape {
    Shape { quorum, failover_timeout_ms: 60_000, faults_ms: 60_000, ..Shape::default() }
}

fn first_death() -> Fault {
    fault(20_000, 100_000, FaultKind::CrashNode(0, Data::Same, false))
}

/// The master dies, and the new one as soon as the others have heard of it. Returns when, and what
/// happened.
fn story(kind: Kind, quorum: u32) -> (Ms, Outcome) {
    let shape = shape(quorum);
    let one_death = live(&unmended(kind, 7, &shape, vec![first_death()]));
    let promoted = first(&one_death, "sentinel", "+promoted-slave slave ").expect("a failover");
    let is_promoted =
        |n: &usize| promoted.what.contains(&format!("slave {} ", shape.node_address(*n)));
    let node = shape.nodes_of(0).find(is_promoted).expect("a node of the group");
    let dies_at = promoted.at_ms + 300;
    let second = fault(dies_at, 100_000, FaultKind::CrashNode(node, Data::Same, false));
    (dies_at, live(&unmended(kind, 7, &shape, vec![first_death(), second])))
}

/// How long after the second death another replica was promoted.
fn recovery_ms((dies_at, outcome): &(Ms, Outcome)) -> Option<Ms> {
    let mut promotions = lines(outcome, "sentinel", "+promoted-slave");
    let second = promotions.find(|line| line.at_ms > *dies_at)?;
    Some(second.at_ms - dies_at)
}

#[test]
fn nobody_replaces_a_master_that_dies_early() {
    // The votes of all are needed in the second case.
    for quorum in [2, 3] {
        let (stock, ours) = (story(Kind::Stock, quorum), story(Kind::Ours, quorum));
        let (slow, quick) = (recovery_ms(&stock), recovery_ms(&ours));
        println!("new master dies early, quorum {quorum}: stock {slow:?} ms, ours {quick:?} ms");
        assert!(slow.is_none_or(|ms| ms > WATCHED_MS), "quorum {quorum}: {slow:?}");
        assert_eq!(stock.1.groups[0].masters, [0; 0]);
        assert!(quick.is_some_and(|ms| ms < 5_000), "quorum {quorum}: {quick:?}");
        assert_eq!(ours.1.groups[0].masters.len(), 1);
    }
}
