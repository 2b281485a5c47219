//! `INFO`: the sections and fields of Redis, in its order, as far as they mean something here.

use std::time::{Duration, Instant};

use super::client::Kind;
use super::node::Node;
use super::replication::Phase;
use crate::wall_clock::unix_ms;

/// The version of Redis whose behaviour this node shows.
pub const VERSION: &str = "7.2.0";

/// Counters since the start, or since `CONFIG RESETSTAT`.
#[derive(Debug)]
pub(super) struct Stats {
    pub(super) commands: u64,
    pub(super) changes: u64,
    pub(super) input_bytes: u64,
    pub(super) output_bytes: u64,
    pub(super) repl_input_bytes: u64,
    pub(super) repl_output_bytes: u64,
    pub(super) sync_full: u64,
    pub(super) sync_partial_ok: u64,
    pub(super) sync_partial_err: u64,
    pub(super) expired_keys: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) error_replies: u64,
    /// Commands per second between the last two samples.
    ops_per_s: u64,
    sampled: (Instant, u64),
}

impl Stats {
    pub(super) fn new(now: Instant) -> Stats {
        Stats {
            commands: 0,
            changes: 0,
            input_bytes: 0,
            output_bytes: 0,
            repl_input_bytes: 0,
            repl_output_bytes: 0,
            sync_full: 0,
            sync_partial_ok: 0,
            sync_partial_err: 0,
            expired_keys: 0,
            hits: 0,
            misses: 0,
            error_replies: 0,
            ops_per_s: 0,
            sampled: (now, 0),
        }
    }

    pub(super) fn sample(&mut self, now: Instant) {
        let (at, commands) = std::mem::replace(&mut self.sampled, (now, self.commands));
        let ms = now.duration_since(at).as_millis().max(1) as u64;
        self.ops_per_s = self.commands.saturating_sub(commands) * 1000 / ms;
    }
}

/// `name:value` lines.
struct Text(String);

impl Text {
    fn section(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push_str("\r\n");
        }
        self.0.push_str(&format!("# {name}\r\n"));
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push_str(&format!("{name}:{value}\r\n"));
    }
}

type Section = (&'static str, fn(&Node, &mut Text));

const SECTIONS: &[Section] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    ("Modules", |_, _| {}),
    ("Errorstats", |_, _| {}),
    ("Cluster", |_, text| text.line("cluster_enabled", 0)),
    ("Keyspace", keyspace),
];

impl Node {
    /// The text of the sections asked for; without any, all of them.
    pub(super) fn info(&self, wanted: &[String]) -> String {
        let everything = ["all", "everything", "default"];
        let is_wanted = |name: &str| {
            let named = |w: &String| {
                w.eq_ignore_ascii_case(name) || everything.iter().any(|e| w.eq_ignore_ascii_case(e))
            };
            wanted.is_empty() || wanted.iter().any(named)
        };
        let mut text = Text(String::new());
        for (name, write) in SECTIONS.iter().filter(|(name, _)| is_wanted(name)) {
            text.section(name);
            write(self, &mut text);
        }
        text.0
    }

    pub(super) fn started_unix_s(&self) -> u64 {
        (unix_ms() / 1000).saturating_sub(self.started.elapsed().as_secs())
    }
}

fn server(node: &Node, text: &mut Text) {
    let uptime = node.started.elapsed();
    let kernel = |fact: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{fact}")).unwrap_or_default();
        text.trim().to_string()
    };
    let system = [kernel("ostype"), kernel("osrelease"), std::env::consts::ARCH.to_string()];
    let file = node.config.file.as_ref().map(|f| f.display().to_string()).unwrap_or_default();
    let program = std::env::current_exe().map(|p| p.display().to_string()).unwrap_or_default();
    text.line("redis_version", VERSION);
    text.line("watchfire_version", env!("CARGO_PKG_VERSION"));
    text.line("redis_git_sha1", "00000000");
    text.line("redis_git_dirty", 0);
    text.line("redis_build_id", 0);
    text.line("redis_mode", "standalone");
    text.line("os", system.join(" "));
    text.line("arch_bits", usize::BITS);
    text.line("multiplexing_api", "epoll");
    text.line("process_id", std::process::id());
    text.line("process_supervised", "no");
    text.line("run_id", &node.run_id);
    text.line("tcp_port", node.config.port);
    text.line("server_time_usec", unix_ms() * 1000);
    text.line("uptime_in_seconds", uptime.as_secs());
    text.line("uptime_in_days", uptime.as_secs() / 86_400);
    text.line("hz", 10);
    text.line("configured_hz", 10);
    text.line("lru_clock", (unix_ms() / 1000) & 0x00ff_ffff);
    text.line("executable", program);
    text.line("config_file", file);
    text.line("io_threads_active", 0);
}

fn clients(node: &Node, text: &mut Text) {
    let ordinary = node.clients.values().filter(|c| matches!(c.kind, Kind::Normal));
    text.line("connected_clients", ordinary.count());
    text.line("cluster_connections", 0);
    text.line("maxclients", node.config.maxclients);
    text.line("client_recent_max_input_buffer", 0);
    text.line("client_recent_max_output_buffer", 0);
    text.line("blocked_clients", node.waiting.len());
    text.line("tracking_clients", 0);
    text.line("clients_in_timeout_table", node.waiting.iter().filter(|(u, _)| u.is_some()).count());
}

/// The resident size of the process in bytes; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn human(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match UNITS.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => format!("{bytes}B"),
    }
}

/// The allocator is not asked; the resident size stands for what is used.
fn memory(node: &Node, text: &mut Text) {
    let used = resident_bytes();
    let held: usize = node.peers().map(|(c, p)| c.outbox.unwritten() + p.held_bytes()).sum();
    text.line("used_memory", used);
    text.line("used_memory_human", human(used));
    text.line("used_memory_rss", used);
    text.line("used_memory_rss_human", human(used));
    text.line("used_memory_peak", used);
    text.line("used_memory_peak_human", human(used));
    text.line("maxmemory", 0);
    text.line("maxmemory_human", "0B");
    text.line("maxmemory_policy", "noeviction");
    text.line("mem_fragmentation_ratio", "1.00");
    let backlog = match node.replication.history.has_backlog() {
        true => node.config.repl_backlog_size.0,
        false => 0,
    };
    text.line("mem_replication_backlog", backlog);
    text.line("mem_clients_slaves", held);
    text.line("mem_allocator", "system");
}

fn persistence(node: &Node, text: &mut Text) {
    text.line("loading", 0);
    text.line(
        "async_loading",
        u8::from(node.replication.upstream.as_ref().is_some_and(|u| u.phase == Phase::Sync)),
    );
    text.line("rdb_changes_since_last_save", node.stats.changes);
    text.line("rdb_bgsave_in_progress", 0);
    text.line("rdb_last_save_time", node.started_unix_s());
    text.line("rdb_last_bgsave_status", "ok");
    text.line("rdb_last_bgsave_time_sec", -1);
    text.line("rdb_current_bgsave_time_sec", -1);
    text.line("rdb_saves", 0);
    text.line("aof_enabled", 0);
    text.line("aof_rewrite_in_progress", 0);
    text.line("aof_rewrite_scheduled", 0);
    text.line("aof_last_bgrewrite_status", "ok");
    text.line("aof_last_write_status", "ok");
}

fn stats(node: &Node, text: &mut Text) {
    let stats = &node.stats;
    text.line("total_connections_received", node.gate.received());
    text.line("total_commands_processed", stats.commands);
    text.line("instantaneous_ops_per_sec", stats.ops_per_s);
    text.line("total_net_input_bytes", stats.input_bytes);
    text.line("total_net_output_bytes", stats.output_bytes);
    text.line("total_net_repl_input_bytes", stats.repl_input_bytes);
    text.line("total_net_repl_output_bytes", stats.repl_output_bytes);
    text.line("rejected_connections", node.gate.refused());
    text.line("sync_full", stats.sync_full);
    text.line("sync_partial_ok", stats.sync_partial_ok);
    text.line("sync_partial_err", stats.sync_partial_err);
    text.line("expired_keys", stats.expired_keys);
    text.line("evicted_keys", 0);
    text.line("keyspace_hits", stats.hits);
    text.line("keyspace_misses", stats.misses);
    text.line("pubsub_channels", node.pubsub.channel_count());
    text.line("pubsub_patterns", node.pubsub.pattern_count());
    text.line("latest_fork_usec", 0);
    text.line("total_forks", 0);
    text.line("total_error_replies", stats.error_replies);
}

fn replication(node: &Node, text: &mut Text) {
    let history = &node.replication.history;
    let offset = node.replication.offset();
    text.line("role", if node.is_replica() { "slave" } else { "master" });
    if node.is_replica() {
        upstream(node, text);
    }
    text.line("connected_slaves", node.replication.replicas.len());
    if node.config.min_replicas_to_write > 0 && node.config.min_replicas_max_lag > 0 {
        text.line("min_slaves_good_slaves", node.good_replicas());
    }
    for (i, (client, peer)) in node.peers().enumerate() {
        let (ip, port) = peer.address(client);
        let (state, acked, lag) = (peer.state.name(), peer.acked, peer.lag_s(node.now));
        text.line(
            &format!("slave{i}"),
            format!("ip={ip},port={port},state={state},offset={acked},lag={lag}"),
        );
    }
    let none = "0".repeat(40);
    text.line("master_failover_state", "no-failover");
    text.line("master_replid", history.id());
    text.line("master_replid2", history.previous_id().map_or(none.as_str(), |id| id.as_str()));
    text.line("master_repl_offset", offset);
    text.line("second_repl_offset", history.second_offset().map_or(-1, |o| o as i64));
    text.line("repl_backlog_active", u8::from(history.has_backlog()));
    text.line("repl_backlog_size", node.config.repl_backlog_size.0);
    text.line("repl_backlog_first_byte_offset", history.first_held());
    text.line("repl_backlog_histlen", history.held());
}

/// The part of the section that only a replica has.
fn upstream(node: &Node, text: &mut Text) {
    let Some(upstream) = &node.replication.upstream else { return };
    let seconds = |since: Instant| node.now.duration_since(since).as_secs() as i64;
    let is_up = upstream.phase == Phase::Connected;
    text.line("master_host", &upstream.target.host);
    text.line("master_port", upstream.target.port);
    text.line("master_link_status", if is_up { "up" } else { "down" });
    let last_io = if is_up { seconds(upstream.last_io) } else { -1 };
    text.line("master_last_io_seconds_ago", last_io);
    text.line("master_sync_in_progress", u8::from(upstream.phase == Phase::Sync));
    let offset = node.replication.offset();
    text.line("slave_read_repl_offset", offset);
    text.line("slave_repl_offset", offset);
    if let Some(transfer) = upstream.transfer {
        let total = transfer.total.unwrap_or(0);
        let share = if total > 0 { transfer.read as f64 * 100.0 / total as f64 } else { 0.0 };
        text.line("master_sync_total_bytes", total);
        text.line("master_sync_read_bytes", transfer.read);
        text.line("master_sync_left_bytes", total.saturating_sub(transfer.read));
        text.line("master_sync_perc", format!("{share:.2}"));
        text.line("master_sync_last_io_seconds_ago", seconds(upstream.last_io));
    }
    if !is_up {
        let down_for = upstream.down_since.map_or(-1, seconds);
        text.line("master_link_down_since_seconds", down_for);
    }
    text.line("slave_priority", node.config.replica_priority);
    text.line("slave_read_only", u8::from(node.config.replica_read_only));
    text.line("replica_announced", u8::from(node.config.replica_announced));
}

/// CPU time of the process from the system's accounts, in seconds; zeros where there are none.
fn cpu(_: &Node, text: &mut Text) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name may hold blanks, so fields are counted behind its bracket.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    /// The unit of these accounts is the same on every Linux.
    const TICKS_PER_S: u64 = 100;
    let seconds = |index: usize| {
        let ticks = fields.split(' ').nth(index).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        Duration::from_millis(ticks * 1000 / TICKS_PER_S).as_secs_f64()
    };
    for (name, index) in [("sys", 12), ("user", 11), ("sys_children", 14), ("user_children", 13)] {
        text.line(&format!("used_cpu_{name}"), format!("{:.6}", seconds(index)));
    }
}

fn keyspace(node: &Node, text: &mut Text) {
    for (i, db) in node.keyspace.dbs().iter().enumerate().filter(|(_, db)| db.len() > 0) {
        let (keys, expires) = (db.len(), db.expiring());
        text.line(&format!("db{i}"), format!("keys={keys},expires={expires},avg_ttl=0"));
    }
}
