//! A TCP proxy in front of a data node, so that a network partition can be played on one machine.
//!
//! A cut is silence, as on a real network: what is under way stays open and nothing passes, new
//! connections are accepted and hear nothing. When the cut heals, all these connections are closed
//! and the programs connect again.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

/// Which nodes are cut off, by the ports under which the world knows them.
pub(super) type Cuts = watch::Sender<BTreeSet<u16>>;

/// How many connections a proxy carries at once; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 512;
/// How many first bytes of a connection are searched for the port that a replica announces.
const HANDSHAKE_BYTES: usize = 1024;

/// A listening proxy; dropped, it closes its port and all its connections.
#[derive(Debug)]
pub(super) struct Proxy {
    port: u16,
    task: AbortHandle,
}

impl Proxy {
    /// Listens on a free port of its own and passes everything on to `node_port`.
    pub(super) async fn open(node_port: u16, cuts: &Cuts) -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(serve(listener, port, node_port, cuts.subscribe()));
        Ok(Proxy { port, task: task.abort_handle() })
    }

    /// The port under which the world knows the node.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    port: u16,
    node_port: u16,
    cuts: watch::Receiver<BTreeSet<u16>>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Held here, the connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: let some connections end first.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let cuts = cuts.clone();
        connections.spawn(async move {
            carry(client, port, node_port, cuts).await;
            drop(place);
        });
    }
}

/// Carries one connection until either side closes it or a cut has come and gone.
async fn carry(
    client: TcpStream,
    port: u16,
    node_port: u16,
    mut cuts: watch::Receiver<BTreeSet<u16>>,
) {
    if cuts.borrow().contains(&port) {
        let _ = cuts.wait_for(|cut| !cut.contains(&port)).await;
        return;
    }
    let Ok(node) = TcpStream::connect((Ipv4Addr::LOCALHOST, node_port)).await else { return };
    let _ = (client.set_nodelay(true), node.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    // A replica says who it is, so that cutting off the replica can silence this connection as
    // well.
    let (tell_source, source) = watch::channel(None);
    let is_cut = move |cut: &BTreeSet<u16>| {
        cut.contains(&port) || source.borrow().is_some_and(|source| cut.contains(&source))
    };
    let pumps = async {
        tokio::select! {
            () = pump(from_client, to_node, Some(tell_source)) => {}
            () = pump(from_node, to_client, None) => {}
        }
    };
    tokio::pin!(pumps);
    tokio::select! {
        () = &mut pumps => return,
        _ = cuts.wait_for(|cut| is_cut(cut)) => {}
    }
    // The pumps stand still but keep both sockets open.
    let _ = cuts.wait_for(|cut| !is_cut(cut)).await;
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    tell_source: Option<watch::Sender<Option<u16>>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut handshake = Vec::new();
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..count];
        if let Some(tell) = &tell_source
            && handshake.len() < HANDSHAKE_BYTES
        {
            handshake.extend_from_slice(bytes);
            if let Some(port) = announced_port(&handshake) {
                tell.send_replace(Some(port));
            }
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// The port in a replica's `REPLCONF listening-port PORT`.
fn announced_port(handshake: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(handshake).to_lowercase();
    let (_, rest) = text.split_once("listening-port\r\n$")?;
    let mut lines = rest.split("\r\n");
    let (_length, port, _complete) = (lines.next()?, lines.next()?, lines.next()?);
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    /// A node that sends back what it hears.
    async fn echo_node() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (from, to) = stream.into_split();
                tokio::spawn(pump(from, to, None));
            }
        });
        port
    }

    async fn exchange(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
        stream.write_all(text).await?;
        let mut heard = vec![0; text.len()];
        tokio::time::timeout(WITHIN, stream.read_exact(&mut heard)).await??;
        assert_eq!(heard, text);
        Ok(())
    }

    async fn is_closed(mut stream: TcpStream) -> bool {
        let mut byte = [0];
        let read = tokio::time::timeout(WITHIN, stream.read(&mut byte)).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }

    #[tokio::test]
    async fn a_cut_is_silence_and_healing_closes_what_was_cut() {
        let cuts = Cuts::default();
        let proxy = Proxy::open(echo_node().await, &cuts).await.expect("a proxy");
        let address = (Ipv4Addr::LOCALHOST, proxy.port());
        let mut old = TcpStream::connect(address).await.expect("connects");
        exchange(&mut old, b"before").await.expect("passes");

        cuts.send_modify(|cut| assert!(cut.insert(proxy.port())));
        let mut new = TcpStream::connect(address).await.expect("connects");
        old.write_all(b"lost").await.expect("writes");
        new.write_all(b"lost").await.expect("writes");
        let mut byte = [0];
        let silence = Duration::from_millis(100);
        assert!(tokio::time::timeout(silence, old.read(&mut byte)).await.is_err());
        assert!(tokio::time::timeout(silence, new.read(&mut byte)).await.is_err());

        cuts.send_modify(|cut| cut.clear());
        assert!(is_closed(old).await && is_closed(new).await);
        let mut again = TcpStream::connect(address).await.expect("connects");
        exchange(&mut again, b"after").await.expect("passes");
    }

    #[tokio::test]
    async fn cutting_off_a_replica_silences_its_link_to_the_master() {
        let cuts = Cuts::default();
        let proxy = Proxy::open(echo_node().await, &cuts).await.expect("a proxy");
        let address = (Ipv4Addr::LOCALHOST, proxy.port());
        let mut replica = TcpStream::connect(address).await.expect("connects");
        let mut client = TcpStream::connect(address).await.expect("connects");
        let hello = b"*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7002\r\n";
        exchange(&mut replica, hello).await.expect("passes");
        cuts.send_modify(|cut| assert!(cut.insert(7002)));
        exchange(&mut client, b"others pass").await.expect("passes");
        replica.write_all(b"lost").await.expect("writes");
        let mut byte = [0];
        let silence = Duration::from_millis(100);
        assert!(tokio::time::timeout(silence, replica.read(&mut byte)).await.is_err());
        cuts.send_modify(|cut| cut.clear());
        assert!(is_closed(replica).await);
    }

    #[tokio::test]
    async fn a_node_that_is_gone_is_a_closed_connection() {
        let gone = {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            listener.local_addr().expect("an address").port()
        };
        let cuts = Cuts::default();
        let proxy = Proxy::open(gone, &cuts).await.expect("a proxy");
        let address = (Ipv4Addr::LOCALHOST, proxy.port());
        assert!(is_closed(TcpStream::connect(address).await.expect("connects")).await);
    }

    #[test]
    fn the_announced_port_needs_its_whole_line() {
        let whole = b"$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$5\r\n40001\r\n";
        assert_eq!(announced_port(whole), Some(40001));
        assert_eq!(announced_port(&whole[..whole.len() - 3]), None);
        assert_eq!(announced_port(b"*1\r\n$4\r\nPING\r\n"), None);
    }
}
