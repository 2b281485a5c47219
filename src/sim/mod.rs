//! A simulated world around the very same decision core that ships: sentinels, model Redis nodes,
//! clients, networks, disks and clocks, in virtual time. One seed decides everything, so every
//! failure can be played again.
//!
//! A run warms up until all sentinels have met. Then things fail, in a mix of the seed's own:
//! crashes at bad moments, freezes, partitions in one or both directions, delays, resets, slow and
//! failing disks, operators. Then all is healed, and within a stated bound all must be well and
//! stay so. Some runs have a last [`trial`]: all masters die once more. [`checkers`] listens all
//! the time.
//!
//! Read [`World`](world) first, then [`host`] (the model of the daemon around the core), [`node`]
//! (the model of Redis), [`net`] (time and connections). What goes wrong is drawn in [`faults`].
//! [`sweep`] lives many runs, [`minimise`] makes one that failed smaller.

mod ailment;
mod ambush;
mod checkers;
mod client;
mod clock;
mod dice;
mod disk;
mod faults;
mod host;
pub mod minimise;
#[cfg(test)]
mod mutants;
mod names;
mod net;
mod node;
mod operator;
mod panics;
mod plan;
mod queue;
pub mod rules;
mod sabotage;
mod stock;
mod story;
pub mod sweep;
mod themes;
mod trial;
mod trouble;
mod watch;
mod wellness;
mod wire;
mod words;
mod world;

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

pub use ambush::{Ambush, Moment};
pub use checkers::Violation;
pub use disk::Memory;
pub use faults::{Fault, FaultKind, Order};
pub use node::Data;
pub use operator::Help;
pub use plan::{Plan, Shape};
pub use sabotage::Sabotage;
pub use story::{Line, Telling};
pub use wire::{Machine, Ms, Proc};

/// How a plan is drawn from a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Nothing fails.
    pub calm: bool,
    /// Some of the sentinels are stock sentinels.
    pub stock: bool,
    /// How long things fail, in virtual ms; drawn where nothing is said. Does not change what is
    /// drawn.
    pub faults_ms: Option<u64>,
    /// Only these faults, by number, of those that are drawn.
    pub only: Option<BTreeSet<usize>>,
}

/// What became of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Fingerprint of all effects of all sentinels: the same for the same seed, options and code.
    pub hash: u64,
    /// The first rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// How long it took, in virtual ms.
    pub virtual_ms: u64,
    /// How many faults it had.
    pub faults: u64,
    /// How many of these were orders of an operator.
    pub orders: u64,
    /// Inputs that the cores took, all together.
    pub inputs: u64,
    /// Effects that they wanted.
    pub effects: u64,
    /// Elections begun.
    pub elections: u64,
    /// Elections won, and those of them of which no rule asks that they had one winner: a memory
    /// was lost or copied, or an operator made a majority of a minority.
    pub won: u64,
    /// See `won`.
    pub unjudged: u64,
    /// What the model operator did that no sentinel could know to do.
    pub helps: BTreeSet<Help>,
    /// `+switch-master` events of all sentinels.
    pub switches: u64,
    /// From healing until all was well, in virtual ms; `None` if it never was.
    pub converged_ms: Option<u64>,
    /// The run was given up: a node that got another one's address was taken for an old master of
    /// its group, as nobody could tell.
    pub captured: bool,
    /// From the death of all masters, once all was well, until others had replaced them and all
    /// was well but for the dead, in virtual ms; `None` if none died, or it never was.
    pub replaced_ms: Option<u64>,
    /// Writes that a client was told to be done.
    pub writes_acked: u64,
    /// Of these, how many the master does not hold in the end.
    pub writes_lost: u64,
    /// How each group ends.
    pub groups: Vec<GroupEnd>,
    /// Who is who in the world, a line each, where the story is the end of one only.
    pub legend: Vec<String>,
    /// The last lines of the story, if it was told.
    pub story: Vec<Line>,
    /// Why the story could not be printed to its end, unless nobody wanted to read on.
    pub unwritten: Option<String>,
}

/// How a group ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupEnd {
    /// The nodes that run as masters.
    pub masters: Vec<usize>,
    /// The node that each sentinel names as the master; `None` if it names none or does not run.
    pub told: Vec<Option<usize>>,
}

impl Options {
    /// The arguments that make `watchfire sim` draw by these options.
    fn arguments(&self) -> String {
        let mut text = String::new();
        if self.calm {
            text.push_str(" --calm");
        }
        if self.stock {
            text.push_str(" --stock");
        }
        if let Some(only) = &self.only {
            let numbers: Vec<String> = only.iter().map(usize::to_string).collect();
            let none = numbers.is_empty();
            text = text + " --faults " + &if none { "none".into() } else { numbers.join(",") };
        }
        if let Some(ms) = self.faults_ms {
            // Writing to a string cannot fail.
            let _ = write!(text, " --fault-ms {ms}");
        }
        text
    }
}

/// The command line that lives the run of a seed again, and tells it.
pub fn replay(seed: u64, options: &Options) -> String {
    format!("watchfire sim --seed {seed}{} --verbose", options.arguments())
}

impl Violation {
    /// The rule without what is special to one run: its name, or the file of a panic.
    pub fn rule(&self) -> &str {
        self.what.split(':').next().unwrap_or_default()
    }
}

/// With the time, in virtual s.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken at {:.3} s: {}", self.at_ms as f64 / 1_000.0, self.what)
    }
}

/// A report that a person can work with: who is who, what happened before, what broke, how to see
/// it again if the plan was drawn without options.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.violation {
            None => write!(f, "seed {}: all rules held", self.seed),
            Some(violation) => {
                for line in &self.legend {
                    writeln!(f, "{line}")?;
                }
                for line in &self.story {
                    writeln!(f, "{line}")?;
                }
                writeln!(f, "seed {}: {violation}", self.seed)?;
                write!(f, "replay: {}", replay(self.seed, &Options::default()))
            }
        }
    }
}

/// Lives one run. After a broken rule (a panic is one) the run is lived again for the end of its
/// story, which the outcome then carries, and for the names of those whom the verdict speaks of. A
/// fault that would begin after healing does not begin.
pub fn run(plan: &Plan, telling: Telling) -> Outcome {
    run_with(plan, telling, None)
}

/// The same, with a defect put in on purpose.
pub fn run_with(plan: &Plan, telling: Telling, sabotage: Option<Sabotage>) -> Outcome {
    let mut outcome = live(plan, telling, sabotage);
    if outcome.violation.is_some() && telling == Telling::Silent {
        let told = live(plan, Telling::Tail, sabotage);
        outcome.legend = words::legend(plan.seed, &plan.shape);
        outcome.story = told.story;
        outcome.violation = told.violation.or(outcome.violation);
    }
    outcome
}

fn live(plan: &Plan, telling: Telling, sabotage: Option<Sabotage>) -> Outcome {
    // What would begin when all is healed, in a plan that was made shorter, does not.
    let end = plan.shape.heal_at();
    let begun = plan.keep(|_, fault| fault.at < end);
    let mut world = world::World::new(&begun, telling, sabotage);
    let ended = panics::caught(|| world.run());
    world.outcome(ended.err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_says_all_that_differs() {
        assert_eq!(replay(7, &Options::default()), "watchfire sim --seed 7 --verbose");
        let only = |numbers: &[usize]| Some(numbers.iter().copied().collect());
        let part = Options { only: only(&[9, 3]), faults_ms: Some(5), ..Options::default() };
        let line = "watchfire sim --seed 7 --faults 3,9 --fault-ms 5 --verbose";
        assert_eq!(replay(7, &part), line);
        let other = Options { stock: true, only: only(&[]), ..Options::default() };
        assert_eq!(replay(7, &other), "watchfire sim --seed 7 --stock --faults none --verbose");
    }

    #[test]
    fn the_rule_is_what_stands_before_the_details() {
        let rule = |what: &str| Violation { at_ms: 0, what: what.into() }.rule().to_owned();
        assert_eq!(rule("one vote per epoch: sentinel 1 gives two: a, b"), "one vote per epoch");
        assert_eq!(rule("panicked at src/x.rs:7: no"), "panicked at src/x.rs");
    }
}
