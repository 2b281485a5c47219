//! The connection of a link, over which it asks, and over which a node that speaks RESP3 tells the
//! hellos, too.
//!
//! No answer is waited for with a time limit: the core's own timers judge a silent node, and a late
//! answer is news to it. For the same reason a connection counts as up as soon as TCP stands and
//! the greeting is on its way; a node that accepts and never answers must show as silent, not as
//! absent.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::dial::{Dialer, Outgoing};
use super::wire::Wire;
use super::{
    Complaint, Connection, HELLOS_DROPPED, Reporter, actual, commands_max, fit_for_log, greeting,
    name, subscription,
};
use crate::net::Stream;
use crate::resp::Value;
use crate::sentinel::{Command, FULL, LinkEvent, LostReason, Target, TargetKind, hello};

/// A command and the connection that it is for.
pub(super) type Order = (Connection, Box<Command>);

/// Keeps the connection of a link up for ever. `up` tells whether it stands.
pub(super) async fn keep(
    target: Arc<Target>,
    outgoing: Outgoing,
    reporter: Reporter,
    orders: mpsc::Receiver<Order>,
    up: Arc<AtomicBool>,
) {
    let mut dialer = Dialer::new(target.address.clone(), outgoing.clone());
    let mut keeper = Keeper::new(target, outgoing, reporter, orders);
    loop {
        let found = dialer.resolve().await;
        if let Some(ips) = dialer.news() {
            keeper.reporter.tell(LinkEvent::Resolved { ips }, None).await;
        }
        let stream = match found {
            // Boxed: its state is large, and nobody needs it once the connection stands.
            Ok(()) => Box::pin(dialer.dial()).await,
            Err(reason) => Err(reason),
        };
        let (reason, stood) = match stream {
            Ok(stream) => {
                keeper.connection += 1;
                let since = Instant::now();
                up.store(true, Ordering::Relaxed);
                let talk = pin!(keeper.talk(stream));
                let talk = dialer.unless_moved(talk).await;
                up.store(false, Ordering::Relaxed);
                let reason = talk.unwrap_or_else(|moved| moved);
                // A node that breaks the protocol is not asked again soon, however long it took.
                let broken = matches!(reason, LostReason::Other(_) | LostReason::Untrusted(_));
                (reason, (!broken).then(|| since.elapsed()))
            }
            Err(reason) => (reason, None),
        };
        keeper.lost(reason).await;
        keeper.wait(dialer.pause(stood)).await;
    }
}

struct Keeper {
    target: Arc<Target>,
    outgoing: Outgoing,
    reporter: Reporter,
    orders: mpsc::Receiver<Order>,
    connection: Connection,
    /// What waits for its reply on the present connection, in the order in which it was asked.
    asked: VecDeque<Asked>,
    /// What the node said to the greeting if that was an error and nothing better came since.
    refusal: Option<String>,
    /// The subscription of a node that does not speak RESP3, or does not let us subscribe: a
    /// connection of its own.
    apart: Option<AbortOnDropHandle<()>>,
    /// Why there is no subscription, as the core was last told; `None` while there is one.
    unsubscribed: Option<String>,
    dropped: Complaint,
    /// What the node last said about the password.
    auth_error: Option<String>,
    /// What was last wrong with TLS.
    tls_error: Option<String>,
}

/// What a reply belongs to.
enum Asked {
    Auth,
    Name,
    /// HELLO 3.
    Resp3,
    Subscribe,
    /// A command with the replies so far, and how many are missing.
    Command(Box<Command>, Vec<Value>, usize),
}

impl Keeper {
    fn new(
        target: Arc<Target>,
        outgoing: Outgoing,
        reporter: Reporter,
        orders: mpsc::Receiver<Order>,
    ) -> Keeper {
        let dropped = Complaint::new(&target, HELLOS_DROPPED);
        Keeper {
            target,
            outgoing,
            reporter,
            orders,
            connection: 0,
            asked: VecDeque::new(),
            refusal: None,
            apart: None,
            unsubscribed: None,
            dropped,
            auth_error: None,
            tls_error: None,
        }
    }

    /// Lets time pass; what was to go over a connection that is gone is thrown away.
    async fn wait(&mut self, pause: Duration) {
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                Some(_) = self.orders.recv() => {}
            }
        }
    }

    /// Uses a connection until it is lost.
    async fn talk(&mut self, stream: Stream) -> LostReason {
        let (Some(local), Some(remote)) = (stream.local_addr(), stream.peer_addr()) else {
            return LostReason::Closed;
        };
        let up = LinkEvent::Up {
            local_ip: local.ip().to_canonical().to_string(),
            remote_ip: remote.ip().to_canonical().to_string(),
        };
        let mut wire = Wire::new(stream);
        self.greet(&mut wire);
        self.reporter.tell(up, Some(self.connection)).await;
        let unanswered_max = commands_max(self.target.kind);
        let reason = loop {
            tokio::select! {
                biased;
                Some(order) = self.orders.recv(), if self.asked.len() < unanswered_max => {
                    self.order(&mut wire, order);
                }
                received = wire.exchange() => {
                    let taken = match received {
                        Ok(()) => self.take_all(&mut wire).await,
                        Err(reason) => Err(reason),
                    };
                    if let Err(reason) = taken {
                        break reason;
                    }
                }
            }
        };
        match (reason, self.refusal.take()) {
            (LostReason::Closed, Some(refusal)) => LostReason::Rejected(refusal),
            (reason, _) => reason,
        }
    }

    fn greet(&mut self, wire: &mut Wire) {
        (self.asked, self.refusal) = (VecDeque::new(), None);
        for words in greeting(&self.target, "-cmd") {
            let is_auth = words[0] == self.actual("AUTH");
            wire.say(&words);
            self.asked.push_back(if is_auth { Asked::Auth } else { Asked::Name });
        }
        if self.target.kind == TargetKind::Node {
            wire.say(&[self.actual("HELLO"), b"3".to_vec()]);
            self.asked.push_back(Asked::Resp3);
        }
    }

    /// Says a command, if it is for this connection.
    fn order(&mut self, wire: &mut Wire, (connection, command): Order) {
        if connection == self.connection {
            let count = match &*command {
                // What is said most often takes no detour.
                Command::Ping if self.target.rename_commands.is_empty() => {
                    wire.say(&["PING"]);
                    1
                }
                command => {
                    let requests = command.requests(&self.target.rename_commands);
                    requests.iter().for_each(|words| wire.say(words));
                    requests.len()
                }
            };
            self.asked.push_back(Asked::Command(command, Vec::new(), count));
        }
    }

    fn actual(&self, command: &str) -> Vec<u8> {
        actual(command, &self.target.rename_commands).into_bytes()
    }

    async fn take_all(&mut self, wire: &mut Wire) -> Result<(), LostReason> {
        while let Some(reply) = wire.reply()? {
            match reply {
                Value::Push(items) => self.take_push(&items).await,
                reply => self.take(wire, reply).await?,
            }
        }
        Ok(())
    }

    async fn take(&mut self, wire: &mut Wire, reply: Value) -> Result<(), LostReason> {
        match self.asked.pop_front() {
            None => {
                let text = "Protocol error: a reply came that nothing was asked for";
                return Err(LostReason::Other(text.to_owned()));
            }
            Some(Asked::Auth) => self.take_auth(reply).await,
            Some(Asked::Name) => self.take_name(&reply),
            Some(Asked::Resp3) => match reply {
                Value::Map(_) => {
                    let channel = hello::CHANNEL.as_bytes().to_vec();
                    wire.say(&[self.actual("SUBSCRIBE"), channel]);
                    self.asked.push_back(Asked::Subscribe);
                }
                // An old node, or a user who may not say HELLO.
                _ => self.listen_apart(),
            },
            Some(Asked::Subscribe) => self.listen_apart(),
            Some(Asked::Command(command, mut replies, missing)) => {
                self.refusal = None;
                self.tls_error = None;
                if missing > 1 {
                    replies.push(reply);
                    self.asked.push_front(Asked::Command(command, replies, missing - 1));
                    return Ok(());
                }
                let reply = match replies.is_empty() {
                    true => reply,
                    false => {
                        replies.push(reply);
                        Value::Array(replies)
                    }
                };
                let event = LinkEvent::Reply { command: *command, reply };
                self.reporter.tell(event, Some(self.connection)).await;
            }
        }
        Ok(())
    }

    async fn take_auth(&mut self, reply: Value) {
        let error = match &reply {
            Value::Error(text) if text.starts_with(FULL) => return self.take_name(&reply),
            Value::Error(text) => Some(without_words(text)),
            _ => None,
        };
        let right = LinkEvent::Right { command: "AUTH".to_owned(), refused: error.clone() };
        self.reporter.tell(right, Some(self.connection)).await;
        self.judge_auth(error.clone());
        self.refusal = self.refusal.take().or(error);
    }

    fn take_name(&mut self, reply: &Value) {
        if let Value::Error(text) = reply {
            self.refusal.get_or_insert_with(|| fit_for_log(text, &self.target));
        }
    }

    /// What a node says of itself: that we are subscribed, and the hellos.
    async fn take_push(&mut self, items: &[Value]) {
        match items.first().and_then(Value::text) {
            Some("message") if !self.reporter.hear(items) => self.dropped.add(1),
            Some("subscribe") if matches!(self.asked.front(), Some(Asked::Subscribe)) => {
                self.asked.pop_front();
                self.apart = None;
                self.unsubscribed = None;
                self.reporter.tell(LinkEvent::Subscribed, None).await;
            }
            _ => {}
        }
    }

    /// Subscribes over a connection of its own.
    fn listen_apart(&mut self) {
        self.apart.get_or_insert_with(|| {
            let (target, outgoing) = (self.target.clone(), self.outgoing.clone());
            let keep = subscription::keep(target, outgoing, self.reporter.clone());
            AbortOnDropHandle::new(tokio::spawn(keep))
        });
    }

    /// Tells that the connection is lost, and the subscription with it.
    async fn lost(&mut self, reason: LostReason) {
        self.judge_tls(&reason);
        let text = reason.to_string();
        if self.target.kind == TargetKind::Node
            && self.apart.is_none()
            && self.unsubscribed.as_ref() != Some(&text)
        {
            self.unsubscribed = Some(text.clone());
            self.reporter.tell(LinkEvent::Unsubscribed { reason: text }, None).await;
        }
        self.reporter.tell(LinkEvent::Down { reason }, None).await;
    }

    /// Says once what is wrong with the password, and once that it is right again.
    fn judge_auth(&mut self, error: Option<String>) {
        if self.auth_error == error {
            return;
        }
        let name = name(&self.target);
        match &error {
            Some(error) => tracing::warn!(
                "{name}: AUTH was refused: {error} (check the user and password configured for it)"
            ),
            None => tracing::info!("{name}: AUTH is accepted again"),
        }
        self.auth_error = error;
    }

    /// Says once what is wrong with TLS, until something else is.
    fn judge_tls(&mut self, reason: &LostReason) {
        let error = match reason {
            LostReason::Untrusted(why) => Some(why.clone()),
            // Silence and refused connections tell nothing of TLS.
            _ => return,
        };
        if self.tls_error != error {
            tracing::warn!("{}: {reason}", name(&self.target));
            self.tls_error = error;
        }
    }
}

/// The error that AUTH was answered with, without what it may repeat of the password.
fn without_words(text: &str) -> String {
    const KNOWN: [&str; 3] = [
        "ERR unknown command",
        "ERR invalid password",
        "ERR AUTH <password> called without any password configured",
    ];
    match KNOWN.iter().find(|known| text.starts_with(**known)) {
        Some(known) => (*known).to_owned(),
        None => text.split(' ').next().unwrap_or_default().chars().take(20).collect(),
    }
}
