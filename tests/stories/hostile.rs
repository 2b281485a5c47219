//! Rubbish from outside: half frames, lying lengths, forged hellos, a master that answers garbage.
//! The process stays, serves everybody else, and does not grow.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::{Client, Reply, ask};
use crate::support::group::{Group, Plan};
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::{wait_for, wait_until};

over_both_nodes!(rubbish_to_a_node_hurts_nobody_else);

/// How much a process may grow under attack, in KiB.
const GROWTH_MAX_KIB: u64 = 64 * 1024;

/// What a hostile or broken client may send.
fn rubbish() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "*3\r\n$3\r\nSET\r\n$3\r\nke",
        "*1\r\n$1000000000\r\nxxxx",
        "*2\r\n$4\r\nPING\r\n$1073741824\r\n",
        "*1000000000\r\n",
        "*-5\r\n*0\r\n*1\r\n$-7\r\n",
        "*1\r\n$99999999999999999999999\r\nx",
        "*1\r\n:5\r\n",
        "$5\r\nhello\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\n\r\n\r\n",
        "\"unbalanced\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    all.push((0..=255).collect());
    all.push(vec![0; 100_000]);
    all.push(vec![b'a'; 200_000]); // an inline command without an end
    all.push(b"*1\r\n$1\r\n".repeat(10_000));
    all.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()); // TLS says hello
    all
}

/// Longest wait of somebody else meanwhile: far more than it takes on an idle machine.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// Sends everything on connections that stay open, while `port` serves others all the time.
fn attack(port: u16) {
    let mut open: Vec<Client> = Vec::new();
    for bytes in rubbish() {
        for _ in 0..20 {
            let mut client = Client::connect(port).expect("it still accepts connections");
            let _ = client.send_raw(&bytes); // it may close before it has read everything
            open.push(client);
        }
        let began = Instant::now();
        let mut other = Client::connect_with(port, SERVED_WITHIN).expect("it still accepts others");
        let reply = other.call(&["PING"]).expect("it still answers others");
        assert_eq!(reply.text(), "PONG");
        assert!(began.elapsed() < SERVED_WITHIN, "others are served at once");
    }
}

fn rubbish_to_a_node_hurts_nobody_else(nodes: Nodes) {
    let _slot = slots::one();
    let mut node = Node::start(nodes, &[]);
    let before = node.process().memory_kib();
    attack(node.port);
    let grown = node.process().memory_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "the node grew by {grown} KiB");
    assert!(!node.process().log().contains("panicked"), "{}", node.process().log());
}

#[test]
fn rubbish_to_a_sentinel_hurts_nobody_else() {
    let mut group = Plan::over(Nodes::Redis).start();
    let old = group.watch.master;
    let before = group.sentinels[0].process().memory_kib();
    attack(group.sentinels[0].port);
    let grown = group.sentinels[0].process().memory_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "the sentinel grew by {grown} KiB");
    assert_still_at_work(&mut group, old);
}

#[test]
fn lying_lengths_are_answered_as_redis_answers_them() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    let watch = Watch::of(node.port);
    let ours = Sentinel::start(Program::under_test(), Syntax::Conf, &watch);
    let theirs = Sentinel::start(Program::Redis, Syntax::Conf, &watch);
    let last_words = |port: u16, bytes: &str| {
        let mut client = Client::connect(port).expect("reachable");
        client.send_raw(bytes.as_bytes()).expect("sent");
        let said = client.receive().ok();
        let closed = client.receive().is_err();
        (said, closed)
    };
    for bytes in [
        "*1\r\n$1000000000\r\n",
        "*1000000000\r\n",
        "*1\r\n$abc\r\n",
        "*abc\r\n",
        "*1\r\n:5\r\n",
        "*1\r\n$-2\r\n",
        "\"unbalanced\r\n",
    ] {
        let expected = last_words(theirs.port, bytes);
        assert_eq!(last_words(ours.port, bytes), expected, "{bytes:?}");
    }
}

#[test]
fn forged_hellos_change_nothing() {
    let mut group = Plan::over(Nodes::Redis).start();
    let master = group.watch.master;
    let id = "f".repeat(40);
    let own = group.sentinels[0].id();
    let known = group.sentinels[1].id();
    let epochs = |group: &Group| -> Vec<_> {
        group.sentinels.iter().map(|s| s.master("config-epoch")).collect()
    };
    let before = epochs(&group);
    let forged = [
        format!("127.0.0.1,26379,{id},0,{GROUP},127.0.0.1,{master}"),
        format!("127.0.0.1,26379,{id},0,{GROUP},127.0.0.1,{master},0,9"),
        format!("127.0.0.1,26379,{id},0,{GROUP},127.0.0.1,{master},"),
        format!("127.0.0.1,99999,{id},0,{GROUP},127.0.0.1,{master},0"),
        format!("127.0.0.1,26379,short,0,{GROUP},127.0.0.1,{master},0"),
        format!("127.0.0.1,26379,{id},zero,{GROUP},127.0.0.1,{master},0"),
        format!("not an ip,26379,{id},0,{GROUP},127.0.0.1,{master},0"),
        format!("127.0.0.1,26379,{id},0,another,127.0.0.1,{master},0"),
        format!("127.0.0.1,26379,{own},0,{GROUP},127.0.0.1,{master},x"),
        format!("127.0.0.1,26379,{known},0,{GROUP}"),
        ",,,,,,,".to_owned(),
        String::new(),
        "\u{0}\u{1}\u{2},\u{fffd}".to_owned(),
        "x".repeat(100_000),
    ];
    // Redis's sentinel accepts some of these; ours may not. What both refuse comes first.
    let refused = if Program::under_test() == Program::Redis { 2 } else { forged.len() };
    for hello in &forged[..refused] {
        for node in &group.nodes {
            node.call(&["PUBLISH", "__sentinel__:hello", hello]);
        }
        for sentinel in &group.sentinels {
            let reply = sentinel.call(&["PUBLISH", "__sentinel__:hello", hello]);
            assert!(!reply.text().is_empty(), "some answer to {hello:?}");
        }
    }
    let elsewhere = group.sentinels[0].call(&["PUBLISH", "news", "x"]);
    assert_eq!(elsewhere.text(), "ERR Only HELLO messages are accepted by Sentinel instances.");
    // A real hello later than the forged ones has been heard, so these have been heard, too.
    wait_until(10, "hellos go on", || {
        let others = group.sentinels[0].call(&["SENTINEL", "SENTINELS", GROUP]);
        others.items().iter().all(|s| {
            let age = s.field("last-hello-message").and_then(|ms| ms.parse().ok());
            age.is_some_and(|ms: u64| ms < 500)
        })
    });
    assert_eq!(epochs(&group), before);
    for sentinel in &group.sentinels {
        assert_eq!(sentinel.master("num-other-sentinels").as_deref(), Some("2"));
    }
    assert_still_at_work(&mut group, master);
}

/// The group still fails over when its master dies, and no sentinel has panicked or restarted.
fn assert_still_at_work(group: &mut Group, old: u16) {
    group.node(old).kill9();
    group.wait_for_new_master(old, 30);
    for sentinel in &mut group.sentinels {
        assert!(sentinel.process().exit().is_none(), "every sentinel still runs");
        let log = sentinel.process().log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn masters_that_answer_garbage_harm_no_other_group() {
    let mut group = Plan::over(Nodes::Redis).start();
    let old = group.watch.master;
    let before = group.sentinels[0].process().memory_kib();
    let long = format!("$70000\r\n{}\r\n", "slave0:ip=".repeat(7_000));
    let infos: Vec<Vec<u8>> = [
        "$5\r\n\u{0}\u{1}\u{2}\u{3}\u{4}\r\n",
        "$1000000000\r\nrole:master",
        "+role:master\r\n",
        ":7\r\n",
        "*3\r\n:1\r\n:2\r\n:3\r\n",
        "$-1\r\n",
        "%junk\r\n",
        "-ERR no INFO today\r\n",
        "$83\r\nrun_id:x\r\nrole:master\r\nslave0:ip=,port=99999\r\nslave1:\r\n\
         slave2:ip=1.2.3.4,port=\r\nr\r\n",
        long.as_str(),
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    let fakes: Vec<FakeMaster> = infos.into_iter().map(FakeMaster::start).collect();
    for (n, fake) in fakes.iter().enumerate() {
        for sentinel in &group.sentinels {
            let (name, port) = (format!("fake{n}"), fake.port.to_string());
            let reply = sentinel.call(&["SENTINEL", "MONITOR", &name, "127.0.0.1", &port, "2"]);
            assert_eq!(reply, Reply::Simple("OK".into()));
            sentinel.call(&["SENTINEL", "SET", &name, "down-after-milliseconds", "1000"]);
        }
    }
    for (n, fake) in fakes.iter().enumerate() {
        wait_until(20, &format!("every sentinel has asked fake{n} for INFO"), || {
            fake.infos_asked.load(Ordering::Relaxed) >= group.sentinels.len()
        });
    }
    let sentinel = &group.sentinels[0];
    let masters = sentinel.call(&["SENTINEL", "MASTERS"]);
    assert_eq!(masters.items().len(), 1 + fakes.len());
    // (Redis makes up a replica on port 0.)
    let ours = Program::under_test() == Program::Watchfire;
    for n in (0..fakes.len()).filter(|_| ours) {
        let replicas = sentinel.call(&["SENTINEL", "REPLICAS", &format!("fake{n}")]);
        assert!(replicas.items().is_empty(), "no replica is made up from garbage: {replicas}");
    }
    assert_still_at_work(&mut group, old);
    let grown = group.sentinels[0].process().memory_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "the sentinel grew by {grown} KiB");
}

/// Something that answers PING as a master would, and INFO with whatever it was given.
struct FakeMaster {
    port: u16,
    infos_asked: Arc<AtomicUsize>,
}

impl FakeMaster {
    fn start(info: Vec<u8>) -> FakeMaster {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("bound").port();
        let infos_asked = Arc::new(AtomicUsize::new(0));
        let asked = infos_asked.clone();
        // Its threads end with the test process; they hold nothing.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (info, asked) = (info.clone(), asked.clone());
                std::thread::spawn(move || serve(stream, &info, &asked));
            }
        });
        FakeMaster { port, infos_asked }
    }
}

/// Answers each word that looks like a command of a sentinel until the connection ends.
fn serve(mut stream: TcpStream, info: &[u8], asked: &AtomicUsize) {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        text += &String::from_utf8_lossy(&bytes[..count]).to_uppercase();
        while let Some(end) = text.find("\r\n") {
            let answer: &[u8] = match &text[..end] {
                "PING" => b"+PONG\r\n",
                "INFO" => {
                    asked.fetch_add(1, Ordering::Relaxed);
                    info
                }
                "CLIENT" | "PUBLISH" | "SUBSCRIBE" | "HELLO" => b"+OK\r\n",
                _ => b"",
            };
            if stream.write_all(answer).is_err() {
                return;
            }
            text.drain(..end + 2);
        }
    }
}

#[test]
fn a_subscriber_that_never_reads_is_let_go() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    let mut sentinel = Sentinel::start(Program::under_test(), Syntax::Conf, &Watch::of(node.port));
    let before = sentinel.process().memory_kib();
    let mut deaf = sentinel.client();
    deaf.send(&["PSUBSCRIBE", "*"]).expect("sent");
    let mut busy = sentinel.client();
    let long = "x".repeat(20_000);
    let mut set = vec!["SENTINEL", "SET", GROUP];
    set.extend(["auth-user", &long].repeat(20));
    // Each option announces +set with its value to the subscriber that never reads: 100 MB of them.
    for _ in 0..250 {
        busy.send(&set).expect("it reads");
        let reply = wait_for(5, "it answers while somebody does not read", || busy.receive().ok());
        assert_eq!(reply, Reply::Simple("OK".into()));
    }
    let grown = sentinel.process().memory_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "the sentinel grew by {grown} KiB");
    assert_eq!(sentinel.call(&["PING"]).text(), "PONG");
}

#[test]
fn our_own_ids_in_the_mouth_of_others_hold_up_no_failover() {
    let mut group = Plan::over(Nodes::Redis).down_after_ms(1_000).start();
    let old = group.watch.master;
    let node = group.ports_but(old)[0];
    let ids: Vec<String> = group.sentinels.iter().map(Sentinel::id).collect();
    let ports = group.sentinel_ports();
    let said = ids.clone();
    let stop = Arc::new(AtomicUsize::new(0));
    let ended = stop.clone();
    let forger = std::thread::spawn(move || {
        // For a minute at most.
        for _ in 0..300 {
            if ended.load(Ordering::Relaxed) > 0 {
                return;
            }
            for (id, port) in said.iter().zip(&ports) {
                // Somebody lives there, and nobody does.
                for from in [node, 9] {
                    let hello = format!("127.0.0.1,{from},{id},0,{GROUP},127.0.0.1,{old},0");
                    ask(*port, &["PUBLISH", "__sentinel__:hello", &hello]);
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let told = "Ignored a hello with my own id from 127.0.0.1:";
    wait_until(40, "all have heard it, and count it", || {
        group.sentinels.iter_mut().all(|sentinel| {
            let log = sentinel.process().log();
            log.contains(told) && log.contains("(8 ignored so far)")
        })
    });
    group.node(old).kill9();
    group.wait_for_new_master(old, 15);
    stop.store(1, Ordering::Relaxed);
    forger.join().expect("it ends");
    let after: Vec<String> = group.sentinels.iter().map(Sentinel::id).collect();
    assert_eq!(after, ids, "and all are who they were");
}
