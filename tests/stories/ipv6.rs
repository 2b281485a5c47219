//! IPv6 from end to end: nodes and sentinels that know each other by addresses with colons.

use std::path::Path;
use std::time::Instant;

use crate::support::events::Recorder;
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{GROUP, Program, Sentinel, Watch};
use crate::support::slots;
use crate::support::wait::wait_until;

over_both_nodes!(a_group_on_ipv6_fails_over);

/// The loopback address, written in another way than everybody shows it.
const WRITTEN: &str = "0:0:0:0:0:0:0:1";

fn a_group_on_ipv6_fails_over(nodes: Nodes) {
    let _slot = slots::one();
    let bind = "bind ::1 127.0.0.1";
    let mut master = Node::start(nodes, &[bind]);
    let follow = format!("replicaof ::1 {}", master.port);
    let replicas = [Node::start(nodes, &[bind, &follow]), Node::start(nodes, &[bind, &follow])];
    wait_until(20, "the replicas follow", || replicas.iter().all(|r| r.follows(master.port)));
    let watch = Watch::of(master.port);
    let text = |port: u16, dir: &Path| {
        format!(
            "port {port}\nbind ::1 127.0.0.1\ndir {}\n\
             sentinel monitor {GROUP} {WRITTEN} {} {}\n\
             sentinel down-after-milliseconds {GROUP} {}\n\
             sentinel failover-timeout {GROUP} {}\n",
            dir.display(),
            watch.master,
            watch.quorum,
            watch.down_after_ms,
            watch.failover_timeout_ms
        )
    };
    let programs = [Program::under_test(), Program::under_test(), Program::Redis];
    let start = |program| Sentinel::start_with(program, "sentinel.conf", text);
    let sentinels: Vec<Sentinel> = programs.into_iter().map(start).collect();
    let ports: Vec<u16> = sentinels.iter().map(|sentinel| sentinel.port).collect();
    let events = Recorder::start(&ports);
    wait_until(30, "all know each other, and the replicas", || {
        sentinels.iter().all(|s| {
            s.call(&["SENTINEL", "CKQUORUM", GROUP]).text().starts_with("OK 3")
                && replicas.iter().all(|replica| s.replica(replica.port).is_some())
        })
    });
    let entry = sentinels[0].replica(replicas[0].port).expect("an entry");
    assert_eq!(entry.field("ip").as_deref(), Some("::1"));
    let name = format!("[::1]:{}", replicas[0].port);
    assert_eq!(entry.field("name"), Some(name));

    let (began, old) = (Instant::now(), master.port);
    master.kill9();
    let new = |s: &Sentinel| s.master_port().filter(|port| *port != old);
    wait_until(30, "all name one new master", || {
        let named: Vec<_> = sentinels.iter().map(new).collect();
        named[0].is_some() && named.iter().all(|port| *port == named[0])
    });
    let new = new(&sentinels[0]).expect("just seen");
    let switch = format!("{GROUP} ::1 {old} ::1 {new}");
    wait_until(20, "all announce the same switch", || {
        let heard = events.since(began, "+switch-master");
        ports.iter().all(|port| heard.iter().any(|h| h.by == *port && h.text == switch))
    });
    wait_until(20, "the other replica follows", || {
        let other = replicas.iter().find(|replica| replica.port != new);
        other.is_some_and(|replica| replica.follows(new))
    });
    for sentinel in &sentinels {
        let replicas = sentinel.call(&["SENTINEL", "REPLICAS", GROUP]);
        assert_eq!(replicas.items().len(), 2, "nobody is known twice: {replicas:?}");
    }
}
