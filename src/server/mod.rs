//! The bundled data node: a small Redis-compatible server that replicates by Redis's own protocol.
//! It does not know that sentinels exist.
//!
//! One task owns the data and everything else that is shared ([`node`]); connections parse requests
//! and hand them over in batches ([`connection`]); commands are rows of one table ([`commands`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use watchfire::server::{Config, Server};
//!
//! let (config, _) = Config::from_args(&["--port".into(), "0".into()]).expect("good options");
//! let server = Server::start(config)?;
//! println!("listening on port {}", server.port());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod backlog;
mod client;
mod commands;
mod config;
mod connection;
mod decimal;
mod dispatch;
mod info;
mod keyspace;
mod node;
mod pubsub;
pub mod rdb;
mod replication;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::net::{Gate, ListenError, accept, listen, set_keepalive};
use crate::resp::Limits;

pub use config::{Config, Memory, OutputLimit, OutputLimits};
pub use info::VERSION;
#[doc(hidden)]
pub use replication::fuzz;

use connection::Connection;
use node::{EVENTS, Event, Node};

/// For how long a stop waits until clients have read their last replies.
const DRAIN: Duration = Duration::from_secs(1);

/// A running data node. Dropping it leaves the node running until the runtime ends.
#[derive(Debug)]
pub struct Server {
    port: u16,
    events: mpsc::Sender<Event>,
    owner: JoinHandle<()>,
    accepting: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    /// Opens the port and starts the node's tasks on the present tokio runtime. With port 0 the
    /// system chooses one. `Err` says which address could not be opened and why.
    pub fn start(mut config: Config) -> Result<Server, ListenError> {
        let listening = listen(&config.bind, config.port, config.tcp_backlog)?;
        config.port = listening.port;
        let (events, inbox) = mpsc::channel(EVENTS);
        let gate = Gate::new(config.maxclients as usize);
        let ids = Arc::new(AtomicU64::new(0));
        let accepting = CancellationToken::new();
        let connections = TaskTracker::new();
        for socket in listening.sockets {
            let acceptor = Acceptor {
                limits: limits(&config),
                keepalive_s: u64::from(config.tcp_keepalive),
                ids: ids.clone(),
                events: events.clone(),
                connections: connections.clone(),
            };
            tokio::spawn(acceptor.run(socket, gate.clone(), accepting.clone()));
        }
        let node = Node::new(config, gate, ids, events.clone());
        info!("Ready to accept connections on port {}", listening.port);
        let owner = tokio::spawn(node.run(inbox));
        Ok(Server { port: listening.port, events, owner, accepting, connections })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until the node ends by itself: `SHUTDOWN`.
    pub async fn ended(&mut self) {
        let _ = (&mut self.owner).await;
        self.drain().await;
    }

    /// Stops the node: replies that are due are sent, connections are closed.
    pub async fn stop(mut self) {
        // An owner that has ended already needs no order.
        let _ = self.events.send(Event::Stop).await;
        self.ended().await;
    }

    async fn drain(&self) {
        self.accepting.cancel();
        self.connections.close();
        // A client that does not read may lose its last replies.
        let _ = tokio::time::timeout(DRAIN, self.connections.wait()).await;
    }
}

fn limits(config: &Config) -> Limits {
    let size = |memory: Memory| usize::try_from(memory.0).unwrap_or(usize::MAX);
    Limits {
        max_bulk: size(config.proto_max_bulk_len),
        max_request: size(config.client_query_buffer_limit),
        ..Limits::default()
    }
}

/// Turns accepted sockets into connections.
struct Acceptor {
    limits: Limits,
    keepalive_s: u64,
    ids: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
    connections: TaskTracker,
}

impl Acceptor {
    async fn run(self, socket: TcpListener, gate: Arc<Gate>, stop: CancellationToken) {
        let serve = |(stream, peer): (tokio::net::TcpStream, _), permit| {
            let Ok(local) = stream.local_addr() else { return };
            // Without keepalive only a dead peer is noticed later.
            let _ = set_keepalive(&stream, self.keepalive_s);
            let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
            let (limits, events) = (self.limits, self.events.clone());
            let connection = Connection { id, peer, local, limits, events };
            self.connections.spawn(async move {
                connection.serve(stream).await;
                drop(permit);
            });
        };
        accept(socket, gate, stop, serve).await;
    }
}

/// Frees what may be large on a thread where nobody waits.
fn free_elsewhere<T: Send + 'static>(old: T) {
    tokio::task::spawn_blocking(move || drop(old));
}
