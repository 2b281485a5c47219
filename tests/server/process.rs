//! The node as a program: its options, its file, its signals.

use std::process::{Command, Output};

use crate::support::*;
use watchfire::resp::Value;

const WATCHFIRE: &str = env!("CARGO_BIN_EXE_watchfire");

fn run(args: &[&str]) -> Output {
    Command::new(WATCHFIRE).arg("server").args(args).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_port_in_use_is_reported() {
    let holder = Ours::start("");
    let output = run(&["--bind", "127.0.0.1", "--port", &holder.port().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("Address already in use"), "{}", stderr(&output));
}

#[test]
fn all_bad_lines_are_reported_at_once_and_no_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.conf");
    let text = "port 1\nnosuch thing\nmaxclients many\nrequirepass hunter2 extra\n";
    std::fs::write(&file, text).expect("a file");
    let output = run(&[file.to_str().expect("a name")]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for expected in ["bad.conf:2", "nosuch thing", "bad.conf:3", "bad.conf:4"] {
        assert!(said.contains(expected), "{expected} is missing in {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn signals_end_it_with_code_0() {
    for signal in ["-TERM", "-INT"] {
        let mut node = Process::start(|port, _| {
            let mut command = Command::new(WATCHFIRE);
            command.args(["server", "--bind", "127.0.0.1", "--port", &port.to_string()]);
            command
        });
        let mut client = node.client();
        assert_eq!(client.call("SET a 1"), Value::ok());
        let id = node.child.id().to_string();
        Command::new("kill").args([signal, &id]).status().expect("kill");
        let status = node.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(client.try_read(), None);
    }
}

#[test]
fn config_rewrite_keeps_comments_and_survives_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.conf");
    let start = || {
        Process::start(|port, _| {
            std::fs::read_to_string(&file).unwrap_or_else(|_| {
                std::fs::write(&file, "# my node\nmaxclients 500\nsave 60 1\n").expect("a file");
                String::new()
            });
            let mut command = Command::new(WATCHFIRE);
            command.arg("server").arg(&file);
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
            command
        })
    };
    let mut node = start();
    let mut client = node.client();
    let here = node.port().to_string();
    assert_eq!(client.call("CONFIG SET maxclients 600 requirepass secret"), Value::ok());
    assert_eq!(client.call("REPLICAOF 127.0.0.1 1"), Value::ok());
    assert_eq!(client.call("CONFIG REWRITE"), Value::ok());
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(text.starts_with("# my node\nmaxclients 600\nsave 60 1\n"), "{text}");
    for line in ["requirepass secret", "replicaof 127.0.0.1 1", &format!("port {here}")] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in {text}");
    }
    assert_eq!(client.call("REPLICAOF NO ONE"), Value::ok());
    assert_eq!(client.call("CONFIG REWRITE"), Value::ok());
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(!text.contains("replicaof "), "{text}");
    client.send(&[b"SHUTDOWN", b"NOSAVE"]);
    assert_eq!(client.try_read(), None);
    assert_eq!(node.child.wait().expect("it ends").code(), Some(0));
    // The rewritten file is one that redis-server takes as well.
    let port = free_port().to_string();
    let mut real = Command::new("redis-server")
        .arg(&file)
        .args(["--port", &port, "--dir"])
        .arg(folder.path())
        .args(["--daemonize", "no"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("redis-server");
    wait_until("redis-server starts with it", || {
        Client::try_connect(port.parse().expect("a port"))
            .is_some_and(|mut c| c.call("AUTH secret") == Value::ok())
    });
    real.kill().expect("it runs");
    real.wait().expect("it ends");
}
