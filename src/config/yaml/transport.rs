//! TLS, the Unix socket, protected mode, supervision and syslog in YAML: the settings that
//! `sentinel_conf/transport.rs` reads in Redis's words.

use std::net::IpAddr;
use std::path::PathBuf;

use super::super::ciphers::{self, Suite};
use super::super::diagnostic::Diagnostic;
use super::super::sentinel_conf::tls_versions;
use super::super::settings::SentinelSettings;
use super::super::transport::{AuthClients, Facility, KeyPair, Supervised, TlsVersions};
use super::node::{self, Lines, Node, Value};
use super::{Reader, Section};

const TLS: &[&str] = &[
    "cert_file",
    "key_file",
    "key_password",
    "key_password_file",
    "key_password_env",
    "client_cert_file",
    "client_key_file",
    "client_key_password",
    "client_key_password_file",
    "client_key_password_env",
    "ca_file",
    "ca_dir",
    "auth_clients",
    "links",
    "protocols",
    "ciphers",
    "ciphersuites",
    "prefer_server_ciphers",
    "session_caching",
    "session_cache_size",
];

/// Redis's directives about which something is found by more than their own line, with the section
/// and the key that mean the same here.
const PLACES: &[(&str, &str, &str)] = &[
    ("port", "listen", "port"),
    ("tls-port", "listen", "tls_port"),
    ("unixsocket", "listen", "unix_socket"),
    ("unixsocketgroup", "listen", "unix_socket_group"),
    ("tls-cert-file", "tls", "cert_file"),
    ("tls-key-file", "tls", "key_file"),
    ("tls-client-cert-file", "tls", "client_cert_file"),
    ("tls-client-key-file", "tls", "client_key_file"),
    ("tls-ca-cert-file", "tls", "ca_file"),
    ("tls-ca-cert-dir", "tls", "ca_dir"),
    ("tls-replication", "tls", "links"),
];

/// Gives a finding about one of Redis's directives the place of what means the same in this text.
pub(in super::super) fn point(text: &str, directive: &str, finding: Diagnostic) -> Diagnostic {
    let child = |node: &Node, name: &str| match &node.value {
        Value::Map(entries) => entries.iter().position(|(key, _)| key.name == name),
        _ => None,
    };
    let entry = |node: Node, at: usize| match node.value {
        Value::Map(mut entries) => Some(entries.swap_remove(at).1),
        _ => None,
    };
    let place = || {
        let (_, section, key) = PLACES.iter().find(|(name, ..)| *name == directive)?;
        let root = node::parse(text).ok()?;
        let section = child(&root, section).and_then(|at| entry(root, at))?;
        let value = child(&section, key).and_then(|at| entry(section, at))?;
        Some(value.place)
    };
    match place() {
        Some(place) => Lines::of(text).point(finding, place),
        None => finding,
    }
}

impl Reader<'_> {
    pub(super) fn transport(
        &mut self,
        top: &Section<'_>,
        listen: &Section<'_>,
        log: &Section<'_>,
        settings: &mut SentinelSettings,
    ) {
        if let Some(node) = top.get("tls") {
            let tls = self.section(node, "tls", TLS);
            self.tls(&tls, settings);
        }
        let transport = &mut settings.transport;
        let unix = &mut transport.unix;
        self.set(listen, "tls_port", Self::port_or_none, |port| transport.tls.port = port);
        self.set(listen, "unix_socket", Self::path, |path| unix.path = Some(path));
        self.set(listen, "unix_socket_mode", Self::unix_mode, |mode| unix.mode = Some(mode));
        self.set(listen, "unix_socket_group", Self::text, |group| unix.group = Some(group));
        self.set(listen, "protected_mode", Self::flag, |on| transport.protected_mode = on);
        self.set(top, "bind_source", Self::ip, |ip| transport.bind_source = Some(ip));
        let process = &mut settings.process;
        self.set(top, "daemonize", Self::flag, |on| process.daemonize = on);
        self.set(top, "supervised", Self::supervised, |by| process.supervised = by);
        self.set(log, "syslog", Self::flag, |on| process.syslog = on);
        self.set(log, "syslog_ident", Self::text, |ident| process.syslog_ident = Some(ident));
        self.set(log, "syslog_facility", Self::facility, |f| process.syslog_facility = f);
    }

    fn tls(&mut self, section: &Section<'_>, settings: &mut SentinelSettings) {
        let tls = &mut settings.transport.tls;
        let file = |reader: &mut Self, key: &'static str| -> Option<PathBuf> {
            let mut found = None;
            reader.set(section, key, Self::path, |path| found = Some(path));
            found
        };
        tls.server = KeyPair {
            cert_file: file(self, "cert_file"),
            key_file: file(self, "key_file"),
            key_pass: self
                .secret(section, ["key_password", "key_password_file", "key_password_env"]),
        };
        let client = ["client_key_password", "client_key_password_file", "client_key_password_env"];
        tls.client = KeyPair {
            cert_file: file(self, "client_cert_file"),
            key_file: file(self, "client_key_file"),
            key_pass: self.secret(section, client),
        };
        tls.ca_file = file(self, "ca_file");
        tls.ca_dir = file(self, "ca_dir");
        self.set(section, "auth_clients", Self::auth_clients, |who| tls.auth_clients = who);
        self.set(section, "links", Self::flag, |on| tls.links = on);
        self.set(section, "protocols", Self::protocols, |versions| tls.versions = versions);
        self.set(section, "ciphers", Self::ciphers, |suites| tls.ciphers = suites);
        self.set(section, "ciphersuites", Self::ciphersuites, |suites| {
            tls.ciphersuites = suites;
        });
        self.set(section, "prefer_server_ciphers", Self::flag, |on| {
            tls.prefer_server_ciphers = on;
        });
        self.set(section, "session_caching", Self::flag, |on| tls.session_caching = on);
        self.set(section, "session_cache_size", Self::count, |size| {
            tls.session_cache_size = Some(size);
        });
    }

    fn unix_mode(&mut self, node: &Node) -> Option<u32> {
        let mode = u32::from_str_radix(&self.text(node)?, 8).ok();
        mode.filter(|mode| (1..=0o777).contains(mode)).or_else(|| {
            let help = "write three octal digits: 770 lets the owner and the group in";
            self.refuse(node.place, "Invalid socket file permissions", help)
        })
    }

    fn ip(&mut self, node: &Node) -> Option<IpAddr> {
        self.text(node)?.parse().ok().or_else(|| {
            let help = "give an address of this machine, from which links shall leave";
            self.refuse(node.place, "this is not an IP address", help)
        })
    }

    fn supervised(&mut self, node: &Node) -> Option<Supervised> {
        match self.text(node)?.to_ascii_lowercase().as_str() {
            "no" | "false" => Some(Supervised::No),
            "systemd" => Some(Supervised::Systemd),
            "auto" => Some(Supervised::Auto),
            _ => self.refuse(node.place, "nobody supervises by this name", "no, systemd, or auto"),
        }
    }

    fn facility(&mut self, node: &Node) -> Option<Facility> {
        Facility::parse(&self.text(node)?).or_else(|| {
            self.refuse(node.place, "syslog has no such facility here", "user, local0 to local7")
        })
    }

    fn auth_clients(&mut self, node: &Node) -> Option<AuthClients> {
        match self.text(node)?.to_ascii_lowercase().as_str() {
            "yes" | "true" => Some(AuthClients::Yes),
            "no" | "false" => Some(AuthClients::No),
            "optional" => Some(AuthClients::Optional),
            _ => self.refuse(node.place, "this is no way to ask clients", "yes, no, or optional"),
        }
    }

    /// `[TLSv1.2, TLSv1.3]`, or one of them.
    fn protocols(&mut self, node: &Node) -> Option<TlsVersions> {
        let words = match &node.value {
            Value::List(items) => {
                items.iter().filter_map(|item| self.text(item)).collect::<Vec<_>>().join(" ")
            }
            _ => self.text(node)?,
        };
        tls_versions(&words)
            .map_err(|help| self.error(node.place, "Invalid TLS version", help))
            .ok()
    }

    fn ciphers(&mut self, node: &Node) -> Option<Vec<Suite>> {
        let list = self.text(node)?;
        let chosen = ciphers::tls12(&list);
        chosen.map_err(|help| self.error(node.place, "this list is not usable", help)).ok()
    }

    fn ciphersuites(&mut self, node: &Node) -> Option<Vec<Suite>> {
        let list = self.text(node)?;
        let chosen = ciphers::tls13(&list);
        chosen.map_err(|help| self.error(node.place, "this list is not usable", help)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::read_text;
    use super::*;

    #[test]
    fn everything_has_its_name_here() {
        let text = "
listen:
  port: 0
  tls_port: 26380
  unix_socket: /run/s
  unix_socket_mode: '0770'
  unix_socket_group: redis
  protected_mode: yes
tls:
  cert_file: /c
  key_file: /k
  key_password: '0123'
  client_cert_file: /cc
  client_key_file: /ck
  ca_file: /ca
  ca_dir: /cas
  auth_clients: optional
  links: true
  protocols: [TLSv1.3]
  ciphers: ECDHE
  ciphersuites: TLS_AES_256_GCM_SHA384
  prefer_server_ciphers: true
  session_caching: false
  session_cache_size: 9
bind_source: 10.0.0.1
daemonize: true
supervised: auto
log: {syslog: yes, syslog_ident: me, syslog_facility: local1}
groups: {a: {master: '127.0.0.1:1', quorum: 1}}
";
        let (settings, _, found) = read_text(text);
        assert!(!found.iter().any(Diagnostic::is_error), "{found:?}");
        let transport = &settings.transport;
        assert_eq!((settings.port, transport.tls.port), (0, 26380));
        assert_eq!(transport.unix.path.as_deref(), Some(Path::new("/run/s")));
        assert_eq!((transport.unix.mode, transport.protected_mode), (Some(0o770), true));
        assert_eq!(transport.unix.group.as_deref(), Some("redis"));
        let tls = &transport.tls;
        assert_eq!(tls.server.key_pass.as_ref().map(|pass| pass.reveal()), Some("0123"));
        assert_eq!(tls.client.key_file.as_deref(), Some(Path::new("/ck")));
        assert_eq!((tls.auth_clients, tls.links), (AuthClients::Optional, true));
        assert_eq!(tls.versions, TlsVersions { v12: false, v13: true });
        assert_eq!(tls.session_cache_size, Some(9));
        assert_eq!(transport.bind_source, "10.0.0.1".parse().ok());
        assert!(settings.process.daemonize && settings.process.syslog);
        assert_eq!(settings.process.supervised, Supervised::Auto);
        assert_eq!(settings.process.syslog_facility, Facility::Local(1));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let text = "listen: {unix_socket_mode: 9, tls_port: x}\n\
                    tls: {protocols: [TLSv1], ciphers: RC4, key_password: hunter2, links: 5}\n\
                    supervised: launchd\nbind_source: here\n\
                    groups: {a: {master: '127.0.0.1:1', quorum: 1}}\n";
        let (_, _, found) = read_text(text);
        let found: Vec<_> = found.iter().filter(|d| d.is_error()).collect();
        let lines: Vec<usize> = found.iter().map(|d| d.line).collect();
        assert_eq!(lines, [1, 1, 2, 2, 2, 3, 4], "{found:?}");
        let shown: String = found.iter().map(ToString::to_string).collect();
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_directive_of_redis_is_found_where_it_stands_here() {
        let text = "listen: {tls_port: 1}\ntls:\n  cert_file: /gone\n";
        let placed = point(text, "tls-cert-file", Diagnostic::error("x"));
        assert_eq!((placed.line, placed.column), (3, 14));
        assert_eq!(point(text, "tls-key-file", Diagnostic::error("x")).line, 0);
    }
}
