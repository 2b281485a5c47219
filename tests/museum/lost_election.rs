//! A lost election means six minutes of silence: redis 1073, 2257 and many more, where users ask why
//! nothing happens for so long.
//!
//! A stock sentinel that stood for election, or voted for another one, starts no failover for twice
//! the `failover-timeout`: six minutes by default, whatever became of it. Three that stand at the same
//! time split the votes; or the one who was elected dies. Then all are silent for as long, and the
//! master is missing.
//!
//! Ours gives those with smaller ids a lead, so that votes are rarely split, and tries again after
//! some hundred ms; who has our vote gets 5 s to act, not six minutes.

use watchfire::sim::{Ambush, Data, FaultKind, Memory, Moment, Outcome, Shape};

use crate::hall::{Kind, fault, first, live, unmended};

const DIES: u64 = 20_000;
/// Redis's default.
const FAILOVER_TIMEOUT_MS: u64 = 180_000;

fn shape() -> Shape {
    let (failover_timeout_ms, faults_ms) = (FAILOVER_TIMEOUT_MS, 3 * FAILOVER_TIMEOUT_MS);
    Shape { failover_timeout_ms, faults_ms, ..Shape::default() }
}

/// From the death to the promotion, in ms.
#[track_caller]
fn masterless_ms(outcome: &Outcome) -> u64 {
    first(outcome, "sentinel", "+promoted-slave").expect("a failover").at_ms - DIES
}

/// The leader dies as soon as it is elected.
#[test]
fn a_leader_that_dies_is_replaced_soon() {
    let crash = || fault(DIES, 900_000, FaultKind::CrashNode(0, Data::Same, false));
    let masterless_ms = |kind| {
        // All is the same up to the moment of the ambush, so the same one is elected.
        let calm = live(&unmended(kind, 1, &shape(), vec![crash()]));
        let elected = first(&calm, "sentinel", "+elected-leader").expect("an election");
        let leader = elected.who.trim_start_matches("sentinel ").parse().expect("a number");
        let ambush = Ambush { moment: Moment::Lead, after: true };
        let ambush = fault(DIES, 900_000, FaultKind::Ambush(leader, ambush));
        masterless_ms(&live(&unmended(kind, 1, &shape(), vec![crash(), ambush])))
    };
    let (stock, ours) = (masterless_ms(Kind::Stock), masterless_ms(Kind::Ours));
    println!("elected leader dies: stock without a master for {stock} ms, ours for {ours} ms");
    assert!(stock >= 2 * FAILOVER_TIMEOUT_MS, "{stock}");
    assert!(ours < 12_000, "{ours}");
}

/// One sentinel is away, and the two others do not hear each other for a moment: nobody can win.
#[test]
fn a_lost_election_is_repeated_soon() {
    let faults = || {
        let cut = FaultKind::Partition { from: [0].into(), both: true, flap_ms: 0 };
        vec![
            fault(DIES - 5_000, 900_000, FaultKind::CrashSentinel(2, Memory::Kept)),
            fault(DIES + 1_000, 12_000, cut),
            fault(DIES, 900_000, FaultKind::CrashNode(0, Data::Same, false)),
        ]
    };
    let stock = live(&unmended(Kind::Stock, 1, &shape(), faults()));
    let ours = live(&unmended(Kind::Ours, 1, &shape(), faults()));
    let (stock, ours) = (masterless_ms(&stock), masterless_ms(&ours));
    println!("an election is lost: stock without a master for {stock} ms, ours for {ours} ms");
    assert!(stock >= 2 * FAILOVER_TIMEOUT_MS, "{stock}");
    assert!(ours < 25_000, "{ours}");
}
