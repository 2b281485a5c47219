//! Replication with the real redis-server, both ways, and between our own nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::*;
use watchfire::resp::Value;

fn follow(replica: &dyn Node, master: &dyn Node) {
    let reply = replica.client().text(&format!("REPLICAOF 127.0.0.1 {}", master.port()));
    assert!(reply.starts_with("OK"), "{reply}");
}

fn wait_for_link(replica: &dyn Node) {
    wait_until("the link is up", || replica.replication("master_link_status") == "up");
}

/// Waits until both have the same offset, then compares ids and data.
fn assert_same(master: &dyn Node, replica: &dyn Node) {
    wait_until("the replica has caught up", || {
        replica.replication("master_repl_offset") == master.replication("master_repl_offset")
    });
    assert_eq!(replica.replication("master_replid"), master.replication("master_replid"));
    assert_eq!(replica.data(), master.data());
}

fn stat(node: &dyn Node, name: &str) -> u64 {
    let text = node.client().text("INFO stats");
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name}:")));
    line.and_then(|l| l.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// Writes of every kind that a stream must carry.
fn write_some(node: &dyn Node) {
    let mut client = node.client();
    for i in 0..200 {
        client.call(&format!("SET key:{i} value:{i}"));
    }
    for line in [
        "SET ttl 1 EX 1000",
        "SETEX ttl2 1000 v",
        "INCRBYFLOAT float 0.1",
        "INCR n",
        "INCRBY n 10",
        "APPEND s abc",
        "SETRANGE s 5 x",
        "GETSET g 1",
        "GETEX ttl EX 2000",
        "EXPIRE key:1 1000",
        "PERSIST key:1",
        "DEL key:2 key:3",
        "RENAME key:4 renamed",
        "COPY key:5 copied",
        "MSET m1 1 m2 2",
        "MSETNX m3 1 m4 2",
        "SET gone 1 PX 1",
        "MULTI",
        "SET t1 1",
        "INCR t1",
        "SELECT 3",
        "SET in3 1",
        "SELECT 0",
        "EXEC",
        "SELECT 5",
        "SET in5 1",
        "MOVE in5 0",
        "SWAPDB 5 6",
        "SELECT 0",
    ] {
        let reply = client.call(line);
        assert!(!matches!(reply, Value::Error(_)), "{line}: {reply:?}");
    }
    // The expired key is deleted on the master first, and only then on replicas.
    wait_until("the key is gone", || client.int("EXISTS gone") == 0);
}

/// A full synchronisation, the stream behind it, and a partial one after a cut.
fn full_stream_and_partial(master: &dyn Node, replica: &dyn Node) {
    write_some(master);
    follow(replica, master);
    wait_for_link(replica);
    assert_same(master, replica);
    write_some(master);
    assert_same(master, replica);
    assert_eq!(replica.client().text("TYPE n"), "string");
    let ttl = replica.client().int("TTL ttl");
    assert!((1900..=2000).contains(&ttl), "{ttl}");
    assert!(
        matches!(replica.client().call("SET a 1"), Value::Error(e) if e.starts_with("READONLY"))
    );
    assert_eq!(master.client().int("WAIT 1 10000"), 1);

    let (full, partial) = (stat(master, "sync_full"), stat(master, "sync_partial_ok"));
    for (node, kind) in [(master, "replica"), (replica, "master")] {
        let before = stat(master, "sync_partial_ok");
        assert_eq!(node.client().int(&format!("CLIENT KILL TYPE {kind}")), 1);
        write_some(master);
        wait_until("the link is back", || stat(master, "sync_partial_ok") > before);
        wait_for_link(replica);
        assert_same(master, replica);
    }
    assert_eq!(stat(master, "sync_full"), full);
    assert_eq!(stat(master, "sync_partial_ok"), partial + 2);
}

#[test]
fn redis_follows_our_master() {
    full_stream_and_partial(&Ours::start(""), &redis(""));
}

#[test]
fn we_follow_a_redis_master() {
    full_stream_and_partial(&redis(""), &Ours::start(""));
}

#[test]
fn we_follow_a_redis_master_that_sends_from_disk() {
    full_stream_and_partial(&redis("--repl-diskless-sync no"), &Ours::start(""));
}

#[test]
fn our_own_nodes_follow_each_other() {
    full_stream_and_partial(&Ours::start(""), &Ours::start(""));
}

/// Promotes the middle of a chain, then lets the first follow it.
fn chain(first: &dyn Node, middle: &dyn Node, last: &dyn Node) {
    write_some(first);
    follow(middle, first);
    wait_for_link(middle);
    follow(last, middle);
    wait_for_link(last);
    write_some(first);
    assert_same(first, middle);
    assert_same(first, last);

    // Promotion keeps every key, and the last of the chain goes on without a full synchronisation.
    let data = middle.data();
    let old_id = middle.replication("master_replid");
    assert_eq!(middle.client().call("REPLICAOF NO ONE"), Value::ok());
    assert_eq!(middle.replication("role"), "master");
    assert_eq!(middle.replication("master_replid2"), old_id);
    assert_eq!(middle.data(), data);
    wait_until("the last one is back", || middle.replication("connected_slaves") == "1");
    wait_for_link(last);
    write_some(middle);
    assert_same(middle, last);
    assert_eq!(stat(middle, "sync_full"), 1);

    // The old master follows the promoted one: the stream ends with pings at most, so it may
    // continue or not; in the end it has the same data.
    follow(first, middle);
    wait_for_link(first);
    assert_same(middle, first);
}

#[test]
fn our_node_in_the_middle_of_a_chain_takes_over() {
    chain(&redis(""), &Ours::start(""), &redis(""));
}

#[test]
fn redis_in_the_middle_of_a_chain_takes_over() {
    chain(&Ours::start(""), &redis(""), &Ours::start(""));
}

#[test]
fn a_former_master_continues_at_its_promoted_replica() {
    for (old, new) in [
        (Box::new(Ours::start("")) as Box<dyn Node>, Box::new(Ours::start("")) as Box<dyn Node>),
        (Box::new(Ours::start("")), Box::new(redis(""))),
        (Box::new(redis("")), Box::new(Ours::start(""))),
    ] {
        write_some(&*old);
        follow(&*new, &*old);
        wait_for_link(&*new);
        assert_same(&*old, &*new);
        assert_eq!(new.client().call("SLAVEOF NO ONE"), Value::ok());
        write_some(&*new);
        follow(&*old, &*new);
        wait_for_link(&*old);
        assert_same(&*new, &*old);
        assert_eq!(stat(&*new, "sync_partial_ok"), 1, "no full synchronisation is needed");
    }
}

#[test]
fn a_sentinel_s_transaction_promotes() {
    let (master, replica) = (Ours::start(""), Ours::start(""));
    follow(&replica, &master);
    wait_for_link(&replica);
    let (mut sentinel, mut bystander) = (replica.client(), replica.client());
    bystander.call("PING");
    for line in [
        "MULTI",
        "SLAVEOF NO ONE",
        "CONFIG REWRITE",
        "CLIENT KILL TYPE normal",
        "CLIENT KILL TYPE pubsub",
    ] {
        sentinel.call(line);
    }
    let Value::Array(replies) = sentinel.call("EXEC") else { panic!("no array") };
    let no_file = Value::Error("ERR The server is running without a config file".into());
    assert_eq!(replies[..2], [Value::ok(), no_file]);
    assert_eq!(bystander.try_read(), None);
    assert_eq!(sentinel.call("PING"), pong());
    assert_eq!(replica.replication("role"), "master");
}

#[test]
fn data_stays_equal_under_load_while_links_are_cut() {
    for (master, replica) in [
        (Box::new(Ours::start("")) as Box<dyn Node>, Box::new(redis("")) as Box<dyn Node>),
        (Box::new(redis("")), Box::new(Ours::start(""))),
        (Box::new(Ours::start("--repl-backlog-size 10kb")), Box::new(Ours::start(""))),
    ] {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (stop, mut client) = (stop.clone(), master.client());
            std::thread::spawn(move || {
                let mut i = 0;
                while !stop.load(Ordering::Relaxed) {
                    i += 1;
                    client.call(&format!("SET load:{} {i}", i % 5000));
                    client.call(&format!("INCR counter:{}", i % 7));
                    client.call(&format!("SET short:{} x PX {}", i % 50, 1 + i % 40));
                }
                i
            })
        };
        follow(&*replica, &*master);
        for _ in 0..10 {
            wait_for_link(&*replica);
            let before = master.replication("master_repl_offset");
            wait_until("writes go on", || master.replication("master_repl_offset") != before);
            master.client().int("CLIENT KILL TYPE replica");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().expect("the writer") > 0);
        wait_for_link(&*replica);
        wait_until("short-lived keys are gone", || {
            master.data().iter().all(|(k, _)| !k.starts_with("short"))
        });
        assert_same(&*master, &*replica);
    }
}

#[test]
fn a_big_data_set_arrives_while_the_master_goes_on() {
    let master = Ours::start("");
    let mut client = master.client();
    let value = "v".repeat(1000);
    for i in 0..200 {
        let pairs: Vec<String> = (0..100).map(|j| format!("key:{i}:{j} {value}")).collect();
        client.call(&format!("MSET {}", pairs.join(" ")));
    }
    let (real, own) = (redis(""), Ours::start(""));
    follow(&real, &master);
    follow(&own, &master);
    let mut n = 0;
    while [&real as &dyn Node, &own].iter().any(|r| r.replication("master_link_status") != "up") {
        n += 1;
        client.call(&format!("SET during:{n} 1"));
    }
    assert_same(&master, &real);
    assert_same(&master, &own);
}

#[test]
fn data_that_we_cannot_hold_is_refused_and_ours_is_kept() {
    let (master, replica) = (redis(""), Ours::start(""));
    master.client().call("RPUSH list a b c");
    replica.client().call("SET mine 1");
    follow(&replica, &master);
    wait_until("it was tried", || stat(&master, "sync_full") >= 1);
    wait_until("it was refused", || replica.replication("master_link_status") == "down");
    assert_eq!(replica.data(), [("mine".to_string(), "1".to_string())]);
    master.client().call("DEL list");
    master.client().call("SET yours 1");
    wait_for_link(&replica);
    assert_eq!(replica.data(), [("yours".to_string(), "1".to_string())]);
    // The same in the stream: better no link than data that differ in silence.
    let before = stat(&master, "sync_full");
    master.client().call("RPUSH list a");
    wait_until("a full synchronisation is asked for", || stat(&master, "sync_full") > before);
    master.client().call("DEL list");
    wait_for_link(&replica);
    assert_same(&master, &replica);
}

#[test]
fn a_command_of_the_stream_that_fails_here_ends_the_link_not_the_likeness() {
    let (master, replica) = (redis("--databases 32"), Ours::start(""));
    follow(&replica, &master);
    wait_for_link(&replica);
    let before = stat(&master, "sync_full");
    let mut client = master.client();
    client.call("SET kept 1");
    client.call("SELECT 20");
    client.call("SET k v");
    client.call("FLUSHDB");
    wait_until("a full synchronisation is asked for", || stat(&master, "sync_full") > before);
    wait_for_link(&replica);
    assert_same(&master, &replica);
    assert_eq!(replica.data(), [("kept".to_string(), "1".to_string())]);
}

#[test]
fn a_browser_that_is_made_to_talk_to_a_node_writes_nothing() {
    let node = Ours::start("");
    let mut client = node.client();
    client.send_raw(b"POST / HTTP/1.1\r\nHost: victim\r\n\r\nSET pwned 1\r\n");
    assert_eq!(client.try_read(), None, "the connection is closed without an answer");
    assert!(node.data().is_empty());
}

#[test]
fn publish_on_a_master_reaches_subscribers_of_its_replicas() {
    let master = Ours::start("");
    for replica in [Box::new(redis("")) as Box<dyn Node>, Box::new(Ours::start(""))] {
        follow(&*replica, &master);
        wait_for_link(&*replica);
        let mut ear = replica.client();
        ear.call("SUBSCRIBE __sentinel__:hello");
        master.client().call("PUBLISH __sentinel__:hello hi");
        assert_eq!(words(&ear.read()), ["message", "__sentinel__:hello", "hi"]);
    }
}

#[test]
fn replicas_are_needed_for_writes_where_it_is_so_configured() {
    let master = Ours::start("--min-replicas-to-write 1");
    let refused = |reply: Value| matches!(reply, Value::Error(e) if e.starts_with("NOREPLICAS"));
    assert!(refused(master.client().call("SET a 1")));
    let replica = Ours::start("");
    follow(&replica, &master);
    wait_for_link(&replica);
    wait_until("writes are accepted", || !refused(master.client().call("SET a 1")));
    assert_eq!(master.replication("min_slaves_good_slaves"), "1");
}

#[test]
fn a_replica_without_its_master_says_so() {
    let real_master = redis("");
    for replica in [Box::new(redis("")) as Box<dyn Node>, Box::new(Ours::start(""))] {
        let master = Ours::start("");
        follow(&*replica, &master);
        wait_for_link(&*replica);
        drop(master);
        wait_until("the link is down", || replica.replication("master_link_status") == "down");
        wait_until("time is counted", || {
            replica
                .replication("master_link_down_since_seconds")
                .parse::<i64>()
                .is_ok_and(|s| s >= 1)
        });
        replica.client().call("CONFIG SET replica-serve-stale-data no");
        let error =
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
        assert_eq!(replica.client().call("PING"), Value::Error(error.into()));
        assert_eq!(replica.client().call("PUBLISH c x"), Value::Integer(0));
        follow(&*replica, &real_master);
        wait_for_link(&*replica);
        assert_eq!(replica.client().call("PING"), pong());
    }
}

#[test]
fn a_replica_that_does_not_read_is_dropped_and_the_master_goes_on() {
    let master = Ours::start("--client-output-buffer-limit replica 1mb 0 0");
    let mut stuck = master.client();
    stuck.call("REPLCONF capa eof");
    stuck.send(&[b"PSYNC", b"?", b"-1"]);
    wait_until("it is a replica", || master.replication("connected_slaves") == "1");
    let mut client = master.client();
    let value = "v".repeat(100_000);
    wait_until("it is dropped", || {
        client.call(&format!("SET big {value}"));
        master.replication("connected_slaves") == "0"
    });
    assert_eq!(client.call("PING"), pong());
}

#[test]
fn passwords_protect_both_ends() {
    let master = Ours::start("--requirepass secret");
    let replica = Ours::start(&format!("--replicaof 127.0.0.1 {}", master.port()));
    let mut client = master.client();
    client.call("AUTH secret");
    client.call("SET a 1");
    assert_eq!(replica.replication("master_link_status"), "down");
    replica.client().call("CONFIG SET masterauth secret");
    wait_for_link(&replica);
    assert_eq!(replica.client().text("GET a"), "1");
}

/// The names of the lines of INFO replication.
fn fields(node: &dyn Node) -> Vec<String> {
    let text = node.client().text("INFO replication");
    text.lines().map(|line| line.split(':').next().unwrap_or("").to_string()).collect()
}

#[test]
fn info_replication_has_the_lines_of_redis_in_its_order() {
    for master in [Box::new(redis("")) as Box<dyn Node>, Box::new(Ours::start(""))] {
        let (real, ours) = (redis(""), Ours::start(""));
        assert_eq!(fields(&ours), fields(&real), "alone");
        for replica in [&real as &dyn Node, &ours] {
            follow(replica, &*master);
            wait_for_link(replica);
        }
        assert_eq!(fields(&ours), fields(&real), "a replica");
        let expected = ["role", "connected_slaves", "slave0", "slave1", "master_failover_state"];
        assert_eq!(fields(&*master)[1..6], expected);
        drop(master);
        for replica in [&real as &dyn Node, &ours] {
            wait_until("it is down", || replica.replication("master_link_status") == "down");
        }
        assert_eq!(fields(&ours), fields(&real), "a replica without its master");
    }
}
