//! A sentinel under test: its file, its process, what it says and logs.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::crowd::NODES;
use super::process::{LOOK_PERIOD, Process, Usage, free_port};
use crate::bench::wire::Wire;

/// The name of its file.
const FILE: &str = "sentinel.conf";
/// How long a silent node counts as up.
pub(super) const DOWN_AFTER: Duration = Duration::from_secs(5);
/// `failover-timeout` of all groups.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections for which a sentinel is prepared if nothing is said.
const MAXCLIENTS_USUAL: usize = 10_000;
/// What Redis's sentinel needs beside its two connections to each node: it counts them as clients.
const CLIENTS_BESIDE: usize = 1_000;
/// How long an attempt to connect may take while a sentinel starts; the attempt itself may wait for
/// an answer much longer, in the queue of a process that listens and does something else.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The `redis-server` of this machine as a sentinel.
    Redis,
    /// This very program.
    Watchfire,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Program::Redis => "redis-sentinel",
            Program::Watchfire => "watchfire",
        }
    }

    /// What starts it with its file in the present directory.
    fn line(self) -> io::Result<Vec<OsString>> {
        Ok(match self {
            // Under this name it is everywhere; the other is a link to it.
            Program::Redis => ["redis-server", FILE, "--sentinel"].map(OsString::from).into(),
            Program::Watchfire => {
                vec![std::env::current_exe()?.into(), "sentinel".into(), FILE.into()]
            }
        })
    }
}

pub(super) struct Sentinel {
    program: Program,
    dir: PathBuf,
    pub(super) port: u16,
    process: Process,
}

/// What it says of a group in INFO.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) address: Option<SocketAddrV4>,
    pub(super) is_ok: bool,
    pub(super) replicas: usize,
    /// The sentinel itself included.
    pub(super) sentinels: usize,
}

/// The section `Sentinel` of INFO.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Knowledge {
    pub(super) is_tilted: bool,
    /// By the number of the group; `None` if it is not told of.
    pub(super) groups: Vec<Option<Known>>,
}

impl Sentinel {
    /// Starts it in a directory of its own with nothing but the addresses of the masters.
    pub(super) fn start(
        program: Program,
        masters: &[SocketAddrV4],
        quorum: usize,
        dir: PathBuf,
    ) -> io::Result<Sentinel> {
        let port = free_port()?;
        std::fs::create_dir(&dir)?;
        std::fs::write(dir.join(FILE), file(masters, quorum, port))?;
        let process = Process::start(&program.line()?, &dir)?;
        Ok(Sentinel { program, dir, port, process })
    }

    /// Ends it.
    pub(super) async fn end(self) -> io::Result<()> {
        self.process.end().await
    }

    /// Ends it; what is returned starts it anew, with the file that it has written.
    pub(super) async fn stop(self) -> io::Result<impl FnOnce() -> io::Result<Sentinel>> {
        let Sentinel { program, dir, port, process } = self;
        process.end().await?;
        Ok(move || {
            let process = Process::start(&program.line()?, &dir)?;
            Ok(Sentinel { program, dir, port, process })
        })
    }

    /// Waits until it answers PING.
    pub(super) async fn pong(&mut self, deadline: Instant) -> io::Result<Instant> {
        let mut wire = loop {
            self.process.check()?;
            match timeout(CONNECT_WITHIN, Wire::local(self.port)).await {
                Ok(Ok(wire)) => break wire,
                _ if Instant::now() >= deadline => return Err(late("no connection to a sentinel")),
                _ => sleep(LOOK_PERIOD).await,
            }
        };
        let answer = timeout_at(deadline, wire.obtain(&["PING"]));
        answer.await.map_err(|_| late("a sentinel does not answer PING"))??;
        Ok(Instant::now())
    }

    /// Asks for the section `Sentinel` of INFO: the cheapest way to learn of all groups.
    pub(super) async fn knowledge(
        &self,
        groups: usize,
        deadline: Instant,
    ) -> io::Result<Knowledge> {
        let answer = async {
            let mut wire = Wire::local(self.port).await?;
            wire.obtain(&["INFO", "sentinel"]).await
        };
        let answer = timeout_at(deadline, answer).await;
        let answer = answer.map_err(|_| late("a sentinel does not answer INFO"))??;
        Ok(knowledge(answer.text().unwrap_or_default(), groups))
    }

    pub(super) fn usage(&self) -> io::Result<Usage> {
        self.process.usage()
    }

    /// How many lines of its log hold this event.
    pub(super) fn logged(&self, event: &str) -> io::Result<usize> {
        let log = std::fs::read(self.dir.join("sentinel.log"))?;
        let log = String::from_utf8_lossy(&log);
        let tells = |line: &&str| line.split_ascii_whitespace().any(|word| word == event);
        Ok(log.lines().filter(tells).count())
    }
}

impl Knowledge {
    /// How many groups are known with so many replicas and sentinels.
    pub(super) fn know(&self, replicas: usize, sentinels: usize) -> usize {
        let whole = |known: &&Known| (known.replicas, known.sentinels) == (replicas, sentinels);
        self.groups.iter().flatten().filter(whole).count()
    }

    /// Whether it acts, and nothing is wrong with any group.
    pub(super) fn is_calm(&self) -> bool {
        !self.is_tilted && self.groups.iter().flatten().all(|known| known.is_ok)
    }
}

/// The name of a group, which tells its number.
pub(super) fn name(group: usize) -> String {
    format!("g{group}")
}

/// The number of a group.
pub(super) fn number(name: &str) -> Option<usize> {
    name.strip_prefix('g')?.parse().ok()
}

fn late(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("given up: {text}"))
}

fn file(masters: &[SocketAddrV4], quorum: usize, port: u16) -> String {
    let clients = MAXCLIENTS_USUAL.max(masters.len() * NODES * 2 + CLIENTS_BESIDE);
    let mut text =
        format!("port {port}\nbind 127.0.0.1\nlogfile sentinel.log\nmaxclients {clients}\n");
    for (group, at) in masters.iter().enumerate() {
        let (name, ip, port) = (name(group), at.ip(), at.port());
        let (down, failover) = (DOWN_AFTER.as_millis(), FAILOVER_TIMEOUT.as_millis());
        let _ = writeln!(text, "sentinel monitor {name} {ip} {port} {quorum}");
        let _ = writeln!(text, "sentinel down-after-milliseconds {name} {down}");
        let _ = writeln!(text, "sentinel failover-timeout {name} {failover}");
    }
    text
}

fn knowledge(info: &str, groups: usize) -> Knowledge {
    let mut told = Knowledge { is_tilted: false, groups: vec![None; groups] };
    for line in info.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        if key == "sentinel_tilt" {
            told.is_tilted = value.trim() != "0";
        } else if key.starts_with("master") {
            let field = |name: &str| {
                let mut fields = value.split(',').filter_map(|field| field.split_once('='));
                fields.find_map(|(key, value)| (key == name).then_some(value)).unwrap_or_default()
            };
            let place = number(field("name")).and_then(|number| told.groups.get_mut(number));
            let Some(place) = place else { continue };
            *place = Some(Known {
                address: field("address").parse().ok(),
                is_ok: field("status") == "ok",
                replicas: field("slaves").parse().unwrap_or_default(),
                sentinels: field("sentinels").parse().unwrap_or_default(),
            });
        }
    }
    told
}

/// A directory of its own for a sentinel.
pub(super) fn place(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("sentinel-{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_tells_what_is_known() {
        let info = "# Sentinel\r\nsentinel_masters:2\r\nsentinel_tilt:0\r\n\
            master0:name=g1,status=ok,address=127.1.0.3:7000,slaves=2,sentinels=3\r\n";
        let told = knowledge(info, 2);
        let address = "127.1.0.3:7000".parse().ok();
        let known = Known { address, is_ok: true, replicas: 2, sentinels: 3 };
        assert_eq!(told.groups, [None, Some(known)]);
        assert!(told.is_calm());
        assert_eq!((told.know(2, 3), told.know(2, 2), told.know(1, 3)), (1, 0, 0));
        for (was, is) in [("tilt:0", "tilt:1"), ("=ok", "=sdown")] {
            assert!(!knowledge(&info.replace(was, is), 2).is_calm(), "{is}");
        }
    }

    #[test]
    fn the_file_has_room_for_two_connections_to_each_node() {
        let master = "127.1.0.0:7000".parse().expect("an address");
        assert!(
            file(&[master], 2, 1).contains("\nmaxclients 10000\nsentinel monitor g0 127.1.0.0 ")
        );
        assert!(file(&[master; 3_000], 2, 1).contains("\nmaxclients 19000\n"));
    }
}
