//! A wrong password means endless failovers: redis 4799, 2536, 5410, 11063.
//!
//! Users saw a failover every three to five minutes although all nodes were well: somebody had
//! changed a password. A stock sentinel takes NOAUTH in answer to its PING for silence, so a
//! healthy master is down; and whoever is refused cannot demote the old master either, so that
//! after the switch there are two. It says nothing about the password, and goes on with the
//! connection on which AUTH failed, so that putting the password right at the node changes
//! nothing.
//!
//! For ours, who answers lives. NOAUTH, WRONGPASS and NOPERM are a mistake in a configuration: the
//! node is not called down, the log says again and again what is wrong, the flag `disconnected`
//! shows it, and AUTH is tried anew every few seconds. Death is still told from silence, as ever.

use watchfire::sim::{Data, FaultKind, Shape};

use crate::hall::{Kind, fault, first, lines, live, plan, unmended};

const WRONG: u64 = 20_000;

fn shape() -> Shape {
    Shape { faults_ms: 127_000, ..Shape::default() }
}

#[test]
fn a_healthy_master_stays_the_only_one() {
    let faults = || vec![fault(WRONG, 200_000, FaultKind::WrongPassword(0))];
    let stock = live(&unmended(Kind::Stock, 1, &shape(), faults()));
    assert!(stock.switches > 0);
    assert_eq!(stock.groups[0].masters.len(), 2, "the old master cannot be demoted");

    let ours = live(&unmended(Kind::Ours, 1, &shape(), faults()));
    assert_eq!((ours.switches, ours.elections), (0, 0));
    assert!(first(&ours, "sentinel", "+sdown").is_none());
    assert_eq!(ours.groups[0].masters, [0]);
    let told = lines(&ours, "sentinel 0", "set auth-pass").count();
    assert!((2..=3).contains(&told), "it is said once a minute: {told}");
    // Once the password is right, all is as it should be.
    live(&plan(Kind::Ours, 1, &shape(), faults()));
}

#[test]
fn a_password_that_is_wrong_for_all_nodes_starts_no_elections() {
    let faults = || (0..3).map(|n| fault(WRONG, 200_000, FaultKind::WrongPassword(n))).collect();
    let stock = live(&unmended(Kind::Stock, 1, &shape(), faults()));
    println!("stock: {} failovers tried in 120 s", stock.elections);
    assert!(stock.elections >= 4, "again and again: {}", stock.elections);
    assert!(first(&stock, "sentinel", "-failover-abort-no-good-slave").is_some());

    let ours = live(&unmended(Kind::Ours, 1, &shape(), faults()));
    assert_eq!((ours.switches, ours.elections), (0, 0));
}

#[test]
fn a_master_that_dies_behind_a_wrong_password_is_replaced() {
    let dies = 60_000;
    let faults = vec![
        fault(WRONG, 200_000, FaultKind::WrongPassword(0)),
        fault(dies, 200_000, FaultKind::CrashNode(0, Data::Same, false)),
    ];
    let ours = live(&unmended(Kind::Ours, 1, &shape(), faults));
    let promoted = first(&ours, "sentinel", "+promoted-slave").expect("a failover");
    assert!((dies..dies + 3_000).contains(&promoted.at_ms), "{promoted}");
}
