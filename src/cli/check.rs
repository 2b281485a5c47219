//! `watchfire check`.

use std::process::ExitCode;

/// Check a configuration file.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
