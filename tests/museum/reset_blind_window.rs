//! RESET makes sentinels blind:
//! <https://github.com/OT-CONTAINER-KIT/redis-operator/issues/1883>, more than 23 hours without a
//! master.
//!
//! What was seen: an operator resets all sentinels, as the manual says one should after a node or
//! a sentinel is gone for good. The master is lost before they have asked it again, and there is
//! no failover any more: no sentinel knows a replica or another sentinel.
//!
//! Why: RESET forgets everything but the master's address. Replicas are known from the master's
//! INFO and sentinels from the nodes' channels, so that a dead master can never be replaced.
//!
//! Ours: RESET forgets what does not answer. Replicas that answer and belong to the group, and
//! sentinels that answer, stay.

use watchfire::sim::{Data, FaultKind, Ms, Order, Outcome, Plan, Shape};

use crate::hall::{Kind, fault, live, unmended};

/// All sentinels are reset, and the master dies so long after that.
fn story(kind: Kind, seed: u64, after_ms: Ms) -> Plan {
    let shape = Shape { faults_ms: 40_000, ..Shape::default() };
    let mut faults: Vec<_> =
        (0..3).map(|n| fault(20_000, 0, FaultKind::Order(n, Order::Reset(0)))).collect();
    let death = FaultKind::CrashNode(0, Data::Same, false);
    faults.push(fault(20_000 + after_ms, 100_000, death));
    unmended(kind, seed, &shape, faults)
}

fn has_no_master(outcome: &Outcome) -> bool {
    outcome.groups[0].masters.is_empty()
}

#[test]
fn nobody_replaces_a_master_that_dies_after_a_reset() {
    for seed in 0..4 {
        let stock = live(&story(Kind::Stock, seed, 1));
        assert!(has_no_master(&stock), "seed {seed}");
        assert_eq!(stock.elections, 0, "seed {seed}");
        for after_ms in [1, 20, 100, 1_000] {
            let ours = live(&story(Kind::Ours, seed, after_ms));
            assert_eq!(ours.groups[0].masters.len(), 1, "seed {seed}, {after_ms} ms");
        }
    }
}
