//! `watchfire bench failover`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::bench::failover::{self, Fault, Side};

/// Time each stage of a failover, under redis-sentinel and under Watchfire in turn
///
/// Each round starts one master, its replicas and three sentinels on free ports, lets a client
/// write numbered keys, does something to the master, and notes when it is found down, agreed upon,
/// replaced, announced and written to, and whether acknowledged writes are missing in the end. The
/// nodes are redis-server of PATH, which also plays redis-sentinel; the other sentinel is this
/// program. Nothing is left behind, also after Ctrl-C, which prints what was found until then.
///
/// Times are in ms, and count from when down-after has passed where the master dies or hangs.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Faults:
  kill         kill -9
  stop         SIGSTOP: it hangs
  shutdown     SHUTDOWN NOSAVE; counted from its end, before which it waits for its replicas
  blackhole    packets from and to its host vanish (Linux, with ip, unshare and nsenter; as root)
  order        SENTINEL FAILOVER, with two clients: one follows +switch-master, one is sticky and
               keeps its connection until a write fails
  coordinated  SENTINEL FAILOVER ... COORDINATED; redis-sentinel's numbers are those of order
  refused      kill -9 with down-after 30s, and refused-after 200ms where it is known
  election     kill -9 while two of three sentinels are frozen, until an election is lost or 12 s
               have passed: how soon is a leader elected once there is a majority again?

Examples:
  watchfire bench failover                               ten rounds of the usual five
  watchfire bench failover --faults kill --down-after 200,1000,5000 --svg kill.svg
  watchfire bench failover --only watchfire --rounds 100 --faults kill --json rounds.jsonl")]
pub(super) struct Args {
    /// What is done to the master
    #[arg(long, value_delimiter = ',', default_value = "kill,stop,shutdown,order,coordinated")]
    faults: Vec<Fault>,

    /// How long a node may be silent before it counts as down, in ms
    #[arg(long, value_name = "MS", value_delimiter = ',', default_value = "1000",
        value_parser = clap::value_parser!(u64).range(50..=60_000))]
    down_after: Vec<u64>,

    /// How often each program has each fault
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Replicas of the master
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=20))]
    replicas: u8,

    /// One of the two alone: redis, or watchfire
    #[arg(long, value_name = "PROGRAM", value_parser = side)]
    only: Option<Side>,

    /// Also write each round, and each row of the table, as a line of JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Also draw the table
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn side(text: &str) -> Result<Side, String> {
    match text {
        "redis" => Ok(Side::Redis),
        "watchfire" => Ok(Side::Watchfire),
        _ => Err("must be redis or watchfire".into()),
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    failover::run(&failover::Options {
        faults: args.faults,
        down_after: args.down_after.into_iter().map(Duration::from_millis).collect(),
        rounds: args.rounds.into(),
        replicas: args.replicas.into(),
        only: args.only,
        json: args.json,
        svg: args.svg,
    })
}
