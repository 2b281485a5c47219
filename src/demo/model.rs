//! What the demo knows: nodes, sentinels, writes, events, the log. Fed by `watch`, `writer` and
//! `cluster`, waited on by `story`, shown by `plain` and `screen`. No input or output happens here.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::failover::Failover;

/// Where everybody writes to and looks at the [`Model`]: a value that can be awaited.
pub(super) type Board = watch::Sender<Model>;

/// How many lines of log are kept for a presentation that is slower than the story.
const MAX_LINES: usize = 2_000;
/// Width of one column of the writes-per-second picture.
pub(super) const BUCKET_MS: u64 = 250;
/// How many columns of it are kept (one minute).
const MAX_BUCKETS: usize = 240;

/// One of the processes of the group, by its place in the list of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Node(usize),
    Sentinel(usize),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Node(at) => write!(f, "node-{}", at + 1),
            Who::Sentinel(at) => write!(f, "sentinel-{}", at + 1),
        }
    }
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Run {
    /// Not started yet, killed, or ended by itself.
    #[default]
    Dead,
    Running,
    /// Stopped by SIGSTOP.
    Frozen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Replica,
}

/// What a data node said of itself in its last `INFO replication`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeInfo {
    pub(super) role: Role,
    /// Bytes of the replication stream that it has produced (master) or applied (replica).
    pub(super) offset: u64,
    /// Whom a replica follows.
    pub(super) master_port: Option<u16>,
    /// `master_link_status:up`
    pub(super) link_up: bool,
}

/// A data node.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// The port by which the world knows it.
    pub(super) port: u16,
    pub(super) run: Run,
    /// Behind a cut proxy.
    pub(super) cut: bool,
    /// `None` while it does not answer.
    pub(super) info: Option<NodeInfo>,
}

impl Node {
    pub(super) fn role(&self) -> Option<Role> {
        self.info.as_ref().map(|info| info.role)
    }

    /// A replica of the node at `port`, its link up.
    pub(super) fn follows(&self, port: u16) -> bool {
        self.info.as_ref().is_some_and(|info| {
            info.role == Role::Replica && info.link_up && info.master_port == Some(port)
        })
    }
}

/// What a sentinel said when it was asked last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentinelInfo {
    /// `SENTINEL GET-MASTER-ADDR-BY-NAME`
    pub(super) master: Option<u16>,
    /// How many replicas it knows, and how many of these it finds in good health.
    pub(super) replicas: usize,
    pub(super) replicas_well: usize,
    /// How many other sentinels it knows, and how many of these it finds in good health.
    pub(super) peers: usize,
    pub(super) peers_well: usize,
}

/// A sentinel.
#[derive(Debug, Clone, Default)]
pub(super) struct Sentinel {
    pub(super) port: u16,
    /// `SENTINEL MYID`; empty until it answered for the first time.
    pub(super) id: String,
    pub(super) run: Run,
    /// The demo is subscribed to its events.
    pub(super) listening: bool,
    /// `None` while it does not answer.
    pub(super) info: Option<SentinelInfo>,
}

/// An event that a sentinel published, stamped on arrival.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) at: Instant,
    pub(super) sentinel: usize,
    /// The channel, `+sdown`.
    pub(super) name: String,
    pub(super) payload: String,
}

/// A line of the log.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Since the start of the demo.
    pub(super) at: Duration,
    /// Since the fault whose failover is being followed.
    pub(super) after_fault: Option<Duration>,
    pub(super) text: String,
    /// A sentinel's event rather than the demo's own words.
    pub(super) is_event: bool,
}

/// What the writing client did so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Writes {
    /// SET commands put on a connection.
    pub(super) sent: u64,
    /// Answered `+OK` by a master.
    pub(super) accepted: u64,
    /// Confirmed by at least one replica (`WAIT 1`): these must never be lost.
    pub(super) acknowledged: u64,
    /// Where the client writes to now.
    pub(super) target: Option<u16>,
    pub(super) last_accepted: Option<Instant>,
    /// Accepted writes per [`BUCKET_MS`], as (number of the bucket since the start, count).
    buckets: VecDeque<(u64, u64)>,
}

/// Everything that the demo knows.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) started: Instant,
    /// The one-line description of what runs.
    pub(super) title: String,
    pub(super) nodes: Vec<Node>,
    pub(super) sentinels: Vec<Sentinel>,
    pub(super) writes: Writes,
    /// The failover that is being followed, or was last.
    pub(super) failover: Option<Failover>,
    /// What is being waited for, or done.
    pub(super) status: String,
    lines: VecDeque<Line>,
    /// How many lines were dropped from the front of `lines`.
    lines_dropped: usize,
}

impl Model {
    pub(super) fn new(title: String) -> Model {
        Model {
            started: Instant::now(),
            title,
            nodes: Vec::new(),
            sentinels: Vec::new(),
            writes: Writes::default(),
            failover: None,
            status: String::new(),
            lines: VecDeque::new(),
            lines_dropped: 0,
        }
    }

    /// Adds a line of the demo's own to the log.
    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.log(Instant::now(), text.into(), false);
    }

    fn log(&mut self, at: Instant, text: String, is_event: bool) {
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
            self.lines_dropped += 1;
        }
        let after_fault =
            self.failover.as_ref().and_then(|failover| at.checked_duration_since(failover.start));
        let at = at.saturating_duration_since(self.started);
        self.lines.push_back(Line { at, after_fault, text, is_event });
    }

    /// The lines from number `from` on (counted from the first ever) and the number after the last.
    pub(super) fn lines_from(&self, from: usize) -> (impl Iterator<Item = &Line>, usize) {
        let skip = from.saturating_sub(self.lines_dropped);
        (self.lines.iter().skip(skip), self.lines_dropped + self.lines.len())
    }

    /// The last `count` lines, oldest first.
    pub(super) fn last_lines(&self, count: usize) -> impl Iterator<Item = &Line> {
        self.lines.iter().skip(self.lines.len().saturating_sub(count))
    }

    /// Takes note of a sentinel's event.
    pub(super) fn hear(&mut self, event: Event) {
        if let Some(failover) = &mut self.failover {
            failover.hear(&event, &self.nodes);
        }
        let text = format!(
            "{:<10}  {:<22} {}",
            Who::Sentinel(event.sentinel).to_string(),
            event.name,
            self.with_names(&event.payload)
        );
        self.log(event.at, text, true);
    }

    /// An event's payload with `127.0.0.1 PORT` replaced by the names of the nodes and sentinels,
    /// and with what every payload repeats left out: the events become readable for people.
    fn with_names(&self, payload: &str) -> String {
        let payload = payload.split(" @ ").next().unwrap_or(payload);
        let mut words: Vec<String> = Vec::new();
        for word in payload.split(' ') {
            if word == "127.0.0.1" || word.starts_with("127.0.0.1:") {
                continue;
            }
            let by_port = || word.parse().ok().and_then(|port| self.name_of(port));
            let by_id = || self.sentinels.iter().position(|s| s.id == word).map(Who::Sentinel);
            let name = by_port().or_else(by_id).map_or(word.to_string(), |who| who.to_string());
            // `sentinel ID IP PORT` names it twice.
            if words.last() != Some(&name) {
                words.push(name);
            }
        }
        words.join(" ")
    }

    /// Which process has this port.
    pub(super) fn name_of(&self, port: u16) -> Option<Who> {
        let node = self.nodes.iter().position(|node| node.port == port).map(Who::Node);
        node.or_else(|| {
            self.sentinels.iter().position(|sentinel| sentinel.port == port).map(Who::Sentinel)
        })
    }

    /// The name of the node at `port`, or the port itself.
    pub(super) fn name_or_port(&self, port: u16) -> String {
        self.name_of(port).map_or_else(|| format!("port {port}"), |who| who.to_string())
    }

    /// The master that most sentinels name.
    pub(super) fn named_master(&self) -> Option<usize> {
        let named = |node: &Node| self.sentinels.iter().filter(|s| names(s, node.port)).count();
        let (at, node) = self.nodes.iter().enumerate().max_by_key(|(_, node)| named(node))?;
        (named(node) > 0).then_some(at)
    }

    /// A SET was answered with `+OK` by the master at `port`.
    pub(super) fn accepted(&mut self, at: Instant, port: u16) {
        if let Some(failover) = &mut self.failover {
            failover.write_accepted(at, port, &self.nodes, self.writes.last_accepted);
        }
        self.writes.accepted += 1;
        self.writes.last_accepted = Some(at);
        let bucket = bucket_of(self.started, at);
        match self.writes.buckets.back_mut() {
            Some((last, count)) if *last == bucket => *count += 1,
            _ => self.writes.buckets.push_back((bucket, 1)),
        }
        if self.writes.buckets.len() > MAX_BUCKETS {
            self.writes.buckets.pop_front();
        }
    }

    /// `count` writes to the master at `port` are now known to be on a replica, too.
    pub(super) fn acknowledged(&mut self, at: Instant, port: u16, count: u64) {
        if let Some(failover) = &mut self.failover {
            failover.write_acknowledged(at, port, &self.nodes);
        }
        self.writes.acknowledged += count;
    }

    /// Accepted writes in each of the last `count` full buckets, oldest first.
    pub(super) fn recent_writes(&self, now: Instant, count: usize) -> Vec<u64> {
        let end = bucket_of(self.started, now);
        let begin = end.saturating_sub(count as u64);
        let mut columns = vec![0; (end - begin) as usize];
        for (bucket, writes) in &self.writes.buckets {
            if (begin..end).contains(bucket) {
                columns[(bucket - begin) as usize] = *writes;
            }
        }
        columns
    }
}

/// Whether the sentinel answers and names the node at `port` as the master.
pub(super) fn names(sentinel: &Sentinel, port: u16) -> bool {
    sentinel.info.as_ref().is_some_and(|info| info.master == Some(port))
}

fn bucket_of(started: Instant, at: Instant) -> u64 {
    at.saturating_duration_since(started).as_millis() as u64 / BUCKET_MS
}

/// A model as the tests want it: three nodes (the first is the master) and three sentinels, all
/// well.
#[cfg(test)]
pub(super) fn healthy_model() -> Model {
    let mut model = Model::new("a test".into());
    for at in 0..3u16 {
        let master_port = (at > 0).then_some(7001);
        let role = if at == 0 { Role::Master } else { Role::Replica };
        model.nodes.push(Node {
            port: 7001 + at,
            run: Run::Running,
            cut: false,
            info: Some(NodeInfo { role, offset: 100, master_port, link_up: at > 0 }),
        });
        model.sentinels.push(Sentinel {
            port: 7011 + at,
            id: format!("{at:040x}"),
            run: Run::Running,
            listening: true,
            info: Some(SentinelInfo {
                master: Some(7001),
                replicas: 2,
                replicas_well: 2,
                peers: 2,
                peers_well: 2,
            }),
        });
    }
    model
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_name_the_nodes() {
        let model = healthy_model();
        for (payload, shown) in [
            ("master demo 127.0.0.1 7001", "master demo node-1"),
            ("demo 127.0.0.1 7001 127.0.0.1 7003", "demo node-1 node-3"),
            ("slave 127.0.0.1:7002 127.0.0.1 7002 @ demo 127.0.0.1 7001", "slave node-2"),
            ("sentinel 0123 127.0.0.1 7012 @ demo 127.0.0.1 7001", "sentinel 0123 sentinel-2"),
            (
                &format!("sentinel {:040x} 127.0.0.1 7012 @ demo 127.0.0.1 7001", 1),
                "sentinel sentinel-2",
            ),
            (&format!("{:040x} 5", 2), "sentinel-3 5"),
            ("master demo 127.0.0.1 7001 #quorum 2/2", "master demo node-1 #quorum 2/2"),
            ("7", "7"),
        ] {
            assert_eq!(model.with_names(payload), shown);
        }
    }

    #[test]
    fn a_slow_reader_of_lines_misses_the_oldest_only() {
        let mut model = healthy_model();
        for n in 0..MAX_LINES + 5 {
            model.say(n.to_string());
        }
        let (lines, next) = model.lines_from(0);
        assert_eq!(lines.map(|line| &line.text).next(), Some(&"5".to_string()));
        assert_eq!(next, MAX_LINES + 5);
        assert_eq!(model.lines_from(next).0.count(), 0);
        assert_eq!(model.last_lines(1).next().map(|line| line.text.clone()), Some("2004".into()));
    }

    #[test]
    fn writes_are_counted_per_bucket_and_gaps_are_zero() {
        let mut model = healthy_model();
        let at = |ms| model.started + Duration::from_millis(ms);
        let (a, b, now) = (at(10), at(3 * BUCKET_MS + 1), at(4 * BUCKET_MS + 1));
        model.accepted(a, 7001);
        model.accepted(a, 7001);
        model.accepted(b, 7001);
        assert_eq!(model.recent_writes(now, 10), [2, 0, 0, 1]);
        assert_eq!(model.recent_writes(now, 2), [0, 1]);
    }
}
