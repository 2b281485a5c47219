//! The directives that a sentinel shares with a data node. Those that mean nothing to a sentinel
//! are accepted, as Redis does, and noted; `transport` and `users` read those of their kind.

use std::path::PathBuf;

use super::super::rules::closest;
use super::super::settings::LogLevel;
use super::super::types::Secret;
use super::{Fault, Reader};

impl Reader<'_> {
    /// A directive other than `sentinel`; `words` begins with its name.
    pub(super) fn general(&mut self, name: &str, words: &[&str]) -> Result<(), Fault> {
        if !is_known(name) {
            let fault = Fault::new(0, "Bad directive or wrong number of arguments");
            return Err(match closest(name, ACTED_ON.iter().chain(SERVER_ONLY).copied()) {
                Some(meant) => fault.help(format!("did you mean '{meant}'?")),
                None => fault.help("no version of Redis or Valkey has this directive"),
            });
        }
        let single = ACTED_ON.contains(&name) && !SEVERAL_VALUES.contains(&name);
        if words.len() < 2 || (single && words.len() > 2) {
            let help = format!("'{name}' takes {}", if single { "one value" } else { "a value" });
            return Err(Fault::new(2, "wrong number of arguments").help(help));
        }
        let value = words[1];
        match name {
            "bind" => self.bind(&words[1..]),
            "port" => {
                let port = integer(value, 0, 65_535)?;
                self.settings.port = port as u16;
                Ok(())
            }
            "maxclients" => {
                self.settings.maxclients = integer(value, 1, u64::from(u32::MAX))? as u32;
                Ok(())
            }
            "tcp-backlog" => {
                self.settings.tcp_backlog = integer(value, 0, INT_MAX)? as u32;
                Ok(())
            }
            "tcp-keepalive" => {
                self.settings.tcp_keepalive_s = integer(value, 0, INT_MAX)?;
                Ok(())
            }
            "timeout" => {
                self.settings.timeout_s = integer(value, 0, INT_MAX)?;
                Ok(())
            }
            "loglevel" => {
                self.settings.loglevel = LogLevel::parse(value).ok_or_else(|| {
                    let levels = "debug, verbose, notice, warning, nothing";
                    Fault::new(1, format!("argument(s) must be one of the following: {levels}"))
                })?;
                Ok(())
            }
            "dir" if value.is_empty() => Err(Fault::new(1, "No such file or directory")),
            "dir" => {
                self.settings.dir = PathBuf::from(value);
                Ok(())
            }
            "logfile" => {
                self.settings.logfile = path(value);
                Ok(())
            }
            "pidfile" => {
                self.settings.pidfile = path(value);
                Ok(())
            }
            "requirepass" => {
                self.settings.requirepass =
                    Some(Secret::new(value)).filter(|s| !s.reveal().is_empty());
                Ok(())
            }
            _ => match self.transport(name, value) {
                Some(outcome) => outcome,
                None => self.others(name, words),
            },
        }
    }

    fn bind(&mut self, addresses: &[&str]) -> Result<(), Fault> {
        if let Some(at) = addresses.iter().position(|a| a.trim_start_matches('-').is_empty()) {
            return Err(Fault::new(at + 1, "bind needs an address")
                .help("give addresses of this machine, 127.0.0.1 for local use, or * for all"));
        }
        self.settings.bind = addresses.iter().map(|&a| a.to_owned()).collect();
        Ok(())
    }

    /// Directives that other rooms read, and those that mean nothing.
    fn others(&mut self, name: &str, words: &[&str]) -> Result<(), Fault> {
        match name {
            "user" | "aclfile" | "acllog-max-len" | "acl-pubsub-default" | "rename-command" => {
                return self.access(name, words);
            }
            // Redis writes it into every file.
            "latency-tracking-info-percentiles" => {}
            name if ACTED_ON.contains(&name) => {
                self.report(Fault::note(0, format!("'{name}' is accepted, and changes nothing")));
            }
            name => self.report(Fault::note(0, format!("'{name}' means nothing to a sentinel"))),
        }
        Ok(())
    }
}

/// Largest number of Redis's integer directives.
pub(super) const INT_MAX: u64 = 2_147_483_647;

pub(super) fn integer(text: &str, min: u64, max: u64) -> Result<u64, Fault> {
    // As Redis reads it: no plus sign, no leading zeros.
    let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    let Some(number) = number else {
        return Err(Fault::new(1, "argument couldn't be parsed into an integer")
            .help(format!("write a number from {min} to {max}")));
    };
    let number = u64::try_from(number).ok().filter(|n| (min..=max).contains(n));
    number
        .ok_or_else(|| Fault::new(1, format!("argument must be between {min} and {max} inclusive")))
}

pub(super) fn not_yes_or_no() -> Fault {
    Fault::new(1, "argument must be 'yes' or 'no'")
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn is_known(name: &str) -> bool {
    let replica = name.replace("slave", "replica");
    let known = |n: &str| ACTED_ON.contains(&n) || SERVER_ONLY.contains(&n);
    // The settings of modules have a dot in their names: `search.timeout`.
    known(name) || known(&replica) || (name.contains('.') && !name.starts_with('.'))
}

/// Those of [`ACTED_ON`] that take more than one value.
const SEVERAL_VALUES: &[&str] = &["bind", "user", "rename-command"];

/// Directives that mean something to a sentinel, whether or not this version follows them.
#[rustfmt::skip]
const ACTED_ON: &[&str] = &[
    "bind", "port", "dir", "logfile", "loglevel", "pidfile", "maxclients", "requirepass",
    "daemonize", "protected-mode", "user", "aclfile", "rename-command", "unixsocket",
    "bind-source-addr", "tcp-backlog", "tcp-keepalive", "timeout", "supervised",
    "unixsocketperm", "unixsocketgroup", "syslog-enabled", "syslog-ident", "syslog-facility",
    "acllog-max-len", "acl-pubsub-default", "crash-log-enabled", "set-proc-title",
    "proc-title-template", "tls-auth-clients", "tls-auth-clients-user", "tls-ca-cert-dir",
    "tls-ca-cert-file", "tls-cert-file", "tls-ciphers", "tls-ciphersuites",
    "tls-client-cert-file", "tls-client-key-file", "tls-client-key-file-pass", "tls-cluster",
    "tls-dh-params-file", "tls-key-file", "tls-key-file-pass", "tls-port",
    "tls-prefer-server-ciphers", "tls-protocols", "tls-replication", "tls-session-cache-size",
    "tls-session-cache-timeout", "tls-session-caching",
];

/// Directives of a data node, in Redis 7 or Valkey 8, that a sentinel only has to accept; `slave`
/// spellings count too.
#[rustfmt::skip]
const SERVER_ONLY: &[&str] = &[
    "active-defrag-cycle-max", "active-defrag-cycle-min", "active-defrag-ignore-bytes",
    "active-defrag-max-scan-fields", "active-defrag-threshold-lower",
    "active-defrag-threshold-upper", "active-expire-effort", "activedefrag", "activerehashing",
    "always-show-logo", "aof-disable-auto-gc", "aof-load-truncated", "aof-rewrite-cpulist",
    "aof-rewrite-incremental-fsync", "aof-timestamp-enabled", "aof-use-rdb-preamble",
    "aof_rewrite_cpulist", "appenddirname", "appendfilename", "appendfsync", "appendonly",
    "auto-aof-rewrite-min-size", "auto-aof-rewrite-percentage", "availability-zone",
    "bgsave-cpulist", "bgsave_cpulist", "bio-cpulist", "bio_cpulist", "busy-reply-threshold",
    "client-default-resp", "client-output-buffer-limit", "client-query-buffer-limit",
    "cluster-allow-pubsubshard-when-down", "cluster-allow-reads-when-down",
    "cluster-allow-replica-migration", "cluster-announce-bus-port", "cluster-announce-client-ipv4",
    "cluster-announce-client-ipv6", "cluster-announce-hostname", "cluster-announce-human-nodename",
    "cluster-announce-ip", "cluster-announce-port", "cluster-announce-tls-port",
    "cluster-config-file", "cluster-databases", "cluster-enabled", "cluster-link-sendbuf-limit",
    "cluster-migration-barrier", "cluster-node-timeout", "cluster-ping-interval", "cluster-port",
    "cluster-preferred-endpoint-type", "cluster-replica-no-failover",
    "cluster-replica-validity-factor", "cluster-require-full-coverage",
    "cluster-slot-stats-enabled", "commandlog-execution-slower-than",
    "commandlog-large-reply-max-len", "commandlog-large-request-max-len",
    "commandlog-reply-larger-than", "commandlog-request-larger-than",
    "commandlog-slow-execution-max-len", "crash-memcheck-enabled", "databases", "dbfilename",
    "debug-assert-enabled", "disable-thp", "dual-channel-replication-enabled", "dynamic-hz",
    "enable-debug-command", "enable-module-command", "enable-protected-configs",
    "events-per-io-thread", "extended-redis-compatibility", "gopher-enabled",
    "hash-max-listpack-entries", "hash-max-listpack-value", "hash-max-ziplist-entries",
    "hash-max-ziplist-value", "hide-user-data-from-log", "hll-sparse-max-bytes", "hz",
    "ignore-warnings", "import-mode", "io-threads", "io-threads-do-reads", "jemalloc-bg-thread",
    "key-load-delay", "latency-monitor-threshold", "latency-tracking",
    "latency-tracking-info-percentiles", "lazyfree-lazy-eviction", "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del", "lazyfree-lazy-user-del", "lazyfree-lazy-user-flush",
    "lfu-decay-time", "lfu-log-factor", "list-compress-depth", "list-max-listpack-size",
    "list-max-ziplist-entries", "list-max-ziplist-size", "list-max-ziplist-value",
    "loading-process-events-interval-bytes", "loadmodule", "locale-collate", "log-format",
    "log-timestamp-format", "lua-enable-deprecated-api", "lua-enable-insecure-api",
    "lua-replicate-commands", "lua-time-limit", "masterauth", "masteruser",
    "max-new-connections-per-cycle", "max-new-tls-connections-per-cycle", "maxmemory",
    "maxmemory-clients", "maxmemory-eviction-tenacity", "maxmemory-policy", "maxmemory-samples",
    "min-replicas-max-lag", "min-replicas-to-write", "mptcp", "no-appendfsync-on-rewrite",
    "notify-keyspace-events", "oom-score-adj", "oom-score-adj-values", "prefetch-batch-max-size",
    "primaryauth", "primaryuser", "propagation-error-behavior", "proto-max-bulk-len",
    "rdb-del-sync-files", "rdb-key-save-delay", "rdb-save-incremental-fsync", "rdb-version-check",
    "rdbchecksum", "rdbcompression", "repl-backlog-size", "repl-backlog-ttl",
    "repl-disable-tcp-nodelay", "repl-diskless-load", "repl-diskless-sync",
    "repl-diskless-sync-delay", "repl-diskless-sync-max-replicas", "repl-mptcp",
    "repl-ping-replica-period", "repl-timeout", "replica-announce-ip", "replica-announce-port",
    "replica-announced", "replica-ignore-disk-write-errors", "replica-ignore-maxmemory",
    "replica-lazy-flush", "replica-priority", "replica-read-only", "replica-serve-stale-data",
    "replicaof", "req-res-logfile", "sanitize-dump-payload", "save", "server-cpulist",
    "server_cpulist", "set-max-intset-entries", "set-max-listpack-entries",
    "set-max-listpack-value", "shutdown-on-sigint", "shutdown-on-sigterm", "shutdown-timeout",
    "slowlog-log-slower-than", "slowlog-max-len", "socket-mark-id", "stop-writes-on-bgsave-error",
    "stream-node-max-bytes", "stream-node-max-entries", "tracking-table-max-keys",
    "use-exit-on-panic", "watchdog-period", "zset-max-listpack-entries", "zset-max-listpack-value",
    "zset-max-ziplist-entries", "zset-max-ziplist-value",
];
