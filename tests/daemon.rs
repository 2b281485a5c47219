//! The daemon around the core, as a process and within this one: what it promised survives every
//! kill, a disk that is full only costs promises, it ends in time whatever its nodes do, and it
//! says what it does. Stories (`tests/stories`) show the job itself.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use watchfire::api::{self, ApiSettings, Users};
use watchfire::config::load::load_sentinel;
use watchfire::daemon;
use watchfire::resp::Value;
use watchfire::sentinel::{EventKind, Request};

use support::client::{Client, Reply, ask};
use support::node::{Node, Nodes, restart_on_its_port, start_on_free_port};
use support::process::Process;
use support::wait::{free_port, wait_for, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_watchfire");

/// A sentinel process in a folder of its own, restarted at will.
struct Daemon {
    process: Process,
    port: u16,
    dir: TempDir,
}

/// Both ways to configure the same sentinel.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Syntax {
    Conf,
    Yaml,
}

impl Syntax {
    fn file(self) -> &'static str {
        match self {
            Syntax::Conf => "sentinel.conf",
            Syntax::Yaml => "sentinel.yaml",
        }
    }

    fn text(self, port: u16, master: u16) -> String {
        match self {
            Syntax::Conf => format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {master} 2\n"
            ),
            Syntax::Yaml => format!(
                "listen: {{bind: 127.0.0.1, port: {port}}}\nstate_dir: state\n\
                 groups:\n  mymaster: {{master: 127.0.0.1:{master}, quorum: 2}}\n"
            ),
        }
    }
}

impl Daemon {
    fn start(syntax: Syntax, master: u16, more: &str) -> Daemon {
        Daemon::start_with(syntax, master, more, PROGRAM, &["sentinel", syntax.file()])
    }

    fn start_with(syntax: Syntax, master: u16, more: &str, program: &str, args: &[&str]) -> Daemon {
        let dir = tempfile::tempdir().expect("a folder");
        let (process, port) = start_on_free_port("sentinel", program, args, dir.path(), |port| {
            let text = syntax.text(port, master) + more;
            fs::write(dir.path().join(syntax.file()), text).expect("a configuration file");
        });
        Daemon { process, port, dir }
    }

    #[track_caller]
    fn call(&self, words: &[&str]) -> Reply {
        ask(self.port, words).expect("it answers")
    }

    #[track_caller]
    fn field(&self, field: &str) -> String {
        self.call(&["SENTINEL", "MASTER", "mymaster"]).field(field).expect("the field is there")
    }
}

/// Runs a sentinel that is to end by itself; nothing listens on the ports that it is told of.
fn run(dir: &Path, args: &[&str]) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    wait_until(10, "it ends", || child.try_wait().expect("a child").is_some());
    child.wait_with_output().expect("its output")
}

/// What a sentinel says on the standard error when it does not start.
#[track_caller]
fn refusal(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("plain text");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn what_was_promised_survives_every_kill() {
    for syntax in [Syntax::Yaml, Syntax::Conf] {
        let mut daemon = Daemon::start(syntax, free_port(), "");
        let id = daemon.call(&["SENTINEL", "MYID"]);
        let mut value = 30_000_u64;
        for round in 0..10 {
            let mut client = Client::connect(daemon.port).expect("a connection");
            let pid = daemon.process.pid().to_string();
            // Killed at a moment of its own in each round, often in the middle of a write.
            let killer = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20 + 17 * round));
                let killed = Command::new("kill").args(["-9", &pid]).status();
                assert!(killed.expect("kill is there").success());
            });
            let (mut sent, mut promised) = (value, value);
            loop {
                sent += 1;
                let words = ["SENTINEL", "SET", "mymaster", "down-after-milliseconds"];
                match client.call(&[&words[..], &[&sent.to_string()]].concat()) {
                    Ok(reply) => {
                        assert_eq!(reply, Reply::Simple("OK".into()));
                        promised = sent;
                    }
                    Err(_) => break,
                }
            }
            killer.join().expect("it was killed");
            wait_until(5, "it is gone", || daemon.process.exit().is_some());
            restart_on_its_port(&mut daemon.process, daemon.port);
            value = daemon.field("down-after-milliseconds").parse().expect("a number");
            assert!(
                promised <= value && value <= sent,
                "{syntax:?}: {promised} was promised, {sent} was the last sent, {value} is known"
            );
            assert_eq!(daemon.call(&["SENTINEL", "MYID"]), id);
        }
        // The file of the write that goes on at this moment is there for a moment.
        wait_until(5, "half-written files are removed at the start", || {
            let folders = [daemon.dir.path().to_owned(), daemon.dir.path().join("state")];
            let mut names = folders.iter().filter_map(|f| fs::read_dir(f).ok()).flatten();
            !names
                .any(|entry| entry.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "tmp")))
        });
    }
}

#[test]
fn a_full_disk_costs_promises_and_nothing_else() {
    // No file may grow beyond some KB: to the process that is a disk without room. Its log is a
    // pipe.
    let limited =
        format!("ulimit -f 8; trap '' XFSZ; exec '{PROGRAM}' sentinel sentinel.conf > >(cat)");
    let mut daemon = Daemon::start_with(Syntax::Conf, free_port(), "", "bash", &["-c", &limited]);
    let monitor = |number: u32| {
        let name = format!("group-with-a-name-that-takes-room-{number}");
        let port = (20_000 + number).to_string();
        daemon.call(&["SENTINEL", "MONITOR", &name, "127.0.0.1", &port, "2"])
    };
    let full = (0..500).find(|&number| monitor(number).is_error()).expect("the disk is full");
    let file = daemon.dir.path().join("sentinel.conf");
    let text = fs::read_to_string(&file).expect("the file is whole");
    assert!(text.contains(&format!("takes-room-{} ", full - 1)), "what was promised is there");
    assert_eq!(daemon.call(&["PING"]), Reply::Simple("PONG".into()));
    assert_eq!(daemon.field("quorum"), "2");
    let log = wait_for(5, "the log tells of it", || {
        let log = daemon.process.log();
        log.contains("was not able to save the new configuration on disk").then_some(log)
    });
    assert!(log.contains("File too large"), "{log}");

    for number in 0..=full {
        let name = format!("group-with-a-name-that-takes-room-{number}");
        daemon.call(&["SENTINEL", "REMOVE", &name]);
    }
    let flushed = || daemon.call(&["SENTINEL", "FLUSHCONFIG"]) == Reply::Simple("OK".into());
    wait_until(10, "it saves again", flushed);
    assert!(!fs::read_to_string(&file).expect("the file is whole").contains("takes-room"));
    ask(daemon.port, &["SHUTDOWN"]);
    wait_until(10, "it ends", || daemon.process.exit().is_some());
}

#[test]
fn it_ends_in_time_whatever_its_nodes_do() {
    let mut frozen = Node::start(Nodes::Redis, &[]);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_port = silent.local_addr().expect("an address").port();
    let more = format!(
        "sentinel monitor silent 127.0.0.1 {silent_port} 2\n\
         sentinel monitor refused 127.0.0.1 1 2\n\
         sentinel monitor unroutable 192.0.2.1 6379 2\n"
    );
    let mut daemon = Daemon::start(Syntax::Conf, frozen.port, &more);
    wait_until(10, "it knows its master", || !daemon.field("runid").is_empty());
    frozen.process().freeze();
    let mut subscriber = Client::connect(daemon.port).expect("a connection");
    subscriber.call(&["SUBSCRIBE", "+sdown"]).expect("subscribed");
    let began = Instant::now();
    let status = daemon.process.terminate();
    assert_eq!(status.code(), Some(0), "SIGTERM is a clean end");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let log = daemon.process.log();
    assert!(log.contains("Received SIGTERM scheduling shutdown..."), "{log}");
    assert!(log.ends_with("Sentinel is now ready to exit, bye bye...\n"), "{log}");
    frozen.process().thaw();
}

#[test]
fn a_master_that_is_down_from_the_beginning_is_known_by_what_its_name_means() {
    let more = "sentinel resolve-hostnames yes\nsentinel monitor named localhost 1 1\n\
                sentinel down-after-milliseconds named 300\n";
    let daemon = Daemon::start(Syntax::Conf, free_port(), more);
    let is_down = |host: &str| {
        let question = ["SENTINEL", "IS-MASTER-DOWN-BY-ADDR", host, "1", "0", "*"];
        let Reply::Array(items) = daemon.call(&question) else { panic!("no opinion") };
        items[0] == Reply::Integer(1)
    };
    wait_until(10, "it is down by its name", || is_down("localhost"));
    assert!(is_down("127.0.0.1"), "peers that met it ask by address");
    assert!(!is_down("192.0.2.1"), "nobody is there");
    let shown = daemon.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "named"]);
    assert!(format!("{shown:?}").contains("localhost"), "no connection has told better: {shown:?}");
}

#[test]
fn shutdown_ends_it_too_and_a_hangup_does_not() {
    let mut daemon = Daemon::start(Syntax::Yaml, free_port(), "");
    let hangup = Command::new("kill").args(["-HUP", &daemon.process.pid().to_string()]).status();
    assert!(hangup.expect("kill is there").success());
    assert_eq!(daemon.call(&["PING"]), Reply::Simple("PONG".into()));
    ask(daemon.port, &["SHUTDOWN"]);
    let status = wait_for(10, "it ends", || daemon.process.exit());
    assert_eq!(status.code(), Some(0));
    assert!(daemon.process.log().contains("User requested shutdown..."));
}

#[test]
fn the_log_tells_what_runs_and_keeps_secrets() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("notify.sh");
    fs::write(&script, "#!/bin/sh\n").expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
    let node = Node::start(Nodes::Redis, &["requirepass right-secret"]);
    let more = format!(
        "logfile sentinel.log\npidfile sentinel.pid\nloglevel debug\n\
         requirepass own-secret\nsentinel sentinel-pass own-secret\n\
         sentinel auth-pass mymaster wrong-secret\n\
         sentinel notification-script mymaster {}\n",
        script.display()
    );
    let mut daemon = Daemon::start(Syntax::Conf, node.port, &more);
    let pid = fs::read_to_string(daemon.dir.path().join("sentinel.pid")).expect("a pidfile");
    assert_eq!(pid.trim(), daemon.process.pid().to_string());
    let file = daemon.dir.path().join("sentinel.log");
    let log = wait_for(10, "the log says that the password is wrong", || {
        fs::read_to_string(&file).ok().filter(|log| log.contains("AUTH was refused"))
    });
    for expected in [
        "# Watchfire version=",
        &format!("* Running mode=sentinel, port={}.", daemon.port),
        "# Sentinel ID is ",
        "sentinel.conf\n",
        "# +monitor master mymaster 127.0.0.1 ",
        &format!("node 127.0.0.1:{}: AUTH was refused: WRONGPASS", node.port),
    ] {
        assert!(log.contains(expected), "'{expected}' is missing:\n{log}");
    }
    for line in log.lines() {
        let (time, rest) = line.split_at(24);
        assert!(time.ends_with('Z') && time.starts_with("20"), "{line}");
        assert!([" # ", " * ", " - ", " . "].iter().any(|sign| rest.starts_with(sign)), "{line}");
    }
    // Moved away, as log rotation does: the next line makes a new file.
    fs::rename(&file, daemon.dir.path().join("sentinel.log.1")).expect("renamed");
    assert!(daemon.process.terminate().success());
    let end = fs::read_to_string(&file).expect("a new log file");
    assert!(end.contains("bye bye"), "{end}");
    assert!(!daemon.dir.path().join("sentinel.pid").exists(), "the pidfile is removed");
    let printed = daemon.process.log();
    for text in [&log, &end, &printed] {
        assert!(!text.contains("secret"), "a secret is in a log:\n{text}");
    }
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    // Both outputs lead to a pipe whose reader has gone.
    let piped = format!("exec '{PROGRAM}' sentinel sentinel.conf > >(true) 2>&1");
    let mut daemon = Daemon::start_with(Syntax::Conf, free_port(), "", "bash", &["-c", &piped]);
    for quorum in ["3", "4", "5"] {
        let said = daemon.call(&["SENTINEL", "SET", "mymaster", "quorum", quorum]);
        assert_eq!(said, Reply::Simple("OK".into()), "each is an event for the log");
    }
    assert_eq!(daemon.process.terminate().code(), Some(0));
}

#[test]
fn options_of_the_command_line_win_over_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_port().to_string();
    fs::write(dir.path().join("sentinel.conf"), "port 1\nbind 127.0.0.1\n").expect("a file");
    let args = ["sentinel", "sentinel.conf", "--port", &port, "--loglevel", "warning"];
    let mut process = Process::start("sentinel", PROGRAM, &args, dir.path());
    wait_until(10, "it answers", || ask(port.parse().expect("a port"), &["PING"]).is_some());
    assert!(process.terminate().success());
    let log = process.log();
    assert!(log.contains("just started") && !log.contains("Running mode"), "{log}");
}

#[test]
fn what_keeps_it_from_starting_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let here = dir.path();
    for args in [&["sentinel"][..], &["sentinel", "--port", "7000"], &["sentinel", "-"]] {
        let said = refusal(here, args);
        assert_eq!(said, "Sentinel needs config file on disk to save state. Exiting...\n");
    }
    let said = refusal(here, &["sentinel", "gone.conf"]);
    assert!(said.contains("gone.conf") && said.contains("No such file or directory"), "{said}");

    fs::write(here.join("bad.conf"), "port x\nbind\nsentinel monitor m 127.0.0.1 6379 0\n")
        .expect("a file");
    let said = refusal(here, &["sentinel", "bad.conf"]);
    for place in ["bad.conf:1", "bad.conf:2", "bad.conf:3", "3 errors in bad.conf"] {
        assert!(said.contains(place), "{place} is missing:\n{said}");
    }
    fs::write(here.join("good.conf"), "port 7000\nbind 127.0.0.1\n").expect("a file");
    let said = refusal(here, &["sentinel", "good.conf", "--no-such-directive", "1"]);
    assert!(said.contains("no-such-directive"), "{said}");
    let said = refusal(here, &["sentinel", "good.conf", "--dir", "/no/such/folder"]);
    assert!(
        said.contains("Can't chdir to '/no/such/folder': No such file or directory. "),
        "{said}"
    );
    let said = refusal(here, &["sentinel", "good.conf", "--logfile", "/no/such/folder/log"]);
    assert!(said.contains("Can't open the log file /no/such/folder/log"), "{said}");

    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("an address").port().to_string();
    let said = refusal(here, &["sentinel", "good.conf", "--port", &port]);
    assert!(said.contains("Address already in use") && said.contains(&port), "{said}");
}

#[test]
fn two_sentinels_never_share_a_state_file() {
    let daemon = Daemon::start(Syntax::Yaml, free_port(), "");
    let text = Syntax::Yaml.text(daemon.port, 1).replace("bind: 127.0.0.1", "bind: 127.0.0.2");
    fs::write(daemon.dir.path().join("second.yaml"), text).expect("a file");
    let said = refusal(daemon.dir.path(), &["sentinel", "second.yaml"]);
    let state = format!("watchfire-state-{}.json is in use by another sentinel", daemon.port);
    assert!(said.contains(&state), "{said}");
    assert!(said.contains(&format!("(pid {})", daemon.process.pid())), "{said}");
}

#[test]
fn two_sentinels_never_share_a_conf_file() {
    let mut daemon = Daemon::start(Syntax::Conf, free_port(), "");
    // Whose file is a new one by now.
    assert_eq!(daemon.call(&["SENTINEL", "FLUSHCONFIG"]).text(), "OK");
    let other = free_port().to_string();
    let said = refusal(daemon.dir.path(), &["sentinel", "sentinel.conf", "--port", &other]);
    assert!(said.contains("sentinel.conf is in use by another sentinel"), "{said}");
    assert!(said.contains(&format!("(pid {})", daemon.process.pid())), "{said}");
    let files = fs::read_dir(daemon.dir.path()).expect("the folder").flatten();
    let names: Vec<_> = files.map(|file| file.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("lock")), "{names:?}");
    daemon.process.kill9();
    restart_on_its_port(&mut daemon.process, daemon.port);
    assert_eq!(daemon.call(&["PING"]).text(), "PONG");
}

#[test]
fn help_and_version_are_given() {
    let dir = tempfile::tempdir().expect("a folder");
    for (args, expected) in [
        (&["sentinel", "--help"][..], "watchfire sentinel /etc/redis/sentinel.conf"),
        (&["sentinel", "-h"], "Exit code 1"),
        (&["sentinel", "--version"], concat!("watchfire sentinel ", env!("CARGO_PKG_VERSION"))),
    ] {
        let output = run(dir.path(), args);
        assert_eq!(output.status.code(), Some(0));
        let said = String::from_utf8(output.stdout).expect("plain text");
        assert!(said.contains(expected), "{said}");
        assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    }
}

#[tokio::test]
async fn it_runs_within_a_process() {
    let node = Node::start(Nodes::Redis, &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("sentinel.conf");
    let text = format!("bind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {} 1\n", node.port);
    fs::write(&file, text).expect("a file");
    let mut loaded = load_sentinel(&file, &[]).expect("a good file");
    loaded.settings.port = free_port();
    let stop = CancellationToken::new();
    let (running, doors) = daemon::start(&loaded, stop.clone()).expect("it starts");
    let (handle, port) = (running.handle.clone(), doors.port());
    assert_eq!(port, loaded.settings.port);
    let mut events = handle.events();
    let users = Users::open(&loaded.settings, loaded.user_lines()).expect("good users").0;
    let settings = ApiSettings::new(&loaded.settings, &loaded.path, users);
    let serving = tokio::spawn(api::serve(doors, handle.clone(), settings, stop.clone()));

    assert_eq!(handle.ask(Request::MyId).await, Value::bulk(running.id.as_str()));
    let pong = tokio::task::spawn_blocking(move || ask(port, &["PING"])).await.expect("it ran");
    assert_eq!(pong, Some(Reply::Simple("PONG".into())));
    let reply = handle.ask(Request::Remove("mymaster".into())).await;
    assert_eq!(reply, Value::ok());
    let removed =
        async { while events.recv().await.expect("an event").kind != EventKind::Unmonitor {} };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("-monitor is told");

    stop.cancel();
    let ended = async {
        running.ended().await;
        serving.await.expect("the API ends");
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it ends in time");
    assert!(matches!(handle.ask(Request::MyId).await, Value::Error(_)));
}
