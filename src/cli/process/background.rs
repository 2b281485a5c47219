//! `daemonize yes`: the program starts itself once more, and that child leaves the terminal.
//!
//! Forking a process that has threads is not safe, so the child is a fresh one with the same
//! command line. It knows itself by an environment variable with the number of its parent. Its
//! standard input is a pipe on which it says that it has started; until then it shares the
//! terminal's error output, and its parent waits, so that whoever typed the command sees what went
//! wrong and gets the exit code.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{getppid, setsid};
use rustix::stdio;

/// Holds the number of the process that waits for us.
const PARENT: &str = "WATCHFIRE_DAEMON_OF";

/// Where a start goes on.
pub(crate) enum Start {
    /// Here: in the foreground, or in the child.
    Here(Background),
    /// In a child, which has started or failed; this process ends.
    Elsewhere(ExitCode),
}

/// The tie of a child to the terminal that it was started from.
pub(crate) struct Background {
    tied: bool,
    /// Whether this is such a child.
    pub(crate) in_background: bool,
}

/// Goes to the background if `daemonize` says so: returns twice, in the parent once the child has
/// started or failed, and in the child.
///
/// # Errors
/// The child cannot be started.
pub(crate) fn start(daemonize: bool) -> Result<Start, String> {
    if !daemonize {
        return Ok(Start::Here(Background { tied: false, in_background: false }));
    }
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.is_some() && env::var(PARENT).ok() == parent {
        // A child leads no group of processes yet, so this cannot fail.
        let _ = setsid();
        return Ok(Start::Here(Background { tied: true, in_background: true }));
    }
    let cannot = |error: io::Error| format!("Can't go to the background: {error}");
    run_child().map(Start::Elsewhere).map_err(cannot)
}

fn run_child() -> io::Result<ExitCode> {
    let (mut started, tie) = io::pipe()?;
    let mut arguments = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        // By its name it knows what it is to be.
        command.arg0(name);
    }
    command.args(arguments).env(PARENT, std::process::id().to_string());
    command.stdin(tie).stdout(Stdio::null());
    let mut child = command.spawn()?;
    // Our copy of the pipe's other end.
    drop(command);
    let mut word = [0];
    if started.read(&mut word)? > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.filter(|code| *code != 0).map_or(ExitCode::FAILURE, ExitCode::from))
}

impl Background {
    /// Lets the parent go, and the terminal.
    pub(crate) fn has_started(&mut self) {
        if !std::mem::take(&mut self.tied) {
            return;
        }
        // The parent may have been ended meanwhile.
        let _ = rustix::io::write(stdio::stdin(), b"1");
        if let Ok(nowhere) = OpenOptions::new().read(true).write(true).open("/dev/null") {
            let _ = stdio::dup2_stdin(&nowhere);
            let _ = stdio::dup2_stdout(&nowhere);
            let _ = stdio::dup2_stderr(&nowhere);
        }
    }
}
