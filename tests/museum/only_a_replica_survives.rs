//! Only a replica survives the restart of a whole site: redis 6751, OT-CONTAINER-KIT 1883 and
//! 1474.
//!
//! Users saw `NOGOODSLAVE` for hours (one for 23), and what they promoted by hand was made a
//! replica again, with its data lost, when the old master came back. A replica that was restarted
//! and never reached its dead master says, up to Redis 6.2, that the link has been down since
//! 1970: too old for ever. Redis 7 says -1, and is promoted, even if it came up without any data,
//! so that the old master copies the emptiness when it returns.
//!
//! Ours reads a link that is older than the process as one that never was up. What such a replica
//! brought from its disk are the data of the group: it follows our master by its own file, and we
//! remember it. It is promoted, if it has data. If it has none, an operator has to say so.

use watchfire::sim::{Data, Fault, FaultKind, Memory, Order, Shape};

use crate::hall::{Kind, fault, first, live, unmended};

const OUT: u64 = 30_000;
const BACK: u64 = OUT + 10_000;
const END: u64 = 120_000;
/// What Redis 6.2 says of a link that was never up.
const SINCE_1970_S: i64 = 1_700_000_000;

fn shape(never_up_s: i64) -> Shape {
    Shape { never_up_s, faults_ms: END - 13_000, ..Shape::default() }
}

/// The power fails; the sentinels come back, and of the nodes only node 1, with these data.
fn only_node_1(data: Data) -> Vec<Fault> {
    let sentinels =
        (0..3).map(|n| fault(OUT, BACK - OUT, FaultKind::CrashSentinel(n, Memory::Kept)));
    let lost = [0, 2].map(|n| fault(OUT, END, FaultKind::CrashNode(n, Data::Same, false)));
    let back = fault(OUT, BACK - OUT, FaultKind::CrashNode(1, data, false));
    sentinels.chain(lost).chain([back]).collect()
}

#[test]
fn it_is_promoted_with_the_data_it_has() {
    let stock = live(&unmended(Kind::Stock, 1, &shape(SINCE_1970_S), only_node_1(Data::Same)));
    assert!(first(&stock, "sentinel", "-failover-abort-no-good-slave").is_some());
    assert_eq!(stock.groups[0].masters, Vec::<usize>::new());

    for never_up_s in [SINCE_1970_S, -1] {
        let ours = live(&unmended(Kind::Ours, 1, &shape(never_up_s), only_node_1(Data::Same)));
        let promoted = first(&ours, "sentinel", "+promoted-slave").expect("a failover");
        println!("ours: promoted {} ms after the power is back", promoted.at_ms - BACK);
        assert!(promoted.at_ms < BACK + 10_000, "{promoted}");
        assert_eq!(ours.groups[0].masters, [1]);
        assert!(ours.groups[0].told.iter().all(|told| *told == Some(1)));
    }
}

#[test]
fn an_empty_one_is_promoted_only_if_somebody_says_so() {
    let stock = live(&unmended(Kind::Stock, 1, &shape(-1), only_node_1(Data::Empty)));
    assert_eq!(stock.groups[0].masters, [1], "Redis 7 promotes it, and all data may be lost");

    let asked = BACK + 20_000;
    let mut faults = only_node_1(Data::Empty);
    let ours = live(&unmended(Kind::Ours, 1, &shape(-1), faults.clone()));
    assert!(first(&ours, "sentinel", "started without data").is_some(), "it says why");
    assert_eq!(ours.groups[0].masters, Vec::<usize>::new());

    faults.push(fault(asked, 1, FaultKind::Order(0, Order::Failover(0))));
    let ours = live(&unmended(Kind::Ours, 1, &shape(-1), faults));
    let promoted = first(&ours, "sentinel", "+promoted-slave").expect("a failover");
    assert!((asked..asked + 2_000).contains(&promoted.at_ms), "{promoted}");
}
