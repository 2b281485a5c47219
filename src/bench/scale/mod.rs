//! What it costs to watch many groups, and how fast many fail over at once: `redis-sentinel` and
//! Watchfire in turn over the same nodes, which `bench nodes` plays.
//!
//! `alone` measures one sentinel, `trio` three; `crowd` is the nodes, `sentinel` one under test.

mod alone;
mod crowd;
mod process;
mod query;
mod rows;
mod sentinel;
mod trio;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

pub use self::crowd::Fault;
use self::rows::{Rows, Sheet};
pub use self::sentinel::Program;
use self::trio::Trio;
use super::output::Output;
use super::report::Report;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// In turn.
    pub programs: Vec<Program>,
    /// One sentinel with so many groups.
    pub alone: Vec<usize>,
    /// Three sentinels with so many groups, of which all masters fail.
    pub mass: Vec<usize>,
    /// How they fail, in turn.
    pub faults: Vec<Fault>,
    /// Three sentinels with so many groups on a busy machine, for this time.
    pub busy: Option<(usize, Duration)>,
    /// How often.
    pub rounds: usize,
    /// How long to wait for a sentinel to start, or for a group to move.
    pub patience: Duration,
    /// Where each row goes, as lines of JSON.
    pub json: Option<PathBuf>,
    /// Where the chart goes.
    pub svg: Option<PathBuf>,
}

/// One thing that is measured, of one program.
#[derive(Debug, Clone, Copy)]
enum Trial {
    Alone(usize),
    Mass(usize, Fault),
    Busy(usize, Duration),
}

/// Measures and prints the table. The exit code is 0 if every trial came to its end, 128 + n for
/// signal n, else 1.
pub fn run(options: &Options) -> ExitCode {
    // A child's life is tied to the thread that starts it: this one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut rows = Rows::default();
    let outputs = match Outputs::create(options) {
        Ok(outputs) => outputs,
        Err(error) => {
            tell(format_args!("watchfire bench scale: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let measured = runtime.and_then(|runtime| {
        // Ends between two turns of this task, so whatever runs is dropped, and ended, with it.
        runtime.block_on(async {
            tokio::select! {
                went_well = measure(options, &mut rows) => went_well,
                signal = interrupted() => signal,
            }
        })
    });
    let shown = show(outputs, &rows.report(options.rounds));
    match measured.and_then(|code| shown.map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(format_args!("watchfire bench scale: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Everything that was found, also of a run that did not come to its end.
fn show(outputs: Outputs, report: &Report) -> io::Result<()> {
    writeln!(io::stdout(), "{}", report.table())?;
    outputs.json.map_or(Ok(()), |file| file.write(&report.json_lines()?))?;
    outputs.svg.map_or(Ok(()), |file| file.write(&report.chart()))
}

/// The files to write, made before anything is measured: a wrong path is told at once.
struct Outputs {
    json: Option<Output>,
    svg: Option<Output>,
}

impl Outputs {
    fn create(options: &Options) -> io::Result<Outputs> {
        let create = |path: &Option<PathBuf>| path.as_deref().map(Output::create).transpose();
        Ok(Outputs { json: create(&options.json)?, svg: create(&options.svg)? })
    }
}

/// The exit code for the signal that comes first.
async fn interrupted() -> io::Result<u8> {
    let [mut interrupt, mut terminate, mut hang_up] = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    Ok(tokio::select! {
        _ = interrupt.recv() => 128 + 2,
        _ = terminate.recv() => 128 + 15,
        _ = hang_up.recv() => 128 + 1,
    })
}

async fn measure(options: &Options, rows: &mut Rows) -> io::Result<u8> {
    let mut code = 0;
    for trial in options.trials() {
        for _ in 0..options.rounds {
            for program in &options.programs {
                let section = trial.section();
                tell(format_args!("{}: {section}", program.name()));
                let mut sheet = Sheet { rows, program: *program, section };
                if let Err(error) = trial.run(options.patience, &mut sheet).await {
                    tell(format_args!("  {error}"));
                    code = 1;
                }
            }
        }
    }
    Ok(code)
}

impl Options {
    fn trials(&self) -> Vec<Trial> {
        let alone = self.alone.iter().copied().map(Trial::Alone);
        let fail = |groups: &usize| {
            let groups = *groups;
            self.faults.iter().map(move |fault| Trial::Mass(groups, *fault))
        };
        let mass = self.mass.iter().flat_map(fail);
        let busy = self.busy.map(|(groups, time)| Trial::Busy(groups, time));
        alone.chain(mass).chain(busy).collect()
    }
}

impl Trial {
    fn section(self) -> String {
        match self {
            Trial::Alone(groups) => format!("one sentinel, {groups} groups"),
            Trial::Mass(groups, Fault::Hang) => format!("three sentinels, {groups} masters hang"),
            Trial::Mass(groups, Fault::Close) => {
                format!("three sentinels, {groups} masters hang and their connections end")
            }
            Trial::Busy(groups, _) => format!("three sentinels, {groups} groups, no core is free"),
        }
    }

    async fn run(self, patience: Duration, sheet: &mut Sheet<'_>) -> io::Result<()> {
        let dir = tempfile::Builder::new().prefix("watchfire-scale-").tempdir()?;
        let (program, path) = (sheet.program, dir.path());
        match self {
            Trial::Alone(groups) => alone::run(program, groups, patience, path, sheet).await?,
            Trial::Mass(groups, fault) => {
                let mut trio = Trio::meet(program, groups, patience, path, sheet).await?;
                trio.idle(sheet).await?;
                trio.fail(fault, patience, sheet).await?;
                trio.end().await?;
            }
            Trial::Busy(groups, time) => {
                let trio = Trio::meet(program, groups, patience, path, sheet).await?;
                trio.saturate(time, path, sheet).await?;
                trio.end().await?;
            }
        }
        dir.close()
    }
}

/// Tells whoever waits how far it is; if nobody reads, nothing is lost.
fn tell(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}
