//! Nodes to talk to, and a client that talks.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use watchfire::resp::{ReplyDecoder, ReplyLimits, Value, encode_command};
use watchfire::server::{Config, Server};

/// How long a test waits for what must come; generous, since machines differ.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Something that listens on a port of the loopback interface.
pub(crate) trait Node {
    fn port(&self) -> u16;

    fn client(&self) -> Client {
        Client::connect(self.port())
    }

    /// One line of INFO replication.
    fn replication(&self, field: &str) -> String {
        let text = self.client().text("INFO replication");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.unwrap_or("").trim().to_string()
    }

    /// All keys of database 0 with their values.
    fn data(&self) -> Vec<(String, String)> {
        let mut client = self.client();
        let mut keys = words(&client.call("KEYS *"));
        keys.sort();
        let mut values = Vec::new();
        for chunk in keys.chunks(1000) {
            values.extend(words(&client.call(&format!("MGET {}", chunk.join(" ")))));
        }
        keys.into_iter().zip(values).collect()
    }
}

/// Texts of an array.
pub(crate) fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(|v| v.text().unwrap_or("").to_string()).collect(),
        other => panic!("expected an array, got {other:?}"),
    }
}

/// A Watchfire node inside this process.
pub(crate) struct Ours {
    server: Option<Server>,
    runtime: tokio::runtime::Runtime,
    port: u16,
}

impl Ours {
    pub(crate) fn start(options: &str) -> Ours {
        let options = format!("--port 0 --bind 127.0.0.1 --enable-debug-command yes {options}");
        let args: Vec<String> = options.split_ascii_whitespace().map(str::to_string).collect();
        let (config, _) = Config::from_args(&args).expect("good options");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = {
            let _inside = runtime.enter();
            Server::start(config).expect("a free port")
        };
        Ours { port: server.port(), server: Some(server), runtime }
    }
}

impl Node for Ours {
    fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

/// A child process that is killed at the end.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Starts a server on a free port, which `command` gets with a folder of its own.
    pub(crate) fn start(command: impl Fn(u16, &std::path::Path) -> Command) -> Process {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..5 {
            let port = free_port();
            let mut command = command(port, folder.path());
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
            let deadline = Instant::now() + PATIENCE;
            // It ends early if somebody else took the port meanwhile.
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                if Client::try_connect(port).is_some_and(|mut c| is_awake(&c.call("PING"))) {
                    return Process { child, port, _folder: folder };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("the server did not start");
    }
}

impl Node for Process {
    fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that asks for a password has started as well.
fn is_awake(reply: &Value) -> bool {
    *reply == pong() || matches!(reply, Value::Error(e) if e.starts_with("NOAUTH"))
}

pub(crate) fn pong() -> Value {
    Value::Simple("PONG".into())
}

/// The real redis-server.
pub(crate) fn redis(options: &str) -> Process {
    Process::start(|port, folder| {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--repl-diskless-sync-delay", "0"]);
        command.arg("--dir").arg(folder);
        command.args(options.split_ascii_whitespace());
        command
    })
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    // Each is given once: the system gives one that nobody uses yet to the next who asks.
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return port;
        }
    }
}

/// A connection that sends commands and reads replies.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: ReplyDecoder,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Client {
        Client::try_connect(port).expect("a connection")
    }

    pub(crate) fn try_connect(port: u16) -> Option<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let decoder = ReplyDecoder::new(ReplyLimits::default());
        Some(Client { stream, buffer: BytesMut::new(), decoder })
    }

    pub(crate) fn send(&mut self, words: &[&[u8]]) {
        let mut bytes = BytesMut::new();
        encode_command(words, &mut bytes);
        self.send_raw(&bytes);
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the node reads");
    }

    /// The next reply; `None` if the node closed the connection.
    pub(crate) fn try_read(&mut self) -> Option<Value> {
        loop {
            if let Some(value) = self.decoder.feed(&mut self.buffer).expect("a good reply") {
                return Some(value);
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => panic!("no reply: {e}"),
            }
        }
    }

    pub(crate) fn read(&mut self) -> Value {
        self.try_read().expect("the node closed the connection")
    }

    /// Sends a line of words, in which `""` is the empty word, and reads one reply.
    pub(crate) fn call(&mut self, line: &str) -> Value {
        let words: Vec<&[u8]> = line
            .split_ascii_whitespace()
            .map(|word| if word == "\"\"" { &b""[..] } else { word.as_bytes() })
            .collect();
        self.send(&words);
        self.read()
    }

    pub(crate) fn text(&mut self, line: &str) -> String {
        let reply = self.call(line);
        reply.text().unwrap_or_else(|| panic!("{line}: {reply:?}")).to_string()
    }

    pub(crate) fn int(&mut self, line: &str) -> i64 {
        match self.call(line) {
            Value::Integer(n) => n,
            other => panic!("{line}: {other:?}"),
        }
    }
}

/// Waits until something holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
