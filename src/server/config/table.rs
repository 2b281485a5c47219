//! The list of parameters: how each is named, read, shown and written, and whether it may change
//! while the node runs. One line each.

use crate::config::settings::LogLevel;
use crate::config::types::{Address, Secret};

use super::{Config, Memory, OutputLimit, OutputLimits, Words};

/// When a parameter may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Only before the node starts.
    Start,
    /// Also by `CONFIG SET`.
    Always,
}

/// One parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// The old spelling with `slave`, if there is one.
    aliases: &'static [&'static str],
    pub(super) when: When,
    /// The value as `CONFIG GET` shows it.
    pub(super) get: fn(&Config) -> String,
    /// Takes the words behind the name; `Err` says in Redis's words what is wrong with them.
    pub(super) set: fn(&mut Config, &[String]) -> Result<(), String>,
    /// The words of each line that a conf file needs for it; none if it is to be absent.
    pub(super) lines: fn(&Config) -> Vec<Words>,
}

impl Parameter {
    pub(super) fn find(name: &str) -> Option<&'static Parameter> {
        PARAMETERS.iter().find(|p| p.names().any(|n| n == name))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.name].into_iter().chain(self.aliases.iter().copied())
    }
}

macro_rules! parameter {
    ($when:ident, $name:literal $(| $alias:literal)?, $field:ident) => {
        parameter!($when, $name $(| $alias)?, $field, |_| Ok(()))
    };
    ($when:ident, $name:literal $(| $alias:literal)?, $field:ident, $check:expr) => {
        Parameter {
            name: $name,
            aliases: &[$($alias)?],
            when: When::$when,
            get: |c| c.$field.show(),
            set: |c, words| {
                let value = Field::read(&c.$field, words)?;
                let check: fn(&_) -> Result<(), String> = $check;
                check(&value)?;
                c.$field = value;
                Ok(())
            },
            lines: |c| c.$field.lines(),
        }
    };
}

pub(super) static PARAMETERS: &[Parameter] = &[
    parameter!(Start, "bind", bind),
    parameter!(Start, "port", port),
    parameter!(Start, "tcp-backlog", tcp_backlog),
    parameter!(Start, "tcp-keepalive", tcp_keepalive),
    parameter!(Always, "timeout", timeout),
    parameter!(Always, "protected-mode", protected_mode),
    parameter!(Start, "enable-debug-command", enable_debug_command, |v| {
        one_of(v, &["no", "yes", "local"])
    }),
    parameter!(Always, "maxclients", maxclients, |v| at_least(1, u32::MAX, *v)),
    parameter!(Start, "databases", databases, |v| at_least(1, i32::MAX as u32, *v)),
    parameter!(Start, "proto-max-bulk-len", proto_max_bulk_len),
    parameter!(Start, "client-query-buffer-limit", client_query_buffer_limit),
    parameter!(Always, "client-output-buffer-limit", client_output_buffer_limit),
    parameter!(Start, "loglevel", loglevel),
    parameter!(Start, "logfile", logfile),
    parameter!(Start, "dir", dir),
    parameter!(Start, "pidfile", pidfile),
    parameter!(Always, "requirepass", requirepass),
    parameter!(Always, "masteruser", masteruser),
    parameter!(Always, "masterauth", masterauth),
    parameter!(Start, "replicaof" | "slaveof", replicaof),
    parameter!(
        Always,
        "replica-serve-stale-data" | "slave-serve-stale-data",
        replica_serve_stale_data
    ),
    parameter!(Always, "replica-read-only" | "slave-read-only", replica_read_only),
    parameter!(Always, "replica-priority" | "slave-priority", replica_priority),
    parameter!(Always, "replica-announced", replica_announced),
    parameter!(Always, "replica-announce-ip" | "slave-announce-ip", replica_announce_ip),
    parameter!(Always, "replica-announce-port" | "slave-announce-port", replica_announce_port),
    parameter!(
        Always,
        "repl-ping-replica-period" | "repl-ping-slave-period",
        repl_ping_replica_period,
        |v| at_least(1, i32::MAX as u32, *v)
    ),
    parameter!(Always, "repl-timeout", repl_timeout, |v| at_least(1, i32::MAX as u32, *v)),
    parameter!(Always, "repl-backlog-size", repl_backlog_size, |v: &Memory| {
        at_least(1, u64::MAX, v.0)
    }),
    parameter!(Always, "repl-backlog-ttl", repl_backlog_ttl),
    parameter!(Always, "min-replicas-to-write" | "min-slaves-to-write", min_replicas_to_write),
    parameter!(Always, "min-replicas-max-lag" | "min-slaves-max-lag", min_replicas_max_lag),
    parameter!(Always, "save", save),
    parameter!(Always, "appendonly", appendonly),
];

/// Directives that a `redis.conf` may hold and that have no effect here, with Redis's defaults.
pub(super) static INERT: &[(&str, &str)] = &[
    ("acllog-max-len", "128"),
    ("acl-pubsub-default", "resetchannels"),
    ("active-defrag-cycle-max", "25"),
    ("active-defrag-cycle-min", "1"),
    ("active-defrag-ignore-bytes", "104857600"),
    ("active-defrag-max-scan-fields", "1000"),
    ("active-defrag-threshold-lower", "10"),
    ("active-defrag-threshold-upper", "100"),
    ("active-expire-effort", "1"),
    ("activedefrag", "no"),
    ("activerehashing", "yes"),
    ("always-show-logo", "no"),
    ("aof-load-truncated", "yes"),
    ("aof-rewrite-incremental-fsync", "yes"),
    ("aof-timestamp-enabled", "no"),
    ("aof-use-rdb-preamble", "yes"),
    ("appenddirname", "appendonlydir"),
    ("appendfilename", "appendonly.aof"),
    ("appendfsync", "everysec"),
    ("auto-aof-rewrite-min-size", "67108864"),
    ("auto-aof-rewrite-percentage", "100"),
    ("bind-source-addr", ""),
    ("cluster-enabled", "no"),
    ("crash-log-enabled", "yes"),
    ("crash-memcheck-enabled", "yes"),
    ("daemonize", "no"),
    ("dbfilename", "dump.rdb"),
    ("disable-thp", "yes"),
    ("dynamic-hz", "yes"),
    ("enable-module-command", "no"),
    ("enable-protected-configs", "no"),
    ("hash-max-listpack-entries", "512"),
    ("hash-max-listpack-value", "64"),
    ("hash-max-ziplist-entries", "512"),
    ("hash-max-ziplist-value", "64"),
    ("hll-sparse-max-bytes", "3000"),
    ("hz", "10"),
    ("io-threads", "1"),
    ("io-threads-do-reads", "no"),
    ("jemalloc-bg-thread", "yes"),
    ("latency-monitor-threshold", "0"),
    ("latency-tracking", "yes"),
    ("latency-tracking-info-percentiles", "50 99 99.9"),
    ("lazyfree-lazy-eviction", "no"),
    ("lazyfree-lazy-expire", "no"),
    ("lazyfree-lazy-server-del", "no"),
    ("lazyfree-lazy-user-del", "no"),
    ("lazyfree-lazy-user-flush", "no"),
    ("lfu-decay-time", "1"),
    ("lfu-log-factor", "10"),
    ("list-compress-depth", "0"),
    ("list-max-listpack-size", "-2"),
    ("list-max-ziplist-size", "-2"),
    ("lua-time-limit", "5000"),
    ("maxmemory", "0"),
    ("maxmemory-clients", "0"),
    ("maxmemory-eviction-tenacity", "10"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("no-appendfsync-on-rewrite", "no"),
    ("notify-keyspace-events", ""),
    ("oom-score-adj", "no"),
    ("oom-score-adj-values", "0 200 800"),
    ("proc-title-template", "{title} {listen-addr} {server-mode}"),
    ("rdb-del-sync-files", "no"),
    ("rdb-save-incremental-fsync", "yes"),
    ("rdbchecksum", "yes"),
    ("rdbcompression", "yes"),
    ("repl-diskless-load", "disabled"),
    ("repl-diskless-sync", "yes"),
    ("repl-diskless-sync-delay", "5"),
    ("repl-diskless-sync-max-replicas", "0"),
    ("repl-disable-tcp-nodelay", "no"),
    ("replica-ignore-disk-write-errors", "no"),
    ("replica-ignore-maxmemory", "yes"),
    ("replica-lazy-flush", "no"),
    ("sanitize-dump-payload", "no"),
    ("set-max-intset-entries", "512"),
    ("set-max-listpack-entries", "128"),
    ("set-proc-title", "yes"),
    ("shutdown-timeout", "10"),
    ("slowlog-log-slower-than", "10000"),
    ("slowlog-max-len", "128"),
    ("stop-writes-on-bgsave-error", "yes"),
    ("stream-node-max-bytes", "4096"),
    ("stream-node-max-entries", "100"),
    ("supervised", "no"),
    ("syslog-enabled", "no"),
    ("syslog-facility", "local0"),
    ("syslog-ident", "redis"),
    ("tls-port", "0"),
    ("tracking-table-max-keys", "1000000"),
    ("unixsocket", ""),
    ("unixsocketperm", "0"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("zset-max-ziplist-entries", "128"),
    ("zset-max-ziplist-value", "64"),
];

fn at_least<T: PartialOrd + std::fmt::Display>(low: T, high: T, value: T) -> Result<(), String> {
    if value >= low {
        return Ok(());
    }
    Err(format!("argument must be between {low} and {high} inclusive"))
}

fn one_of(value: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&value) {
        return Ok(());
    }
    Err(format!("argument(s) must be one of the following: {}", words.join(", ")))
}

/// How a type of value is read and shown.
trait Field: Sized {
    /// Reads the words of one line; `self` is the value so far, to which some directives add.
    fn read(&self, words: &[String]) -> Result<Self, String>;
    fn show(&self) -> String;
    fn lines(&self) -> Vec<Words> {
        vec![vec![self.show()]]
    }
}

fn one(words: &[String]) -> Result<&str, String> {
    match words {
        [word] => Ok(word),
        _ => Err("wrong number of arguments".into()),
    }
}

impl Field for bool {
    fn read(&self, words: &[String]) -> Result<bool, String> {
        match one(words)?.to_ascii_lowercase().as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err("argument must be 'yes' or 'no'".into()),
        }
    }
    fn show(&self) -> String {
        if *self { "yes".into() } else { "no".into() }
    }
}

macro_rules! integer_field {
    ($type:ty) => {
        impl Field for $type {
            fn read(&self, words: &[String]) -> Result<$type, String> {
                let number: i128 = one(words)?
                    .parse()
                    .map_err(|_| "argument couldn't be parsed into an integer".to_string())?;
                <$type>::try_from(number).map_err(|_| {
                    format!("argument must be between 0 and {} inclusive", <$type>::MAX)
                })
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    };
}
integer_field!(u16);
integer_field!(u32);

impl Field for Memory {
    fn read(&self, words: &[String]) -> Result<Memory, String> {
        let text = one(words)?.to_ascii_lowercase();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match &text[digits.len()..] {
            "" | "b" => 1,
            "k" => 1000,
            "kb" => 1 << 10,
            "m" => 1_000_000,
            "mb" => 1 << 20,
            "g" => 1_000_000_000,
            "gb" => 1 << 30,
            _ => return Err("argument must be a memory value".into()),
        };
        let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        number.map(Memory).ok_or_else(|| "argument must be a memory value".into())
    }
    fn show(&self) -> String {
        self.0.to_string()
    }
    fn lines(&self) -> Vec<Words> {
        vec![vec![with_unit(self.0)]]
    }
}

/// An amount of memory as it is written in a file: in the biggest unit that loses nothing.
fn with_unit(bytes: u64) -> String {
    let units = [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    match units.into_iter().find(|(size, _)| bytes > 0 && bytes.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

impl Field for String {
    fn read(&self, words: &[String]) -> Result<String, String> {
        one(words).map(str::to_string)
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Field for Option<Secret> {
    fn read(&self, words: &[String]) -> Result<Option<Secret>, String> {
        one(words).map(|w| (!w.is_empty()).then(|| Secret::new(w)))
    }
    fn show(&self) -> String {
        self.as_ref().map_or(String::new(), |s| s.reveal().to_string())
    }
    fn lines(&self) -> Vec<Words> {
        self.iter().map(|s| vec![s.reveal().to_string()]).collect()
    }
}

impl Field for Option<Address> {
    fn read(&self, words: &[String]) -> Result<Option<Address>, String> {
        match words {
            [no, one] if no.eq_ignore_ascii_case("no") && one.eq_ignore_ascii_case("one") => {
                Ok(None)
            }
            [host, port] => match port.parse::<u16>() {
                Ok(port) if port > 0 => Ok(Some(Address::new(host, port))),
                _ => Err("Invalid master port".into()),
            },
            [both] if both.contains(' ') => {
                let words: Words = both.split_ascii_whitespace().map(str::to_string).collect();
                self.read(&words)
            }
            _ => Err("wrong number of arguments".into()),
        }
    }
    fn show(&self) -> String {
        self.as_ref().map_or(String::new(), |a| format!("{} {}", a.host, a.port))
    }
    fn lines(&self) -> Vec<Words> {
        self.iter().map(|a| vec![a.host.clone(), a.port.to_string()]).collect()
    }
}

impl Field for Words {
    fn read(&self, words: &[String]) -> Result<Words, String> {
        Ok(words.to_vec())
    }
    fn show(&self) -> String {
        self.join(" ")
    }
    fn lines(&self) -> Vec<Words> {
        if self.is_empty() { Vec::new() } else { vec![self.clone()] }
    }
}

impl Field for LogLevel {
    fn read(&self, words: &[String]) -> Result<LogLevel, String> {
        match one(words)?.to_ascii_lowercase().as_str() {
            "debug" => Ok(LogLevel::Debug),
            "verbose" => Ok(LogLevel::Verbose),
            "notice" => Ok(LogLevel::Notice),
            "warning" => Ok(LogLevel::Warning),
            "nothing" => Ok(LogLevel::Nothing),
            other => one_of(other, &["debug", "verbose", "notice", "warning", "nothing"])
                .map(|()| LogLevel::Notice),
        }
    }
    fn show(&self) -> String {
        format!("{self:?}").to_ascii_lowercase()
    }
}

impl Field for OutputLimits {
    fn read(&self, words: &[String]) -> Result<OutputLimits, String> {
        let mut limits = *self;
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        for class in words.chunks(4) {
            let bytes = |word: &String| Memory(0).read(std::slice::from_ref(word)).map(|m| m.0);
            let limit = OutputLimit {
                hard: bytes(&class[1])?,
                soft: bytes(&class[2])?,
                soft_seconds: class[3].parse().map_err(|_| {
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                })?,
            };
            match class[0].to_ascii_lowercase().as_str() {
                "normal" => limits.normal = limit,
                "replica" | "slave" => limits.replica = limit,
                "pubsub" => limits.pubsub = limit,
                _ => return Err("Invalid client class specified in buffer limit config.".into()),
            }
        }
        Ok(limits)
    }
    fn show(&self) -> String {
        let class = |(name, l): (&str, OutputLimit)| {
            let name = if name == "replica" { "slave" } else { name };
            format!("{name} {} {} {}", l.hard, l.soft, l.soft_seconds)
        };
        self.classes().map(class).join(" ")
    }
    fn lines(&self) -> Vec<Words> {
        let class = |(name, l): (&str, OutputLimit)| {
            vec![name.to_string(), with_unit(l.hard), with_unit(l.soft), l.soft_seconds.to_string()]
        };
        self.classes().map(class).to_vec()
    }
}

impl OutputLimits {
    fn classes(&self) -> [(&'static str, OutputLimit); 3] {
        [("normal", self.normal), ("replica", self.replica), ("pubsub", self.pubsub)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(config: &mut Config, name: &str, value: &str) -> Result<(), String> {
        config.set(&[(name.to_string(), value.to_string())])
    }

    #[test]
    fn every_name_is_there_once() {
        let mut names: Vec<&str> = PARAMETERS.iter().flat_map(Parameter::names).collect();
        names.extend(INERT.iter().map(|(name, _)| name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| !name.chars().any(char::is_uppercase)));
    }

    #[test]
    fn every_value_is_read_back_as_it_is_shown_and_written() {
        let default = Config::default();
        for parameter in PARAMETERS {
            let mut config = Config::default();
            for words in (parameter.lines)(&default) {
                (parameter.set)(&mut config, &words).unwrap_or_else(|e| {
                    panic!("{} {words:?}: {e}", parameter.name);
                });
            }
            assert_eq!((parameter.get)(&config), (parameter.get)(&default), "{}", parameter.name);
        }
    }

    #[test]
    fn memory_has_units() {
        let mut config = Config::default();
        for (text, bytes) in [("1mb", 1 << 20), ("1m", 1_000_000), ("2GB", 2 << 30), ("7", 7)] {
            set(&mut config, "repl-backlog-size", text).expect(text);
            assert_eq!(config.repl_backlog_size, Memory(bytes), "{text}");
        }
        for text in ["", "mb", "1tb", "-1", "1.5mb", "99999999999999999999gb"] {
            assert!(set(&mut config, "repl-backlog-size", text).is_err(), "{text}");
        }
        assert_eq!(with_unit(3 << 20), "3mb");
        assert_eq!(with_unit(1000), "1000");
    }

    #[test]
    fn a_bad_pair_changes_nothing() {
        let mut config = Config::default();
        let pairs = [("maxclients", "5"), ("repl-timeout", "never")];
        let pairs = pairs.map(|(name, value)| (name.to_string(), value.to_string()));
        assert!(config.set(&pairs).is_err());
        assert_eq!(config.maxclients, 10_000);
        let refused = set(&mut config, "appendonly", "yes");
        assert!(refused.is_err_and(|e| e.contains("no persistence yet")));
        assert!(!config.appendonly);
    }

    #[test]
    fn output_limits_of_one_class_leave_the_others() {
        let mut config = Config::default();
        set(&mut config, "client-output-buffer-limit", "replica 1mb 0 0").expect("good words");
        assert_eq!(
            config.client_output_buffer_limit.show(),
            "normal 0 0 0 slave 1048576 0 0 pubsub 33554432 8388608 60"
        );
    }
}
