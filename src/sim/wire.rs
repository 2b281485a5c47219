//! What travels between the processes of the world, and what comes to them.

use std::fmt;

use crate::resp::Value;
use crate::sentinel::types::Address;
use crate::sentinel::{Command, LostReason};

/// Virtual milliseconds since the world began.
pub type Ms = u64;

/// A machine: what partitions come between. Processes on one machine always reach each other.
pub type Machine = usize;

/// Processes of the world, by kind and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proc {
    /// A sentinel.
    Sentinel(usize),
    /// A data node.
    Node(usize),
    /// A client, one for each group.
    Client(usize),
}

impl fmt::Display for Proc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proc::Sentinel(n) => write!(f, "sentinel {n}"),
            Proc::Node(n) => write!(f, "node {n}"),
            Proc::Client(n) => write!(f, "client {n}"),
        }
    }
}

/// One connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnId(pub(super) u32);

/// The name of a history of data: Redis's `master_replid`.
pub(super) type ReplId = u64;

/// What a connection is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Requests and replies.
    Commands,
    /// The hello channel.
    Subscribe,
    /// A replica that listens at this address wants what comes after this point of a history:
    /// `PSYNC replid offset`.
    Replicate { address: Address, replid: ReplId, offset: u64 },
}

/// The number of a write, given by the client that made it.
pub(super) type Write = u32;

/// A write in a history, and the offset behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) end: u64,
    pub(super) write: Write,
}

/// A request. The words that a sentinel's command has on a real wire are the daemon's matter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    /// From a sentinel, to a node or another sentinel.
    Command(Command),
    /// From a client to a node.
    Set(Write),
    /// From a client to a sentinel: where is this group's master?
    MasterAddress(String),
}

/// What travels over a connection.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Packet {
    /// Opens it.
    Greet(Box<Purpose>),
    /// The server's consent.
    Greeted,
    /// A request.
    Ask(Box<Ask>),
    /// `PING`, by far the most frequent request.
    Ping,
    /// A request's reply.
    Reply(Box<Value>),
    /// `+PONG`.
    Pong,
    /// A message of the hello channel.
    Published(String),
    /// All data, to a replica: `+FULLRESYNC` and what follows.
    Copy { replid: ReplId, history: Vec<Entry>, offset: u64 },
    /// What a replica missed: `+CONTINUE` and what follows.
    Continue { replid: ReplId, missed: Vec<Entry>, offset: u64 },
    /// What happened on the master, to a replica; `offset` is the one after it.
    Stream { change: Box<Change>, offset: u64 },
    /// A replica is alive.
    Ack,
    /// FIN or RST: nothing comes after it.
    Closed(Box<LostReason>),
}

/// One entry of the replication stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Write(Write),
    Publish(String),
    Ping,
}

/// What a process set itself to do later; forgotten when it crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// A sentinel's deadline; a later one replaces it.
    Wake { token: u64 },
    /// A sentinel connects again: the link's number, and whether its subscription is meant.
    Redial { link: u64, subscription: bool },
    /// A sentinel's disk has finished this write.
    Disk,
    /// A node's or client's regular work.
    Tick,
    /// A node has its data ready for this replica.
    CopyReady { conn: ConnId },
    /// A node may take writes again.
    Unpause,
    /// A slow node gets round to the oldest request that lies waiting.
    Answer,
}

/// What comes to a process.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    Packet(ConnId, Packet),
    Lost(ConnId, LostReason),
    Timer(Timer),
}

/// What [`Net::next`](super::net::Net::next) hands to the world.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Happening {
    /// For a process.
    To(Proc, News),
    /// For the world itself: what it scheduled with `remind`.
    Reminder(Note),
}

/// What the world reminds itself of; faults are told by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// The sentinels start.
    Sentinels,
    /// Nothing is calm any more.
    CalmOver,
    Begins(usize),
    Ends(usize),
    /// A partition that flaps comes or goes.
    Flaps(usize),
    /// The second of two masters that trade places moves.
    Trades(usize),
    /// All that fails is mended.
    Heal,
    /// An operator tries again what he could not say.
    Operator,
    /// It is looked whether all is well.
    Probe,
}
