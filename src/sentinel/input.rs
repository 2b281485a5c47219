//! What comes into the core.

use super::effect::Command;
use super::request::Request;
use super::types::{LinkId, RequestId, Revision};
use crate::resp::Value;

/// Everything that can happen to a sentinel.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The deadline passed, or nothing did: always harmless.
    Wake,
    /// News of one link. News of a link that the core has closed is ignored.
    Link {
        /// Which link.
        link: LinkId,
        /// What happened to it.
        event: LinkEvent,
    },
    /// A client or another sentinel asks; exactly one [`Effect::Reply`](super::Effect::Reply)
    /// follows, maybe only after a write of the state.
    Request {
        /// Chosen by the caller, given back with the reply.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// The state of this revision is on disk: written, fsynced, renamed, folder fsynced.
    Persisted {
        /// The revision that the [`Effect::Persist`](super::Effect::Persist) named.
        revision: Revision,
    },
    /// The state of this revision could not be made durable.
    PersistFailed {
        /// The revision that the [`Effect::Persist`](super::Effect::Persist) named.
        revision: Revision,
        /// The system's words, for the log.
        reason: String,
    },
}

/// News of one link.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    /// The command connection is made, authenticated and named. Comes again after each
    /// reconnection.
    Up {
        /// Our own IP address on this connection: what hello messages say where nothing is
        /// announced.
        local_ip: String,
        /// The peer's IP address on this connection: what its name was resolved to.
        remote_ip: String,
    },
    /// What a name means, told before a connection is tried, and again when that changes: a node
    /// that is down has its addresses all the same, by which others may ask after it, and others
    /// follow it. Not told of an address.
    Resolved {
        /// All IP addresses, at least one.
        ips: Vec<String>,
    },
    /// The command connection is lost, or could not be made; the daemon goes on trying. Commands
    /// without a reply will get none.
    Down {
        /// Why.
        reason: LostReason,
    },
    /// The subscription to `__sentinel__:hello` stands (links to nodes only).
    Subscribed,
    /// The subscription is lost; the daemon goes on trying.
    Unsubscribed {
        /// The error's words.
        reason: String,
    },
    /// A command was answered. For a pipeline of several requests the value is the array of all
    /// replies.
    Reply {
        /// The command that is answered.
        command: Command,
        /// The answer; an error reply is [`Value::Error`].
        reply: Value,
    },
    /// It was found out in advance whether we may send a command.
    Right {
        /// The command, by Redis's name for it: `SLAVEOF`.
        command: String,
        /// The error, if we may not.
        refused: Option<String>,
    },
    /// A message was heard on `__sentinel__:hello`.
    Hello {
        /// Its payload.
        payload: String,
    },
}

/// Why a link went down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostReason {
    /// The host is there and nobody listens on the port.
    Refused,
    /// An established connection was closed or reset.
    Closed,
    /// No connection within the time allowed.
    TimedOut,
    /// The name could not be resolved.
    Unresolved(String),
    /// The node answered the greeting (AUTH, CLIENT SETNAME) in a way that ends the connection.
    Rejected(String),
    /// The node is there, and TLS is not agreed on: one side does not accept the other's
    /// certificate or terms, which only an operator can put right.
    Untrusted(String),
    /// This system has no room for another connection (descriptors, ports, memory), in its own
    /// words: that says nothing of the node.
    OwnLimit(String),
    /// Anything else, in the system's words.
    Other(String),
}

impl std::fmt::Display for LostReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LostReason::Refused => f.write_str("Connection refused"),
            LostReason::Closed => f.write_str("Server closed the connection"),
            LostReason::TimedOut => f.write_str("Connection timed out"),
            LostReason::Unresolved(why) => write!(f, "Can't resolve hostname: {why}"),
            LostReason::Untrusted(why) => write!(f, "TLS handshake failed: {why}"),
            LostReason::OwnLimit(why) => write!(f, "No connection from here: {why}"),
            LostReason::Rejected(why) | LostReason::Other(why) => f.write_str(why),
        }
    }
}
