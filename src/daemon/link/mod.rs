//! Links to nodes and other sentinels. A link is a task that keeps its connection up and tells the
//! core what it sees; whatever a node does, it can fill only the places that its own link has.

mod command;
mod dial;
mod rights;
mod subscription;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::command::Order;
pub(super) use self::dial::{Names, Outgoing};
pub(super) use self::rights::Looks;
use crate::config::bytes;
use crate::resp::Value;
use crate::sentinel::{Command, LinkEvent, LinkId, Target, TargetKind};

/// News of all links that may wait for the core; a link with more to say waits itself.
pub(super) const NEWS_MAX: usize = 4096;
/// Hellos of one link that may wait for the core; more are dropped.
const HELLOS_MAX: usize = 64;
/// Commands of one link to a node that may wait to be sent; more are dropped. As many again may be
/// sent and not answered, as in Sentinel.
const COMMANDS_MAX: usize = 100;
/// The same of a link to another sentinel, over which all groups speak.
const PEER_COMMANDS_MAX: usize = 64 << 10;
/// Repeated complaints about one link come no faster than this.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(10);

/// Longest hello that is passed on; an honest one has some 200 bytes.
const HELLO_BYTES_MAX: usize = 4096;
/// The complaint about hellos that are not passed on.
const HELLOS_DROPPED: &str = "hellos dropped: not UTF-8, too long, or too many at once";

/// Numbers the connections of one link, from 1.
type Connection = u64;

/// What a link tells.
pub(super) struct News {
    pub(super) link: LinkId,
    pub(super) event: LinkEvent,
    /// The command connection as it is with this event.
    connection: Option<Connection>,
    /// Given back when the core has taken the event.
    _place: Option<OwnedSemaphorePermit>,
}

/// The end of a link that the core's task holds; dropping it closes the connections.
pub(super) struct Link {
    orders: mpsc::Sender<Order>,
    /// The connection that the core knows of. A command belongs to it and is never sent on a later
    /// one: a promotion that waited through a reconnection might be obsolete.
    connection: Option<Connection>,
    dropped: Complaint,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    /// Starts the link's task, inside a tokio runtime; `looks` find out what we may do there.
    pub(super) fn open(
        id: LinkId,
        target: Target,
        outgoing: &Outgoing,
        looks: &Looks,
        news: mpsc::Sender<News>,
    ) -> Link {
        let target = Arc::new(target);
        let reporter = Reporter { link: id, news, places: Arc::new(Semaphore::new(HELLOS_MAX)) };
        let (orders, queue) = mpsc::channel(commands_max(target.kind));
        let up = Arc::new(AtomicBool::new(false));
        looks.begin(&target, outgoing, &reporter, &up);
        let dropped = Complaint::new(&target, "commands dropped, too many are unanswered");
        let keep = command::keep(target, outgoing.clone(), reporter, queue, up);
        let _task = AbortOnDropHandle::new(tokio::spawn(keep));
        Link { orders, connection: None, dropped, _task }
    }

    /// Takes note of what the core is told about the command connection.
    pub(super) fn note(&mut self, news: &News) {
        match news.event {
            LinkEvent::Up { .. } | LinkEvent::Down { .. } => self.connection = news.connection,
            _ => {}
        }
    }

    /// Sends a command if the connection that the core knows of still stands.
    pub(super) fn send(&mut self, command: Command) {
        if let Some(connection) = self.connection
            && self.orders.try_send((connection, Box::new(command))).is_err()
        {
            self.dropped.add(1);
        }
    }
}

/// The end of the news channel that a link's tasks hold.
#[derive(Clone)]
struct Reporter {
    link: LinkId,
    news: mpsc::Sender<News>,
    places: Arc<Semaphore>,
}

impl Reporter {
    /// Tells what must not be lost; waits while the core has too much to do.
    async fn tell(&self, event: LinkEvent, connection: Option<Connection>) {
        let news = News { link: self.link, event, connection, _place: None };
        if let Err(TrySendError::Full(news)) = self.news.try_send(news) {
            // Fails only when the core is gone, and this task with it in a moment. Boxed, since it
            // is seldom needed and would make each of thousands of tasks larger.
            let _ = Box::pin(self.news.send(news)).await;
        }
    }

    /// Hands a Pub/Sub message over if it is fit and there is a place for it; false if it had to be
    /// dropped. What is no message is passed over.
    fn hear(&self, items: &[Value]) -> bool {
        let [kind, _channel, payload] = items else { return true };
        if kind.text() != Some("message") {
            return true;
        }
        let Some(payload) = payload.text().filter(|text| text.len() <= HELLO_BYTES_MAX) else {
            return false;
        };
        let Ok(place) = self.places.clone().try_acquire_owned() else { return false };
        let event = LinkEvent::Hello { payload: payload.to_owned() };
        let news = News { link: self.link, event, connection: None, _place: Some(place) };
        self.news.try_send(news).is_ok()
    }
}

/// Something that may go wrong a thousand times a second and is told once in a while, with its
/// count.
struct Complaint {
    whom: String,
    what: &'static str,
    count: u64,
    told: Option<Instant>,
}

impl Complaint {
    fn new(target: &Target, what: &'static str) -> Complaint {
        Complaint { whom: name(target), what, count: 0, told: None }
    }

    fn add(&mut self, count: u64) {
        self.count += count;
        if self.told.is_none_or(|told| told.elapsed() >= COMPLAINT_PERIOD) {
            tracing::warn!("{}: {} {}", self.whom, self.count, self.what);
            self.told = Some(Instant::now());
        }
    }
}

fn commands_max(kind: TargetKind) -> usize {
    match kind {
        TargetKind::Node => COMMANDS_MAX,
        TargetKind::Sentinel => PEER_COMMANDS_MAX,
    }
}

/// How the log calls a link.
fn name(target: &Target) -> String {
    match target.kind {
        TargetKind::Node => format!("node {}", target.address),
        TargetKind::Sentinel => format!("sentinel {}", target.address),
    }
}

/// What is sent first on each connection: AUTH if there is a password, and the connection's name.
/// The answers decide nothing: what a node thinks of the password shows in its answers to commands.
fn greeting(target: &Target, name_suffix: &str) -> Vec<Vec<Vec<u8>>> {
    let actual = |command| actual(command, &target.rename_commands).into_bytes();
    let auth = target.password.as_ref().map(|password| {
        let user = target.user.as_deref().map(bytes::encode);
        [actual("AUTH")].into_iter().chain(user).chain([password.bytes()]).collect()
    });
    let name = format!("{}{name_suffix}", target.client_name).into_bytes();
    let name = vec![actual("CLIENT"), b"SETNAME".to_vec(), name];
    auth.into_iter().chain([name]).collect()
}

/// What this node calls a command.
fn actual(command: &str, rename: &BTreeMap<String, String>) -> String {
    rename.get(command).map_or(command, String::as_str).to_owned()
}

/// An error of a node, fit for a log: one line, not too long, without the password, which a node
/// that does not know AUTH repeats.
fn fit_for_log(text: &str, target: &Target) -> String {
    const CHARS_MAX: usize = 200;
    let mut text = text.to_owned();
    if let Some(password) = target.password.as_ref().filter(|p| !p.reveal().is_empty()) {
        text = text.replace(&*String::from_utf8_lossy(&password.bytes()), "******");
    }
    text.chars().take(CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
