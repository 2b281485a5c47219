//! What one connection is to the commands: its protocol, its user, its subscriptions; and the plan
//! for each request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::broadcast;

use super::Api;
use super::clients::Client;
use super::table::{self, Found, Run};
use super::users;
use crate::acl::{Denial, Reason};
use crate::config::bytes::{decode, is_utf8};
use crate::resp::{Protocol, Value, confined};
use crate::sentinel::{Event, Request};

/// A reply that is still being made.
pub(crate) type Later = Pin<Box<dyn Future<Output = Value> + Send>>;

/// What a command of the connection itself leads to.
pub(crate) enum Outcome {
    /// These replies, at once; mostly one.
    Reply(Vec<Value>),
    /// One reply, later. No other command of the connection starts before it is there.
    Later(Later),
    /// The same; what comes of the command is announced after its reply.
    LaterThenEvents(Later),
    /// This reply, if any; then the connection is closed.
    Close(Option<Value>),
}

impl From<Value> for Outcome {
    fn from(value: Value) -> Outcome {
        Outcome::Reply(vec![value])
    }
}

impl From<Result<Value, Value>> for Outcome {
    fn from(result: Result<Value, Value>) -> Outcome {
        result.unwrap_or_else(|error| error).into()
    }
}

/// How a request is to be answered.
pub(crate) enum Plan {
    /// With this, usually an error.
    Answer(Value),
    /// By the core.
    Core(Request),
    /// By the connection itself.
    Here(fn(&mut Session, &[Bytes]) -> Outcome),
}

/// `CLIENT REPLY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replies {
    /// Replies are sent.
    On,
    /// None is.
    Off,
    /// The next command gets none.
    SkipNext,
}

/// The state of one connection that only its own task touches.
pub(crate) struct Session {
    /// What all connections share.
    pub(crate) api: Arc<Api>,
    /// What other connections may see of this one.
    pub(crate) client: Arc<Client>,
    /// False until AUTH where a password is required.
    pub(crate) authenticated: bool,
    /// The events, while there is a subscription.
    pub(crate) events: Option<broadcast::Receiver<Arc<Event>>>,
    /// `CLIENT REPLY`.
    pub(crate) replies: Replies,
    /// The command that runs gets no reply.
    pub(crate) silent: bool,
}

impl Session {
    /// A connection as it begins.
    pub(crate) fn new(api: Arc<Api>, client: Arc<Client>) -> Session {
        let authenticated = !api.users.acl().auth_required();
        let replies = Replies::On;
        Session { api, client, authenticated, events: None, replies, silent: false }
    }

    /// The version that replies are written in.
    pub(crate) fn protocol(&self) -> Protocol {
        self.client.state().protocol
    }

    /// Looks the request up and checks it; changes nothing but `CLIENT LIST`'s last command.
    pub(crate) fn plan(&self, args: &[Bytes]) -> Plan {
        let found = match self.api.names.find(args) {
            Ok(found) => found,
            Err(error) => return Plan::Answer(error),
        };
        if let Err(error) = self.permit(&found, args) {
            return Plan::Answer(error);
        }
        let top = found.container.unwrap_or(found.command);
        if self.is_confined() && !confined::is_left(top.name) {
            return Plan::Answer(Value::error(confined::refusal(&found.name())));
        }
        {
            let mut state = self.client.state();
            state.last_command = Some(found);
            // CLIENT CACHING is about the next command only.
            if let Some(tracking) = state.tracking.as_mut().filter(|_| top.name != "client") {
                tracking.caching = false;
            }
        }
        match found.command.run {
            Run::Container => Plan::Answer(table::wrong_arity(&found)),
            Run::Here(run) => Plan::Here(run),
            Run::Core(request) => match request(args) {
                Ok(request) => Plan::Core(request),
                Err(error) => Plan::Answer(error),
            },
        }
    }

    /// Whether the user of this connection may do this; a denial is noted.
    fn permit(&self, found: &Found, args: &[Bytes]) -> Result<(), Value> {
        let acl = self.api.users.acl();
        if !self.authenticated && acl.auth_required() && !found.command.kind.is_open() {
            return Err(Value::error("NOAUTH Authentication required."));
        }
        let user = self.client.state().user.clone();
        let Err(denial) = users::check(&acl, &user, found, args) else { return Ok(()) };
        drop(acl);
        self.client.state().last_command = Some(*found);
        let name = found.name();
        let (reason, object) = match denial {
            Denial::Command => (Reason::Command, name.as_bytes()),
            Denial::Channel(at) => (Reason::Channel, users::channels(found, args).0[at]),
        };
        self.api.users.deny(reason, object, &user, &self.client);
        Err(Value::error(match denial {
            Denial::Command => {
                let user = String::from_utf8_lossy(&user);
                format!("NOPERM User {user} has no permissions to run the '{name}' command")
            }
            Denial::Channel(_) => "NOPERM No permissions to access a channel".to_owned(),
        }))
    }

    /// Makes this the connection of another user.
    ///
    /// # Errors
    /// Redis's error for a wrong password, an unknown user and one that is off; it is noted, with
    /// `command` as what carried it.
    pub(crate) fn authenticate(
        &mut self,
        user: &[u8],
        password: &[u8],
        command: &[u8],
    ) -> Result<(), Value> {
        if !self.api.users.acl().accepts(user, password) {
            self.api.users.deny(Reason::Auth, command, user, &self.client);
            return Err(Value::error(WRONG_PASSWORD));
        }
        self.authenticated = true;
        self.client.state().user = user.to_vec();
        Ok(())
    }

    /// True for a RESP2 connection with subscriptions: it can tell a message from a reply only if
    /// few commands are allowed.
    pub(crate) fn is_confined(&self) -> bool {
        let state = self.client.state();
        state.protocol == Protocol::Resp2 && state.subscriptions.count() > 0
    }

    /// Starts a command: whether `CLIENT REPLY` silences it.
    pub(crate) fn begin(&mut self) {
        self.silent = self.replies != Replies::On;
        if self.replies == Replies::SkipNext {
            self.replies = Replies::On;
        }
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// An argument as text; names and values that are not UTF-8 are refused, since a hello could not
/// hold them.
pub(crate) fn text(arg: &[u8]) -> Result<String, Value> {
    // The argument is not shown: it may be a password.
    let refused = "ERR Invalid argument: names and values must be valid UTF-8";
    Some(decode(arg)).filter(|text| is_utf8(text)).ok_or_else(|| Value::error(refused))
}

/// `ERR syntax error`
pub(crate) fn syntax_error() -> Value {
    Value::error("ERR syntax error")
}

/// An integer argument, or `error`.
pub(crate) fn integer(arg: &[u8], error: &str) -> Result<i64, Value> {
    crate::resp::number::parse_int(arg).ok_or_else(|| Value::error(error))
}
