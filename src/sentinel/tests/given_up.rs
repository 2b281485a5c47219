//! Elections that are given up: who voted for the loser is told so, and is free.

use super::*;
use crate::sentinel::hello::GiveUp;

impl Desk {
    /// Whom it told that it gave up, and in which epoch.
    fn freed(&self) -> Vec<(u16, u64)> {
        let told = |(to, command): &(Address, Command)| match command {
            Command::GiveUp(given_up) => Some((to.port, given_up.epoch)),
            _ => None,
        };
        self.sent.iter().filter_map(told).collect()
    }

    /// A candidate says that it gave up the election of this epoch.
    fn gives_up(&mut self, candidate: u8, epoch: u64) {
        let given_up = GiveUp { id: id(candidate), epoch, group: "mymaster".into() };
        self.ask(Request::Hello(given_up.payload()));
    }
}

#[test]
pub(super) fn whoever_gives_up_an_election_frees_its_voters() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    let other = id(3).to_string();
    for port in [26002, 26003] {
        desk.answer_question(port, 1, &other, 1);
    }
    assert!(desk.has(EventKind::AbortNotElected), "{:?}", desk.events);
    assert_eq!(desk.freed(), [(26002, 1), (26003, 1)], "{:?}", desk.sent);
}

#[test]
fn whoever_finds_nobody_to_promote_frees_its_voters_too() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    for port in [REPLICA, OTHER_REPLICA] {
        desk.infos.remove(&at(port));
    }
    desk.master_dies();
    desk.win();
    desk.pass(1_000);
    assert!(desk.has(EventKind::AbortNoGoodSlave), "{:?}", desk.events);
    assert_eq!(desk.freed(), [(26002, 1), (26003, 1)], "{:?}", desk.sent);
}

#[test]
pub(super) fn whoever_has_promoted_somebody_frees_nobody() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.pass(election::TENURE_MS + 100);
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
    assert_eq!(desk.freed(), [], "the order may be on its way: {:?}", desk.sent);
}

#[test]
fn whoever_may_share_its_id_with_another_frees_nobody() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    let line = format!("127.0.0.1,26009,{},0,mymaster,127.0.0.1,{MASTER},0", id(1));
    desk.ask(Request::Hello(line));
    desk.reply_from(26_009, Command::AskId { word: Some(id(9)) }, Value::bulk(id(1).as_str()));
    assert!(desk.has(EventKind::AbortNotElected), "{:?}", desk.events);
    assert_eq!(desk.freed(), [], "the votes may be the other's: {:?}", desk.sent);
}

#[test]
pub(super) fn a_voter_is_free_of_that_vote_only() {
    let mut desk = Desk::new(1, 2);
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 2, 5)));
    desk.gives_up(3, 5);
    desk.gives_up(2, 4);
    assert_eq!(desk.vote_for(3, 6), Some(opinion(0, 2, 5)), "it has no other candidate's vote");
    desk.gives_up(2, 5);
    assert_eq!(desk.vote_for(3, 5), Some(opinion(0, 2, 5)), "one vote per epoch");
    assert_eq!(desk.vote_for(3, 7), Some(opinion(0, 3, 7)));
    assert_eq!(desk.vote_for(3, 8), Some(opinion(0, 3, 8)));
    // Said before the last vote, and late on its way.
    desk.gives_up(3, 7);
    assert_eq!(desk.vote_for(2, 9), Some(opinion(0, 3, 8)));
}

#[test]
fn nobody_else_gives_up_for_us() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    let epoch = desk.sentinel.view().current_epoch();
    desk.gives_up(1, epoch);
    let vote = desk.vote_for(2, epoch as i64 + 1);
    assert_eq!(vote, Some(opinion(1, 1, epoch as i64)), "our own vote binds us all the same");
}

#[test]
fn a_voter_that_is_freed_lets_those_that_come_first_stand_first() {
    let mut desk = Desk::new(9, 2);
    desk.pass(2_000);
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 2, 5)));
    desk.master_dies();
    desk.gives_up(2, 5);
    desk.pass(20);
    assert!(!desk.has(EventKind::TryFailover), "two others come first: {:?}", desk.events);
    desk.pass(300);
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.events);
}

#[test]
fn a_failover_that_is_ordered_while_a_vote_binds_is_possible_once_that_is_free() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.vote_for(2, 5);
    let failover = |desk: &mut Desk| desk.ask(Request::Failover("mymaster".into()));
    let busy = Value::error("INPROG Failover already in progress");
    assert_eq!(failover(&mut desk), Some(busy));
    desk.gives_up(2, 5);
    assert_eq!(failover(&mut desk), Some(Value::ok()));
}
