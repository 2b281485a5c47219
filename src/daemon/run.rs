//! The one task that owns the core: waits for news of links, requests, the store's word or the
//! deadline, hands it to the core, and carries out what the core wants.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::handle::{Asked, Handle};
use super::link::{Link, Looks, NEWS_MAX, News, Outgoing};
use super::store::{Job, Store};
use crate::resp::Value;
use crate::sentinel::{
    self, Clock, Effect, Event, Input, Level, LinkId, RequestId, Revision, Sentinel,
};
use crate::wall_clock::unix_ms;

/// How long the end waits for a write of the state that is in flight.
const LAST_WRITE_MAX: Duration = Duration::from_secs(2);

/// News that are taken one after another before anything else is looked at.
const NEWS_AT_ONCE: usize = 64;

/// Who is so late, in ms, to do what is due has not had the time to listen, either.
const LATE_MS: u64 = 5;

/// So many links are served at most before this task has its turn again: tokio's event interval.
const LINKS_A_TURN: usize = 61;

/// How a process ends that was told to by `SENTINEL SIMULATE-FAILURE`: Redis's exit code.
const SIMULATED_CRASH: i32 = 99;

/// What comes to the core from outside, each in a bounded queue of its own.
pub(super) struct Inbox {
    pub(super) requests: mpsc::Receiver<Asked>,
    pub(super) stored: mpsc::Receiver<Input>,
    news: mpsc::Receiver<News>,
}

/// The core with all that carries out its effects.
pub(super) struct Driver {
    sentinel: Sentinel,
    /// The zero of the core's monotonic clock.
    started: Instant,
    handle: Handle,
    store: Store,
    links: BTreeMap<LinkId, Link>,
    outgoing: Outgoing,
    looks: Looks,
    /// For the links to come.
    news: mpsc::Sender<News>,
    /// Who waits for an answer.
    asking: HashMap<RequestId, oneshot::Sender<Value>>,
    last_request: u64,
    /// The state that the store is writing.
    writing: Option<Revision>,
    /// What came up while effects were carried out.
    more: VecDeque<Input>,
}

impl Driver {
    /// A driver whose core is made by `core`, and its inbox; inside a tokio runtime.
    pub(super) fn new(
        core: impl FnOnce(Clock) -> Sentinel,
        handle: Handle,
        store: Store,
        outgoing: Outgoing,
        requests: mpsc::Receiver<Asked>,
        stored: mpsc::Receiver<Input>,
    ) -> (Driver, Inbox) {
        let started = Instant::now();
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let driver = Driver {
            sentinel: core(clock(started)),
            started,
            handle,
            store,
            links: BTreeMap::new(),
            outgoing,
            looks: Looks::start(),
            news: sender,
            asking: HashMap::new(),
            last_request: 0,
            writing: None,
            more: VecDeque::new(),
        };
        (driver, Inbox { requests, stored, news })
    }

    /// Runs until `stop` is cancelled, and ends what is under way.
    pub(super) async fn run(mut self, mut inbox: Inbox, stop: CancellationToken) {
        let alarm = sleep_until(self.started);
        tokio::pin!(alarm);
        self.give(Input::Wake);
        loop {
            let late_ms = self.late_ms();
            if late_ms >= LATE_MS {
                self.catch_up(&mut inbox.news).await;
                self.give(Input::Wake);
            }
            let due = self.due();
            if due.is_some_and(|due| due != alarm.deadline()) {
                alarm.as_mut().reset(due.unwrap_or(self.started));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(input) = inbox.stored.recv() => self.stored(input),
                Some(news) = inbox.news.recv() => {
                    self.take_news(news, Driver::give);
                    for _ in 1..NEWS_AT_ONCE {
                        let Ok(news) = inbox.news.try_recv() else { break };
                        self.take_news(news, Driver::give);
                    }
                }
                Some((request, answer)) = inbox.requests.recv() => self.ask(request, answer),
                () = &mut alarm, if due.is_some() => self.give(Input::Wake),
            }
            if inbox.stored.is_closed()
                && let Some(revision) = self.writing.take()
            {
                // The writer has panicked; nothing is lost but the ability to promise anything.
                let reason = "the thread that writes it has died".to_owned();
                self.give(Input::PersistFailed { revision, reason });
            }
        }
        self.end(inbox).await;
    }

    /// When the core wants to be woken. A core that wants it in the past is woken in a moment, not
    /// in a busy loop.
    fn due(&self) -> Option<Instant> {
        let due = self.started + Duration::from_millis(self.sentinel.deadline()?.as_ms());
        let soon = Duration::from_millis(clock(self.started).mono.as_ms() + 1);
        Some(due.max(self.started + soon))
    }

    /// For how long, in ms, something has been due.
    fn late_ms(&self) -> u64 {
        let now = clock(self.started).mono;
        self.sentinel.deadline().map_or(0, |due| now.since(due))
    }

    /// This process was starved: what others have said meanwhile waits in the sockets. All of it is
    /// heard before anything that is due is done, so that nobody counts as silent who was not
    /// listened to.
    async fn catch_up(&mut self, news: &mut mpsc::Receiver<News>) {
        for _ in 0..self.links.len() / LINKS_A_TURN + 2 {
            yield_now().await;
            while let Ok(news) = news.try_recv() {
                self.take_news(news, Driver::hear);
            }
        }
    }

    fn stored(&mut self, input: Input) {
        self.writing = None;
        self.give(input);
    }

    fn take_news(&mut self, news: News, take: impl FnOnce(&mut Driver, Input)) {
        if let Some(link) = self.links.get_mut(&news.link) {
            link.note(&news);
            take(self, Input::Link { link: news.link, event: news.event });
        }
    }

    /// Hands an input to the core, which decides nothing before the next one that is given.
    fn hear(&mut self, input: Input) {
        self.sentinel.hear(clock(self.started), input);
    }

    fn ask(&mut self, request: sentinel::Request, answer: oneshot::Sender<Value>) {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.asking.insert(id, answer);
        self.give(Input::Request { id, request });
    }

    /// Hands an input to the core and carries out everything that follows from it.
    fn give(&mut self, input: Input) {
        self.more.push_back(input);
        while let Some(input) = self.more.pop_front() {
            self.sentinel.handle(clock(self.started), input);
            while let Some(effect) = self.sentinel.poll() {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { revision, state, whole } => {
                match self.store.persist(Job { revision, state, whole }) {
                    Ok(()) => self.writing = Some(revision),
                    Err(failed) => self.more.push_back(failed),
                }
            }
            Effect::Connect { link, target } => {
                let opened =
                    Link::open(link, *target, &self.outgoing, &self.looks, self.news.clone());
                self.links.insert(link, opened);
            }
            Effect::Disconnect { link } => {
                self.links.remove(&link);
            }
            Effect::Send { link, command } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.send(command);
                }
            }
            Effect::Reply { id, reply } => {
                if let Some(answer) = self.asking.remove(&id) {
                    // Who asked may have gone.
                    let _ = answer.send(reply);
                }
            }
            Effect::Show { group, master } => self.handle.masters().show(&group, master),
            Effect::Announce(event) => announce(&self.handle, event),
            Effect::SetLogLevel(level) => super::log::set_level(level),
            Effect::Crash => {
                log(Level::Warning, "Sentinel CRASH because of SENTINEL simulate-failure");
                std::process::exit(SIMULATED_CRASH);
            }
            Effect::Say { level, group, text } => match group {
                // Most sentences name their group themselves.
                Some(group) if !text.contains(&*group) => log(level, &format!("{group}: {text}")),
                _ => log(level, &text),
            },
            Effect::RunScript { script, args, .. } => self.handle.scripts().add(script, args),
            Effect::TimeScripts(times) => self.handle.scripts().set_times(times),
        }
    }

    /// Closes everything and lets the write in flight end.
    async fn end(self, mut inbox: Inbox) {
        let Driver { store, links, asking, .. } = self;
        drop((links, asking, inbox.news, inbox.requests));
        store.stop();
        let last_write = async { while inbox.stored.recv().await.is_some() {} };
        if timeout(LAST_WRITE_MAX, last_write).await.is_err() {
            tracing::warn!("The last write of the state does not end; it is left to itself");
        }
    }
}

/// Both clocks now.
fn clock(started: Instant) -> Clock {
    let mono_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Clock { mono: sentinel::Instant::from_ms(mono_ms), wall_ms: unix_ms() }
}

/// Tells the log and all subscribers.
pub(super) fn announce(handle: &Handle, event: Event) {
    let text = format!("{} {}", event.kind.name(), event.payload);
    log(event.kind.level(), text.trim_end());
    handle.announce(Arc::new(event));
}

fn log(level: Level, text: &str) {
    match level {
        Level::Debug => tracing::trace!("{text}"),
        Level::Verbose => tracing::debug!("{text}"),
        Level::Notice => tracing::info!("{text}"),
        Level::Warning => tracing::warn!("{text}"),
    }
}
