//! A running client program over one of the libraries: what it wrote, what it heard, what it lost.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{Commands, Connection, RedisResult};

use super::library::Library;
use super::node::Node;
use super::process::Process;
use super::sentinel::GROUP;
use super::wait::wait_until;

/// Now, in ms since 1970: the clock that all client programs print.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    since.as_millis() as u64
}

/// One acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// When it came, in ms since 1970.
    pub at_ms: u64,
    /// Key `<name of the library>:<number>`, value `<number>`.
    pub number: u64,
}

/// A client program; it ends with this value.
pub struct Follower {
    /// What it is made with.
    pub library: Library,
    sentinels: usize,
    program: Program,
}

enum Program {
    Process { process: Process, _dir: tempfile::TempDir },
    Threads { journal: Arc<Journal>, threads: Vec<JoinHandle<()>> },
}

impl Follower {
    /// Starts it on the stories' group.
    pub fn start(library: Library, sentinels: &[u16]) -> Follower {
        let program = match library.command_line() {
            Some((program, first)) => {
                let dir = tempfile::Builder::new().prefix("client-").tempdir().expect("a folder");
                let mut args = first;
                args.extend([GROUP.to_owned(), library.name().to_owned()]);
                args.extend(sentinels.iter().map(u16::to_string));
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let process = Process::start(library.name(), &program, &args, dir.path());
                Program::Process { process, _dir: dir }
            }
            None => redis_rs(library.name(), sentinels),
        };
        Follower { library, sentinels: sentinels.len(), program }
    }

    /// Everything it said so far; the last line may be unfinished.
    pub fn log(&self) -> String {
        match &self.program {
            Program::Process { process, .. } => process.log(),
            Program::Threads { journal, .. } => journal.text(),
        }
    }

    /// The lines `<what> <ms> <rest>`, as time and rest.
    pub fn said(&self, what: &str) -> Vec<(u64, String)> {
        let log = self.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parts = |line: &str| {
            let mut parts = line.splitn(3, ' ');
            let (word, at) = (parts.next()?, parts.next()?);
            (word == what).then_some(())?;
            Some((at.parse().ok()?, parts.next().unwrap_or_default().to_owned()))
        };
        whole.lines().filter_map(parts).collect()
    }

    /// The acknowledged writes, in order.
    pub fn acks(&self) -> Vec<Ack> {
        let ack = |(at_ms, n): (u64, String)| Some(Ack { at_ms, number: n.parse().ok()? });
        self.said("ack").into_iter().filter_map(ack).collect()
    }

    /// Announcements of one kind that it heard, as time, port of the sentinel, and payload.
    pub fn events(&self, event: &str) -> Vec<(u64, u16, String)> {
        let parts = |(at, rest): (u64, String)| {
            let mut parts = rest.splitn(3, ' ');
            let (port, name) = (parts.next()?.parse().ok()?, parts.next()?);
            (name == event).then(|| (at, port, parts.next().unwrap_or_default().to_owned()))
        };
        self.said("event").into_iter().filter_map(parts).collect()
    }

    /// How often a subscription to the events of a sentinel ended or had to be made anew.
    pub fn subscriptions_lost(&self) -> usize {
        let anew = self.said("subscribed").len().saturating_sub(self.sentinels);
        anew.max(self.said("lost").len())
    }

    /// Waits until it writes, and has its subscriptions.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        self.wait_for_more(20);
        self.wait_until("listens to every sentinel", |f| f.said("subscribed").len() == f.sentinels);
    }

    /// Waits until `count` more writes are acknowledged.
    #[track_caller]
    pub fn wait_for_more(&mut self, count: usize) {
        let enough = self.acks().len() + count;
        self.wait_until("writes", |follower| follower.acks().len() >= enough);
    }

    /// Waits for something that it does.
    #[track_caller]
    pub fn wait_until(&mut self, does: &str, mut condition: impl FnMut(&Follower) -> bool) {
        let name = self.library.name();
        wait_until(40, &format!("{name} {does}"), || {
            if let Program::Process { process, .. } = &mut self.program {
                assert!(process.exit().is_none(), "{name} gave up:\n{}", process.log());
            }
            condition(self)
        });
    }

    /// The longest pause between two acknowledged writes that ended between `since` and `until`,
    /// all in ms.
    pub fn longest_pause(&self, since: u64, until: u64) -> u64 {
        let acks = self.acks();
        let pauses = acks.windows(2).filter(|w| (since..=until).contains(&w[1].at_ms));
        pauses.map(|w| w[1].at_ms - w[0].at_ms).max().unwrap_or(u64::MAX)
    }

    /// The acknowledged writes that a node lacks.
    pub fn missing_on(&self, node: &Node) -> Vec<Ack> {
        let mut client = node.client();
        let name = self.library.name();
        let mut lacks = |ack: &Ack| {
            let key = format!("{name}:{}", ack.number);
            let reply = client.call(&["GET", &key]).expect("the node answers");
            reply.text() != ack.number.to_string()
        };
        self.acks().into_iter().filter(|ack| lacks(ack)).collect()
    }

    /// Ends it; its log stays to be read.
    pub fn stop(&mut self) {
        match &mut self.program {
            Program::Process { process, .. } => process.kill9(),
            Program::Threads { journal, threads } => {
                journal.stop.store(true, Ordering::Relaxed);
                for thread in threads.drain(..) {
                    let _ = thread.join();
                }
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() && matches!(self.program, Program::Threads { .. }) {
            println!("---- log of {} ----\n{}", self.library.name(), self.log());
        }
    }
}

/// What the threads over the crate `redis` print, as the other programs do.
#[derive(Default)]
struct Journal {
    lines: Mutex<String>,
    numbers: AtomicU64,
    stop: AtomicBool,
}

impl Journal {
    fn say(&self, what: &str, rest: impl Display) {
        let line = format!("{what} {} {rest}\n", now_ms());
        self.lines.lock().expect("nobody panics while holding the lock").push_str(&line);
    }

    fn text(&self) -> String {
        self.lines.lock().expect("nobody panics while holding the lock").clone()
    }

    fn ends(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What a connection to the master is for.
type Job = fn(&Journal, &str, &mut Connection) -> RedisResult<()>;

/// The program of follow.py over the crate `redis`, in threads of the test.
fn redis_rs(name: &'static str, sentinels: &[u16]) -> Program {
    let journal = Arc::new(Journal::default());
    let urls: Vec<String> = sentinels.iter().map(|p| format!("redis://127.0.0.1:{p}")).collect();
    let mut threads = Vec::new();
    for (port, url) in sentinels.iter().zip(&urls) {
        let (journal, port, url) = (journal.clone(), *port, url.clone());
        threads.push(std::thread::spawn(move || {
            while !journal.ends() {
                if let Err(error) = rs_events(&journal, port, &url) {
                    journal.say("lost", format!("{port} {error}"));
                }
            }
        }));
    }
    for job in [rs_write as Job, rs_news] {
        let (journal, urls) = (journal.clone(), urls.clone());
        threads.push(std::thread::spawn(move || {
            let kind = SentinelServerType::Master;
            let mut client = SentinelClient::build(urls, GROUP.into(), None, kind)
                .expect("addresses of sentinels");
            while !journal.ends() {
                let done = client.get_connection().and_then(|mut c| job(&journal, name, &mut c));
                if let Err(error) = done {
                    journal.say("error", error);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }));
    }
    Program::Threads { journal, threads }
}

/// Writes until an error.
fn rs_write(journal: &Journal, name: &str, connection: &mut Connection) -> RedisResult<()> {
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    while !journal.ends() {
        // A number is not used again, so that what was lost is seen.
        let number = journal.numbers.fetch_add(1, Ordering::Relaxed);
        let _: () = connection.set(format!("{name}:{number}"), number)?;
        journal.say("ack", number);
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn rs_news(journal: &Journal, _: &str, connection: &mut Connection) -> RedisResult<()> {
    let mut news = connection.as_pubsub();
    news.subscribe("news")?;
    news.set_read_timeout(Some(Duration::from_millis(200)))?;
    while !journal.ends() {
        match news.get_message() {
            Ok(message) => journal.say("news", message.get_payload::<String>()?),
            Err(error) if error.is_timeout() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn rs_events(journal: &Journal, port: u16, url: &str) -> RedisResult<()> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let mut events = connection.as_pubsub();
    events.psubscribe("*")?;
    events.set_read_timeout(Some(Duration::from_millis(200)))?;
    journal.say("subscribed", port);
    while !journal.ends() {
        match events.get_message() {
            Ok(m) => {
                let (event, text) = (m.get_channel_name(), m.get_payload::<String>()?);
                journal.say("event", format!("{port} {event} {text}"));
            }
            Err(error) if error.is_timeout() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
