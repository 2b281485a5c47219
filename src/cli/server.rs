//! `watchfire server`.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::daemon::log;
use crate::server::{Config, Server, VERSION};

/// Run a data node: strings, keys, Pub/Sub, and replication by Redis's own protocol.
///
/// The arguments are those of redis-server: an optional configuration file in the syntax of
/// redis.conf, then any of its directives as an option.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "watchfire server [FILE] [--DIRECTIVE VALUE...]...",
    after_help = EXAMPLES
)]
pub(super) struct Args {
    /// A file such as redis.conf, then directives: --port 7000 --replicaof "127.0.0.1 7001"
    #[arg(
        value_name = "FILE, --DIRECTIVE VALUE",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  watchfire server                                       a master on port 6379
  watchfire server --port 7001 --replicaof \"127.0.0.1 7000\"
  watchfire server node.conf --port 7002                 options win over the file
  watchfire server --requirepass secret --masterauth secret --protected-mode no

Data lives in memory and in replicas: there is no persistence yet.
SIGTERM, SIGINT and SHUTDOWN end it with exit code 0.";

pub(super) fn run(args: Args) -> ExitCode {
    if args.arguments.iter().any(|a| a == "--help" || a == "-h") {
        return help();
    }
    if args.arguments.iter().any(|a| a == "--version" || a == "-v") {
        println!("Watchfire server v={} redis={VERSION}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let (config, warnings) = match Config::from_args(&args.arguments) {
        Ok(read) => read,
        Err(problems) => {
            for problem in problems {
                super::complain(format_args!("{problem}\n"));
            }
            return ExitCode::FAILURE;
        }
    };
    for warning in warnings {
        super::complain(format_args!("{warning}\n"));
    }
    if let Err(e) = std::env::set_current_dir(&config.dir) {
        super::complain(format_args!("error: can't chdir to '{}': {e}", config.dir));
        return ExitCode::FAILURE;
    }
    let logfile = Some(&config.logfile).filter(|file| !file.is_empty()).map(Path::new);
    if let Err(e) = log::init(config.loglevel, logfile) {
        super::complain(format_args!("error: can't open the log file '{}': {e}", config.logfile));
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            super::complain(format_args!("error: can't start the runtime: {e}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(serve(config));
    // Tasks that still wait, for a stuck replica for example, must not hold up the end.
    runtime.shutdown_background();
    code
}

/// Trailing arguments would swallow `--help`, so it is answered here.
fn help() -> ExitCode {
    use clap::Args as _;
    let command = Args::augment_args(clap::Command::new("watchfire server"));
    println!("{}", command.max_term_width(100).render_long_help());
    ExitCode::SUCCESS
}

async fn serve(config: Config) -> ExitCode {
    let pidfile = config.pidfile.clone();
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        super::complain(format_args!("error: can't install signal handlers"));
        return ExitCode::FAILURE;
    };
    let mut server = match Server::start(config) {
        Ok(server) => server,
        Err(e) => {
            super::complain(format_args!("error: {e}"));
            return ExitCode::FAILURE;
        }
    };
    if !pidfile.is_empty()
        && let Err(e) = std::fs::write(&pidfile, format!("{}\n", std::process::id()))
    {
        warn!("Failed to write PID file {pidfile}: {e}");
    }
    let signal = tokio::select! {
        () = server.ended() => None,
        _ = terminate.recv() => Some("SIGTERM"),
        _ = interrupt.recv() => Some("SIGINT"),
    };
    if let Some(name) = signal {
        info!("Received {name}, shutting down");
        server.stop().await;
    }
    if !pidfile.is_empty() {
        // It may never have been written.
        let _ = std::fs::remove_file(&pidfile);
    }
    ExitCode::SUCCESS
}
