//! One child process: found, started, frozen, killed, its log kept. No child outlives its parent,
//! not even one that is ended by `kill -9`: a child starts as this program, ties its life to its
//! parent, and only then becomes the program that is wanted ([`become_child`]).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child as Process, Command};

use super::failure::{Failure, TAIL_LINES};
use super::model::Who;

/// The arguments with which `watchfire demo` turns into a child; the program follows.
const AS_CHILD: [&str; 2] = ["demo", "--as-child-of"];
/// How much of a log's end is read to show its last lines.
const TAIL_BYTES: usize = 16 * 1024;
/// How long a program may take to say which version it is.
const VERSION_WITHIN: Duration = Duration::from_secs(10);

/// How to run a program on a configuration file.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    before_file: Vec<OsString>,
    after_file: Vec<&'static str>,
}

impl Program {
    /// A subcommand of this very program: `watchfire NAME FILE`.
    pub(crate) fn bundled(name: &'static str) -> Result<Program, Failure> {
        Ok(Program { path: this_program()?, before_file: vec![name.into()], after_file: vec![] })
    }

    /// `PATH FILE`, a Redis or Valkey server.
    pub(crate) async fn server(path: &Path) -> Result<Program, Failure> {
        let path = check(path, "--server").await?;
        Ok(Program { path, before_file: vec![], after_file: vec![] })
    }

    /// `PATH FILE --sentinel`, a Redis or Valkey sentinel or the server that can be one.
    pub(crate) async fn sentinel(path: &Path) -> Result<Program, Failure> {
        let path = check(path, "--sentinel").await?;
        Ok(Program { path, before_file: vec![], after_file: vec!["--sentinel"] })
    }

    /// The same in a network namespace of its own, where nothing is up yet. The process id stays.
    pub(crate) fn in_own_network(self) -> Program {
        let mut before_file = vec!["--net".into(), self.path.into_os_string()];
        before_file.extend(self.before_file);
        Program { path: "unshare".into(), before_file, after_file: self.after_file }
    }

    fn arguments(&self, file: &Path) -> Vec<OsString> {
        let mut arguments = vec![self.path.clone().into_os_string()];
        arguments.extend(self.before_file.iter().cloned());
        arguments.push(file.into());
        arguments.extend(self.after_file.iter().map(OsString::from));
        arguments
    }
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(Failure::io("find this program's own file"))
}

/// Makes sure that `path` is a Redis or Valkey program, and makes it absolute: a child runs in a
/// directory of its own. A bare name is looked up in PATH.
async fn check(path: &Path, option: &str) -> Result<PathBuf, Failure> {
    let shown = path.display();
    let wrong = |why: String| Failure::Program(format!("{option} {shown}: {why}"));
    let found = look_up(path).ok_or_else(|| wrong("no such file".into()))?;
    if !found.is_file() {
        return Err(wrong("not a file; name the program itself".into()));
    }
    if let Err(error) = rustix::fs::access(&found, rustix::fs::Access::EXEC_OK) {
        return Err(wrong(format!("cannot be executed: {}", std::io::Error::from(error))));
    }
    let mut ask = Command::new(&found);
    ask.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_WITHIN, ask.output())
        .await
        .map_err(|_| wrong("does not answer --version; is it a redis-server?".into()))?
        .map_err(|error| wrong(format!("cannot be started: {error}")))?;
    let version = String::from_utf8_lossy(&output.stdout);
    let first = version.lines().next().unwrap_or_default().trim();
    if !first.to_lowercase().contains("server v=") && !first.starts_with("watchfire") {
        return Err(wrong(format!(
            "not a Redis or Valkey server: --version says '{first}', \
             where 'Redis server v=...' is expected"
        )));
    }
    Ok(found)
}

fn look_up(path: &Path) -> Option<PathBuf> {
    if path.exists() || path.components().count() > 1 {
        return std::path::absolute(path).ok().filter(|path| path.exists());
    }
    let dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&dirs).map(|dir| dir.join(path)).find(|path| path.is_file())
}

/// A running process of the group, in a process group of its own, so that a Ctrl-C reaches its
/// parent only.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
}

impl Child {
    /// Starts `program` on `file`; what it prints is added to `log`. To be called on the main
    /// thread: a child's life is tied to the thread that started it.
    pub(crate) fn start(program: &Program, file: &Path, log: &Path) -> Result<Child, Failure> {
        let open = || -> std::io::Result<(File, File)> {
            let log = OpenOptions::new().create(true).append(true).open(log)?;
            Ok((log.try_clone()?, log))
        };
        let what = format!("write {}", log.display());
        let (out, err) = open().map_err(Failure::io(what))?;
        let mut command = Command::new(this_program()?);
        command
            .args(AS_CHILD)
            .arg(std::process::id().to_string())
            .arg("--")
            .args(program.arguments(file))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(dir) = file.parent() {
            command.current_dir(dir);
        }
        let what = format!("start {}", program.path.display());
        command.spawn().map(|process| Child { process }).map_err(Failure::io(what))
    }

    /// The process id; `None` once it has ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.process.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self) {
        // An error says that it has ended already.
        let _ = self.process.start_kill();
    }

    /// SIGSTOP, or SIGCONT.
    pub(crate) fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid as i32));
        if let Some(pid) = pid {
            // It may have ended in this moment.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn end(&mut self) {
        let _ = self.process.kill().await;
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> Vec<String> {
    let bytes = fs::read(log).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
    let text = String::from_utf8_lossy(end);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    last.iter().map(|line| line.to_string()).collect()
}

/// Asks the system to kill this process when its parent ends, then becomes `program`, which keeps
/// the process id. Returns only if that failed, with the reason.
///
/// `parent` is the process id of who wants it: if it has ended before it could be watched, there is
/// nobody to live for.
pub(crate) fn become_child(parent: u32, program: &[OsString]) -> String {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("cannot tie the life of this process to its parent's: {error}");
    }
    let living = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get() as u32);
    if living != Some(parent) {
        return "the one that wanted this process has ended".into();
    }
    let Some((path, arguments)) = program.split_first() else {
        return "no program is named".into();
    };
    let error = std::process::Command::new(path).args(arguments).exec();
    format!("cannot start {}: {error}", Path::new(path).display())
}

/// "node-2.log" and the like: the place of a member's files.
pub(crate) fn place(dir: &Path, who: Who, extension: &str) -> PathBuf {
    dir.join(who.to_string()).join(format!("{who}.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_server_is_refused_with_the_reason() {
        for (path, reason) in [
            ("/nonexistent/redis-server", "no such file"),
            ("no-such-program-anywhere", "no such file"),
            ("/", "not a file"),
            ("/etc/passwd", "cannot be executed"),
            ("/bin/true", "not a Redis or Valkey server"),
        ] {
            let error = Program::server(Path::new(path)).await.expect_err(path);
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.starts_with(&format!("--server {path}: {reason}")), "{text}");
        }
    }

    #[test]
    fn the_tail_is_the_last_lines_that_are_not_blank() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        assert!(tail(&log).is_empty());
        let text: String = (0..5_000).map(|n| format!("line {n}\n\n")).collect();
        fs::write(&log, text).expect("writes");
        let lines = tail(&log);
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 4999"));
    }
}
