//! One connection: bytes in, requests carried out in order, replies and events out.
//!
//! One loop does it all. Requests to the core may overtake nothing and wait for nothing: several
//! are under way at once, and their replies are sent in their order. A command that the connection
//! itself answers starts only when every earlier reply is written, so that it finds the state that
//! its sender expects. Every buffer has its bound: a client that does not read gets no further
//! command carried out, a subscriber that does not read is cut off.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};

use super::clients::Place;
use super::session::{Later, Outcome, Plan, Session};
use super::{Api, Pause};
use crate::net::tls::{Tls, Trouble, trouble};
use crate::net::{Permit, Stream, set_keepalive};
use crate::resp::{Decoder, Limits, ProtocolError, Request, Value, encode};
use crate::sentinel::{self, Event};

/// Requests to the core that one connection may have under way.
const IN_FLIGHT_MAX: usize = 32;
/// The same while all of them have short answers: other sentinels ask for the votes of all their
/// groups at once, and each waits for the disk.
const SHORT_IN_FLIGHT_MAX: usize = 1024;
/// Bytes that wait to be sent at which no further command is started.
const OUTPUT_HIGH: usize = 64 << 10;
/// Bytes that wait to be sent at which a subscriber is cut off (`client-output-buffer-limit
/// pubsub`).
const OUTPUT_MAX: usize = 32 << 20;
/// Bytes in one argument: far more than any request to a sentinel holds.
const BULK_MAX: usize = 1 << 20;
/// Bytes in one request.
const REQUEST_MAX: usize = 4 << 20;
/// Bytes read at once; also what an idle connection's buffers may keep.
const READ_SIZE: usize = 4 << 10;
/// How long a connection that is to be closed may take to receive its last reply.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How long it may then take to close its own side.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);

/// Who comes, through which door.
pub(super) enum Knock {
    /// `port`
    Tcp(TcpStream, SocketAddr),
    /// `tls-port`
    Tls(TcpStream, SocketAddr, Arc<Tls>),
    /// `unixsocket`
    Unix(UnixStream, Arc<Path>),
}

impl Knock {
    /// The connection and both its ends, once there is something to talk over; `None` if it is
    /// gone, or TLS was not agreed on.
    async fn open(self, api: &Api) -> Option<(Stream, Place, Place)> {
        let ends = |stream: &TcpStream, peer| {
            // Fails only on a connection that is gone already.
            let _ = set_keepalive(stream, api.settings.keepalive_s);
            Some((Place::Net(peer), Place::Net(stream.local_addr().ok()?)))
        };
        match self {
            Knock::Tcp(stream, peer) => {
                let (peer, local) = ends(&stream, peer)?;
                Some((Stream::Tcp(stream), peer, local))
            }
            Knock::Unix(stream, path) => {
                Some((Stream::Unix(stream), Place::Unix(path.clone()), Place::Unix(path)))
            }
            Knock::Tls(stream, peer, tls) => {
                let (peer, local) = ends(&stream, peer)?;
                match tls.accept(stream).await {
                    Ok(stream) => Some((stream, peer, local)),
                    Err(error) => {
                        let why = match trouble(&error) {
                            Some(Trouble::Refused(why) | Trouble::Broken(why)) => why,
                            None => error.to_string(),
                        };
                        let text = format!(
                            "Error accepting a client connection: {why} (addr={peer} laddr={local})"
                        );
                        match api.may_complain() {
                            true => tracing::warn!("{text}"),
                            false => tracing::debug!("{text}"),
                        }
                        None
                    }
                }
            }
        }
    }
}

/// Serves one client until it goes, is killed, idles too long, breaks the protocol, or the server
/// stops.
pub(super) async fn run(api: Arc<Api>, knock: Knock, permit: Permit) {
    let opened = tokio::select! {
        biased;
        () = api.stop.cancelled() => return,
        opened = knock.open(&api) => opened,
    };
    let Some((mut stream, peer, local)) = opened else { return };
    let open_to_all = !api.users.acl().auth_required();
    if api.settings.protected_mode && open_to_all && !peer.is_local() {
        tracing::debug!(%peer, "Connection refused: protected mode");
        api.gate.refuse();
        // One attempt: who does not take it is owed no more.
        let _ = tokio::time::timeout(GOODBYE_WAIT, async {
            stream.write_all(DENIED).await?;
            stream.shutdown().await
        })
        .await;
        return;
    }
    let guest = api.clients.add(peer.clone(), local, stream.as_raw_fd());
    tracing::debug!(%peer, "Accepted a connection");
    let mut connection = Connection::new(Session::new(api.clone(), guest.client.clone()), stream);
    let ended = tokio::select! {
        biased;
        () = api.stop.cancelled() => End::Stopped,
        () = guest.client.kill.cancelled() => End::Killed,
        end = connection.serve() => end,
    };
    match ended {
        End::Overrun => tracing::warn!(
            id = guest.client.id, %peer, name = guest.client.state().name,
            "Client closed for overcoming of output buffer limits: it does not read its messages"
        ),
        End::Attack => tracing::warn!(
            %peer,
            "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: \
             commands to Sentinel. Connection aborted."
        ),
        End::Done => tracing::debug!(%peer, "Client closed connection"),
        End::Lost(error) => tracing::debug!(%peer, "Lost a connection: {error}"),
        End::Idle => tracing::debug!(%peer, "Closing idle client"),
        End::Killed | End::Stopped => tracing::debug!(%peer, "Closed a connection"),
    }
    drop(permit);
}

/// Why a connection ended.
enum End {
    /// The peer closed it, or QUIT, or a protocol error; all it was owed has been sent.
    Done,
    /// Reading or writing failed.
    Lost(io::Error),
    /// Nothing came for the time of `timeout`, or the last reply was not taken.
    Idle,
    /// CLIENT KILL.
    Killed,
    /// The server stops.
    Stopped,
    /// A subscriber was too slow.
    Overrun,
    /// Somebody's browser was led to speak to us.
    Attack,
}

/// A reply that is not there yet.
struct Answer {
    reply: Later,
    /// `CLIENT REPLY` swallows it.
    silent: bool,
    /// Nothing may start before it is there.
    alone: bool,
    /// What is announced meanwhile is told after it.
    leads: bool,
    /// It takes next to no memory.
    short: bool,
}

struct Connection {
    session: Session,
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    /// Something may wait in the stream that is written and not on its way: TLS keeps such.
    unflushed: bool,
    decoder: Decoder,
    input: BytesMut,
    output: BytesMut,
    /// In the order of their requests.
    answers: VecDeque<Answer>,
    /// How many of them are not short.
    long: usize,
    /// A request that must wait for the answers before it.
    held: Option<Request>,
    pause: watch::Receiver<Pause>,
    /// No further request is read; the time by which the connection has to be gone.
    closing: Option<Instant>,
}

/// What the loop waits for.
enum News {
    Wrote(usize),
    Flushed,
    Event(Result<Arc<Event>, RecvError>),
    Answer(Value),
    Read(usize),
    PauseChanged,
    TimeUp,
}

impl Connection {
    fn new(session: Session, stream: Stream) -> Connection {
        let (reader, writer) = tokio::io::split(stream);
        let limits = Limits {
            max_bulk: BULK_MAX,
            max_request: REQUEST_MAX,
            authenticated: session.authenticated,
            ..Limits::default()
        };
        Connection {
            pause: session.api.pause.subscribe(),
            session,
            reader,
            writer,
            unflushed: false,
            decoder: Decoder::new(limits),
            input: BytesMut::new(),
            output: BytesMut::new(),
            answers: VecDeque::new(),
            long: 0,
            held: None,
            closing: None,
        }
    }

    async fn serve(&mut self) -> End {
        loop {
            if let Err(end) = self.carry_out().await {
                return end;
            }
            if self.closing.is_some() && self.is_told() {
                return self.say_goodbye().await;
            }
            self.show();
            let news = self.news().await.map_err(End::Lost);
            if let Err(end) = news.and_then(|news| self.take(news)) {
                return end;
            }
        }
    }

    /// All that the peer was owed is on its way.
    fn is_told(&self) -> bool {
        self.output.is_empty() && !self.unflushed && self.answers.is_empty()
    }

    /// Carries out every request that is whole, as long as there is room for its reply.
    async fn carry_out(&mut self) -> Result<(), End> {
        while self.is_ready() {
            let request = match self.held.take() {
                Some(request) => request,
                None => match self.decoder.feed(&mut self.input) {
                    Ok(Some(request)) => request,
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        self.refuse(error);
                        return Ok(());
                    }
                },
            };
            self.start(request).await?;
            if self.held.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// True if a further request may be looked at.
    fn is_ready(&self) -> bool {
        self.closing.is_none()
            && self.output.len() < OUTPUT_HIGH
            && self.has_room()
            && self.paused_until().is_none()
            && !self.is_held()
    }

    /// True if a further request may be under way.
    fn has_room(&self) -> bool {
        self.long < IN_FLIGHT_MAX && self.answers.len() < SHORT_IN_FLIGHT_MAX
    }

    /// True while the held request has to wait. (It is tried again after every answer.)
    fn is_held(&self) -> bool {
        self.held.is_some() && self.answers.back().is_some_and(|answer| answer.alone)
    }

    async fn start(&mut self, request: Request) -> Result<(), End> {
        let args = &request.args;
        if ATTACKS.iter().any(|word| args[0].eq_ignore_ascii_case(word)) {
            return Err(End::Attack);
        }
        let plan = self.session.plan(args);
        let waits = match &plan {
            Plan::Here(_) => !self.answers.is_empty(),
            Plan::Answer(_) | Plan::Core(_) => self.answers.back().is_some_and(|a| a.alone),
        };
        if waits {
            self.held = Some(request);
            return Ok(());
        }
        self.session.begin();
        if !matches!(plan, Plan::Answer(_)) {
            self.session.api.counters.commands.fetch_add(1, Relaxed);
        }
        match plan {
            Plan::Answer(value) => self.await_reply(Box::pin(std::future::ready(value)), true),
            Plan::Core(request) => {
                let handle = &self.session.api.handle;
                // What is under way may change the answer.
                let known = match self.answers.is_empty() {
                    true => handle.masters().answer(&request),
                    false => None,
                };
                if let Some(value) = known {
                    self.tell_events_first()?;
                    self.reply(&value, self.session.silent);
                    return Ok(());
                }
                let short = is_short(&request);
                let answer = handle.submit(request).await;
                self.await_reply(Box::pin(answer), short);
            }
            Plan::Here(run) => {
                let outcome = run(&mut self.session, args);
                self.apply(outcome);
            }
        }
        Ok(())
    }

    fn await_reply(&mut self, reply: Later, short: bool) {
        self.long += usize::from(!short);
        let silent = self.session.silent;
        self.answers.push_back(Answer { reply, silent, alone: false, leads: false, short });
    }

    fn apply(&mut self, outcome: Outcome) {
        let silent = self.session.silent;
        match outcome {
            Outcome::Reply(values) => values.iter().for_each(|value| self.reply(value, silent)),
            Outcome::Later(reply) => {
                self.long += 1;
                self.answers.push_back(Answer {
                    reply,
                    silent,
                    alone: true,
                    leads: false,
                    short: false,
                });
            }
            Outcome::LaterThenEvents(reply) => {
                self.long += 1;
                self.answers.push_back(Answer {
                    reply,
                    silent,
                    alone: true,
                    leads: true,
                    short: false,
                });
            }
            Outcome::Close(value) => {
                value.iter().for_each(|value| self.reply(value, silent));
                self.close();
            }
        }
        // AUTH, HELLO and RESET change how much may be sent.
        self.decoder.set_limits(Limits {
            max_bulk: BULK_MAX,
            max_request: REQUEST_MAX,
            authenticated: self.session.authenticated,
            ..Limits::default()
        });
    }

    fn reply(&mut self, value: &Value, silent: bool) {
        if matches!(value, Value::Error(_)) {
            self.session.api.counters.errors.fetch_add(1, Relaxed);
        }
        if !silent {
            encode(value, self.session.protocol(), &mut self.output);
        }
    }

    /// The peer broke the protocol: it is told so behind the replies that it has coming, and left.
    fn refuse(&mut self, error: ProtocolError) {
        tracing::debug!(peer = %self.session.client.addr, "{error}");
        self.session.silent = false;
        self.await_reply(Box::pin(std::future::ready(error.reply())), true);
        self.close();
    }

    fn close(&mut self) {
        self.held = None;
        self.session.events = None;
        self.closing = Some(Instant::now() + CLOSE_WAIT);
    }

    /// Waits for the next thing to happen. Writing goes first, so that the output only grows while
    /// the peer does not read; events go before answers, so that what the core announced before it
    /// answered is told before the answer. Only where it answers first do they wait.
    async fn news(&mut self) -> io::Result<News> {
        let deadline = self.deadline();
        let reads = self.closing.is_none()
            && self.held.is_none()
            && self.output.len() < OUTPUT_HIGH
            && self.has_room()
            && self.paused_until().is_none();
        self.input.reserve(READ_SIZE);
        let events = self.session.events.as_mut();
        let answer = self.answers.front_mut();
        let leads = answer.as_ref().is_some_and(|answer| answer.leads);
        let (reader, writer, output) = (&mut self.reader, &mut self.writer, &self.output);
        let unflushed = self.unflushed;
        let write = async {
            match output.is_empty() {
                true => writer.flush().await.map(|()| News::Flushed),
                false => writer.write(output).await.map(News::Wrote),
            }
        };
        tokio::select! {
            biased;
            wrote = write, if !output.is_empty() || unflushed => wrote,
            event = next_event(events), if !leads => Ok(News::Event(event)),
            value = next_answer(answer) => Ok(News::Answer(value)),
            read = reader.read_buf(&mut self.input), if reads => read.map(News::Read),
            changed = self.pause.changed() => {
                // The sender lives in `Api`, which this connection holds.
                changed.map(|()| News::PauseChanged).map_err(io::Error::other)
            }
            () = sleep_until(deadline) => Ok(News::TimeUp),
        }
    }

    fn take(&mut self, news: News) -> Result<(), End> {
        let counters = &self.session.api.counters;
        match news {
            News::Wrote(0) => return Err(End::Lost(io::ErrorKind::WriteZero.into())),
            News::Flushed => self.unflushed = false,
            News::Wrote(count) => {
                self.unflushed = true;
                counters.writes.fetch_add(1, Relaxed);
                counters.output.fetch_add(count as u64, Relaxed);
                self.output.advance(count);
                if self.output.is_empty() && self.output.capacity() > OUTPUT_HIGH {
                    self.output = BytesMut::new();
                }
            }
            News::Event(event) => self.tell(event)?,
            News::Answer(value) => {
                if !self.answers.front().is_some_and(|answer| answer.leads) {
                    self.tell_events_first()?;
                }
                if let Some(answer) = self.answers.pop_front() {
                    self.long -= usize::from(!answer.short);
                    self.reply(&value, answer.silent);
                }
                if self.session.client.leave.is_cancelled() && self.closing.is_none() {
                    self.close();
                }
            }
            // The peer sends no more; what it asked is still answered.
            News::Read(0) => self.close(),
            News::Read(count) => {
                counters.reads.fetch_add(1, Relaxed);
                counters.input.fetch_add(count as u64, Relaxed);
                self.session.client.state().active = Instant::now();
            }
            News::PauseChanged => {}
            News::TimeUp => return self.check_time(),
        }
        Ok(())
    }

    /// Takes all events that are there, so that they precede an answer given after them.
    fn tell_events_first(&mut self) -> Result<(), End> {
        while let Some(events) = self.session.events.as_mut() {
            match events.try_recv() {
                Ok(event) => self.tell(Ok(event))?,
                Err(TryRecvError::Lagged(count)) => self.tell(Err(RecvError::Lagged(count)))?,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: Result<Arc<Event>, RecvError>) -> Result<(), End> {
        match event {
            Ok(event) => {
                let messages = self.session.client.state().subscriptions.messages(&event);
                let protocol = self.session.protocol();
                messages.iter().for_each(|message| encode(message, protocol, &mut self.output));
                if self.output.len() > OUTPUT_MAX { Err(End::Overrun) } else { Ok(()) }
            }
            Err(RecvError::Lagged(_)) => Err(End::Overrun),
            Err(RecvError::Closed) => Err(End::Stopped),
        }
    }

    /// When something is due without any news: the end of a pause, of idleness, of closing.
    fn deadline(&self) -> Option<Instant> {
        self.closing.or_else(|| self.paused_until()).or_else(|| self.idle_end())
    }

    fn check_time(&mut self) -> Result<(), End> {
        let is_over = |end: Option<Instant>| end.is_some_and(|end| end <= Instant::now());
        if is_over(self.closing.or_else(|| self.idle_end())) { Err(End::Idle) } else { Ok(()) }
    }

    /// When `timeout` closes this connection. Subscribers may be silent for ever.
    fn idle_end(&self) -> Option<Instant> {
        let state = self.session.client.state();
        let timeout_s = self.session.api.settings.timeout_s;
        let counts = timeout_s > 0 && state.subscriptions.count() == 0 && self.answers.is_empty();
        counts.then(|| state.active.checked_add(Duration::from_secs(timeout_s))).flatten()
    }

    fn paused_until(&self) -> Option<Instant> {
        self.pause.borrow().filter(|until| *until > Instant::now())
    }

    /// Keeps what CLIENT LIST and INFO show of the buffers up to date.
    fn show(&self) {
        let mut state = self.session.client.state();
        (state.input, state.output) = (self.input.len(), self.output.len());
    }

    /// Ends our side first: were unread bytes simply dropped, the system would tell the peer with a
    /// reset, which can overtake the last reply.
    async fn say_goodbye(&mut self) -> End {
        let goodbye = async {
            self.writer.shutdown().await?;
            loop {
                self.input.clear();
                self.input.reserve(READ_SIZE);
                if self.reader.read_buf(&mut self.input).await? == 0 {
                    return Ok(());
                }
            }
        };
        let _: Option<io::Result<()>> = tokio::time::timeout(GOODBYE_WAIT, goodbye).await.ok();
        End::Done
    }
}

/// What protected mode answers, in Redis's words.
const DENIED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. If you want to connect from external computers to Redis you may adopt \
one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET \
protected-mode no' from the loopback interface by connecting to Redis from the same host the \
server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. \
Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the \
protected mode by editing the Redis configuration file, and setting the protected mode option to \
'no', and then restarting the server. 3) If you started the server manually just for testing, \
restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the \
default user. NOTE: You only need to do one of the above things in order for the server to start \
accepting connections from the outside.\r\n";

/// First words of an HTTP request that carries someone else's commands in its body.
const ATTACKS: [&[u8]; 2] = [b"post", b"host:"];

/// What other sentinels ask for each group.
fn is_short(request: &sentinel::Request) -> bool {
    use sentinel::Request::{Hello, IsMasterDown, MasterAddress};
    matches!(request, Hello(_) | IsMasterDown { .. } | MasterAddress(_))
}

async fn next_event(
    events: Option<&mut broadcast::Receiver<Arc<Event>>>,
) -> Result<Arc<Event>, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_answer(answer: Option<&mut Answer>) -> Value {
    match answer {
        Some(answer) => answer.reply.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
