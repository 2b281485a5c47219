//! Failover by stages: groups of real nodes under `redis-sentinel` and under Watchfire, in turn,
//! and what becomes of each when its master dies, hangs, or is ordered to hand over.
//!
//! `round` plays one round on a `group`; `watch` and `writer` see what happens and put it on a
//! `timeline`, of which `measure` makes the rows of the report.

mod answers;
mod blackhole;
mod fault;
mod group;
mod measure;
mod round;
mod timeline;
mod watch;
mod writer;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

pub use fault::Fault;
use group::Plan;
use measure::Outcome;

use super::output::Output;
use super::report::Report;
use crate::demo::child::Program;
use crate::demo::failure::Failure;
use crate::demo::signals::Signals;

/// The directive of Watchfire's by which refused connections count as down, and its value.
const REFUSED_AFTER: (&str, &str) = ("refused-after", "200");

/// Whose sentinels watch the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `redis-server --sentinel`
    Redis,
    /// This very program.
    Watchfire,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Redis => "redis-sentinel",
            Side::Watchfire => "watchfire",
        }
    }
}

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Each is tried with each program.
    pub faults: Vec<Fault>,
    /// Each `down-after-milliseconds` to try.
    pub down_after: Vec<Duration>,
    /// How often.
    pub rounds: usize,
    /// How many replicas each group has.
    pub replicas: usize,
    /// One program alone.
    pub only: Option<Side>,
    /// Where each round and each row goes, as lines of JSON.
    pub json: Option<PathBuf>,
    /// Where the chart goes.
    pub svg: Option<PathBuf>,
}

/// Measures and prints the table. The exit code is 0 if every round could be played to its end,
/// 2 for a program that cannot be used, 128 + n for signal n, else 1.
pub fn run(options: &Options) -> ExitCode {
    let mut options = options.clone();
    if options.faults.contains(&Fault::Blackhole) && !blackhole::has_own_network() {
        let reason = blackhole::move_to_own_network();
        complain(&format!("blackhole is left out: no network of its own for it: {reason}"));
        options.faults.retain(|fault| *fault != Fault::Blackhole);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    // The children's lives are tied to this thread, which therefore starts them all.
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(perform(&options)),
        Err(error) => Err(Failure::io("start the runtime")(error)),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            complain(&format!("{failed} rounds could not be played to their end"));
            ExitCode::FAILURE
        }
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Says on the standard error what went wrong; if nobody reads that either, there is nothing to do.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "watchfire bench failover: {text}");
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Failure::Output)
}

/// A fault, and with which `down-after`.
type Case = (Fault, Duration);

/// Everything found so far.
struct Found {
    rounds: Vec<(Case, Side, Outcome)>,
    failed: usize,
    json: Option<Output>,
}

/// How many rounds failed.
async fn perform(options: &Options) -> Result<usize, Failure> {
    let signals = Signals::listen()?;
    // A wrong path is told at once.
    let create = |path: &Option<PathBuf>| {
        let file = path.as_deref().map(Output::create).transpose();
        file.map_err(Failure::io("open the files to write"))
    };
    let (json, svg) = (create(&options.json)?, create(&options.svg)?);
    let mut found = Found { rounds: vec![], failed: 0, json };
    // Ends between two turns of this task, so whatever runs is dropped, and killed, with it.
    let ended = tokio::select! {
        ended = play_all(options, &mut found) => ended,
        signal = signals.next() => Err(Failure::Interrupted(signal)),
    };
    let report = found.report(options);
    say(&format!("\n{}", report.table()))?;
    found.write_rows(&report)?;
    if let Some(file) = svg {
        file.write(&report.chart()).map_err(Failure::io("draw the chart"))?;
    }
    ended.map(|()| found.failed)
}

async fn play_all(options: &Options, found: &mut Found) -> Result<(), Failure> {
    let server = Program::server(Path::new("redis-server")).await?;
    let redis = Program::sentinel(Path::new("redis-server")).await?;
    let watchfire = Program::bundled("sentinel")?;
    let sides: Vec<(Side, Program)> = [(Side::Redis, redis), (Side::Watchfire, watchfire)]
        .into_iter()
        .filter(|(side, _)| options.only.is_none_or(|only| only == *side))
        .collect();
    for case in cases(options) {
        let (fault, down_after) = case;
        for number in 0..options.rounds {
            for (side, sentinel) in &sides {
                // Redis has no such order: its rounds of the plain one stand beside it.
                if fault == Fault::Coordinated && *side == Side::Redis {
                    continue;
                }
                let plan = Plan {
                    server: server.clone(),
                    sentinel: sentinel.clone(),
                    replicas: options.replicas,
                    quorum: fault.quorum(),
                    down_after,
                    own_directives: own_directives(fault, *side),
                    own_host: fault == Fault::Blackhole,
                };
                let dir = new_dir()?;
                let outcome = round::play(dir.path(), &plan, fault, number).await;
                found.take(case, *side, number, options, outcome, dir)?;
            }
        }
    }
    Ok(())
}

fn cases(options: &Options) -> Vec<Case> {
    let of = |fault: &Fault| {
        let fault = *fault;
        fault.down_afters(&options.down_after).into_iter().map(move |after| (fault, after))
    };
    options.faults.iter().flat_map(of).collect()
}

fn own_directives(fault: Fault, side: Side) -> Vec<(&'static str, &'static str)> {
    match (fault, side) {
        (Fault::Refused, Side::Watchfire) => vec![REFUSED_AFTER],
        _ => vec![],
    }
}

fn new_dir() -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("watchfire-bench-").tempdir();
    made.map_err(Failure::io("make a temporary directory"))
}

impl Found {
    /// Tells of a round, and keeps it. One that failed leaves its files behind.
    fn take(
        &mut self,
        case: Case,
        side: Side,
        number: usize,
        options: &Options,
        outcome: Result<Outcome, Failure>,
        dir: TempDir,
    ) -> Result<(), Failure> {
        let (fault, down_after) = case;
        let head = format!(
            "{fault}, down-after {}, round {} of {}, {}",
            humantime::format_duration(down_after),
            number + 1,
            options.rounds,
            side.name()
        );
        let mut line = json!({
            "bench": "failover",
            "program": side.name(),
            "fault": fault.to_string(),
            "down_after_ms": down_after.as_millis() as u64,
            "replicas": options.replicas,
            "round": number + 1,
        });
        match outcome {
            Ok(outcome) => {
                say(&format!("{head}: {}", outcome.summary(fault)))?;
                line["ms"] = outcome.measures_by_name(fault).into();
                line["writes"] = json!(outcome.writes);
                line["failed_over_again"] = outcome.failed_over_again.into();
                line["successor_called_down"] = outcome.successor_called_down.into();
                line["told"] = json!(outcome.told);
                self.rounds.push((case, side, outcome));
            }
            Err(failure) => {
                let kept = dir.keep();
                say(&format!("{head}: failed; its files are in {}: {failure}", kept.display()))?;
                line["failed"] = failure.to_string().into();
                self.failed += 1;
            }
        }
        self.write(&format!("{line}\n"))
    }

    fn report(&self, options: &Options) -> Report {
        let of = |case: Case, wanted: Side| -> Vec<&Outcome> {
            let rounds = self.rounds.iter();
            rounds.filter(|(of, side, _)| *of == case && *side == wanted).map(|r| &r.2).collect()
        };
        let section = |case: Case| {
            let (fault, down_after) = case;
            let redis = match fault {
                Fault::Coordinated => (Fault::Order, down_after),
                _ => case,
            };
            let times = match fault.counts_from_down_after() {
                true => "ms after down-after has passed",
                false => "ms after the fault",
            };
            let title = format!(
                "{}, down-after {}, {} replicas ({times})",
                fault.title(),
                humantime::format_duration(down_after),
                options.replicas
            );
            measure::section(title, fault, &of(redis, Side::Redis), &of(case, Side::Watchfire))
        };
        Report { sections: cases(options).into_iter().map(section).collect() }
    }

    fn write_rows(&mut self, report: &Report) -> Result<(), Failure> {
        let lines = report.json_lines().map_err(io::Error::other);
        self.write(&lines.map_err(Failure::io("write JSON"))?)
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        match &self.json {
            Some(file) => file.write(text).map_err(Failure::io("write JSON")),
            None => Ok(()),
        }
    }
}
