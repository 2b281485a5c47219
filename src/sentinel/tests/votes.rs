//! To whom a vote is given, in which epoch, and for how long it binds.

use super::*;

#[test]
pub(super) fn a_vote_is_given_once_and_binds_for_a_while() {
    let mut desk = Desk::new(1, 2);
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 2, 5)));
    assert_eq!(desk.vote_for(3, 5), Some(opinion(0, 2, 5)), "one vote per epoch");
    assert_eq!(desk.vote_for(3, 6), Some(opinion(0, 2, 5)), "bound to the first candidate");
    assert_eq!(desk.vote_for(2, 7), Some(opinion(0, 2, 7)), "who may try again");
    desk.pass(election::TENURE_MS + 1);
    assert_eq!(desk.vote_for(3, 8), Some(opinion(0, 3, 8)));
    assert_eq!(desk.vote_for(2, 4), Some(opinion(0, 3, 8)), "old epochs get the old vote");
    assert_eq!(desk.vote_for(9, 20), Some(opinion(0, 3, 8)), "no vote for a stranger");
}

#[test]
pub(super) fn a_vote_outlives_a_crash_and_binds_afresh() {
    let mut desk = Desk::new(1, 2);
    desk.vote_for(2, 5);
    let (_, state) = desk.writes.last().cloned().expect("written");
    let mut desk = Desk::restored(state);
    assert_eq!(desk.vote_for(3, 5), Some(opinion(0, 2, 5)));
    assert_eq!(desk.vote_for(3, 6), Some(opinion(0, 2, 5)));
    assert_eq!(desk.sentinel.view().current_epoch(), 6);
}

#[test]
fn a_vote_that_cannot_be_written_is_not_given() {
    let mut desk = Desk::new(1, 2);
    desk.disk_works = false;
    desk.vote_for(2, 5);
    desk.write_fails();
    assert_eq!(desk.replies, [opinion(0, 0, 0)]);
    assert!(desk.said.iter().any(|text| text.contains("No space left")), "{:?}", desk.said);
    desk.infos.remove(&at(MASTER));
    desk.pass(1200);
    desk.answer_question(26002, 1, "*", 0);
    desk.pass(2000);
    assert!(desk.has(EventKind::Odown) && !desk.has(EventKind::TryFailover), "{:?}", desk.events);
}

#[test]
fn absurd_epochs_are_refused() {
    let mut desk = Desk::new(1, 2);
    for epoch in [-1, i64::MAX, EPOCH_MAX as i64, EPOCH_JUMP_MAX as i64 + 1] {
        let reply = desk.vote_for(2, epoch);
        assert!(matches!(reply, Some(Value::Error(_))), "{epoch}: {reply:?}");
    }
    let counted = |said: &&String| said.starts_with("Refused a vote request for 02020202 in epoch");
    assert_eq!(desk.said.iter().filter(counted).count(), 3, "1, 2, 4: {:?}", desk.said);
    desk.ask(Request::Hello(format!(
        "127.0.0.1,26002,{},18446744073709551615,mymaster,127.0.0.1,7001,0",
        id(2)
    )));
    assert_eq!(desk.sentinel.view().current_epoch(), 0);
    assert_eq!(desk.said.iter().filter(|said| said.contains("absurdly far")).count(), 3);
}

#[test]
pub(super) fn strangers_and_unknown_groups_move_no_epoch_and_get_an_answer_while_the_disk_fails() {
    let mut desk = Desk::new(1, 2);
    assert!(desk.vote_for(9, 500).is_some());
    desk.disk_works = false;
    desk.ask(Request::FlushConfig);
    let (host, port) = ("9.9.9.9".to_owned(), 1);
    let candidate = Some(id(2).to_string());
    let reply = desk.ask(Request::IsMasterDown { host, port, epoch: 7, candidate });
    assert_eq!(reply, Some(opinion(0, 0, 0)));
    assert_eq!(desk.sentinel.view().current_epoch(), 0);
}

#[test]
pub(super) fn whoever_sees_a_minority_only_votes_for_nobody() {
    let mut desk = Desk::new(1, 2);
    for n in [4, 5] {
        desk.hello(n, 0, MASTER, 0);
    }
    desk.pass(2_000);
    assert_eq!(desk.vote_for(2, 1), Some(opinion(0, 2, 1)), "all five are there");
    for n in [3, 4, 5] {
        let link = desk.links.iter().find(|(_, to)| to.port == 26_000 + n).map(|(link, _)| *link);
        let event = LinkEvent::Down { reason: LostReason::Closed };
        desk.input(Input::Link { link: link.expect("a link"), event });
    }
    desk.pass(2_000);
    assert_eq!(desk.vote_for(2, 2), Some(opinion(0, 2, 1)), "two of five");
}

#[test]
pub(super) fn a_vote_asked_for_while_the_disk_fails_is_not_given_later() {
    let mut desk = Desk::new(1, 2);
    desk.disk_works = false;
    desk.ask(Request::FlushConfig);
    desk.write_fails();
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 0, 0)));
    desk.disk_works = true;
    desk.pass(1_500);
    let (_, state) = desk.writes.last().expect("a write");
    assert_eq!(state.groups["mymaster"].voted_for, None);
    assert_eq!(desk.replies, []);
}

#[test]
pub(super) fn the_last_vote_is_told_to_who_asks_again() {
    let mut desk = Desk::new(1, 2);
    for epoch in [5, 5, 4] {
        assert_eq!(desk.vote_for(2, epoch), Some(opinion(0, 2, 5)));
    }
}

#[test]
pub(super) fn no_vote_is_given_in_an_epoch_that_has_a_configuration() {
    let mut desk = Desk::new(1, 2);
    desk.hello(2, 7, MASTER, 7);
    assert_eq!(desk.vote_for(2, 7), Some(opinion(0, 0, 0)));
    assert_eq!(desk.vote_for(2, 8), Some(opinion(0, 2, 8)));
}

#[test]
pub(super) fn a_newcomer_listens_and_votes_in_no_epoch_that_it_heard_of() {
    let mut desk = lone();
    desk.hello(2, 7, MASTER, 0);
    assert_eq!(desk.vote_for(2, 8), Some(opinion(0, 0, 0)), "it listens");
    desk.pass(5_000);
    assert_eq!(desk.vote_for(2, 8), Some(opinion(0, 0, 8)), "it may have voted before");
    assert_eq!(desk.vote_for(2, 9), Some(opinion(0, 2, 9)));
}

#[test]
pub(super) fn an_epoch_far_ahead_in_a_hello_is_reached_in_steps() {
    let mut desk = Desk::new(1, 2);
    let epoch = |desk: &Desk| desk.sentinel.view().current_epoch();
    let far = 3 * EPOCH_STRIDE_MAX + 7;
    // Somebody led the two others there, and they have elected one without us.
    desk.hello(9, far, REPLICA, far);
    assert_eq!(epoch(&desk), 0, "a stranger leads nobody");
    desk.hello(2, far, REPLICA, far);
    assert_eq!(epoch(&desk), EPOCH_STRIDE_MAX);
    desk.hello(3, far, REPLICA, far);
    assert!(epoch(&desk) < 2 * EPOCH_STRIDE_MAX, "a leap, and a pause");
    assert!(!desk.has(EventKind::SwitchMaster), "{:?}", desk.events);
    for _ in 0..3 {
        desk.pass(300);
        desk.hello(2, far, REPLICA, far);
    }
    assert_eq!(epoch(&desk), far);
    assert!(desk.has(EventKind::SwitchMaster), "{:?}", desk.events);
    assert!(desk.said.iter().any(|said| said.contains("says hello in epoch")), "{:?}", desk.said);
}

#[test]
fn who_lags_far_behind_a_master_that_others_elected_sends_nobody_anywhere() {
    // Stock sentinels were made to believe anything: nobody can follow them there.
    let far = EPOCH_STRIDE_MAX * (EPOCH_STRIDES_MAX + 2);
    for (epoch, waits) in [(far, true), (u64::MAX - 1, true), (0, false)] {
        let mut desk = Desk::new(1, 2);
        desk.pass(3_000);
        desk.infos.insert(at(REPLICA), "role:master\r\n".into());
        for _ in 0..60 {
            desk.hello(2, epoch, if waits { REPLICA } else { MASTER }, epoch);
            desk.pass(2_000);
        }
        assert_eq!(desk.orders_to(REPLICA).is_empty(), waits, "{epoch}: {:?}", desk.sent);
        assert_eq!(desk.sentinel.view().current_epoch(), 0);
    }
}

#[test]
fn many_vote_requests_lead_nobody_far() {
    let mut desk = Desk::new(1, 2);
    for n in 1..100 {
        desk.vote_for(2, n * EPOCH_JUMP_MAX as i64);
    }
    assert_eq!(desk.sentinel.view().current_epoch(), EPOCH_JUMP_MAX);
    let next = EPOCH_JUMP_MAX as i64 + 1;
    assert_eq!(desk.vote_for(2, next), Some(opinion(0, 2, next)), "elections go on");
}

#[test]
fn a_vote_in_a_removed_group_is_not_told() {
    let mut desk = Desk::new(1, 2);
    desk.disk_works = false;
    assert_eq!(desk.vote_for(2, 5), None);
    // What is written from now on holds no vote.
    let removed = desk.ask(Request::Remove("mymaster".into()));
    assert_eq!(removed, Some(opinion(0, 0, 0)));
    desk.write_ends();
    assert!(!desk.replies.contains(&opinion(0, 2, 5)), "{:?}", desk.replies);
}

#[test]
fn a_vote_outlives_a_configuration_of_an_older_epoch() {
    let mut desk = Desk::new(1, 2);
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 2, 5)));
    desk.hello(3, 4, REPLICA, 4);
    assert!(desk.has(EventKind::SwitchMaster));
    let (host, port) = ("127.0.0.1".to_owned(), i64::from(REPLICA));
    let candidate = Some(id(3).to_string());
    let vote = desk.ask(Request::IsMasterDown { host, port, epoch: 6, candidate });
    assert_eq!(vote, Some(opinion(0, 2, 5)));
}

#[test]
pub(super) fn a_vote_binds_beyond_a_configuration_of_an_earlier_epoch() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    assert_eq!(desk.vote_for(2, 7), Some(opinion(0, 2, 7)));
    desk.hello(3, 7, REPLICA, 5);
    let candidate = Some(id(3).to_string());
    let (host, port) = ("127.0.0.1".to_owned(), i64::from(REPLICA));
    let answer = desk.ask(Request::IsMasterDown { host, port, epoch: 8, candidate });
    assert_eq!(answer, Some(opinion(0, 2, 7)));
}
