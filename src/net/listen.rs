//! Listening sockets, bound by the rules of Redis's `bind` directive.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::diagnostic::os_words;

/// `tcp-backlog` where nothing is said: connections that may wait to be accepted.
pub const TCP_BACKLOG: u32 = 511;

/// How often a free port is sought that is free on all addresses, when the system may choose it.
const PORT_ATTEMPTS: usize = 16;

/// Open sockets, all of the same port.
#[derive(Debug)]
pub struct Listening {
    /// At least one socket.
    pub sockets: Vec<TcpListener>,
    /// The port: the one asked for, or the one that the system chose for port 0.
    pub port: u16,
}

/// A listening socket could not be made. Nothing is left open.
#[derive(Debug, thiserror::Error)]
#[error(
    "Could not create server TCP listening socket {address}:{port}: {call}: {}. {}",
    os_words(.cause),
    self.mend()
)]
pub struct ListenError {
    /// The address as it was configured.
    pub address: String,
    /// The port asked for.
    pub port: u16,
    /// The step that failed: `resolve`, `socket`, `bind`, `listen`.
    pub call: &'static str,
    /// What the system said.
    pub cause: io::Error,
}

impl ListenError {
    /// What the operator can do about it.
    fn mend(&self) -> String {
        match Errno::from_io_error(&self.cause) {
            Some(Errno::ADDRINUSE) => format!(
                "Another process listens there: stop it, or choose another port than {}",
                self.port
            ),
            Some(Errno::ACCESS) => "Ports below 1024 need the capability \
                CAP_NET_BIND_SERVICE: choose a higher port, or grant it"
                .into(),
            Some(Errno::ADDRNOTAVAIL) => format!(
                "No interface of this machine has that address: correct 'bind', or write \
                 'bind -{}' if it may be missing",
                self.address
            ),
            _ if self.call == "resolve" => "Give 'bind' an IP address of this machine".into(),
            _ => "Check 'bind' and 'port'".into(),
        }
    }
}

/// Opens a socket on each address of `bind`, inside a tokio runtime.
///
/// As in Redis, no address means `* -::*`: all interfaces, IPv6 only where the machine has it. `*`
/// is every IPv4 address, `::*` (or `::`) every IPv6 address; a leading `-` lets the address be
/// missing. With port 0 the system chooses a port.
pub fn listen(bind: &[String], port: u16, backlog: u32) -> Result<Listening, ListenError> {
    let everywhere = ["*".to_owned(), "-::*".to_owned()];
    let bind = if bind.is_empty() { &everywhere[..] } else { bind };
    let mut attempt = 1;
    loop {
        match listen_on_all(bind, port, backlog) {
            // The port that the system chose for the first address may be taken on another one.
            Err(error)
                if port == 0
                    && attempt < PORT_ATTEMPTS
                    && error.cause.kind() == io::ErrorKind::AddrInUse =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

fn listen_on_all(bind: &[String], port: u16, backlog: u32) -> Result<Listening, ListenError> {
    let mut sockets = Vec::new();
    let mut chosen = port;
    let mut skipped = None;
    for entry in bind {
        let (name, optional) = match entry.strip_prefix('-') {
            Some(name) => (name, true),
            None => (entry.as_str(), false),
        };
        let error =
            |(call, cause)| ListenError { address: name.to_owned(), port: chosen, call, cause };
        let opened = resolve(name, chosen).and_then(|address| open(address, backlog));
        match opened.map_err(error) {
            Ok(socket) => {
                if let Ok(address) = socket.local_addr() {
                    chosen = address.port();
                }
                sockets.push(socket);
            }
            Err(error) if may_be_missing(&error.cause, optional) => skipped = Some(error),
            Err(error) => return Err(error),
        }
    }
    match skipped {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(Listening { sockets, port: chosen }),
    }
}

type Failure = (&'static str, io::Error);

fn resolve(name: &str, port: u16) -> Result<SocketAddr, Failure> {
    match name {
        "*" => return Ok((IpAddr::from(Ipv4Addr::UNSPECIFIED), port).into()),
        "::*" => return Ok((IpAddr::from(Ipv6Addr::UNSPECIFIED), port).into()),
        _ => {}
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok((address, port).into());
    }
    let mut found = (name, port).to_socket_addrs().map_err(|cause| ("resolve", cause))?;
    found.next().ok_or_else(|| ("resolve", io::Error::other("the name has no address")))
}

fn open(address: SocketAddr, backlog: u32) -> Result<TcpListener, Failure> {
    let at = |call| move |cause| (call, cause);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .map_err(at("socket"))?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(at("socket"))?;
    }
    socket.set_reuse_address(true).map_err(at("socket"))?;
    socket.set_nonblocking(true).map_err(at("socket"))?;
    socket.bind(&address.into()).map_err(at("bind"))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(at("listen"))?;
    TcpListener::from_std(socket.into()).map_err(at("listen"))
}

/// Redis passes over an optional address that no interface has, and over any whose protocol the
/// system lacks.
fn may_be_missing(cause: &io::Error, optional: bool) -> bool {
    match Errno::from_io_error(cause) {
        Some(Errno::ADDRNOTAVAIL) => optional,
        Some(
            Errno::NOPROTOOPT
            | Errno::PROTONOSUPPORT
            | Errno::SOCKTNOSUPPORT
            | Errno::PFNOSUPPORT
            | Errno::AFNOSUPPORT,
        ) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(bind: &[&str]) -> Vec<String> {
        bind.iter().map(|address| address.to_string()).collect()
    }

    #[tokio::test]
    async fn several_addresses_share_the_port_that_the_system_chose() {
        let bind = addresses(&["127.0.0.1", "127.0.0.2"]);
        let listening = listen(&bind, 0, TCP_BACKLOG).unwrap();
        assert_eq!(listening.sockets.len(), 2);
        for socket in &listening.sockets {
            assert_eq!(socket.local_addr().unwrap().port(), listening.port);
        }
        assert_ne!(listening.port, 0);
    }

    #[tokio::test]
    async fn no_address_means_all_interfaces() {
        let listening = listen(&[], 0, TCP_BACKLOG).unwrap();
        assert!(listening.sockets[0].local_addr().unwrap().ip().is_unspecified());
        tokio::net::TcpStream::connect(("127.0.0.1", listening.port)).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_that_may_be_missing_is_passed_over() {
        // 192.0.2.0/24 is kept for documentation: no interface has it.
        let listening = listen(&addresses(&["127.0.0.1", "-192.0.2.1"]), 0, TCP_BACKLOG).unwrap();
        assert_eq!(listening.sockets.len(), 1);
        let alone = listen(&addresses(&["-192.0.2.1"]), 0, TCP_BACKLOG).unwrap_err();
        assert_eq!(alone.cause.kind(), io::ErrorKind::AddrNotAvailable);
        let strict = listen(&addresses(&["192.0.2.1"]), 7000, TCP_BACKLOG).unwrap_err();
        assert_eq!(
            strict.to_string(),
            "Could not create server TCP listening socket 192.0.2.1:7000: bind: Cannot assign \
             requested address. No interface of this machine has that address: correct 'bind', or \
             write 'bind -192.0.2.1' if it may be missing"
        );
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_mend() {
        let first = listen(&addresses(&["127.0.0.1"]), 0, TCP_BACKLOG).unwrap();
        let port = first.port;
        let error = listen(&addresses(&["127.0.0.1"]), port, TCP_BACKLOG).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "Could not create server TCP listening socket 127.0.0.1:{port}: bind: Address \
                 already in use. Another process listens there: stop it, or choose another port \
                 than {port}"
            )
        );
    }

    #[tokio::test]
    async fn a_name_without_address_is_an_error() {
        let error = listen(&addresses(&["no-such-host.invalid"]), 7000, TCP_BACKLOG).unwrap_err();
        assert_eq!(error.call, "resolve");
        assert!(error.to_string().contains("no-such-host.invalid:7000"), "{error}");
    }
}
