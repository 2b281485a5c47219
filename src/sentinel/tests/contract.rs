//! What holds of the core as a whole: what is said is durable, the same inputs have the same
//! effects, time that was not watched counts against nobody, garbage moves nothing.

use super::*;

#[test]
fn nothing_is_said_before_it_is_durable() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.disk_works = false;
    desk.sent.clear();
    assert_eq!(desk.vote_for(2, 5), None, "the vote waits for the disk");
    desk.pass(3_000);
    assert!(!desk.has(EventKind::VoteForLeader) && !desk.has(EventKind::NewEpoch));
    let hellos = desk.sent.iter().filter(|(_, c)| matches!(c, Command::Hello { .. })).count();
    assert_eq!(hellos, 0, "a hello would show the new epoch");
    let (revision, state) = desk.writes.last().cloned().expect("a write");
    assert_eq!(state.groups["mymaster"].leader_epoch, 5);
    desk.input(Input::Persisted { revision });
    assert_eq!(desk.replies, [opinion(0, 2, 5)]);
    assert!(desk.has(EventKind::VoteForLeader));
}

#[test]
fn a_disk_that_fails_withholds_no_fact_and_ckquorum_tells_of_it() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.disk_works = false;
    desk.hello(2, 4, REPLICA, 4);
    assert!(!desk.has(EventKind::SwitchMaster), "as long as the write may succeed");
    desk.write_fails();
    assert!(desk.has(EventKind::SwitchMaster), "clients are told where the master is");
    assert!(!desk.has(EventKind::NewEpoch), "but nothing is promised");
    let told = desk.ask(Request::CkQuorum("mymaster".into()));
    assert!(matches!(told, Some(Value::Error(text)) if text.contains("cannot be written")));
}

#[test]
pub(super) fn time_not_watched_counts_against_nobody() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    // The process is stopped; the world goes on.
    desk.now_ms += 30_000;
    desk.input(Input::Wake);
    assert!(desk.has(EventKind::Tilt));
    desk.pass(5_000);
    assert!(desk.has(EventKind::TiltEnd));
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
}

#[test]
fn garbage_in_info_is_counted_and_forgets_nothing() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.insert(at(MASTER), "%$! no info at all".into());
    desk.pass(60_000);
    let view = desk.sentinel.view().groups().next().expect("a group");
    assert_eq!((view.replicas.len(), view.sdown), (2, false));
    assert!(desk.said.iter().any(|text| text.contains("no INFO")), "{:?}", desk.said);
}

#[test]
fn the_same_inputs_give_the_same_effects() {
    let run = || {
        let mut desk = Desk::new(1, 2);
        desk.pass(3_000);
        desk.master_dies();
        desk.pass(20_000);
        format!("{:?}{:?}{:?}", desk.sent, desk.events, desk.said)
    };
    assert_eq!(run(), run());
}

#[test]
fn entries_keep_the_order_that_clients_index() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let fields = |value: Option<Value>| match value {
        Some(Value::Map(pairs)) => {
            pairs.iter().filter_map(|(k, _)| k.text().map(str::to_owned)).collect::<Vec<_>>()
        }
        other => panic!("no map: {other:?}"),
    };
    let first = |value: Option<Value>| match value {
        Some(Value::Array(items)) => items.into_iter().next(),
        other => panic!("no array: {other:?}"),
    };
    let master = fields(desk.ask(Request::Master("mymaster".into())));
    assert_eq!((master[1].as_str(), master[2].as_str(), master.len()), ("ip", "port", 20));
    let replica = fields(first(desk.ask(Request::Replicas("mymaster".into()))));
    assert_eq!((replica[19].as_str(), replica.len()), ("slave-repl-offset", 21));
    let peer = fields(first(desk.ask(Request::Sentinels("mymaster".into()))));
    assert_eq!((peer[13].as_str(), peer.len()), ("voted-leader-epoch", 14));
}

#[test]
fn one_write_is_under_way_at_a_time() {
    let mut desk = Desk::new(1, 2);
    desk.disk_works = false;
    let before = desk.writes.len();
    desk.vote_for(2, 5);
    desk.hello(3, 6, REPLICA, 6);
    assert_eq!(desk.writes.len(), before + 1);
}

#[test]
pub(super) fn nothing_is_decided_right_after_a_stall() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.now_ms += 30_000;
    desk.infos.remove(&at(MASTER));
    desk.input(Input::Wake);
    desk.pass(1_500);
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.pass(2_000);
    assert!(desk.has(EventKind::Sdown));
}
