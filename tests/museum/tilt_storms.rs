//! TILT storms: redis 13866, 10547 and 13034, bitnami charts 9689.
//!
//! Users saw `+tilt` every minute, or without an end, and no failover at all when the master was
//! really gone. `getaddrinfo` blocks a stock sentinel's only thread for more than 2.5 s when a
//! name server is ill; a timer that is 2 s late means TILT; in TILT nothing is decided for 30 s;
//! and the next lookup blocks before these are over. Where the master's name is what cannot be
//! looked up, its death and the storm come together.
//!
//! Ours never blocks on a name: links look names up beside the core. Even where something else
//! stops the whole process as often, TILT lasts for one hello period, and time that was not
//! watched counts against nobody.

use watchfire::sim::{Data, Fault, FaultKind, Proc, Shape};

use crate::hall::{Kind, fault, first, lines, live, unmended};

const BLOCKED_MS: u64 = 2_500;
const PERIOD_MS: u64 = 8_000;
const DIES: u64 = 30_000;
const END: u64 = 150_000;

/// Each sentinel stands still for 2.5 s in every 8 s, not all at the same time.
fn blocked_lookups() -> Vec<Fault> {
    let of = |n: u64| {
        let times = (13_500 + 1_000 * n..END).step_by(PERIOD_MS as usize);
        times.map(move |at| fault(at, BLOCKED_MS, FaultKind::Freeze(Proc::Sentinel(n as usize))))
    };
    (0..3).flat_map(of).collect()
}

fn shape() -> Shape {
    Shape { faults_ms: END - 13_000, ..Shape::default() }
}

#[test]
fn a_dead_master_is_replaced_between_two_stalls() {
    let faults = || {
        let mut faults = blocked_lookups();
        faults.push(fault(DIES, END, FaultKind::CrashNode(0, Data::Same, false)));
        faults
    };
    let stock = live(&unmended(Kind::Stock, 1, &shape(), faults()));
    let tilts = lines(&stock, "sentinel", "+tilt").count();
    println!(
        "stock: {tilts} times TILT, {} switches in {} s",
        stock.switches,
        (END - DIES) / 1_000
    );
    assert!(tilts >= 30, "{tilts}");
    assert!(first(&stock, "sentinel", "-tilt").is_none(), "TILT never ends");
    assert_eq!((stock.switches, stock.elections), (0, 0));

    let ours = live(&unmended(Kind::Ours, 1, &shape(), faults()));
    let promoted = first(&ours, "sentinel", "+promoted-slave").expect("a failover");
    println!("ours: promoted after {} ms", promoted.at_ms - DIES);
    assert!(promoted.at_ms - DIES < 2 * PERIOD_MS, "{promoted}");
}

#[test]
fn a_stall_of_ours_is_nobodys_silence() {
    let ours = live(&unmended(Kind::Ours, 1, &shape(), blocked_lookups()));
    assert!(first(&ours, "sentinel", "+tilt").is_some());
    let down = lines(&ours, "sentinel", "+sdown master").next();
    assert!(down.is_none(), "the master answers all the time: {down:?}");
    assert_eq!(ours.elections, 0);
}
