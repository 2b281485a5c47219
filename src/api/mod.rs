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
mod connection;
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
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::settings::SentinelSettings;
use crate::config::types::RunId;
use crate::daemon::Handle;
use crate::net::{self, Gate, Listening};

pub use self::users::Users;

/// The version of Redis whose behaviour is followed: what clients read from HELLO and INFO.
const REDIS_VERSION: &str = "7.2.4";
/// How long the end of the server waits for its connections to notice.
const STOP_WAIT: Duration = Duration::from_secs(2);

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
    pause: watch::Sender<Pause>,
    stop: CancellationToken,
}

/// Serves clients on these sockets until `stop` is cancelled, which SHUTDOWN does too; then all
/// connections are closed.
pub async fn serve(
    listening: Listening,
    handle: Handle,
    settings: ApiSettings,
    stop: CancellationToken,
) {
    let api = Arc::new(Api {
        gate: Gate::new(settings.maxclients as usize),
        users: settings.users.clone(),
        names: table::Names::new(settings.renamed_commands.clone()),
        settings,
        port: listening.port,
        started: Instant::now(),
        handle,
        clients: Arc::default(),
        counters: info::Counters::default(),
        pause: watch::Sender::new(None),
        stop: stop.clone(),
    });
    let tasks = TaskTracker::new();
    for socket in listening.sockets {
        let (api, gate, connections) = (api.clone(), api.gate.clone(), tasks.clone());
        let serve = move |stream, peer, permit| {
            // Fails only on a connection that is gone already.
            let _ = net::set_keepalive(&stream, api.settings.keepalive_s);
            connections.spawn(connection::run(api.clone(), stream, peer, permit));
        };
        tasks.spawn(net::accept(socket, gate, stop.clone(), serve));
    }
    stop.cancelled().await;
    tasks.close();
    // A connection that does not end in time is dropped with the runtime.
    let _ = tokio::time::timeout(STOP_WAIT, tasks.wait()).await;
}
