//! A writing client, as simple as clients are: it writes numbered keys where a sentinel says that
//! the master is, and asks that sentinel again when a write fails. What a node answered with OK is
//! acknowledged, and counts as lost if the master does not have it in the end.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answers::master_address;
use super::group::GROUP;
use super::timeline::What;
use super::watch::{Facts, tell};
use crate::bench::wire::{Wire, within};
use crate::resp::Value;

/// Between two writes, and between two questions to the sentinel while there is no master.
const PACE: Duration = Duration::from_millis(1);
/// How long a node or sentinel may take to accept a connection or to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(50);
/// How soon a node that gave no answer is tried again, if the sentinel goes on naming it, and how
/// long it may then take: waiting for it must not keep the client from seeing that another one is
/// named, or the client's patience would be measured.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
const AGAIN_WITHIN: Duration = Duration::from_millis(5);
/// How long the client may take to finish its last write.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How many keys are read back at a time, and how long that may take.
const READ_AT_ONCE: usize = 500;
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Bounds the memory: far more than a round has time for.
const MAX_KEYS: usize = 1_000_000;

/// When a client looks for the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Habit {
    /// When a write fails: it keeps its connection for as long as that works.
    Sticky,
    /// Also when its sentinel announces `+switch-master`.
    Following,
}

impl Habit {
    pub(super) fn word(self) -> &'static str {
        match self {
            Habit::Sticky => "sticky",
            Habit::Following => "following",
        }
    }
}

/// A client at work.
#[derive(Debug)]
pub(super) struct Writer {
    stop: CancellationToken,
    task: JoinHandle<Ledger>,
}

/// When each key was acknowledged, by its number; `None`: never.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    client: usize,
    keys: Vec<Option<Instant>>,
}

impl Writer {
    /// Starts writing. `switched` tells where this sentinel announces the master to be.
    pub(super) fn start(
        client: usize,
        habit: Habit,
        sentinel: SocketAddr,
        switched: watch::Receiver<Option<SocketAddr>>,
        facts: Facts,
    ) -> Writer {
        let stop = CancellationToken::new();
        let ledger = Ledger { client, keys: Vec::new() };
        let client =
            Client { habit, sentinel, switched, facts, ledger, stop: stop.clone(), wrote_to: None };
        Writer { stop, task: tokio::spawn(client.run()) }
    }

    /// Lets the last write come to its end, and hands over the ledger.
    pub(super) async fn stop(mut self) -> io::Result<Ledger> {
        self.stop.cancel();
        let ended = timeout(STOP_WITHIN, &mut self.task).await;
        ended.map_err(|_| io::ErrorKind::TimedOut)?.map_err(io::Error::other)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Client {
    habit: Habit,
    sentinel: SocketAddr,
    switched: watch::Receiver<Option<SocketAddr>>,
    facts: Facts,
    ledger: Ledger,
    stop: CancellationToken,
    /// Who accepted the last write.
    wrote_to: Option<SocketAddr>,
}

impl Client {
    async fn run(mut self) -> Ledger {
        let mut sentinel = None;
        let mut silent: Option<(SocketAddr, Instant)> = None;
        while !self.is_done() {
            self.switched.mark_unchanged();
            match self.ask(&mut sentinel).await {
                Err(_) => sentinel = None,
                Ok(None) => {}
                Ok(Some(node)) => {
                    let was_silent = silent.filter(|(silent, _)| *silent == node);
                    let too_soon = |(_, since): (_, Instant)| since.elapsed() < AGAIN_AFTER;
                    if !was_silent.is_some_and(too_soon) {
                        let at_first = was_silent.map_or(ANSWER_WITHIN, |_| AGAIN_WITHIN);
                        // Any error is answered by looking for the master anew.
                        let written = self.write_to(node, at_first).await;
                        let late = written.is_err_and(|e| e.kind() == io::ErrorKind::TimedOut);
                        silent = late.then(|| (node, Instant::now()));
                    }
                }
            }
            sleep(PACE).await;
        }
        self.ledger
    }

    fn is_done(&self) -> bool {
        self.stop.is_cancelled() || self.ledger.keys.len() >= MAX_KEYS
    }

    async fn ask(&self, sentinel: &mut Option<Wire>) -> io::Result<Option<SocketAddr>> {
        let open = match sentinel.take() {
            Some(open) => open,
            None => within(ANSWER_WITHIN, Wire::open(self.sentinel)).await?,
        };
        let words = ["SENTINEL", "get-master-addr-by-name", GROUP];
        let answer = within(ANSWER_WITHIN, sentinel.insert(open).ask(&words)).await?;
        Ok(master_address(&answer))
    }

    /// Writes until the first error, until the habit says to look elsewhere, or until the end. The
    /// first answer must come in the time given `at_first`.
    async fn write_to(&mut self, node: SocketAddr, at_first: Duration) -> io::Result<()> {
        let mut wire = within(at_first, Wire::open(node)).await?;
        let mut patience = at_first;
        while !self.is_done() && !self.wants_to_follow() {
            let number = self.ledger.keys.len();
            self.ledger.keys.push(None);
            let set = ["SET", &self.ledger.key(number), &number.to_string()];
            let answer = within(patience, wire.ask(&set)).await?;
            patience = ANSWER_WITHIN;
            if answer != Value::ok() {
                return Err(io::Error::other(format!("{answer:?}")));
            }
            self.ledger.keys[number] = Some(Instant::now());
            if self.wrote_to != Some(node) {
                self.wrote_to = Some(node);
                tell(&self.facts, What::Wrote { client: self.ledger.client, node }).await;
            }
            sleep(PACE).await;
        }
        Ok(())
    }

    fn wants_to_follow(&self) -> bool {
        self.habit == Habit::Following && self.switched.has_changed().unwrap_or(false)
    }
}

impl Ledger {
    fn key(&self, number: usize) -> String {
        format!("client-{}:{number}", self.client)
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.keys.iter().flatten().count() as u64
    }

    /// The longest time without an acknowledged write, if there were any on both sides of `since`.
    pub(super) fn longest_pause(&self, since: Instant) -> Option<Duration> {
        let times: Vec<Instant> = self.keys.iter().flatten().copied().collect();
        let first = times.partition_point(|at| *at < since).checked_sub(1)?;
        times[first..].windows(2).map(|pair| pair[1] - pair[0]).max()
    }

    /// How many acknowledged writes the node at `master` does not have.
    pub(super) async fn lost(&self, master: SocketAddr) -> io::Result<u64> {
        let mut wire = within(READ_WITHIN, Wire::open(master)).await?;
        let mut lost = 0;
        for begin in (0..self.keys.len()).step_by(READ_AT_ONCE) {
            let numbers = begin..(begin + READ_AT_ONCE).min(self.keys.len());
            let mut words = vec!["MGET".to_owned()];
            words.extend(numbers.clone().map(|number| self.key(number)));
            let Value::Array(values) = within(READ_WITHIN, wire.ask(&words)).await? else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let is_lost = |(number, value): (usize, Value)| {
                self.keys[number].is_some() && value.text() != Some(&number.to_string())
            };
            lost += numbers.zip(values).filter(|pair| is_lost(pair.clone())).count() as u64;
        }
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_is_one_that_ends_after_the_fault() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let keys = vec![at(0), at(100), at(101), None, at(111), at(113)];
        let ledger = Ledger { client: 0, keys };
        let pause = |since| ledger.longest_pause(start + Duration::from_millis(since));
        assert_eq!(pause(105), Some(Duration::from_millis(10)));
        assert_eq!(pause(1), Some(Duration::from_millis(100)));
        assert_eq!(pause(200), None);
        assert_eq!(ledger.acknowledged(), 5);
    }
}
