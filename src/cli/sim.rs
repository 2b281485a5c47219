//! `watchfire sim`: lives simulated runs: one told as a story, or many with what they were like all
//! together, and the first that fails made smaller.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::CommandFactory;
use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};

use super::complain;
use crate::sim::minimise::minimise_seed;
use crate::sim::rules::Rule;
use crate::sim::sweep::{News, PATIENCE, Summary, grouped, span, sweep};
use crate::sim::{Fault, Options, Outcome, Plan, Sabotage, Telling, Violation, replay, run_with};

/// How many runs there are if nothing is said.
const SEEDS: u64 = 1_000;
/// Pause between two drawings of the line of progress, and between two lines of it in a log.
const REDRAWN: Duration = Duration::from_millis(500);
const LOGGED: Duration = Duration::from_secs(10);
/// Width of a terminal that does not say how wide it is, in characters.
const COLUMNS: u16 = 80;
/// The exit code if there is no telling whether a rule was broken.
const TROUBLE: u8 = 2;
/// The exit code after Ctrl-C, as shells know it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Simulate failures around the very code that ships, and check that no promise is broken
///
/// Each run is a small world in virtual time: sentinels with the real decision core, model Redis
/// nodes, clients, a network. Processes die, machines lose power, networks part, disks fail. Then
/// all is healed and must become well. The seed decides everything, so each run can be lived again.
///
/// The exit code is 0 if no rule was broken, 1 if one was, 2 if the arguments are wrong or the
/// output cannot be written, 130 after Ctrl-C.
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
program is built from the same sources.

10,000 runs take a minute or two on two cores, a million some hours: 60 to 90 runs a second and
core.

Ctrl-C breaks many runs off: those that have begun get 3 s to end, and all that have ended are
summed up. A second one ends at once. A run that takes longer than 60 s, and so may never end, is
named with its seed.")]
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

    /// How long things may fail, in virtual ms, before all is healed; drawn if not given
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

    /// List the rules that no run may break, and why each is one; live no run
    #[arg(long, exclusive = true)]
    rules: bool,
}

/// A week: nobody waits for the end of more.
const MS_MAX: u64 = 7 * 24 * 3_600_000;

/// What to read about the rules.
const RULES: &str = "All rules: watchfire sim --rules";

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

impl Args {
    /// What is wrong with options that mean nothing if there is one run.
    fn needless(&self) -> Option<String> {
        let needless = match self {
            Args { jobs: Some(_), .. } => "--jobs <N>",
            Args { keep_going: true, .. } => "--keep-going",
            _ => return None,
        };
        let wrong = "is for many runs, and '--seed <S>' alone is one: say how many with";
        Some(format!("'{needless}' {wrong} '--seeds <N>', or leave out '{needless}'"))
    }

    fn options(&self) -> Options {
        Options {
            calm: self.calm,
            stock: self.stock,
            faults_ms: self.fault_ms,
            only: self.faults.clone().map(|numbers| numbers.0),
        }
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    if args.rules {
        Rule::ALL.iter().for_each(|rule| say(format_args!("{}\n    {}", rule.name(), rule.why())));
        return ExitCode::SUCCESS;
    }
    let options = args.options();
    if let (Some(seed), None) = (args.seed, args.seeds) {
        if let Some(wrong) = args.needless() {
            refuse(ErrorKind::ArgumentConflict, wrong);
        }
        return one(seed, &options, args.verbose);
    }
    let (first, count) = (args.seed.unwrap_or(0), args.seeds.unwrap_or(SEEDS));
    if first.checked_add(count - 1).is_none() {
        // There are so many from the first on that their number is one too.
        let left = u64::MAX - first + 1;
        refuse(
            ErrorKind::ValueValidation,
            format!("the last seed is {}: '--seeds <N>' can be {left} at most", u64::MAX),
        );
    }
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let jobs = args.jobs.map_or_else(cores, usize::from);
    many(first, count, jobs, &options, args.keep_going)
}

/// Ends the program as it ends with other wrong arguments.
fn refuse(kind: ErrorKind, wrong: String) -> ! {
    let mut cli = super::Cli::command();
    cli.build();
    let sim = cli.find_subcommand_mut("sim").expect("it is what runs");
    sim.error(kind, wrong).exit()
}

/// Prints. That nobody wants to read on is no error: the exit code still tells. All else is one,
/// since whoever keeps the output would take what is there for all.
fn say(text: std::fmt::Arguments<'_>) {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => unwritten(&error),
        _ => {}
    }
}

fn unwritten(why: &dyn std::fmt::Display) -> ! {
    complain(format_args!("error: cannot write to standard output: {why}"));
    std::process::exit(TROUBLE.into())
}

/// Does something, and warns if it takes longer than that.
fn watched<T>(patience: Duration, warn: impl FnOnce() + Send, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (working, done) = channel::<()>();
        scope.spawn(move || {
            if done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                warn();
            }
        });
        let result = work();
        drop(working);
        result
    })
}

/// What is said of a run that does not end.
fn endless(seed: u64, options: &Options) -> String {
    format!(
        "Seed {seed} has been running for {} s of real time, and may never end: stop with Ctrl-C; \
         to see how far it gets: {}",
        PATIENCE.to_tell.as_secs(),
        replay(seed, options)
    )
}

fn one(seed: u64, options: &Options, verbose: bool) -> ExitCode {
    let drawn = Plan::draw(seed, &Options { only: None, ..options.clone() }).faults.len();
    let unknown = options.only.iter().flatten().find(|number| **number >= drawn);
    if let Some(unknown) = unknown {
        complain(format_args!(
            "error: seed {seed} has {drawn} faults, numbered from 0: there is no {unknown}"
        ));
        return ExitCode::from(TROUBLE);
    }
    let plan = Plan::draw(seed, options);
    if verbose && let Some(only) = &options.only {
        let (count, listed) = (only.len(), listed(&plan));
        say(format_args!("Seed {seed} with {count} of its {drawn} faults:\n{listed}"));
    }
    let outcome = match verbose {
        // A reader may take any time.
        true => run_with(&plan, Telling::Print, None),
        false => {
            let warn = || complain(format_args!("{}", endless(seed, options)));
            watched(PATIENCE.to_tell, warn, || run_with(&plan, Telling::Silent, None))
        }
    };
    if let Some(why) = &outcome.unwritten {
        unwritten(why);
    }
    if verbose {
        say(format_args!(""));
    } else if outcome.violation.is_some() {
        say(format_args!("{}\n{}", legend(&outcome), tail(&outcome)));
    }
    say(format_args!("{}", ending(&outcome)));
    // Who looks at the story, or at a part of the faults, does so because of what was found before.
    if let (Some(violation), false, None) = (&outcome.violation, verbose, &options.only) {
        explain(seed, options, violation);
    }
    code(outcome.violation.is_none())
}

fn code(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The faults of a run, a line each, by the numbers that its story has for them.
fn listed(plan: &Plan) -> String {
    let line = |(number, fault): (&usize, &Fault)| format!("fault {number} {fault}\n");
    plan.numbers.iter().zip(&plan.faults).map(line).collect()
}

/// Who is who, a line each.
fn legend(outcome: &Outcome) -> String {
    outcome.legend.iter().map(|line| format!("{line}\n")).collect()
}

/// The end of the story, a line each.
fn tail(outcome: &Outcome) -> String {
    let from = outcome.story.len().saturating_sub(TAIL_MAX);
    let lines = outcome.story[from..].iter().map(|line| format!("{line}\n")).collect::<String>();
    format!("The last {} lines of the story:\n{lines}", outcome.story.len() - from)
}

/// Why it is a rule that was broken, and where to read of the others.
fn why(broken: &Violation) -> String {
    match Rule::named(broken.rule()) {
        Some(rule) => format!("Why it is a rule: {} {RULES}", rule.why()),
        None => RULES.into(),
    }
}

/// What became of one run.
fn ending(outcome: &Outcome) -> String {
    let verdict = match (&outcome.violation, outcome.converged_ms) {
        (Some(violation), _) => format!("{violation}\n{}", why(violation)),
        (None, Some(ms)) => {
            format!("no rule was broken; well {:.1} s after healing", ms as f64 / 1_000.0)
        }
        (None, None) if outcome.captured => {
            "given up: a stranger was taken for an old master, as nobody could tell".into()
        }
        (None, None) => "no rule was broken".into(),
    };
    format!(
        "Seed {}: {verdict}\n\
         {:.1} virtual s; faults {}, elections {}, switches {}; writes confirmed {}, lost {}\n\
         hash {:016x}",
        outcome.seed,
        outcome.virtual_ms as f64 / 1_000.0,
        outcome.faults,
        outcome.elections,
        outcome.switches,
        grouped(outcome.writes_acked),
        grouped(outcome.writes_lost),
        outcome.hash,
    )
}

fn many(first: u64, total: u64, jobs: usize, options: &Options, keep_going: bool) -> ExitCode {
    // Nobody else would find work.
    let jobs = jobs.min(usize::try_from(total).unwrap_or(usize::MAX));
    let interrupt = interrupt();
    let mut progress = Progress::new(total);
    let summary = sweep(first, total, jobs, options, |summary, news| {
        progress.show(summary);
        let mut is_over = interrupt.load(Ordering::Relaxed);
        match news {
            News::Ended(Outcome { seed, violation: Some(violation), .. }) => {
                // Said at once: a sweep may take hours.
                progress.wipe();
                say(format_args!("Seed {seed}: {violation}"));
                is_over |= !keep_going;
            }
            News::Endless(seed) => {
                progress.wipe();
                complain(format_args!("{}", endless(seed, options)));
            }
            News::Ended(_) | News::Nothing => {}
        }
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    // There is no more to break off: the next Ctrl-C ends the program.
    let interrupted = interrupt.swap(true, Ordering::Relaxed);
    progress.wipe();
    let took = progress.since.elapsed();
    if summary.broken > 0 {
        say(format_args!(""));
    }
    if interrupted {
        let runs = grouped(summary.runs);
        say(format_args!("Interrupted: {runs} of {} runs have ended.\n", grouped(total)));
    } else if summary.runs < total {
        say(format_args!(
            "Ended early, since a rule was broken (see --keep-going): how far it got is chance.\n"
        ));
    }
    if !summary.left_behind.is_empty() {
        let seeds: Vec<String> = summary.left_behind.iter().map(u64::to_string).collect();
        say(format_args!("Left out, since it did not end in time: seed {}.\n", seeds.join(", ")));
    }
    say(format_args!("{summary}"));
    say(format_args!(
        "{:<14}{:.1} s on {jobs} thread{}, {}",
        "time",
        took.as_secs_f64(),
        if jobs == 1 { "" } else { "s" },
        Rate(&summary, took)
    ));
    let first = summary.failures.first_key_value();
    if let Some((seed, violation)) = first.and_then(|(s, o)| Some((*s, o.violation.as_ref()?))) {
        say(format_args!(""));
        if interrupted {
            say(format_args!("To see seed {seed}: {}", replay(seed, options)));
        } else {
            explain(seed, options, violation);
        }
    }
    if interrupted { ExitCode::from(INTERRUPTED) } else { code(summary.broken == 0) }
}

/// What comes within this time is the same Ctrl-C: `timeout -s INT` says it to the program and then
/// to all that it began.
const ONE_PRESS: Duration = Duration::from_millis(500);

/// Becomes true with the first Ctrl-C. If it was true already, Ctrl-C ends the program.
fn interrupt() -> Arc<AtomicBool> {
    let interrupt = Arc::new(AtomicBool::new(false));
    let heard = interrupt.clone();
    let listen = async move {
        let Ok(mut signals) = signal(SignalKind::interrupt()) else { return };
        let mut first = None::<Instant>;
        while signals.recv().await.is_some() {
            let is_same = first.is_some_and(|first| first.elapsed() < ONE_PRESS);
            first.get_or_insert_with(Instant::now);
            if heard.swap(true, Ordering::Relaxed) && !is_same {
                complain(format_args!("\nInterrupted."));
                std::process::exit(INTERRUPTED.into());
            }
        }
    };
    // If that fails, Ctrl-C ends the program as it ends others.
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        std::thread::spawn(move || runtime.block_on(listen));
    }
    interrupt
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
fn explain(seed: u64, options: &Options, violation: &Violation) {
    if std::io::stderr().is_terminal() {
        complain(format_args!("Looking for the fewest faults that break seed {seed} ..."));
    }
    let warn = || {
        complain(format_args!(
            "Making seed {seed} smaller takes long, or never ends: stop with Ctrl-C; to see it as \
             it was: {}",
            replay(seed, options)
        ));
    };
    let report = watched(PATIENCE.to_tell, warn, || report(seed, options, None, violation));
    say(format_args!("{report}"));
}

/// What is left of a run that failed, made smaller. Good code never fails: only a defect put in on
/// purpose shows that this works.
fn report(
    seed: u64,
    options: &Options,
    sabotage: Option<Sabotage>,
    violation: &Violation,
) -> String {
    let (smaller, minimal) = minimise_seed(seed, options, sabotage, violation);
    let again = run_with(&minimal.plan, Telling::Silent, sabotage);
    format!(
        "Seed {seed} made smaller: {} of {} faults break the same rule (found in {} tries).\n\n\
         {}\n{}\n{}\n{}\n\n\
         To see it:        {}\n\
         And as it was:    {}",
        minimal.kept.len(),
        Plan::draw(seed, options).faults.len(),
        minimal.tries,
        legend(&again),
        listed(&minimal.plan),
        tail(&again),
        ending(&again),
        replay(seed, &smaller),
        replay(seed, options),
    )
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
        let columns = match ratatui::crossterm::terminal::size() {
            // Some terminals do not know their size, and say 0.
            Ok((columns, _)) if columns > 0 => columns,
            _ => COLUMNS,
        };
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

/// The most important first: a narrow terminal shows no more.
fn line(summary: &Summary, total: u64, took: Duration) -> String {
    let share = summary.runs as f64 / total as f64;
    let left = took.as_secs_f64() * (1.0 / share - 1.0);
    let left = match summary.runs {
        0 => "no run has ended yet".into(),
        _ => format!("{} left", span((left * 1_000.0) as u64)),
    };
    format!(
        "{} of {} ({:.0} %)  {} broken  {left}  {}  {} elections",
        grouped(summary.runs),
        grouped(total),
        share * 100.0,
        grouped(summary.broken),
        Rate(summary, took),
        grouped(summary.elections),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
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

    /// What `watchfire sim` would do by this command line.
    fn read(line: &str) -> (u64, Options) {
        match Cli::try_parse_from(line.split(' ')).expect("it is a command line").command {
            Command::Sim(args) => (args.seed.expect("it names a seed"), args.options()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_failure_is_reported_with_its_story_its_faults_and_how_to_see_it() {
        let (sabotage, options) = (Some(Sabotage::EagerDisk), Options::default());
        let run = |plan: &Plan| run_with(plan, Telling::Silent, sabotage);
        let (whole, broken) = (0..50)
            .map(|seed| Plan::draw(seed, &options))
            .find_map(|plan| run(&plan).violation.map(|broken| (plan, broken)))
            .expect("some seed breaks a rule");
        let seed = whole.seed;
        let report = report(seed, &options, sabotage, &broken);

        // The command lines draw the same runs again.
        let command = |name: &str| {
            let line = report.lines().find_map(|line| line.strip_prefix(name));
            read(line.unwrap_or_else(|| panic!("{name:?} is missing in\n{report}")).trim())
        };
        assert_eq!(command("And as it was:"), (seed, options.clone()));
        let (again, smaller) = command("To see it:");
        assert_eq!(again, seed);
        let plan = Plan::draw(seed, &smaller);
        let outcome = run(&plan);

        // What is left breaks the same rule with fewer faults.
        let left = outcome.violation.as_ref().expect("it still breaks a rule");
        assert_eq!(left.rule(), broken.rule());
        let (kept, all) = (plan.faults.len(), whole.faults.len());
        assert!(kept < all, "{kept} of {all} faults");
        let head = format!("Seed {seed} made smaller: {kept} of {all} faults break the same rule");
        assert!(report.starts_with(&head), "{report}");

        // Then who is who, the faults, the end of the story, and what became of it, in this order.
        let shape = &plan.shape;
        let mut parts = outcome.legend.clone();
        assert_eq!(parts.len(), 2 + shape.sentinels + shape.nodes(), "{report}");
        parts.extend(smaller.only.expect("a part of the faults").into_iter().map(|number| {
            assert!(plan.faults.contains(&whole.faults[number]));
            format!("fault {number} {}", whole.faults[number])
        }));
        let story = outcome.story.iter().rev().take(TAIL_MAX).rev();
        parts.extend(story.map(|line| line.to_string()));
        parts.push(format!("Seed {seed}: {left}"));
        parts.extend(outcome.violation.as_ref().map(why));
        parts.push(format!("hash {:016x}", outcome.hash));
        let mut lines = report.lines();
        for part in parts {
            assert!(lines.any(|line| line == part), "{part:?} is missing in\n{report}");
        }
    }

    #[test]
    fn a_run_that_may_never_end_is_named_with_how_to_see_it() {
        let options = Options { stock: true, ..Options::default() };
        assert_eq!(
            endless(5, &options),
            "Seed 5 has been running for 60 s of real time, and may never end: stop with Ctrl-C; \
             to see how far it gets: watchfire sim --seed 5 --stock --verbose"
        );
    }

    #[test]
    fn whoever_is_quick_is_not_warned_of() {
        let mut warned = 0;
        let slow = || std::thread::sleep(Duration::from_millis(50));
        for (patience, work) in
            [(Duration::from_secs(60), &(|| ()) as &dyn Fn()), (Duration::from_millis(1), &slow)]
        {
            watched(patience, || warned += 1, work);
        }
        assert_eq!(warned, 1);
    }

    #[test]
    fn progress_says_where_it_stands() {
        let mut summary = Summary::default();
        (summary.runs, summary.virtual_ms, summary.elections) = (250, 250 * 100_000, 1_234);
        assert_eq!(
            line(&summary, 1_000, Duration::from_secs(10)),
            "250 of 1,000 (25 %)  0 broken  30.0 seconds left  25.0 runs/s, 2,500 x real time  \
             1,234 elections"
        );
        let none = line(&Summary::default(), 1_000, Duration::from_secs(10));
        assert!(none.contains("  no run has ended yet  "), "{none}");
    }
}
