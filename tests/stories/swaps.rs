//! The masters of two groups change places while they run, as where two containers get each other's
//! address: each answers as a master, with the data of the other group. Ports of the test lead to
//! them, and from one moment on to the other one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::client::ask;
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{Program, Sentinel};
use crate::support::slots;
use crate::support::wait::{holds_for, wait_until};

over_both_nodes!(masters_that_change_places_keep_their_data);

const GROUPS: [&str; 2] = ["ours", "theirs"];

/// A port that leads to a node, as an address does that can be given to another.
struct Door {
    port: u16,
    state: Arc<Mutex<Behind>>,
}

struct Behind {
    port: u16,
    open: Vec<TcpStream>,
}

impl Door {
    fn open() -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(Mutex::new(Behind { port: 0, open: Vec::new() }));
        let behind = state.clone();
        // It ends with the test's process; nobody waits for it.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut behind = behind.lock().expect("no thread panics with it");
                let to = SocketAddr::from(([127, 0, 0, 1], behind.port));
                let Ok(other) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) else {
                    continue;
                };
                for (from, to) in [(&stream, &other), (&other, &stream)] {
                    let ends = [from, to].map(|end| end.try_clone().expect("a descriptor"));
                    behind.open.extend([from, to].map(|end| end.try_clone().expect("one more")));
                    thread::spawn(move || pass_on(ends));
                }
            }
        });
        Door { port, state }
    }

    /// From now on it leads to this port; whoever came through it before is cut off.
    fn lead_to(&self, port: u16) {
        let mut behind = self.state.lock().expect("no thread panics with it");
        behind.port = port;
        for stream in behind.open.drain(..) {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass_on([mut from, mut to]: [TcpStream; 2]) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n) = from.read(&mut buffer)
        && n > 0
        && to.write_all(&buffer[..n]).is_ok()
    {}
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// A master behind a door, and a replica that knows it by that.
struct Pair {
    door: Door,
    master: Node,
    replica: Node,
}

impl Pair {
    fn start(nodes: Nodes, owner: &str) -> Pair {
        let door = Door::open();
        let announced = format!("replica-announce-port {}", door.port);
        let master = Node::start(nodes, &[&announced]);
        door.lead_to(master.port);
        let replica = Node::replica_of(nodes, door.port, &[]);
        master.call(&["SET", "owner", owner]);
        let pair = Pair { door, master, replica };
        wait_until(20, "the replica has the data", || {
            pair.replica.follows(pair.door.port) && owner_of(&pair.replica) == owner
        });
        pair
    }

    /// One is the master and the other one follows, with this owner's data.
    fn is_well(&self, owner: &str) -> bool {
        let roles = [&self.master, &self.replica].map(|node| node.replication("role"));
        let follows = match roles.each_ref().map(|role| role.as_deref()) {
            [Some("master"), Some("slave")] => self.replica.follows(self.door.port),
            [Some("slave"), Some("master")] => self.master.follows(self.replica.port),
            _ => false,
        };
        follows && [&self.master, &self.replica].iter().all(|node| owner_of(node) == owner)
    }
}

/// Whose data a node holds.
fn owner_of(node: &Node) -> String {
    ask(node.port, &["GET", "owner"]).map_or_else(String::new, |reply| reply.text())
}

/// A field of what a sentinel says of the master of a group.
fn master(sentinel: &Sentinel, group: &str, field: &str) -> String {
    let entry = ask(sentinel.port, &["SENTINEL", "MASTER", group]);
    entry.and_then(|entry| entry.field(field)).unwrap_or_default()
}

fn masters_that_change_places_keep_their_data(nodes: Nodes) {
    let _slot = slots::one();
    let pairs = GROUPS.map(|owner| Pair::start(nodes, owner));
    let doors = pairs.each_ref().map(|pair| pair.door.port);
    let config = |port: u16, dir: &std::path::Path| {
        let groups = GROUPS.iter().zip(doors).map(|(group, door)| {
            format!(
                "sentinel monitor {group} 127.0.0.1 {door} 2\n\
                 sentinel down-after-milliseconds {group} 1000\n\
                 sentinel failover-timeout {group} 6000\n"
            )
        });
        let groups: String = groups.collect();
        format!("port {port}\nbind 127.0.0.1\ndir {}\n{groups}", dir.display())
    };
    let start = |_| Sentinel::start_with(Program::under_test(), "sentinel.conf", config);
    let mut sentinels: Vec<Sentinel> = (0..3).map(start).collect();
    wait_until(30, "all see the replicas, and each other", || {
        sentinels.iter().all(|sentinel| {
            GROUPS.iter().all(|group| {
                master(sentinel, group, "num-other-sentinels") == "2"
                    && master(sentinel, group, "num-slaves") == "1"
                    && master(sentinel, group, "flags") == "master"
            })
        })
    });

    let [ours, theirs] = &pairs;
    ours.door.lead_to(theirs.master.port);
    theirs.door.lead_to(ours.master.port);
    // Each group knows that this is not its master: it is down, or a replica took its place.
    let knows = |sentinel: &Sentinel, (group, door): (&&str, u16)| {
        master(sentinel, group, "flags").contains("s_down")
            || master(sentinel, group, "port") != door.to_string()
    };
    wait_until(20, "all sentinels know the strangers", || {
        let of_all = |s: &Sentinel| GROUPS.iter().zip(doors).all(|of| knows(s, of));
        sentinels.iter().all(of_all)
    });
    // Nobody makes a replica of them, so their data stay.
    holds_for(Duration::from_secs(12), "both masters keep their data", || {
        [ours, theirs].iter().zip(GROUPS).all(|(pair, owner)| {
            pair.master.replication("role").as_deref() == Some("master")
                && owner_of(&pair.master) == owner
        })
    });
    // A replica that had copied the other group's data by then was not made a master.
    for (pair, owner) in pairs.iter().zip(GROUPS) {
        let promoted = pair.replica.replication("role").as_deref() == Some("master");
        println!("{owner} over {nodes:?}: replica promoted: {promoted}");
        assert!(!promoted || owner_of(&pair.replica) == owner, "{owner}");
    }

    ours.door.lead_to(ours.master.port);
    theirs.door.lead_to(theirs.master.port);
    wait_until(60, "both groups are well again, with their own data", || {
        let flags = |s: &Sentinel| GROUPS.iter().all(|group| master(s, group, "flags") == "master");
        pairs.iter().zip(GROUPS).all(|(pair, owner)| pair.is_well(owner))
            && sentinels.iter().all(flags)
    });
    for sentinel in &mut sentinels {
        let log = sentinel.process().log();
        for group in GROUPS {
            let words = format!("is not the master of {group} any more");
            assert_eq!(log.matches(&words).count(), 1, "{group}:\n{log}");
        }
    }
}
