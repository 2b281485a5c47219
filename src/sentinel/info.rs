//! The few lines of a node's INFO that a sentinel reads.

use super::types::{Address, RunId};

/// What a node says of itself. A field that is absent or unreadable keeps its default.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Info {
    pub(super) run_id: Option<RunId>,
    pub(super) role: Role,
    /// Only on a master: its replicas, as they announce themselves.
    pub(super) slaves: Vec<Address>,
    /// Only on a replica: whom it follows.
    pub(super) master: Option<Address>,
    pub(super) link_up: bool,
    /// How long the link to its master has been down, in ms; negative: it was never up since the
    /// node started.
    pub(super) link_down_ms: i64,
    /// Of which history its data are: `master_replid`, which a replica takes over from its master.
    pub(super) replid: Option<RunId>,
    /// Which history that one goes on from, where that is known: `master_replid2`.
    pub(super) replid_before: Option<RunId>,
    /// It holds data.
    pub(super) has_keys: bool,
    pub(super) priority: u32,
    pub(super) offset: u64,
    /// How far its history goes, as a master counts: `master_repl_offset`.
    pub(super) written: Option<u64>,
    /// False hides the replica from clients (`replica-announced no`).
    pub(super) announced: bool,
}

/// What a node says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Slave,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Slave => "slave",
        }
    }
}

/// Priority that Redis assumes until a replica says otherwise.
pub(super) const DEFAULT_PRIORITY: u32 = 100;

/// What `master_replid2` says where there is none.
const NO_HISTORY: &str = "0000000000000000000000000000000000000000";

/// A node counts its uptime and the age of its links by cached clocks: so far apart, in s, they may
/// be.
const UPTIME_SLACK_S: i64 = 60;

impl Info {
    /// Reads the reply to INFO. `None` if it names no role: then it is no INFO of a data node.
    pub(super) fn parse(text: &str) -> Option<Info> {
        let mut info = Info {
            run_id: None,
            role: Role::Master,
            slaves: Vec::new(),
            master: None,
            link_up: false,
            link_down_ms: 0,
            replid: None,
            replid_before: None,
            has_keys: false,
            priority: DEFAULT_PRIORITY,
            offset: 0,
            written: None,
            announced: true,
        };
        let mut role = None;
        let (mut host, mut port) = (None, None);
        let mut uptime_s = None;
        for line in text.lines() {
            let Some((key, value)) = line.trim_end().split_once(':') else { continue };
            match key {
                "run_id" => info.run_id = RunId::parse(value),
                "master_replid" => info.replid = RunId::parse(value),
                "master_replid2" if value != NO_HISTORY => {
                    info.replid_before = RunId::parse(value);
                }
                "role" if value == "master" => role = Some(Role::Master),
                "role" if value == "slave" => role = Some(Role::Slave),
                "master_link_down_since_seconds" => {
                    info.link_down_ms = value.parse().map_or(0, |s: i64| s.saturating_mul(1000));
                }
                "uptime_in_seconds" => uptime_s = value.parse::<i64>().ok(),
                "master_host" => host = Some(value.to_owned()),
                "master_port" => port = value.parse().ok(),
                "master_link_status" => info.link_up = value.eq_ignore_ascii_case("up"),
                "slave_priority" => info.priority = value.parse().unwrap_or(DEFAULT_PRIORITY),
                "slave_repl_offset" => info.offset = value.parse().unwrap_or(0),
                "master_repl_offset" => info.written = value.parse().ok(),
                "replica_announced" => info.announced = value != "0",
                _ if is_slave_line(key) => info.slaves.extend(slave_address(value)),
                _ if is_numbered(key, "db") => info.has_keys |= value.starts_with("keys="),
                _ => {}
            }
        }
        info.role = role?;
        match info.role {
            Role::Master => {
                info.link_up = false;
                info.link_down_ms = 0;
            }
            Role::Slave => {
                info.slaves.clear();
                info.master = host.zip(port).map(|(host, port)| Address::new(host, port));
                // Up to 6.2, a link that was never up has been down since 1970.
                if uptime_s.is_some_and(|s| info.link_down_ms / 1_000 > s + UPTIME_SLACK_S) {
                    info.link_down_ms = -1_000;
                }
            }
        }
        Some(info)
    }

    /// The histories that its data are of.
    pub(super) fn histories(&self) -> Vec<&RunId> {
        [&self.replid, &self.replid_before].into_iter().flatten().collect()
    }
}

fn is_slave_line(key: &str) -> bool {
    is_numbered(key, "slave")
}

fn is_numbered(key: &str, prefix: &str) -> bool {
    key.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// `ip=10.0.0.1,port=6379,state=online,...` or, from servers before 2.8, `10.0.0.1,6379,online`.
fn slave_address(value: &str) -> Option<Address> {
    let field = |name: &str| value.split(',').find_map(|f| f.strip_prefix(name));
    let (host, port) = match (field("ip="), field("port=")) {
        (Some(host), Some(port)) => (host, port),
        _ => {
            let mut fields = value.split(',');
            (fields.next()?, fields.next()?)
        }
    };
    let port: u16 = port.parse().ok().filter(|p| *p != 0)?;
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| Address::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_lists_its_replicas() {
        let text = "# Server\r\nredis_version:7.0.15\r\n\
            run_id:0123456789012345678901234567890123456789\r\n\r\n\
            # Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
            slave0:ip=10.1.2.3,port=7002,state=online,offset=412,lag=0\r\n\
            slave1:10.1.2.4,7003,online\r\nslave2:ip=,port=7,state=online\r\nslave_priority:7\r\n";
        let info = Info::parse(text).expect("an INFO");
        assert_eq!(info.role, Role::Master);
        assert_eq!(info.slaves, [Address::new("10.1.2.3", 7002), Address::new("10.1.2.4", 7003)]);
        assert!(info.run_id.is_some());
    }

    #[test]
    fn a_replica_tells_whom_it_follows() {
        let text = "role:slave\r\nmaster_host:::1\r\nmaster_port:7001\r\nmaster_link_status:up\r\n\
            slave_repl_offset:514\r\nslave_priority:10\r\nreplica_announced:0\r\n\
            master_link_down_since_seconds:-1\r\n";
        let info = Info::parse(text).expect("an INFO");
        assert_eq!(info.master, Some(Address::new("::1", 7001)));
        assert_eq!((info.link_up, info.offset, info.priority), (true, 514, 10));
        assert_eq!((info.announced, info.link_down_ms), (false, -1000));
    }

    #[test]
    fn a_link_that_is_older_than_the_process_never_was_up() {
        let info = |down_s: u64| {
            let text = format!(
                "uptime_in_seconds:90\r\nrole:slave\r\nmaster_host:::1\r\nmaster_port:7001\r\n\
                 master_link_down_since_seconds:{down_s}\r\n# Keyspace\r\ndb3:keys=1,expires=0\r\n"
            );
            Info::parse(&text).expect("an INFO")
        };
        assert_eq!(info(90).link_down_ms, 90_000);
        assert_eq!(info(1_700_000_000).link_down_ms, -1_000);
        assert!(info(1).has_keys);
    }

    #[test]
    fn garbage_is_no_info() {
        for text in ["", "hello", "role:king\r\n", "slave0:ip=1.1.1.1,port=1\r\n", "\0\0:\u{1}"] {
            assert_eq!(Info::parse(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(
            text in "(role:(master|slave)\r\n)?(\\PC*:?\\PC*\r\n){0,8}"
        ) {
            let _ = Info::parse(&text);
        }
    }
}
