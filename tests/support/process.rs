//! One child process: its log, its signals, its certain end.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::wait_for;

/// Lines of a process's log that a failed story shows.
const LOG_LINES_SHOWN: usize = 60;

/// A child process. Dropping it ends it, also when it is frozen, and shows its log if the story
/// fails.
pub struct Process {
    name: String,
    program: OsString,
    args: Vec<OsString>,
    log: PathBuf,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `program` with `args` in `dir`; what it prints is added to the file `log` there.
    pub fn start(name: &str, program: &str, args: &[&str], dir: &Path) -> Process {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let log = dir.join("log");
        let child = spawn(OsStr::new(program), &args, &log);
        Process { name: name.into(), program: program.into(), args, log, child, ended: None }
    }

    /// Starts the same command line once more. The old process must have ended.
    pub fn start_again(&mut self) {
        assert!(self.exit().is_some(), "{} still runs", self.name);
        self.child = spawn(&self.program, &self.args, &self.log);
        self.ended = None;
    }

    /// Another program is meant at the next start.
    pub fn becomes(&mut self, program: &str, args: &[&str]) {
        self.program = program.into();
        self.args = args.iter().map(OsString::from).collect();
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it did.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        if self.exit().is_none() {
            self.signal(Signal::KILL);
            self.ended = Some(self.child.wait().expect("a child can be waited for"));
        }
    }

    /// SIGTERM, and waits until it ended by itself.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let what = format!("{} ends after SIGTERM", self.name);
        wait_for(10, &what, || self.exit())
    }

    /// SIGSTOP: the process stays, its sockets stay, but it does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Memory held now, in KiB (VmRSS).
    pub fn memory_kib(&self) -> u64 {
        let status = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(status).expect("the process runs");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("Linux tells VmRSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB")
    }

    /// Everything it printed so far, over all starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let pid = Pid::from_raw(self.child.id() as i32).expect("a child's pid is not 0");
            kill_process(pid, signal).expect("a child that was not waited for can be signalled");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9(); // SIGKILL also ends a frozen process
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("---- log of {} ----", self.name);
            for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
                println!("{line}");
            }
        }
    }
}

fn spawn(program: &OsStr, args: &[OsString], log: &Path) -> Child {
    let file = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
    let errors = file.try_clone().expect("a second handle of the log");
    Command::new(program)
        .args(args)
        .current_dir(log.parent().expect("the log is in the process's folder"))
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|e| {
            let program = program.to_string_lossy();
            panic!("cannot start {program}: {e}. tests/run installs what the tests need.")
        })
}
