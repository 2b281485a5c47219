//! How a link gets a connection: name resolution that remembers its last good answer, one attempt
//! with a time limit, TLS if links speak it, and the pauses between attempts.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt;
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::config::diagnostic::os_words;
use crate::config::types::Address;
use crate::net::Stream;
use crate::net::tls::{Tls, Trouble, trouble};
use crate::sentinel::LostReason;

/// Longest wait for a connection, TLS included, and for the first answer of a name server.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After so long without an answer of the name server the last good one is used meanwhile: longer
/// than a healthy one takes, and a small part of any `down-after` that lets a connection be lost
/// and made anew.
const LOOKUP_PATIENCE: Duration = Duration::from_millis(100);
/// So many names are remembered for links to come. There are that many only if somebody invents
/// them: then all are forgotten, and links look up for themselves.
const NAMES_MAX: usize = 4096;
/// Sent bytes that nobody acknowledges for so long end a connection. A frozen process still
/// acknowledges (its kernel does), a cut network does not; without this the kernel's own growing
/// pauses would keep a link silent for minutes after the network is back.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// The kernel asks a connection on which nothing is sent after so long, three times.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// First pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that stood for so long was a good one: the next pause is the shortest again.
const GOOD_AFTER: Duration = Duration::from_secs(1);

/// How links leave this machine.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Outgoing {
    /// `tls-replication`: what the handshake needs.
    pub(in super::super) tls: Option<Arc<Tls>>,
    /// `bind-source-addr`: used where this machine has it, as in Redis.
    pub(in super::super) source: Option<IpAddr>,
    /// The last good answers of all links: one that takes the place of another begins with them.
    pub(in super::super) names: Names,
}

/// What names were last found to mean.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Names(Arc<Mutex<BTreeMap<String, Vec<SocketAddr>>>>);

impl Names {
    fn of(&self, Address { host, port }: &Address) -> Vec<SocketAddr> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = names.get(host).cloned().unwrap_or_default();
        known.iter_mut().for_each(|known| known.set_port(*port));
        known
    }

    fn learn(&self, host: &str, found: &[SocketAddr]) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX && !names.contains_key(host) {
            names.clear();
        }
        names.insert(host.to_owned(), found.to_vec());
    }
}

/// A lookup under way.
struct Lookup {
    began: Instant,
    answer: AbortOnDropHandle<Answer>,
}

type Answer = io::Result<Vec<SocketAddr>>;

/// Makes connections to one address.
pub(super) struct Dialer {
    address: Address,
    outgoing: Outgoing,
    /// The last good answer.
    known: Vec<SocketAddr>,
    /// The one of them that the last connection was made to.
    used: Option<SocketAddr>,
    /// What the name was last said to mean.
    told: Vec<String>,
    /// A lookup that has not answered yet. The system offers no way to end one, so a second is not
    /// started before the first is done.
    lookup: Option<Lookup>,
    pause: Duration,
}

impl Dialer {
    pub(super) fn new(address: Address, outgoing: Outgoing) -> Dialer {
        let (known, told) = (outgoing.names.of(&address), Vec::new());
        Dialer { address, outgoing, known, used: None, told, lookup: None, pause: PAUSE_MIN }
    }

    /// The name is looked up, and then dialled.
    pub(super) async fn connect(&mut self) -> Result<Stream, LostReason> {
        self.resolve().await?;
        self.dial().await
    }

    /// The addresses that a name means, if that is news.
    pub(super) fn news(&mut self) -> Option<Vec<String>> {
        let is_name = self.address.host.parse::<IpAddr>().is_err();
        let found = self.known.iter().map(|found| found.ip().to_canonical().to_string());
        let mut found: Vec<String> = found.filter(|_| is_name).collect();
        found.sort();
        if found == self.told {
            return None;
        }
        self.told.clone_from(&found);
        Some(found)
    }

    /// One attempt on each address that the name has, until one succeeds; first on the one that was
    /// used last, since each that is dead costs its time.
    pub(super) async fn dial(&mut self) -> Result<Stream, LostReason> {
        let mut reason = LostReason::Unresolved("no address".into());
        let mut known = self.known.clone();
        known.sort_by_key(|address| self.used != Some(*address));
        for address in known {
            self.used = Some(address);
            let outgoing = self.outgoing.clone();
            let connect = pin!(outgoing.connect(address));
            match self.unless_moved(connect).await? {
                Ok(stream) => return Ok(stream),
                Err(why) => reason = why,
            }
        }
        Err(reason)
    }

    /// Looks the name up again, since it may have moved. Without an answer the last good one is
    /// used: soon, if the name server takes its time.
    pub(super) async fn resolve(&mut self) -> Result<(), LostReason> {
        let Address { host, port } = self.address.clone();
        if let Ok(ip) = host.parse::<IpAddr>() {
            self.known = vec![SocketAddr::new(ip, port)];
            return Ok(());
        }
        let lookup = self.lookup.get_or_insert_with(|| {
            let lookup = async move { Ok(lookup_host((host, port)).await?.collect()) };
            let answer = AbortOnDropHandle::new(tokio::spawn(lookup));
            Lookup { began: Instant::now(), answer }
        });
        let deadline = match self.known.is_empty() {
            true => Instant::now() + CONNECT_TIMEOUT,
            false => lookup.began + LOOKUP_PATIENCE,
        };
        let why = match timeout_at(deadline, &mut lookup.answer).await {
            Ok(answer) => match self.learn(answer) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
            Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        };
        if self.known.is_empty() { Err(LostReason::Unresolved(why)) } else { Ok(()) }
    }

    /// Does something with the address in use, until a lookup that was not waited for says that
    /// the name means others now. What is large is handed over pinned: it would be kept twice.
    pub(super) async fn unless_moved<T>(
        &mut self,
        use_it: impl Future<Output = T>,
    ) -> Result<T, LostReason> {
        tokio::select! {
            done = use_it => Ok(done),
            () = self.moved() => {
                Err(LostReason::Other("The name means another address now".into()))
            }
        }
    }

    /// Ends if the lookup under way has an answer, and the address in use is none of it.
    async fn moved(&mut self) {
        if let Some(lookup) = &mut self.lookup {
            let answer = (&mut lookup.answer).await;
            let ip = |address: &SocketAddr| address.ip().to_canonical();
            let used = self.used.as_ref().map(ip);
            if self.learn(answer).is_ok() && !self.known.iter().any(|a| Some(ip(a)) == used) {
                return;
            }
        }
        pending().await
    }

    /// Takes what the lookup found; an error says why that is nothing.
    fn learn(&mut self, answer: Result<Answer, JoinError>) -> Result<(), String> {
        self.lookup = None;
        match answer.map_err(io::Error::other).flatten() {
            Ok(found) if !found.is_empty() => {
                self.outgoing.names.learn(&self.address.host, &found);
                self.known = found;
                Ok(())
            }
            Ok(_) => Err("the name has no address".to_owned()),
            Err(error) => Err(os_words(&error)),
        }
    }

    /// The pause before the next attempt: short after a connection that stood for a while
    /// (`stood`), longer with each failure, never in step with other sentinels.
    pub(super) fn pause(&mut self, stood: Option<Duration>) -> Duration {
        if stood.is_some_and(|stood| stood >= GOOD_AFTER) {
            self.pause = PAUSE_MIN;
        }
        let pause = self.pause.mul_f64(rand::rng().random_range(0.75..1.25));
        self.pause = PAUSE_MAX.min(self.pause * 2);
        pause
    }
}

impl Outgoing {
    async fn connect(&self, address: SocketAddr) -> Result<Stream, LostReason> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let stream = match timeout_at(deadline, self.leave(address)).await {
            Ok(stream) => stream.map_err(|error| lost_reason(&error))?,
            Err(_) => return Err(LostReason::TimedOut),
        };
        tune(&stream).map_err(|error| lost_reason(&error))?;
        let Some(tls) = &self.tls else { return Ok(Stream::Tcp(stream)) };
        match timeout_at(deadline, tls.connect(stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(match lost_reason(&error) {
                LostReason::Closed => LostReason::Other(
                    "The connection was closed during the TLS handshake (does this port speak \
                     TLS?)"
                        .into(),
                ),
                reason => reason,
            }),
            Err(_) => Err(LostReason::Other(format!(
                "TLS handshake: no answer within {} s (does this port speak TLS?)",
                CONNECT_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn leave(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if let Some(source) = self.source.filter(|ip| ip.is_ipv4() == address.is_ipv4()) {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            if socket.bind(SocketAddr::new(source, 0)).is_ok() {
                return socket.connect(address).await;
            }
        }
        TcpStream::connect(address).await
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

/// What an error of the system means for a link.
pub(super) fn lost_reason(error: &io::Error) -> LostReason {
    match trouble(error) {
        Some(Trouble::Refused(why)) => return LostReason::Untrusted(why),
        Some(Trouble::Broken(why)) => return LostReason::Other(format!("TLS: {why}")),
        None => {}
    }
    if error.raw_os_error().is_some_and(is_own_limit) {
        return LostReason::OwnLimit(os_words(error));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => LostReason::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => LostReason::Closed,
        io::ErrorKind::TimedOut => LostReason::TimedOut,
        _ => LostReason::Other(os_words(error)),
    }
}

/// No descriptor, port or memory is left here for another connection.
fn is_own_limit(code: i32) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL]
        .contains(&Errno::from_raw_os_error(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(host: &str, port: u16) -> Dialer {
        Dialer::new(Address::new(host, port), Outgoing::default())
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_a_refused_port_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut dialer = dial("localhost", port);
        let stream = dialer.connect().await.unwrap();
        assert!(stream.peer_addr().unwrap().ip().is_loopback());
        drop((listener, stream));
        assert_eq!(dialer.connect().await.unwrap_err(), LostReason::Refused);
        let loopback = |ip: &String| ip.parse::<IpAddr>().unwrap().is_loopback();
        assert!(dialer.news().is_some_and(|ips| ips.iter().all(loopback)));
        assert_eq!(dialer.news(), None, "it was told");
        let mut dialer = dial("127.0.0.1", port);
        dialer.resolve().await.unwrap();
        assert_eq!(dialer.news(), None, "an address is no news");
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_keeps_its_last_good_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut dialer = dial("no-such-host.invalid", address.port());
        let reason = dialer.connect().await.unwrap_err();
        assert!(matches!(reason, LostReason::Unresolved(_)), "{reason:?}");
        dialer.known = vec![address];
        dialer.connect().await.unwrap();
    }

    /// A lookup that is answered when the other end says so.
    fn slow(dialer: &mut Dialer) -> tokio::sync::oneshot::Sender<Vec<SocketAddr>> {
        let (answer, asked) = tokio::sync::oneshot::channel();
        let asked = tokio::spawn(async { asked.await.map_err(io::Error::other) });
        let answer_to_come = AbortOnDropHandle::new(asked);
        dialer.lookup = Some(Lookup { began: Instant::now(), answer: answer_to_come });
        answer
    }

    async fn listener() -> (tokio::net::TcpListener, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_name_server_that_hangs_holds_up_nobody_who_knows_an_answer() {
        let (_listener, address) = listener().await;
        let mut dialer = dial("no-such-host.invalid", address.port());
        dialer.known = vec![address];
        let _never = slow(&mut dialer);
        let began = Instant::now();
        dialer.connect().await.unwrap();
        let first = began.elapsed();
        assert!(first < CONNECT_TIMEOUT / 2, "{first:?}");
        // The patience is for the lookup, not for each connection that is lost meanwhile.
        let began = Instant::now();
        for _ in 0..20 {
            dialer.connect().await.unwrap();
        }
        assert!(began.elapsed() < CONNECT_TIMEOUT, "{:?}", began.elapsed());
        assert!(dialer.lookup.is_some(), "it is still awaited");
        let still = dialer.unless_moved(tokio::time::sleep(LOOKUP_PATIENCE)).await;
        assert_eq!(still, Ok(()), "nothing was said");
    }

    #[tokio::test]
    async fn a_name_that_has_moved_wins_once_the_lookup_answers() {
        let (_listener, old) = listener().await;
        let elsewhere: SocketAddr = "127.0.0.2:1".parse().unwrap();
        for found in [vec![old], vec![elsewhere, old], vec![elsewhere]] {
            let mut dialer = dial("no-such-host.invalid", old.port());
            dialer.known = vec![old];
            let answer = slow(&mut dialer);
            let _stream = dialer.connect().await.unwrap();
            answer.send(found.clone()).unwrap();
            let ends = dialer.unless_moved(tokio::time::sleep(LOOKUP_PATIENCE)).await.is_err();
            assert_eq!(ends, !found.contains(&old), "{found:?}");
            assert_eq!(dialer.known, found);
            assert!(dialer.lookup.is_none());
        }
    }

    #[tokio::test]
    async fn an_attempt_on_the_old_address_is_given_up_once_the_lookup_answers() {
        // Nobody takes the connection: its queue is full.
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let old = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        let wait = Duration::from_millis(300);
        while let Ok(Ok(stream)) = tokio::time::timeout(wait, TcpStream::connect(old)).await {
            queued.push(stream);
        }
        let (_listener, new) = listener().await;
        let mut dialer = dial("no-such-host.invalid", old.port());
        dialer.known = vec![old];
        let answer = slow(&mut dialer);
        dialer.resolve().await.unwrap();
        answer.send(vec!["127.0.0.2:1".parse().unwrap()]).unwrap();
        let reason = dialer.dial().await.unwrap_err();
        assert_eq!(reason.to_string(), "The name means another address now");
        dialer.known = vec![new];
        dialer.dial().await.unwrap();
    }

    #[tokio::test]
    async fn a_link_that_is_opened_anew_knows_what_the_last_one_knew() {
        let (_listener, address) = listener().await;
        let outgoing = Outgoing::default();
        let mut first = Dialer::new(Address::new("localhost", 1), outgoing.clone());
        first.resolve().await.unwrap();
        let mut second = Dialer::new(Address::new("localhost", address.port()), outgoing);
        let _never = slow(&mut second);
        second.connect().await.unwrap();
        assert!(second.news().is_some(), "and tells it");
    }

    #[test]
    fn invented_names_fill_no_memory() {
        let names = Names::default();
        let found = ["127.0.0.1:1".parse().unwrap()];
        for n in 0..2 * NAMES_MAX {
            names.learn(&n.to_string(), &found);
            assert!(names.0.lock().unwrap().len() <= NAMES_MAX);
        }
        let last = Address::new((2 * NAMES_MAX - 1).to_string(), 7);
        assert_eq!(names.of(&last), ["127.0.0.1:7".parse().unwrap()]);
    }

    #[tokio::test]
    async fn the_address_that_was_good_is_tried_first() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let mut dialer = dial("two.invalid", good.port());
        // Nobody listens there.
        dialer.known = vec![SocketAddr::new("127.0.0.9".parse().unwrap(), good.port()), good];
        for _ in 0..2 {
            dialer.dial().await.unwrap();
            assert_eq!(dialer.used, Some(good));
        }
    }

    #[tokio::test]
    async fn links_leave_from_the_address_that_they_are_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // No interface has the third one (it is kept for documentation), nor is the fourth of the
        // right kind: then the system chooses, as in Redis.
        for (source, seen) in [
            (None, "127.0.0.1"),
            (Some("127.0.0.5"), "127.0.0.5"),
            (Some("192.0.2.1"), "127.0.0.1"),
            (Some("::1"), "127.0.0.1"),
        ] {
            let source = source.map(|ip| ip.parse().unwrap());
            let outgoing = Outgoing { source, ..Outgoing::default() };
            let mut dialer = Dialer::new(Address::new("127.0.0.1", address.port()), outgoing);
            let stream = dialer.connect().await.unwrap();
            assert_eq!(stream.local_addr().unwrap().ip().to_string(), seen);
        }
    }

    #[test]
    fn pauses_grow_to_a_second_and_start_afresh_after_a_good_connection() {
        let mut dialer = dial("127.0.0.1", 1);
        let pauses: Vec<Duration> = (0..9).map(|_| dialer.pause(None)).collect();
        assert!(pauses[0] <= Duration::from_millis(15), "{pauses:?}");
        assert!(pauses.iter().sum::<Duration>() > Duration::from_secs(1), "{pauses:?}");
        assert!(pauses[8] <= Duration::from_millis(1_250), "{pauses:?}");
        let flapping = dialer.pause(Some(Duration::from_millis(900)));
        assert!(flapping >= Duration::from_millis(750), "{flapping:?}");
        assert!(dialer.pause(Some(GOOD_AFTER)) <= Duration::from_millis(15));
    }
}
