//! Which replica is promoted, when the order goes out, and what counts as its success.

use super::*;

#[test]
fn a_whole_failover_goes_through_within_milliseconds() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    assert!(desk.has(EventKind::Odown) && desk.has(EventKind::TryFailover));
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA], "the larger offset wins");
    let decided_at = desk.now_ms;
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(100);
    let (_, switch) =
        desk.events.iter().find(|(kind, _)| *kind == EventKind::SwitchMaster).expect("a switch");
    assert_eq!(switch, "mymaster 127.0.0.1 7001 127.0.0.1 7002");
    assert!(desk.now_ms - decided_at <= 100);
    let follow = Command::Follow { master: at(REPLICA) };
    assert!(desk.sent.contains(&(at(OTHER_REPLICA), follow)), "{:?}", desk.sent);
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 500, true));
    desk.pass(2_000);
    assert!(desk.has(EventKind::SlaveReconfDone) && desk.has(EventKind::FailoverEnd));
    let view = desk.sentinel.view().groups().next().expect("a group");
    assert_eq!((view.master, view.config_epoch), (at(REPLICA), 1));
}

#[test]
fn old_data_and_none_are_an_operators_decision() {
    let link = |since_s: i64, keys: &str| {
        let info = replica_info(MASTER, 7, false);
        format!("uptime_in_seconds:900\r\n{info}master_link_down_since_seconds:{since_s}\r\n{keys}")
    };
    let keys = "db0:keys=4,expires=0,avg_ttl=0\r\n";
    for (info, fit) in [
        (link(600, keys), false),
        (link(5, ""), true),
        (link(-1, ""), false),
        (link(-1, keys), true),
        (link(1_700_000_000, keys), true),
        (link(1_700_000_000, ""), false),
    ] {
        for forced in [false, true] {
            let mut desk = Desk::new(1, 2);
            desk.infos.remove(&at(OTHER_REPLICA));
            desk.infos.insert(at(REPLICA), info.clone());
            desk.pass(2_000);
            desk.infos.remove(&at(MASTER));
            desk.pass(1_500);
            if forced {
                let reply = desk.ask(Request::Failover("mymaster".into()));
                assert_eq!(reply, Some(Value::ok()));
            } else {
                desk.answer_question(26002, 1, "*", 0);
                desk.pass(200);
            }
            desk.answer_question(26002, 1, &id(1).to_string(), 1);
            desk.pass(300);
            assert_eq!(desk.promotions().len(), usize::from(fit || forced), "{info} {forced}");
            let hint = desk.said.iter().any(|text| text.contains("SENTINEL FAILOVER mymaster"));
            assert_eq!(hint, !fit && !forced, "{:?}", desk.said);
        }
    }
}

#[test]
pub(super) fn replicas_that_must_not_be_promoted_are_not() {
    for (line, reason) in [
        ("slave_priority:0\r\n", "replica-priority is 0"),
        ("replica_announced:0\r\n", "send it CONFIG SET replica-announced yes"),
        ("master_link_down_since_seconds:600\r\n", "link to the master has been down"),
    ] {
        let mut desk = Desk::new(1, 2);
        for port in [REPLICA, OTHER_REPLICA] {
            let info = replica_info(MASTER, 1, false) + line;
            desk.infos.insert(at(port), info);
        }
        desk.pass(12_000);
        desk.master_dies();
        desk.win();
        desk.pass(1_000);
        assert!(desk.has(EventKind::AbortNoGoodSlave), "{line}: {:?}", desk.events);
        assert!(desk.promotions().is_empty());
        assert!(desk.said.iter().any(|text| text.contains(reason)), "{line}: {:?}", desk.said);
    }
}

#[test]
pub(super) fn a_replica_that_lost_its_master_before_comes_last_whatever_its_priority() {
    for (down_s, promoted) in [(8, OTHER_REPLICA), (2, REPLICA)] {
        let mut desk = Desk::new(1, 2);
        desk.pass(5_000);
        let info = replica_info(MASTER, 300, false)
            + &format!("slave_priority:1\r\nmaster_link_down_since_seconds:{down_s}\r\n");
        desk.infos.insert(at(REPLICA), info);
        let info = replica_info(MASTER, 400, false) + "master_link_down_since_seconds:1\r\n";
        desk.infos.insert(at(OTHER_REPLICA), info);
        desk.master_dies();
        desk.win();
        assert_eq!(desk.promotions(), [promoted], "{down_s} s");
    }
}

#[test]
pub(super) fn a_promotion_seen_too_late_is_not_announced() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA]);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    // The process stands still for longer than its votes bind.
    desk.now_ms += 10_000;
    desk.pass(4_000);
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
    assert!(!desk.has(EventKind::PromotedSlave), "others may have undone it");
}

#[test]
fn reset_does_not_make_replicas_of_a_dead_master_too_old() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    let info =
        |s: u64| replica_info(MASTER, 300, false) + &format!("master_link_down_since_seconds:{s}");
    desk.infos.remove(&at(MASTER));
    for port in [REPLICA, OTHER_REPLICA] {
        desk.infos.insert(at(port), info(40));
    }
    desk.pass(40_000);
    desk.hello(2, 0, MASTER, 0);
    desk.hello(3, 0, MASTER, 0);
    desk.ask(Request::Reset("mymaster".into()));
    desk.pass(1_200);
    desk.answer_question(26002, 1, "*", 0);
    desk.pass(100);
    desk.win();
    assert_eq!(desk.promotions().len(), 1, "{:?}", desk.said);
}

#[test]
fn a_promotion_waits_for_no_other_change_to_be_on_disk() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    desk.pass(100);
    desk.disk_works = false;
    let options = ["quorum".to_owned(), "2".to_owned()].to_vec();
    desk.ask(Request::Set { name: "mymaster".into(), options });
    desk.writes.last().expect("a write");
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA]);
    assert!(!desk.has(EventKind::SelectedSlave), "told once what was decided before is on disk");
}

#[test]
pub(super) fn whoever_is_alone_promotes_once_its_vote_is_on_disk() {
    let mut desk = lone();
    desk.pass(5_000);
    desk.disk_works = false;
    desk.infos.remove(&at(MASTER));
    desk.pass(1_500);
    assert!(desk.has(EventKind::Odown) && desk.promotions().is_empty(), "{:?}", desk.sent);
    desk.write_ends();
    assert_eq!(desk.promotions(), [REPLICA]);
}

#[test]
fn whoever_is_alone_chooses_by_what_is_so_once_its_vote_is_on_disk() {
    let mut desk = lone();
    let runs = |n: u8, info: String| format!("{info}run_id:{}\r\n", id(n));
    desk.infos.insert(at(REPLICA), runs(8, replica_info(MASTER, 500, true)));
    desk.pass(5_000);
    desk.disk_works = false;
    desk.infos.remove(&at(MASTER));
    desk.pass(1_500);
    // Meanwhile the replica comes back without data.
    let empty = "master_link_down_since_seconds:-1\r\n";
    desk.infos.insert(at(REPLICA), runs(9, replica_info(MASTER, 0, false) + empty));
    desk.write_ends();
    desk.pass(300);
    assert!(desk.promotions().is_empty(), "{:?}", desk.events);
}

#[test]
pub(super) fn a_newer_configuration_of_the_same_master_ends_an_older_failover() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.hello(2, 5, MASTER, 5);
    desk.answer_question(26002, 1, id(1).as_str(), 1);
    assert!(desk.promotions().is_empty());
}

#[test]
pub(super) fn votes_that_come_after_a_stall_promote_nobody() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.now_ms += 10_000;
    desk.win();
    desk.pass(3_000);
    assert!(desk.promotions().is_empty());
}

#[test]
pub(super) fn a_promotion_without_effect_is_given_up() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.pass(election::TENURE_MS + 100);
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
}

#[test]
pub(super) fn what_was_said_before_the_order_shows_no_promotion() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let run_id = format!("run_id:{}\r\n", id(9));
    desk.infos.insert(at(REPLICA), replica_info(MASTER, 500, true) + &run_id);
    desk.pass(12_000);
    desk.infos.insert(at(REPLICA), "role:master\r\n".to_owned() + &run_id);
    desk.pass(12_000);
    desk.master_dies();
    desk.pass(20);
    desk.infos.remove(&at(REPLICA));
    desk.win();
    desk.pass(400);
    assert_eq!(desk.promotions(), [REPLICA]);
    assert!(!desk.has(EventKind::SwitchMaster));
}

#[test]
fn what_was_said_at_the_moment_of_the_order_shows_no_promotion() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let run_id = format!("run_id:{}\r\n", id(9));
    desk.infos.insert(at(REPLICA), replica_info(MASTER, 500, true) + &run_id);
    desk.pass(12_000);
    desk.master_dies();
    desk.pass(20);
    desk.infos.remove(&at(REPLICA));
    desk.win();
    assert!(desk.promotions().is_empty());
    // The last answer that the choice waits for: an earlier leader has promoted that one.
    let said = Value::bulk("role:master\r\n".to_owned() + &run_id);
    desk.reply_from(REPLICA, Command::Info, said);
    assert_eq!(desk.promotions(), [REPLICA]);
    assert!(!desk.has(EventKind::SwitchMaster));
}

#[test]
pub(super) fn a_leader_waits_a_moment_for_fresh_info() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    let old = desk.infos.remove(&at(OTHER_REPLICA)).expect("an INFO");
    desk.ask(Request::Failover("mymaster".into()));
    desk.pass(10);
    desk.win();
    assert!(desk.promotions().is_empty());
    desk.infos.insert(at(OTHER_REPLICA), old);
    let newest = Value::bulk(replica_info(MASTER, 900, true));
    desk.reply_from(OTHER_REPLICA, Command::Info, newest);
    assert_eq!(desk.promotions(), [OTHER_REPLICA]);
}

/// The replica with the larger offset answers INFO with this, or nothing at all, for some seconds
/// before the failover; the other one is promoted.
#[track_caller]
fn is_passed_over(info: Option<&str>) {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    match info {
        Some(info) => desk.infos.insert(at(REPLICA), info.into()),
        None => desk.infos.remove(&at(REPLICA)),
    };
    desk.pass(12_000);
    desk.master_dies();
    desk.win();
    desk.pass(1_000);
    assert_eq!(desk.promotions(), [OTHER_REPLICA], "{:?}", desk.events);
}

#[test]
pub(super) fn a_replica_that_is_silent_is_passed_over() {
    is_passed_over(None);
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    let (link, _) = desk.links.iter().find(|(_, to)| **to == at(REPLICA)).expect("a link");
    let event = LinkEvent::Down { reason: LostReason::Closed };
    desk.input(Input::Link { link: *link, event });
    desk.win();
    assert_eq!(desk.promotions(), [OTHER_REPLICA]);
}

#[test]
pub(super) fn a_replica_without_fresh_info_is_passed_over() {
    is_passed_over(Some("-LOADING"));
}

#[test]
pub(super) fn a_replica_of_somebody_else_is_passed_over_and_left_alone() {
    is_passed_over(Some(&replica_info(9_999, 500, true)));
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), replica_info(9_999, 500, true));
    desk.pass(60_000);
    assert!(!desk.sent.iter().any(|(_, c)| matches!(c, Command::Follow { .. })), "{:?}", desk.sent);
}

#[test]
pub(super) fn a_master_that_never_was_a_replica_is_passed_over() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(OTHER_REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(MASTER), replica_info(OTHER_REPLICA, 100, true));
    desk.pass(1_000);
    desk.hello(2, 4, OTHER_REPLICA, 4);
    desk.pass(1_000);
    desk.infos.remove(&at(OTHER_REPLICA));
    desk.pass(1_200);
    desk.answer_question(26002, 1, "*", 0);
    desk.win();
    desk.pass(1_000);
    assert_eq!(desk.promotions(), [MASTER], "{:?}", desk.events);
}

#[test]
pub(super) fn an_empty_replica_that_never_reached_its_master_is_passed_over() {
    let line = replica_info(MASTER, 900, false) + "master_link_down_since_seconds:-1\r\n";
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), line.clone());
    desk.infos.insert(at(OTHER_REPLICA), line);
    desk.pass(12_000);
    desk.master_dies();
    desk.win();
    desk.pass(1_000);
    assert!(desk.has(EventKind::AbortNoGoodSlave) && desk.promotions().is_empty());
}

#[test]
pub(super) fn a_node_that_shows_the_run_id_of_another_is_passed_over() {
    let double = format!("run_id:{}\r\n", id(9));
    let doubles = |desk: &mut Desk| {
        for (port, offset) in [(REPLICA, 500), (OTHER_REPLICA, 400)] {
            desk.infos.insert(at(port), replica_info(MASTER, offset, true) + &double);
        }
    };
    let promoted = |mut desk: Desk| {
        desk.pass(12_000);
        desk.master_dies();
        desk.win();
        desk.pass(1_000);
        desk.promotions()
    };
    // Nobody else is there: it has two addresses, and either will do.
    let mut desk = Desk::new(1, 2);
    doubles(&mut desk);
    assert_eq!(promoted(desk), [REPLICA]);
    // Another one is, with less data.
    let third = 7004;
    let mut desk = Desk::new(1, 2);
    desk.pass(3_000);
    let (_, mut state) = desk.writes.last().cloned().expect("a write");
    state.groups.get_mut("mymaster").expect("the group").replicas.push(at(third));
    let mut desk = Desk::restored(state);
    doubles(&mut desk);
    let own = format!("run_id:{}\r\n", id(8));
    desk.infos.insert(at(third), replica_info(MASTER, 300, true) + &own);
    assert_eq!(promoted(desk), [third]);
}

#[test]
pub(super) fn another_master_ends_a_failover_of_the_last_one() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.pass(1_500);
    assert_eq!(desk.promotions(), [REPLICA]);
    desk.hello(2, 5, OTHER_REPLICA, 5);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(1_000);
    assert!(!desk.has(EventKind::PromotedSlave), "{:?}", desk.events);
}

#[test]
pub(super) fn a_reset_ends_a_failover() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.ask(Request::Reset("mymaster".into()));
    desk.win();
    desk.pass(1_500);
    assert!(desk.promotions().is_empty(), "{:?}", desk.events);
}

#[test]
pub(super) fn whom_a_lost_leader_promoted_comes_first() {
    let mut desk = Desk::new(1, 2);
    let run_id = format!("run_id:{}\r\n", id(9));
    desk.infos.insert(at(OTHER_REPLICA), replica_info(MASTER, 400, true) + &run_id);
    desk.pass(12_000);
    desk.infos.insert(at(OTHER_REPLICA), format!("role:master\r\n{run_id}"));
    desk.master_dies();
    desk.pass(100);
    desk.win();
    desk.pass(500);
    assert_eq!(desk.promotions(), [OTHER_REPLICA], "{:?}", desk.events);
}
