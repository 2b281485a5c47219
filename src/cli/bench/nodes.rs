//! `watchfire bench nodes`.

use std::process::ExitCode;

use crate::bench::nodes::{self, Cast};
use crate::cli::complain;

/// Play thousands of Redis nodes, for sentinels to watch
///
/// All nodes listen on one port, each on a loopback address of its own: node K of group G (0 is
/// its first master) lives at 127.1.0.0 + G * (replicas + 1) + K. They hold no data. Who connects
/// to 127.0.0.1 can say HANG [GROUPS], CLOSE [GROUPS], WELL, PROMOTED and COUNTS.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many groups
    #[arg(long, default_value_t = 1000, value_parser = number)]
    groups: usize,

    /// Replicas of each group
    #[arg(long, default_value_t = 2, value_parser = number)]
    replicas: usize,

    /// The number of the first group, where several processes play
    #[arg(long, default_value_t = 0)]
    first: usize,

    /// The port of all nodes
    #[arg(long, default_value_t = 7000)]
    port: u16,
}

/// More addresses than any test needs.
const MANY: usize = 100_000;

fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=MANY) => Ok(number),
        _ => Err(format!("must be a number from 1 to {MANY}")),
    }
}

pub(super) fn run(Args { groups, replicas, first, port }: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let played = runtime
        .and_then(|runtime| runtime.block_on(nodes::play(Cast { groups, replicas, first, port })));
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("watchfire bench nodes: port {port}: {error}"));
            ExitCode::FAILURE
        }
    }
}
