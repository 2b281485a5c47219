//! What the exhibits share: plans for stock sentinels and for ours, and ways to read a story.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use watchfire::sim::{Fault, FaultKind, Line, Ms, Outcome, Plan, Shape, Telling, run};

/// Whose rules all sentinels of a run follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stock,
    Ours,
}

/// A fault of a script.
pub(crate) fn fault(at: Ms, for_ms: Ms, kind: FaultKind) -> Fault {
    Fault { at, for_ms, kind }
}

/// The plan of a story with sentinels of this kind. Ours must be well again in the end, and break
/// no rule on the way; what stock sentinels make of it is looked at when the time is over.
pub(crate) fn plan(kind: Kind, seed: u64, shape: &Shape, faults: Vec<Fault>) -> Plan {
    let mut shape = shape.clone();
    if kind == Kind::Stock {
        shape.stock = (0..shape.sentinels).collect();
    }
    let mut plan = Plan::scripted(seed, shape, faults);
    plan.heals = kind == Kind::Ours;
    plan
}

/// The same, but it ends when its time is over, for ours too: the state in which things are then
/// is looked at, before anything is mended.
pub(crate) fn unmended(kind: Kind, seed: u64, shape: &Shape, faults: Vec<Fault>) -> Plan {
    Plan { heals: false, ..plan(kind, seed, shape, faults) }
}

/// Lives a plan and keeps all of its story. No rule may be broken; nothing is asked of stock
/// sentinels.
#[track_caller]
pub(crate) fn live(plan: &Plan) -> Outcome {
    let outcome = run(plan, Telling::All);
    if let Some(violation) = &outcome.violation {
        tell(&outcome);
        panic!("seed {}: broken at {} ms: {}", plan.seed, violation.at_ms, violation.what);
    }
    outcome
}

/// Lives the plans of many seeds on all cores, and returns the seeds that show a defect.
#[track_caller]
pub(crate) fn sweep(
    seeds: std::ops::Range<u64>,
    plan: impl Fn(u64) -> Plan + Sync,
    shows: impl Fn(&Outcome) -> bool + Sync,
) -> BTreeSet<u64> {
    let next = AtomicU64::new(seeds.start);
    let shown = Mutex::new(BTreeSet::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    if shows(&live(&plan(seed))) {
                        shown.lock().expect("no thread panics with the lock").insert(seed);
                    }
                }
            });
        }
    });
    shown.into_inner().expect("no thread panics with the lock")
}

/// A number from 0 to `most`, drawn by a seed; other seeds and other questions draw others.
pub(crate) fn draw(seed: u64, question: u64, most: u64) -> u64 {
    let mut mixed =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ question.wrapping_mul(0xd1b5_4a32_d192_ed03);
    mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)) % (most + 1)
}

/// The lines of somebody that hold this text; `who` may be the beginning of a name (`sentinel`).
pub(crate) fn lines<'a>(
    outcome: &'a Outcome,
    who: &'a str,
    text: &'a str,
) -> impl Iterator<Item = &'a Line> {
    let meant = move |line: &&Line| line.who.starts_with(who) && line.what.contains(text);
    outcome.story.iter().filter(meant)
}

/// The first of these lines.
pub(crate) fn first<'a>(outcome: &'a Outcome, who: &'a str, text: &'a str) -> Option<&'a Line> {
    lines(outcome, who, text).next()
}

/// An election that was won.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Win {
    pub(crate) at: Ms,
    pub(crate) who: String,
    pub(crate) epoch: u64,
}

/// All elections that were won, in order: the epoch is that of the winner's last vote.
pub(crate) fn wins(outcome: &Outcome) -> Vec<Win> {
    let mut voted = BTreeMap::new();
    let mut wins = Vec::new();
    for line in &outcome.story {
        if line.what.starts_with("+vote-for-leader") {
            let epoch = line.what.rsplit(' ').next().and_then(|epoch| epoch.parse().ok());
            voted.insert(line.who.clone(), epoch.unwrap_or(0));
        } else if line.what.starts_with("+elected-leader") {
            let epoch = voted.get(&line.who).copied().unwrap_or(0);
            wins.push(Win { at: line.at_ms, who: line.who.clone(), epoch });
        }
    }
    wins
}

/// Prints the whole story, for whoever has to find out.
pub(crate) fn tell(outcome: &Outcome) {
    for line in &outcome.story {
        println!("{line}");
    }
}
