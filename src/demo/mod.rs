//! A whole group as child processes on this machine: one master, two replicas, three sentinels and
//! a writing client, told as a story (the default) or left to the person at the keyboard.
//!
//! Everything known stands on one board (`model`), fed by `watch` and `writer`; `story` and
//! `interactive` act on the `cluster`; `plain` and `screen` are two views of the board.

pub(crate) mod child;
pub(crate) mod cluster;
mod failover;
pub(crate) mod failure;
mod interactive;
pub(crate) mod model;
mod plain;
mod proxy;
mod screen;
pub(crate) mod signals;
mod story;
mod verdict;
mod watch;
mod writer;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use child::Program;
use cluster::Plan;
use failure::Failure;
use interactive::Command;
use model::{Board, Model};
use signals::Signals;
use story::Group;

/// How long the scripted demo may take in all, beyond four times `down_after`.
const TOTAL_WITHIN: Duration = Duration::from_secs(90);
/// How long the presentation may take to show the end of it.
const SHOW_WITHIN: Duration = Duration::from_secs(3);
/// How many keys may be pressed ahead.
const MAX_COMMANDS: usize = 16;

/// What the demo shall do.
#[derive(Debug, Clone)]
pub struct Options {
    /// A `redis-server` or `valkey-server` in place of the bundled data node.
    pub server: Option<PathBuf>,
    /// A `redis-sentinel` in place of Watchfire's, to compare.
    pub sentinel: Option<PathBuf>,
    /// `down-after-milliseconds`: how long a node may be silent before it counts as down.
    pub down_after: Duration,
    /// Leave the group running and take keys.
    pub interactive: bool,
    /// A log even though the output is a terminal.
    pub plain: bool,
    /// Keep the directory with configuration files and logs.
    pub keep: bool,
}

/// Runs the demo. The exit code is 0 only if the failover succeeded and every check held
/// (with `interactive`: if it was ended by its key for quitting), 2 for a program that cannot be
/// used, 128 + n for signal n, else 1.
pub fn run(options: &Options) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // The children's lives are tied to this thread, which therefore starts them all.
    let code = runtime.block_on(perform(options));
    // A presentation that still waits for its reader shall not hold us up.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Turns this process into a child of the demo with process id `parent`, which dies with it: how
/// the demo starts its programs. Returns only if that failed.
pub fn become_child(parent: u32, program: &[OsString]) -> ExitCode {
    complain(&child::become_child(parent, program));
    ExitCode::FAILURE
}

/// Says on the standard error what went wrong; if nobody reads that either, there is nothing to do.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "watchfire demo: {text}");
}

async fn perform(options: &Options) -> u8 {
    let dir = match tempfile::Builder::new().prefix("watchfire-demo-").tempdir() {
        Ok(dir) => dir,
        Err(error) => {
            complain(&format!("cannot make a temporary directory: {error}"));
            return 1;
        }
    };
    let outcome = perform_in(dir.path(), options).await;
    let (code, failed) = match outcome {
        Ok(report) => match say_last(&report.text) {
            Ok(()) => (u8::from(!report.passed), !report.passed),
            Err(error) => (Failure::Output(error).exit_code(), false),
        },
        Err(failure) => {
            complain(&failure.to_string());
            (failure.exit_code(), failure.exit_code() == 1)
        }
    };
    tidy_up(dir, options.keep || failed);
    code
}

/// What is left on the terminal.
struct Report {
    text: String,
    passed: bool,
}

fn say_last(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    write!(out, "\n{text}")?;
    out.flush()
}

fn tidy_up(dir: TempDir, keep: bool) {
    if keep {
        complain(&format!("configuration files and logs are kept in {}", dir.keep().display()));
    } else if let Err(error) = dir.close() {
        complain(&format!("cannot remove the temporary directory: {error}"));
    }
}

async fn perform_in(dir: &Path, options: &Options) -> Result<Report, Failure> {
    let plan = plan(options).await?;
    let signals = Signals::listen()?;
    let board = Board::new(Model::new(title(options)));
    let (keys, mut commands) = mpsc::channel(MAX_COMMANDS);
    let mut stage = Stage::open(options, &board, keys)?;
    board.send_modify(|model| {
        model.say("Watchfire demo: one master, two replicas, three sentinels on this machine");
        model.say(model.title.clone());
        model.say(format!("files are in {}", dir.display()));
    });
    let mut group = None;
    let outcome = tokio::select! {
        outcome = act(dir, &plan, options, &board, &mut commands, &mut group) => outcome,
        signal = signals.next() => Err(Failure::Interrupted(signal)),
        failure = stage.ended() => Err(failure),
    };
    if let Some(mut group) = group {
        group.cluster.stop().await;
    }
    stage.close().await;
    if outcome.as_ref().is_err_and(|failure| failure.exit_code() == 1)
        && let Some(failover) = &board.borrow().failover
    {
        // How far it came is half of the diagnosis.
        let _ = say_last(&verdict::timeline(failover));
    }
    outcome
}

/// The part of it that signals and a closed output can cut short.
async fn act(
    dir: &Path,
    plan: &Plan,
    options: &Options,
    board: &Board,
    commands: &mut mpsc::Receiver<Command>,
    slot: &mut Option<Group>,
) -> Result<Report, Failure> {
    if options.interactive {
        let group = tokio::select! {
            group = story::raise(dir, plan, board, slot) => group?,
            failure = only_quit(commands) => return Err(failure),
        };
        let text = interactive::obey(group, board, commands).await?;
        return Ok(Report { text, passed: true });
    }
    let within = TOTAL_WITHIN + 4 * plan.down_after;
    let story = async {
        let group = story::raise(dir, plan, board, slot).await?;
        story::tell(group, plan.down_after).await
    };
    let verdict = tokio::select! {
        told = timeout(within, story) => told.map_err(|_| {
            Failure::TooLong { within, doing: board.borrow().status.clone() }
        })??,
        failure = only_quit(commands) => return Err(failure),
    };
    let model = board.borrow();
    let text = model.failover.as_ref().map(|f| verdict.report(f)).unwrap_or_default();
    Ok(Report { text, passed: verdict.passed() })
}

/// Where only the end can be asked for, waits for that.
async fn only_quit(commands: &mut mpsc::Receiver<Command>) -> Failure {
    const SIGINT: u8 = 2;
    loop {
        match commands.recv().await {
            Some(Command::Quit | Command::Interrupt) => return Failure::Interrupted(SIGINT),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

async fn plan(options: &Options) -> Result<Plan, Failure> {
    let node = match &options.server {
        Some(path) => Program::server(path).await?,
        None => Program::bundled("server")?,
    };
    let sentinel = match &options.sentinel {
        Some(path) => Program::sentinel(path).await?,
        None => Program::bundled("sentinel")?,
    };
    Ok(Plan { node, sentinel, down_after: options.down_after, proxies: options.interactive })
}

fn title(options: &Options) -> String {
    let shown = |path: &Option<PathBuf>, bundled: &str| match path {
        Some(path) => path.display().to_string(),
        None => bundled.to_string(),
    };
    format!(
        "data nodes: {}; sentinels: {}; down after {}",
        shown(&options.server, "watchfire server"),
        shown(&options.sentinel, "watchfire sentinel"),
        humantime::format_duration(options.down_after)
    )
}

/// The presentation, on a thread of its own: a terminal that does not take its output stops nobody.
struct Stage {
    stop: CancellationToken,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Stage {
    fn open(
        options: &Options,
        board: &Board,
        keys: mpsc::Sender<Command>,
    ) -> Result<Stage, Failure> {
        let stop = CancellationToken::new();
        let (view, stopped) = (board.subscribe(), stop.clone());
        let thread = if options.plain || !screen::is_possible() {
            if options.interactive {
                return Err(Failure::Program("--interactive needs a terminal".into()));
            }
            tokio::task::spawn_blocking(|| {
                Handle::current().block_on(plain::print(view, stopped, io::stdout()))
            })
        } else {
            let interactive = options.interactive;
            tokio::task::spawn_blocking(move || screen::show(view, stopped, keys, interactive))
        };
        Ok(Stage { stop, thread: Some(thread) })
    }

    /// Waits until the presentation ends by itself, which it does only when it cannot go on.
    async fn ended(&mut self) -> Failure {
        let Some(thread) = &mut self.thread else { return std::future::pending().await };
        let outcome = thread.await;
        self.thread = None;
        Failure::Output(match outcome {
            Ok(Err(error)) => error,
            Ok(Ok(())) => io::Error::other("the presentation ended"),
            Err(error) => io::Error::other(error),
        })
    }

    /// Lets it show the end and give the terminal back.
    async fn close(mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Whether the end could be shown shows in the attempt to print the report.
            let _ = timeout(SHOW_WITHIN, thread).await;
        }
    }
}

impl Drop for Stage {
    /// Also on a panic: the thread must not keep the runtime from ending.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
