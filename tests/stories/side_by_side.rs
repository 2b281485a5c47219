//! One long script of commands, said to Debian's redis-sentinel and to ours over one master with
//! two replicas, in RESP2 and in RESP3: types, names, order and values of the replies are the same,
//! except where [`MEANT`] says that they differ, and why. A difference that is gone, or is another
//! one, fails the story as well.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Reply};
use crate::support::group::{Group, Plan};
use crate::support::node::Nodes;
use crate::support::sentinel::Program::{Redis, Watchfire};
use crate::support::sentinel::{GROUP, Sentinel};
use crate::support::wait::wait_until;

/// What is asked of both, in this order, on one connection to each. Words are parted by blanks;
/// `''` is an empty word. `$MASTER`, `$REPLICA` and `$OWN` are the ports of the master, of a
/// replica and of the sentinel itself. Behind `=` stands a field of the master's entry or of INFO.
const SCRIPT: &str = "
    PING
    ping hi
    PING ''
    PING a b
    ECHO hi
    GET a
    get
    SELECT 0
    CONFIG GET port
    MULTI
    TIME
    MONITOR
    DEBUG SLEEP 0
    SPUBLISH a b
    EVAL return 0
    sentinel|masters

    SENTINEL
    SENTINEL NO-SUCH
    sentinel Foo bar
    SENTINEL MASTERS
    SENTINEL MASTERS x
    SENTINEL MASTER mymaster
    sentinel master MYMASTER
    SENTINEL MASTER nobody
    SENTINEL MASTER
    SENTINEL MASTER mymaster x
    SENTINEL REPLICAS mymaster
    SENTINEL REPLICAS nobody
    SENTINEL REPLICAS
    SENTINEL SLAVES mymaster
    SENTINEL SLAVES nobody
    SENTINEL SLAVES
    SENTINEL SENTINELS mymaster
    SENTINEL SENTINELS nobody
    SENTINEL SENTINELS
    SENTINEL GET-MASTER-ADDR-BY-NAME mymaster
    sentinel get-master-addr-by-name mymaster
    SENTINEL GET-MASTER-ADDR-BY-NAME nobody
    SENTINEL GET-MASTER-ADDR-BY-NAME
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER 0 *
    SENTINEL is-master-down-by-addr 127.0.0.1 $MASTER 99 *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $REPLICA 0 *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 x 0 *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER x *
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER 0
    SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER -1 *
    SENTINEL MYID
    SENTINEL MYID x
    SENTINEL CKQUORUM mymaster
    SENTINEL CKQUORUM nobody
    SENTINEL CKQUORUM
    SENTINEL FAILOVER nobody
    SENTINEL FAILOVER
    SENTINEL FAILOVER mymaster x
    SENTINEL FAILOVER nobody COORDINATED
    SENTINEL RESET nobody*
    SENTINEL RESET
    SENTINEL FLUSHCONFIG
    SENTINEL FLUSHCONFIG x
    SENTINEL PENDING-SCRIPTS
    SENTINEL PENDING-SCRIPTS x
    SENTINEL INFO-CACHE mymaster
    SENTINEL INFO-CACHE nobody
    SENTINEL INFO-CACHE
    SENTINEL SIMULATE-FAILURE help
    SENTINEL SIMULATE-FAILURE
    SENTINEL SIMULATE-FAILURE crash-after-election CRASH-AFTER-PROMOTION
    INFO sentinel
    SENTINEL SIMULATE-FAILURE crash-after-election foo
    = sentinel_simulate_failure_flags
    SENTINEL SIMULATE-FAILURE foo
    INFO sentinel
    SENTINEL HELP x
    SENTINEL EVENTS COUNT 1

    SENTINEL PRIMARIES x
    SENTINEL PRIMARY nobody
    SENTINEL GET-PRIMARY-ADDR-BY-NAME nobody
    SENTINEL IS-PRIMARY-DOWN-BY-ADDR 127.0.0.1 $MASTER 0 *

    SENTINEL SET mymaster quorum
    SENTINEL SET nobody quorum 1
    SENTINEL SET mymaster quorum 0
    SENTINEL SET mymaster QUORUM x
    SENTINEL SET mymaster quorum 3
    SENTINEL MASTER mymaster
    SENTINEL SET mymaster quorum 2 parallel-syncs 2
    SENTINEL MASTER mymaster
    SENTINEL SET mymaster parallel-syncs 1
    SENTINEL SET mymaster parallel-syncs 0
    SENTINEL SET mymaster down-after-milliseconds -1
    SENTINEL SET mymaster down-after-milliseconds 4000
    SENTINEL REPLICAS mymaster
    SENTINEL SENTINELS mymaster
    SENTINEL SET mymaster down-after-milliseconds 5000
    SENTINEL SET mymaster failover-timeout none
    SENTINEL SET mymaster failover-timeout 7000
    SENTINEL SET mymaster failover-timeout 6000
    SENTINEL SET mymaster master-reboot-down-after-period -1
    SENTINEL SET mymaster master-reboot-down-after-period 0
    SENTINEL SET mymaster primary-reboot-down-after-period 0
    SENTINEL SET mymaster no-such 1
    SENTINEL SET mymaster no-such 1 quorum 2
    SENTINEL SET mymaster quorum 2 no-such
    SENTINEL SET mymaster notification-script /bin/true
    SENTINEL SET mymaster client-reconfig-script ''
    SENTINEL SET mymaster rename-command a
    SENTINEL SET mymaster rename-command '' b
    SENTINEL SET mymaster quorum 3 no-such 1
    = quorum
    SENTINEL SET mymaster quorum 2

    SENTINEL CONFIG
    SENTINEL CONFIG GET
    SENTINEL CONFIG PUT a b
    SENTINEL CONFIG GET announce-ip
    SENTINEL CONFIG GET ANNOUNCE-*
    SENTINEL CONFIG GET *hostnames
    SENTINEL CONFIG GET sentinel-*
    SENTINEL CONFIG GET nothing
    SENTINEL CONFIG GET loglevel
    SENTINEL CONFIG GET announce-ip announce-port
    SENTINEL CONFIG SET announce-port 65536
    SENTINEL CONFIG SET announce-port x
    SENTINEL CONFIG SET announce-port $OWN
    SENTINEL CONFIG GET announce-port
    SENTINEL CONFIG SET announce-port 0
    SENTINEL CONFIG SET resolve-hostnames maybe
    SENTINEL CONFIG SET resolve-hostnames YES
    SENTINEL CONFIG SET announce-hostnames no
    SENTINEL CONFIG SET nothing 1
    SENTINEL CONFIG SET loglevel notice
    SENTINEL CONFIG SET resolve-hostnames no

    SENTINEL MONITOR
    SENTINEL MONITOR other 127.0.0.1 1 x
    SENTINEL MONITOR other 127.0.0.1 x 1
    SENTINEL MONITOR other 127.0.0.1 1 0
    SENTINEL MONITOR other 127.0.0.1 1 -1
    SENTINEL MONITOR other localhost 1 1
    SENTINEL MONITOR other 127.0.0.1 70000 1
    SENTINEL MONITOR other 127.0.0.1 -1 1
    SENTINEL MONITOR mymaster 127.0.0.1 1 1
    SENTINEL MONITOR other 127.0.0.1 1 2
    SENTINEL MONITOR other 127.0.0.1 1 2
    SENTINEL GET-MASTER-ADDR-BY-NAME other
    SENTINEL REPLICAS other
    SENTINEL SENTINELS other
    SENTINEL CKQUORUM other
    SENTINEL FAILOVER other
    SENTINEL INFO-CACHE other
    SENTINEL RESET o?her
    SENTINEL REMOVE other
    SENTINEL REMOVE other
    SENTINEL REMOVE
    SENTINEL MONITOR a,b 127.0.0.1 1 2
    SENTINEL REMOVE a,b
    SENTINEL MONITOR zero 127.0.0.1 0 2
    SENTINEL REMOVE zero

    SENTINEL DEBUG
    SENTINEL DEBUG no-such
    SENTINEL DEBUG no-such 1
    SENTINEL DEBUG ping-period
    SENTINEL DEBUG Ping-Period 0
    SENTINEL DEBUG ask-period x
    SENTINEL DEBUG PING-PERIOD 1000 info-period 10000

    ROLE
    ROLE x
    INFO
    INFO server
    INFO clients
    INFO stats
    INFO CPU
    INFO sentinel
    INFO sentinel SERVER
    INFO replication
    INFO no-such
    INFO everything
    INFO default
    INFO all

    HELLO
    HELLO 4
    HELLO x
    HELLO 3 foo
    HELLO 2 AUTH default
    HELLO 2 SETNAME
    AUTH
    AUTH x
    AUTH a b
    AUTH default ''
    AUTH a b c
    ACL
    ACL NO-SUCH
    ACL WHOAMI
    ACL WHOAMI x
    ACL USERS
    ACL CAT nothing
    ACL GETUSER nobody
    ACL GENPASS x
    ACL DELUSER default
    ACL DRYRUN nobody PING
    ACL DRYRUN default NO-SUCH
    ACL DRYRUN default PING
    ACL LOAD
    ACL SAVE
    ACL SETUSER bob +no-such
    ACL LOG x
    ACL LOG RESET
    ACL LOG

    CLIENT
    CLIENT NO-SUCH
    CLIENT ID
    CLIENT GETNAME
    CLIENT SETNAME me
    CLIENT GETNAME
    CLIENT SETNAME a\tb
    CLIENT INFO
    CLIENT SETNAME ''
    CLIENT SETINFO LIB-NAME redis-py
    CLIENT SETINFO LIB-VER 8.1.0
    CLIENT SETINFO colour red
    CLIENT MAINT_NOTIFICATIONS ON
    CLIENT NO-TOUCH on
    CLIENT NO-TOUCH off
    CLIENT NO-EVICT on
    CLIENT NO-EVICT x
    CLIENT LIST TYPE foo
    CLIENT LIST TYPE replica
    CLIENT LIST ID x
    CLIENT LIST ID 999999
    CLIENT KILL
    CLIENT KILL 1.2.3.4:5
    CLIENT KILL ID 999999
    CLIENT KILL ID x
    CLIENT KILL TYPE foo
    CLIENT KILL USER nobody
    CLIENT KILL NO-SUCH x
    CLIENT CACHING yes
    CLIENT GETREDIR
    CLIENT TRACKINGINFO
    CLIENT TRACKING on
    CLIENT TRACKINGINFO
    CLIENT GETREDIR
    CLIENT TRACKING off
    CLIENT TRACKING x
    CLIENT REPLY x
    CLIENT PAUSE x
    CLIENT PAUSE 1 foo
    CLIENT PAUSE 0
    CLIENT UNPAUSE
    CLIENT UNBLOCK 999999
    CLIENT UNBLOCK x

    COMMAND COUNT
    COMMAND COUNT x
    COMMAND NO-SUCH
    COMMAND INFO ping
    COMMAND INFO publish nothing role
    COMMAND INFO sentinel|master sentinel|nothing
    COMMAND INFO sentinel|set sentinel|reset sentinel|help
    COMMAND DOCS nothing
    COMMAND GETKEYS ping x
    COMMAND GETKEYS
    COMMAND GETKEYSANDFLAGS publish a b
    COMMAND GETKEYS get a
    COMMAND LIST FILTERBY PATTERN sentinel|m*
    COMMAND LIST FILTERBY ACLCAT pubsub
    COMMAND LIST FILTERBY MODULE x
    COMMAND LIST foo

    PUBLISH
    PUBLISH a
    PUBLISH news x
    PUBLISH __sentinel__:hello rubbish
    PUBLISH __sentinel__:hello a,b,c,d,e,f,g,h
    SUBSCRIBE
    PSUBSCRIBE
    UNSUBSCRIBE
    PUNSUBSCRIBE x
    SUBSCRIBE quiet
    SUBSCRIBE quiet
    PSUBSCRIBE quiet*
    PING
    PING hi
    SENTINEL MYID
    SENTINEL NO-SUCH
    GET a
    HELLO 2
    UNSUBSCRIBE quiet
    PUNSUBSCRIBE
    SHUTDOWN ABORT
    SHUTDOWN foo
    SHUTDOWN SAVE NOSAVE
    SHUTDOWN ABORT NOW
    RESET
    PING
";

/// Where the two differ by design: what is asked, how our reply begins, how that of redis-sentinel
/// 7.0 does, and why they are not the same.
const MEANT: &[(&str, &str, &str, &str)] = &[
    (
        "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 $MASTER -1 *",
        "-ERR value is not an integer or out of range",
        "[Integer(0), Bulk(\"*\"), Integer(0)]",
        "an epoch of -1 ends the elections of Redis for ever if a vote is asked for",
    ),
    (
        "SENTINEL FAILOVER nobody COORDINATED",
        "-ERR No such master with that name",
        "-ERR wrong number of arguments for 'sentinel|failover' command",
        "Valkey 9",
    ),
    (
        "SENTINEL EVENTS COUNT 1",
        "[",
        "-ERR unknown subcommand 'EVENTS'",
        "our own: what a late subscriber missed",
    ),
    (
        "SENTINEL PRIMARIES x",
        "-ERR wrong number of arguments for 'sentinel|primaries' command",
        "-ERR unknown subcommand 'PRIMARIES'",
        "Valkey 8",
    ),
    (
        "SENTINEL PRIMARY nobody",
        "-ERR No such master with that name",
        "-ERR unknown subcommand 'PRIMARY'",
        "Valkey 8",
    ),
    (
        "SENTINEL GET-PRIMARY-ADDR-BY-NAME nobody",
        "null",
        "-ERR unknown subcommand 'GET-PRIMARY-ADDR-BY-NAME'",
        "Valkey 8",
    ),
    (
        "SENTINEL IS-PRIMARY-DOWN-BY-ADDR 127.0.0.1 $MASTER 0 *",
        "[Integer(0), Bulk(\"*\"), Integer(0)]",
        "-ERR unknown subcommand 'IS-PRIMARY-DOWN-BY-ADDR'",
        "Valkey 8",
    ),
    (
        "SENTINEL SET mymaster primary-reboot-down-after-period 0",
        "+OK",
        "-ERR Unknown option or number of arguments for SENTINEL SET",
        "Valkey 8",
    ),
    (
        "SENTINEL CONFIG GET",
        "-ERR wrong number of arguments for 'sentinel|config' command",
        "-ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.",
        "Redis 7.2",
    ),
    (
        "SENTINEL CONFIG PUT a b",
        "-ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET",
        "-ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.",
        "Redis 7.2",
    ),
    ("SENTINEL CONFIG GET loglevel", "<pairs> loglevel", "<pairs>", "Redis 7.2"),
    (
        "SENTINEL CONFIG GET announce-ip announce-port",
        "<pairs> announce-ip \"\", announce-port \"0\"",
        "-ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.",
        "Redis 7.2",
    ),
    (
        "SENTINEL CONFIG SET loglevel notice",
        "+OK",
        "-ERR Invalid argument 'loglevel' to SENTINEL CONFIG SET",
        "Redis 7.2",
    ),
    (
        "= sentinel_simulate_failure_flags",
        "0",
        "1",
        "all words are read before one counts: what stands before a bad one is not kept",
    ),
    ("= quorum", "2", "3", "SET is atomic: the quorum before a bad option is not kept"),
    (
        "SENTINEL CKQUORUM other",
        "-NOQUORUM 1 usable Sentinels. This Sentinel takes no part in elections yet",
        "-NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach",
        "a newcomer listens first, and says so",
    ),
    (
        "SENTINEL MONITOR a,b 127.0.0.1 1 2",
        "-ERR Invalid master name: ",
        "+OK",
        "a name with a comma, blank or line end breaks hellos or the file",
    ),
    ("SENTINEL REMOVE a,b", "-ERR No such master with that name", "+OK", "the same"),
    (
        "SENTINEL MONITOR zero 127.0.0.1 0 2",
        "-ERR Invalid port number.",
        "+OK",
        "nobody can be reached at port 0",
    ),
    ("SENTINEL REMOVE zero", "-ERR No such master with that name", "+OK", "the same"),
    (
        "CLIENT SETINFO LIB-NAME redis-py",
        "+OK",
        "-ERR unknown subcommand 'SETINFO'",
        "Redis 7.2; clients send it when they connect",
    ),
    (
        "CLIENT SETINFO LIB-VER 8.1.0",
        "+OK",
        "-ERR unknown subcommand 'SETINFO'",
        "Redis 7.2; clients send it when they connect",
    ),
    (
        "CLIENT SETINFO colour red",
        "-ERR Unrecognized option 'colour'",
        "-ERR unknown subcommand 'SETINFO'",
        "Redis 7.2",
    ),
    (
        "CLIENT NO-TOUCH on",
        "+OK",
        "-ERR unknown subcommand 'NO-TOUCH'",
        "data nodes since 7.2 know it, and clients may send it",
    ),
    (
        "CLIENT NO-TOUCH off",
        "+OK",
        "-ERR unknown subcommand 'NO-TOUCH'",
        "data nodes since 7.2 know it, and clients may send it",
    ),
    ("COMMAND COUNT", ":17", ":15", "QUIT and RESET are commands here"),
    ("RESET", "+RESET", "-ERR unknown command 'RESET'", "answered, as data nodes do"),
];

/// Fields of entries whose values are ages, or depend on when a PING or INFO came last.
const AGES: &[&str] = &[
    "link-pending-commands",
    "last-ping-sent",
    "last-ok-ping-reply",
    "last-ping-reply",
    "s-down-time",
    "o-down-time",
    "info-refresh",
    "role-reported-time",
    "slave-repl-offset",
    "last-hello-message",
];

/// Times that are ours, with their reasons in docs/sentinel-commands.md.
const OUR_TIMES: &[&str] = &["TILT-PERIOD", "MIN-LINK-RECONNECT-PERIOD", "ELECTION-TIMEOUT"];

/// Fields of INFO and CLIENT INFO that tell of the program, of its connections or of the moment;
/// numbers are not compared in INFO's sections but the last.
const TEXTS_DIFFER: &[&str] = &[
    "redis_version",
    "redis_git_sha1",
    "redis_build_id",
    "monotonic_clock",
    "atomicvar_api",
    "gcc_version",
    "run_id",
    "executable",
    "config_file",
    "addr",
    "laddr",
    "events",
];

/// Fields of INFO that only ours has.
const OUR_FIELDS: &[&str] = &["server_mode", "server_name", "watchfire_version"];

/// Fields of CLIENT INFO and INFO since Redis 7.2.
const FIELDS_OF_7_2: &[&str] = &[
    "lib-name",
    "lib-ver",
    "acl_access_denied_auth",
    "acl_access_denied_cmd",
    "acl_access_denied_key",
    "acl_access_denied_channel",
];

/// One of the two, and how what is its own is called in what is compared.
struct Side<'a> {
    sentinel: &'a Sentinel,
    own: Vec<(String, &'static str)>,
    ports: [u16; 2],
}

impl Side<'_> {
    /// A connection in RESP2 or RESP3.
    fn connect(&self, resp3: bool) -> Client {
        let mut client = self.sentinel.client();
        if resp3 {
            client.call(&["HELLO", "3"]).expect("it speaks RESP3");
        }
        client
    }

    /// The words of a line of the script.
    fn words(&self, line: &str) -> Vec<String> {
        let [master, replica] = self.ports.map(|port| port.to_string());
        let word = |word: &str| match word {
            "''" => String::new(),
            "$MASTER" => master.clone(),
            "$REPLICA" => replica.clone(),
            "$OWN" => self.sentinel.port.to_string(),
            other => other.replace("\\t", "\t"),
        };
        line.split_whitespace().map(word).collect()
    }

    /// Asks, and shows the reply with what is this sentinel's own replaced.
    fn ask(&self, client: &mut Client, line: &str) -> String {
        if let Some(name) = line.strip_prefix("= ") {
            let entry = client.call(&["SENTINEL", "MASTER", GROUP]).expect("it answers");
            let info = client.call(&["INFO", "sentinel"]).expect("it answers").text();
            let in_info = || info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            let value = entry.field(name).or_else(|| in_info().map(str::to_owned));
            return value.unwrap_or_else(|| panic!("{name} is no field"));
        }
        let words = self.words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let reply = client.call(&words).unwrap_or_else(|e| panic!("{line}: {e}"));
        self.own.iter().fold(shown(line, &reply), |text, (own, name)| text.replace(own, name))
    }
}

/// A reply as text: type, names, order and values, without what differs by nature.
fn shown(line: &str, reply: &Reply) -> String {
    let line = line.to_ascii_lowercase();
    let is = |start: &str| line.starts_with(start);
    match reply {
        Reply::Bulk(text) if is("info") => fields(text.lines(), ':', line != "info sentinel"),
        Reply::Bulk(text) | Reply::Verbatim(text) if is("client info") => {
            let kind = if matches!(reply, Reply::Bulk(_)) { "bulk" } else { "verbatim" };
            format!("{kind} {}", fields(text.trim_end().split(' '), '=', true))
        }
        Reply::Integer(_) if is("client id") => ":<id>".into(),
        Reply::Array(pairs) if is("hello") && pairs.len() > 3 => named(reply, &["version", "id"]),
        Reply::Map(_) if is("hello") => named(reply, &["version", "id"]),
        Reply::Array(_) | Reply::Map(_) if line == "sentinel debug" => named(reply, OUR_TIMES),
        Reply::Array(_) | Reply::Map(_) if is("sentinel config get") => named(reply, &[]),
        Reply::Array(_) | Reply::Map(_) if is("sentinel master ") => named(reply, AGES),
        Reply::Array(cached) if is("sentinel info-cache") => {
            let entry = |entry: &Reply| match entry.items() {
                [Reply::Integer(_), Reply::Bulk(info)] => {
                    format!("[<age>, {:?} ...]", info.lines().next())
                }
                _ => entry.to_string(),
            };
            let part = |part: &Reply| match part {
                Reply::Array(entries) => entries.iter().map(entry).collect::<Vec<_>>().join(" "),
                name => name.to_string(),
            };
            format!("[{}]", cached.iter().map(part).collect::<Vec<_>>().join(", "))
        }
        // The order of names and entries is not part of the contract.
        Reply::Array(names) if is("command list") => {
            let mut names: Vec<String> = names.iter().map(Reply::to_string).collect();
            names.sort();
            format!("{names:?}")
        }
        Reply::Array(entries) if is("sentinel ") && !entries.is_empty() && !is("sentinel is-") => {
            let mut entries: Vec<String> = entries.iter().map(|e| named(e, AGES)).collect();
            if ["replicas", "slaves", "sentinels"].iter().any(|w| line.contains(w)) {
                entries.sort();
            }
            format!("[{}]", entries.join("\n"))
        }
        other => format!("{other}"),
    }
}

/// A map, or the flat array of its pairs, with the values of some fields left out. What is no entry
/// is shown as it is.
fn named(reply: &Reply, without: &[&str]) -> String {
    if let Reply::Bulk(_) | Reply::Simple(_) = reply {
        return reply.to_string();
    }
    let pairs: Vec<(&Reply, &Reply)> = match reply {
        Reply::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        other => other.items().chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
    };
    let pair = |(name, value): (&Reply, &Reply)| {
        let (name, kind) = (name.text(), if let Reply::Bulk(_) = value { "bulk" } else { "other" });
        match without.contains(&name.as_str()) {
            true => format!("{name} <{kind}>"),
            false => format!("{name} {value}"),
        }
    };
    let kind = if let Reply::Map(_) = reply { "map" } else { "flat array" };
    let pairs: Vec<String> = pairs.into_iter().map(pair).collect();
    format!("<pairs> {} in a {kind}", pairs.join(", "))
}

/// `name:value` or `name=value` in order, what only ours has left out; with `numbers_differ` no
/// number is compared, nor is a text of [`TEXTS_DIFFER`].
fn fields<'a>(all: impl Iterator<Item = &'a str>, between: char, numbers_differ: bool) -> String {
    let shown = |field: &str| {
        let Some((name, value)) = field.split_once(between) else { return field.to_owned() };
        let number = value.parse::<f64>().is_ok();
        match numbers_differ && (number || TEXTS_DIFFER.contains(&name)) {
            true => format!("{name} <value>"),
            false => format!("{name} {value:?}"),
        }
    };
    let known = |field: &&str| {
        let name = field.split(between).next().unwrap_or_default();
        !OUR_FIELDS.contains(&name) && !FIELDS_OF_7_2.contains(&name)
    };
    all.filter(known).map(shown).collect::<Vec<_>>().join("\n")
}

/// Ours, and Redis's; a third one is another of Redis's, so that both know one more.
fn group() -> Group {
    let plan = Plan::over(Nodes::Redis).sentinels(&[Watchfire, Redis, Redis]).quick_syncs();
    plan.down_after_ms(5_000).start()
}

fn sides(group: &Group) -> [Side<'_>; 2] {
    let ids = [0, 1].map(|at| group.sentinels[at].id());
    let ports = [group.watch.master, group.nodes[1].port];
    [(0, 1), (1, 0)].map(|(at, other)| {
        let port = |at: usize| group.sentinels[at].port.to_string();
        let own = vec![
            (ids[at].clone(), "<own id>"),
            (ids[other].clone(), "<the other's id>"),
            (port(at), "<own port>"),
            (port(other), "<the other's port>"),
        ];
        Side { sentinel: &group.sentinels[at], own, ports }
    })
}

#[test]
fn one_script_is_answered_alike() {
    let group = group();
    let sides = sides(&group);
    let (mut asked, mut met) = (0, vec![false; MEANT.len()]);
    for resp3 in [false, true] {
        let [mut ours, mut theirs] = [0, 1].map(|at| sides[at].connect(resp3));
        let mut wrong = Vec::new();
        for line in SCRIPT.lines().map(str::trim).filter(|line| !line.is_empty()) {
            // In RESP3 this would be the end of it.
            if resp3 && line == "HELLO 2" {
                continue;
            }
            asked += 1;
            let said = sides[0].ask(&mut ours, line);
            let expected = sides[1].ask(&mut theirs, line);
            if let Some(at) = MEANT.iter().position(|(words, ..)| *words == line) {
                let (_, of_ours, of_theirs, _) = MEANT[at];
                met[at] = true;
                if !(said.starts_with(of_ours) && expected.starts_with(of_theirs))
                    || said == expected
                {
                    wrong.push(format!("{line}: another difference\n  {said}\n  {expected}"));
                }
                continue;
            }
            let again = |said: &str, expected: &str| said != expected && is_a_look(line);
            let (mut said, mut expected) = (said, expected);
            // A look at what a PING, an INFO or a hello has yet to tell one of the two.
            let began = Instant::now();
            while again(&said, &expected) && began.elapsed() < Duration::from_secs(15) {
                std::thread::sleep(Duration::from_millis(100));
                said = sides[0].ask(&mut ours, line);
                expected = sides[1].ask(&mut theirs, line);
            }
            if said != expected {
                wrong.push(format!("{line}\n  ours:   {said}\n  theirs: {expected}"));
            }
        }
        let protocol = if resp3 { "RESP3" } else { "RESP2" };
        assert!(wrong.is_empty(), "{protocol}, {} differ:\n{}", wrong.len(), wrong.join("\n"));
    }
    for ((line, ..), met) in MEANT.iter().zip(met) {
        assert!(met, "{line} is not in the script");
    }
    println!("{asked} lines asked of both, {} differences are meant:", MEANT.len());
    for (line, ours, theirs, why) in MEANT {
        println!("  {line}: {ours} ({theirs}): {why}");
    }
}

/// Whether a line changes nothing, so that it may be asked again.
fn is_a_look(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let looks = ["sentinel master", "sentinel replicas", "sentinel slaves", "sentinel sentinels"];
    looks.iter().chain(&["sentinel info-cache", "info "]).any(|look| line.starts_with(look))
}

/// What is typed, or is no RESP at all: each on a connection of its own, which is then at its end
/// for writing; all that comes back is compared byte by byte.
const TYPED: &[&str] = &[
    "PING\r\n",
    "ping\n",
    "PING 'a b'\r\n",
    "PING \"a\\x41\\n\"\r\n",
    "sentinel get-master-addr-by-name mymaster\r\n",
    "SENTINEL CKQUORUM mymaster\r\nPING\r\n",
    "sentinel myid\r\n",
    "\r\n\r\nPING\r\n",
    "PING \"a\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "info replication\r\n",
    "*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nPING\r\n$1\r\nx\r\n",
    "*0\r\nPING\r\n",
    "*-1\r\nPING\r\n",
    "*x\r\n",
    "*1\r\n:5\r\n",
    "*1\r\n$x\r\n",
    "*1\r\n$-1\r\n",
    "*1\r\n$99999999999\r\n",
    "*9999999999\r\n",
    "*3\r\n$8\r\nSENTINEL\r\n$7\r\nMASTERS\r\n$1\r\nx\r\n",
];

#[test]
fn what_is_typed_is_answered_alike() {
    let group = group();
    let sides = sides(&group);
    for text in TYPED {
        let [ours, theirs] = sides.each_ref().map(|side| {
            let mut stream =
                TcpStream::connect(("127.0.0.1", side.sentinel.port)).expect("it is up");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            stream.write_all(text.as_bytes()).expect("it reads");
            stream.shutdown(std::net::Shutdown::Write).expect("still connected");
            let mut all = Vec::new();
            // Either way of ending a connection will do.
            let _ = stream.read_to_end(&mut all);
            let all = String::from_utf8_lossy(&all).into_owned();
            side.own.iter().fold(all, |text, (own, name)| text.replace(own, name))
        });
        assert_eq!(ours, theirs, "{text:?}");
    }
}

#[test]
fn help_and_the_last_words_are_alike() {
    let mut group = group();
    for container in ["SENTINEL", "CLIENT", "COMMAND", "ACL"] {
        let [ours, theirs] = [0, 1].map(|at| {
            let reply = group.sentinels[at].call(&[container, "HELP"]);
            let lines = reply.items();
            let simple = lines.iter().all(|line| matches!(line, Reply::Simple(_)));
            let told: Vec<String> = lines.iter().map(Reply::text).collect();
            // The wording is free; the head and the line of HELP itself are not.
            (simple, told[0].clone(), told.contains(&"HELP".to_owned()))
        });
        assert_eq!(ours, theirs, "{container} HELP");
    }
    // One after the other: the last one has nobody left to agree with.
    for at in [0, 1] {
        let mut client = group.sentinels[at].client();
        assert_eq!(client.call(&["SENTINEL", "RESET", GROUP]).expect("it answers").text(), ":1");
        client.send(&["SHUTDOWN", "NOSAVE"]).expect("it reads");
        assert!(client.receive().is_err(), "it ends without a word");
        let process = group.sentinels[at].process();
        wait_until(20, "the sentinel has ended", || process.exit().is_some());
        assert_eq!(process.exit().and_then(|status| status.code()), Some(0));
    }
}
