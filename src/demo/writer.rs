//! The writing client, an ordinary application with an honest ledger: it asks the sentinels where
//! the master is, writes numbered keys, and asks again when something goes wrong. A write counts as
//! acknowledged only once a replica has it, too (`WAIT 1`), for only then can a failover keep it: a
//! write that the master alone has seen dies with the master, in Redis as here.

use std::time::{Duration, Instant};

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::model::Board;
use super::watch::{ask, connect, master_port};

/// Between two writes.
const PACE: Duration = Duration::from_millis(5);
/// Between two searches for the master.
const SEARCH_EVERY: Duration = Duration::from_millis(10);
/// How long a sentinel or node may take to accept a connection or to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// How long a write waits for a replica, in the words of the command.
const WAIT_MS: &str = "100";
/// After so many keys the client rests: a demo left running for days must not fill the memory.
const MAX_KEYS: usize = 5_000_000;
/// How many keys are read back at a time.
const READ_AT_ONCE: usize = 500;
/// How long such a reading may take.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How long the client may take to finish its last write.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What the client knows of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum KeyState {
    /// SET was sent; the answer was an error or never came.
    Sent,
    /// The master answered `+OK`.
    Accepted,
    /// At least one replica has it as well.
    Acknowledged,
}

/// All keys that were ever sent, numbered from 0.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    pub(super) keys: Vec<KeyState>,
}

impl Ledger {
    /// How many keys got at least as far as `state`.
    pub(super) fn count(&self, state: KeyState) -> usize {
        self.keys.iter().filter(|key| **key >= state).count()
    }
}

fn key(number: usize) -> String {
    format!("demo:{number}")
}

/// The client at work.
#[derive(Debug)]
pub(super) struct Writer {
    stop: CancellationToken,
    task: JoinHandle<Ledger>,
}

impl Writer {
    /// Starts writing; `sentinels` are the ports at which to ask for the master.
    pub(super) fn start(sentinels: Vec<u16>, board: Board) -> Writer {
        let stop = CancellationToken::new();
        let client = Client {
            sentinels: sentinels.into_iter().map(|port| (port, None)).collect(),
            first: 0,
            ledger: Ledger::default(),
            board,
            stop: stop.clone(),
        };
        Writer { stop, task: tokio::spawn(client.run()) }
    }

    /// Lets the last write come to its end, and hands over the ledger. `None` if it does not end.
    pub(super) async fn stop(mut self) -> Option<Ledger> {
        self.stop.cancel();
        timeout(STOP_WITHIN, &mut self.task).await.ok()?.ok()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Client {
    sentinels: Vec<(u16, Option<MultiplexedConnection>)>,
    /// Which sentinel is asked first.
    first: usize,
    ledger: Ledger,
    board: Board,
    stop: CancellationToken,
}

impl Client {
    async fn run(mut self) -> Ledger {
        while !self.stop.is_cancelled() && self.ledger.keys.len() < MAX_KEYS {
            if let Some((port, connection)) = self.find_master().await {
                self.board.send_modify(|model| model.writes.target = Some(port));
                self.write_to(port, connection).await;
                self.board.send_modify(|model| model.writes.target = None);
            }
            sleep(SEARCH_EVERY).await;
        }
        if self.ledger.keys.len() >= MAX_KEYS {
            let text = format!("{MAX_KEYS} keys are enough: the client writes no more");
            self.board.send_modify(|model| model.say(text));
        }
        self.ledger
    }

    /// Asks the sentinels in turn, and makes sure that the node they name is a master.
    async fn find_master(&mut self) -> Option<(u16, MultiplexedConnection)> {
        for turn in 0..self.sentinels.len() {
            let at = (self.first + turn) % self.sentinels.len();
            let Ok(Some(port)) = self.ask_sentinel(at).await else { continue };
            if let Ok(node) = master_at(port).await {
                self.first = at;
                return Some((port, node));
            }
        }
        None
    }

    async fn ask_sentinel(&mut self, at: usize) -> RedisResult<Option<u16>> {
        let (port, slot) = &mut self.sentinels[at];
        let mut sentinel = match slot.take() {
            Some(open) => open,
            None => connect(*port, ANSWER_WITHIN).await?,
        };
        let answer = master_port(&mut sentinel).await?;
        *slot = Some(sentinel);
        Ok(answer)
    }

    /// Writes until the first error or until told to stop.
    async fn write_to(&mut self, port: u16, mut node: MultiplexedConnection) {
        // WAIT speaks of all earlier writes of its connection.
        let mut unconfirmed: Vec<usize> = Vec::new();
        while !self.stop.is_cancelled() && self.ledger.keys.len() < MAX_KEYS {
            let number = self.ledger.keys.len();
            self.ledger.keys.push(KeyState::Sent);
            self.board.send_modify(|model| model.writes.sent += 1);
            let set = ["SET", &key(number), &number.to_string()];
            if ask::<()>(&mut node, &set).await.is_err() {
                return;
            }
            self.ledger.keys[number] = KeyState::Accepted;
            unconfirmed.push(number);
            let now = Instant::now();
            self.board.send_modify(|model| model.accepted(now, port));

            let Ok(replicas) = ask::<u64>(&mut node, &["WAIT", "1", WAIT_MS]).await else { return };
            if replicas > 0 {
                let (now, count) = (Instant::now(), unconfirmed.len() as u64);
                for number in unconfirmed.drain(..) {
                    self.ledger.keys[number] = KeyState::Acknowledged;
                }
                self.board.send_modify(|model| model.acknowledged(now, port, count));
            }
            sleep(PACE).await;
        }
    }
}

async fn master_at(port: u16) -> RedisResult<MultiplexedConnection> {
    let mut node = connect(port, ANSWER_WITHIN).await?;
    let role: Vec<redis::Value> = ask(&mut node, &["ROLE"]).await?;
    match role.first().map(redis::from_redis_value_ref::<String>) {
        Some(Ok(role)) if role == "master" => Ok(node),
        _ => Err((redis::ErrorKind::Client, "not a master").into()),
    }
}

/// Reads all `count` keys from the node at `port`: which of them hold the value that was written.
pub(super) async fn read_back(port: u16, count: usize) -> RedisResult<Vec<bool>> {
    let mut node = connect(port, READ_WITHIN).await?;
    let mut found = Vec::with_capacity(count);
    for begin in (0..count).step_by(READ_AT_ONCE) {
        let numbers = begin..(begin + READ_AT_ONCE).min(count);
        let mut ask = redis::cmd("MGET");
        for number in numbers.clone() {
            ask.arg(key(number));
        }
        let values: Vec<Option<String>> = ask.query_async(&mut node).await?;
        let right = numbers.zip(values).map(|(number, value)| value == Some(number.to_string()));
        found.extend(right);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_includes_the_later_ones() {
        use KeyState::{Accepted, Acknowledged, Sent};
        let ledger = Ledger { keys: vec![Acknowledged, Sent, Accepted, Acknowledged] };
        assert_eq!(ledger.count(Sent), 4);
        assert_eq!(ledger.count(Accepted), 3);
        assert_eq!(ledger.count(Acknowledged), 2);
    }
}
