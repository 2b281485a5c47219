//! `watchfire sentinel`: a sentinel as a process: arguments, log, working directory, signals.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::process::{self, Background, PidFile, Start, Supervisor};
use crate::api::{self, ApiSettings, Users};
use crate::config::bytes::{decode, encode};
use crate::config::diagnostic::{Diagnostic, Severity, os_words};
use crate::config::load::{Loaded, Syntax, load_sentinel};
use crate::config::transport::Supervised;
use crate::daemon::syslog::Syslog;
use crate::daemon::{self, log};

/// Tasks that do not end by themselves, a name server's answer for example, are left behind after
/// this.
const RUNTIME_STOP_MAX: Duration = Duration::from_millis(200);
/// A sentinel waits more than it works; two threads keep a busy client from delaying a failover.
const THREADS: usize = 2;

/// Run a sentinel: watch masters and replicas, and promote a replica when a master is gone.
///
/// FILE is a YAML file of Watchfire, which is never written, or a sentinel.conf of Redis, which is
/// rewritten in place as Redis does; its content tells which. Directives of sentinel.conf may
/// follow as options and win over the file; they are written into a sentinel.conf.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "watchfire sentinel FILE [--DIRECTIVE VALUE...]...",
    after_help = HELP
)]
pub(super) struct Args {
    /// The configuration, then directives: --port 26380 --loglevel debug
    #[arg(
        value_name = "FILE, --DIRECTIVE VALUE",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<OsString>,
}

const HELP: &str = "\
Examples:
  watchfire sentinel sentinel.yaml
  watchfire sentinel /etc/redis/sentinel.conf            the file of a Redis Sentinel
  watchfire sentinel sentinel.conf --port 26380 --loglevel verbose
  watchfire check sentinel.yaml                          look for mistakes without starting
  redis-cli -p 26379 SENTINEL GET-MASTER-ADDR-BY-NAME mymaster

With a YAML file, votes and known nodes are kept in 'state_dir' (./state if not set) in the file
watchfire-state-PORT.json. Lose it and the sentinel begins anew; copy it with a sentinel that moves.
A sentinel.conf that cannot be written is treated likewise: its state is kept in 'dir', else in
$STATE_DIRECTORY, else in $XDG_STATE_HOME/watchfire (~/.local/state/watchfire).

SIGTERM, SIGINT and SHUTDOWN end it with exit code 0; SIGHUP has certificates read again.
Exit code 1: it could not start (configuration, port, state), and the reason stands on the standard
error, also with 'daemonize yes'. The log goes to 'logfile', or to the standard output.";

pub(super) fn run(args: Args) -> ExitCode {
    // Only as the first argument, as in Redis: behind the file they would be directives.
    let arguments: Vec<String> = args.arguments.iter().map(|a| decode(a.as_bytes())).collect();
    match arguments.first().map(String::as_str) {
        Some("--help" | "-h") => return help(),
        Some("--version" | "-v") => {
            return print(&format!("watchfire sentinel {}", env!("CARGO_PKG_VERSION")));
        }
        Some("--check-system") => {
            return print(
                "Nothing to check: a sentinel forks no process and holds no data, so clock source, \
                 overcommit and huge pages do not matter to it.",
            );
        }
        Some("--test-memory") => {
            super::complain(format_args!(
                "Memory is not tested by this program: redis-server --test-memory <megabytes> and \
                 memtester do that"
            ));
            return ExitCode::FAILURE;
        }
        _ => {}
    }
    match try_run(&arguments) {
        Ok(code) => code,
        Err(why) => {
            super::complain(format_args!("{why}"));
            ExitCode::FAILURE
        }
    }
}

/// Trailing arguments would swallow `--help`, so it is answered here. Redis ends with 1 after its
/// help, and so does this program under Redis's names.
fn help() -> ExitCode {
    use clap::Args as _;
    let command = Args::augment_args(clap::Command::new("watchfire sentinel"));
    print(&command.max_term_width(100).render_long_help().to_string());
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let as_redis = ["redis-", "valkey-"].iter().any(|begin| name.starts_with(begin));
    if as_redis { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print(text: &str) -> ExitCode {
    // Whoever reads may stop before the end.
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

fn try_run(arguments: &[String]) -> Result<ExitCode, String> {
    let (file, options) = match arguments.split_first() {
        Some((file, options)) if !file.starts_with('-') => {
            (PathBuf::from(OsString::from_vec(encode(file))), options)
        }
        _ => return Err("Sentinel needs config file on disk to save state. Exiting...".into()),
    };
    if options.last().is_some_and(|last| last == "-") {
        return Err(
            "Configuration is not read from the standard input ('-'): a sentinel must find \
                    it again at its next start. Put it into the file, or into one that it includes"
                .into(),
        );
    }
    let mut loaded = load_sentinel(&file, options).map_err(|found| complaint(&file, &found))?;
    let supervisor = Supervisor::of(loaded.settings.process.supervised);
    // As in Redis: whoever is supervised stays where it was started.
    let daemonize = loaded.settings.process.daemonize && !supervisor.is_there();
    let background = match process::start(daemonize)? {
        Start::Here(background) => background,
        Start::Elsewhere(code) => return Ok(code),
    };
    enter_directory(&mut loaded)?;
    let wanted = loaded.settings.maxclients;
    let room = process::make_room_for(wanted, links_of(&loaded));
    loaded.settings.maxclients = room.clients;
    let settings = &loaded.settings;
    let syslog = Syslog::of(settings);
    log::init_with(settings.loglevel, settings.logfile.as_deref(), syslog).map_err(|error| {
        let file = settings.logfile.clone().unwrap_or_default();
        format!("Can't open the log file {}: {error}", file.display())
    })?;
    supervisor.warn();
    if settings.maxclients < wanted {
        tracing::warn!(
            "maxclients is {} instead of {wanted}: the limit of open files is too low (raise it \
             by 'ulimit -n', or LimitNOFILE in a systemd unit)",
            settings.maxclients
        );
    }
    if let (false, Some(limit)) = (room.is_enough, room.limit) {
        tracing::warn!(
            "{} groups need more open files than the limit of {limit} allows: nodes that cannot be \
             connected to are neither watched nor failed over (raise it by 'ulimit -n', or \
             LimitNOFILE in a systemd unit)",
            loaded.groups.len()
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(|error| format!("Can't start the runtime: {error}"))?;
    let served = serve(&runtime, &loaded, &supervisor, background);
    if let (Err(why), Some(_)) = (&served, &loaded.settings.logfile) {
        tracing::error!("{why}");
    }
    runtime.shutdown_timeout(RUNTIME_STOP_MAX);
    served.map(|()| ExitCode::SUCCESS)
}

/// All findings, worst first, with their places.
fn complaint(file: &Path, found: &[Diagnostic]) -> String {
    let errors = found.iter().filter(|finding| finding.is_error()).count();
    let mut text = String::new();
    for severity in [Severity::Error, Severity::Warning] {
        for finding in found.iter().filter(|finding| finding.severity == severity) {
            text.push_str(&format!("{finding}\n\n"));
        }
    }
    let errors = if errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") };
    text + &format!("The sentinel was not started: {errors} in {}", file.display())
}

/// Redis works in `dir`, and relative paths of a sentinel.conf mean that folder; paths of a YAML
/// file mean the folder where the sentinel starts.
fn enter_directory(loaded: &mut Loaded) -> Result<(), String> {
    let dir = loaded.settings.dir.clone();
    let error = |error: std::io::Error| {
        let why = os_words(&error);
        format!("Can't chdir to '{}': {why}. Create it, or correct 'dir'", dir.display())
    };
    if loaded.syntax == Syntax::Conf {
        std::env::set_current_dir(&dir).map_err(error)
    } else {
        loaded.settings.dir = std::path::absolute(&dir).map_err(error)?;
        Ok(())
    }
}

/// How many links its groups will take, as far as that can be said before they are asked: a master
/// and two replicas each.
fn links_of(loaded: &Loaded) -> u64 {
    3 * loaded.groups.len() as u64
}

/// Runs until a signal or SHUTDOWN comes.
fn serve(
    runtime: &Runtime,
    loaded: &Loaded,
    supervisor: &Supervisor,
    mut background: Background,
) -> Result<(), String> {
    runtime.block_on(async {
        supervisor.tell("STATUS=Sentinel is loading...\n");
        let mut signals = Signals::new().map_err(|error| format!("Can't take signals: {error}"))?;
        let stop = CancellationToken::new();
        let pid = std::process::id();
        let version = env!("CARGO_PKG_VERSION");
        tracing::warn!("Watchfire version={version}, pid={pid}, just started");
        tell(loaded);
        let (users, notes) = Users::open(&loaded.settings, loaded.user_lines())
            .map_err(|found| complaint(&loaded.path, &found))?;
        tell_findings(&notes);
        let (running, doors) =
            daemon::start(loaded, stop.clone()).map_err(|error| error.to_string())?;
        let pidfile = PidFile::write(&loaded.settings, background.in_background);
        let mut settings = ApiSettings::new(&loaded.settings, &loaded.path, users);
        if supervisor.is_there() {
            settings.supervised = Supervised::Systemd;
        }
        let reload = running.reload.clone();
        let serving = api::serve(doors, running.handle.clone(), settings, stop.clone());
        let serving = tokio::spawn(serving);
        background.has_started();
        supervisor.tell("STATUS=Ready to accept connections\n");
        supervisor.tell("READY=1\n");
        let ended = running.ended();
        tokio::pin!(ended);
        let asked_to = tokio::select! {
            biased;
            () = signals.wait(&stop, &reload) => true,
            () = &mut ended => false,
        };
        supervisor.tell("STOPPING=1\n");
        stop.cancel();
        if asked_to {
            ended.await;
        }
        // A panic has been told by the panic hook.
        let _ = serving.await;
        drop(pidfile);
        if !asked_to {
            return Err(
                "The sentinel ended by a fault of its own: please report what is above".into()
            );
        }
        tracing::warn!("Sentinel is now ready to exit, bye bye...");
        Ok(())
    })
}

/// Tells what an operator should know of the configuration.
fn tell(loaded: &Loaded) {
    tracing::info!("Configuration is read from {}", loaded.path.display());
    tell_findings(&loaded.notes);
}

fn tell_findings(found: &[Diagnostic]) {
    for finding in found {
        let place = match (&finding.file, finding.line) {
            (Some(file), 0) => format!(" ({})", file.display()),
            (Some(file), line) => format!(" ({}:{line})", file.display()),
            (None, _) => String::new(),
        };
        let help = finding.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        let text = format!("{}{place}{help}", finding.message);
        match finding.severity {
            Severity::Note => tracing::info!("{text}"),
            _ => tracing::warn!("{text}"),
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Has certificates read again. Log files are opened for each line: nothing is to be reopened.
    hangup: Signal,
    /// Taken for the same reason: a limit on the size of files (`LimitFSIZE`, `ulimit -f`) is an
    /// error of the write, and no reason to die.
    _file_size: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Returns when it is time to end.
    async fn wait(&mut self, stop: &CancellationToken, reload: &Arc<Notify>) {
        loop {
            let reason = tokio::select! {
                _ = self.terminate.recv() => "Received SIGTERM scheduling shutdown...",
                _ = self.interrupt.recv() => "Received SIGINT scheduling shutdown...",
                () = stop.cancelled() => "User requested shutdown...",
                _ = self.hangup.recv() => {
                    reload.notify_one();
                    continue;
                }
            };
            tracing::warn!("{reason}");
            return;
        }
    }
}
