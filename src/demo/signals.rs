//! The signals that end a run in good order.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// SIGINT, SIGTERM and SIGHUP, which end a run in good order.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    pub(crate) fn listen() -> Result<Signals, Failure> {
        let on = |kind| signal(kind).map_err(Failure::io("listen to signals"));
        Ok(Signals {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    /// The number of the signal that comes first.
    pub(crate) async fn next(mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
        }
    }
}
