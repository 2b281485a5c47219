//! An absurd epoch poisons all elections: read in Redis's source, and seen (no public number).
//!
//! `SENTINEL is-master-down-by-addr <ip> <port> -1 <id>` needs no password where none is set. A
//! stock sentinel reads -1 as 18446744073709551615, takes it for its current epoch, saves it and
//! tells all others in its hellos. The next failover counts on, to 0; no vote is given in epoch 0,
//! because all have voted in a later one. That is `-failover-abort-not-elected` for ever, through
//! restarts. A hello with such an epoch does the same.
//!
//! Ours refuses an epoch that lies further ahead than 2^24, wherever it comes from.

use watchfire::sentinel::Request;
use watchfire::sim::{Data, Fault, FaultKind, Order, Shape};

use crate::hall::{Kind, fault, first, lines, live, unmended};

const SAID: u64 = 15_000;
const DIES: u64 = 25_000;

fn shape() -> Shape {
    Shape { faults_ms: 107_000, ..Shape::default() }
}

/// Somebody says this to sentinel 0, and later the master dies.
fn poisoned(request: Request) -> Vec<Fault> {
    vec![
        fault(SAID, 1, FaultKind::Order(0, Order::Say(request))),
        fault(DIES, 200_000, FaultKind::CrashNode(0, Data::Same, false)),
    ]
}

/// The id of another sentinel, which sentinel 0 knows: it would vote for it.
fn known_id() -> String {
    let calm = live(&unmended(Kind::Ours, 1, &shape(), Vec::new()));
    let met = first(&calm, "sentinel 0", "+sentinel sentinel ").expect("they meet");
    met.what.split(' ').nth(2).expect("an id").to_owned()
}

fn vote_in(epoch: i64, candidate: &str) -> Request {
    let master = shape().node_address(0);
    Request::IsMasterDown {
        host: master.host,
        port: i64::from(master.port),
        epoch,
        candidate: Some(candidate.to_owned()),
    }
}

fn hello(epoch: u64) -> Request {
    let master = shape().node_address(0);
    let (ip, port) = (&master.host, master.port);
    let id = "f".repeat(40);
    Request::Hello(format!("10.9.9.9,26379,{id},{epoch},g0,{ip},{port},0"))
}

#[track_caller]
fn assert_harmless(request: Request) {
    let ours = live(&unmended(Kind::Ours, 1, &shape(), poisoned(request)));
    let promoted = first(&ours, "sentinel", "+promoted-slave").expect("a failover");
    assert!(promoted.at_ms - DIES < 3_000, "{promoted}");
    let epoch = first(&ours, "sentinel", "+new-epoch").expect("an election");
    assert_eq!(epoch.what, "+new-epoch 1", "epochs go on from where they were");
}

#[test]
fn a_vote_request_with_epoch_minus_one_ends_no_elections() {
    let stock = live(&unmended(Kind::Stock, 1, &shape(), poisoned(vote_in(-1, &"f".repeat(40)))));
    assert!(first(&stock, "sentinel 2", "18446744073709551615").is_some(), "all others hear of it");
    let lost = lines(&stock, "sentinel", "-failover-abort-not-elected").count();
    println!("stock: {lost} elections lost, {} switches", stock.switches);
    assert!(lost >= 3, "{lost}");
    assert_eq!(stock.groups[0].masters, Vec::<usize>::new());

    let known = known_id();
    for epoch in [-1, i64::MAX, i64::MIN, 1 << 40] {
        assert_harmless(vote_in(epoch, &known));
    }
}

#[test]
fn a_hello_with_an_absurd_epoch_changes_nothing() {
    for epoch in [1 << 40, 1 << 63, u64::MAX] {
        assert_harmless(hello(epoch));
    }
}
