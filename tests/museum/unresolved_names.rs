//! A name server that does not answer leaves no candidate: redis 11241, bitnami containers 53232.
//!
//! Users saw `-failover-abort-no-good-slave` for as long as DNS was ill, although a good replica
//! ran all the time: in Kubernetes the name of a dead master vanishes together with it. Redis
//! keeps nodes by what their names resolve to and looks them up again whenever it reads of them or
//! makes their entries anew, as each sentinel does when the master changes. Then a failed lookup
//! costs the connection to a replica with which all was well.
//!
//! Ours knows nodes by their names as they are written. A lookup is the business of the link that
//! connects, and a connection that stands needs none: nothing is closed because of a name.

use watchfire::sim::{Data, FaultKind, Shape};

use crate::hall::{Kind, fault, first, lines, live, unmended};

const DIES: u64 = 20_000;
const DIES_TOO: u64 = 40_000;

#[test]
fn a_replica_stays_a_candidate_while_its_name_cannot_be_resolved() {
    let priorities = [(1, 10)].into();
    let shape = Shape { named: true, faults_ms: 80_000, priorities, ..Shape::default() };
    // Node 2 is healthy throughout. Node 0 dies; node 1 takes over and dies later.
    let faults = || {
        vec![
            fault(15_000, 200_000, FaultKind::MuteName(2)),
            fault(DIES, 200_000, FaultKind::CrashNode(0, Data::Same, false)),
            fault(DIES_TOO, 200_000, FaultKind::CrashNode(1, Data::Same, false)),
        ]
    };
    // With the change of address stock sentinels make all entries anew, and find no node 2.
    let stock = live(&unmended(Kind::Stock, 1, &shape, faults()));
    let switched = lines(&stock, "sentinel", "+switch-master").filter(|l| l.at_ms < DIES_TOO);
    assert_eq!(switched.count(), 3, "all have followed the first failover");
    assert!(lines(&stock, "sentinel", "-failover-abort-no-good-slave").any(|l| l.at_ms > DIES_TOO));
    assert_eq!(stock.groups[0].masters, Vec::<usize>::new(), "nobody is master in the end");

    let ours = live(&unmended(Kind::Ours, 1, &shape, faults()));
    let promoted = lines(&ours, "sentinel", "+promoted-slave").find(|l| l.at_ms > DIES_TOO);
    let after_ms = promoted.expect("node 2 is promoted").at_ms - DIES_TOO;
    println!("ours: promoted {after_ms} ms after the second death");
    assert!(after_ms < 3_000, "{after_ms}");
    assert_eq!(ours.groups[0].masters, [2]);
}

#[test]
fn a_master_whose_name_dies_with_it_is_replaced() {
    let shape = Shape { named: true, faults_ms: 40_000, ..Shape::default() };
    let faults = vec![
        fault(DIES, 200_000, FaultKind::MuteName(0)),
        fault(DIES, 200_000, FaultKind::CrashNode(0, Data::Same, false)),
    ];
    let ours = live(&unmended(Kind::Ours, 1, &shape, faults));
    let promoted = first(&ours, "sentinel", "+promoted-slave").expect("a failover");
    assert!(promoted.at_ms - DIES < 3_000, "{promoted}");
    assert!(first(&ours, "sentinel", "+fix-slave-config").is_none(), "no replica is disturbed");
}
