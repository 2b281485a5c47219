//! The RESP server of a sentinel: what clients, exporters and other sentinels talk to.
//!
//! [`serve`] accepts connections; each is a task of its own (`connection`), which looks up every
//! request in one table (`table`). What concerns masters is asked of the core through a [`Handle`];
//! the rest is answered by the connection itself.

mod acl;
mod catalog;
mod client;
mod clients;
mod commands;
mod complexity;
mod connection;
mod events;
#[doc(hidden)]
pub mod fuzz;
mod info;
mod pubsub;
mod rows;
mod sentinel;
mod session;
mod table;
#[cfg(test)]
mod tests;
mod tracking;
mod users;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::settings::SentinelSettings;
use crate::config::transport::Supervised;
use crate::config::types::RunId;
use crate::daemon::Handle;
use crate::net::tls::Tls;
use crate::net::{self, Door, Doors, Gate, Permit, TlsDoor};
use connection::Knock;

pub use self::users::Users;

/// The version of Redis whose behaviour is followed: what clients read from HELLO and INFO.
const REDIS_VERSION: &str = "7.2.4";
/// How long the end of the server waits for its connections to notice.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// Complaints about clients that fail at TLS come no faster than this, in s.
const COMPLAINT_PERIOD_S: u64 = 10;

/// What the API needs to know beside what the core tells it.
#[derive(Clone)]
pub struct ApiSettings {
    /// The users, and what each may do.
    pub users: Arc<Users>,
    /// `rename-command`: a command to its new name, both in lower case; empty for none.
    pub renamed_commands: BTreeMap<String, String>,
    /// `maxclients`: connections at a time.
    pub maxclients: u32,
    /// `timeout`: seconds after which an idle connection without subscriptions is closed; 0 for
    /// never.
    pub timeout_s: u64,
    /// `tcp-keepalive`: seconds of silence after which the system asks a client; 0 for never.
    pub keepalive_s: u64,
    /// `sentinel deny-scripts-reconfig`.
    pub deny_scripts_reconfig: bool,
    /// `protected-mode`
    pub protected_mode: bool,
    /// Who is told of the start and the end, as INFO shows it.
    pub supervised: Supervised,
    /// The configuration file, as INFO shows it.
    pub config_file: PathBuf,
    /// This program, as INFO shows it.
    pub executable: PathBuf,
    /// INFO's `run_id`: another one at each start, and not the sentinel's id.
    pub run_id: RunId,
}

impl ApiSettings {
    /// What `settings` say, with a fresh run id, for these users.
    pub fn new(
        settings: &SentinelSettings,
        config_file: impl Into<PathBuf>,
        users: Arc<Users>,
    ) -> ApiSettings {
        ApiSettings {
            users,
            renamed_commands: settings.renamed_commands.clone(),
            maxclients: settings.maxclients,
            timeout_s: settings.timeout_s,
            keepalive_s: settings.tcp_keepalive_s,
            deny_scripts_reconfig: settings.deny_scripts_reconfig,
            protected_mode: settings.transport.protected_mode,
            supervised: Supervised::No,
            config_file: config_file.into(),
            executable: std::env::current_exe().unwrap_or_default(),
            run_id: RunId::from_bytes(rand::random()),
        }
    }
}

/// Until when CLIENT PAUSE holds all commands.
type Pause = Option<Instant>;

/// What all connections share.
struct Api {
    settings: ApiSettings,
    users: Arc<Users>,
    names: table::Names,
    port: u16,
    started: Instant,
    handle: Handle,
    clients: Arc<clients::Clients>,
    counters: info::Counters,
    gate: Arc<Gate>,
    /// When a client that failed at TLS was last complained about, in s after the start.
    complained_s: AtomicU64,
    pause: watch::Sender<Pause>,
    stop: CancellationToken,
}

/// Serves clients on these sockets until `stop` is cancelled, which SHUTDOWN does too; then all
/// connections are closed.
pub async fn serve(
    doors: impl Into<Doors>,
    handle: Handle,
    settings: ApiSettings,
    stop: CancellationToken,
) {
    let doors = doors.into();
    let api = Arc::new(Api {
        gate: Gate::new(settings.maxclients as usize),
        users: settings.users.clone(),
        names: table::Names::new(settings.renamed_commands.clone()),
        settings,
        port: doors.port(),
        started: Instant::now(),
        handle,
        clients: Arc::default(),
        counters: info::Counters::default(),
        complained_s: AtomicU64::new(0),
        pause: watch::Sender::new(None),
        stop: stop.clone(),
    });
    let tasks = TaskTracker::new();
    for socket in doors.tcp.into_iter().flat_map(|listening| listening.sockets) {
        let knock = move |(stream, peer)| Knock::Tcp(stream, peer);
        tasks.spawn(api.clone().let_in(socket, tasks.clone(), knock));
    }
    if let Some((listening, tls)) = doors.tls {
        for socket in listening.sockets {
            let tls: Arc<Tls> = tls.clone();
            let knock = move |(stream, peer): (TcpStream, SocketAddr)| {
                Knock::Tls(stream, peer, tls.clone())
            };
            tasks.spawn(api.clone().let_in(TlsDoor(socket), tasks.clone(), knock));
        }
    }
    // Its file goes with the end of the server.
    let _file = doors.unix.map(|unix| {
        let path = unix.file.path.clone();
        let knock = move |stream| Knock::Unix(stream, path.clone());
        tasks.spawn(api.clone().let_in(unix.listener, tasks.clone(), knock));
        unix.file
    });
    stop.cancelled().await;
    tasks.close();
    // A connection that does not end in time is dropped with the runtime.
    let _ = tokio::time::timeout(STOP_WAIT, tasks.wait()).await;
}

impl Api {
    /// Whether it is time for another complaint about a client that failed at TLS: a broken one
    /// comes again and again.
    fn may_complain(&self) -> bool {
        let now_s = COMPLAINT_PERIOD_S + self.started.elapsed().as_secs();
        let last = |last_s| (now_s.saturating_sub(last_s) >= COMPLAINT_PERIOD_S).then_some(now_s);
        self.complained_s.fetch_update(Relaxed, Relaxed, last).is_ok()
    }

    /// Accepts what comes in through one door, each connection in a task of its own.
    async fn let_in<D: Door>(
        self: Arc<Api>,
        door: D,
        tasks: TaskTracker,
        knock: impl Fn(D::Guest) -> Knock,
    ) {
        let (gate, stop) = (self.gate.clone(), self.stop.clone());
        let serve = |guest, permit: Permit| {
            tasks.spawn(connection::run(self.clone(), knock(guest), permit));
        };
        net::accept(door, gate, stop, serve).await;
    }
}
