//! The API over real sockets, with a core that the test plays.

mod access;
mod core;
mod doors;
mod oracle;
mod pubsub;
mod wire;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ApiSettings, Users, serve};
use crate::config::settings::SentinelSettings;
use crate::config::types::Secret;
use crate::config::users::UserLines;
use crate::daemon::Handle;
use crate::net::{TCP_BACKLOG, listen};
use crate::resp::{ReplyDecoder, ReplyLimits, Value, encode_command};
use crate::sentinel::{Event, EventKind, Request};

/// No condition of these tests takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

type Asked = (Request, tokio::sync::oneshot::Sender<Value>);

/// A server with the other end of its handle.
struct Server {
    port: u16,
    handle: Handle,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl Server {
    /// A server whose core answers like a sentinel that watches nothing but `mymaster`.
    fn start() -> Server {
        Server::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut SentinelSettings)) -> Server {
        let (server, mut asked) = Server::unanswered(change);
        let handle = server.handle.clone();
        tokio::spawn(async move {
            while let Some((request, answer)) = asked.recv().await {
                if let Request::Hello(payload) = &request {
                    handle.announce(event(EventKind::NewEpoch, payload));
                }
                let _ = answer.send(played(request));
            }
        });
        server
    }

    /// A server whose requests the test answers itself.
    fn unanswered(change: impl FnOnce(&mut SentinelSettings)) -> (Server, mpsc::Receiver<Asked>) {
        let (handle, asked) = Handle::new();
        let listening = listen(&["127.0.0.1".into()], 0, TCP_BACKLOG).unwrap();
        let port = listening.port;
        let mut settings = SentinelSettings::default();
        change(&mut settings);
        let (users, _) = Users::open(&settings, UserLines::default()).expect("good users");
        let settings = ApiSettings::new(&settings, "/etc/sentinel.conf", users);
        let stop = CancellationToken::new();
        let ended = tokio::spawn(serve(listening, handle.clone(), settings, stop.clone()));
        (Server { port, handle, stop, ended }, asked)
    }

    async fn connect(&self) -> Wire {
        Wire::connect(self.port).await
    }

    fn announce(&self, kind: EventKind, payload: &str) {
        self.handle.announce(event(kind, payload));
    }
}

fn event(kind: EventKind, payload: &str) -> Arc<Event> {
    Arc::new(Event { kind, group: None, payload: payload.into() })
}

/// What a core would answer.
fn played(request: Request) -> Value {
    let known = |name: &str| name == "mymaster";
    let pairs = |pairs: &[(&str, &str)]| {
        Value::Map(pairs.iter().map(|(k, v)| (Value::bulk(k), Value::bulk(v))).collect())
    };
    let master = || pairs(&[("name", "mymaster"), ("ip", "127.0.0.1"), ("port", "6379")]);
    let unknown = || Value::error("ERR No such master with that name");
    match request {
        Request::Masters => Value::Array(vec![master()]),
        Request::Master(name) if known(&name) => master(),
        Request::Replicas(name) | Request::Sentinels(name) if known(&name) => {
            Value::Array(Vec::new())
        }
        Request::MasterAddress(name) if known(&name) => {
            Value::Array(vec![Value::bulk("127.0.0.1"), Value::bulk("6379")])
        }
        Request::MasterAddress(_) => Value::NullArray,
        Request::Master(_)
        | Request::Replicas(_)
        | Request::Sentinels(_)
        | Request::Remove(_)
        | Request::CkQuorum(_)
        | Request::Failover(_)
        | Request::HandOver(_) => unknown(),
        Request::ConfigGet(_) | Request::Debug(_) => Value::Map(Vec::new()),
        Request::InfoCache(_) => Value::Array(Vec::new()),
        Request::ConfigSet(_) | Request::SimulateFailure(_) => Value::ok(),
        Request::Set { name, .. } if !known(&name) => unknown(),
        Request::IsMasterDown { candidate, epoch, .. } => Value::Array(vec![
            Value::Integer(0),
            Value::bulk(candidate.as_deref().unwrap_or("*")),
            Value::Integer(if candidate.is_some() { epoch } else { 0 }),
        ]),
        Request::MyId => Value::bulk("a".repeat(40)),
        Request::Reset(_) => Value::Integer(0),
        Request::Monitor { quorum, .. } if quorum.parse::<i64>().is_err() => {
            Value::error("ERR Invalid quorum")
        }
        Request::Monitor { .. } | Request::Set { .. } | Request::FlushConfig => Value::ok(),
        Request::Hello(_) => Value::Integer(1),
        Request::Role => {
            Value::Array(vec![Value::bulk("sentinel"), Value::Array(vec![Value::bulk("mymaster")])])
        }
        Request::Info { .. } => Value::bulk(
            "# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:0\r\n\
             sentinel_tilt_since_seconds:-1\r\nsentinel_running_scripts:0\r\n\
             sentinel_scripts_queue_length:0\r\nsentinel_simulate_failure_flags:0\r\n\
             master0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=0,sentinels=1\r\n",
        ),
    }
}

/// A client that shows the bytes it gets.
struct Wire {
    stream: TcpStream,
    input: BytesMut,
}

impl Wire {
    async fn connect(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Wire { stream, input: BytesMut::new() }
    }

    async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
    }

    /// Sends a command whose words are parted by blanks; `''` is an empty word.
    async fn say(&mut self, line: &str) {
        let words: Vec<&str> =
            line.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        let mut out = BytesMut::new();
        encode_command(&words, &mut out);
        self.send(&out).await;
    }

    /// The bytes of the next reply or push.
    async fn bytes(&mut self) -> String {
        loop {
            let mut rest = self.input.clone();
            let mut decoder = ReplyDecoder::new(ReplyLimits::default());
            if decoder.feed(&mut rest).unwrap().is_some() {
                let taken = self.input.split_to(self.input.len() - rest.len());
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let read = within(self.stream.read_buf(&mut self.input)).await.unwrap();
            assert_ne!(read, 0, "closed within {:?}", self.input);
        }
    }

    /// The next reply or push.
    async fn value(&mut self) -> Value {
        let bytes = self.bytes().await;
        let mut decoder = ReplyDecoder::new(ReplyLimits::default());
        decoder.feed(&mut BytesMut::from(bytes.as_bytes())).unwrap().unwrap()
    }

    async fn ask(&mut self, line: &str) -> String {
        self.say(line).await;
        self.bytes().await
    }

    /// Everything until the server closes.
    async fn rest(&mut self) -> String {
        loop {
            match within(self.stream.read_buf(&mut self.input)).await {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&self.input.split()).into_owned(),
                Ok(_) => {}
            }
        }
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// Waits until `holds` does.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The fields of INFO, or of a line of CLIENT LIST when parted by blanks and `=`.
fn fields(text: &str, between: &str, behind_name: char) -> BTreeMap<String, String> {
    let pairs = text.split(between).filter_map(|field| field.split_once(behind_name));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}
