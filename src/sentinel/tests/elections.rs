//! Who stands for election and when, who wins, and when the next attempt is made.

use super::*;

#[test]
fn without_a_majority_nothing_starts_and_the_reason_is_said() {
    let mut desk = Desk::new(1, 1);
    desk.pass(2_000);
    let peers: Vec<LinkId> =
        desk.links.iter().filter(|(_, to)| to.port > 26000).map(|(link, _)| *link).collect();
    for link in peers {
        let event = LinkEvent::Down { reason: LostReason::Refused };
        desk.input(Input::Link { link, event });
    }
    desk.infos.remove(&at(MASTER));
    desk.pass(10_000);
    assert!(desk.has(EventKind::Odown), "quorum 1 of 3 agrees with itself");
    assert!(!desk.has(EventKind::TryFailover));
    let why = "only 1 of 3 sentinels can be reached, and 2 votes are needed";
    assert!(desk.said.iter().any(|text| text.contains(why)), "{:?}", desk.said);
    let told = desk.ask(Request::CkQuorum("mymaster".into()));
    assert!(matches!(told, Some(Value::Error(text)) if text.starts_with("NOQUORUM 1 usable")));
}

#[test]
fn a_lost_election_is_repeated_soon_and_in_a_new_epoch() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.master_dies();
    let other = id(3).to_string();
    desk.answer_question(26002, 1, &other, 1);
    desk.answer_question(26003, 1, &other, 1);
    assert!(desk.has(EventKind::AbortNotElected));
    desk.events.clear();
    desk.pass(1_000);
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.events);
    assert!(desk.promotions().is_empty());
    assert!(desk.sentinel.view().current_epoch() >= 2);
}

#[test]
fn a_vote_for_another_does_not_shorten_the_pause_after_lost_elections() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.master_dies();
    let refused_for = |desk: &mut Desk, ms: u64| {
        for _ in 0..ms / 100 {
            desk.pass(100);
            desk.answer_question(26002, 1, "*", 0);
            desk.answer_question(26003, 1, "*", 0);
        }
    };
    let lost =
        |desk: &Desk| desk.events.iter().filter(|e| e.0 == EventKind::AbortNotElected).count();
    refused_for(&mut desk, 60_000);
    let before = lost(&desk);
    assert!(before >= 8, "{before} elections lost");
    while lost(&desk) == before {
        refused_for(&mut desk, 100);
    }
    let epoch = desk.sentinel.view().current_epoch() as i64 + 1;
    assert_eq!(desk.vote_for(2, epoch), Some(opinion(1, 2, epoch)));
    desk.events.clear();
    refused_for(&mut desk, election::TENURE_MS + 500);
    assert!(!desk.has(EventKind::TryFailover), "{:?}", desk.events);
}

#[test]
fn opinions_about_the_old_master_do_not_fail_the_new_one_over() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(1200);
    let late = desk.question(26002);
    desk.hello(3, 4, REPLICA, 4);
    desk.reply_from(26002, late, opinion(1, 0, 0));
    desk.infos.remove(&at(REPLICA));
    desk.events.clear();
    desk.pass(1500);
    assert!(desk.has(EventKind::Sdown));
    assert!(!desk.has(EventKind::Odown), "{:?}", desk.events);
}

#[test]
fn a_manual_failover_needs_a_majority_too() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    assert_eq!(desk.ask(Request::Failover("mymaster".into())), Some(Value::ok()));
    assert!(desk.promotions().is_empty());
    let again = desk.ask(Request::Failover("mymaster".into()));
    assert_eq!(again, Some(Value::error("INPROG Failover already in progress")));
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA]);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(200);
    let demoted = (at(MASTER), Command::Follow { master: at(REPLICA) });
    assert!(desk.sent.contains(&demoted), "the old master is told at once: {:?}", desk.sent);
}

#[test]
fn whoever_is_alone_gives_up_if_its_vote_is_not_on_disk_while_it_binds() {
    for is_stopped in [false, true] {
        let mut desk = lone();
        desk.pass(5_000);
        desk.disk_works = false;
        desk.infos.remove(&at(MASTER));
        desk.pass(1_500);
        match is_stopped {
            true => desk.now_ms += 6_000,
            false => desk.pass(6_000),
        }
        desk.write_ends();
        assert!(desk.promotions().is_empty(), "{:?}", desk.events);
    }
}

#[test]
fn whoever_is_alone_leads_nothing_while_its_vote_is_not_on_disk() {
    let mut desk = lone();
    desk.pass(5_000);
    desk.disk_works = false;
    desk.infos.remove(&at(MASTER));
    desk.pass(1_500);
    desk.write_fails();
    assert!(!desk.has(EventKind::ElectedLeader), "{:?}", desk.events);
}

#[test]
pub(super) fn nobody_stands_for_election_whose_disk_fails() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.disk_works = false;
    desk.ask(Request::FlushConfig);
    desk.write_fails();
    desk.master_dies();
    assert!(desk.has(EventKind::Odown));
    assert_eq!(desk.sentinel.view().current_epoch(), 0);
}

#[test]
pub(super) fn an_answer_about_the_old_master_says_nothing_of_the_new_one() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(1_200);
    let late = desk.question(26002);
    desk.infos.remove(&at(REPLICA));
    desk.hello(3, 4, REPLICA, 4);
    desk.pass(1_500);
    assert!(desk.has(EventKind::Sdown));
    desk.reply_from(26002, late, opinion(1, 0, 0));
    assert!(!desk.has(EventKind::Odown), "{:?}", desk.events);
}

#[test]
pub(super) fn a_voter_does_not_stand_while_its_vote_binds_and_then_lets_others_go_first() {
    let mut desk = Desk::new(9, 2);
    desk.pass(2_000);
    let begun = desk.now_ms;
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 2, 5)));
    let manual = desk.ask(Request::Failover("mymaster".into()));
    assert_eq!(manual, Some(Value::error("INPROG Failover already in progress")));
    desk.master_dies();
    while desk.now_ms < begun + election::TENURE_MS {
        assert!(!desk.has(EventKind::TryFailover), "{:?}", desk.events);
        desk.pass(200);
        desk.answer_question(26002, 1, "*", 0);
        desk.answer_question(26003, 1, "*", 0);
    }
    desk.pass(20);
    assert!(!desk.has(EventKind::TryFailover), "two others come first: {:?}", desk.events);
    desk.pass(300);
    assert!(desk.has(EventKind::TryFailover));
}

#[test]
pub(super) fn sentinels_of_smaller_rank_stand_first() {
    let mut desk = Desk::new(9, 2);
    desk.pass(5_000);
    desk.master_dies();
    assert!(desk.has(EventKind::Odown) && !desk.has(EventKind::TryFailover));
    desk.pass(300);
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.events);
}

#[test]
fn a_leader_needs_a_majority_and_the_quorum() {
    for (quorum, votes) in [(1, 2), (3, 3)] {
        let mut desk = Desk::new(1, quorum);
        desk.pass(2_000);
        desk.ask(Request::Failover("mymaster".into()));
        let me = id(1).to_string();
        for (n, port) in [26002, 26003].into_iter().enumerate() {
            let had = n + 1;
            assert_eq!(desk.has(EventKind::ElectedLeader), had >= votes, "{had} of {votes}");
            desk.answer_question(port, 1, &me, 1);
        }
        assert!(desk.has(EventKind::ElectedLeader));
    }
}

#[test]
fn a_vote_of_another_epoch_does_not_count() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.answer_question(26002, 1, id(1).as_str(), 9);
    assert!(!desk.has(EventKind::ElectedLeader));
}

#[test]
fn one_sentinel_alone_begins_no_election() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(3_000);
    assert!(desk.has(EventKind::Sdown) && !desk.has(EventKind::TryFailover));
}

#[test]
pub(super) fn the_own_vote_is_free_and_the_next_attempt_waits_after_a_lost_election() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    let other = id(3).to_string();
    desk.answer_question(26002, 1, &other, 1);
    desk.answer_question(26003, 1, &other, 1);
    let tries = desk.events.iter().filter(|(kind, _)| *kind == EventKind::TryFailover).count();
    assert_eq!(tries, 1, "{:?}", desk.events);
    assert_eq!(desk.vote_for(2, 5), Some(opinion(1, 2, 5)));
}

#[test]
pub(super) fn old_opinions_count_no_longer() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    assert!(desk.has(EventKind::Odown));
    desk.infos.remove(&at(REPLICA));
    desk.hello(2, 4, REPLICA, 4);
    // What it was asked before, about the old master.
    desk.answer_question(26003, 1, "*", 0);
    desk.events.clear();
    desk.pass(1_500);
    assert!(desk.has(EventKind::Sdown) && !desk.has(EventKind::Odown), "{:?}", desk.events);
    desk.answer_question(26003, 1, "*", 0);
    assert!(desk.has(EventKind::Odown));
    desk.pass(6_000);
    assert!(desk.has(EventKind::OdownEnd), "{:?}", desk.events);
}

#[test]
pub(super) fn an_election_ends_when_the_master_is_back() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.master_dies();
    desk.pass(100);
    desk.infos.insert(at(MASTER), "role:master\r\n".into());
    desk.reply_from(MASTER, Command::Ping, Value::Simple("PONG".into()));
    desk.win();
    desk.pass(500);
    assert!(desk.promotions().is_empty(), "{:?}", desk.events);
    assert!(desk.has(EventKind::AbortNotElected), "{:?}", desk.events);
}

#[test]
pub(super) fn who_is_met_after_an_election_has_a_say() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.master_dies();
    desk.pass(100);
    // One replica has to be waited for.
    desk.infos.remove(&at(OTHER_REPLICA));
    desk.win();
    assert!(desk.has(EventKind::ElectedLeader), "{:?}", desk.events);
    for n in [4, 5] {
        desk.hello(n, 0, MASTER, 0);
    }
    desk.pass(500);
    assert!(desk.promotions().is_empty(), "two votes of five: {:?}", desk.events);
}

#[test]
pub(super) fn after_many_lost_elections_all_votes_may_be_free() {
    // A vote binds for 5 s, and each of three sentinels may hold another's.
    let mut desk = Desk::new(1, 2);
    desk.master_dies();
    let (mut began, mut longest) = (Vec::new(), 0);
    for _ in 0..1_500 {
        desk.pass(100);
        for (port, down) in [(26002, 1), (26003, 0)] {
            desk.answer_question(port, down, "*", 0);
        }
        let attempts = desk.events.iter().filter(|(kind, _)| *kind == EventKind::TryFailover);
        if attempts.count() > began.len() {
            longest = longest.max(desk.now_ms - began.last().unwrap_or(&desk.now_ms));
            began.push(desk.now_ms);
        }
    }
    assert!(
        longest > 3 * super::super::election::TENURE_MS && began.len() > 5,
        "{longest}: {began:?}"
    );
}
