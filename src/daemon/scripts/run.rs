//! Starts scripts when the queue says so, waits for their end, and announces what went wrong.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::queue::{Call, End, Failure, JobId};
use super::{Scripts, orphans};
use crate::daemon::handle::Handle;
use crate::daemon::run::announce;
use crate::sentinel::{Event, EventKind};

/// What counts as the exit code of a script that cannot be executed.
const CANNOT_EXECUTE: i32 = 2;

/// Runs the scripts of this handle's queue until `stop` is cancelled.
pub(in crate::daemon) async fn run(handle: Handle, stop: CancellationToken) {
    let scripts = handle.scripts().clone();
    let mut attempts = FuturesUnordered::new();
    let mut limits: HashMap<JobId, oneshot::Sender<()>> = HashMap::new();
    let mut deaths = match orphans::are_ours() {
        true => signal(SignalKind::child()).ok(),
        false => None,
    };
    loop {
        if deaths.is_some() {
            bury_orphans(&scripts);
        }
        let now_ms = scripts.now_ms();
        let overdue = scripts.queue().overdue(now_ms);
        for id in overdue {
            // Its attempt may have ended in this very moment.
            let _ = limits.remove(&id).map(|limit| limit.send(()));
        }
        while let Some((id, call)) = { scripts.queue().start(now_ms) } {
            let (limit, overdue) = oneshot::channel();
            limits.insert(id, limit);
            attempts.push(attempt(&handle, id, call, overdue));
        }
        let wake_at = scripts.queue().wake_at();
        let alarm = wake_at.and_then(|ms| scripts.0.started.checked_add(Duration::from_millis(ms)));
        tokio::select! {
            () = stop.cancelled() => break,
            Some((id, end)) = attempts.next() => {
                limits.remove(&id);
                let failure = scripts.queue().ended(id, end, scripts.now_ms());
                if let Some(Failure { script, signal, code }) = failure {
                    let payload = format!("{} {signal} {code}", script.display());
                    tell(&handle, EventKind::ScriptError, payload);
                }
            }
            () = scripts.0.changed.notified() => {}
            () = next_death(deaths.as_mut()) => {}
            () = sleep_until(alarm.unwrap_or(scripts.0.started)), if alarm.is_some() => {}
        }
    }
    if let (running, queued @ 1..) = scripts.counts() {
        tracing::warn!(
            "{running} scripts that run are left to themselves, {} that wait are not run any more",
            queued - running
        );
    }
}

/// Waits for the dead that are no scripts of ours; those have their own who wait for them.
fn bury_orphans(scripts: &Scripts) {
    let dead = orphans::dead_children();
    if let Some(own) = scripts.queue().processes() {
        dead.into_iter().filter(|pid| !own.contains(pid)).for_each(orphans::bury);
    }
}

async fn next_death(deaths: Option<&mut unix::Signal>) {
    match deaths {
        Some(deaths) => _ = deaths.recv().await,
        None => std::future::pending().await,
    }
}

/// Runs a script once. It is killed when `overdue` says so.
async fn attempt(
    handle: &Handle,
    id: JobId,
    call: Arc<Call>,
    overdue: oneshot::Receiver<()>,
) -> (JobId, End) {
    let script = call.script.clone();
    // A program that lies on a disk which hangs holds up whoever executes it.
    let started = spawn_blocking(move || command(&call).spawn()).await;
    let mut child = match started.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!("Can't run the script {}: {error}", script.display());
            return (id, no_child(&error));
        }
    };
    let pid = child.id().unwrap_or(0);
    handle.scripts().queue().started(id, pid);
    tell(handle, EventKind::ScriptChild, pid.to_string());
    let status = tokio::select! {
        biased;
        status = child.wait() => status,
        Ok(()) = overdue => {
            tell(handle, EventKind::ScriptTimeout, format!("{} {pid}", script.display()));
            kill(&child);
            child.wait().await
        }
    };
    let end = status.map_or(End::NoProcess, end);
    let (code, signal) = match end {
        End::Exit(code) => (code, 0),
        End::Signal(signal) => (0, signal),
        End::NoProcess => (0, 0),
    };
    tell(handle, EventKind::ScriptChildEnd, format!("{pid} {code} {signal}"));
    (id, end)
}

fn command(call: &Call) -> Command {
    // Only a path with a slash is not looked for in PATH.
    let mut command = match call.script.components().count() {
        1 if call.script.is_relative() => Command::new(Path::new(".").join(&call.script)),
        _ => Command::new(&call.script),
    };
    command.arg0(&call.script).args(&call.args).process_group(0);
    command
}

/// Why there is no child: the system is at its limits, or the script cannot be executed.
fn no_child(error: &io::Error) -> End {
    let limits = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(errno) if limits.contains(&errno) => End::NoProcess,
        _ => End::Exit(CANNOT_EXECUTE),
    }
}

fn end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    }
}

/// Kills a script that has not been waited for yet, so that its number is still its own, with all
/// that it started.
fn kill(child: &Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process_group(pid, Signal::KILL)
    {
        tracing::warn!("Can't kill the script with process id {pid:?}: {error}");
    }
}

fn tell(handle: &Handle, kind: EventKind, payload: String) {
    announce(handle, Event { kind, group: None, payload });
}
