//! What a data node is told: the settings with their defaults, and how they are read from a conf
//! file and from the command line, changed by `CONFIG SET` and written back by `CONFIG REWRITE`.
//! The one list of parameters is in [`table`].

mod table;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::config::conf;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::rewrite::{Setting, rewrite};
use crate::config::settings::LogLevel;
use crate::config::types::{Address, Secret};

use crate::resp::glob;
use table::{INERT, PARAMETERS, Parameter, When};

/// `repl-diskless-load` and its like take one of a few words; they are kept as written.
type Words = Vec<String>;

/// An amount of memory in bytes, written as `1mb`, `64k` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory(pub u64);

/// One class of `client-output-buffer-limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes at which the client is disconnected; 0 means no limit.
    pub hard: u64,
    /// Bytes at which it is disconnected if it stays there; 0 means no limit.
    pub soft: u64,
    /// For how long it may stay there, in seconds.
    pub soft_seconds: u64,
}

/// `client-output-buffer-limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    /// Ordinary clients. They are also held back by their own connection, so no limit is needed.
    pub normal: OutputLimit,
    /// Replicas.
    pub replica: OutputLimit,
    /// Clients with subscriptions.
    pub pubsub: OutputLimit,
}

/// The settings of a data node. Each field mirrors the directive of `redis.conf` with its name.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The names and meanings are those of redis.conf.
pub struct Config {
    pub bind: Words,
    pub port: u16,
    pub tcp_backlog: u32,
    pub tcp_keepalive: u32,
    pub timeout: u32,
    pub protected_mode: bool,
    pub enable_debug_command: String,
    pub maxclients: u32,
    pub databases: u32,
    pub proto_max_bulk_len: Memory,
    pub client_query_buffer_limit: Memory,
    pub client_output_buffer_limit: OutputLimits,
    pub loglevel: LogLevel,
    pub logfile: String,
    pub dir: String,
    pub pidfile: String,
    pub requirepass: Option<Secret>,
    pub masteruser: String,
    pub masterauth: Option<Secret>,
    pub replicaof: Option<Address>,
    pub replica_serve_stale_data: bool,
    pub replica_read_only: bool,
    pub replica_priority: u32,
    pub replica_announced: bool,
    pub replica_announce_ip: String,
    pub replica_announce_port: u16,
    pub repl_ping_replica_period: u32,
    pub repl_timeout: u32,
    pub repl_backlog_size: Memory,
    pub repl_backlog_ttl: u32,
    pub min_replicas_to_write: u32,
    pub min_replicas_max_lag: u32,
    pub save: Words,
    pub appendonly: bool,
    /// Directives that are accepted and shown but have no effect, by name.
    inert: BTreeMap<&'static str, String>,
    /// The file that it came from, as an absolute path.
    pub(super) file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Config {
        let limit = |hard, soft, soft_seconds| OutputLimit { hard, soft, soft_seconds };
        Config {
            bind: vec!["*".into(), "-::*".into()],
            port: 6379,
            tcp_backlog: 511,
            tcp_keepalive: 300,
            timeout: 0,
            protected_mode: true,
            enable_debug_command: "no".into(),
            maxclients: 10_000,
            databases: 16,
            proto_max_bulk_len: Memory(512 << 20),
            client_query_buffer_limit: Memory(1 << 30),
            client_output_buffer_limit: OutputLimits {
                normal: limit(0, 0, 0),
                replica: limit(256 << 20, 64 << 20, 60),
                pubsub: limit(32 << 20, 8 << 20, 60),
            },
            loglevel: LogLevel::Notice,
            logfile: String::new(),
            dir: ".".into(),
            pidfile: String::new(),
            requirepass: None,
            masteruser: String::new(),
            masterauth: None,
            replicaof: None,
            replica_serve_stale_data: true,
            replica_read_only: true,
            replica_priority: 100,
            replica_announced: true,
            replica_announce_ip: String::new(),
            replica_announce_port: 0,
            repl_ping_replica_period: 10,
            repl_timeout: 60,
            repl_backlog_size: Memory(1 << 20),
            repl_backlog_ttl: 3600,
            min_replicas_to_write: 0,
            min_replicas_max_lag: 10,
            save: Vec::new(),
            appendonly: false,
            inert: INERT.iter().map(|&(name, value)| (name, value.to_string())).collect(),
            file: None,
        }
    }
}

impl Config {
    /// Reads `redis-server`'s arguments: an optional file first, then `--name value ...`. Gives the
    /// configuration, with warnings about directives that have no effect here, or all that is
    /// wrong.
    pub fn from_args(args: &[String]) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (file, options) = match args.split_first() {
            Some((first, rest)) if !first.starts_with("--") => (Some(Path::new(first)), rest),
            _ => (None, args),
        };
        let mut config = Config::default();
        let mut found = Vec::new();
        if let Some(path) = file {
            config.read_file(path, &mut found);
        }
        match conf::from_args(options) {
            Ok(lines) => lines.iter().for_each(|line| config.read_line(line, &mut found)),
            Err(problem) => found.push(problem),
        }
        // A rewritten file must mean the same wherever the next start happens.
        if config.dir != "."
            && let Ok(absolute) = std::path::absolute(&config.dir)
        {
            config.dir = absolute.display().to_string();
        }
        if found.iter().any(Diagnostic::is_error) { Err(found) } else { Ok((config, found)) }
    }

    fn read_file(&mut self, path: &Path, found: &mut Vec<Diagnostic>) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => {
                let problem = format!("can't open config file '{}': {e}", path.display());
                found.push(Diagnostic::error(problem).help("name a file that can be read"));
                return;
            }
        };
        let (lines, problems) = conf::parse(&text);
        found.extend(problems.into_iter().map(|p| p.in_file(path)));
        for line in &lines {
            let mut of_line = Vec::new();
            self.read_line(line, &mut of_line);
            found.extend(of_line.into_iter().map(|p| p.in_file(path)));
        }
        self.file = std::path::absolute(path).ok();
    }

    fn read_line(&mut self, line: &conf::Line, found: &mut Vec<Diagnostic>) {
        let (name, words) = (line.name(), line.args().map(str::to_string).collect::<Words>());
        if let Err(problem) = self.apply(&name, &words) {
            let help = match problem.as_str() {
                UNKNOWN => {
                    "see redis.conf for the directives; modules and TLS are not part of this"
                }
                _ => "correct the value or remove the line to use the default",
            };
            found.push(Diagnostic::error(problem).at(line, 0).help(help));
        } else if let Some(warning) = self.without_effect(&name) {
            found.push(Diagnostic::new(Severity::Warning, warning).at(line, 0));
        }
    }

    /// Why a directive changes nothing here, if so.
    fn without_effect(&self, name: &str) -> Option<&'static str> {
        match name {
            "save" if self.save.iter().any(|w| !w.is_empty()) => Some(NO_PERSISTENCE),
            "appendonly" if self.appendonly => Some(NO_PERSISTENCE),
            _ => INERT
                .iter()
                .any(|(inert, default)| *inert == name && self.inert[inert] != *default)
                .then_some("accepted, but without effect here"),
        }
    }

    fn apply(&mut self, name: &str, words: &[String]) -> Result<(), String> {
        if let Some(parameter) = Parameter::find(name) {
            return (parameter.set)(self, words);
        }
        match self.inert.get_mut(name) {
            Some(value) => *value = words.join(" "),
            None => return Err(UNKNOWN.into()),
        }
        Ok(())
    }

    /// `CONFIG GET`: names and values that match one of the patterns, ignoring case.
    pub(super) fn get(&self, patterns: &[String]) -> BTreeMap<String, String> {
        let wanted = |name: &str| {
            patterns
                .iter()
                .any(|p| glob::matches(p.to_ascii_lowercase().as_bytes(), name.as_bytes()))
        };
        let mut found = BTreeMap::new();
        for parameter in PARAMETERS {
            for name in parameter.names().filter(|n| wanted(n)) {
                found.insert(name.to_string(), (parameter.get)(self));
            }
        }
        for (name, value) in self.inert.iter().filter(|(n, _)| wanted(n)) {
            found.insert(name.to_string(), value.clone());
        }
        found
    }

    /// `CONFIG SET`: all of the pairs, or none of them and Redis's error.
    pub(super) fn set(&mut self, pairs: &[(String, String)]) -> Result<(), String> {
        let mut changed = self.clone();
        for (name, value) in pairs {
            let name = name.to_ascii_lowercase();
            let known = Parameter::find(&name);
            if known.is_none() && !self.inert.contains_key(name.as_str()) {
                return Err(format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                ));
            }
            let refuse = |why: &str| {
                format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
            };
            if known.is_some_and(|p| p.when == When::Start) {
                return Err(refuse("can't set immutable config"));
            }
            let many_words =
                matches!(name.as_str(), "client-output-buffer-limit" | "bind" | "save");
            let words: Words = match many_words {
                true => value.split_ascii_whitespace().map(str::to_string).collect(),
                false => vec![value.clone()],
            };
            changed.apply(&name, &words).map_err(|why| refuse(&why))?;
            if changed.appendonly {
                return Err(refuse(NO_PERSISTENCE));
            }
        }
        *self = changed;
        Ok(())
    }

    /// `CONFIG REWRITE`: writes the file anew, whole or not at all.
    pub(super) fn rewrite(&self) -> Result<(), String> {
        let file = self.file.as_ref().ok_or("ERR The server is running without a config file")?;
        let failed = |e: std::io::Error| format!("ERR Rewriting config file: {e}");
        let text = std::fs::read_to_string(file).map_err(failed)?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let mut temp = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        temp.write_all(rewrite(&text, &self.lines()).as_bytes()).map_err(failed)?;
        if let Ok(meta) = std::fs::metadata(file) {
            temp.as_file().set_permissions(meta.permissions()).map_err(failed)?;
        }
        temp.as_file().sync_all().map_err(failed)?;
        temp.persist(file).map_err(|e| failed(e.error))?;
        std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(failed)
    }

    /// The lines that a file must have to start a node like this one.
    fn lines(&self) -> Vec<Setting<'_>> {
        let default = Config::default();
        let mut lines = Vec::new();
        for parameter in PARAMETERS {
            let value = (parameter.lines)(self);
            let unchanged = (parameter.get)(self) == (parameter.get)(&default);
            if value.is_empty() {
                lines.push(Setting::absent(parameter.name));
            }
            for mut words in value {
                words.insert(0, parameter.name.to_string());
                let line = Setting::line(words);
                lines.push(if unchanged { line.by_default() } else { line });
            }
        }
        lines
    }
}

/// What `SAVE`, `appendonly` and their like are told.
pub(super) const NO_PERSISTENCE: &str =
    "no persistence yet: data lives in memory and in its replicas";

const UNKNOWN: &str = "Bad directive or wrong number of arguments";
