//! `watchfire bench`: one file per thing that is measured.

mod failover;
mod nodes;
mod scale;

use std::process::ExitCode;

/// Measure Watchfire beside redis-sentinel, over the same nodes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Failover(failover::Args),
    Scale(scale::Args),
    Nodes(nodes::Args),
}

pub(super) fn run(args: Args) -> ExitCode {
    match args.what {
        What::Failover(args) => failover::run(args),
        What::Scale(args) => scale::run(args),
        What::Nodes(args) => nodes::run(args),
    }
}
