//! All sentinels are down, and then the master dies: redis 5677.
//!
//! Users saw sentinels that came back to a dead master and never promoted anybody. A replica whose
//! link to the master is down for longer than ten times `down-after` and the master's own down
//! time is too old to be chosen; but the down time of a master that nobody has seen counts from
//! the start of the sentinels. So whoever dies while they are away longer than that is mourned for
//! ever, and `SENTINEL FAILOVER` finds no good replica either.
//!
//! How old those data are nobody can know: the link may have broken long before the master died.
//! So ours does not choose such a replica by itself; but it says what stands in the way and how an
//! operator decides it, and `SENTINEL FAILOVER` does that. A restart shorter than the bound needs
//! no operator.

use watchfire::sim::{Data, Fault, FaultKind, Memory, Order, Shape};

use crate::hall::{Kind, fault, first, lines, live, unmended};

const DIES: u64 = 20_000;
const END: u64 = 140_000;

fn shape() -> Shape {
    Shape { faults_ms: END - 13_000, ..Shape::default() }
}

/// All sentinels go just before the master dies, and come back after so long.
fn away(for_ms: u64) -> Vec<Fault> {
    let gone = |n| fault(DIES - 500, for_ms, FaultKind::CrashSentinel(n, Memory::Kept));
    let mut faults: Vec<_> = (0..3).map(gone).collect();
    faults.push(fault(DIES, END, FaultKind::CrashNode(0, Data::Same, false)));
    faults
}

#[test]
fn after_a_restart_the_dead_master_is_replaced() {
    let ours = live(&unmended(Kind::Ours, 1, &shape(), away(1_000)));
    let promoted = first(&ours, "sentinel", "+promoted-slave").expect("a failover");
    println!("ours: promoted {} ms after the start", promoted.at_ms - DIES - 500);
    assert!(promoted.at_ms < DIES + 10_000, "{promoted}");
}

#[test]
fn after_a_long_absence_an_operator_can_decide() {
    let back = DIES + 60_000;
    let asked = back + 20_000;
    let faults = || {
        let mut faults = away(60_500);
        faults.push(fault(asked, 1, FaultKind::Order(0, Order::Failover(0))));
        faults
    };
    let stock = live(&unmended(Kind::Stock, 1, &shape(), faults()));
    assert!(lines(&stock, "world", "NOGOODSLAVE").any(|line| line.at_ms >= asked));
    assert_eq!(stock.groups[0].masters, Vec::<usize>::new());

    let ours = live(&unmended(Kind::Ours, 1, &shape(), faults()));
    let why = first(&ours, "sentinel", "too old; SENTINEL FAILOVER g0").expect("it is said");
    assert!(why.at_ms < back + 5_000, "{why}");
    let promoted = first(&ours, "sentinel", "+promoted-slave").expect("a failover");
    assert!((asked..asked + 2_000).contains(&promoted.at_ms), "{promoted}");
    assert_eq!(ours.groups[0].masters.len(), 1);
}
