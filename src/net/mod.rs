//! What every server of this house needs from the network: listening sockets, and the loop that
//! accepts connections up to `maxclients`. Stopping is left to tokio_util's `CancellationToken` and
//! `TaskTracker`.

mod accept;
mod listen;

pub use accept::{Gate, Permit, accept, set_keepalive};
pub use listen::{ListenError, Listening, TCP_BACKLOG, listen};
