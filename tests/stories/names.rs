//! Nodes that are known by name, and a name server that stops answering.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::ask;
use crate::support::events::Recorder;
use crate::support::node::{Node, Nodes, start_on_free_port};
use crate::support::process::Process;
use crate::support::sentinel::{GROUP, Program};
use crate::support::slots;
use crate::support::wait::{holds_for, wait_until};

over_both_nodes!(a_name_server_that_hangs_costs_no_master);

/// A name server for the sentinels of one story: every name means 127.0.0.1, until it hangs.
struct NameServer {
    ip: String,
    hangs: Arc<AtomicBool>,
    /// Questions that came while it hung.
    unanswered: Arc<AtomicUsize>,
}

impl NameServer {
    /// `None` where we may not have the one port at which name servers are asked.
    fn start() -> Option<NameServer> {
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let (ip, socket) = (1..=250).find_map(|n| {
            let ip = format!("127.{n}.{high}.{low}");
            Some((ip.clone(), UdpSocket::bind((ip.as_str(), 53)).ok()?))
        })?;
        let (hangs, unanswered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let server = NameServer { ip, hangs: hangs.clone(), unanswered: unanswered.clone() };
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((count, from)) = socket.recv_from(&mut question) {
                if hangs.load(Ordering::SeqCst) {
                    unanswered.fetch_add(1, Ordering::SeqCst);
                } else {
                    let _ = socket.send_to(&answer(&question[..count]), from);
                }
            }
        });
        Some(server)
    }
}

/// The question, repeated, and one address if it asks for those of IPv4.
fn answer(question: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    const ADDRESS: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1];
    let name = question[HEADER..].iter().position(|byte| *byte == 0).expect("a name has an end");
    let end = HEADER + name + 1 + 4;
    let is_ipv4 = question[end - 4..end] == [0, 1, 0, 1];
    let mut reply = question[..end].to_vec();
    // An answer, no error; one question, so many answers, nothing more.
    reply[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
    reply.extend(ADDRESS.iter().filter(|_| is_ipv4));
    reply
}

/// A sentinel for which the machine's name server is another.
fn sentinel(names: &NameServer, master: u16, dir: &Path) -> (Process, u16) {
    let (conf, resolv, switch) =
        (dir.join("sentinel.conf"), dir.join("resolv.conf"), dir.join("nsswitch.conf"));
    let resolver = format!("nameserver {}\noptions timeout:30 attempts:5\n", names.ip);
    fs::write(&resolv, resolver).expect("a file");
    fs::write(&switch, "hosts: files dns\n").expect("a file");
    let script = "mount --bind resolv.conf /etc/resolv.conf && \
                  mount --bind nsswitch.conf /etc/nsswitch.conf && exec \"$@\"";
    let program = Program::under_test();
    let [first, second] = program.args(conf.to_str().expect("a plain name"));
    let args = ["-rm", "sh", "-c", script, "sh", program.path(), first, second];
    start_on_free_port("sentinel", "unshare", &args, dir, |port| {
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel resolve-hostnames yes\n\
             sentinel monitor {GROUP} one.test {master} 2\n\
             sentinel down-after-milliseconds {GROUP} 1000\n\
             sentinel failover-timeout {GROUP} 6000\n",
            dir.display()
        );
        fs::write(&conf, text).expect("a file");
    })
}

fn a_name_server_that_hangs_costs_no_master(nodes: Nodes) {
    let _slot = slots::one();
    let script = "mount --bind /dev/null /etc/resolv.conf";
    let probe = Command::new("unshare").args(["-rm", "sh", "-c", script]).output();
    let may_mount = probe.is_ok_and(|output| output.status.success());
    let Some(names) = NameServer::start().filter(|_| may_mount) else {
        println!("this system lets nobody mount or be a name server: not looked at");
        return;
    };
    let mut master = Node::start(nodes, &[]);
    let replicas = ["two.test", "three.test"].map(|name| {
        let announce = format!("replica-announce-ip {name}");
        Node::replica_of(nodes, master.port, &[&announce])
    });
    wait_until(20, "the replicas follow", || replicas.iter().all(|r| r.follows(master.port)));
    let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let mut sentinels: Vec<(Process, u16)> =
        dirs.iter().map(|dir| sentinel(&names, master.port, dir.path())).collect();
    let ports: Vec<u16> = sentinels.iter().map(|(_, port)| *port).collect();
    let events = Recorder::start(&ports);
    let field = |port, name| {
        let all = ask(port, &["SENTINEL", "MASTER", GROUP])?;
        all.field(name)
    };
    wait_until(30, "all know each other, and the replicas", || {
        ports.iter().all(|port| {
            field(*port, "num-other-sentinels").as_deref() == Some("2")
                && field(*port, "num-slaves").as_deref() == Some("2")
        })
    });

    names.hangs.store(true, Ordering::SeqCst);
    let hung = Instant::now();
    // The hellos come over the one connection that each has.
    let count =
        |node: &Node, what: &str| node.call(&["CLIENT", "LIST"]).text().matches(what).count();
    let connected = |node: &Node| count(node, "-cmd ") == 3 && count(node, " sub=1 ") == 3;
    for _ in 0..3 {
        for node in [&master, &replicas[0], &replicas[1]] {
            wait_until(10, "all sentinels are connected", || connected(node));
        }
        for node in [&master, &replicas[0], &replicas[1]] {
            node.call(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            node.call(&["CLIENT", "KILL", "TYPE", "normal"]);
        }
        let healthy = || {
            let heard = ["+sdown", "+odown", "+try-failover"].map(|e| events.since(hung, e));
            assert!(heard.iter().all(Vec::is_empty), "{heard:?}");
            true
        };
        holds_for(Duration::from_millis(1_500), "nobody is down", healthy);
    }
    assert!(names.unanswered.load(Ordering::SeqCst) > 0, "the name server was asked");

    let old = master.port;
    master.kill9();
    let new = |port: &u16| {
        let reply = ask(*port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP])?;
        let new: u16 = reply.items().get(1)?.text().parse().ok()?;
        (new != old).then_some(new)
    };
    wait_until(30, "all name one new master", || {
        let named: Vec<_> = ports.iter().map(new).collect();
        named[0].is_some() && named.iter().all(|port| *port == named[0])
    });
    for (process, _) in &mut sentinels {
        process.kill9();
    }
}
