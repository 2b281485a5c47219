//! All nodes of a run, in as many processes as the limit of open files asks for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::process::{LOOK_PERIOD, Process, free_port};
use crate::bench::nodes::Cast;
use crate::bench::wire::Wire;
use crate::resp::Value;

/// Replicas of each group.
pub(super) const REPLICAS: usize = 2;
/// Nodes of each group.
pub(super) const NODES: usize = REPLICAS + 1;
/// Connections that one process takes: not all of the 20,000 files that systems often allow, as
/// links are made anew while the old ones still stand.
const CONNECTIONS_MAX: usize = 15_000;
/// What Redis's sentinel keeps to each node.
const CONNECTIONS_PER_NODE: usize = 2;
/// How long a process of nodes may take to start, and to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What happens to all masters at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// They read and answer no more.
    Hang,
    /// So they do, and their connections end.
    Close,
}

impl Fault {
    fn command(self) -> &'static str {
        match self {
            Fault::Hang => "HANG",
            Fault::Close => "CLOSE",
        }
    }
}

pub(super) struct Crowd {
    shards: Vec<Shard>,
    groups: usize,
}

struct Shard {
    cast: Cast,
    wire: Wire,
    _process: Process,
}

/// What the nodes have seen.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Connections that stand.
    pub(super) connected: u64,
    /// Nodes that were asked for INFO over them.
    pub(super) informed: u64,
    /// How often each command came.
    pub(super) commands: BTreeMap<String, u64>,
}

/// What became of one group since the fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Promoted {
    /// From the fault to the first promotion.
    pub(super) after: Option<Duration>,
    /// How many there were.
    pub(super) times: u64,
}

impl Crowd {
    /// Starts the nodes of so many groups, for so many sentinels.
    pub(super) async fn raise(groups: usize, sentinels: usize, dir: &Path) -> io::Result<Crowd> {
        let each = (CONNECTIONS_MAX / (sentinels * NODES * CONNECTIONS_PER_NODE)).max(1);
        let mut shards = Vec::new();
        for first in (0..groups).step_by(each) {
            let groups = each.min(groups - first);
            let cast = Cast { groups, replicas: REPLICAS, first, port: free_port()? };
            shards.push(Shard::start(cast, dir).await?);
        }
        Ok(Crowd { shards, groups })
    }

    pub(super) fn nodes(&self) -> u64 {
        (self.groups * NODES) as u64
    }

    /// Where the master of each group is at first.
    pub(super) fn masters(&self) -> Vec<SocketAddrV4> {
        let of = |shard: &Shard| {
            let cast = shard.cast;
            (0..cast.groups).map(move |group| SocketAddrV4::new(cast.ip(group, 0), cast.port))
        };
        self.shards.iter().flat_map(of).collect()
    }

    pub(super) async fn counts(&mut self) -> io::Result<Counts> {
        let mut sum = Counts::default();
        for answer in self.ask("COUNTS").await? {
            let one = Counts::read(&answer).ok_or_else(|| io::Error::other("no counts"))?;
            sum.connected += one.connected;
            sum.informed += one.informed;
            for (name, count) in one.commands {
                *sum.commands.entry(name).or_default() += count;
            }
        }
        Ok(sum)
    }

    /// Waits until `condition` holds of the counts.
    pub(super) async fn until(
        &mut self,
        deadline: Instant,
        condition: impl Fn(&Counts) -> bool,
    ) -> io::Result<Instant> {
        loop {
            let counts = self.counts().await?;
            let now = Instant::now();
            if condition(&counts) {
                return Ok(now);
            }
            if now >= deadline {
                let Counts { connected, informed, .. } = counts;
                let text = format!("given up: {connected} connections, {informed} nodes asked");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            sleep(4 * LOOK_PERIOD).await;
        }
    }

    pub(super) async fn fail(&mut self, fault: Fault) -> io::Result<()> {
        self.ask(fault.command()).await.map(drop)
    }

    /// The fate of each group.
    pub(super) async fn promoted(&mut self) -> io::Result<Vec<Promoted>> {
        let answers = self.ask("PROMOTED").await?;
        let all = answers.iter().map(promoted).collect::<Option<Vec<_>>>();
        Ok(all.ok_or_else(|| io::Error::other("no promotions"))?.concat())
    }

    async fn ask(&mut self, word: &str) -> io::Result<Vec<Value>> {
        let words = [word];
        let asked = self.shards.iter_mut().map(|shard| shard.wire.obtain(&words));
        timeout(ANSWER_WITHIN, futures_util::future::try_join_all(asked))
            .await
            .map_err(|_| io::Error::other("the nodes do not answer"))?
    }
}

impl Shard {
    async fn start(cast: Cast, dir: &Path) -> io::Result<Shard> {
        let mut program: Vec<OsString> = vec![std::env::current_exe()?.into()];
        program.extend(["bench", "nodes"].map(OsString::from));
        for (flag, value) in [
            ("--groups", cast.groups),
            ("--replicas", cast.replicas),
            ("--first", cast.first),
            ("--port", usize::from(cast.port)),
        ] {
            program.extend([flag.into(), value.to_string().into()]);
        }
        let mut process = Process::start(&program, dir)?;
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            process.check()?;
            match Wire::local(cast.port).await {
                Ok(wire) => return Ok(Shard { cast, wire, _process: process }),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(LOOK_PERIOD).await,
            }
        }
    }
}

impl Counts {
    fn read(answer: &Value) -> Option<Counts> {
        let Value::Array(words) = answer else { return None };
        let mut counts = Counts::default();
        for pair in words.chunks(2) {
            let [name, Value::Integer(count)] = pair else { return None };
            let (name, count) = (name.text()?, u64::try_from(*count).ok()?);
            match name {
                "connected" => counts.connected = count,
                "informed" => counts.informed = count,
                "connections" => {}
                name => drop(counts.commands.insert(name.to_owned(), count)),
            }
        }
        Some(counts)
    }
}

fn promoted(answer: &Value) -> Option<Vec<Promoted>> {
    let Value::Array(groups) = answer else { return None };
    let one = |group: &Value| {
        let Value::Array(pair) = group else { return None };
        let [Value::Integer(after), Value::Integer(times)] = pair[..] else { return None };
        let after = u64::try_from(after).ok().map(Duration::from_millis);
        Some(Promoted { after, times: u64::try_from(times).ok()? })
    };
    groups.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: i64) -> Value {
        Value::Integer(n)
    }

    #[test]
    fn what_the_stage_answers_is_understood() {
        let words = [("connected", 6), ("connections", 8), ("informed", 3), ("PING", 9)];
        let answer = words.iter().flat_map(|(name, n)| [Value::bulk(name), number(*n)]);
        let counts = Counts::read(&Value::Array(answer.collect())).expect("counts");
        let commands = BTreeMap::from([("PING".to_owned(), 9)]);
        assert_eq!(counts, Counts { connected: 6, informed: 3, commands });
        assert_eq!(Counts::read(&Value::ok()), None);

        let fate = |after, times| Value::Array(vec![number(after), number(times)]);
        let told = promoted(&Value::Array(vec![fate(-1, 0), fate(5012, 2)]));
        let after = Some(Duration::from_millis(5012));
        let expected = [Promoted { after: None, times: 0 }, Promoted { after, times: 2 }];
        assert_eq!(told.as_deref(), Some(&expected[..]));
    }
}
