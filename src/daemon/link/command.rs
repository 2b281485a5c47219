//! The command connection of a link.
//!
//! No answer is waited for with a time limit: the core's own timers judge a silent node, and a late
//! answer is news to it. For the same reason a connection counts as up as soon as TCP stands and
//! the greeting is on its way; a node that accepts and never answers must show as silent, not as
//! absent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, RedisResult};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dial::{Dialer, Outgoing};
use super::meter::{Meter, Metered};
use super::{COMMANDS_MAX, Connection, Reporter, actual, fit_for_log, greeting, name};
use crate::net::Stream;
use crate::resp::Value;
use crate::sentinel::{Command, FULL, LinkEvent, LostReason, Target};

/// Commands that may be sent and unanswered, as in Sentinel; the next one waits.
const UNANSWERED_MAX: usize = COMMANDS_MAX;

/// Keeps the command connection of a link up for ever.
pub(super) async fn keep(
    target: Arc<Target>,
    outgoing: Outgoing,
    reporter: Reporter,
    commands: mpsc::Receiver<(Connection, Command)>,
) {
    let mut dialer = Dialer::new(target.address.clone(), outgoing);
    let (auth_error, tls_error) = (None, None);
    let mut keeper = Keeper { target, reporter, commands, connection: 0, auth_error, tls_error };
    loop {
        let found = dialer.resolve().await;
        if let Some(ips) = dialer.news() {
            keeper.reporter.tell(LinkEvent::Resolved { ips }, None).await;
        }
        let stream = match found {
            Ok(()) => dialer.dial().await,
            Err(reason) => Err(reason),
        };
        let (reason, stood) = match stream {
            Ok(stream) => {
                keeper.connection += 1;
                let since = Instant::now();
                let talk = dialer.unless_moved(keeper.talk(stream)).await;
                let reason = talk.unwrap_or_else(|moved| moved);
                // A node that breaks the protocol is not asked again soon, however long it took.
                let broken = matches!(reason, LostReason::Other(_) | LostReason::Untrusted(_));
                (reason, (!broken).then(|| since.elapsed()))
            }
            Err(reason) => (reason, None),
        };
        keeper.judge_tls(&reason);
        keeper.reporter.tell(LinkEvent::Down { reason }, None).await;
        keeper.wait(dialer.pause(stood)).await;
    }
}

struct Keeper {
    target: Arc<Target>,
    reporter: Reporter,
    commands: mpsc::Receiver<(Connection, Command)>,
    connection: Connection,
    /// What the node last said about the password.
    auth_error: Option<String>,
    /// What was last wrong with TLS.
    tls_error: Option<String>,
}

/// What an answer belongs to.
enum Asked {
    Auth,
    Name,
    Command(Command),
}

type Answer = (Asked, RedisResult<Vec<redis::Value>>);

impl Keeper {
    /// Lets time pass; what was to go over a connection that is gone is thrown away.
    async fn wait(&mut self, pause: Duration) {
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                Some(_) = self.commands.recv() => {}
            }
        }
    }

    /// Uses a connection until it is lost.
    async fn talk(&mut self, stream: Stream) -> LostReason {
        let (Some(local), Some(remote)) = (stream.local_addr(), stream.peer_addr()) else {
            return LostReason::Closed;
        };
        let meter = Arc::new(Meter::default());
        let metered = Metered::new(stream, meter.clone());
        let made = MultiplexedConnection::new_with_config(&quiet(), metered, patient()).await;
        let (client, driver) = match made {
            Ok(made) => made,
            Err(error) => return self.broken(&error),
        };
        let mut driver = Box::pin(driver);
        let mut answers = FuturesOrdered::new();
        for words in greeting(&self.target, "-cmd") {
            let is_auth = words[0] == actual("AUTH", &self.target.rename_commands).as_bytes();
            let asked = if is_auth { Asked::Auth } else { Asked::Name };
            answers.push_back(ask(client.clone(), asked, vec![packed(&words)]));
        }
        let up = LinkEvent::Up {
            local_ip: local.ip().to_canonical().to_string(),
            remote_ip: remote.ip().to_canonical().to_string(),
        };
        self.reporter.tell(up, Some(self.connection)).await;
        // What the node said to the greeting if that was an error and nothing better came since.
        let mut refusal = None;
        let mut failure = None;
        loop {
            tokio::select! {
                Some(answer) = answers.next() => {
                    meter.answered();
                    match self.take(answer, &mut refusal).await {
                        Ok(()) => {}
                        Err(error) => { failure = Some(error); break }
                    }
                }
                () = &mut driver => break,
                Some((connection, command)) = self.commands.recv(),
                    if answers.len() < UNANSWERED_MAX =>
                {
                    if connection == self.connection {
                        let requests = command.requests(&self.target.rename_commands);
                        let requests = requests.iter().map(|words| packed(words)).collect();
                        answers.push_back(ask(client.clone(), Asked::Command(command), requests));
                    }
                }
            }
        }
        drop(driver);
        // What came whole before the end still counts.
        while failure.is_none()
            && let Some(answer) = answers.next().await
        {
            failure = self.take(answer, &mut refusal).await.err();
        }
        let reason = match (meter.ended(), failure) {
            (Some(reason), _) => reason,
            (None, Some(error)) => self.broken(&error),
            (None, None) => LostReason::Closed,
        };
        match (reason, refusal) {
            (LostReason::Closed, Some(refusal)) => LostReason::Rejected(refusal),
            (reason, _) => reason,
        }
    }

    /// Passes an answer on; an error means that the connection is no more.
    async fn take(
        &mut self,
        (asked, answer): Answer,
        refusal: &mut Option<String>,
    ) -> Result<(), RedisError> {
        let mut replies: Vec<Value> = answer?.into_iter().map(value).collect();
        let command = match asked {
            Asked::Command(command) => command,
            greeting => {
                let is_full =
                    |reply: &Value| matches!(reply, Value::Error(text) if text.starts_with(FULL));
                let is_auth = matches!(greeting, Asked::Auth) && !replies.iter().any(is_full);
                let error = replies.iter().find_map(|reply| match reply {
                    Value::Error(text) if is_auth => Some(without_words(text)),
                    Value::Error(text) => Some(fit_for_log(text, &self.target)),
                    _ => None,
                });
                if is_auth {
                    let (command, refused) = ("AUTH".to_owned(), error.clone());
                    let right = LinkEvent::Right { command, refused };
                    self.reporter.tell(right, Some(self.connection)).await;
                    self.judge_auth(error.clone());
                }
                *refusal = refusal.take().or(error);
                return Ok(());
            }
        };
        *refusal = None;
        self.tls_error = None;
        let reply = match replies.len() {
            1 => replies.remove(0),
            _ => Value::Array(replies),
        };
        let event = LinkEvent::Reply { command, reply };
        self.reporter.tell(event, Some(self.connection)).await;
        Ok(())
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

    fn broken(&self, error: &RedisError) -> LostReason {
        // In the middle of a pipeline the client keeps the words to itself.
        let text = match error.kind() {
            ErrorKind::Parse => fit_for_log(&error.to_string(), &self.target),
            _ => "the answer is not RESP".to_owned(),
        };
        LostReason::Other(format!("Protocol error: {text}"))
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

/// The greeting is ours, so that nothing is waited for: the client itself sends nothing.
fn quiet() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_skip_set_lib_name()
}

fn patient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        // More than are ever sent at a time, so that none waits and the order stays.
        .set_pipeline_buffer_size(UNANSWERED_MAX + 8)
}

/// Sends requests as one pipeline and waits for all answers.
async fn ask(
    mut client: MultiplexedConnection,
    asked: Asked,
    mut commands: Vec<redis::Cmd>,
) -> Answer {
    let answer = if commands.len() == 1 {
        client.send_packed_command(&commands.remove(0)).await.map(|reply| vec![reply])
    } else {
        let count = commands.len();
        let mut pipeline = redis::Pipeline::with_capacity(count);
        for command in commands {
            pipeline.add_command(command);
        }
        client.send_packed_commands(&pipeline, 0, count).await
    };
    (asked, answer)
}

fn packed(words: &[impl AsRef<[u8]>]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word.as_ref());
    }
    command
}

/// The client's value in our own words; nothing a node can say has no place.
fn value(value: redis::Value) -> Value {
    let values = |items: Vec<redis::Value>| items.into_iter().map(self::value).collect();
    match value {
        redis::Value::Nil => Value::Null,
        redis::Value::Int(number) => Value::Integer(number),
        redis::Value::BulkString(bytes) => Value::Bulk(Bytes::from(bytes)),
        redis::Value::Array(items) => Value::Array(values(items)),
        redis::Value::SimpleString(text) => Value::Simple(text),
        redis::Value::Okay => Value::ok(),
        redis::Value::Map(pairs) => {
            Value::Map(pairs.into_iter().map(|(k, v)| (self::value(k), self::value(v))).collect())
        }
        redis::Value::Attribute { data, .. } => self::value(*data),
        redis::Value::Set(items) => Value::Set(values(items)),
        redis::Value::Double(number) => Value::Double(number),
        redis::Value::Boolean(yes) => Value::Boolean(yes),
        redis::Value::VerbatimString { text, .. } => Value::Verbatim(text),
        redis::Value::BigNumber(digits) => Value::Bulk(Bytes::from(digits)),
        redis::Value::Push { data, .. } => Value::Push(values(data)),
        redis::Value::ServerError(error) => Value::Error(match error.details() {
            Some(details) => format!("{} {details}", error.code()),
            None => error.code().to_owned(),
        }),
        other => Value::Simple(format!("{other:?}")),
    }
}
