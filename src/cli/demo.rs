//! `watchfire demo`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::demo;

/// The bounds of `--down-after`: shorter is noise of a busy machine, longer is no demo.
const DOWN_AFTER: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(60);

/// Show a failover on this machine: kill a master, watch the sentinels, check that nothing is lost
///
/// Starts one master, two replicas and three sentinels on free ports of 127.0.0.1, and a client
/// that finds the master through the sentinels and writes. Then kills the master (kill -9), shows
/// each stage of the failover with its time, brings the old master back as a replica, reads all
/// keys back and ends with a verdict. No process and no file is left behind, also after Ctrl-C.
///
/// The exit code is 0 only if the failover succeeded and every check held.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  watchfire demo                                   the story, on the bundled data nodes
  watchfire demo --server /usr/bin/redis-server    the same, on real Redis nodes
  watchfire demo --interactive                     kill, freeze, cut off and restart what you like
  watchfire demo --server redis-server --sentinel redis-server
                                                   what Redis's own sentinels take for it")]
pub(super) struct Args {
    /// Use this redis-server or valkey-server in place of the bundled data node
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,

    /// Use this redis-sentinel (or redis-server, which can be one) in place of Watchfire's, to
    /// compare
    #[arg(long, value_name = "PATH")]
    sentinel: Option<PathBuf>,

    /// Leave it running, with keys to kill, freeze, cut off and restart
    #[arg(long, short, conflicts_with = "plain")]
    interactive: bool,

    /// Print a log even though the output is a terminal
    #[arg(long)]
    plain: bool,

    /// How long a node may be silent before it counts as down, from 100ms to 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = down_after)]
    down_after: Duration,

    /// Keep the directory with the configuration files and logs
    #[arg(long)]
    keep: bool,

    /// Become PROGRAM, and die with the process PID: how the demo starts its children
    #[arg(long, value_name = "PID", hide = true, requires = "program")]
    as_child_of: Option<u32>,

    #[arg(last = true, value_name = "PROGRAM", hide = true, requires = "as_child_of")]
    program: Vec<OsString>,
}

fn down_after(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if !DOWN_AFTER.contains(&time) {
        return Err("must be between 100ms and 1m".into());
    }
    Ok(time)
}

pub(super) fn run(args: Args) -> ExitCode {
    if let Some(parent) = args.as_child_of {
        return demo::become_child(parent, &args.program);
    }
    demo::run(&demo::Options {
        server: args.server,
        sentinel: args.sentinel,
        down_after: args.down_after,
        interactive: args.interactive,
        plain: args.plain,
        keep: args.keep,
    })
}
