//! The decision core in a simulated world: many seeds, each with its own faults; see
//! `watchfire::sim`.
//!
//! `WATCHFIRE_SEED=<n> cargo test --test simulation replay -- --nocapture` tells one run as a
//! story. `WATCHFIRE_SEEDS=<n>` runs so many fixed seeds instead of the usual number.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use watchfire::sim::{Options, Outcome, Sabotage, Telling, run};

/// Seeds that are run every time.
const FIXED_SEEDS: u64 = 60;
/// Seeds that are new every time.
const FRESH_SEEDS: u64 = 15;

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// Runs seeds on all cores; the outcomes in order of their seeds.
fn run_all(seeds: std::ops::Range<u64>, options: &Options) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let done = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = run(seed, options);
                    done.lock().expect("no thread panics with the lock").push(outcome);
                }
            });
        }
    });
    let mut outcomes = done.into_inner().expect("no thread panics with the lock");
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}

/// Prints what the runs were like, and fails with the report of the first that broke a rule.
#[track_caller]
fn judge(outcomes: &[Outcome]) {
    let broken: Vec<&Outcome> = outcomes.iter().filter(|o| o.violation.is_some()).collect();
    let mut converged: Vec<u64> = outcomes.iter().filter_map(|o| o.converged_ms).collect();
    converged.sort_unstable();
    let at = |share: usize| converged.get(converged.len() * share / 1000).copied().unwrap_or(0);
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    println!(
        "{} runs, {} virtual hours, {} faults, {} inputs, {} effects, {} elections, {} switches; \
         healed to well: median {} ms, 99% {} ms, longest {} ms; \
         writes acked {}, lost {}; {} broken",
        outcomes.len(),
        sum(|o| o.virtual_ms) / 3_600_000,
        sum(|o| o.faults),
        sum(|o| o.inputs),
        sum(|o| o.effects),
        sum(|o| o.elections),
        sum(|o| o.switches),
        at(500),
        at(990),
        converged.last().unwrap_or(&0),
        sum(|o| o.writes_acked),
        sum(|o| o.writes_lost),
        broken.len(),
    );
    if let Some(first) = broken.first() {
        for outcome in &broken {
            let what = outcome.violation.as_ref().map_or("", |v| &v.what);
            println!("seed {}: {what}", outcome.seed);
        }
        panic!("{first}");
    }
}

#[test]
fn fixed_seeds_break_no_rule() {
    let seeds = number_from_env("WATCHFIRE_SEEDS").unwrap_or(FIXED_SEEDS);
    judge(&run_all(0..seeds, &Options::default()));
}

#[test]
fn fresh_seeds_break_no_rule() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    let first = since_1970.as_millis() as u64;
    println!("fresh seeds from {first}");
    judge(&run_all(first..first + FRESH_SEEDS, &Options::default()));
}

#[test]
fn nothing_happens_while_nothing_fails() {
    let options = Options { calm: true, faults_ms: 300_000, ..Options::default() };
    let outcomes = run_all(0..8, &options);
    judge(&outcomes);
    assert!(outcomes.iter().all(|o| o.elections == 0 && o.writes_acked > 0 && o.writes_lost == 0));
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    let of = |seed| {
        let outcome = run(seed, &Options::default());
        (outcome.hash, outcome.virtual_ms, outcome.effects, outcome.writes_acked)
    };
    let hashes: Vec<_> = (0..6).map(of).collect();
    assert_eq!(hashes, (0..6).map(of).collect::<Vec<_>>());
    let distinct: std::collections::BTreeSet<_> = hashes.iter().map(|(hash, ..)| hash).collect();
    assert_eq!(distinct.len(), hashes.len(), "different seeds are different runs");
}

#[test]
fn replay() {
    let seed = number_from_env("WATCHFIRE_SEED");
    let telling = if seed.is_some() { Telling::Print } else { Telling::Tail };
    let outcome = run(seed.unwrap_or(1), &Options { telling, ..Options::default() });
    assert!(!outcome.story.is_empty());
    judge(&[outcome]);
}

#[test]
fn each_defect_put_in_on_purpose_is_found() {
    for (sabotage, rule) in [
        (Sabotage::EagerDisk, "durable before spoken"),
        (Sabotage::Amnesia, "epochs never go back"),
        (Sabotage::VotesForEverybody, "durable before spoken"),
        (Sabotage::StaleHello, "config epochs never go back"),
        (Sabotage::EagerPromotion, "a majority before promotion"),
        (Sabotage::CriesWolf, "no failover without cause"),
        (Sabotage::NeverHealed, "all is well within"),
    ] {
        let options = Options { sabotage: Some(sabotage), ..Options::default() };
        let breaks = |seed: &u64| {
            run(*seed, &options).violation.is_some_and(|found| found.what.contains(rule))
        };
        let seed = (0..100).find(breaks);
        let seed = seed.unwrap_or_else(|| panic!("{sabotage:?} does not break {rule:?}"));
        println!("{sabotage:?} breaks {rule:?} in seed {seed}");
    }
}
