//! Validated settings, whichever syntax they were written in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::transport::{ProcessSettings, Transport};
use super::types::{Address, Secret};
use super::users::UserLine;

/// Sentinel's default port.
pub const SENTINEL_PORT: u16 = 26379;
/// `down-after-milliseconds` where nothing is said, in ms.
pub const DOWN_AFTER_MS: u64 = 30_000;
/// `failover-timeout` where nothing is said, in ms.
pub const FAILOVER_TIMEOUT_MS: u64 = 180_000;
/// `parallel-syncs` where nothing is said.
pub const PARALLEL_SYNCS: u32 = 1;
/// Our `flap-pause` where nothing is said, in ms.
pub const FLAP_PAUSE_MS: u64 = 60_000;

/// How much the log tells: Redis's `loglevel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Rarely useful details.
    Verbose,
    /// What an operator wants to know.
    #[default]
    Notice,
    /// Only what matters much.
    Warning,
    /// Nothing at all.
    Nothing,
}

impl LogLevel {
    /// All levels with their names in Redis.
    const NAMES: [(&'static str, LogLevel); 5] = [
        ("debug", LogLevel::Debug),
        ("verbose", LogLevel::Verbose),
        ("notice", LogLevel::Notice),
        ("warning", LogLevel::Warning),
        ("nothing", LogLevel::Nothing),
    ];

    /// The level of this name, in any case.
    pub fn parse(name: &str) -> Option<LogLevel> {
        let named = |(n, _): &&(&str, LogLevel)| n.eq_ignore_ascii_case(name);
        Self::NAMES.iter().find(named).map(|(_, level)| *level)
    }

    /// Its name in Redis.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}

/// What one sentinel process is told, apart from its groups. Redis's directive of the same name is
/// meant wherever there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct SentinelSettings {
    /// `bind`: addresses to listen on; empty means all interfaces.
    pub bind: Vec<String>,
    /// `port`: TCP port without TLS; 0 for none.
    pub port: u16,
    /// `dir`: working directory; where a YAML set-up keeps its state file.
    pub dir: PathBuf,
    /// `logfile`: empty means standard output.
    pub logfile: Option<PathBuf>,
    /// `loglevel`.
    pub loglevel: LogLevel,
    /// `pidfile`, written only where asked for.
    pub pidfile: Option<PathBuf>,
    /// `tcp-backlog`: connections that may wait to be accepted.
    pub tcp_backlog: u32,
    /// `tcp-keepalive`: seconds of silence after which the system asks a client; 0 for never.
    pub tcp_keepalive_s: u64,
    /// `timeout`: seconds after which an idle client is disconnected; 0 for never.
    pub timeout_s: u64,
    /// `maxclients`: connections to the API at a time.
    pub maxclients: u32,
    /// `requirepass`: password of the default user.
    pub requirepass: Option<Secret>,
    /// `user`: one entry a user.
    pub users: Vec<UserLine>,
    /// `aclfile`: where the users stand instead.
    pub acl_file: Option<PathBuf>,
    /// `acl-pubsub-default`: whether new users may subscribe to all channels.
    pub acl_all_channels: bool,
    /// `acllog-max-len`: entries of ACL LOG.
    pub acllog_max_len: usize,
    /// `rename-command`: a sentinel's own command to its new name, both in lower case; an empty
    /// name takes the command away.
    pub renamed_commands: BTreeMap<String, String>,
    /// `sentinel announce-ip`.
    pub announce_ip: Option<String>,
    /// `sentinel announce-port`.
    pub announce_port: Option<u16>,
    /// `sentinel resolve-hostnames`.
    pub resolve_hostnames: bool,
    /// `sentinel announce-hostnames`.
    pub announce_hostnames: bool,
    /// `sentinel sentinel-user`: user for links to other sentinels; as
    /// [`decode`](super::bytes::decode) has it.
    pub sentinel_user: Option<String>,
    /// `sentinel sentinel-pass`: password for links to other sentinels.
    pub sentinel_pass: Option<Secret>,
    /// `sentinel deny-scripts-reconfig`.
    pub deny_scripts_reconfig: bool,
    /// Our own: the secret with which hellos are signed, and what is done with unsigned ones.
    pub hello_key: Option<HelloKey>,
    /// TLS, the Unix socket, protected mode, where links leave from.
    pub transport: Transport,
    /// `daemonize`, `supervised`, syslog.
    pub process: ProcessSettings,
}

/// What the sentinels of a set-up share to know each other's hellos.
#[derive(Debug, Clone, PartialEq)]
pub struct HelloKey {
    /// The secret.
    pub secret: Secret,
    /// The file that it was read from, as it was named.
    pub file: PathBuf,
    /// Hellos that are not signed with it are ignored, and ours are said signed only. Without this
    /// ours are said both ways, for stock sentinels and for a change without a gap.
    pub signed_only: bool,
}

impl Default for SentinelSettings {
    fn default() -> Self {
        SentinelSettings {
            bind: Vec::new(),
            port: SENTINEL_PORT,
            dir: PathBuf::from("."),
            logfile: None,
            loglevel: LogLevel::Notice,
            pidfile: None,
            tcp_backlog: 511,
            tcp_keepalive_s: 300,
            timeout_s: 0,
            maxclients: 10_000,
            requirepass: None,
            users: Vec::new(),
            acl_file: None,
            acl_all_channels: false,
            acllog_max_len: 128,
            renamed_commands: BTreeMap::new(),
            announce_ip: None,
            announce_port: None,
            resolve_hostnames: false,
            announce_hostnames: false,
            sentinel_user: None,
            sentinel_pass: None,
            deny_scripts_reconfig: true,
            hello_key: None,
            transport: Transport::default(),
            process: ProcessSettings::default(),
        }
    }
}

/// Those of [`SentinelSettings`] that may change while the process runs: `SENTINEL CONFIG SET`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveSettings {
    /// `sentinel resolve-hostnames`.
    pub resolve_hostnames: bool,
    /// `sentinel announce-hostnames`.
    pub announce_hostnames: bool,
    /// `sentinel announce-ip`; `None` where it is unset.
    pub announce_ip: Option<String>,
    /// `sentinel announce-port`; `None` where it is unset.
    pub announce_port: Option<u16>,
    /// `sentinel sentinel-user`.
    pub sentinel_user: Option<String>,
    /// `sentinel sentinel-pass`.
    pub sentinel_pass: Option<Secret>,
    /// `loglevel`.
    pub loglevel: LogLevel,
}

impl SentinelSettings {
    /// What of these settings may change while the process runs.
    pub fn live(&self) -> LiveSettings {
        LiveSettings {
            resolve_hostnames: self.resolve_hostnames,
            announce_hostnames: self.announce_hostnames,
            announce_ip: self.announce_ip.clone(),
            announce_port: self.announce_port,
            sentinel_user: self.sentinel_user.clone(),
            sentinel_pass: self.sentinel_pass.clone(),
            loglevel: self.loglevel,
        }
    }

    /// Takes them over.
    pub fn set_live(&mut self, live: LiveSettings) {
        let LiveSettings { resolve_hostnames, announce_hostnames, announce_ip, .. } = live;
        let LiveSettings { announce_port, sentinel_user, sentinel_pass, loglevel, .. } = live;
        self.resolve_hostnames = resolve_hostnames;
        self.announce_hostnames = announce_hostnames;
        self.announce_ip = announce_ip;
        self.announce_port = announce_port;
        self.sentinel_user = sentinel_user;
        self.sentinel_pass = sentinel_pass;
        self.loglevel = loglevel;
    }
}

/// One master group as configured: `sentinel monitor` and its per-master directives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupSettings {
    /// Where the master is (in a running sentinel: where it is now).
    pub master: Address,
    /// How many sentinels must agree that the master is down; at least 1.
    pub quorum: u32,
    /// `down-after-milliseconds`, above 0.
    pub down_after_ms: u64,
    /// `failover-timeout`, in ms, above 0.
    pub failover_timeout_ms: u64,
    /// `parallel-syncs`, above 0.
    pub parallel_syncs: u32,
    /// `auth-user` for the master and its replicas; as [`decode`](super::bytes::decode) has it.
    pub auth_user: Option<String>,
    /// `auth-pass` for the master and its replicas.
    pub auth_pass: Option<Secret>,
    /// `notification-script`.
    pub notification_script: Option<PathBuf>,
    /// `client-reconfig-script`.
    pub client_reconfig_script: Option<PathBuf>,
    /// `rename-command`: upper-case original name to the name the nodes use.
    pub rename_commands: BTreeMap<String, String>,
    /// `master-reboot-down-after-period`, in ms; 0 means that a loading master is never down.
    pub master_reboot_down_after_ms: u64,
    /// Our own: a node whose host answers and whose port refuses all connections for so long, in
    /// ms, is down, whatever `down_after_ms`; 0: that says nothing.
    #[serde(default)]
    pub refused_after_ms: u64,
    /// Our own: three failovers of a dead master may follow one another, and then one in so long,
    /// in ms; 0: as many as it takes.
    #[serde(default = "default_flap_pause_ms")]
    pub flap_pause_ms: u64,
}

fn default_flap_pause_ms() -> u64 {
    FLAP_PAUSE_MS
}

impl GroupSettings {
    /// A group with Sentinel's defaults.
    pub fn new(master: Address, quorum: u32) -> GroupSettings {
        GroupSettings {
            master,
            quorum,
            down_after_ms: DOWN_AFTER_MS,
            failover_timeout_ms: FAILOVER_TIMEOUT_MS,
            parallel_syncs: PARALLEL_SYNCS,
            auth_user: None,
            auth_pass: None,
            notification_script: None,
            client_reconfig_script: None,
            rename_commands: BTreeMap::new(),
            master_reboot_down_after_ms: 0,
            refused_after_ms: 0,
            flap_pause_ms: FLAP_PAUSE_MS,
        }
    }
}
