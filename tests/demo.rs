//! `watchfire demo` as a person runs it: it succeeds, on the bundled nodes and on Debian's
//! `redis-server`, and whatever ends it, it leaves no process and no file behind.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than the demo's own total deadline, so that its own explanation comes first.
const STORY_WITHIN: Duration = Duration::from_secs(150);
/// How long processes may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(20);

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchfire"));
    command.arg("demo").args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
    command.stdout(Stdio::piped());
    command
}

/// A running demo whose output was read up to the line that was waited for.
struct Running {
    process: Child,
    output: BufReader<ChildStdout>,
    dir: PathBuf,
    /// The processes that it said it started.
    pids: Vec<u32>,
}

impl Running {
    /// Starts the demo and reads on until a line contains `text`.
    fn until(text: &str) -> Running {
        let mut process = demo(&["--plain"]).spawn().expect("the demo starts");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let (mut dir, mut pids, mut line) = (None, Vec::new(), String::new());
        loop {
            line.clear();
            if output.read_line(&mut line).expect("reads") == 0 {
                let mut errors = String::new();
                let stderr = process.stderr.as_mut().expect("piped");
                stderr.read_to_string(&mut errors).expect("reads");
                panic!("the demo ended before '{text}':\n{errors}");
            }
            if let Some((_, rest)) = line.split_once("files are in ") {
                dir = Some(PathBuf::from(rest.trim()));
            }
            if let Some((_, rest)) = line.split_once("(pid ") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                pids.push(digits.parse().expect("a process id"));
            }
            if line.contains(text) {
                break;
            }
        }
        let dir = dir.expect("the demo says where its files are");
        // One that found its port taken has ended, and another was started in its place.
        pids.retain(|pid| runs_in(*pid, &dir));
        assert!(!pids.is_empty());
        Running { process, output, dir, pids }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("the demo still runs");
    }

    /// Waits for its end, and until none of its processes is left.
    fn ends(mut self) -> (ExitStatus, PathBuf) {
        // It must not block on an output that nobody reads.
        std::thread::spawn(move || std::io::copy(&mut self.output, &mut std::io::sink()));
        let mut status = None;
        until("the demo ends", || {
            status = self.process.try_wait().expect("can be waited for");
            status.is_some()
        });
        until("its processes are gone", || !self.pids.iter().any(|pid| runs_in(*pid, &self.dir)));
        (status.expect("it ended"), self.dir)
    }
}

/// Whether the process lives and works below `dir`: process ids alone are used again.
fn runs_in(pid: u32, dir: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir))
}

/// All processes that work below `dir`.
fn processes_in(dir: &Path) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| runs_in(*pid, dir)).collect()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + GONE_WITHIN;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs the demo to its end and returns what it printed; one that hangs is killed.
fn run_to_the_end(arguments: &[&str]) -> Output {
    let process = demo(arguments).spawn().expect("the demo starts");
    let pid = Pid::from_raw(process.id() as i32).expect("a process id");
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if ended.recv_timeout(STORY_WITHIN) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let output = process.wait_with_output().expect("can be waited for");
    drop(done);
    guard.join().expect("the guard ends");
    output
}

fn told_in_full(arguments: &[&str]) {
    let output = run_to_the_end(arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}\n{text}", output.status);
    for stage in [
        "down noticed",
        "agreed",
        "leader elected",
        "promoted",
        "announced",
        "first write accepted",
        "old master is a replica",
    ] {
        let row = text.lines().rfind(|line| line.trim_start().starts_with(stage));
        assert!(row.is_some_and(|row| row.contains('+')), "'{stage}' is not timed:\n{text}");
    }
    for said in ["lost 0", "Time without writes", "✓ 3 of 3 sentinels name node-", "Verdict: "] {
        assert!(text.contains(said), "'{said}' is not said:\n{text}");
    }
    assert!(!text.contains('✗'), "{text}");
    let dir = text.lines().find_map(|line| line.split_once("files are in ")).expect("said").1;
    assert!(!Path::new(dir).exists(), "{dir} is left behind");
    assert_eq!(processes_in(Path::new(dir)), [], "processes are left behind");
}

#[test]
fn the_story_on_bundled_nodes() {
    told_in_full(&["--plain"]);
}

#[test]
fn the_story_on_redis_nodes() {
    told_in_full(&["--plain", "--server", "redis-server"]);
}

#[test]
fn ctrl_c_and_sigterm_clean_up() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let demo = Running::until("a client writes");
        demo.signal(signal);
        let (status, dir) = demo.ends();
        assert_eq!(status.code(), Some(code));
        assert!(!dir.exists(), "{} is left behind", dir.display());
    }
}

#[test]
fn ctrl_c_while_the_group_starts_cleans_up() {
    let demo = Running::until("node-1 starts");
    demo.signal(Signal::INT);
    let (status, dir) = demo.ends();
    assert_eq!(status.code(), Some(130));
    assert!(!dir.exists(), "{} is left behind", dir.display());
    assert_eq!(processes_in(&dir), []);
}

#[test]
fn no_process_outlives_a_demo_that_is_killed() {
    let demo = Running::until("a client writes");
    demo.signal(Signal::KILL);
    let (status, dir) = demo.ends();
    assert!(!status.success());
    until("all its processes are gone", || processes_in(&dir).is_empty());
    fs::remove_dir_all(dir).expect("the files of a killed demo stay, for nobody can remove them");
}

#[test]
fn a_reader_that_goes_away_ends_the_demo() {
    let Running { mut process, output, dir, .. } = Running::until("node-3 starts");
    drop(output);
    let mut status = None;
    until("the demo ends", || {
        status = process.try_wait().expect("can be waited for");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(128 + 13));
    until("its processes are gone", || processes_in(&dir).is_empty());
    assert!(!dir.exists());
}

#[test]
fn wrong_usage_is_explained() {
    for (arguments, said) in [
        (&["--server", "/nonexistent/redis-server"][..], "no such file"),
        (&["--server", "/"], "not a file"),
        (&["--server", "/etc/passwd"], "cannot be executed: Permission denied"),
        (&["--server", "/bin/true"], "not a Redis or Valkey server: --version says 'true"),
        (&["--sentinel", "/bin/true"], "--sentinel /bin/true: not a Redis or Valkey server"),
        (&["--interactive"], "--interactive needs a terminal"),
        (&["--down-after", "1"], "time unit needed"),
        (&["--down-after", "1ms"], "must be between 100ms and 1m"),
    ] {
        let output = run_to_the_end(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(said), "{arguments:?}: '{said}' is not said:\n{errors}");
    }
}

#[test]
fn a_server_that_cannot_start_shows_its_last_words() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = dir.path().join("redis-server");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'Redis server v=0' && exit\n\
                  echo 'no memory for such things'; exit 3\n";
    fs::write(&server, script).expect("writes");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&server, executable).expect("can be made executable");
    let output = run_to_the_end(&["--plain", "--server", &server.to_string_lossy()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for said in ["ended by itself (exit status: 3)", "no memory for such things", "are kept in "] {
        assert!(errors.contains(said), "'{said}' is not said:\n{errors}");
    }
    let kept = errors.lines().find_map(|line| line.split_once("are kept in ")).expect("said").1;
    assert_eq!(processes_in(Path::new(kept)), []);
    fs::remove_dir_all(kept).expect("the kept directory is there");
}

/// `--interactive` on a terminal of its own (util-linux's `script` makes one).
struct Keyboard {
    process: Child,
    dir: PathBuf,
    screen: std::thread::JoinHandle<Vec<u8>>,
    _home: tempfile::TempDir,
}

impl Keyboard {
    fn new(arguments: &str) -> Keyboard {
        let home = tempfile::tempdir().expect("a temporary directory");
        let program = env!("CARGO_BIN_EXE_watchfire");
        let run = format!("stty rows 40 cols 100; exec {program} demo --interactive {arguments}");
        let mut process = Command::new("script")
            .args(["-qefc", &run, "/dev/null"])
            .env("TMPDIR", home.path())
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script starts");
        let mut output = process.stdout.take().expect("piped");
        let screen = std::thread::spawn(move || {
            let mut shown = Vec::new();
            // A terminal that is gone is an error at its end.
            let _ = output.read_to_end(&mut shown);
            shown
        });
        let mut dir = None;
        until("the demo has its directory", || {
            dir = fs::read_dir(home.path()).expect("readable").flatten().next();
            dir.is_some()
        });
        let dir = dir.expect("waited for").path();
        Keyboard { process, dir, screen, _home: home }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.process.stdin.as_mut().expect("piped");
        stdin.write_all(keys.as_bytes()).expect("the demo takes keys");
        stdin.flush().expect("the demo takes keys");
    }

    /// The state letter of a member's process (`T`: stopped), `None` if it has none.
    fn state(&self, member: &str) -> Option<char> {
        let pid = processes_in(&self.dir.join(member)).into_iter().next()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Whether a node answers a PING at the port that it announces, its proxy's.
    fn answers(&self, member: &str) -> bool {
        let conf = fs::read_to_string(self.dir.join(member).join(format!("{member}.conf")));
        let conf = conf.expect("a configuration file");
        let port = conf.lines().find_map(|line| line.strip_prefix("replica-announce-port "));
        let port: u16 = port.and_then(|port| port.parse().ok()).expect("announces its proxy");
        let Ok(mut node) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        let mut answer = [0; 7];
        node.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket option");
        let heard = node.write_all(b"PING\r\n").and_then(|()| node.read_exact(&mut answer));
        heard.is_ok() && &answer == b"+PONG\r\n"
    }
}

fn keys_do_what_they_say(arguments: &str) {
    let mut demo = Keyboard::new(arguments);
    until("node-3 is dead", || {
        // Keys do nothing before the group is up.
        demo.press("3k");
        std::thread::sleep(Duration::from_millis(100));
        demo.dir.join("sentinel-3/sentinel-3.log").exists() && demo.state("node-3").is_none()
    });
    demo.press("r");
    until("node-3 runs again", || demo.state("node-3").is_some());
    demo.press("5f");
    until("sentinel-2 is frozen", || demo.state("sentinel-2") == Some('T'));
    demo.press("f");
    until("sentinel-2 is thawed", || demo.state("sentinel-2") != Some('T'));
    assert!(demo.answers("node-2"));
    demo.press("2p");
    until("node-2 is cut off", || !demo.answers("node-2"));
    assert!(demo.state("node-2").is_some(), "a partition kills nobody");
    demo.press("p");
    until("node-2 is connected again", || demo.answers("node-2"));
    demo.press("q");
    let mut status = None;
    until("the demo ends", || {
        status = demo.process.try_wait().expect("can be waited for");
        status.is_some()
    });
    let shown = demo.screen.join().expect("the screen was read");
    let shown = String::from_utf8_lossy(&shown);
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {shown}");
    assert!(shown.contains("acknowledged"), "the keys are counted at the end: {shown}");
    assert_eq!(processes_in(&demo.dir), []);
    assert!(!demo.dir.exists());
}

#[test]
fn keys_do_what_they_say_on_bundled_nodes() {
    keys_do_what_they_say("");
}

#[test]
fn keys_do_what_they_say_on_redis_nodes() {
    keys_do_what_they_say("--server redis-server");
}
