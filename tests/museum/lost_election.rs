//! A lost election means six minutes of silence: redis 10621, where somebody asks which parameter
//! makes the next attempt come after six minutes.
//!
//! A stock sentinel that stood for election, or voted for another one, starts no failover for
//! twice the `failover-timeout`: six minutes by default, whatever became of it. Three that stand
//! at the same time split the votes; or the one who was elected dies. Then all are silent for as
//! long, and the master is missing.
//!
//! Ours gives those with smaller ids a lead, so that votes are rarely split, and tries again after
//! some hundred ms; who has our vote gets 5 s to act, not six minutes.

use watchfire::sim::{Ambush, Data, Fault, FaultKind, Memory, Moment, Ms, Proc, Shape};

use crate::hall::{Kind, fault, first, live, unmended};

const DIES: u64 = 20_000;
/// Redis's default.
const FAILOVER_TIMEOUT_MS: u64 = 180_000;
/// Longer than any of these stories.
const LONG: u64 = 900_000;

fn shape() -> Shape {
    let (failover_timeout_ms, faults_ms) = (FAILOVER_TIMEOUT_MS, 3 * FAILOVER_TIMEOUT_MS);
    Shape { failover_timeout_ms, faults_ms, ..Shape::default() }
}

/// Runs a story in which something befalls the first election: who stands in it and when is read
/// from the same story without that.
fn masterless_ms_after(kind: Kind, lost: &[Fault], mishap: impl Fn(usize, Ms) -> Fault) -> u64 {
    let mut faults = lost.to_vec();
    faults.push(fault(DIES, LONG, FaultKind::CrashNode(0, Data::Same, false)));
    let calm = live(&unmended(kind, 1, &shape(), faults.clone()));
    let stands = first(&calm, "sentinel", "+try-failover").expect("an election");
    let candidate = stands.who.trim_start_matches("sentinel ").parse().expect("a number");
    faults.push(mishap(candidate, stands.at_ms));
    let outcome = live(&unmended(kind, 1, &shape(), faults));
    let promoted = first(&outcome, "sentinel", "+promoted-slave").expect("a failover");
    assert!(outcome.elections >= 2, "the first one leads to nothing");
    promoted.at_ms - DIES
}

/// The leader dies as soon as it is elected, and does not come back.
#[test]
fn a_leader_that_dies_is_replaced_soon() {
    let masterless_ms = |kind| {
        masterless_ms_after(kind, &[], |leader, _| {
            let ambush = Ambush { moment: Moment::Lead, after: true };
            fault(DIES, LONG, FaultKind::Ambush(leader, ambush))
        })
    };
    let (stock, ours) = (masterless_ms(Kind::Stock), masterless_ms(Kind::Ours));
    println!("elected leader dies: stock without a master for {stock} ms, ours for {ours} ms");
    assert!(stock >= 2 * FAILOVER_TIMEOUT_MS, "{stock}");
    assert!(ours < 12_000, "{ours}");
}

/// One of three is away, and of the two others the one that is asked for its vote stands still for
/// 11 s. So nobody wins.
#[test]
fn a_lost_election_is_repeated_soon() {
    let away = fault(DIES - 5_000, LONG, FaultKind::CrashSentinel(2, Memory::Kept));
    let masterless_ms = |kind| {
        masterless_ms_after(kind, std::slice::from_ref(&away), |candidate, at| {
            fault(at, 11_000, FaultKind::Freeze(Proc::Sentinel(1 - candidate)))
        })
    };
    let (stock, ours) = (masterless_ms(Kind::Stock), masterless_ms(Kind::Ours));
    println!("an election is lost: stock without a master for {stock} ms, ours for {ours} ms");
    assert!(stock >= 2 * FAILOVER_TIMEOUT_MS, "{stock}");
    assert!(ours < 20_000, "{ours}");
}
