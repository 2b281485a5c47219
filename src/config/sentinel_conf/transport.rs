//! The directives of listeners, links and the process: TLS, the Unix socket, protected mode,
//! daemonize, supervision, syslog. What they lack as a whole is found by
//! [`transport::findings`](super::super::transport).

use std::net::IpAddr;

use super::super::ciphers;
use super::super::transport::{AuthClients, Facility, KeyPair, Supervised, TlsVersions};
use super::super::types::Secret;
use super::general::{INT_MAX, integer, not_yes_or_no, path};
use super::{Fault, Reader, yes_no};

impl Reader<'_> {
    /// Reads one of these directives; `None` if it is none of them.
    pub(super) fn transport(&mut self, name: &str, value: &str) -> Option<Result<(), Fault>> {
        if let Some(name) = name.strip_prefix("tls-") {
            return Some(self.tls(name, value));
        }
        let transport = &mut self.settings.transport;
        let process = &mut self.settings.process;
        let outcome = match name {
            "unixsocket" => set(&mut transport.unix.path, path(value)),
            "unixsocketperm" => unix_mode(value).map(|mode| transport.unix.mode = mode),
            "unixsocketgroup" => set(&mut transport.unix.group, text(value)),
            "protected-mode" => flag(value, &mut transport.protected_mode),
            "bind-source-addr" => source(value).map(|ip| transport.bind_source = ip),
            "daemonize" => flag(value, &mut process.daemonize),
            "supervised" => return Some(self.supervised(value)),
            "syslog-enabled" => flag(value, &mut process.syslog),
            "syslog-ident" => set(&mut process.syslog_ident, text(value)),
            "syslog-facility" => facility(value).map(|facility| process.syslog_facility = facility),
            "crash-log-enabled" | "set-proc-title" | "proc-title-template" => {
                let what = format!("'{name}' is accepted, and changes nothing here");
                self.report(Fault::note(0, what));
                Ok(())
            }
            _ => return None,
        };
        Some(outcome)
    }

    fn tls(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let tls = &mut self.settings.transport.tls;
        let (pair, rest) = match name.strip_prefix("client-") {
            Some(rest) => (&mut tls.client, rest),
            None => (&mut tls.server, name),
        };
        if key_pair(pair, rest, value) {
            return Ok(());
        }
        let refused = |help: String| Fault::new(1, "argument is not usable").help(help);
        match name {
            "port" => tls.port = integer(value, 0, 65_535)? as u16,
            "replication" => return flag(value, &mut tls.links),
            "ca-cert-file" => tls.ca_file = path(value),
            "ca-cert-dir" => tls.ca_dir = path(value),
            "auth-clients" => tls.auth_clients = auth_clients(value)?,
            "protocols" => tls.versions = versions(value)?,
            "ciphers" if value.is_empty() => tls.ciphers = ciphers::TLS12.to_vec(),
            "ciphers" => tls.ciphers = ciphers::tls12(value).map_err(refused)?,
            "ciphersuites" if value.is_empty() => tls.ciphersuites = ciphers::TLS13.to_vec(),
            "ciphersuites" => tls.ciphersuites = ciphers::tls13(value).map_err(refused)?,
            "prefer-server-ciphers" => return flag(value, &mut tls.prefer_server_ciphers),
            "session-caching" => return flag(value, &mut tls.session_caching),
            "session-cache-size" => {
                tls.session_cache_size = Some(integer(value, 0, INT_MAX)? as u32);
            }
            "session-cache-timeout" => {
                integer(value, 0, INT_MAX)?;
                self.report(
                    Fault::note(0, "'tls-session-cache-timeout' is accepted, not acted upon").help(
                        "sessions are forgotten when the cache is full or a certificate changes",
                    ),
                );
            }
            "dh-params-file" => self.report(
                Fault::note(0, "'tls-dh-params-file' means nothing here")
                    .help("keys are exchanged over elliptic curves, which need no parameters"),
            ),
            "auth-clients-user" if !value.eq_ignore_ascii_case("off") => self.report(
                Fault::warning(1, "Users are not taken from certificates in this version")
                    .help("clients log in with AUTH or HELLO"),
            ),
            "auth-clients-user" => {}
            "cluster" => self.report(Fault::note(0, "'tls-cluster' means nothing to a sentinel")),
            name => {
                let what = format!("'tls-{name}' is accepted, and changes nothing");
                self.report(Fault::warning(0, what));
            }
        }
        Ok(())
    }

    fn supervised(&mut self, value: &str) -> Result<(), Fault> {
        self.settings.process.supervised = match value.to_ascii_lowercase().as_str() {
            "no" => Supervised::No,
            "systemd" => Supervised::Systemd,
            "auto" => Supervised::Auto,
            "upstart" => {
                self.report(
                    Fault::note(1, "Upstart is no more, and is told nothing")
                        .help("write 'supervised auto', which tells systemd where it is there"),
                );
                Supervised::No
            }
            _ => {
                return Err(Fault::new(
                    1,
                    "argument(s) must be one of the following: upstart, systemd, auto, no",
                ));
            }
        };
        Ok(())
    }
}

/// `cert-file`, `key-file`, `key-file-pass`; false if it is none of them.
fn key_pair(pair: &mut KeyPair, name: &str, value: &str) -> bool {
    match name {
        "cert-file" => pair.cert_file = path(value),
        "key-file" => pair.key_file = path(value),
        "key-file-pass" => pair.key_pass = text(value).map(Secret::new),
        _ => return false,
    }
    true
}

fn set<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), Fault> {
    *place = value;
    Ok(())
}

fn flag(value: &str, place: &mut bool) -> Result<(), Fault> {
    *place = yes_no(value).ok_or_else(not_yes_or_no)?;
    Ok(())
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// An octal number, 0 to leave the mode alone.
fn unix_mode(value: &str) -> Result<Option<u32>, Fault> {
    // Nothing is 0 for C.
    let digits = if value.is_empty() { "0" } else { value };
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777);
    let mode = mode.ok_or_else(|| {
        Fault::new(1, "Invalid socket file permissions")
            .help("write three octal digits: 770 lets the owner and the group in")
    })?;
    Ok(Some(mode).filter(|mode| *mode != 0))
}

fn source(value: &str) -> Result<Option<IpAddr>, Fault> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| {
        Fault::new(1, "argument must be an IP address")
            .help("give an address of this machine, from which links shall leave")
    })
}

fn facility(value: &str) -> Result<Facility, Fault> {
    Facility::parse(value).ok_or_else(|| {
        let names = "user, local0, local1, local2, local3, local4, local5, local6, local7";
        Fault::new(1, format!("argument(s) must be one of the following: {names}"))
    })
}

fn auth_clients(value: &str) -> Result<AuthClients, Fault> {
    match value.to_ascii_lowercase().as_str() {
        "yes" => Ok(AuthClients::Yes),
        "no" => Ok(AuthClients::No),
        "optional" => Ok(AuthClients::Optional),
        _ => Err(Fault::new(1, "argument(s) must be one of the following: no, yes, optional")),
    }
}

/// `tls-protocols`: names parted by blanks, in one pair of quotes.
pub(in super::super) fn tls_versions(value: &str) -> Result<TlsVersions, &'static str> {
    let mut versions = TlsVersions { v12: false, v13: false };
    for word in value.split_ascii_whitespace() {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1.2" => versions.v12 = true,
            "tlsv1.3" => versions.v13 = true,
            "tlsv1" | "tlsv1.1" => {
                return Err("TLSv1 and TLSv1.1 are broken and not offered: write TLSv1.2, \
                            TLSv1.3, or both in quotes");
            }
            _ => return Err("write TLSv1.2, TLSv1.3, or both in quotes"),
        }
    }
    // An empty value is Redis's default.
    let none = !versions.v12 && !versions.v13;
    Ok(if none { TlsVersions { v12: true, v13: true } } else { versions })
}

fn versions(value: &str) -> Result<TlsVersions, Fault> {
    tls_versions(value).map_err(|help| {
        let message = "Invalid tls-protocols specified. Use a combination of 'TLSv1.2' and \
                       'TLSv1.3'.";
        Fault::new(1, message).help(help)
    })
}

/// The directives whose places in the files are remembered, since more than their own line decides
/// whether they are good.
pub(in super::super) fn is_placed(name: &str) -> bool {
    name.starts_with("tls-") || ["port", "unixsocket", "unixsocketgroup"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::super::super::settings::SentinelSettings;
    use super::super::super::transport::UnixSettings;
    use super::super::tests::{findings, good};
    use super::*;

    fn settings(text: &str) -> SentinelSettings {
        good(text).0
    }

    #[test]
    fn all_of_tls() {
        let tls = settings(
            "tls-port 26380\nTLS-Replication yes\ntls-cert-file /c\ntls-key-file /k\n\
             tls-key-file-pass \"p w\"\ntls-client-cert-file /cc\ntls-client-key-file /ck\n\
             tls-client-key-file-pass cp\ntls-ca-cert-file /ca\ntls-ca-cert-dir /cas\n\
             tls-auth-clients optional\ntls-protocols \"TLSv1.3 tlsv1.2\"\n\
             tls-ciphers ECDHE+CHACHA20\ntls-ciphersuites TLS_AES_128_GCM_SHA256\n\
             tls-prefer-server-ciphers yes\ntls-session-caching no\ntls-session-cache-size 7\n",
        )
        .transport
        .tls;
        assert_eq!((tls.port, tls.links, tls.auth_clients), (26380, true, AuthClients::Optional));
        let pair = |cert: &str, key: &str, pass: &str| KeyPair {
            cert_file: path(cert),
            key_file: path(key),
            key_pass: Some(Secret::new(pass)),
        };
        assert_eq!((tls.server, tls.client), (pair("/c", "/k", "p w"), pair("/cc", "/ck", "cp")));
        assert_eq!((tls.ca_file, tls.ca_dir), (path("/ca"), path("/cas")));
        assert_eq!(tls.versions, TlsVersions { v12: true, v13: true });
        assert_eq!(tls.ciphers.len(), 2);
        assert_eq!(tls.ciphersuites[..], [ciphers::TLS13[2]]);
        assert!(tls.prefer_server_ciphers && !tls.session_caching);
        assert_eq!(tls.session_cache_size, Some(7));
    }

    #[test]
    fn the_socket_and_the_process() {
        let settings = settings(
            "unixsocket /s\nunixsocketperm 0770\nunixsocketgroup redis\nprotected-mode yes\n\
             bind-source-addr ::1\ndaemonize yes\nsupervised AUTO\nsyslog-enabled yes\n\
             syslog-ident me\nsyslog-facility local7\n",
        );
        let group = Some("redis".to_owned());
        let unix = UnixSettings { path: path("/s"), mode: Some(0o770), group };
        assert_eq!(settings.transport.unix, unix);
        assert!(settings.transport.protected_mode);
        assert_eq!(settings.transport.bind_source, "::1".parse().ok());
        let process = settings.process;
        assert!(process.daemonize && process.syslog);
        assert_eq!((process.supervised, process.syslog_facility.code()), (Supervised::Auto, 23));
        assert_eq!(process.syslog_ident.as_deref(), Some("me"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (line, message) in [
            ("tls-port 70000", "error 1:10 argument must be between 0 and 65535 inclusive"),
            ("tls-protocols \"TLSv1.1 TLSv1.2\"", "error 1:15 Invalid tls-protocols specified."),
            ("tls-protocols SSLv3", "error 1:15 Invalid tls-protocols specified."),
            ("tls-auth-clients maybe", "error 1:18 argument(s) must be one of the following: no,"),
            ("tls-ciphers RC4-SHA", "error 1:13 argument is not usable"),
            ("tls-ciphersuites X", "error 1:18 argument is not usable"),
            ("unixsocketperm 9", "error 1:16 Invalid socket file permissions"),
            ("bind-source-addr here", "error 1:18 argument must be an IP address"),
            ("supervised launchd", "error 1:12 argument(s) must be one of the following: upstart"),
            ("syslog-facility mail", "error 1:17 argument(s) must be one of the following: user,"),
            ("supervised upstart", "note 1:12 Upstart is no more"),
            ("tls-session-cache-timeout 5", "note 1:1 'tls-session-cache-timeout' is accepted"),
            ("tls-auth-clients-user CN", "warning 1:23 Users are not taken from certificates"),
        ] {
            let found = findings(line);
            assert!(found.len() == 1 && found[0].starts_with(message), "{line}: {found:?}");
        }
    }

    #[test]
    fn defaults_are_those_of_redis() {
        let settings = SentinelSettings::default();
        let tls = &settings.transport.tls;
        assert!(!settings.transport.protected_mode && !settings.process.daemonize);
        assert_eq!((tls.port, tls.links, tls.auth_clients), (0, false, AuthClients::Yes));
        assert_eq!(settings.process.syslog_facility.code(), 16);
        assert_eq!(settings.transport.unix.path, None);
    }
}
