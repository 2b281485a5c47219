//! The connections that are open: what each shows of itself, and how it can be told to end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::pubsub::Subscriptions;
use super::table::Found;
use super::tracking::Tracking;
use crate::acl::DEFAULT_USER;
use crate::resp::Protocol;

/// What CLIENT SETNAME and HELLO SETNAME answer to a name with blanks or control characters.
pub(crate) const NAME_ERROR: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";

/// True if a name can stand in CLIENT LIST, whose fields are parted by blanks.
pub(crate) fn is_printable(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

/// Where one end of a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the network.
    Net(SocketAddr),
    /// On a Unix socket; Redis shows its path for either end.
    Unix(Arc<Path>),
}

impl Place {
    /// True if it can only be on this machine: what protected mode lets in.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Place::Net(address) => address.ip().to_canonical().is_loopback(),
            Place::Unix(_) => true,
        }
    }
}

/// `ip:port`, or `/path:0`, as in CLIENT LIST.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Net(address) => write!(f, "{address}"),
            Place::Unix(path) => write!(f, "{}:0", path.display()),
        }
    }
}

/// One connection as other connections see it.
pub(crate) struct Client {
    /// Unique and growing: `CLIENT ID`.
    pub(crate) id: u64,
    /// The peer's address.
    pub(crate) addr: Place,
    /// Our address.
    pub(crate) laddr: Place,
    /// The file descriptor.
    pub(crate) fd: i32,
    /// When it was accepted.
    pub(crate) since: Instant,
    /// Ends the connection at once: CLIENT KILL.
    pub(crate) kill: CancellationToken,
    /// Ends it once it has its replies.
    pub(crate) leave: CancellationToken,
    state: Mutex<State>,
}

/// What changes during the life of a connection.
pub(crate) struct State {
    /// Who it is: `AUTH`, `HELLO AUTH`.
    pub(crate) user: Vec<u8>,
    /// `CLIENT TRACKING`
    pub(crate) tracking: Option<Tracking>,
    /// `CLIENT SETNAME`; empty if there is none.
    pub(crate) name: String,
    /// `CLIENT SETINFO LIB-NAME`
    pub(crate) lib_name: String,
    /// `CLIENT SETINFO LIB-VER`
    pub(crate) lib_ver: String,
    /// `HELLO`
    pub(crate) protocol: Protocol,
    /// `CLIENT NO-EVICT`
    pub(crate) no_evict: bool,
    /// `CLIENT NO-TOUCH`
    pub(crate) no_touch: bool,
    /// Channels and patterns.
    pub(crate) subscriptions: Subscriptions,
    /// The latest command that was found in the table.
    pub(crate) last_command: Option<Found>,
    /// When bytes came last.
    pub(crate) active: Instant,
    /// Bytes that wait to be understood.
    pub(crate) input: usize,
    /// Bytes that wait to be sent.
    pub(crate) output: usize,
}

impl State {
    fn new(now: Instant) -> State {
        State {
            user: DEFAULT_USER.into(),
            tracking: None,
            name: String::new(),
            lib_name: String::new(),
            lib_ver: String::new(),
            protocol: Protocol::Resp2,
            no_evict: false,
            no_touch: false,
            subscriptions: Subscriptions::default(),
            last_command: None,
            active: now,
            input: 0,
            output: 0,
        }
    }

    /// `RESET`: forgets what the client asked for; the library's name and version stay, as in
    /// Redis.
    pub(crate) fn reset(&mut self) {
        let fresh = State::new(self.active);
        let old = std::mem::replace(self, fresh);
        (self.lib_name, self.lib_ver) = (old.lib_name, old.lib_ver);
        (self.last_command, self.input, self.output) = (old.last_command, old.input, old.output);
    }
}

impl Client {
    /// The changing part. Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a plain assignment, so that a panic elsewhere leaves it
        // whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if CLIENT LIST TYPE and CLIENT KILL TYPE mean this connection.
    pub(crate) fn is(&self, kind: Type) -> bool {
        let subscribed = self.state().subscriptions.count() > 0;
        match kind {
            Type::Normal => !subscribed,
            Type::Pubsub => subscribed,
            Type::Node => false,
        }
    }

    /// The line of CLIENT LIST, in the order of Redis 7.2.
    pub(crate) fn line(&self) -> String {
        let state = self.state();
        let resp = if state.protocol == Protocol::Resp3 { 3 } else { 2 };
        let flags = [
            (state.subscriptions.count() > 0, 'P'),
            (matches!(self.addr, Place::Unix(_)), 'U'),
            (state.tracking.is_some(), 't'),
            (state.tracking.as_ref().is_some_and(|tracking| tracking.broadcast), 'B'),
            (state.no_evict, 'e'),
            (state.no_touch, 'T'),
        ];
        let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect();
        let pairs: [(&str, &dyn std::fmt::Display); 30] = [
            ("id", &self.id),
            ("addr", &self.addr),
            ("laddr", &self.laddr),
            ("fd", &self.fd),
            ("name", &state.name),
            ("age", &self.since.elapsed().as_secs()),
            ("idle", &state.active.elapsed().as_secs()),
            ("flags", &if flags.is_empty() { "N" } else { &flags }),
            ("db", &0),
            ("sub", &state.subscriptions.channels.len()),
            ("psub", &state.subscriptions.patterns.len()),
            ("ssub", &0),
            ("multi", &-1),
            ("qbuf", &state.input),
            ("qbuf-free", &0),
            ("argv-mem", &0),
            ("multi-mem", &0),
            ("rbs", &0),
            ("rbp", &0),
            ("obl", &0),
            ("oll", &0),
            ("omem", &state.output),
            ("tot-mem", &(state.input + state.output)),
            ("events", &if state.output > 0 { "rw" } else { "r" }),
            ("cmd", &state.last_command.map_or("NULL".to_owned(), |found| found.name())),
            ("user", &String::from_utf8_lossy(&state.user)),
            ("redir", &state.tracking.as_ref().map_or(-1, |tracking| tracking.redirect)),
            ("resp", &resp),
            ("lib-name", &state.lib_name),
            ("lib-ver", &state.lib_ver),
        ];
        pairs.map(|(key, value)| format!("{key}={value}")).join(" ")
    }
}

/// The kinds of connection of CLIENT LIST and CLIENT KILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// Without subscriptions.
    Normal,
    /// With subscriptions.
    Pubsub,
    /// A master or replica; a sentinel has no such clients.
    Node,
}

/// All connections, in the order in which they came.
#[derive(Default)]
pub(crate) struct Clients {
    last_id: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// Adds a connection, until the guard is dropped.
    pub(crate) fn add(self: &Arc<Self>, addr: Place, laddr: Place, fd: i32) -> Guest {
        let now = Instant::now();
        let client = Arc::new(Client {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            addr,
            laddr,
            fd,
            since: now,
            kill: CancellationToken::new(),
            leave: CancellationToken::new(),
            state: Mutex::new(State::new(now)),
        });
        self.open().insert(client.id, client.clone());
        Guest { clients: self.clone(), client }
    }

    /// Every connection.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.open().values().cloned().collect()
    }

    /// How many different channels and patterns are subscribed to.
    pub(crate) fn subscribed(&self) -> (usize, usize) {
        let (mut channels, mut patterns) = (BTreeSet::new(), BTreeSet::new());
        for client in self.all() {
            let state = client.state();
            channels.extend(state.subscriptions.channels.iter().cloned());
            patterns.extend(state.subscriptions.patterns.iter().cloned());
        }
        (channels.len(), patterns.len())
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the others, given back when its task ends, even by a panic.
pub(crate) struct Guest {
    clients: Arc<Clients>,
    /// The connection.
    pub(crate) client: Arc<Client>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.clients.open().remove(&self.client.id);
    }
}
