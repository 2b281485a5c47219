//! A sentinel among the processes of a machine: in the background, under systemd, on a Unix socket.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::client::ask;
use crate::support::process::Process;
use crate::support::sentinel::Program;
use crate::support::slots;
use crate::support::wait::{free_port, wait_for, wait_until};

/// A folder with a file `sentinel.conf` for a sentinel on a free port.
fn folder(lines: &str) -> (tempfile::TempDir, u16) {
    let (dir, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor m 127.0.0.1 {} 1\n{lines}",
        dir.path().display(),
        free_port()
    );
    fs::write(dir.path().join("sentinel.conf"), text).expect("a file");
    (dir, port)
}

fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(Program::Watchfire.path());
    command.arg("sentinel").arg("sentinel.conf").args(args).current_dir(dir);
    command.output().expect("it ran")
}

/// What `/proc/<pid>/stat` says behind the name: state, parent, group, session.
fn stat(pid: i32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind = stat.rsplit(')').next().unwrap_or_default();
    behind.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn in_the_background_it_leaves_the_terminal_once_it_has_started() {
    let _slot = slots::one();
    let (dir, port) = folder("daemonize yes\nlogfile its.log\npidfile its.pid\n");
    // Under the name of Redis's own, which the child has to keep.
    let link = dir.path().join("redis-sentinel");
    symlink(Program::Watchfire.path(), &link).expect("a link");
    let output = Command::new(link).arg("sentinel.conf").current_dir(dir.path()).output();
    let output = output.expect("it ran");
    // All that it had of ours is closed, else this would not have returned.
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert!(ask(port, &["PING"]).is_some(), "it has started when the command returns");
    let pidfile = dir.path().join("its.pid");
    let text = fs::read_to_string(&pidfile).expect("a pidfile");
    let pid: i32 = text.trim().parse().expect("a number");
    assert_eq!(stat(pid)[3], pid.to_string(), "it leads a session of its own");
    for fd in 0..3 {
        let to = fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("it is open");
        assert_eq!(to, Path::new("/dev/null"), "descriptor {fd}");
    }
    let pid = Pid::from_raw(pid).expect("not 0");
    kill_process(pid, Signal::TERM).expect("it runs");
    wait_until(10, "the pidfile is removed at the end", || !pidfile.exists());
    let log = dir.path().join("its.log");
    wait_until(10, "it says goodbye", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("bye bye"))
    });
}

#[test]
fn what_keeps_it_from_starting_in_the_background_is_told_in_the_foreground() {
    let _slot = slots::one();
    let (dir, _) = folder("daemonize yes\nlogfile its.log\npidfile its.pid\n");
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("an address").port().to_string();
    let output = run(dir.path(), &["--port", &port]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Address already in use"), "{said}");
    assert!(!dir.path().join("its.pid").exists());
    // What the file alone shows is told without a child.
    let output = run(dir.path(), &["--tls-port", "x"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.contains("tls-port x")), (Some(1), true), "{said}");
}

#[test]
fn debians_unit_starts_it() {
    let _slot = slots::one();
    // As Debian ships it, but for the folders.
    let (dir, port) = folder("daemonize yes\npidfile its.pid\nlogfile its.log\n");
    let (socket, link) = (dir.path().join("notify"), dir.path().join("redis-sentinel"));
    symlink(Program::Watchfire.path(), &link).expect("a link");
    let systemd = UnixDatagram::bind(&socket).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let heard = || {
        let mut bytes = [0; 200];
        let count = systemd.recv(&mut bytes).expect("it tells systemd");
        String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
    };
    let command = format!(
        "NOTIFY_SOCKET={} exec {} {} --supervised systemd --daemonize no",
        socket.display(),
        link.display(),
        dir.path().join("sentinel.conf").display()
    );
    let mut process = Process::start("unit", "sh", &["-c", &command], dir.path());
    assert_eq!(heard(), "STATUS=Sentinel is loading...");
    assert_eq!(heard(), "STATUS=Ready to accept connections");
    assert_eq!(heard(), "READY=1");
    let info = ask(port, &["INFO", "server"]).expect("it is ready").text();
    assert!(info.contains("process_supervised:systemd"), "{info}");
    let pid = fs::read_to_string(dir.path().join("its.pid")).expect("a pidfile");
    assert_eq!(pid.trim(), process.pid().to_string(), "it stays the process of the unit");
    assert!(process.terminate().success());
    assert_eq!(heard(), "STOPPING=1");
}

/// What redis-cli prints when it asks over a Unix socket.
fn cli(socket: &Path, words: &[&str]) -> String {
    let output = Command::new("redis-cli").arg("-s").arg(socket).args(words).output();
    String::from_utf8_lossy(&output.expect("redis-cli is installed").stdout).trim().to_owned()
}

#[test]
fn a_unix_socket_serves_as_redis_serves_it() {
    let _slot = slots::one();
    let shown = [Program::Redis, Program::Watchfire].map(|program| {
        let (dir, _) = folder("port 0\nunixsocket its.sock\nunixsocketperm 700\n");
        let file = dir.path().join("sentinel.conf");
        let socket = dir.path().join("its.sock");
        let args = program.args(file.to_str().expect("a plain name"));
        let mut process = Process::start("sentinel", program.path(), &args, dir.path());
        let answers = |process: &mut Process| {
            wait_for(20, "it answers on the socket", || {
                assert!(process.exit().is_none(), "it ended:\n{}", process.log());
                (cli(&socket, &["PING"]) == "PONG").then_some(())
            });
        };
        answers(&mut process);
        let metadata = socket.metadata().expect("its file");
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700, "{program:?}");
        let clients = cli(&socket, &["SENTINEL", "MASTERS"]);
        assert!(clients.contains("127.0.0.1"), "{clients}");
        let line = cli(&socket, &["CLIENT", "LIST"]);
        let field = |name: &str| line.split(' ').find(|f| f.starts_with(name)).map(str::to_owned);
        let fields = ["addr=", "laddr=", "flags="].map(field);

        // A killed one leaves its file, which the next start takes over.
        process.kill9();
        assert!(UnixStream::connect(&socket).is_err() && socket.exists());
        process.start_again();
        answers(&mut process);
        process.terminate();
        if program == Program::Watchfire {
            assert!(!socket.exists(), "its file goes with it");
            let alone = "Other sentinels cannot reach this one";
            assert!(process.log().contains(alone), "{}", process.log());
        }
        fields
    });
    assert_eq!(shown[0], shown[1], "CLIENT LIST, Redis's and ours");
    assert_eq!(shown[1][0].as_deref(), Some("addr=its.sock:0"));
}
