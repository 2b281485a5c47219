//! A child process that dies with this one, and what it uses of the machine.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// Linux counts CPU time for programs in hundredths of a second, whatever its own timer does.
const TICK: Duration = Duration::from_millis(10);
/// How often a condition of a process is looked at.
pub(super) const LOOK_PERIOD: Duration = Duration::from_millis(5);
/// How long a process may take to end when it is asked to.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Ports that the system gives to no outgoing connection: a sentinel makes thousands of these, and
/// what listens on a port of theirs could not be started again.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Ports that are tried.
const PORT_TRIES: usize = 100;

/// A process in a process group of its own: a Ctrl-C ends it through its parent. Dropping kills it.
pub(super) struct Process {
    child: Child,
}

/// What a process has used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// On all cores, in user mode and in the kernel.
    pub(super) cpu: Duration,
    /// Of real memory.
    pub(super) bytes: u64,
    /// Open files and connections.
    pub(super) descriptors: usize,
}

/// The command that becomes `program`, in `dir`. A child's life is tied to the thread that starts
/// it, which must be the main one.
pub(super) fn command(program: &[OsString], dir: &Path) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["demo", "--as-child-of"]).arg(std::process::id().to_string()).arg("--");
    command.args(program).current_dir(dir).process_group(0).stdin(Stdio::null());
    Ok(command)
}

impl Process {
    pub(super) fn start(program: &[OsString], dir: &Path) -> io::Result<Process> {
        let child = command(program, dir)?.stdout(Stdio::null()).spawn()?;
        Ok(Process { child })
    }

    /// An error if it has ended.
    pub(super) fn check(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            Some(status) => Err(io::Error::other(format!("a process has ended: {status}"))),
            None => Ok(()),
        }
    }

    pub(super) fn usage(&self) -> io::Result<Usage> {
        let dir = Path::new("/proc").join(self.child.id().to_string());
        let read = |name: &str| std::fs::read_to_string(dir.join(name));
        let missing = || io::Error::other("/proc does not tell what a process uses");
        Ok(Usage {
            cpu: cpu(&read("stat")?).ok_or_else(missing)?,
            bytes: resident(&read("status")?).ok_or_else(missing)?,
            descriptors: std::fs::read_dir(dir.join("fd"))?.count(),
        })
    }

    /// Ends it in good order, by force if it takes too long.
    pub(super) async fn end(mut self) -> io::Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let deadline = Instant::now() + END_WITHIN;
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            sleep(LOOK_PERIOD).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; if not, it does so now, and nobody waits for long.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 on which nobody listens.
pub(super) fn free_port() -> io::Result<u16> {
    for _ in 0..PORT_TRIES {
        let port = rand::random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other(format!("no free port among {PORT_TRIES}")))
}

/// The CPU time in `/proc/PID/stat`: the 14th and 15th fields, of which the second, the name, may
/// hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

/// The memory in `/proc/PID/status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_tells_is_understood() {
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 3 0 5 1 2";
        assert_eq!(cpu(stat), Some(Duration::from_secs(4)));
        assert_eq!(cpu("77 (a"), None);
        assert_eq!(resident("Name:\ta\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2 << 20));
        assert_eq!(resident("Name:\ta\n"), None);
    }

    #[test]
    fn what_this_process_uses() {
        let dir = tempfile::tempdir().expect("a directory");
        let child = Command::new("sleep").arg("10").current_dir(dir.path()).spawn();
        let process = Process { child: child.expect("starts") };
        let usage = process.usage().expect("/proc");
        assert!(usage.bytes > 0 && usage.descriptors >= 3, "{usage:?}");
    }
}
