//! One master after the other goes down: a few failovers at once, and then one at a time.

use super::*;

const PAUSE_MS: u64 = 60_000;

/// The master falls silent, if it does, and a peer tells of another one. Who was silent is back.
fn replaced(desk: &mut Desk, epoch: u64, dies: bool) {
    let (old, new) = if epoch % 2 == 1 { (MASTER, REPLICA) } else { (REPLICA, MASTER) };
    if dies {
        desk.infos.remove(&at(old));
        desk.pass(1_200);
        assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    }
    desk.hello(3, epoch, new, epoch);
    desk.infos.insert(at(new), "role:master\r\n".into());
    desk.infos.insert(at(old), replica_info(new, 500, true));
    desk.infos.insert(at(OTHER_REPLICA), replica_info(new, 400, true));
    desk.pass(2_500);
    desk.events.clear();
    desk.said.clear();
}

/// One that was replaced so often, whose master is down for a quorum now.
fn orphaned(times: u64, dies: bool) -> Desk {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    (1..=times).for_each(|epoch| replaced(&mut desk, epoch, dies));
    let master = if times.is_multiple_of(2) { MASTER } else { REPLICA };
    desk.infos.remove(&at(master));
    desk.pass(1_200);
    desk.answer_question(26002, 1, "*", 0);
    assert!(desk.has(EventKind::Odown), "{:?}", desk.events);
    desk
}

/// Peers see it down again and again until it stands for election.
fn stands_after(desk: &mut Desk, up_to_ms: u64) -> Option<u64> {
    let from = desk.now_ms;
    while desk.now_ms < from + up_to_ms {
        if desk.has(EventKind::TryFailover) {
            return Some(desk.now_ms - from);
        }
        desk.pass(500);
        desk.answer_question(26002, 1, "*", 0);
    }
    None
}

#[test]
pub(super) fn after_three_failovers_in_a_row_comes_one_in_each_flap_pause() {
    assert_eq!(stands_after(&mut orphaned(2, true), 1_000), Some(0));
    let mut desk = orphaned(3, true);
    let why = "No failover of mymaster for now: it flaps";
    assert!(desk.said.last().is_some_and(|said| said.starts_with(why)), "{:?}", desk.said);
    let said = desk.said.len();
    // Each failover took 3.7 s.
    let waited = stands_after(&mut desk, 2 * PAUSE_MS).expect("it stands in the end");
    assert!((45_000..55_000).contains(&waited), "{waited} ms");
    assert_eq!(desk.said.len(), said, "said once: {:?}", desk.said);
}

#[test]
fn however_many_there_were_the_pause_grows_no_longer() {
    for times in [4, 10] {
        let waited = stands_after(&mut orphaned(times, true), 2 * PAUSE_MS);
        assert!(waited.is_some_and(|ms| ms <= PAUSE_MS), "{times}: {waited:?}");
    }
}

#[test]
fn a_change_of_masters_that_live_is_no_flapping() {
    assert_eq!(stands_after(&mut orphaned(6, false), 1_000), Some(0));
}

#[test]
fn whoever_orders_it_does_not_wait_and_the_pause_can_be_ended() {
    let mut desk = orphaned(3, true);
    desk.ask(Request::Failover("mymaster".into()));
    assert!(desk.has(EventKind::TryFailover));

    let mut desk = orphaned(3, true);
    let set = |ms: &str| {
        let options = vec!["flap-pause".into(), ms.into()];
        Request::Set { name: "mymaster".into(), options }
    };
    // As it is, and for good.
    assert_eq!(desk.ask(set("60000")), Some(Value::ok()));
    assert_eq!(stands_after(&mut desk, 1_000), Some(0));
    assert_eq!(desk.ask(set("0")), Some(Value::ok()));
    let written = &desk.writes.last().expect("written").1;
    assert_eq!(written.groups["mymaster"].settings.flap_pause_ms, 0);
    let entry = desk.ask(Request::Master("mymaster".into()));
    let Some(Value::Map(fields)) = entry else { panic!("{entry:?}") };
    let (name, value) = fields.last().expect("fields");
    assert_eq!((name.text(), value.text()), (Some("flap-pause"), Some("0")));
}

#[test]
fn who_hears_of_the_failover_before_it_calls_the_master_down_counts_it() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    for epoch in 1..=3 {
        let old = if epoch % 2 == 1 { MASTER } else { REPLICA };
        desk.infos.remove(&at(old));
        desk.pass(990);
        assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
        replaced(&mut desk, epoch, false);
    }
    desk.infos.remove(&at(REPLICA));
    desk.pass(1_200);
    desk.answer_question(26002, 1, "*", 0);
    assert!(stands_after(&mut desk, 10_000).is_none(), "{:?}", desk.events);
}
