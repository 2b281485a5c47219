//! That a guard of the core is off is caught: with one off in all sentinels, some run breaks a
//! rule. A panic of the core counts, as in any run: its own assertions are guards behind the
//! guards. And the other way round: each rule is broken by one of them, or by a test.
//!
//! `WATCHFIRE_MUTANTS=<n>` searches the first n seeds for every guard, and prints what it finds;
//! `WATCHFIRE_MUTANTS_ONLY=<name>,<name>` does so for some guards, and prints all rules that are
//! broken in these seeds, not only the first.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use super::rules::Rule;
use super::{Options, Outcome, Plan, Telling, live};
use crate::sentinel::{Guard, without};

/// What a run without a guard breaks: the rule, and the seeds one of which breaks it.
const CAUGHT: &[(Guard, &str, Range<u64>)] = &[
    (Guard::VoteOnDisk, "durable before spoken", 0..30),
    (Guard::CandidacyOnDisk, "durable before spoken", 0..30),
    (Guard::HelloOnDisk, "durable before spoken", 0..30),
    (Guard::PromotionOnDisk, "a majority before promotion", 17..47),
    (Guard::RepointOnDisk, "durable before spoken", 0..30),
    (Guard::OneWriteAtATime, "one write at a time", 0..30),
    (Guard::DiskForVote, "no vote while the disk fails", 4..34),
    (Guard::DiskForElection, "a vote binds", 251..281),
    (Guard::OneVotePerEpoch, "newcomers vote in later epochs", 23..53),
    (Guard::VoteAboveConfig, "votes are for what is to come", 315..345),
    (Guard::VoteBinds, "a vote binds", 1..31),
    (Guard::VoteBindsCandidate, "a vote binds", 4..34),
    (Guard::VoteBindsAfterRestart, "a vote binds", 7..37),
    (Guard::VoterHoldsBack, "sentinels of smaller rank stand first", 160..190),
    (Guard::KnownCandidate, "votes are for sentinels of the group", 135..165),
    (Guard::VoterSeesMajority, "votes are of those who see a majority", 75..105),
    (Guard::NewcomerListens, "newcomers listen first", 4..34),
    (Guard::NewcomerVotesLater, "newcomers vote in later epochs", 23..53),
    (Guard::Majority, "a majority before promotion", 4..34),
    (Guard::QuorumOfVotes, "a majority before promotion", 2..32),
    (Guard::VotesOfThisEpoch, "a majority before promotion", 4..34),
    (Guard::OdownNeeded, "a quorum before an election", 0..30),
    (Guard::Rank, "sentinels of smaller rank stand first", 0..30),
    (Guard::RetryPause, "a pause after a failover that was given up", 7..37),
    (Guard::OwnVoteFreed, "a vote for oneself is free once that is given up", 4..34),
    (Guard::VotersReleased, "whoever gives up frees its voters", 4..34),
    (Guard::ReleasedUnacted, "what is given up is not acted on", 28..58),
    (Guard::ReleasedOfThisEpoch, "a vote binds", 45..75),
    (Guard::OpinionsForgotten, "opinions are of the present master", 11..41),
    (Guard::CredibleEpoch, "epochs stay credible", 2..32),
    (Guard::HigherConfigOnly, "config epochs never go back", 0..30),
    (Guard::LateFailoverEnds, "a newer configuration ends older failovers", 239..269),
    (Guard::LaggardsTold, "whoever lags is told at once", 0..30),
    (Guard::PeerIsItself, "a majority before promotion", 7..37),
    (Guard::OneSentinelPerAddress, "all is well again", 14..44),
    (Guard::OneIdPerSentinel, "all is well again", 32..62),
    (Guard::DoubleStandsBack, "nobody stands whose id another has", 185..215),
    (Guard::StaleHelloRecalled, "a hello shows the newest configuration", 147..177),
    (Guard::ConfigEndsFailover, "a failover is told from beginning to end", 1..31),
    (Guard::LaterVoteBinds, "a vote binds", 13..43),
    (Guard::OdownStands, "an election ends with its cause", 38..68),
    (Guard::VotesCountedAgain, "a majority before promotion", 4..34),
    (Guard::ResetEndsFailover, "a failover is told from beginning to end", 193..223),
    (Guard::PromotedFirst, "who was promoted already comes first", 145..175),
    (Guard::LaggardLast, "who fell behind comes last", 195..225),
    (Guard::PromotionInTenure, "a promotion comes while the votes bind", 240..270),
    (Guard::PromotionEnds, "a promotion without effect is given up", 195..225),
    (Guard::PromotionSeen, "a promotion is seen before it is told", 97..127),
    (Guard::PromotionCounts, "a promotion counts while the votes bind", 751..781),
    (Guard::WritesHeld, "what is handed over is whole", 0..30),
    (Guard::FreshInfoAwaited, "all are asked before one is promoted", 0..30),
    (Guard::CandidateLives, "who is promoted answers", 7..37),
    (Guard::CandidateInfoFresh, "who is promoted has said lately what it is", 1706..1736),
    (Guard::CandidateLinkTime, "old data are not promoted", 134..164),
    (Guard::EmptyNotPromoted, "emptiness is not promoted", 33..63),
    (Guard::DoubleNotPromoted, "who is promoted is one node", 1131..1161),
    (Guard::PriorityZero, "priority 0 is never promoted", 9..39),
    (Guard::ForeignNotPromoted, "hands off the nodes of other groups", 1063..1093),
    (Guard::StrayNotPromoted, "who is promoted was a replica", 14..44),
    (Guard::ForeignLeftAlone, "hands off the nodes of other groups", 828..858),
    (Guard::MasterSane, "nodes are sent to a master", 16..46),
    (Guard::Patience, "news have time to come", 0..30),
    (Guard::PeersConfirm, "a majority knows of no news", 1..31),
    (Guard::NewsAskedSince, "news have time to come", 40..70),
    (Guard::ParallelSyncs, "parallel-syncs is respected", 1..31),
    (Guard::RoleOfThisConfig, "a master is down for a reason", 1..31),
    (Guard::DemotedIsDown, "all is well again", 60..90),
    (Guard::HalfOpenReopened, "all is well again", 6..36),
    (Guard::StallForgiven, "time not watched counts against nobody", 4..34),
    (Guard::Tilt, "opinions are announced", 122..152),
    (Guard::ResetConfirms, "all is well again", 1063..1093),
    (Guard::RemovedFallsSilent, "what is removed stays so", 10..40),
    (Guard::RemovedStays, "what is removed stays so", 97..127),
    (Guard::QuorumSuffices, "dead masters are replaced", 1..31),
    (Guard::OwnVoteCounts, "dead masters are replaced", 2..32),
    (Guard::CandidateFound, "whoever can be promoted is found", 0..30),
    (Guard::OrderObeyed, "whoever can be promoted is found", 4..34),
    (Guard::OrderBegins, "a failover that is ordered is tried", 4..34),
    (Guard::ChangeOnDisk, "durable before answered", 6..36),
    (Guard::SetHolds, "durable before answered", 6..36),
    (Guard::HigherEpochOnly, "each change is told once", 0..30),
    (Guard::ConfigOfItsEpoch, "configurations are elected", 0..30),
    (Guard::SameMasterNoSwitch, "a switch leads from master to master", 0..30),
    (Guard::OffsetCounts, "the best replica is promoted", 5..35),
    (Guard::DownAfter, "only silence is down", 0..30),
    (Guard::RefusedIsDown, "refusals are noticed in time", 1..31),
    (Guard::RefusalsInARow, "only silence is down", 0..30),
    (Guard::PongCounts, "no failover without cause", 0..30),
    (Guard::RefusalLives, "who refuses us lives", 21..51),
    (Guard::ProcessTells, "hands off the nodes of other groups", 130..160),
    (Guard::CopiedNotPromoted, "others' data are not promoted", 230..260),
];

/// What such a run goes on to break, if the first rule does not end it: rules about what comes of
/// all this, before which others are mostly broken.
const BEHIND: &[(Guard, &str, Range<u64>)] = &[
    (Guard::OneVotePerEpoch, "one vote per epoch", 57..87),
    (Guard::VotesOfThisEpoch, "one leader per epoch", 125..155),
    (Guard::HigherEpochOnly, "epochs never go back", 0..30),
    (Guard::HigherEpochOnly, "who listens knows what is on disk", 0..30),
    (Guard::SameMasterNoSwitch, "who listens knows what who asks is told", 92..122),
    (Guard::PromotionEnds, "a failover comes to an end", 195..225),
    (Guard::StallForgiven, "nothing is decided right after a stall", 4..34),
    (Guard::PongCounts, "silence is noticed in time", 21..51),
    (Guard::CredibleEpoch, "whoever can be elected stands in time", 2..32),
    (Guard::SetHolds, "what is set is shown", 6..36),
];

thread_local! {
    /// The rules that the run of this thread has broken so far, if that does not end it.
    static BROKEN: RefCell<Option<BTreeSet<&'static str>>> = const { RefCell::new(None) };
}

/// Rules that hold a run within its time: after them it ends, whatever is wanted.
const LAST: [Rule; 4] =
    [Rule::NoCircles, Rule::AllIsWellAgain, Rule::AllStaysWell, Rule::DeadMastersAreReplaced];

/// The run goes on although it broke this rule, to see what else it breaks.
pub(super) fn goes_on_after(rule: Rule) -> bool {
    BROKEN.with_borrow_mut(|broken| match broken {
        Some(broken) => {
            broken.insert(rule.name());
            !LAST.contains(&rule)
        }
        None => false,
    })
}

/// All rules that the run of this seed breaks, not only the first.
fn all_broken(seed: u64) -> BTreeSet<String> {
    BROKEN.set(Some(BTreeSet::new()));
    let outcome = live(&Plan::draw(seed, &Options::default()), Telling::Silent, None);
    let broken = BROKEN.take().expect("nobody else takes it");
    // What ended it may have been a panic.
    let last = outcome.violation.map(|broken| broken.rule().to_owned());
    broken.into_iter().map(str::to_owned).chain(last).collect()
}

/// The first of these seeds whose run breaks a rule without the guard and keeps it with the guard.
fn first_broken(guard: Guard, seeds: Range<u64>) -> Option<(u64, String)> {
    let rule = |outcome: Outcome| outcome.violation.map(|broken| broken.rule().to_owned());
    let breaks = |seed| {
        let plan = Plan::draw(seed, &Options::default());
        let run = || rule(live(&plan, Telling::Silent, None));
        let broken = without(guard, run)?;
        (run().as_ref() != Some(&broken)).then_some((seed, broken))
    };
    seeds.into_iter().find_map(breaks)
}

/// Does this for all of them, on all cores.
fn for_each<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = Mutex::new(all.iter());
    let jobs = thread::available_parallelism().map_or(1, |n| n.get());
    let take = || next.lock().expect("nobody panics with it").next();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(one) = take() {
                    work(one);
                }
            });
        }
    });
}

#[test]
fn each_guard_off_is_caught_by_a_run() {
    let wrong = Mutex::new(Vec::new());
    for_each(CAUGHT, |(guard, rule, seeds)| {
        let found = match first_broken(*guard, seeds.clone()) {
            Some((_, broken)) if broken == *rule => return,
            Some((seed, broken)) => format!("{guard:?}: seed {seed} breaks {broken:?}"),
            None => format!("{guard:?}: nothing in seeds {seeds:?}"),
        };
        wrong.lock().expect("nobody panics with it").push(found);
    });
    let wrong = wrong.into_inner().expect("nobody panics with it");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_comes_of_it_is_noticed_too() {
    let wrong = Mutex::new(Vec::new());
    for_each(BEHIND, |(guard, rule, seeds)| {
        let breaks = |seed: &u64| without(*guard, || all_broken(*seed)).contains(*rule);
        let found = match seeds.clone().find(breaks) {
            Some(seed) if all_broken(seed).is_empty() => return,
            Some(seed) => format!("seed {seed} breaks rules with all guards"),
            None => format!("{guard:?} never breaks {rule:?} in seeds {seeds:?}"),
        };
        wrong.lock().expect("nobody panics with it").push(found);
    });
    let wrong = wrong.into_inner().expect("nobody panics with it");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_guard_is_forgotten() {
    let by_a_run = |guard: &Guard| CAUGHT.iter().any(|(caught, ..)| caught == guard);
    let both: Vec<_> = Guard::RARE.iter().filter(|guard| by_a_run(guard)).collect();
    assert!(both.is_empty(), "drawn runs do miss these: {both:?}");
    let is_caught = |guard: &Guard| by_a_run(guard) || Guard::RARE.contains(guard);
    let forgotten: Vec<_> = Guard::ALL.iter().filter(|guard| !is_caught(guard)).collect();
    assert!(forgotten.is_empty(), "needless, or untested: {forgotten:?}");
}

/// The tests of the simulation, as text.
fn tests() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sim");
    let (mut folders, mut found) = (vec![root], String::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name().to_string_lossy().ends_with("tests.rs") {
                found += &fs::read_to_string(&path).expect("a source file");
            }
        }
    }
    found
}

/// Every rule is shown to fire: by a mutant above, or, where a core has no guard that could be
/// off, by a test that breaks it and expects its name. There are no exceptions.
#[test]
fn every_rule_can_be_broken() {
    let tests = tests();
    let shown = |rule: &&Rule| {
        let name = rule.name();
        let mut mutants = CAUGHT.iter().chain(BEHIND);
        mutants.any(|(_, broken, _)| *broken == name) || tests.contains(&format!("\"{name}"))
    };
    let silent: Vec<_> = Rule::ALL.iter().filter(|rule| !shown(rule)).collect();
    assert!(silent.is_empty(), "nothing shows that these can be broken: {silent:?}");
    let is_rule = |name: &str| Rule::named(name).is_some() || name.starts_with("panicked");
    let unknown = CAUGHT.iter().chain(BEHIND).filter(|(_, broken, _)| !is_rule(broken));
    let unknown: Vec<_> = unknown.collect();
    assert!(unknown.is_empty(), "these are no rules: {unknown:?}");
}

#[test]
fn what_breaks_without_each_guard_is_searched_for_on_demand() {
    let Ok(count) = std::env::var("WATCHFIRE_MUTANTS") else { return };
    let count = count.parse().expect("WATCHFIRE_MUTANTS is a number");
    let only = std::env::var("WATCHFIRE_MUTANTS_ONLY").ok();
    let meant = |guard: &Guard| {
        let name = format!("{guard:?}");
        only.as_ref().is_none_or(|only| only.split(',').any(|meant| meant == name))
    };
    let guards: Vec<Guard> = Guard::ALL.iter().copied().filter(meant).collect();
    for_each(&guards, |guard| match first_broken(*guard, 0..count) {
        Some((seed, rule)) => println!("without {guard:?} seed {seed} breaks {rule:?}"),
        None => println!("without {guard:?} {count} seeds break nothing"),
    });
    if only.is_none() {
        return;
    }
    for_each(&guards, |guard| {
        let mut known = BTreeSet::new();
        for seed in 0..count {
            for rule in without(*guard, || all_broken(seed)) {
                if known.insert(rule.clone()) {
                    println!("without {guard:?} seed {seed} breaks, in the end, {rule:?}");
                }
            }
        }
    });
}
