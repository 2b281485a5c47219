//! A sentinel as a real process: Watchfire's, or Redis's own to compare with.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::client::{Client, Reply, ask};
use super::node::{restart_on_its_port, start_on_free_port};
use super::process::Process;

/// The group that stories watch.
pub const GROUP: &str = "mymaster";

/// Which program plays the sentinels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `watchfire sentinel`.
    Watchfire,
    /// `redis-server --sentinel` of this system.
    Redis,
}

impl Program {
    /// Watchfire; the environment variable `STORY_SENTINEL=redis` puts Redis's own in its place,
    /// which tells whether a story is true of the original.
    pub fn under_test() -> Program {
        match std::env::var("STORY_SENTINEL").as_deref() {
            Ok("redis") => Program::Redis,
            _ => Program::Watchfire,
        }
    }

    /// The program to start.
    pub fn path(self) -> &'static str {
        match self {
            Program::Watchfire => env!("CARGO_BIN_EXE_watchfire"),
            Program::Redis => "redis-server",
        }
    }

    /// Its arguments for a configuration file.
    pub fn args(self, file: &str) -> [&str; 2] {
        match self {
            Program::Watchfire => ["sentinel", file],
            Program::Redis => [file, "--sentinel"],
        }
    }
}

/// How a sentinel's configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// Redis's `sentinel.conf`, rewritten in place.
    Conf,
    /// Watchfire's YAML, never touched.
    Yaml,
}

impl Syntax {
    /// The usual name of such a file.
    pub fn file_name(self) -> &'static str {
        match self {
            Syntax::Conf => "sentinel.conf",
            Syntax::Yaml => "sentinel.yaml",
        }
    }
}

/// What the sentinels of a story are told about their group.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Loopback port of the master.
    pub master: u16,
    /// Votes for ODOWN.
    pub quorum: u32,
    /// `down-after-milliseconds`.
    pub down_after_ms: u64,
    /// `failover-timeout`, in ms.
    pub failover_timeout_ms: u64,
}

impl Watch {
    /// The master on a port: quorum 2, down after 1 s, failover timeout 6 s.
    pub fn of(master: u16) -> Watch {
        Watch { master, quorum: 2, down_after_ms: 1_000, failover_timeout_ms: 6_000 }
    }

    /// The configuration file's text for a sentinel on `port` that works in `dir`.
    pub fn config(&self, syntax: Syntax, port: u16, dir: &Path) -> String {
        let Watch { master, quorum, down_after_ms, failover_timeout_ms } = self;
        let dir = dir.display();
        match syntax {
            Syntax::Conf => format!(
                "# What the operator wrote stays.\n\
                 port {port}\n\
                 bind 127.0.0.1\n\
                 dir {dir}\n\
                 # The one group of this story.\n\
                 sentinel monitor {GROUP} 127.0.0.1 {master} {quorum}\n\
                 sentinel down-after-milliseconds {GROUP} {down_after_ms}\n\
                 sentinel failover-timeout {GROUP} {failover_timeout_ms}\n"
            ),
            Syntax::Yaml => format!(
                "# What the operator wrote stays.\n\
                 listen: {{bind: 127.0.0.1, port: {port}}}\n\
                 state_dir: {dir}/state\n\
                 groups:\n\
                 \x20 {GROUP}:\n\
                 \x20   master: 127.0.0.1:{master}\n\
                 \x20   quorum: {quorum}\n\
                 \x20   down_after: {down_after_ms}ms\n\
                 \x20   failover_timeout: {failover_timeout_ms}ms\n"
            ),
        }
    }
}

/// A running sentinel with a folder and a configuration file of its own.
pub struct Sentinel {
    /// TCP port on loopback.
    pub port: u16,
    process: Process,
    dir: TempDir,
    file: PathBuf,
}

impl Sentinel {
    /// Starts a sentinel that watches one group.
    pub fn start(program: Program, syntax: Syntax, watch: &Watch) -> Sentinel {
        let text = |port, dir: &Path| watch.config(syntax, port, dir);
        Sentinel::start_with(program, syntax.file_name(), text)
    }

    /// Starts a sentinel whose configuration file is made by `text` from its port and folder.
    pub fn start_with(
        program: Program,
        file_name: &str,
        text: impl Fn(u16, &Path) -> String,
    ) -> Sentinel {
        let dir = tempfile::Builder::new().prefix("sentinel-").tempdir().expect("a folder");
        let file = dir.path().join(file_name);
        let args = program.args(file.to_str().expect("temporary folders have plain names"));
        let path = program.path();
        let (process, port) = start_on_free_port("sentinel", path, &args, dir.path(), |port| {
            std::fs::write(&file, text(port, dir.path())).expect("a configuration file");
        });
        Sentinel { port, process, dir, file }
    }

    /// A new connection; the sentinel must answer.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port).expect("the sentinel is reachable")
    }

    /// One command on a connection of its own; the sentinel must answer.
    #[track_caller]
    pub fn call(&self, words: &[&str]) -> Reply {
        self.client().call(words).expect("the sentinel answers")
    }

    /// A field of `SENTINEL MASTER`, or `None` while it cannot be reached or lacks it.
    pub fn master(&self, field: &str) -> Option<String> {
        ask(self.port, &["SENTINEL", "MASTER", GROUP])?.field(field)
    }

    /// The port of the master that clients are told.
    pub fn master_port(&self) -> Option<u16> {
        let reply = ask(self.port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP])?;
        reply.items().get(1)?.text().parse().ok()
    }

    /// One entry of `SENTINEL REPLICAS` by its port.
    pub fn replica(&self, port: u16) -> Option<Reply> {
        let all = ask(self.port, &["SENTINEL", "REPLICAS", GROUP])?;
        all.items().iter().find(|r| r.field("port") == Some(port.to_string())).cloned()
    }

    /// The id of this sentinel.
    #[track_caller]
    pub fn id(&self) -> String {
        self.call(&["SENTINEL", "MYID"]).text()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
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

    /// Starts another program on the same file after the end of this one.
    pub fn restart_as(&mut self, program: Program) {
        let file = self.file.to_str().expect("temporary folders have plain names");
        self.process.becomes(program.path(), &program.args(file));
        self.restart();
    }

    /// Its configuration file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
