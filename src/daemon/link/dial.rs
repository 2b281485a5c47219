//! How a link gets a connection: name resolution that remembers its last good answer, one attempt
//! with a time limit, TLS if links speak it, and the pauses between attempts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::config::diagnostic::os_words;
use crate::config::types::Address;
use crate::net::Stream;
use crate::net::tls::{Tls, Trouble, trouble};
use crate::sentinel::LostReason;

/// Longest wait for a connection, TLS included, and for a name server.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait for a name server where the name has meant something before: silence begins to
/// count when a connection ends, and `down-after` may be short.
const LOOKUP_PATIENCE: Duration = Duration::from_millis(100);
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
}

/// Makes connections to one address.
pub(super) struct Dialer {
    address: Address,
    outgoing: Outgoing,
    known: Vec<SocketAddr>,
    /// What the name was last said to mean.
    told: Vec<String>,
    /// A lookup that has not answered yet. The system offers no way to end one, so a second is not
    /// started before the first is done.
    lookup: Option<AbortOnDropHandle<io::Result<Vec<SocketAddr>>>>,
    pause: Duration,
}

impl Dialer {
    pub(super) fn new(address: Address, outgoing: Outgoing) -> Dialer {
        let (known, told) = (Vec::new(), Vec::new());
        Dialer { address, outgoing, known, told, lookup: None, pause: PAUSE_MIN }
    }

    /// The name is looked up, and then dialled.
    pub(super) async fn connect(&mut self) -> Result<Stream, LostReason> {
        self.resolve().await?;
        self.dial().await
    }

    /// Waits until a lookup that was late says that the name means none of the addresses that it
    /// meant before: whatever was made of those is to be ended.
    pub(super) async fn outdated(&mut self) {
        while let Some(lookup) = &mut self.lookup {
            let answer = lookup.await;
            self.lookup = None;
            if let Ok(Ok(found)) = answer
                && !found.is_empty()
            {
                let moved = !found.iter().any(|address| self.known.contains(address));
                self.known = found;
                if moved {
                    return;
                }
            }
        }
        std::future::pending().await
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

    /// One attempt on each address that the name has, until one succeeds.
    pub(super) fn dial(&self) -> impl Future<Output = Result<Stream, LostReason>> + use<> {
        let (outgoing, known) = (self.outgoing.clone(), self.known.clone());
        async move {
            let mut reason = LostReason::Unresolved("no address".into());
            for address in known {
                match outgoing.connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(why) => reason = why,
                }
            }
            Err(reason)
        }
    }

    /// Looks the name up again, since it may have moved. Without an answer the last good one is
    /// used, and what comes later may end that: see [`outdated`](Self::outdated).
    pub(super) async fn resolve(&mut self) -> Result<(), LostReason> {
        let Address { host, port } = self.address.clone();
        if let Ok(ip) = host.parse::<IpAddr>() {
            self.known = vec![SocketAddr::new(ip, port)];
            return Ok(());
        }
        let lookup = self.lookup.get_or_insert_with(|| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                Ok(lookup_host((host, port)).await?.collect())
            }))
        });
        let patience = match self.known.is_empty() {
            true => CONNECT_TIMEOUT,
            false => LOOKUP_PATIENCE,
        };
        let why = match timeout(patience, lookup).await {
            Ok(answer) => {
                self.lookup = None;
                match answer.map_err(io::Error::other).flatten() {
                    Ok(found) if !found.is_empty() => {
                        self.known = found;
                        return Ok(());
                    }
                    Ok(_) => "the name has no address".to_owned(),
                    Err(error) => os_words(&error),
                }
            }
            Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        };
        if self.known.is_empty() { Err(LostReason::Unresolved(why)) } else { Ok(()) }
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

    fn later(
        answer: Vec<SocketAddr>,
        wait: Duration,
    ) -> AbortOnDropHandle<io::Result<Vec<SocketAddr>>> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            Ok(answer)
        }))
    }

    #[tokio::test]
    async fn a_name_server_that_is_slow_holds_up_nobody_who_knows_an_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut dialer = dial("slow.invalid", address.port());
        dialer.known = vec![address];
        dialer.lookup = Some(later(vec![address], Duration::from_secs(3_600)));
        // Less than half of the shortest down-after that anybody has, with much room.
        timeout(CONNECT_TIMEOUT / 2, dialer.connect()).await.expect("soon").unwrap();
        assert!(dialer.lookup.is_some(), "it goes on");
    }

    #[tokio::test]
    async fn a_late_answer_ends_what_was_made_of_the_old_one_if_the_name_has_moved() {
        let (old, new) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
        let mut dialer = dial("slow.invalid", 1);
        dialer.known = vec![old];
        let wait = 3 * LOOKUP_PATIENCE;
        dialer.lookup = Some(later(vec![new], wait));
        dialer.resolve().await.unwrap();
        assert_eq!(dialer.known, [old], "for now");
        dialer.outdated().await;
        assert_eq!(dialer.known, [new]);
        dialer.lookup = Some(later(vec![old, new], wait));
        assert!(timeout(2 * wait, dialer.outdated()).await.is_err(), "it is among them");
        assert_eq!(dialer.known, [old, new]);
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
