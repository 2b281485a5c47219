//! `watchfire server`.

use std::process::ExitCode;

/// Run a data node.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
