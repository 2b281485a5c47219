//! `supervised systemd`: the protocol of sd_notify, datagrams to the socket `$NOTIFY_SOCKET`.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::config::transport::Supervised;

/// Who is told how we are.
#[derive(Debug)]
pub(crate) struct Supervisor {
    address: Option<SocketAddr>,
    /// Why nobody is told who should be.
    trouble: Option<String>,
}

impl Supervisor {
    /// The one that the settings and the environment name.
    pub(crate) fn of(supervised: Supervised) -> Supervisor {
        Supervisor::at(supervised, env::var_os("NOTIFY_SOCKET"))
    }

    fn at(supervised: Supervised, socket: Option<OsString>) -> Supervisor {
        let found = match (supervised, socket) {
            (Supervised::No, _) | (Supervised::Auto, None) => Ok(None),
            (Supervised::Systemd, None) => Err("NOTIFY_SOCKET not found!".to_owned()),
            (_, Some(name)) => match address(name.as_bytes()) {
                Ok(address) => Ok(Some(address)),
                Err(error) => Err(format!("NOTIFY_SOCKET: {error}")),
            },
        };
        match found {
            Ok(address) => Supervisor { address, trouble: None },
            Err(why) => Supervisor { address: None, trouble: Some(why) },
        }
    }

    /// Says in the log that somebody should be told and cannot.
    pub(crate) fn warn(&self) {
        if let Some(why) = &self.trouble {
            tracing::warn!("systemd supervision error: {why}");
        }
    }

    /// Whether there is one.
    pub(crate) fn is_there(&self) -> bool {
        self.address.is_some()
    }

    /// Tells one or more assignments, such as `READY=1`, a line each.
    pub(crate) fn tell(&self, state: &str) {
        let Some(address) = &self.address else { return };
        let told = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(state.as_bytes(), address));
        if let Err(error) = told {
            tracing::warn!("systemd can't be told '{state}': {error}");
        }
    }
}

/// A path, or a name of the abstract kind, which is written with `@` in place of its null byte.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an @name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 100];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn paths_and_abstract_names_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::at(Supervised::Systemd, Some(path.into()));
        assert!(supervisor.is_there());
        supervisor.tell("READY=1\n");
        assert_eq!(heard(&by_path), "READY=1\n");

        let name = format!("watchfire-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let hidden = UnixDatagram::bind_addr(&address).unwrap();
        Supervisor::at(Supervised::Auto, Some(format!("@{name}").into())).tell("STOPPING=1\n");
        assert_eq!(heard(&hidden), "STOPPING=1\n");
    }

    #[test]
    fn without_a_supervisor_nothing_is_told() {
        for (supervised, socket) in [
            (Supervised::No, Some("/x")),
            (Supervised::Auto, None),
            (Supervised::Systemd, None),
            (Supervised::Systemd, Some("vsock:2:1234")),
        ] {
            let supervisor = Supervisor::at(supervised, socket.map(OsString::from));
            assert!(!supervisor.is_there(), "{supervised:?} {socket:?}");
            supervisor.tell("READY=1");
        }
    }
}
