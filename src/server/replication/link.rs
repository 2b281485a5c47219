//! The task that talks to the master: connects, shakes hands, asks to continue or takes a snapshot,
//! then reads the stream. It tells the owner task what happens and lives for one connection.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::types::{Address, RunId, Secret};
use crate::resp::{Decoder, Limits, Request, encode_command};
use crate::server::keyspace::{self, Db, Entry};
use crate::server::node::Event;
use crate::server::rdb;

use super::Phase;

/// Commands from the stream that are handed over at a time.
const BATCH: usize = 256;
/// Room made for one read.
const READ_SIZE: usize = 64 * 1024;
/// The longest line of a handshake.
const LONGEST_LINE: usize = 64 * 1024;
/// How often a transfer is reported, and the master told that this end lives.
const REPORT: Duration = Duration::from_secs(1);
/// Bytes of the mark behind a snapshot of unknown length.
const MARK: usize = 40;

/// What the link tells the owner.
pub(in crate::server) enum LinkEvent {
    /// A new stage.
    Phase(Phase),
    /// A snapshot is coming in: its length, if known, and how much is there.
    Transfer { total: Option<u64>, read: u64 },
    /// The master lets this node continue, perhaps under a new id.
    Continued { id: Option<RunId> },
    /// A snapshot was loaded as a whole.
    Loaded(Box<Loaded>),
    /// Commands of the stream.
    Stream(Vec<Request>),
    /// The link ended.
    Lost(Failure),
}

/// A full resynchronisation.
pub(in crate::server) struct Loaded {
    pub(super) dbs: Vec<Db>,
    pub(super) id: RunId,
    pub(super) offset: u64,
    /// The database that the stream goes on with.
    pub(super) stream_db: usize,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum Failure {
    #[error("Error condition on socket for SYNC: {0}")]
    Connect(std::io::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no data nor PING from the master for {0} seconds (repl-timeout)")]
    Timeout(u64),
    #[error("the master closed the connection")]
    Closed,
    #[error("the master answered {0} with: {1}")]
    Refused(&'static str, String),
    #[error("the master's stream breaks the protocol: {0}")]
    Protocol(#[from] crate::resp::ProtocolError),
    #[error("the snapshot could not be loaded, the data is as before: {0}")]
    Snapshot(String),
    #[error("the master's stream holds what this node cannot do: {0}")]
    Stream(String),
    #[error("the owner is gone")]
    Stopped,
}

impl Failure {
    /// Whether trying again soon is of little use: the master's data is what is wrong.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Failure::Snapshot(_) | Failure::Stream(_))
    }
}

/// What one link is to do.
pub(super) struct Plan {
    pub(super) attempt: u64,
    pub(super) target: Address,
    pub(super) user: String,
    pub(super) password: Option<Secret>,
    pub(super) announce_port: u16,
    pub(super) announce_ip: String,
    /// Id and first byte wanted, for PSYNC; `None` knows nothing.
    pub(super) wanted: Option<(RunId, u64)>,
    pub(super) timeout: Duration,
    pub(super) databases: usize,
    pub(super) max_string: usize,
    pub(super) events: mpsc::Sender<Event>,
    /// What the owner sends to the master: acknowledgements.
    pub(super) outgoing: mpsc::Receiver<Bytes>,
}

/// Runs a link to its end and reports it.
pub(super) async fn run(mut plan: Plan) {
    let failure = match follow(&mut plan).await {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // An owner that is gone needs no report.
    let _ = tell(&plan, LinkEvent::Lost(failure)).await;
}

pub(super) enum Never {}

async fn tell(plan: &Plan, event: LinkEvent) -> Result<(), Failure> {
    let event = Event::Link { attempt: plan.attempt, event };
    plan.events.send(event).await.map_err(|_| Failure::Stopped)
}

async fn follow(plan: &mut Plan) -> Result<Never, Failure> {
    let target = (plan.target.host.as_str(), plan.target.port);
    let stream = tokio::time::timeout(plan.timeout, TcpStream::connect(target))
        .await
        .map_err(|_| Failure::Connect(std::io::ErrorKind::TimedOut.into()))?
        .map_err(Failure::Connect)?;
    let _ = stream.set_nodelay(true);
    info!("MASTER <-> REPLICA sync started with {}", plan.target);
    converse(plan, stream).await
}

/// What a master is spoken to through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// All that is said on a connection: the handshake, then the stream without end.
pub(super) async fn converse(plan: &mut Plan, stream: impl Stream) -> Result<Never, Failure> {
    tell(plan, LinkEvent::Phase(Phase::Handshake)).await?;
    let mut wire = Wire { stream, buffer: BytesMut::new(), timeout: plan.timeout };
    introduce(plan, &mut wire).await?;
    synchronize(plan, &mut wire).await?;
    stream_on(plan, wire).await
}

/// PING, AUTH and REPLCONF, the last ones in one go.
async fn introduce(plan: &Plan, wire: &mut Wire<impl Stream>) -> Result<(), Failure> {
    wire.command(&["PING"]).await?;
    let pong = wire.line().await?;
    let may_go_on = ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
    if pong.starts_with('-') && !may_go_on.iter().any(|error| pong.starts_with(error)) {
        return Err(Failure::Refused("PING", pong));
    }
    let mut batch = BytesMut::new();
    if let Some(password) = &plan.password {
        match plan.user.as_str() {
            "" => encode_command(&[b"AUTH", &password.bytes()[..]], &mut batch),
            user => {
                let words: [&[u8]; 3] = [b"AUTH", user.as_bytes(), &password.bytes()];
                encode_command(&words, &mut batch);
            }
        }
    }
    let port = plan.announce_port.to_string();
    encode_command(&["REPLCONF", "listening-port", &port], &mut batch);
    if !plan.announce_ip.is_empty() {
        encode_command(&["REPLCONF", "ip-address", &plan.announce_ip], &mut batch);
    }
    encode_command(&["REPLCONF", "capa", "eof", "capa", "psync2"], &mut batch);
    wire.send(&batch).await?;
    if plan.password.is_some() {
        let answer = wire.line().await?;
        if answer.starts_with('-') {
            return Err(Failure::Refused("AUTH", answer));
        }
    }
    for _ in 0..2 + usize::from(!plan.announce_ip.is_empty()) {
        // An old master may not know an option; nothing depends on it.
        wire.line().await?;
    }
    Ok(())
}

async fn synchronize(plan: &Plan, wire: &mut Wire<impl Stream>) -> Result<(), Failure> {
    match &plan.wanted {
        Some((id, offset)) => {
            info!("Trying a partial resynchronization (request {id}:{offset}).");
            wire.command(&["PSYNC", id.as_str(), &offset.to_string()]).await?;
        }
        None => wire.command(&["PSYNC", "?", "-1"]).await?,
    }
    let answer = wire.line().await?;
    let words: Vec<&str> = answer.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["+CONTINUE"] => tell(plan, LinkEvent::Continued { id: None }).await,
        ["+CONTINUE", id] => {
            let id = RunId::parse(id).ok_or_else(|| Failure::Refused("PSYNC", answer.clone()))?;
            tell(plan, LinkEvent::Continued { id: Some(id) }).await
        }
        ["+FULLRESYNC", id, offset] => match (RunId::parse(id), offset.parse()) {
            (Some(id), Ok(offset)) => {
                info!("Full resync from master: {id}:{offset}");
                tell(plan, LinkEvent::Phase(Phase::Sync)).await?;
                let loaded = Box::new(load(plan, wire, id, offset).await?);
                tell(plan, LinkEvent::Loaded(loaded)).await
            }
            _ => Err(Failure::Refused("PSYNC", answer)),
        },
        _ => Err(Failure::Refused("PSYNC", answer)),
    }
}

/// Reads a snapshot into databases of its own; those in use are not touched.
async fn load(
    plan: &Plan,
    wire: &mut Wire<impl Stream>,
    id: RunId,
    offset: u64,
) -> Result<Loaded, Failure> {
    let header = wire.line().await?;
    let (total, mark) = match header.strip_prefix('$') {
        Some(rest) => match rest.strip_prefix("EOF:") {
            Some(mark) if mark.len() == MARK => (None, Some(Bytes::from(mark.to_string()))),
            _ => (rest.parse::<u64>().ok(), None),
        },
        None => return Err(Failure::Refused("PSYNC", header)),
    };
    if total.is_none() && mark.is_none() {
        return Err(Failure::Refused("PSYNC", header));
    }
    let mut reader = rdb::Reader::new(plan.max_string);
    let mut loading = Loading {
        dbs: (0..plan.databases).map(|_| Db::default()).collect(),
        selected: 0,
        stream_db: 0,
    };
    let mut reported = Instant::now();
    let broken = |e: rdb::RdbError| Failure::Snapshot(e.to_string());
    loop {
        match reader.feed(&mut wire.buffer).map_err(broken)? {
            Some(rdb::Item::End { .. }) => break,
            Some(item) => loading.take(item).map_err(Failure::Snapshot)?,
            None => wire.fill().await?,
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            wire.send(b"\n").await?;
            tell(plan, LinkEvent::Transfer { total, read: reader.offset() }).await?;
        }
    }
    if let Some(total) = total.filter(|total| *total != reader.offset()) {
        let read = reader.offset();
        return Err(Failure::Snapshot(format!("{total} bytes were announced, but it has {read}")));
    }
    if let Some(mark) = mark {
        while wire.buffer.len() < MARK {
            wire.fill().await?;
        }
        if wire.buffer.split_to(MARK) != mark {
            return Err(Failure::Snapshot("the mark at its end is missing".into()));
        }
    }
    info!("MASTER <-> REPLICA sync: Finished with success, {} bytes", reader.offset());
    Ok(Loaded { dbs: loading.dbs, id, offset, stream_db: loading.stream_db })
}

/// Databases being filled.
struct Loading {
    dbs: Vec<Db>,
    selected: usize,
    stream_db: usize,
}

impl Loading {
    fn take(&mut self, item: rdb::Item) -> Result<(), String> {
        match item {
            rdb::Item::SelectDb(db) => {
                self.selected = db as usize;
                if self.selected >= self.dbs.len() {
                    let known = self.dbs.len();
                    return Err(format!(
                        "it has a database {db}, but this node has only {known}; set 'databases' \
                         as on the master"
                    ));
                }
            }
            rdb::Item::Key { key, value: rdb::RdbValue::String(string), expire_at_ms } => {
                let value = keyspace::Value::String(string);
                self.dbs[self.selected].insert(Entry { key, value, expire_at_ms });
            }
            rdb::Item::Aux { key, value } if key == "repl-stream-db" => {
                let db = std::str::from_utf8(&value).ok().and_then(|v| v.parse().ok());
                self.stream_db = db.filter(|db| *db < self.dbs.len()).unwrap_or(0);
            }
            rdb::Item::Function(_) => {
                warn!("The master has a function library, which this node cannot run: left out");
            }
            rdb::Item::Aux { .. } | rdb::Item::ResizeDb { .. } | rdb::Item::End { .. } => {}
        }
        Ok(())
    }
}

/// Hands the stream to the owner, and the owner's acknowledgements to the master.
async fn stream_on(plan: &mut Plan, mut wire: Wire<impl Stream>) -> Result<Never, Failure> {
    let max_bulk = plan.max_string;
    let mut decoder = Decoder::new(Limits { max_bulk, ..Limits::default() });
    loop {
        loop {
            let mut requests = Vec::new();
            let mut end = Ok(());
            while requests.len() < BATCH {
                match decoder.feed(&mut wire.buffer) {
                    Ok(Some(request)) => requests.push(request),
                    Ok(None) => break,
                    Err(error) => {
                        end = Err(error);
                        break;
                    }
                }
            }
            let is_done = requests.is_empty();
            if !is_done {
                // Also what came before an error: it is as good as if it had come alone.
                tell(plan, LinkEvent::Stream(requests)).await?;
            }
            end?;
            if is_done {
                break;
            }
        }
        wire.buffer.reserve(READ_SIZE);
        tokio::select! {
            bytes = plan.outgoing.recv() => match bytes {
                Some(bytes) => wire.send(&bytes).await?,
                None => return Err(Failure::Stopped),
            },
            filled = wire.fill() => filled?,
        }
    }
}

/// The connection with its read buffer.
struct Wire<S> {
    stream: S,
    buffer: BytesMut,
    timeout: Duration,
}

impl<S: Stream> Wire<S> {
    async fn command(&mut self, words: &[&str]) -> Result<(), Failure> {
        let mut bytes = BytesMut::new();
        encode_command(words, &mut bytes);
        self.send(&bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let late = Failure::Timeout(self.timeout.as_secs());
        Ok(tokio::time::timeout(self.timeout, self.stream.write_all(bytes))
            .await
            .map_err(|_| late)??)
    }

    /// Reads more. Cancelling it loses nothing.
    async fn fill(&mut self) -> Result<(), Failure> {
        self.buffer.reserve(READ_SIZE);
        let read = self.stream.read_buf(&mut self.buffer);
        match tokio::time::timeout(self.timeout, read).await {
            Ok(Ok(0)) => Err(Failure::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(Failure::Io(e)),
            Err(_) => Err(Failure::Timeout(self.timeout.as_secs())),
        }
    }

    /// One line without its end. Bare line ends, by which a master shows that it lives, are
    /// skipped.
    async fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_string();
                if !text.is_empty() {
                    return Ok(text);
                }
            } else if self.buffer.len() > LONGEST_LINE {
                return Err(Failure::Refused("the handshake", "a line without end".into()));
            } else {
                self.fill().await?;
            }
        }
    }
}
