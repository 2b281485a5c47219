//! `watchfire sim`: lives simulated runs: one told as a story, or many with what they were like all
//! together, and the first that fails made smaller.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::ops::{ControlFlow, Range};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::complain;
use crate::sim::minimise::minimise_seed;
use crate::sim::sweep::{Summary, grouped, span, sweep};
use crate::sim::{Fault, Options, Outcome, Plan, Telling, replay, run as live};

/// How many runs there are if nothing is said.
const SEEDS: u64 = 1_000;
/// Pause between two drawings of the line of progress, and between two lines of it in a log.
const REDRAWN: Duration = Duration::from_millis(500);
const LOGGED: Duration = Duration::from_secs(10);

/// Simulate failures around the very code that ships, and check that no promise is broken
///
/// Each run is a small world in virtual time: sentinels with the real decision core, model Redis
/// nodes, clients, a network. Processes die, machines lose power, networks part, disks fail. Then
/// all is healed and must become well. The seed decides everything, so each run can be lived again.
///
/// The exit code is 0 if no rule was broken, 1 if one was, 2 if the arguments are wrong.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  watchfire sim                          1,000 runs, seeds 0 to 999
  watchfire sim --seeds 1000000          a million
  watchfire sim --seed 7000 --seeds 500  seeds 7000 to 7499
  watchfire sim --seed 42                one run
  watchfire sim --seed 42 --verbose      the same run, told as a story

A run that broke a rule is made smaller: as few faults and as short a time as still break that rule.
The command line to see what is left is printed. It tells the same on every machine, as long as the
program is built from the same sources.")]
pub(super) struct Args {
    /// The first seed; without --seeds the only one
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// How many runs: this many seeds, from --seed or 0 on [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,

    /// Tell the one run as a story: who saw, decided and said what, and when
    #[arg(long, short, requires = "seed", conflicts_with = "seeds")]
    verbose: bool,

    /// Only these faults of those that the seed draws, by number: 3,7,9 or none
    #[arg(
        long,
        value_name = "NUMBERS",
        requires = "seed",
        conflicts_with_all = ["seeds", "calm"],
        value_parser = numbers
    )]
    faults: Option<Numbers>,

    /// How long things fail, in virtual ms, before all is healed; drawn if not given
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=MS_MAX))]
    fault_ms: Option<u64>,

    /// Let nothing fail: then nothing may happen
    #[arg(long)]
    calm: bool,

    /// Make some of the sentinels stock ones, which follow Redis's rules
    #[arg(long)]
    stock: bool,

    /// Threads to use [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,

    /// Live all runs even after one has failed
    #[arg(long)]
    keep_going: bool,
}

/// A week: nobody waits for the end of more.
const MS_MAX: u64 = 7 * 24 * 3_600_000;

/// Lines of the end of a story that are shown with a failure.
const TAIL_MAX: usize = 30;

/// Numbers of faults.
#[derive(Debug, Clone)]
struct Numbers(BTreeSet<usize>);

fn numbers(text: &str) -> Result<Numbers, String> {
    if text == "none" {
        return Ok(Numbers(BTreeSet::new()));
    }
    let number = |word: &str| word.trim().parse::<usize>();
    let all: Result<BTreeSet<usize>, _> = text.split(',').map(number).collect();
    all.map(Numbers).map_err(|_| "must be numbers with commas between them, or 'none'".into())
}

pub(super) fn run(args: Args) -> ExitCode {
    let options = Options {
        calm: args.calm,
        stock: args.stock,
        faults_ms: args.fault_ms,
        only: args.faults.map(|numbers| numbers.0),
    };
    if let (Some(seed), None) = (args.seed, args.seeds) {
        return one(seed, &options, args.verbose);
    }
    let first = args.seed.unwrap_or(0);
    let Some(end) = first.checked_add(args.seeds.unwrap_or(SEEDS)) else {
        complain(format_args!("error: so many seeds from {first} on do not exist: choose less"));
        return ExitCode::from(2);
    };
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let jobs = args.jobs.map_or_else(cores, usize::from);
    many(first..end, jobs, &options, args.keep_going)
}

/// Prints; if nobody can read that, the exit code still tells.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn one(seed: u64, options: &Options, verbose: bool) -> ExitCode {
    let drawn = Plan::draw(seed, &Options { only: None, ..options.clone() }).faults.len();
    let unknown = options.only.iter().flatten().find(|number| **number >= drawn);
    if let Some(unknown) = unknown {
        complain(format_args!(
            "error: seed {seed} has {drawn} faults, numbered from 0: there is no {unknown}"
        ));
        return ExitCode::from(2);
    }
    let plan = Plan::draw(seed, options);
    if verbose && let Some(only) = &options.only {
        say(format_args!("Seed {seed} with {} of its {drawn} faults:", only.len()));
        list(only, &plan);
        say(format_args!(""));
    }
    let outcome = live(&plan, if verbose { Telling::Print } else { Telling::Silent });
    if verbose {
        say(format_args!(""));
    } else if outcome.violation.is_some() {
        tail(&outcome);
    }
    tell_end(&outcome);
    // Who looks at the story, or at a part of the faults, does so because of what was found before.
    if outcome.violation.is_some() && !verbose && options.only.is_none() {
        explain(&outcome, options);
    }
    code(outcome.violation.is_none())
}

fn code(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lists faults by the numbers that were drawn, and by those that the story has for them.
fn list(numbers: &BTreeSet<usize>, plan: &Plan) {
    for (told_as, (number, fault)) in numbers.iter().zip(&plan.faults).enumerate() {
        let Fault { at, for_ms, kind } = fault;
        let at = *at as f64 / 1_000.0;
        say(format_args!(
            "{number:>5}  at {at:.3} s, for {for_ms} ms: {kind} (told as fault {told_as})"
        ));
    }
}

/// The end of the story.
fn tail(outcome: &Outcome) {
    for line in &outcome.story[outcome.story.len().saturating_sub(TAIL_MAX)..] {
        say(format_args!("{line}"));
    }
    say(format_args!(""));
}

/// What became of one run.
fn tell_end(outcome: &Outcome) {
    let seed = outcome.seed;
    match (&outcome.violation, outcome.converged_ms) {
        (Some(violation), _) => say(format_args!("Seed {seed}: {violation}")),
        (None, Some(ms)) => say(format_args!(
            "Seed {seed}: no rule was broken; well {:.1} s after healing",
            ms as f64 / 1_000.0
        )),
        (None, None) => say(format_args!("Seed {seed}: no rule was broken")),
    }
    say(format_args!(
        "{:.1} virtual s; faults {}, elections {}, switches {}; writes confirmed {}, lost {}",
        outcome.virtual_ms as f64 / 1_000.0,
        outcome.faults,
        outcome.elections,
        outcome.switches,
        grouped(outcome.writes_acked),
        grouped(outcome.writes_lost),
    ));
    say(format_args!("hash {:016x}", outcome.hash));
}

fn many(seeds: Range<u64>, jobs: usize, options: &Options, keep_going: bool) -> ExitCode {
    let total = seeds.end - seeds.start;
    // Nobody else would find work.
    let jobs = jobs.min(usize::try_from(total).unwrap_or(usize::MAX));
    let mut progress = Progress::new(total);
    let summary = sweep(seeds.clone(), jobs, options, |summary, outcome| {
        progress.show(summary);
        if let Some((outcome, violation)) = outcome.and_then(|o| Some((o, o.violation.as_ref()?))) {
            // Said at once: a sweep of hours may be interrupted.
            progress.wipe();
            say(format_args!("Seed {}: {violation}", outcome.seed));
        }
        match outcome.and_then(|outcome| outcome.violation.as_ref()) {
            Some(_) if !keep_going => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    progress.wipe();
    let took = progress.since.elapsed();
    if summary.broken > 0 {
        say(format_args!(""));
    }
    if summary.runs < total {
        say(format_args!(
            "Ended early, since a rule was broken (see --keep-going): how far it got is chance.\n"
        ));
    }
    say(format_args!("{summary}"));
    say(format_args!(
        "{:<14}{:.1} s on {jobs} threads, {}",
        "time",
        took.as_secs_f64(),
        Rate(&summary, took)
    ));
    if let Some((_, first)) = summary.failures.first_key_value() {
        say(format_args!(""));
        explain(first, options);
    }
    code(summary.broken == 0)
}

/// How fast it goes.
struct Rate<'a>(&'a Summary, Duration);

impl std::fmt::Display for Rate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rate(summary, took) = self;
        let seconds = took.as_secs_f64().max(0.001);
        let times = summary.virtual_ms as f64 / 1_000.0 / seconds;
        let runs = summary.runs as f64 / seconds;
        write!(f, "{runs:.1} runs/s, {} x real time", grouped(times as u64))
    }
}

/// Makes a run that failed smaller, and says how to see what is left.
fn explain(outcome: &Outcome, options: &Options) {
    let Some(violation) = &outcome.violation else { return };
    let seed = outcome.seed;
    if std::io::stderr().is_terminal() {
        complain(format_args!("Looking for the fewest faults that break seed {seed} ..."));
    }
    let (smaller, minimal) = minimise_seed(seed, options, violation);
    let again = live(&minimal.plan, Telling::Silent);
    say(format_args!(
        "Seed {seed} made smaller: {} of {} faults break the same rule (found in {} tries).\n",
        minimal.kept.len(),
        outcome.faults,
        minimal.tries
    ));
    tail(&again);
    if let Some(only) = &smaller.only {
        list(only, &minimal.plan);
    }
    tell_end(&again);
    say(format_args!("\nTo see it:        {}", replay(seed, &smaller)));
    say(format_args!("And as it was:    {}", replay(seed, options)));
}

/// Where it stands: one line that is drawn anew on a terminal, a line now and then elsewhere.
struct Progress {
    total: u64,
    since: Instant,
    shown: Instant,
    on_terminal: bool,
}

impl Progress {
    fn new(total: u64) -> Progress {
        let now = Instant::now();
        let on_terminal = std::io::stderr().is_terminal();
        Progress { total, since: now, shown: now, on_terminal }
    }

    fn show(&mut self, summary: &Summary) {
        let pause = if self.on_terminal { REDRAWN } else { LOGGED };
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        let line = line(summary, self.total, self.since.elapsed());
        if !self.on_terminal {
            return complain(format_args!("{line}"));
        }
        let columns = ratatui::crossterm::terminal::size().map_or(80, |(columns, _)| columns);
        let line: String = line.chars().take(usize::from(columns).saturating_sub(1)).collect();
        let mut terminal = std::io::stderr();
        let _ = write!(terminal, "\r\x1b[K{line}").and_then(|()| terminal.flush());
    }

    /// Leaves the line free for what is printed next.
    fn wipe(&self) {
        if self.on_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(summary: &Summary, total: u64, took: Duration) -> String {
    let share = summary.runs as f64 / total as f64;
    let left = took.as_secs_f64() * (1.0 / share - 1.0);
    let left = match summary.runs {
        0 => "no run has ended yet".into(),
        _ => format!("{} left", span((left * 1_000.0) as u64)),
    };
    format!(
        "{} of {} ({:.0} %)  {}  {} elections  {} broken  {left}",
        grouped(summary.runs),
        grouped(total),
        share * 100.0,
        Rate(summary, took),
        grouped(summary.elections),
        grouped(summary.broken),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_faults_are_read() {
        let read = |text| numbers(text).map(|numbers| numbers.0.into_iter().collect::<Vec<_>>());
        assert_eq!(read("9,3, 7"), Ok(vec![3, 7, 9]));
        assert_eq!(read("none"), Ok(vec![]));
        for wrong in ["", "1,,2", "1,x", "-1"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn progress_says_where_it_stands() {
        let mut summary = Summary::default();
        (summary.runs, summary.virtual_ms, summary.elections) = (250, 250 * 100_000, 1_234);
        assert_eq!(
            line(&summary, 1_000, Duration::from_secs(10)),
            "250 of 1,000 (25 %)  25.0 runs/s, 2,500 x real time  1,234 elections  0 broken  \
             30.0 seconds left"
        );
        let none = line(&Summary::default(), 1_000, Duration::from_secs(10));
        assert!(none.ends_with("no run has ended yet"), "{none}");
    }
}
