//! The API over the real core, which sees no node and no peer: compared with a real sentinel.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::oracle::{Oracle, compare};
use super::*;
use crate::config::settings::GroupSettings;
use crate::config::state::{GroupState, State};
use crate::config::types::{Address, RunId};
use crate::sentinel::{Clock, Effect, Input, Instant, RequestId, Sentinel};

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
            removed: BTreeMap::new(),
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
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
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
