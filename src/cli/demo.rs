//! `watchfire demo`.

use std::process::ExitCode;

/// Show a failover.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
