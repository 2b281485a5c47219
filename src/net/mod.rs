//! What every server of this house needs from the network: listening sockets (TCP, TLS, Unix) and
//! the loop that accepts connections up to `maxclients`; and for those who connect, TLS. Stopping
//! is left to tokio_util's `CancellationToken` and `TaskTracker`.

mod accept;
mod listen;
mod stream;
pub mod tls;
mod unix;

use std::sync::Arc;

pub use accept::{Door, Gate, Permit, TlsDoor, accept, set_keepalive};
pub use listen::{ListenError, Listening, TCP_BACKLOG, listen};
pub use stream::Stream;
pub use unix::{UnixDoor, UnixError, listen_unix};

use tls::Tls;

/// All that a sentinel listens on; at least one is there.
#[derive(Default)]
pub struct Doors {
    /// `port`
    pub tcp: Option<Listening>,
    /// `tls-port`, with what the handshake needs.
    pub tls: Option<(Listening, Arc<Tls>)>,
    /// `unixsocket`
    pub unix: Option<UnixDoor>,
}

impl Doors {
    /// The port that it is known by: that of TCP, or of TLS; 0 if there is neither.
    pub fn port(&self) -> u16 {
        let tls = self.tls.as_ref().map(|(listening, _)| listening.port);
        self.tcp.as_ref().map(|listening| listening.port).or(tls).unwrap_or_default()
    }
}

/// TCP alone.
impl From<Listening> for Doors {
    fn from(listening: Listening) -> Doors {
        Doors { tcp: Some(listening), ..Doors::default() }
    }
}
