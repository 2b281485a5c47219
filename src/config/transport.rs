//! Settings of listeners, links and the process: TLS, the Unix socket, protected mode, supervision
//! and syslog; and what they lack as a whole. Redis's directive of the same name is meant
//! throughout.

use std::net::IpAddr;
use std::path::PathBuf;

use super::ciphers::{self, Suite};
use super::diagnostic::{Diagnostic, Severity};
use super::settings::SentinelSettings;
use super::types::Secret;

/// `pidfile` of a daemonized process where nothing is said.
pub const PID_FILE: &str = "/var/run/redis.pid";

/// Where a sentinel listens beside `port`, whom it lets in, and how its links leave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transport {
    /// All of `tls-*`.
    pub tls: TlsSettings,
    /// `unixsocket`.
    pub unix: UnixSettings,
    /// `protected-mode`: without a password only this machine is let in.
    pub protected_mode: bool,
    /// `bind-source-addr`: the address that outgoing links leave from.
    pub bind_source: Option<IpAddr>,
}

/// `tls-*`.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsSettings {
    /// `tls-port`: 0 for none.
    pub port: u16,
    /// `tls-replication`: links to nodes and other sentinels speak TLS.
    pub links: bool,
    /// What is shown to clients, and to nodes where `client` is empty.
    pub server: KeyPair,
    /// `tls-client-cert-file` and its key: what is shown to nodes and other sentinels.
    pub client: KeyPair,
    /// `tls-ca-cert-file`.
    pub ca_file: Option<PathBuf>,
    /// `tls-ca-cert-dir`.
    pub ca_dir: Option<PathBuf>,
    /// `tls-auth-clients`.
    pub auth_clients: AuthClients,
    /// `tls-protocols`.
    pub versions: TlsVersions,
    /// `tls-ciphers`, in order; at first all.
    pub ciphers: Vec<Suite>,
    /// `tls-ciphersuites`, in order; at first all.
    pub ciphersuites: Vec<Suite>,
    /// `tls-prefer-server-ciphers`.
    pub prefer_server_ciphers: bool,
    /// `tls-session-caching`.
    pub session_caching: bool,
    /// `tls-session-cache-size`, in sessions; `None` where nothing is said, 0 for no limit.
    pub session_cache_size: Option<u32>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        TlsSettings {
            port: 0,
            links: false,
            server: KeyPair::default(),
            client: KeyPair::default(),
            ca_file: None,
            ca_dir: None,
            auth_clients: AuthClients::Yes,
            versions: TlsVersions { v12: true, v13: true },
            ciphers: ciphers::TLS12.to_vec(),
            ciphersuites: ciphers::TLS13.to_vec(),
            prefer_server_ciphers: false,
            session_caching: true,
            session_cache_size: None,
        }
    }
}

impl TlsSettings {
    /// Whether anything speaks TLS.
    pub fn is_used(&self) -> bool {
        self.port != 0 || self.links
    }
}

/// A certificate (its chain behind it) and the private key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyPair {
    /// `tls-cert-file`, `tls-client-cert-file`.
    pub cert_file: Option<PathBuf>,
    /// `tls-key-file`, `tls-client-key-file`.
    pub key_file: Option<PathBuf>,
    /// `tls-key-file-pass`, `tls-client-key-file-pass`: opens an encrypted key.
    pub key_pass: Option<Secret>,
}

/// `tls-auth-clients`: whether clients must show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AuthClients {
    /// They are not asked.
    No,
    /// If they show one it must be good.
    Optional,
    /// They must.
    #[default]
    Yes,
}

/// `tls-protocols`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    /// TLSv1.2
    pub v12: bool,
    /// TLSv1.3
    pub v13: bool,
}

/// `unixsocket` and what goes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixSettings {
    /// `unixsocket`
    pub path: Option<PathBuf>,
    /// `unixsocketperm`; `None` leaves it to the umask.
    pub mode: Option<u32>,
    /// `unixsocketgroup` of Valkey: a name or number.
    pub group: Option<String>,
}

/// How the process lives among others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessSettings {
    /// `daemonize`
    pub daemonize: bool,
    /// `supervised`
    pub supervised: Supervised,
    /// `syslog-enabled`
    pub syslog: bool,
    /// `syslog-ident`; `None` for `redis`.
    pub syslog_ident: Option<String>,
    /// `syslog-facility`
    pub syslog_facility: Facility,
}

/// `supervised`: who wants to be told that the start is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Supervised {
    /// Nobody.
    #[default]
    No,
    /// systemd, by the socket `$NOTIFY_SOCKET`.
    Systemd,
    /// systemd if `$NOTIFY_SOCKET` is set.
    Auto,
}

/// `syslog-facility`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facility {
    /// `user`
    User,
    /// `local0` to `local7`
    Local(u8),
}

impl Default for Facility {
    fn default() -> Self {
        Facility::Local(0)
    }
}

impl Facility {
    /// The facility of this name, in any case.
    pub fn parse(name: &str) -> Option<Facility> {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("local") {
            Some(digit) => {
                digit.parse().ok().filter(|d| *d < 8 && digit.len() == 1).map(Facility::Local)
            }
            None => (name == "user").then_some(Facility::User),
        }
    }

    /// Its number in the protocol of syslog.
    pub fn code(self) -> u8 {
        match self {
            Facility::User => 1,
            Facility::Local(digit) => 16 + digit,
        }
    }
}

impl SentinelSettings {
    /// The port that this sentinel is known by: `port`, or `tls-port` where that is off; 0 where
    /// there is only a Unix socket.
    pub fn main_port(&self) -> u16 {
        if self.port == 0 { self.transport.tls.port } else { self.port }
    }

    /// The port that hello messages announce, 0 if others cannot reach us: `announce-port`, or
    /// `tls-port` where links speak TLS (`tls-replication`), or the main one.
    pub fn hello_port(&self) -> u16 {
        let tls = &self.transport.tls;
        let own = if tls.links && tls.port != 0 { tls.port } else { self.main_port() };
        self.announce_port.filter(|port| *port != 0).unwrap_or(own)
    }
}

/// What is wrong with the settings as a whole: each finding with the directive that it is about.
pub(super) fn findings(settings: &SentinelSettings) -> Vec<(&'static str, Diagnostic)> {
    let mut found = Vec::new();
    let mut report = |about, severity, message: &str, help: &str| {
        found.push((about, Diagnostic::new(severity, message).help(help)));
    };
    use Severity::{Error, Warning};
    let Transport { tls, unix, .. } = &settings.transport;
    let has = |file: &Option<PathBuf>| file.is_some();
    match (settings.port, tls.port, &unix.path) {
        (0, 0, None) => report(
            "port",
            Error,
            "Configured to not listen anywhere, exiting.",
            "give a 'port' (26379 is usual), a 'tls-port', or a 'unixsocket'",
        ),
        (0, 0, Some(_)) if settings.announce_port.is_none() => report(
            "port",
            Warning,
            "Other sentinels cannot reach this one, which listens on a Unix socket only",
            "give a 'port' or a 'tls-port'; alone it is no quorum",
        ),
        (port, tls_port, _) if port == tls_port => report(
            "tls-port",
            Error,
            "'port' and 'tls-port' are the same",
            "give TLS a port of its own, or set 'port 0'",
        ),
        (0, _, _) if !tls.links => report(
            "tls-port",
            Warning,
            "This sentinel listens with TLS only, but its links to nodes and others are without",
            "set 'tls-replication yes', here and on every other sentinel of its groups",
        ),
        _ => {}
    }
    if tls.port != 0 && !has(&tls.server.cert_file) {
        let help = "give 'tls-cert-file' and 'tls-key-file', which clients are shown";
        report("tls-port", Error, "No tls-cert-file configured!", help);
    }
    for (pair, cert, key, lacks_cert, lacks_key) in [
        (
            &tls.server,
            "tls-cert-file",
            "tls-key-file",
            "No tls-cert-file configured!",
            "No tls-key-file configured!",
        ),
        (
            &tls.client,
            "tls-client-cert-file",
            "tls-client-key-file",
            "No tls-client-cert-file configured!",
            "No tls-client-key-file configured!",
        ),
    ] {
        let help = "a certificate and its private key go together";
        match (has(&pair.cert_file), has(&pair.key_file)) {
            (true, false) if tls.is_used() => report(cert, Error, lacks_key, help),
            (false, true) if tls.is_used() => report(key, Error, lacks_cert, help),
            _ => {}
        }
    }
    let checks = tls.links || (tls.port != 0 && tls.auth_clients != AuthClients::No);
    if checks && !has(&tls.ca_file) && !has(&tls.ca_dir) {
        report(
            if tls.port != 0 { "tls-port" } else { "tls-replication" },
            Error,
            "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-replication or \
             tls-auth-clients are enabled!",
            "give the certificates of those who may sign for others, or set 'tls-auth-clients no' \
             where only clients speak TLS",
        );
    }
    found
}
