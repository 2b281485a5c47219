//! Certificates that change while we run: the files are looked at every two seconds, and read again
//! once they look different and have come to rest, since a certificate and its key are seldom
//! exchanged in one moment. What cannot be read leaves in force what there was.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::files::{self, Stamps};
use super::{Current, Tls, TlsError};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// How often what expires is named.
const REMIND: Duration = Duration::from_secs(24 * 3600);

impl Tls {
    /// Keeps up with the files until `stop` is cancelled; `now` (SIGHUP) has them read at once.
    pub async fn keep_fresh(self: Arc<Self>, now: Arc<Notify>, stop: CancellationToken) {
        let mut watch = Watch::of(&self);
        let mut reminded = self.remind();
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = now.notified() => true,
                () = tokio::time::sleep(PERIOD) => false,
            };
            let tls = self.clone();
            // A file system that hangs holds up nothing but this.
            let looked = tokio::task::spawn_blocking(move || {
                let news = tls.look(&mut watch, asked);
                (watch, news)
            });
            let Ok((kept, news)) = looked.await else { return };
            watch = kept;
            match news {
                Some(Ok(())) => {
                    tracing::info!("TLS certificates and keys were read again");
                    reminded = self.remind();
                }
                Some(Err(error)) => tracing::warn!(
                    "TLS goes on with the certificates that it has: {error} (directive '{}')",
                    error.directive
                ),
                None if reminded.elapsed() >= REMIND => reminded = self.remind(),
                None => {}
            }
        }
    }

    fn remind(&self) -> Instant {
        for (_, warning) in self.warnings() {
            tracing::warn!("{warning}");
        }
        Instant::now()
    }

    /// One look at the files; tells what came of reading them, if they were read.
    pub(super) fn look(&self, watch: &mut Watch, asked: bool) -> Option<Result<(), TlsError>> {
        let stamps = files::stamps(&self.settings);
        let rests = stamps == watch.seen;
        watch.seen.clone_from(&stamps);
        let known = stamps == self.current().stamps || watch.failed.as_ref() == Some(&stamps);
        if !asked && (known || !rests) {
            return None;
        }
        Some(match Current::read(&self.settings) {
            Ok(current) => {
                watch.failed = None;
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
                Ok(())
            }
            Err(error) => {
                watch.failed = Some(stamps);
                Err(error)
            }
        })
    }
}

pub(super) struct Watch {
    /// How the files looked last.
    seen: Stamps,
    /// How they looked when they could not be read: told once.
    failed: Option<Stamps>,
}

impl Watch {
    pub(super) fn of(tls: &Tls) -> Watch {
        Watch { seen: tls.current().stamps.clone(), failed: None }
    }
}
