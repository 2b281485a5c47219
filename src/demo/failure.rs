//! Why a demo ends early.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::model::Who;

/// How many lines of a child's log an error shows.
pub(crate) const TAIL_LINES: usize = 12;

/// Why the demo could not tell its story to the end. Whatever it is, no process is left behind.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// A program given on the command line cannot be used.
    #[error("{0}")]
    Program(String),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    /// A child ended although nobody asked it to.
    #[error("{who} ended by itself ({status})\n{}", shown(log, tail))]
    Died { who: Who, status: String, log: PathBuf, tail: Vec<String> },
    /// A wait was in vain.
    #[error(
        "waited {} until {what}, in vain: {lacking}\n{}",
        humantime::format_duration(*within), shown(log, tail)
    )]
    Awaited { what: String, lacking: String, within: Duration, log: PathBuf, tail: Vec<String> },
    #[error(
        "the demo is not done after {} and gives up; {doing}",
        humantime::format_duration(*within)
    )]
    TooLong { within: Duration, doing: String },
    /// SIGINT, SIGTERM or SIGHUP, by its number.
    #[error("interrupted")]
    Interrupted(u8),
    /// Whoever read the output has gone away.
    #[error("the output was closed: {0}")]
    Output(io::Error),
}

impl Failure {
    /// Turns an I/O error into a failure; `what` completes "cannot ...".
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        let what = what.into();
        move |source| Failure::Io { what, source }
    }

    /// The exit code, as shells know them: 2 for wrong usage, 128 + n for a signal, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        const SIGPIPE: u8 = 13;
        match self {
            Failure::Program(_) => 2,
            Failure::Interrupted(signal) => 128 + signal,
            Failure::Output(_) => 128 + SIGPIPE,
            _ => 1,
        }
    }

    /// A port that was free a moment ago was taken before the child could bind it.
    pub(crate) fn is_port_taken(&self) -> bool {
        let Failure::Died { tail, .. } = self else { return false };
        tail.iter().any(|line| line.to_lowercase().contains("address already in use"))
    }
}

fn shown(log: &std::path::Path, tail: &[String]) -> String {
    if tail.is_empty() {
        return format!("its log {} is empty", log.display());
    }
    format!("the end of {}:\n    {}", log.display(), tail.join("\n    "))
}
