//! The decision core in a simulated world: many seeds, each with its own faults; see
//! `watchfire::sim`. And `watchfire sim` as a person runs it.
//!
//! `WATCHFIRE_SEEDS=<n>` runs so many fixed seeds instead of the usual number. A failure prints the
//! command line that tells it as a story.

use std::io::{Read, Write};
use std::ops::{ControlFlow, Range};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use watchfire::sim::minimise::{Minimal, minimise_seed};
use watchfire::sim::sweep::{News, Summary, sweep};
use watchfire::sim::{
    Fault, FaultKind, Options, Outcome, Plan, Sabotage, Telling, replay, run, run_with,
};

/// Seeds that are run every time.
const FIXED_SEEDS: u64 = 300;
/// What their runs were, in one number: the same for the same sources in every build and on every
/// machine. What changes a decision, a world or an effect changes it: then put in what the test
/// shows, if the change was meant.
const FIXED_HASH: u64 = 0xfe6f_e0f9_71eb_2477;
/// Seeds that are new every time.
const FRESH_SEEDS: u64 = 60;
/// How long things fail in runs of the program that only show how it talks, in virtual ms.
const SHORT: &str = "3000";

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

fn plan(seed: u64) -> Plan {
    Plan::draw(seed, &Options::default())
}

/// Runs seeds on all cores, prints what they were like, and fails with the report of the first that
/// broke a rule. `each` sees every run.
#[track_caller]
fn judge(seeds: Range<u64>, options: &Options, mut each: impl FnMut(&Outcome)) -> Summary {
    let jobs = std::thread::available_parallelism().map_or(1, |n| n.get());
    let count = seeds.end - seeds.start;
    let summary = sweep(seeds.start, count, jobs, options, |_, news| {
        match news {
            News::Ended(outcome) => each(outcome),
            News::Endless(seed) => println!("seed {seed} runs for long: does it ever end?"),
            News::Nothing => {}
        }
        ControlFlow::Continue(())
    });
    println!("{summary}");
    for outcome in summary.failures.values() {
        let what = outcome.violation.as_ref().map_or("", |v| &v.what);
        println!("seed {}: {what}", outcome.seed);
    }
    if let Some((seed, first)) = summary.failures.first_key_value() {
        panic!("{first}\nwith its options: {}", replay(*seed, options));
    }
    summary
}

#[test]
fn fixed_seeds_break_no_rule() {
    let seeds = number_from_env("WATCHFIRE_SEEDS").unwrap_or(FIXED_SEEDS);
    let summary = judge(0..seeds, &Options::default(), |_| {});
    if seeds == FIXED_SEEDS {
        let hash = summary.hash;
        assert_eq!(
            hash, FIXED_HASH,
            "{hash:#018x}, not {FIXED_HASH:#018x}: other runs than before"
        );
    }
    let (won, unjudged) = (summary.won, summary.unjudged);
    assert!(won > seeds && unjudged * 4 < won, "{unjudged} of {won} elections are not judged");
}

#[test]
fn worlds_with_stock_sentinels_break_no_rule() {
    judge(0..25, &Options { stock: true, ..Options::default() }, |_| {});
}

#[test]
fn the_wall_clock_decides_nothing() {
    let step = |fault: &Fault| matches!(fault.kind, FaultKind::ClockStep(..));
    let stepped = |seed: &u64| plan(*seed).faults.iter().any(step);
    for seed in (0..).filter(stepped).take(12) {
        let whole = plan(seed);
        let others = whole.faults.iter().enumerate().filter(|(_, fault)| !step(fault));
        let only = Some(others.map(|(number, _)| number).collect());
        let without = Plan::draw(seed, &Options { only, ..Options::default() });
        let [with, without] = [whole, without].map(|plan| run(&plan, Telling::Silent).hash);
        assert_eq!(with, without, "seed {seed}: steps of the clock change what happens");
    }
}

#[test]
fn fresh_seeds_break_no_rule() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    let first = since_1970.as_millis() as u64;
    // Past the capture of a test's output: a run that passes tells it, too.
    writeln!(std::io::stderr(), "simulation: fresh seeds from {first}").expect("stderr is open");
    judge(first..first + FRESH_SEEDS, &Options::default(), |_| {});
}

#[test]
fn nothing_happens_while_nothing_fails() {
    let options = Options { calm: true, faults_ms: Some(300_000), ..Options::default() };
    let summary = judge(0..8, &options, |outcome| {
        let quiet = outcome.elections == 0 && outcome.switches == 0 && outcome.writes_lost == 0;
        assert!(quiet && outcome.writes_acked > 0, "seed {} is not calm", outcome.seed);
    });
    assert_eq!((summary.runs, summary.faults), (8, 0));
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    let of = |seed| {
        let outcome = run(&plan(seed), Telling::Silent);
        (outcome.hash, outcome.virtual_ms, outcome.effects, outcome.writes_acked)
    };
    let hashes: Vec<_> = (0..6).map(of).collect();
    assert_eq!(hashes, (0..6).map(of).collect::<Vec<_>>());
    let distinct: std::collections::BTreeSet<_> = hashes.iter().map(|(hash, ..)| hash).collect();
    assert_eq!(distinct.len(), hashes.len(), "different seeds are different runs");
}

#[test]
fn a_story_changes_nothing() {
    let [silent, told] = [Telling::Silent, Telling::All].map(|telling| run(&plan(1), telling));
    assert_eq!((silent.hash, silent.violation), (told.hash, told.violation));
    assert!(!told.story.is_empty());
}

#[test]
fn each_defect_put_in_on_purpose_is_found() {
    for (sabotage, rule) in [
        (Sabotage::EagerDisk, "durable before spoken"),
        (Sabotage::Amnesia, "epochs never go back"),
        (Sabotage::CriesWolf, "no failover without cause"),
        (Sabotage::NeverHealed, "all is well again"),
    ] {
        let breaks = |seed: &u64| {
            let outcome = run_with(&plan(*seed), Telling::Silent, Some(sabotage));
            outcome.violation.is_some_and(|found| found.what.contains(rule))
        };
        let seed = (0..100).find(breaks);
        let seed = seed.unwrap_or_else(|| panic!("{sabotage:?} does not break {rule:?}"));
        println!("{sabotage:?} breaks {rule:?} in seed {seed}");
    }
}

/// `watchfire` with these arguments, which have no spaces.
fn watchfire(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchfire"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command
}

fn output(arguments: &str) -> (Output, String) {
    let output = watchfire(arguments).output().expect("the program starts");
    let text = String::from_utf8(output.stdout.clone()).expect("plain text");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{arguments}: {errors}");
    (output, text)
}

#[track_caller]
fn hash_line(text: &str) -> &str {
    let line = text.lines().find(|line| line.starts_with("hash ")).expect("a hash is printed");
    assert_eq!(line.len(), "hash ".len() + 16, "{line}");
    line
}

/// A seed that has faults and an election, and breaks no rule.
fn eventful() -> u64 {
    let is_eventful = |seed: &u64| {
        let outcome = run(&plan(*seed), Telling::Silent);
        outcome.violation.is_none() && outcome.faults > 4 && outcome.switches > 0
    };
    (0..200).find(is_eventful).expect("there is such a seed")
}

#[test]
fn a_run_is_told_as_a_story() {
    let seed = eventful();
    let arguments = format!("sim --seed {seed} --verbose");
    let (first, story) = output(&arguments);
    assert_eq!(first.status.code(), Some(0), "{story}");
    let begin = format!("seed {seed}: ");
    for what in [
        &begin,
        "node 0: machine ",
        " s  world       begins, for ",
        "ends: ",
        " (fault 0)",
        "+vote-for-leader",
        "+switch-master",
        "writes revision",
        "all is healed",
        "all is well, ",
        "no rule was broken",
    ] {
        assert!(story.contains(what), "{what:?} is missing in\n{story}");
    }
    let (_, again) = output(&arguments);
    assert_eq!(story, again, "the seed decides everything");
    let (_, short) = output(&format!("sim --seed {seed}"));
    assert_eq!(hash_line(&short), hash_line(&story));
    assert!(short.lines().count() < 5, "{short}");
}

#[test]
fn only_the_faults_that_are_asked_for_happen() {
    let seed = eventful();
    let (first, story) = output(&format!("sim --seed {seed} --faults 3,1 --verbose"));
    assert!(matches!(first.status.code(), Some(0 | 1)));
    let drawn = plan(seed).faults;
    assert!(story.starts_with(&format!("Seed {seed} with 2 of its {} faults:", drawn.len())));
    for number in [1, 3] {
        let kind = &drawn[number].kind;
        assert!(story.contains(&format!("\nfault {number} at ")), "{story}");
        // Each is told by the number that it has in the whole run.
        assert!(story.contains(&format!("{kind} (fault {number})")), "{story}");
    }
    assert!(!story.contains("(fault 0)") && !story.contains("(fault 2)"), "{story}");
    let (_, none) = output(&format!("sim --seed {seed} --faults none --verbose"));
    assert!(none.contains("with 0 of its") && !none.contains("(fault "), "{none}");
}

#[test]
fn nothing_begins_to_fail_after_healing() {
    let seed = eventful();
    let (_, story) = output(&format!("sim --seed {seed} --fault-ms {SHORT} --verbose"));
    let (_, after) = story.split_once("all is healed").expect("it is healed");
    let begun = after.lines().find(|line| line.contains("(fault ") && !line.contains("  ends: "));
    assert_eq!(begun, None, "{after}");
}

#[test]
fn all_rules_are_listed_with_their_reasons() {
    let (first, listed) = output("sim --rules");
    assert_eq!(first.status.code(), Some(0), "{listed}");
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2 * watchfire::sim::rules::Rule::ALL.len(), "{listed}");
    let at = lines.iter().position(|line| *line == "one leader per epoch").expect("it is a rule");
    assert_eq!(lines[at + 1], "    Two leaders would make two masters.");
    let refused = output("sim --rules --seed 1").0;
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn many_runs_end_with_a_summary() {
    let arguments = format!("sim --calm --seed 100 --seeds 6 --fault-ms {SHORT}");
    let (first, summary) = output(&arguments);
    assert_eq!(first.status.code(), Some(0), "{summary}");
    for line in [
        "runs          6",
        "virtual time  ",
        "faults        0, ",
        "elections     0",
        "writes        ",
        "well again    after healing: median ",
        "hash of all   ",
        "broken        none",
        "time          ",
    ] {
        assert!(summary.lines().any(|l| l.starts_with(line)), "{line:?} is missing in\n{summary}");
    }
    // All but the time depends on the seeds only.
    let (_, again) = output(&format!("{arguments} --jobs 1"));
    let numbers = |text: &str| text.split("\ntime ").next().map(str::to_owned);
    assert_eq!(numbers(&summary), numbers(&again));
}

#[test]
fn ctrl_c_breaks_off_and_sums_up() {
    let mut command = watchfire(&format!("sim --calm --seeds 1000000000 --fault-ms {SHORT}"));
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = command.spawn().expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !catches_sigint(process.id()) {
        assert!(Instant::now() < deadline, "it never listens to Ctrl-C");
        std::thread::sleep(Duration::from_millis(10));
    }
    // As `timeout -s INT` does it: to the program, and once more to all of its group.
    for _ in 0..3 {
        kill_process(Pid::from_child(&process), Signal::INT).expect("nobody has waited for it");
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = process.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("plain text");
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.starts_with("Interrupted: "), "{text}");
    assert!(text.contains(" of 1,000,000,000 runs have ended.\n\nruns          "), "{text}");
    assert!(text.contains("\nbroken        none\n"), "{text}");
}

/// Whether a process has taken SIGINT into its own hands.
fn catches_sigint(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux");
    let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask of signals");
    caught & (1 << (Signal::INT.as_raw() - 1)) != 0
}

#[test]
fn wrong_arguments_are_explained() {
    let beyond = format!("--seed {} --seeds 1000", u64::MAX - 10);
    for (arguments, part) in [
        ("--seed x", "invalid value 'x' for '--seed <S>'"),
        ("--seeds 0", "invalid value '0' for '--seeds <N>'"),
        ("--jobs 0", "invalid value '0' for '--jobs <N>'"),
        ("--fault-ms 0", "invalid value '0' for '--fault-ms <MS>'"),
        ("--seed 1 --faults 1,x", "must be numbers with commas between them"),
        ("--seed 1 --faults 99999", "there is no 99999"),
        ("--faults 1", "--seed <S>"),
        ("--verbose", "--seed <S>"),
        ("--verbose --seed 1 --seeds 2", "cannot be used with"),
        (&beyond, "'--seeds <N>' can be 11 at most"),
        ("--seed 1 --jobs 2", "say how many with '--seeds <N>', or leave out '--jobs <N>'"),
        ("--seed 1 --keep-going", "say how many with '--seeds <N>', or leave out '--keep-going'"),
        ("7", "unexpected argument '7'"),
    ] {
        let (wrong, _) = output(&format!("sim {arguments}"));
        let said = String::from_utf8_lossy(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains("error: ") && said.contains(part), "{arguments}: {said}");
    }
}

#[test]
fn a_reader_that_goes_away_changes_nothing_but_the_output() {
    let seed = eventful();
    for arguments in [format!("sim --seed {seed} --verbose"), "sim --calm --seeds 2".into()] {
        let mut command = watchfire(&arguments);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the program starts");
        drop(process.stdout.take());
        let mut errors = String::new();
        process.stderr.take().expect("piped").read_to_string(&mut errors).expect("plain text");
        let status = process.wait().expect("it ends");
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""), "{arguments}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let seed = eventful();
    for arguments in [
        "sim --calm --seeds 2".to_owned(),
        format!("sim --seed {seed}"),
        format!("sim --seed {seed} --verbose"),
    ] {
        let full = std::fs::File::create("/dev/full").expect("Linux has it");
        let process = watchfire(&arguments).stdout(full).output().expect("the program starts");
        let errors = String::from_utf8_lossy(&process.stderr);
        let said = "error: cannot write to standard output: No space left on device (os error 28)";
        assert_eq!((process.status.code(), errors.trim_end()), (Some(2), said), "{arguments}");
    }
}

#[test]
fn the_last_seed_is_a_seed() {
    let arguments = format!("sim --calm --seed {} --seeds 1 --fault-ms {SHORT}", u64::MAX);
    let (process, summary) = output(&arguments);
    assert_eq!(process.status.code(), Some(0), "{summary}");
    assert!(summary.starts_with("runs          1\n"), "{summary}");
}

#[test]
fn a_part_of_the_faults_is_the_same_run_by_its_command_line() {
    // What the minimiser does with a rule that is broken, seen from outside: options that draw a
    // part, as a command line, whose run is that of the part.
    let seed = eventful();
    let whole = plan(seed);
    let options = Options {
        only: Some([1, 3].into()),
        faults_ms: Some(whole.shape.faults_ms / 2 + 1),
        ..Options::default()
    };
    let mut part = whole.keep(|n, _| n == 1 || n == 3);
    part.shape.faults_ms = whole.shape.faults_ms / 2 + 1;
    same_run(&part, &replay(seed, &options));
}

#[test]
fn a_failure_that_was_made_smaller_is_the_same_run_by_its_command_line() {
    // Good code has none, so one sentinel gets a bad disk. The program has no such defect: it lives
    // what is left without it.
    let (sabotage, options) = (Some(Sabotage::EagerDisk), Options::default());
    let failing = |seed| {
        run_with(&plan(seed), Telling::Silent, sabotage).violation.map(|found| (seed, found))
    };
    let (seed, found) = (0..50).find_map(failing).expect("some seed breaks a rule");
    let (smaller, minimal) = minimise_seed(seed, &options, sabotage, &found);
    let Minimal { plan: left, kept, .. } = minimal;
    let outcome = run_with(&left, Telling::Silent, sabotage);
    assert_eq!(outcome.violation.as_ref().map(|v| v.rule()), Some(found.rule()));
    assert!(left.faults.len() < plan(seed).faults.len());
    assert_eq!((left.faults.len(), smaller.only.as_ref()), (kept.len(), Some(&kept)));
    same_run(&left, &replay(seed, &smaller));
}

/// The command line lives the very run of this plan.
#[track_caller]
fn same_run(plan: &Plan, line: &str) {
    let outcome = run(plan, Telling::Silent);
    let arguments = line.strip_prefix("watchfire ").expect("a command line");
    let (process, story) = output(arguments);
    assert_eq!(hash_line(&story), format!("hash {:016x}", outcome.hash), "{line}");
    match &outcome.violation {
        None => assert_eq!(process.status.code(), Some(0), "{line}"),
        Some(found) => {
            assert_eq!(process.status.code(), Some(1), "{line}");
            assert!(story.contains(&format!("Seed {}: {found}", plan.seed)), "{line}\n{story}");
        }
    }
}
