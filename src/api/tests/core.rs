//! The API over the real core, which sees no node and no peer: compared with a real sentinel.

use tokio::sync::oneshot;

use super::oracle::{Oracle, compare};
use super::*;
use crate::config::settings::GroupSettings;
use crate::config::state::{GroupState, State};
use crate::config::types::{Address, RunId};
use crate::sentinel::{Clock, Effect, Input, Instant, RequestId, Sentinel};
use crate::wall_clock::unix_ms;

/// A server over a core that watches `mymaster`, on a port where nobody listens; its disk is quick.
fn start() -> Server {
    let (server, mut asked) = Server::unanswered(|settings| settings.deny_scripts_reconfig = false);
    let handle = server.handle.clone();
    tokio::spawn(async move {
        let settings = SentinelSettings { deny_scripts_reconfig: false, ..Default::default() };
        let group = GroupSettings::new(Address::new("127.0.0.1", 1), 2);
        let state = State {
            my_id: RunId::from_bytes([7; 20]),
            current_epoch: 0,
            groups: [("mymaster".to_owned(), GroupState::fresh(group, None))].into(),
            removed: Default::default(),
            live: None,
        };
        let mut core = Sentinel::new(clock(), settings, state, 1);
        let mut waiting: BTreeMap<RequestId, oneshot::Sender<Value>> = BTreeMap::new();
        core.handle(clock(), Input::Wake);
        for next in 0.. {
            while let Some(effect) = core.poll() {
                match effect {
                    Effect::Persist { revision, .. } => {
                        core.handle(clock(), Input::Persisted { revision });
                    }
                    Effect::Reply { id, reply } => {
                        let _ = waiting.remove(&id).unwrap().send(reply);
                    }
                    Effect::Show { group, master } => handle.masters().show(&group, master),
                    Effect::Announce(event) => handle.announce(Arc::new(event)),
                    _ => {}
                }
            }
            let Some((request, answer)) = asked.recv().await else { return };
            waiting.insert(RequestId(next), answer);
            core.handle(clock(), Input::Request { id: RequestId(next), request });
        }
    });
    server
}

fn clock() -> Clock {
    let wall_ms = unix_ms();
    // One clock is enough here: nobody sets it while the test runs.
    Clock { mono: Instant::from_ms(wall_ms), wall_ms }
}

const CONF: &str = "sentinel deny-scripts-reconfig no\nsentinel monitor mymaster 127.0.0.1 1 2";

#[tokio::test]
async fn what_changes_a_sentinel_is_checked_as_redis_does() {
    let (oracle, server) = (Oracle::start(CONF).await, start());
    compare(
        &oracle,
        &server,
        &[
            "sentinel monitor a b c d",
            "sentinel monitor a b c 0",
            "sentinel monitor a b 1 0",
            "sentinel monitor a b 1 1",
            "sentinel monitor a localhost 1 1",
            "sentinel monitor a 127.0.0.1 70000 1",
            "sentinel monitor a 127.0.0.1 -1 1",
            "sentinel monitor mymaster 127.0.0.1 1 1",
            "sentinel monitor other 127.0.0.1 1 1",
            "sentinel get-master-addr-by-name other",
            "sentinel get-master-addr-by-name OTHER",
            "sentinel replicas other",
            "sentinel sentinels other",
            "sentinel is-master-down-by-addr 127.0.0.1 1 0 *",
            "sentinel failover other",
            "sentinel reset nobody",
            "sentinel reset *",
            "sentinel reset o?her",
            "sentinel flushconfig",
            "sentinel set mymaster quorum x",
            "sentinel set mymaster quorum 0",
            "sentinel set mymaster Quorum -1",
            "sentinel set mymaster quorum 3",
            "sentinel set mymaster down-after-milliseconds 0",
            "sentinel set mymaster down-after-milliseconds 70000",
            "sentinel set mymaster failover-timeout none",
            "sentinel set mymaster parallel-syncs 0",
            "sentinel set mymaster nothing 1",
            "sentinel set mymaster quorum 1 parallel-syncs",
            "sentinel set mymaster auth-pass secret",
            "sentinel set mymaster auth-pass ''",
            "sentinel set mymaster rename-command a",
            "sentinel set mymaster rename-command '' b",
            "sentinel set mymaster rename-command a b",
            "sentinel set mymaster master-reboot-down-after-period -1",
            "sentinel set mymaster master-reboot-down-after-period 0",
            "sentinel set mymaster notification-script /nope",
            "sentinel set mymaster client-reconfig-script /nope",
            "sentinel set mymaster notification-script /bin/sh",
            "sentinel set mymaster notification-script ''",
            "sentinel set nobody notification-script /nope",
            "sentinel remove nobody",
            "sentinel remove other",
            "sentinel remove other",
            "role",
            "hello 3",
            "sentinel replicas mymaster",
            "sentinel get-master-addr-by-name other",
            "role",
        ],
    )
    .await;
}

#[tokio::test]
async fn what_concerns_the_whole_sentinel_is_answered_as_redis_does() {
    let (oracle, server) = (Oracle::start(CONF).await, start());
    compare(
        &oracle,
        &server,
        &[
            "sentinel config",
            "sentinel config get announce-ip",
            "sentinel config get *hostnames",
            "sentinel config get ANNOUNCE-*",
            "sentinel config get nothing",
            "sentinel config get sentinel-p???",
            "sentinel config set announce-ip 192.0.2.1",
            "sentinel config set announce-port 65536",
            "sentinel config set announce-port -1",
            "sentinel config set announce-port x",
            "sentinel config set ANNOUNCE-port 7",
            "sentinel config set resolve-hostnames maybe",
            "sentinel config set resolve-hostnames YES",
            "sentinel config set announce-hostnames ''",
            "sentinel config set announce-hostnames no",
            "sentinel config set Nothing 1",
            "sentinel config set sentinel-user joe",
            "sentinel config set sentinel-pass geheim",
            "sentinel config get sentinel-*",
            "sentinel config get announce-*",
            "sentinel monitor local localhost 7 1",
            "sentinel monitor local no-such-host.invalid 7 1",
            "sentinel monitor local localhost 7 0",
            "sentinel monitor local localhost x 1",
            "sentinel monitor local no-such-host.invalid 7 0",
            "sentinel monitor local localhost 7 1",
            "sentinel remove local",
            "sentinel config set announce-ip ''",
            "sentinel config set announce-port 0",
            "sentinel config set sentinel-pass ''",
            "sentinel config get announce-*",
            "sentinel config get sentinel-*",
            "sentinel config set resolve-hostnames no",
            "sentinel monitor local localhost 7 1",
            "sentinel info-cache",
            "sentinel info-cache nobody",
            "sentinel info-cache mymaster",
            "sentinel info-cache nobody mymaster mymaster",
            "sentinel simulate-failure",
            "sentinel simulate-failure foo",
            "sentinel simulate-failure help",
            "sentinel simulate-failure crash-after-election HELP",
            "sentinel simulate-failure CRASH-AFTER-promotion crash-after-election",
            "info sentinel",
            "sentinel simulate-failure crash-after-election foo",
            "sentinel debug foo",
            "sentinel debug ping-period",
            "sentinel debug ping-period 0",
            "sentinel debug Ping-Period -1",
            "sentinel debug ask-period x",
            "sentinel debug ask-period 5 foo",
            // Where our own times differ from Redis's.
            "sentinel debug TILT-PERIOD 1 min-link-reconnect-period 2 election-timeout 3",
            "sentinel debug info-period 4 ping-period 5 ask-period 6 publish-period 7",
            "sentinel debug default-down-after 8 default-failover-timeout 9 tilt-trigger 9999999",
            "sentinel debug slave-reconf-timeout 11 script-max-runtime 12 script-retry-delay 13",
            "sentinel debug",
            "sentinel failover mymaster",
            "sentinel failover mymaster x",
            "sentinel failover",
            "hello 3",
            "sentinel debug",
            "sentinel config get announce-*",
            "sentinel config get sentinel-*",
            "sentinel config get nothing",
            "sentinel info-cache mymaster",
            "sentinel info-cache nobody",
            "sentinel simulate-failure help",
        ],
    )
    .await;
}

/// What Redis 7.2 added; the one to compare with is of 7.0.
#[tokio::test]
async fn config_takes_several_words_as_redis_7_2_does() {
    let server = start();
    let mut ours = server.connect().await;
    let only = "-ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET <param> <value> \
                [<param> <value> ...] are supported.\r\n";
    for (line, expected) in [
        ("sentinel config get", "-ERR wrong number of arguments for 'sentinel|config' command\r\n"),
        ("sentinel config put a b", only),
        ("sentinel config set loglevel", only),
        ("sentinel config set loglevel debug announce-port 7", "+OK\r\n"),
        (
            "sentinel config get log* announce-port *",
            "*14\r\n$8\r\nloglevel\r\n$5\r\ndebug\r\n$13\r\nannounce-port\r\n$1\r\n7\r\n\
             $17\r\nresolve-hostnames\r\n$2\r\nno\r\n$18\r\nannounce-hostnames\r\n$2\r\nno\r\n\
             $11\r\nannounce-ip\r\n$0\r\n\r\n$13\r\nsentinel-user\r\n$0\r\n\r\n\
             $13\r\nsentinel-pass\r\n$0\r\n\r\n",
        ),
        (
            "sentinel config set announce-port 8 loglevel loud",
            "-ERR Invalid value 'loud' to SENTINEL CONFIG SET 'loglevel'\r\n",
        ),
        (
            "sentinel config set announce-port 8 foo bar",
            "-ERR Invalid argument 'foo' to SENTINEL CONFIG SET\r\n",
        ),
        (
            "sentinel config set announce-port 8 Announce-Port 9",
            "-ERR Duplicate argument 'Announce-Port' to SENTINEL CONFIG SET\r\n",
        ),
        (
            "sentinel config set announce-port 8 loglevel",
            "-ERR Missing argument 'loglevel' value\r\n",
        ),
        ("sentinel config get announce-port", "*2\r\n$13\r\nannounce-port\r\n$1\r\n7\r\n"),
        // Valkey 9.
        ("sentinel failover nobody COORDINATED", "-ERR No such master with that name\r\n"),
        (
            "sentinel failover mymaster coordinated",
            "-NOGOODSLAVE No suitable replica to promote\r\n",
        ),
    ] {
        assert_eq!(ours.ask(line).await, expected, "{line}");
    }
}

#[tokio::test]
async fn the_spellings_of_valkey_answer_the_same() {
    let server = start();
    let mut ours = server.connect().await;
    for proto in ["hello 2", "hello 3"] {
        ours.ask(proto).await;
        for (redis, valkey) in [
            ("sentinel get-master-addr-by-name mymaster", "get-primary-addr-by-name mymaster"),
            ("sentinel get-master-addr-by-name nobody", "get-primary-addr-by-name nobody"),
            (
                "sentinel is-master-down-by-addr 127.0.0.1 1 0 *",
                "is-primary-down-by-addr 127.0.0.1 1 0 *",
            ),
            ("sentinel master nobody", "primary nobody"),
            ("sentinel slaves mymaster", "replicas mymaster"),
        ] {
            let expected = ours.ask(redis).await;
            assert_eq!(ours.ask(&format!("sentinel {valkey}")).await, expected, "{valkey}");
        }
        // Ages pass between the two, so only the fields are compared.
        for (redis, valkey) in [
            ("sentinel masters", "sentinel primaries"),
            ("sentinel master mymaster", "SENTINEL Primary mymaster"),
        ] {
            let words = |reply: String| {
                let letters = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
                reply.lines().filter(letters).map(str::to_owned).collect::<Vec<_>>()
            };
            let expected = words(ours.ask(redis).await);
            assert!(expected.len() > 20, "{expected:?}");
            assert_eq!(words(ours.ask(valkey).await), expected, "{valkey}");
        }
    }
    let set = "sentinel set mymaster primary-reboot-down-after-period 5";
    assert_eq!(ours.ask(set).await, "+OK\r\n");
}

#[tokio::test]
async fn entries_have_redis_s_fields_in_redis_s_order() {
    let (oracle, server) = (Oracle::start(CONF).await, start());
    let mut theirs = Wire::connect(oracle.port).await;
    let mut ours = server.connect().await;
    let names = |reply: Value| {
        let Value::Map(pairs) = reply else { panic!("a map") };
        pairs.iter().map(|(name, _)| name.text().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for line in ["hello 3", "sentinel set mymaster notification-script /bin/sh"] {
        theirs.ask(line).await;
        ours.ask(line).await;
    }
    theirs.say("sentinel master mymaster").await;
    ours.say("sentinel master mymaster").await;
    assert_eq!(names(ours.value().await), names(theirs.value().await));
}

#[tokio::test]
async fn changes_are_announced_in_redis_s_words_and_order() {
    let (oracle, server) = (Oracle::start(CONF).await, start());
    let mut theirs = Wire::connect(oracle.port).await;
    let mut ours = server.connect().await;
    for wire in [&mut theirs, &mut ours] {
        wire.ask("hello 3").await;
        // The answer tells that the start, with its own events, is over.
        wire.ask("sentinel myid").await;
        wire.ask("psubscribe +set +monitor -monitor +reset-master").await;
        for _ in 0..3 {
            wire.bytes().await;
        }
    }
    for (line, count) in [
        ("sentinel set mymaster quorum 3 auth-pass secret rename-command a b", 3),
        ("sentinel monitor other 127.0.0.1 2 1", 1),
        ("sentinel reset my*", 1),
        ("sentinel remove other", 1),
    ] {
        for port in [oracle.port, server.port] {
            Wire::connect(port).await.ask(line).await;
        }
        for _ in 0..count {
            assert_eq!(ours.bytes().await, theirs.bytes().await, "{line}");
        }
    }
}

#[tokio::test]
async fn replies_and_their_events_come_in_redis_s_order_over_one_connection() {
    let (oracle, server) = (Oracle::start(CONF).await, start());
    let mut theirs = Wire::connect(oracle.port).await;
    let mut ours = server.connect().await;
    for wire in [&mut theirs, &mut ours] {
        wire.ask("hello 3").await;
        wire.ask("sentinel myid").await;
        wire.ask("psubscribe +set +monitor -monitor +reset-master").await;
        for _ in 0..3 {
            wire.bytes().await;
        }
    }
    // Again and again, since a wrong order may come right by chance.
    for _ in 0..20 {
        for line in [
            "sentinel monitor other 127.0.0.1 2 1",
            "sentinel set other quorum 2",
            "sentinel reset oth*",
            "sentinel remove other",
        ] {
            theirs.say(line).await;
            ours.say(line).await;
            for _ in 0..2 {
                assert_eq!(ours.bytes().await, theirs.bytes().await, "{line}");
            }
        }
    }
}
