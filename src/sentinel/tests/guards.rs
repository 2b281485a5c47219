//! Guards that one sentinel alone can show to be needed: each has a test that fails without it.

use std::panic::catch_unwind;

use super::super::{Guard, without};
use super::*;

/// Guards, and for each the test that catches its absence.
const CAUGHT: &[(Guard, fn())] = &[
    (Guard::PromotionOnDisk, whoever_is_alone_promotes_once_its_vote_is_on_disk),
    (Guard::DiskForVote, a_vote_asked_for_while_the_disk_fails_is_not_given_later),
    (Guard::DiskForElection, nobody_stands_for_election_whose_disk_fails),
    (Guard::OneVotePerEpoch, the_last_vote_is_told_to_who_asks_again),
    (Guard::VoteAboveConfig, no_vote_is_given_in_an_epoch_that_has_a_configuration),
    (Guard::VoteBinds, super::a_vote_is_given_once_and_binds_for_a_while),
    (Guard::VoteBindsCandidate, VOTER),
    (Guard::VoteBindsAfterRestart, super::a_vote_outlives_a_crash_and_binds_afresh),
    (Guard::VoterHoldsBack, VOTER),
    (Guard::KnownCandidate, STRANGERS),
    (Guard::VoterSeesMajority, whoever_sees_a_minority_only_votes_for_nobody),
    (Guard::NewcomerListens, a_newcomer_listens_and_votes_in_no_epoch_that_it_heard_of),
    (Guard::NewcomerVotesLater, a_newcomer_listens_and_votes_in_no_epoch_that_it_heard_of),
    (Guard::Rank, sentinels_of_smaller_rank_stand_first),
    (Guard::RetryPause, the_own_vote_is_free_and_the_next_attempt_waits_after_a_lost_election),
    (Guard::OwnVoteFreed, the_own_vote_is_free_and_the_next_attempt_waits_after_a_lost_election),
    (Guard::VotersReleased, super::given_up::whoever_gives_up_an_election_frees_its_voters),
    (Guard::ReleasedUnacted, super::given_up::whoever_has_promoted_somebody_frees_nobody),
    (Guard::ReleasedOfThisEpoch, super::given_up::a_voter_is_free_of_that_vote_only),
    (Guard::OpinionOfThisMaster, an_answer_about_the_old_master_says_nothing_of_the_new_one),
    (Guard::OpinionsForgotten, old_opinions_count_no_longer),
    (Guard::OpinionsExpire, old_opinions_count_no_longer),
    (Guard::CredibleEpoch, an_epoch_far_ahead_in_a_hello_is_refused),
    (Guard::LateFailoverEnds, a_newer_configuration_of_the_same_master_ends_an_older_failover),
    (Guard::LaggardsTold, super::a_newer_configuration_is_adopted_and_an_older_one_corrected),
    (Guard::OneIdPerSentinel, whoever_hears_its_own_id_from_elsewhere_takes_another),
    (Guard::DoubleStandsBack, whoever_may_share_its_id_does_not_stand),
    (Guard::PromotionInTenure, votes_that_come_after_a_stall_promote_nobody),
    (Guard::PromotionEnds, a_promotion_without_effect_is_given_up),
    (Guard::PromotionSeen, what_was_said_before_the_order_shows_no_promotion),
    (Guard::PromotionCounts, super::a_promotion_seen_too_late_is_not_announced),
    (Guard::FreshInfoAwaited, a_leader_waits_a_moment_for_fresh_info),
    (Guard::CandidateLives, a_replica_that_is_silent_is_passed_over),
    (Guard::CandidateInfoFresh, a_replica_without_fresh_info_is_passed_over),
    (Guard::CandidateLinkTime, super::replicas_that_must_not_be_promoted_are_not),
    (Guard::EmptyNotPromoted, an_empty_replica_that_never_reached_its_master_is_passed_over),
    (Guard::DoubleNotPromoted, a_node_that_shows_the_run_id_of_another_is_passed_over),
    (Guard::PriorityZero, super::replicas_that_must_not_be_promoted_are_not),
    (Guard::ForeignNotPromoted, a_replica_of_somebody_else_is_passed_over_and_left_alone),
    (Guard::StrayNotPromoted, a_master_that_never_was_a_replica_is_passed_over),
    (Guard::ForeignLeftAlone, a_replica_of_somebody_else_is_passed_over_and_left_alone),
    (Guard::LookupShowsFollowers, LOOKUP),
    (
        Guard::OthersReplicasTell,
        super::strangers::a_master_whose_replicas_are_all_strangers_is_left_alone,
    ),
    (Guard::DisputedLeftAlone, DISPUTED),
    (Guard::LedAwayLeft, LED_AWAY),
    (Guard::DemotedTells, super::the_node_that_our_demoted_master_follows_may_lead_the_group),
    (Guard::PauseFreesAll, after_many_lost_elections_all_votes_may_be_free),
    (Guard::NotToItself, TO_ITSELF),
    (
        Guard::OfThisConnection,
        super::strangers::what_a_node_said_on_an_earlier_connection_sends_nobody_anywhere,
    ),
    (
        Guard::CopyingCounts,
        super::promises::a_replica_that_copies_the_data_holds_up_the_next_one_whoever_sent_it,
    ),
    (Guard::NoRepairInFailover, nobody_is_sent_to_the_old_master_while_a_new_one_is_chosen),
    (Guard::RightsNeeded, super::rights::who_refuses_a_command_of_the_promotion_is_passed_over),
    (Guard::StolenNotAdopted, super::strangers::a_master_that_is_another_groups_is_refused),
    (Guard::RefusedWaits, super::a_node_that_refuses_is_asked_again_after_a_pause),
    (Guard::PromotedHasTime, PROMOTED),
    (Guard::MasterSane, nobody_is_sent_to_a_master_that_is_down),
    (Guard::Patience, super::a_returning_old_master_is_taken_back_after_all_have_confirmed),
    (Guard::PeersConfirm, a_master_too_many_is_given_time_unless_all_have_confirmed),
    (Guard::ParallelSyncs, replicas_are_repointed_one_after_the_other),
    (Guard::RoleOfThisConfig, super::a_promoted_node_is_not_down_for_having_been_a_replica),
    (Guard::DemotedIsDown, super::a_circle_of_replicas_gets_its_master_back),
    (Guard::HalfOpenReopened, a_silent_connection_is_opened_anew),
    (Guard::StallForgiven, super::time_not_watched_counts_against_nobody),
    (Guard::Tilt, nothing_is_decided_right_after_a_stall),
    (Guard::ResetConfirms, who_shows_no_sign_of_life_after_a_reset_is_forgotten),
    (Guard::RemovedFallsSilent, a_removed_group_falls_silent_and_stays_removed),
    (Guard::RemovedStays, a_removed_group_falls_silent_and_stays_removed),
    (Guard::StaleHelloRecalled, STALE_HELLO),
    (Guard::ConfigEndsFailover, another_master_ends_a_failover_of_the_last_one),
    (Guard::LaterVoteBinds, a_vote_binds_beyond_a_configuration_of_an_earlier_epoch),
    (Guard::OdownStands, an_election_ends_when_the_master_is_back),
    (Guard::VotesCountedAgain, who_is_met_after_an_election_has_a_say),
    (Guard::ResetEndsFailover, a_reset_ends_a_failover),
    (Guard::PromotedFirst, whom_a_lost_leader_promoted_comes_first),
    (Guard::LaggardLast, LAGGARD),
];
const STALE_HELLO: fn() =
    super::lessons::a_hello_that_waited_for_the_disk_does_not_go_once_another_master_is_known;
const LAGGARD: fn() = super::a_replica_that_lost_its_master_before_comes_last_whatever_its_priority;
const LOOKUP: fn() =
    super::lookups::who_follows_what_the_masters_name_means_is_ours_before_a_connection_stands;
const DISPUTED: fn() =
    super::strangers::who_follows_a_master_that_another_group_claims_is_left_alone_and_so_is_that;
const LED_AWAY: fn() =
    super::lessons::a_master_that_nobody_elected_and_that_follows_a_stranger_stays_a_replica;
const TO_ITSELF: fn() =
    super::links::a_master_that_is_known_by_name_and_by_address_is_not_sent_to_itself;
const PROMOTED: fn() =
    super::lessons::a_leader_that_still_repoints_gives_time_to_whom_a_later_one_may_have_promoted;
const STRANGERS: fn() =
    super::strangers_and_unknown_groups_move_no_epoch_and_get_an_answer_while_the_disk_fails;
const VOTER: fn() = a_voter_does_not_stand_while_its_vote_binds_and_then_lets_others_go_first;

#[test]
fn each_guard_off_is_caught_by_its_test() {
    let caught = |test: fn(), guard| catch_unwind(|| without(guard, test)).is_err();
    let escaped = CAUGHT.iter().filter(|(guard, test)| !caught(*test, *guard));
    let escaped: Vec<Guard> = escaped.map(|(guard, _)| *guard).collect();
    assert_eq!(escaped, [], "their tests pass without them");
    let has_test = |guard: &&Guard| CAUGHT.iter().any(|(tested, _)| tested == *guard);
    let untested: Vec<_> = Guard::RARE.iter().filter(|guard| !has_test(guard)).collect();
    assert!(untested.is_empty(), "no drawn run misses these, nor does a test: {untested:?}");
}

/// A sentinel that watches MASTER and knows no other one yet.
fn lone() -> Desk {
    let mut settings = GroupSettings::new(at(MASTER), 1);
    settings.down_after_ms = 1_000;
    let mut group = GroupState::fresh(settings, None);
    group.replicas = vec![at(REPLICA)];
    let groups = BTreeMap::from([("mymaster".to_owned(), group)]);
    Desk::restored(State {
        my_id: id(1),
        current_epoch: 0,
        groups,
        removed: BTreeMap::new(),
        live: None,
    })
}

#[test]
fn whoever_is_alone_promotes_once_its_vote_is_on_disk() {
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
fn whoever_sees_a_minority_only_votes_for_nobody() {
    let mut desk = Desk::new(1, 2);
    for n in [4, 5] {
        desk.hello(n, 0, MASTER, 0);
    }
    desk.pass(2_000);
    assert_eq!(desk.vote_for(2, 1), Some(super::opinion(0, 2, 1)), "all five are there");
    for n in [3, 4, 5] {
        let link = desk.links.iter().find(|(_, to)| to.port == 26_000 + n).map(|(link, _)| *link);
        let event = LinkEvent::Down { reason: LostReason::Closed };
        desk.input(Input::Link { link: link.expect("a link"), event });
    }
    desk.pass(2_000);
    assert_eq!(desk.vote_for(2, 2), Some(super::opinion(0, 2, 1)), "two of five");
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
fn replicas_are_sent_to_a_master_that_is_on_disk() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.disk_works = false;
    desk.pass(500);
    let follow = (at(OTHER_REPLICA), Command::Follow { master: at(REPLICA) });
    assert!(!desk.sent.contains(&follow));
    desk.write_ends();
    assert!(desk.sent.contains(&follow), "{:?}", desk.sent);
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
fn a_vote_asked_for_while_the_disk_fails_is_not_given_later() {
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
fn nobody_stands_for_election_whose_disk_fails() {
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
fn the_last_vote_is_told_to_who_asks_again() {
    let mut desk = Desk::new(1, 2);
    for epoch in [5, 5, 4] {
        assert_eq!(desk.vote_for(2, epoch), Some(opinion(0, 2, 5)));
    }
}

#[test]
fn an_answer_about_the_old_master_says_nothing_of_the_new_one() {
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
fn no_vote_is_given_in_an_epoch_that_has_a_configuration() {
    let mut desk = Desk::new(1, 2);
    desk.hello(2, 7, MASTER, 7);
    assert_eq!(desk.vote_for(2, 7), Some(opinion(0, 0, 0)));
    assert_eq!(desk.vote_for(2, 8), Some(opinion(0, 2, 8)));
}

#[test]
fn a_voter_does_not_stand_while_its_vote_binds_and_then_lets_others_go_first() {
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
fn sentinels_of_smaller_rank_stand_first() {
    let mut desk = Desk::new(9, 2);
    desk.pass(5_000);
    desk.master_dies();
    assert!(desk.has(EventKind::Odown) && !desk.has(EventKind::TryFailover));
    desk.pass(300);
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.events);
}

#[test]
fn a_newcomer_listens_and_votes_in_no_epoch_that_it_heard_of() {
    let mut desk = lone();
    desk.hello(2, 7, MASTER, 0);
    assert_eq!(desk.vote_for(2, 8), Some(opinion(0, 0, 0)), "it listens");
    desk.pass(5_000);
    assert_eq!(desk.vote_for(2, 8), Some(opinion(0, 0, 8)), "it may have voted before");
    assert_eq!(desk.vote_for(2, 9), Some(opinion(0, 2, 9)));
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
fn the_own_vote_is_free_and_the_next_attempt_waits_after_a_lost_election() {
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
fn old_opinions_count_no_longer() {
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
fn an_epoch_far_ahead_in_a_hello_is_refused() {
    let mut desk = Desk::new(1, 2);
    desk.hello(2, EPOCH_JUMP_MAX + 1, MASTER, 0);
    assert_eq!(desk.sentinel.view().current_epoch(), 0);
}

#[test]
fn a_newer_configuration_of_the_same_master_ends_an_older_failover() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.hello(2, 5, MASTER, 5);
    desk.answer_question(26002, 1, id(1).as_str(), 1);
    assert!(desk.promotions().is_empty());
}

#[test]
fn whoever_hears_its_own_id_from_elsewhere_takes_another() {
    let mut desk = Desk::new(1, 2);
    for _ in 0..3 {
        desk.pass(4_000);
        desk.ask(own_hello(26_009));
    }
    assert_ne!(desk.sentinel.view().my_id(), &id(1));
}

#[test]
fn whoever_may_share_its_id_does_not_stand() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.ask(own_hello(26_009));
    desk.master_dies();
    assert!(!desk.has(EventKind::TryFailover), "a vote for us elects both: {:?}", desk.events);
    let refused = desk.ask(Request::Failover("mymaster".into()));
    let why = "127.0.0.1:26009 speaks with my id";
    assert!(matches!(&refused, Some(Value::Error(text)) if text.contains(why)), "{refused:?}");
}

#[test]
fn one_sentinel_lives_at_an_address() {
    let mut desk = Desk::new(1, 2);
    let line = format!("127.0.0.1,26002,{},0,mymaster,127.0.0.1,{MASTER},0", id(7));
    desk.ask(Request::Hello(line));
    assert!(desk.has(EventKind::SentinelInvalidAddr));
    let Some(Value::Array(known)) = desk.ask(Request::Sentinels("mymaster".into())) else {
        panic!("no sentinels: {:?}", desk.replies);
    };
    assert_eq!(known.len(), 2);
}

#[test]
fn votes_that_come_after_a_stall_promote_nobody() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.now_ms += 10_000;
    desk.win();
    desk.pass(3_000);
    assert!(desk.promotions().is_empty());
}

#[test]
fn a_promotion_without_effect_is_given_up() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.pass(election::TENURE_MS + 100);
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
}

#[test]
fn what_was_said_before_the_order_shows_no_promotion() {
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
fn a_leader_waits_a_moment_for_fresh_info() {
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
fn a_replica_that_is_silent_is_passed_over() {
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
fn a_replica_without_fresh_info_is_passed_over() {
    is_passed_over(Some("-LOADING"));
}

#[test]
fn a_replica_of_somebody_else_is_passed_over_and_left_alone() {
    is_passed_over(Some(&replica_info(9_999, 500, true)));
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), replica_info(9_999, 500, true));
    desk.pass(60_000);
    assert!(!desk.sent.iter().any(|(_, c)| matches!(c, Command::Follow { .. })), "{:?}", desk.sent);
}

#[test]
fn a_master_that_never_was_a_replica_is_passed_over() {
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
fn an_empty_replica_that_never_reached_its_master_is_passed_over() {
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
fn a_node_that_shows_the_run_id_of_another_is_passed_over() {
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
fn nobody_is_sent_to_a_master_that_is_down() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 400, false));
    desk.pass(60_000);
    assert!(!desk.sent.iter().any(|(_, c)| matches!(c, Command::Follow { .. })), "{:?}", desk.sent);
}

#[test]
fn a_master_too_many_is_given_time_unless_all_have_confirmed() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    let follow = (at(MASTER), Command::Follow { master: at(REPLICA) });
    desk.pass(7_000);
    assert!(!desk.sent.contains(&follow), "{:?}", desk.events);
    desk.pass(3_000);
    assert!(desk.sent.contains(&follow));
}

#[test]
fn replicas_are_repointed_one_after_the_other() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.infos.insert(at(MASTER), replica_info(OTHER_REPLICA, 400, false));
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(3_000);
    let follow = |(_, c): &&(Address, Command)| matches!(c, Command::Follow { .. });
    assert_eq!(desk.sent.iter().filter(follow).count(), 1, "{:?}", desk.sent);
}

#[test]
fn a_silent_connection_is_opened_anew() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let link = |desk: &Desk| desk.links.iter().find(|(_, to)| **to == at(MASTER)).map(|l| *l.0);
    let before = link(&desk);
    desk.infos.remove(&at(MASTER));
    desk.pass(3_000);
    assert_ne!(link(&desk), before);
}

#[test]
fn nothing_is_decided_right_after_a_stall() {
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

#[test]
fn who_shows_no_sign_of_life_after_a_reset_is_forgotten() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Reset("*".into()));
    desk.pass(2_000);
    desk.hello(2, 0, MASTER, 0);
    desk.pass(10_000);
    let Some(Value::Array(known)) = desk.ask(Request::Sentinels("mymaster".into())) else {
        panic!("no sentinels: {:?}", desk.replies);
    };
    assert_eq!(known.len(), 1);
}

#[test]
fn a_removed_group_falls_silent_and_stays_removed() {
    let mut settings = GroupSettings::new(at(MASTER), 1);
    settings.down_after_ms = 1_000;
    let group = GroupState::fresh(settings.clone(), Some(settings));
    let groups = BTreeMap::from([("mymaster".to_owned(), group)]);
    let state =
        State { my_id: id(1), current_epoch: 0, groups, removed: BTreeMap::new(), live: None };
    let mut desk = Desk::restored(state);
    desk.pass(2_000);
    desk.disk_works = false;
    desk.hello(2, 4, REPLICA, 4);
    desk.sent.clear();
    desk.events.clear();
    desk.ask(Request::Remove("mymaster".into()));
    desk.disk_works = true;
    desk.write_ends();
    assert!(!desk.has(EventKind::SwitchMaster), "{:?}", desk.events);
    let (_, state) = desk.writes.last().expect("a write");
    assert!(state.groups.is_empty() && state.removed.contains_key("mymaster"));
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
fn who_moves_replaces_whoever_was_there_in_all_groups() {
    let mut desk = Desk::new(1, 2);
    let (name, host) = ("other".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "2".into() });
    for port in [26_002, 26_003] {
        let line = format!("127.0.0.1,{port},{},0,other,127.0.0.1,7100,0", id(2));
        desk.ask(Request::Hello(line));
    }
    let Some(Value::Array(known)) = desk.ask(Request::Sentinels("mymaster".into())) else {
        panic!("no sentinels: {:?}", desk.replies);
    };
    assert_eq!(known.len(), 1);
}

#[test]
fn another_master_ends_a_failover_of_the_last_one() {
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
fn a_vote_binds_beyond_a_configuration_of_an_earlier_epoch() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    assert_eq!(desk.vote_for(2, 7), Some(super::opinion(0, 2, 7)));
    desk.hello(3, 7, REPLICA, 5);
    let candidate = Some(id(3).to_string());
    let (host, port) = ("127.0.0.1".to_owned(), i64::from(REPLICA));
    let answer = desk.ask(Request::IsMasterDown { host, port, epoch: 8, candidate });
    assert_eq!(answer, Some(super::opinion(0, 2, 7)));
}

#[test]
fn an_election_ends_when_the_master_is_back() {
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
fn who_is_met_after_an_election_has_a_say() {
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
fn a_reset_ends_a_failover() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.ask(Request::Reset("mymaster".into()));
    desk.win();
    desk.pass(1_500);
    assert!(desk.promotions().is_empty(), "{:?}", desk.events);
}

#[test]
fn whom_a_lost_leader_promoted_comes_first() {
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

#[test]
fn after_many_lost_elections_all_votes_may_be_free() {
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

#[test]
fn nobody_is_sent_to_the_old_master_while_a_new_one_is_chosen() {
    let mut desk = Desk::new(1, 2);
    let follows = |port| format!("run_id:{}\r\n{}", id(9), replica_info(port, 400, false));
    desk.infos.insert(at(OTHER_REPLICA), follows(MASTER));
    desk.pass(12_000);
    desk.infos.insert(at(OTHER_REPLICA), follows(9_999));
    let has_seen = |desk: &Desk| {
        let node = &desk.sentinel.groups["mymaster"].replicas[&at(OTHER_REPLICA)];
        node.info.as_ref().is_some_and(|info| info.master == Some(at(9_999)))
    };
    while !has_seen(&desk) {
        desk.pass(100);
    }
    // It will have been wrong for long enough within this election.
    desk.pass(7_500);
    desk.ask(Request::Failover("mymaster".into()));
    // The votes are late.
    desk.sent.clear();
    while !desk.has(EventKind::AbortNotElected) {
        desk.pass(100);
        let strayed =
            desk.sent.iter().any(|(_, command)| matches!(command, Command::Follow { .. }));
        let during = !desk.has(EventKind::AbortNotElected);
        assert!(!(strayed && during), "{} ms: {:?}", desk.now_ms, desk.sent);
        assert!(desk.now_ms < 100_000, "{:?}", desk.events);
    }
    desk.pass(30_000);
    let order = (at(OTHER_REPLICA), Command::Follow { master: at(MASTER) });
    assert!(desk.sent.contains(&order), "it is put right afterwards: {:?}", desk.events);
}
