//! One process that plays thousands of Redis nodes: groups of a master with its replicas, each node
//! on a loopback address of its own, all on one port. They answer what a sentinel asks as
//! redis-server 7.0 does, deliver hellos, change roles and close connections; they hold no data.
//!
//! Node `k` of group `g` (0 is its first master) lives at 127.1.0.0 plus `g * (replicas + 1) + k`.
//! Who connects to 127.0.0.1 speaks to the stage itself: [`Stage::command`].

mod node;
mod stage;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use bytes::BytesMut;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

pub use stage::Cast;

use self::node::Session;
use self::stage::Stage;
use crate::resp::{Decoder, Limits};

/// Connections that may wait to be accepted: all sentinels come at once.
const BACKLOG: u32 = 4096;
/// Bytes read at a time, in a buffer that all connections share.
const READ_BYTES: usize = 64 << 10;

/// Plays until it is killed.
///
/// # Errors
/// If the port cannot be opened.
pub async fn play(cast: Cast) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), cast.port))?;
    let listener = socket.listen(BACKLOG)?;
    let stage = Rc::new(RefCell::new(Stage::new(cast)));
    LocalSet::new().run_until(accept(listener, stage)).await
}

async fn accept(listener: TcpListener, stage: Rc<RefCell<Stage>>) -> io::Result<()> {
    let scratch = Rc::new(RefCell::new(vec![0; READ_BYTES]));
    let mut complained = false;
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Once: it goes on for as long as sentinels try.
                if !std::mem::replace(&mut complained, true) {
                    eprintln!("the nodes cannot accept a connection: {error}");
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        let stage = stage.clone();
        let scratch = scratch.clone();
        tokio::task::spawn_local(async move {
            // A connection that breaks concerns nobody else.
            let _ = serve(stream, &stage, &scratch).await;
        });
    }
}

/// A connection: to a node, by the address that was dialled, or to the stage.
async fn serve(
    stream: TcpStream,
    stage: &Rc<RefCell<Stage>>,
    scratch: &RefCell<Vec<u8>>,
) -> io::Result<()> {
    let IpAddr::V4(ip) = stream.local_addr()?.ip() else { return Ok(()) };
    stream.set_nodelay(true)?;
    let session = Rc::new(Session::new(stream));
    let node = match ip {
        Ipv4Addr::LOCALHOST => None,
        ip => match stage.borrow_mut().enter(ip, &session) {
            Some(node) => Some(node),
            None => return Ok(()),
        },
    };
    let talked = tokio::select! {
        talked = talk(&session, node, stage, scratch) => talked,
        () = session.ended.cancelled() => Ok(()),
    };
    if let Some(node) = node {
        stage.borrow_mut().leave(node, &session);
    }
    talked
}

async fn talk(
    session: &Rc<Session>,
    node: Option<usize>,
    stage: &Rc<RefCell<Stage>>,
    scratch: &RefCell<Vec<u8>>,
) -> io::Result<()> {
    let mut decoder = Decoder::new(Limits::default());
    let (mut bytes, mut out) = (BytesMut::new(), BytesMut::new());
    loop {
        session.stream.readable().await?;
        {
            let mut scratch = scratch.borrow_mut();
            match session.stream.try_read(&mut scratch) {
                Ok(0) => return Ok(()),
                Ok(count) => bytes.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
        }
        if node.is_some_and(|node| stage.borrow().is_hung(node)) {
            bytes.clear();
            continue;
        }
        while let Some(request) = decoder.feed(&mut bytes).map_err(io::Error::other)? {
            let mut stage = stage.borrow_mut();
            match node {
                Some(node) => stage.answer(node, session, &request.args, &mut out),
                None => stage.command(&request.args, &mut out),
            }
        }
        if bytes.is_empty() {
            // Thousands of idle connections keep no buffer each.
            bytes = BytesMut::new();
        }
        while !out.is_empty() {
            session.stream.writable().await?;
            match session.stream.try_write(&out) {
                Ok(count) => drop(out.split_to(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        out = BytesMut::new();
    }
}

/// Ends a connection from outside of its task.
type End = CancellationToken;
