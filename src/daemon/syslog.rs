//! `syslog-enabled`: log lines for the system's log, as datagrams to `/dev/log`.
//!
//! A line has no time of its own: whoever receives it knows better. As with the library of C, a log
//! that nobody receives is lost without a word, and found again when it is back.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::settings::SentinelSettings;
use crate::config::transport::ProcessSettings;

/// Where the system's log listens.
const SOCKET: &str = "/dev/log";
/// `syslog-ident` where nothing is said.
const IDENT: &str = "redis";

/// The way to the system's log.
#[derive(Debug, Clone)]
pub struct Syslog {
    path: PathBuf,
    ident: String,
    facility: u8,
    socket: Arc<Mutex<Option<UnixDatagram>>>,
}

impl Syslog {
    /// The one that the settings ask for, if they do.
    pub fn of(settings: &SentinelSettings) -> Option<Syslog> {
        let ProcessSettings { syslog, syslog_ident, syslog_facility, .. } = &settings.process;
        let ident = syslog_ident.as_deref().unwrap_or(IDENT);
        syslog.then(|| Syslog::at(SOCKET, ident, syslog_facility.code()))
    }

    fn at(path: impl Into<PathBuf>, ident: &str, facility: u8) -> Syslog {
        let (path, ident) = (path.into(), ident.replace(char::is_control, " "));
        Syslog { path, ident, facility, socket: Arc::default() }
    }

    fn send(&self, severity: u8, text: &str) -> io::Result<()> {
        let priority = self.facility * 8 + severity;
        let line = format!("<{priority}>{}[{}]: {text}", self.ident, std::process::id());
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = socket.as_ref()
            && open.send(line.as_bytes()).is_ok()
        {
            return Ok(());
        }
        // Not there yet, or the receiver was started anew.
        let fresh = UnixDatagram::unbound()?;
        // A receiver that does not receive holds up nobody.
        fresh.set_nonblocking(true)?;
        fresh.connect(&self.path)?;
        fresh.send(line.as_bytes())?;
        *socket = Some(fresh);
        Ok(())
    }
}

/// Takes one line.
#[derive(Debug)]
pub struct Line<'a> {
    syslog: &'a Syslog,
    severity: u8,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let _ = self.syslog.send(self.severity, text.trim_end());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { syslog: self, severity: severity(Level::INFO) }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { syslog: self, severity: severity(*metadata.level()) }
    }
}

/// As Redis maps its levels: debug, info, notice, warning.
fn severity(level: Level) -> u8 {
    match level {
        Level::TRACE => 7,
        Level::DEBUG => 6,
        Level::INFO => 5,
        Level::WARN | Level::ERROR => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 200];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn a_line_is_a_datagram_and_a_receiver_that_comes_back_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let syslog = Syslog::at(&path, "me", 16);
        assert!(syslog.send(4, "lost").is_err());
        for _ in 0..2 {
            let receiver = UnixDatagram::bind(&path).unwrap();
            let mut line = Line { syslog: &syslog, severity: severity(Level::WARN) };
            line.write_all(b"+sdown master m\n").unwrap();
            let pid = std::process::id();
            assert_eq!(heard(&receiver), format!("<132>me[{pid}]: +sdown master m"));
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn levels_are_those_of_redis() {
        let all = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN];
        assert_eq!(all.map(severity), [7, 6, 5, 4]);
    }
}
