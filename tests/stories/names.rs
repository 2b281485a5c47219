//! Names that the system has trouble with.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::client::{Reply, ask};
use crate::support::events::Recorder;
use crate::support::node::{Node, Nodes, start_on_free_port};
use crate::support::sentinel::GROUP;
use crate::support::slots;
use crate::support::wait::{holds_for, wait_until};

/// A name server that takes every question and answers none; `None` where nobody may be one.
fn silent_name_server() -> Option<UdpSocket> {
    let may_mount = Command::new("unshare").args(["-rm", "true"]).output();
    may_mount.ok().filter(|output| output.status.success())?;
    UdpSocket::bind("127.0.0.77:53").ok()
}

#[test]
fn a_name_server_that_hangs_makes_nobody_down() {
    let _slot = slots::one();
    let Some(_server) = silent_name_server() else {
        println!("this system lets nobody be a name server: not looked at");
        return;
    };
    let mut master = Node::start(Nodes::Redis, &[]);
    let replica = Node::replica_of(Nodes::Redis, master.port, &[]);
    wait_until(20, "the replica follows", || replica.follows(master.port));
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).to_str().expect("a plain name").to_owned();
    let (hosts, servers, order) = (path("hosts"), path("resolv.conf"), path("nsswitch.conf"));
    fs::write(&hosts, "127.0.0.1 master.test\n").expect("a file");
    fs::write(&servers, "nameserver 127.0.0.77\noptions timeout:30\n").expect("a file");
    fs::write(&order, "hosts: files dns\n").expect("a file");
    let script = "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf && \
                  mount --bind \"$3\" /etc/nsswitch.conf && exec \"$4\" sentinel \"$5\"";
    let (program, conf) = (env!("CARGO_BIN_EXE_watchfire"), path("sentinel.conf"));
    let args = ["-rm", "sh", "-c", script, "sh", &hosts, &servers, &order, program, &conf];
    let (_sentinel, port) = start_on_free_port("sentinel", "unshare", &args, dir.path(), |port| {
        let (own, master) = (dir.path().display(), master.port);
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {own}\nsentinel resolve-hostnames yes\n\
             sentinel monitor {GROUP} master.test {master} 1\n\
             sentinel down-after-milliseconds {GROUP} 1000\n"
        );
        fs::write(&conf, text).expect("a file");
    });
    let field = |name: &str| ask(port, &["SENTINEL", "MASTER", GROUP])?.field(name);
    wait_until(20, "the group is known", || {
        field("flags").as_deref() == Some("master") && field("num-slaves").as_deref() == Some("1")
    });
    let events = Recorder::start(&[port]);
    let began = Instant::now();
    fs::write(&hosts, "").expect("a file");
    for _ in 0..3 {
        for kind in ["normal", "pubsub"] {
            let Reply::Integer(cut) = master.call(&["CLIENT", "KILL", "TYPE", kind]) else {
                panic!("a number of connections")
            };
            assert!(cut > 0, "{kind}");
        }
        holds_for(Duration::from_millis(2_500), "it is not called down", || {
            events.since(began, "+sdown").is_empty()
        });
    }
    // And its death is seen.
    master.kill9();
    events.wait(began, 30, "+switch-master", &replica.port.to_string());
}
