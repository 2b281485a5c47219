//! The loop that accepts connections, with `maxclients` and with patience when the process is out
//! of file descriptors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// What a connection above `maxclients` is told, in Redis's words.
const REFUSAL: &[u8] = b"-ERR max number of clients reached\r\n";
/// First and longest pause after an error of the system such as "too many open files".
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Counts the connections of one server and keeps them to `maxclients`.
#[derive(Debug)]
pub struct Gate {
    max: AtomicUsize,
    open: AtomicUsize,
    received: AtomicU64,
    refused: AtomicU64,
}

/// A place within `maxclients`, given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

impl Gate {
    /// A gate that lets in `max` connections at a time.
    pub fn new(max: usize) -> Arc<Gate> {
        let (received, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Gate { max: AtomicUsize::new(max), open: AtomicUsize::new(0), received, refused })
    }

    /// Changes `maxclients`; connections that are open stay.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Connections that are open: `connected_clients`, replicas included.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections accepted since the start: `total_connections_received`.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Connections turned away since the start: `rejected_connections`.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts a connection that was let in and turned away after a closer look.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A place, if one is free.
    pub(crate) fn admit(self: &Arc<Gate>) -> Option<Permit> {
        let max = self.max.load(Ordering::Relaxed);
        let step = |open| (open < max).then_some(open + 1);
        let admitted = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok();
        let counter = if admitted { &self.received } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        admitted.then(|| Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that connections come in through.
pub trait Door: Send + Sync {
    /// A connection, with what is known of its peer.
    type Guest: Send;

    /// Waits for the next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Guest>> + Send;

    /// Tells one above `maxclients` why it is closed, in one attempt that does not wait.
    fn turn_away(guest: &Self::Guest);
}

/// Nagle's delay is off.
impl Door for TcpListener {
    type Guest = (TcpStream, SocketAddr);

    async fn accept(&self) -> io::Result<Self::Guest> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Fails only if the peer has gone already, which its first read will tell.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }

    fn turn_away((stream, peer): &Self::Guest) {
        tracing::debug!(%peer, "Connection refused: max number of clients reached");
        // The socket is new, so its buffer has room.
        let _ = SockRef::from(stream).send(REFUSAL);
    }
}

impl Door for UnixListener {
    type Guest = UnixStream;

    async fn accept(&self) -> io::Result<Self::Guest> {
        Ok(UnixListener::accept(self).await?.0)
    }

    fn turn_away(stream: &Self::Guest) {
        tracing::debug!("Unix connection refused: max number of clients reached");
        let _ = SockRef::from(stream).send(REFUSAL);
    }
}

/// A port that speaks TLS: before the handshake nothing can be told.
pub struct TlsDoor(pub TcpListener);

impl Door for TlsDoor {
    type Guest = (TcpStream, SocketAddr);

    fn accept(&self) -> impl Future<Output = io::Result<Self::Guest>> + Send {
        Door::accept(&self.0)
    }

    fn turn_away((_, peer): &Self::Guest) {
        tracing::debug!(%peer, "TLS connection refused: max number of clients reached");
    }
}

/// Accepts connections on one socket until `stop` is cancelled and hands each to `serve`, which
/// must not block: it spawns a task that holds the permit as long as the connection lives.
///
/// A connection above the gate's limit gets Redis's error and is closed. When the system runs out
/// of file descriptors or memory, the loop waits a little and tries again; the log says so once.
pub async fn accept<D: Door>(
    door: D,
    gate: Arc<Gate>,
    stop: CancellationToken,
    serve: impl Fn(D::Guest, Permit),
) {
    let mut pause = PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = door.accept() => accepted,
        };
        match accepted {
            Ok(guest) => {
                pause = PAUSE_MIN;
                match gate.admit() {
                    Some(permit) => serve(guest, permit),
                    None => D::turn_away(&guest),
                }
            }
            // The peer gave up while it waited to be accepted.
            Err(error) if is_peer_s_fault(&error) => {}
            Err(error) => {
                if pause == PAUSE_MIN {
                    tracing::warn!("Accepting client connection: {error}; trying again");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => pause = PAUSE_MAX.min(pause * 2),
                }
            }
        }
    }
}

fn is_peer_s_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Sets `tcp-keepalive`: the kernel asks a silent peer after `seconds`, then three times at a third
/// of that. 0 turns it off.
pub fn set_keepalive(stream: &TcpStream, seconds: u64) -> io::Result<()> {
    let socket = SockRef::from(stream);
    if seconds == 0 {
        return socket.set_keepalive(false);
    }
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(seconds))
        .with_interval(Duration::from_secs((seconds / 3).max(1)))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::task::TaskTracker;

    use super::super::{TCP_BACKLOG, listen};
    use super::*;

    /// An echo server; the tracker ends when its loop and all connections have ended.
    fn start(max: usize) -> (u16, Arc<Gate>, CancellationToken, TaskTracker) {
        let listening = listen(&["127.0.0.1".into()], 0, TCP_BACKLOG).unwrap();
        let (gate, stop, tasks) = (Gate::new(max), CancellationToken::new(), TaskTracker::new());
        for socket in listening.sockets {
            let connections = tasks.clone();
            tasks.spawn(accept(
                socket,
                gate.clone(),
                stop.clone(),
                move |(mut stream, _), permit| {
                    set_keepalive(&stream, 300).unwrap();
                    assert!(stream.nodelay().unwrap());
                    connections.spawn(async move {
                        let (mut read, mut write) = stream.split();
                        let _ = tokio::io::copy(&mut read, &mut write).await;
                        drop(permit);
                    });
                },
            ));
        }
        tasks.close();
        (listening.port, gate, stop, tasks)
    }

    async fn connect(port: u16) -> TcpStream {
        TcpStream::connect(("127.0.0.1", port)).await.unwrap()
    }

    async fn echo(stream: &mut TcpStream) {
        stream.write_all(b"hi").await.unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hi");
    }

    async fn within(what: impl Future<Output = ()>) {
        tokio::time::timeout(Duration::from_secs(20), what).await.expect("in time");
    }

    #[tokio::test]
    async fn a_client_too_many_is_told_so_and_a_place_given_back_is_used() {
        let (port, gate, stop, tasks) = start(1);
        within(async {
            let mut first = connect(port).await;
            echo(&mut first).await;
            let mut answer = Vec::new();
            connect(port).await.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"-ERR max number of clients reached\r\n");
            assert_eq!((gate.open(), gate.received(), gate.refused()), (1, 1, 1));

            drop(first);
            while gate.open() > 0 {
                tokio::task::yield_now().await;
            }
            let mut next = connect(port).await;
            echo(&mut next).await;
            gate.set_max(2);
            echo(&mut connect(port).await).await;
        })
        .await;
        stop.cancel();
        within(tasks.wait()).await;
        assert_eq!(gate.open(), 0);
    }

    #[tokio::test]
    async fn keepalive_can_be_turned_off() {
        let listening = listen(&["127.0.0.1".into()], 0, TCP_BACKLOG).unwrap();
        let stream = connect(listening.port).await;
        set_keepalive(&stream, 300).unwrap();
        assert!(SockRef::from(&stream).keepalive().unwrap());
        set_keepalive(&stream, 0).unwrap();
        assert!(!SockRef::from(&stream).keepalive().unwrap());
    }
}
