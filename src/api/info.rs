//! INFO: the sections of a sentinel, with Redis's field names.

use std::fmt::{Display, Write};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::session::{Outcome, Session};
use super::{Api, REDIS_VERSION};
use crate::config::transport::Supervised;
use crate::resp::Value;
use crate::sentinel::Request;
use crate::wall_clock::since_1970;

/// The sections in the order in which they are printed; all belong to `default`.
const SECTIONS: [&str; 5] = ["server", "clients", "stats", "cpu", "sentinel"];
/// Rates are averages over at least this time.
const RATE_SPAN: Duration = Duration::from_secs(1);
/// Linux counts CPU time for programs in hundredths of a second, whatever its own timer does.
const TICKS_PER_SECOND: f64 = 100.0;

/// What INFO counts; every connection adds to it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Commands carried out.
    pub(crate) commands: AtomicU64,
    /// Error replies.
    pub(crate) errors: AtomicU64,
    /// Bytes received.
    pub(crate) input: AtomicU64,
    /// Bytes sent.
    pub(crate) output: AtomicU64,
    /// Calls that received something.
    pub(crate) reads: AtomicU64,
    /// Calls that sent something.
    pub(crate) writes: AtomicU64,
    rates: Mutex<Rates>,
}

/// Commands, bytes in and bytes out per second since the last look.
#[derive(Debug, Default)]
struct Rates {
    looked: Option<(Instant, [u64; 3])>,
    per_second: [f64; 3],
}

impl Counters {
    fn rates(&self, started: Instant) -> [f64; 3] {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let counts = [&self.commands, &self.input, &self.output].map(|count| count.load(Relaxed));
        let (then, before) = rates.looked.unwrap_or((started, [0; 3]));
        let span = now.saturating_duration_since(then);
        if span >= RATE_SPAN {
            let rate = |i: usize| counts[i].saturating_sub(before[i]) as f64 / span.as_secs_f64();
            rates.per_second = [rate(0), rate(1), rate(2)];
            rates.looked = Some((now, counts));
        }
        rates.per_second
    }
}

/// `INFO [section ...]`
pub(crate) fn info(session: &mut Session, args: &[Bytes]) -> Outcome {
    let wanted = wanted(&args[1..]);
    let api = session.api.clone();
    Outcome::Later(Box::pin(async move {
        let mut parts = Vec::new();
        for section in wanted {
            parts.push(match section {
                "server" => server(&api),
                "clients" => clients(&api),
                "stats" => stats(&api),
                "cpu" => cpu(),
                // The core's own text.
                _ => {
                    let (running_scripts, queued_scripts) = api.handle.scripts().counts();
                    let request = Request::Info { running_scripts, queued_scripts };
                    match api.handle.ask(request).await {
                        error @ Value::Error(_) => return error,
                        value => value.text().map_or(String::new(), |text| text.to_owned()),
                    }
                }
            });
        }
        let parts: Vec<&str> = parts.iter().map(|part| part.trim_end()).collect();
        let mut text = parts.join("\r\n\r\n");
        if !text.is_empty() {
            text += "\r\n";
        }
        Value::bulk(text)
    }))
}

/// The sections asked for; unknown ones are passed over.
fn wanted(words: &[Bytes]) -> Vec<&'static str> {
    let is = |word: &Bytes, name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let every = ["default", "all", "everything"];
    let all = words.is_empty() || words.iter().any(|word| every.iter().any(|name| is(word, name)));
    let asked = |section: &&str| all || words.iter().any(|word| is(word, section));
    SECTIONS.into_iter().filter(asked).collect()
}

/// Builds a section line by line.
struct Section(String);

impl Section {
    fn new(title: &str) -> Section {
        Section(format!("# {title}\r\n"))
    }

    fn field(mut self, name: &str, value: impl Display) -> Section {
        // Writing into a String cannot fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
        self
    }

    /// Fields that count what a sentinel never does: kept for exporters that look for them.
    fn zeros(self, names: &[&str]) -> Section {
        names.iter().fold(self, |section, name| section.field(name, 0))
    }
}

fn server(api: &Api) -> String {
    let settings = &api.settings;
    let wall = since_1970();
    let uptime = api.started.elapsed().as_secs();
    let is_supervised = settings.supervised == Supervised::Systemd;
    Section::new("Server")
        .field("redis_version", REDIS_VERSION)
        .field("redis_git_sha1", "00000000")
        .field("redis_git_dirty", 0)
        .field("redis_build_id", 0)
        .field("redis_mode", "sentinel")
        .field("server_mode", "sentinel")
        .field("server_name", "watchfire")
        .field("watchfire_version", env!("CARGO_PKG_VERSION"))
        .field("os", os())
        .field("arch_bits", usize::BITS)
        .field("monotonic_clock", "POSIX clock_gettime")
        .field("multiplexing_api", "epoll")
        .field("atomicvar_api", "rust-std")
        .field("gcc_version", "0.0.0")
        .field("process_id", std::process::id())
        .field("process_supervised", if is_supervised { "systemd" } else { "no" })
        .field("run_id", &settings.run_id)
        .field("tcp_port", api.port)
        .field("server_time_usec", wall.as_micros())
        .field("uptime_in_seconds", uptime)
        .field("uptime_in_days", uptime / 86_400)
        .field("hz", 10)
        .field("configured_hz", 10)
        .field("lru_clock", wall.as_secs() & 0xff_ffff)
        .field("executable", settings.executable.display())
        .field("config_file", settings.config_file.display())
        .field("io_threads_active", 0)
        .0
}

/// Such as `Linux 6.1.0 x86_64`.
fn os() -> String {
    let read = |name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    let (name, release) = (read("ostype"), read("osrelease"));
    format!("{} {} {}", name.trim(), release.trim(), std::env::consts::ARCH)
}

fn clients(api: &Api) -> String {
    let all = api.clients.all();
    let largest = |of: fn(&super::clients::State) -> usize| {
        all.iter().map(|client| of(&client.state())).max().unwrap_or(0)
    };
    let tracking = all.iter().filter(|client| client.state().tracking.is_some()).count();
    Section::new("Clients")
        .field("connected_clients", all.len())
        .field("cluster_connections", 0)
        .field("maxclients", api.settings.maxclients)
        .field("client_recent_max_input_buffer", largest(|state| state.input))
        .field("client_recent_max_output_buffer", largest(|state| state.output))
        .field("blocked_clients", 0)
        .field("tracking_clients", tracking)
        .field("clients_in_timeout_table", 0)
        .0
}

fn stats(api: &Api) -> String {
    let counters = &api.counters;
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let [operations, input, output] = counters.rates(api.started);
    let (channels, patterns) = api.clients.subscribed();
    Section::new("Stats")
        .field("total_connections_received", api.gate.received())
        .field("total_commands_processed", count(&counters.commands))
        .field("instantaneous_ops_per_sec", operations.round())
        .field("total_net_input_bytes", count(&counters.input))
        .field("total_net_output_bytes", count(&counters.output))
        .zeros(&["total_net_repl_input_bytes", "total_net_repl_output_bytes"])
        .field("instantaneous_input_kbps", format!("{:.2}", input / 1024.0))
        .field("instantaneous_output_kbps", format!("{:.2}", output / 1024.0))
        .field("instantaneous_input_repl_kbps", "0.00")
        .field("instantaneous_output_repl_kbps", "0.00")
        .field("rejected_connections", api.gate.refused())
        .zeros(&["sync_full", "sync_partial_ok", "sync_partial_err", "expired_keys"])
        .field("expired_stale_perc", "0.00")
        .zeros(NO_KEYSPACE)
        .field("pubsub_channels", channels)
        .field("pubsub_patterns", patterns)
        .zeros(NO_CACHE)
        .field("total_error_replies", count(&counters.errors))
        .field("dump_payload_sanitizations", 0)
        .field("total_reads_processed", count(&counters.reads))
        .field("total_writes_processed", count(&counters.writes))
        .zeros(&["io_threaded_reads_processed", "io_threaded_writes_processed"])
        .zeros(&["reply_buffer_shrinks", "reply_buffer_expands"])
        .field("acl_access_denied_auth", count(&api.users.denied[0]))
        .field("acl_access_denied_cmd", count(&api.users.denied[1]))
        .field("acl_access_denied_key", 0)
        .field("acl_access_denied_channel", count(&api.users.denied[2]))
        .0
}

const NO_KEYSPACE: &[&str] = &[
    "expired_time_cap_reached_count",
    "expire_cycle_cpu_milliseconds",
    "evicted_keys",
    "evicted_clients",
    "total_eviction_exceeded_time",
    "current_eviction_exceeded_time",
    "keyspace_hits",
    "keyspace_misses",
];

const NO_CACHE: &[&str] = &[
    "pubsubshard_channels",
    "latest_fork_usec",
    "total_forks",
    "migrate_cached_sockets",
    "slave_expires_tracked_keys",
    "active_defrag_hits",
    "active_defrag_misses",
    "active_defrag_key_hits",
    "active_defrag_key_misses",
    "total_active_defrag_time",
    "current_active_defrag_time",
    "tracking_total_keys",
    "tracking_total_items",
    "tracking_total_prefixes",
    "unexpected_error_replies",
];

fn cpu() -> String {
    let [user, sys, user_children, sys_children] = cpu_seconds("/proc/self/stat");
    let main = format!("/proc/self/task/{}/stat", std::process::id());
    let [user_main, sys_main, ..] = cpu_seconds(&main);
    let seconds = |value: f64| format!("{value:.6}");
    Section::new("CPU")
        .field("used_cpu_sys", seconds(sys))
        .field("used_cpu_user", seconds(user))
        .field("used_cpu_sys_children", seconds(sys_children))
        .field("used_cpu_user_children", seconds(user_children))
        .field("used_cpu_sys_main_thread", seconds(sys_main))
        .field("used_cpu_user_main_thread", seconds(user_main))
        .0
}

/// User and system time, own and of children that have ended, in seconds; zeros where there is no
/// /proc.
fn cpu_seconds(stat: &str) -> [f64; 4] {
    let text = fs::read_to_string(stat).unwrap_or_default();
    // The second field is the program's name in brackets, which may hold anything.
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let mut times = fields.split(' ').skip(11).map(|ticks| ticks.parse::<f64>().unwrap_or(0.0));
    std::array::from_fn(|_| times.next().unwrap_or(0.0) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_chosen_in_any_case_and_printed_in_order() {
        let wanted = |words: &[&str]| {
            let words: Vec<Bytes> =
                words.iter().map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
            wanted(&words)
        };
        assert_eq!(wanted(&[]), SECTIONS);
        assert_eq!(wanted(&["cpu", "ALL"]), SECTIONS);
        assert_eq!(wanted(&["Sentinel", "server", "replication"]), ["server", "sentinel"]);
        assert!(wanted(&["replication"]).is_empty());
    }

    #[test]
    fn cpu_time_is_read() {
        let started = Instant::now();
        while cpu_seconds("/proc/self/stat")[..2].iter().sum::<f64>() == 0.0 {
            assert!(started.elapsed() < Duration::from_secs(30), "no tick of CPU time");
        }
        assert_eq!(cpu_seconds("/nowhere"), [0.0; 4]);
    }
}
