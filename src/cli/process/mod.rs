//! What makes a sentinel a good process of its machine: it goes to the background if it is told to
//! (`daemonize`), tells systemd how it is (`supervised`), leaves its number in a file (`pidfile`).

mod background;
mod descriptors;
mod notify;

use std::path::PathBuf;

pub(super) use background::{Background, Start, start};
pub(super) use descriptors::make_room_for;
pub(super) use notify::Supervisor;

use crate::config::settings::SentinelSettings;
use crate::config::transport::PID_FILE;

/// A file with our process id, removed at the end.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file that is asked for; a process in the background has one in any case. A
    /// failure only warns.
    pub(super) fn write(settings: &SentinelSettings, in_background: bool) -> Option<PidFile> {
        let usual = in_background.then(|| PathBuf::from(PID_FILE));
        let path = settings.pidfile.clone().or(usual)?;
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(PidFile(path)),
            Err(error) => {
                tracing::warn!("Failed to write PID file {}: {error}", path.display());
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
