//! Finds out in advance what a node or sentinel lets us do, over a connection of its own.
//!
//! A node is asked to queue the commands of a promotion in a transaction that is never carried out:
//! it judges rights and names when it queues, and forgets the transaction with the connection. Each
//! answer is awaited before the next command goes out, so that nothing is ever sent to somebody who
//! does not queue. Redis's sentinels learn of a missing right when the promotion fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::RngExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::dial::Dialer;
use super::{Outgoing, Reporter, actual, fit_for_log, greeting};
use crate::resp::{ReplyDecoder, ReplyLimits, Value, encode_command};
use crate::sentinel::{Command, LinkEvent, MYID, Target, TargetKind};

/// Pause before the first look: the links themselves come first.
const FIRST_AFTER: Duration = Duration::from_millis(500);
/// Pause between looks at somebody who answers; an operator may change rights at any time.
const PERIOD: Duration = Duration::from_secs(60);
/// Pause after a look that came to nothing, or found something wrong: somebody may be mending it.
const RETRY: Duration = Duration::from_secs(5);
/// Looks under way at a time: those at nodes that hang must not keep all others waiting.
const AT_ONCE: usize = 16;
/// Over a long time one look begins in so long: it costs some ten round trips, and with thousands
/// of nodes, each then less often, a hundredth of a core.
const PACE: Duration = Duration::from_millis(100);
/// So many may begin at once before that.
const BURST: u32 = 32;
/// Longest wait for all answers.
const ANSWERS_MAX: Duration = Duration::from_secs(5);
/// What the other side may send at a time.
const LIMITS: ReplyLimits =
    ReplyLimits { max_bulk: 64 << 10, max_line: 4 << 10, max_reply: 128 << 10, max_depth: 4 };

/// Looks at whatever links lead to, again and again, and tells what changed. Cheap to clone.
#[derive(Clone)]
pub(in super::super) struct Looks(mpsc::UnboundedSender<Look>);

impl Looks {
    /// Starts the one task that looks, inside a tokio runtime; it ends with the last clone of this.
    pub(in super::super) fn start() -> Looks {
        let (sender, looks) = mpsc::unbounded_channel();
        tokio::spawn(look_at_all(looks));
        Looks(sender)
    }

    /// Looks at this target from now on, whenever its link is `up`, as long as there is one.
    pub(super) fn begin(
        &self,
        target: &Arc<Target>,
        outgoing: &Outgoing,
        reporter: &Reporter,
        up: &Arc<AtomicBool>,
    ) {
        let look = Look {
            target: target.clone(),
            dialer: Dialer::new(target.address.clone(), outgoing.clone()),
            reporter: reporter.clone(),
            up: Arc::downgrade(up),
            known: BTreeMap::new(),
        };
        // The task ends only with the runtime.
        let _ = self.0.send(look);
    }
}

async fn look_at_all(mut news: mpsc::UnboundedReceiver<Look>) {
    let mut waiting: BTreeMap<(Instant, u64), Look> = BTreeMap::new();
    let mut looking = FuturesUnordered::new();
    let mut number = 0;
    // What was begun is paid for up to here.
    let mut paid = longest_credit();
    loop {
        let now = Instant::now();
        paid = paid.max(longest_credit());
        let next = waiting.first_key_value().map(|((due, _), _)| (*due).max(paid));
        let (look, pause) = tokio::select! {
            look = news.recv() => match look {
                Some(look) => (look, FIRST_AFTER),
                None => return,
            },
            Some(done) = looking.next() => done,
            () = sleep_until(next.unwrap_or(now)), if next.is_some() && looking.len() < AT_ONCE => {
                if let Some((_, look)) = waiting.pop_first()
                    && let Some(up) = look.up.upgrade()
                {
                    if up.load(Ordering::Relaxed) {
                        paid += PACE;
                        looking.push(look.once());
                        continue;
                    }
                    (look, RETRY)
                } else {
                    continue;
                }
            }
        };
        number += 1;
        let some_time = pause.mul_f64(rand::rng().random_range(0.75..1.25));
        waiting.insert((Instant::now() + some_time, number), look);
    }
}

fn longest_credit() -> Instant {
    let now = Instant::now();
    now.checked_sub(BURST * PACE).unwrap_or(now)
}

/// Whom to look at, and what was found when that was last done.
struct Look {
    target: Arc<Target>,
    dialer: Dialer,
    reporter: Reporter,
    up: Weak<AtomicBool>,
    known: BTreeMap<&'static str, Option<String>>,
}

impl Look {
    /// Looks once; gives the pause before the next time.
    async fn once(mut self) -> (Look, Duration) {
        let Ok(stream) = self.dialer.connect().await else { return (self, RETRY) };
        let mut questions = Questions::new(stream, &self.target);
        let answers = timeout(ANSWERS_MAX, questions.over());
        let whole = matches!(self.dialer.unless_moved(answers).await, Ok(Ok(Some(()))));
        let found = std::mem::take(&mut questions.found);
        let fine = whole && found.values().all(Option::is_none);
        for (command, refused) in found {
            if self.known.insert(command, refused.clone()) != Some(refused.clone()) {
                let command = command.to_owned();
                self.reporter.tell(LinkEvent::Right { command, refused }, None).await;
            }
        }
        (self, if fine { PERIOD } else { RETRY })
    }
}

/// One look, over one connection.
struct Questions<'a, S> {
    stream: S,
    target: &'a Target,
    bytes: BytesMut,
    decoder: ReplyDecoder,
    /// The commands that were answered, each with the error, if there was one.
    found: BTreeMap<&'static str, Option<String>>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Questions<'a, S> {
    fn new(stream: S, target: &'a Target) -> Questions<'a, S> {
        let decoder = ReplyDecoder::new(LIMITS);
        Questions { stream, target, bytes: BytesMut::new(), decoder, found: BTreeMap::new() }
    }

    /// `None` if it could not be looked at everything.
    async fn over(&mut self) -> Option<()> {
        for words in greeting(self.target, "-check") {
            self.ask(&words).await?;
        }
        match self.target.kind {
            TargetKind::Node => self.over_node().await,
            TargetKind::Sentinel => self.over_sentinel().await,
        }
    }

    async fn over_node(&mut self) -> Option<()> {
        // An empty transaction shows whether EXEC is allowed. Where it is not, old versions leave
        // it open, and say that transactions cannot be nested.
        if self.ask_for("MULTI", &["MULTI"]).await? != Value::ok() {
            return Some(());
        }
        self.ask_for("EXEC", &["EXEC"]).await?;
        self.ask(&self.words(&["MULTI"])).await?;
        // Whoever carries this out instead of queueing it is asked nothing more.
        let queued = |reply: &Value| matches!(reply, Value::Simple(text) if text == "QUEUED");
        if !queued(&self.ask(&self.words(&["PING"])).await?) {
            return None;
        }
        for words in Command::Promote.requests(&BTreeMap::new()) {
            let (name, more) = words.split_first()?;
            let Some(name) = QUEUED.iter().find(|queued| *queued == name) else { continue };
            let words = [&[*name], &more.iter().map(String::as_str).collect::<Vec<_>>()[..]];
            let reply = self.ask_for(name, &words.concat()).await?;
            if !queued(&reply) && !matches!(reply, Value::Error(_)) {
                return None;
            }
        }
        let reply = self.ask(&self.words(&["SCRIPT", "KILL"])).await?;
        // Whoever does not know SCRIPT runs no scripts.
        let refused = self.error(&reply).filter(|error| error.starts_with("NOPERM"));
        self.found.insert("SCRIPT", refused);
        Some(())
    }

    /// A question about nobody's master, which changes nothing; hellos are tried every 2 s anyway.
    async fn over_sentinel(&mut self) -> Option<()> {
        let question = ["SENTINEL", "is-master-down-by-addr", "0.0.0.0", "1", "0", "*"];
        self.ask_for("SENTINEL", &question).await?;
        self.ask_for(MYID, &["SENTINEL", "MYID"]).await.map(|_| ())
    }

    /// Asks, and notes whether that was refused. Errors of another kind say nothing of rights.
    async fn ask_for(&mut self, name: &'static str, words: &[&str]) -> Option<Value> {
        let reply = self.ask(&self.words(words)).await?;
        let refused = self.error(&reply);
        let busy = ["LOADING", "MASTERDOWN", "BUSY", "MISCONF", "NOAUTH"];
        if refused.as_ref().is_some_and(|error| busy.iter().any(|code| error.starts_with(code))) {
            return None;
        }
        // Two commands of one name may be told apart by their rights: CLIENT KILL comes twice.
        let before = self.found.remove(name).flatten();
        self.found.insert(name, before.or(refused));
        Some(reply)
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let name = actual(words[0], &self.target.rename_commands);
        [name].into_iter().chain(words[1..].iter().map(|word| (*word).to_owned())).collect()
    }

    fn error(&self, reply: &Value) -> Option<String> {
        match reply {
            Value::Error(text) => {
                // Of EXEC it is told why the transaction ends.
                let why = text.strip_prefix(ABORTED).unwrap_or(text);
                Some(fit_for_log(why, self.target))
            }
            _ => None,
        }
    }

    /// Sends one request and waits for its reply; `None` if there is none.
    async fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> Option<Value> {
        let mut request = BytesMut::new();
        encode_command(words, &mut request);
        self.stream.write_all(&request).await.ok()?;
        self.stream.flush().await.ok()?;
        loop {
            match self.decoder.feed(&mut self.bytes) {
                Ok(Some(reply)) => return Some(reply),
                Ok(None) => {}
                Err(_) => return None,
            }
            self.bytes.reserve(LIMITS.max_line);
            if self.stream.read_buf(&mut self.bytes).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// How the error of an EXEC begins that was not allowed.
const ABORTED: &str = "EXECABORT Transaction discarded because of: ";
/// The commands of a promotion that are queued between MULTI and EXEC.
const QUEUED: &[&str] = &["SLAVEOF", "CONFIG", "CLIENT"];
