//! Guards that one sentinel alone can show to be needed: each has a test that fails without it, in
//! the file of its theme.

use std::panic::catch_unwind;

use super::super::{Guard, without};
use super::{
    contract, elections, flaps, given_up, hand_overs, lessons, links, lookups, meetings, news,
    promises, promotions, repairs, rights, strangers, swaps, votes,
};

/// Guards, and for each the test that catches its absence.
const CAUGHT: &[(Guard, fn())] = &[
    (Guard::PromotionOnDisk, promotions::whoever_is_alone_promotes_once_its_vote_is_on_disk),
    (Guard::DiskForVote, votes::a_vote_asked_for_while_the_disk_fails_is_not_given_later),
    (Guard::DiskForElection, elections::nobody_stands_for_election_whose_disk_fails),
    (Guard::OneVotePerEpoch, votes::the_last_vote_is_told_to_who_asks_again),
    (Guard::VoteAboveConfig, votes::no_vote_is_given_in_an_epoch_that_has_a_configuration),
    (Guard::VoteBinds, votes::a_vote_is_given_once_and_binds_for_a_while),
    (Guard::VoteBindsCandidate, VOTER),
    (Guard::VoteBindsAfterRestart, votes::a_vote_outlives_a_crash_and_binds_afresh),
    (Guard::VoterHoldsBack, VOTER),
    (Guard::KnownCandidate, STRANGERS),
    (Guard::VoterSeesMajority, votes::whoever_sees_a_minority_only_votes_for_nobody),
    (Guard::NewcomerListens, votes::a_newcomer_listens_and_votes_in_no_epoch_that_it_heard_of),
    (Guard::NewcomerVotesLater, votes::a_newcomer_listens_and_votes_in_no_epoch_that_it_heard_of),
    (Guard::Rank, elections::sentinels_of_smaller_rank_stand_first),
    (
        Guard::RetryPause,
        elections::the_own_vote_is_free_and_the_next_attempt_waits_after_a_lost_election,
    ),
    (
        Guard::OwnVoteFreed,
        elections::the_own_vote_is_free_and_the_next_attempt_waits_after_a_lost_election,
    ),
    (Guard::VotersReleased, given_up::whoever_gives_up_an_election_frees_its_voters),
    (Guard::ReleasedUnacted, given_up::whoever_has_promoted_somebody_frees_nobody),
    (Guard::ReleasedOfThisEpoch, given_up::a_voter_is_free_of_that_vote_only),
    (
        Guard::OpinionOfThisMaster,
        elections::an_answer_about_the_old_master_says_nothing_of_the_new_one,
    ),
    (Guard::OpinionsForgotten, elections::old_opinions_count_no_longer),
    (Guard::OpinionsExpire, elections::old_opinions_count_no_longer),
    (Guard::CredibleEpoch, votes::an_epoch_far_ahead_in_a_hello_is_reached_in_steps),
    (
        Guard::LateFailoverEnds,
        promotions::a_newer_configuration_of_the_same_master_ends_an_older_failover,
    ),
    (Guard::LaggardsTold, meetings::a_newer_configuration_is_adopted_and_an_older_one_corrected),
    (Guard::PeerIsItself, meetings::whoever_answers_in_a_peers_place_counts_for_nothing),
    (Guard::OneIdPerSentinel, meetings::whoever_hears_its_own_id_from_elsewhere_takes_another),
    (Guard::DoubleStandsBack, meetings::whoever_may_share_its_id_does_not_stand),
    (Guard::PromotionInTenure, promotions::votes_that_come_after_a_stall_promote_nobody),
    (Guard::PromotionEnds, promotions::a_promotion_without_effect_is_given_up),
    (Guard::PromotionSeen, promotions::what_was_said_before_the_order_shows_no_promotion),
    (Guard::PromotionCounts, promotions::a_promotion_seen_too_late_is_not_announced),
    (Guard::FreshInfoAwaited, promotions::a_leader_waits_a_moment_for_fresh_info),
    (Guard::CandidateLives, promotions::a_replica_that_is_silent_is_passed_over),
    (Guard::CandidateInfoFresh, promotions::a_replica_without_fresh_info_is_passed_over),
    (Guard::CandidateLinkTime, promotions::replicas_that_must_not_be_promoted_are_not),
    (
        Guard::EmptyNotPromoted,
        promotions::an_empty_replica_that_never_reached_its_master_is_passed_over,
    ),
    (Guard::DoubleNotPromoted, promotions::a_node_that_shows_the_run_id_of_another_is_passed_over),
    (Guard::PriorityZero, promotions::replicas_that_must_not_be_promoted_are_not),
    (
        Guard::ForeignNotPromoted,
        promotions::a_replica_of_somebody_else_is_passed_over_and_left_alone,
    ),
    (Guard::StrayNotPromoted, promotions::a_master_that_never_was_a_replica_is_passed_over),
    (Guard::ForeignLeftAlone, promotions::a_replica_of_somebody_else_is_passed_over_and_left_alone),
    (Guard::LookupShowsFollowers, LOOKUP),
    (Guard::OthersReplicasTell, strangers::a_master_whose_replicas_are_all_strangers_is_left_alone),
    (Guard::DisputedLeftAlone, DISPUTED),
    (Guard::LedAwayLeft, LED_AWAY),
    (Guard::DemotedTells, repairs::the_node_that_our_demoted_master_follows_may_lead_the_group),
    (Guard::PauseFreesAll, elections::after_many_lost_elections_all_votes_may_be_free),
    (Guard::NotToItself, TO_ITSELF),
    (
        Guard::OfThisConnection,
        strangers::what_a_node_said_on_an_earlier_connection_sends_nobody_anywhere,
    ),
    (
        Guard::CopyingCounts,
        promises::a_replica_that_copies_the_data_holds_up_the_next_one_whoever_sent_it,
    ),
    (
        Guard::NoRepairInFailover,
        repairs::nobody_is_sent_to_the_old_master_while_a_new_one_is_chosen,
    ),
    (Guard::RightsNeeded, rights::who_refuses_a_command_of_the_promotion_is_passed_over),
    (Guard::StolenNotAdopted, strangers::a_master_that_is_another_groups_is_refused),
    (
        Guard::ProcessTells,
        swaps::masters_that_change_places_are_down_for_both_groups_which_is_said_once,
    ),
    (Guard::CopiedNotPromoted, swaps::nobody_who_has_copied_the_strangers_data_is_promoted),
    (Guard::RefusedWaits, repairs::a_node_that_refuses_is_asked_again_after_a_pause),
    (Guard::PromotedHasTime, PROMOTED),
    (Guard::MasterSane, repairs::nobody_is_sent_to_a_master_that_is_down),
    (Guard::Patience, repairs::a_returning_old_master_is_taken_back_after_all_have_confirmed),
    (Guard::PeersConfirm, repairs::a_master_too_many_is_given_time_unless_all_have_confirmed),
    (Guard::FlappingRests, flaps::after_three_failovers_in_a_row_comes_one_in_each_flap_pause),
    (Guard::NewsOfAll, news::whoever_can_be_reached_and_knows_of_another_election_delays_it),
    (Guard::NewsAskedSince, news::what_was_said_before_the_node_was_seen_does_not_count),
    (Guard::MasterToldAnew, news::the_master_must_say_again_that_it_is_one),
    (Guard::ParallelSyncs, repairs::replicas_are_repointed_one_after_the_other),
    (Guard::RoleOfThisConfig, repairs::a_promoted_node_is_not_down_for_having_been_a_replica),
    (Guard::DemotedIsDown, repairs::a_circle_of_replicas_gets_its_master_back),
    (Guard::HalfOpenReopened, links::a_silent_connection_is_opened_anew),
    (
        Guard::RefusedIsDown,
        links::whose_port_is_closed_for_refused_after_is_down_without_waiting_for_down_after,
    ),
    (Guard::RefusalsInARow, links::whatever_is_no_refusal_ends_the_count),
    (Guard::StallForgiven, contract::time_not_watched_counts_against_nobody),
    (Guard::Tilt, contract::nothing_is_decided_right_after_a_stall),
    (Guard::ResetConfirms, meetings::who_shows_no_sign_of_life_after_a_reset_is_forgotten),
    (Guard::RemovedFallsSilent, meetings::a_removed_group_falls_silent_and_stays_removed),
    (Guard::RemovedStays, meetings::a_removed_group_falls_silent_and_stays_removed),
    (Guard::StaleHelloRecalled, STALE_HELLO),
    (Guard::ConfigEndsFailover, promotions::another_master_ends_a_failover_of_the_last_one),
    (Guard::LaterVoteBinds, votes::a_vote_binds_beyond_a_configuration_of_an_earlier_epoch),
    (Guard::OdownStands, elections::an_election_ends_when_the_master_is_back),
    (Guard::VotesCountedAgain, elections::who_is_met_after_an_election_has_a_say),
    (Guard::ResetEndsFailover, promotions::a_reset_ends_a_failover),
    (Guard::PromotedFirst, promotions::whom_a_lost_leader_promoted_comes_first),
    (Guard::LaggardLast, LAGGARD),
    (Guard::WritesHeld, hand_overs::writes_are_held_until_the_replica_has_them_all),
    (Guard::CaughtUp, hand_overs::writes_are_held_until_the_replica_has_them_all),
    (Guard::HoldLasts, hand_overs::nobody_is_promoted_once_too_little_of_the_pause_is_left),
    (Guard::NoHelloBehindHold, BEHIND_HOLD),
];
const STALE_HELLO: fn() =
    lessons::a_hello_that_waited_for_the_disk_does_not_go_once_another_master_is_known;
const BEHIND_HOLD: fn() =
    hand_overs::nothing_waits_behind_held_writes_and_they_are_freed_behind_the_new_role;
const LAGGARD: fn() =
    promotions::a_replica_that_lost_its_master_before_comes_last_whatever_its_priority;
const LOOKUP: fn() =
    lookups::who_follows_what_the_masters_name_means_is_ours_before_a_connection_stands;
const DISPUTED: fn() =
    strangers::who_follows_a_master_that_another_group_claims_is_left_alone_and_so_is_that;
const LED_AWAY: fn() =
    lessons::a_master_that_nobody_elected_and_that_follows_a_stranger_stays_a_replica;
const TO_ITSELF: fn() = links::a_master_that_is_known_by_name_and_by_address_is_not_sent_to_itself;
const PROMOTED: fn() =
    lessons::a_leader_that_still_repoints_gives_time_to_whom_a_later_one_may_have_promoted;
const STRANGERS: fn() =
    votes::strangers_and_unknown_groups_move_no_epoch_and_get_an_answer_while_the_disk_fails;
const VOTER: fn() =
    elections::a_voter_does_not_stand_while_its_vote_binds_and_then_lets_others_go_first;

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
