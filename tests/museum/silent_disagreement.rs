//! Sentinels disagree about the master, silently and for ever:
//! <https://github.com/redis/redis/issues/12271> (each sentinel's file names another first
//! master), <https://github.com/redis/redis/issues/13658> and
//! <https://github.com/valkey-io/valkey/issues/1322> (one of them does).
//!
//! What was seen: containers that start at the same time each write their own node into their
//! `sentinel monitor`. Each sentinel answers clients with its own node; two of three clients write
//! to a replica. When the real master dies nothing happens at all.
//!
//! Why: only a larger configuration epoch makes a sentinel change its mind, and all have none. A
//! configured master that says it is a replica is called down after some time, but the others do
//! not know that address as a master, so that no quorum comes together. No line of the log says
//! what is wrong.
//!
//! Ours: where the named master says that it follows, with a link that works, the very node that
//! a peer names in the same epoch, the peer is right. Where the nodes do not settle it, the log
//! says once who names which master.

use std::collections::{BTreeMap, BTreeSet};

use watchfire::sim::{Data, FaultKind, Plan, Proc, Shape};

use crate::hall::{Kind, fault, first, lines, live, plan, unmended};

fn shape(monitors: &[(usize, usize)]) -> Shape {
    let monitors: BTreeMap<usize, usize> = monitors.iter().copied().collect();
    Shape { monitors, faults_ms: 60_000, ..Shape::default() }
}

fn told(names: &[usize]) -> Vec<Option<usize>> {
    names.iter().copied().map(Some).collect()
}

/// The files disagree, and nothing else is wrong.
fn calm(kind: Kind, monitors: &[(usize, usize)]) -> Plan {
    unmended(kind, 3, &shape(monitors), vec![])
}

/// They do, and later the master dies.
fn death(kind: Kind, monitors: &[(usize, usize)]) -> Plan {
    let death = fault(45_000, 20_000, FaultKind::CrashNode(0, Data::Same, false));
    plan(kind, 3, &shape(monitors), vec![death])
}

#[test]
fn each_names_another_master() {
    let monitors = [(1, 1), (2, 2)];
    let stock = live(&calm(Kind::Stock, &monitors));
    assert_eq!(stock.groups[0].told, told(&[0, 1, 2]));
    let ours = live(&calm(Kind::Ours, &monitors));
    assert_eq!(ours.groups[0].told, told(&[0, 0, 0]));
    let stock = live(&death(Kind::Stock, &monitors));
    assert_eq!(stock.switches, 0, "nobody replaces the dead master");
    let ours = live(&death(Kind::Ours, &monitors));
    assert!(first(&ours, "sentinel", "+promoted-slave").is_some());
}

#[test]
fn one_names_another_master() {
    let monitors = [(2, 1)];
    let stock = live(&calm(Kind::Stock, &monitors));
    assert_eq!(stock.groups[0].told, told(&[0, 0, 1]));
    let ours = live(&calm(Kind::Ours, &monitors));
    assert_eq!(ours.groups[0].told, told(&[0, 0, 0]));
}

/// The node that sentinel 2 names follows one to which it gets no link: the nodes do not show who
/// is right. Sentinel 2 is cut off while there is a link.
#[test]
fn what_cannot_be_settled_is_said_once() {
    let shape = shape(&[(2, 1)]);
    let from = BTreeSet::from([shape.machine_of(Proc::Sentinel(2))]);
    let alone = FaultKind::Partition { from, both: true, flap_ms: 0 };
    let faults = vec![
        fault(9_000, 6_000, alone),
        fault(13_000, 90_000, FaultKind::Unlinked(1)),
        fault(13_001, 0, FaultKind::Cut(Proc::Node(0), Proc::Node(1))),
    ];
    let outcome = live(&unmended(Kind::Ours, 3, &shape, faults));
    assert_eq!(outcome.groups[0].told, told(&[0, 0, 1]));
    for who in ["sentinel 0", "sentinel 1", "sentinel 2"] {
        let said = lines(&outcome, who, "in the same configuration epoch").count();
        assert!((1..=2).contains(&said), "{who} said it {said} times");
    }
}
