//! A data node as a real process: the bundled one or Debian's redis-server.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::client::{Client, Reply, ask};
use super::process::Process;
use super::wait::{free_port, wait_until};

/// Which program plays the data nodes of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// `watchfire server`.
    Bundled,
    /// `redis-server` of this system.
    Redis,
}

impl Nodes {
    /// Program and first arguments.
    pub fn command_line(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Nodes::Bundled => (env!("CARGO_BIN_EXE_watchfire"), &["server"]),
            Nodes::Redis => ("redis-server", &[]),
        }
    }
}

/// A running data node with a folder and a configuration file of its own.
pub struct Node {
    /// TCP port on loopback.
    pub port: u16,
    process: Process,
    dir: TempDir,
}

impl Node {
    /// Starts a node; `directives` are lines of its redis.conf beside port, bind, dir and save.
    pub fn start(nodes: Nodes, directives: &[&str]) -> Node {
        let dir = tempfile::Builder::new().prefix("node-").tempdir().expect("a temporary folder");
        let (program, first) = nodes.command_line();
        let conf = dir.path().join("redis.conf");
        let conf_name = conf.to_str().expect("temporary folders have plain names");
        let args = [first, &[conf_name]].concat();
        let (process, port) = start_on_free_port("node", program, &args, dir.path(), |port| {
            let own = dir.path().display();
            let lines = directives.join("\n");
            let text = format!("port {port}\nbind 127.0.0.1\ndir {own}\nsave \"\"\n{lines}\n");
            std::fs::write(&conf, text).expect("a configuration file");
        });
        Node { port, process, dir }
    }

    /// Starts a node that follows the node on loopback port `master`.
    pub fn replica_of(nodes: Nodes, master: u16, directives: &[&str]) -> Node {
        let follow = format!("replicaof 127.0.0.1 {master}");
        Node::start(nodes, &[directives, &[&follow]].concat())
    }

    /// A new connection; the node must answer.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect_with(self.port, Duration::from_secs(5)).expect("the node is reachable")
    }

    /// One command on a connection of its own; the node must answer.
    #[track_caller]
    pub fn call(&self, words: &[&str]) -> Reply {
        self.client().call(words).expect("the node answers")
    }

    /// A field of `INFO replication`, or `None` while the node cannot be reached or lacks it.
    pub fn replication(&self, field: &str) -> Option<String> {
        let info = ask(self.port, &["INFO", "replication"])?.text();
        let line = info.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        line.map(str::to_owned)
    }

    /// Whether it follows the node on port `master` with its link up.
    pub fn follows(&self, master: u16) -> bool {
        self.replication("role").as_deref() == Some("slave")
            && self.replication("master_port") == Some(master.to_string())
            && self.replication("master_link_status").as_deref() == Some("up")
    }

    /// The process, to kill, freeze, or read its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts again after its end, on the same port and configuration file.
    pub fn restart(&mut self) {
        restart_on_its_port(&mut self.process, self.port);
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Starts a process on a port that the system chose. `configure` gets the port before each try;
/// another program may have taken the port, then a new one is tried.
pub fn start_on_free_port(
    name: &str,
    program: &str,
    args: &[&str],
    dir: &Path,
    mut configure: impl FnMut(u16),
) -> (Process, u16) {
    for _ in 0..5 {
        let port = free_port();
        configure(port);
        let mut process = Process::start(&format!("{name} {port}"), program, args, dir);
        if answers_or_ends(&mut process, port) {
            return (process, port);
        }
        assert!(port_taken(&process), "{name} {port} ended at once:\n{}", process.log());
    }
    panic!("{name}: five ports that were free a moment ago were taken");
}

/// Starts an ended process again; its port may linger for a moment.
pub fn restart_on_its_port(process: &mut Process, port: u16) {
    wait_until(10, &format!("the process on port {port} starts again"), || {
        process.start_again();
        let answers = answers_or_ends(process, port);
        assert!(answers || port_taken(process), "it did not start again:\n{}", process.log());
        answers
    });
}

/// Waits until the process answers PING with anything (true), or has ended (false).
fn answers_or_ends(process: &mut Process, port: u16) -> bool {
    let mut ended = false;
    wait_until(10, &format!("the process on port {port} answers PING"), || {
        ended = process.exit().is_some();
        ended || ask(port, &["PING"]).is_some()
    });
    !ended
}

fn port_taken(process: &Process) -> bool {
    process.log().to_lowercase().contains("address already in use")
}
