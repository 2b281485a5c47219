//! The masters of two groups swap their addresses while they run, as when containers change
//! networks: each then answers where the other was.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::client::ask;
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::{holds_for, wait_until};

/// A port that leads to a node, and later to another one. Ends with the test's process.
struct Door {
    port: u16,
    target: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Door {
    fn to(target: u16) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (target, open) = (Arc::new(AtomicU16::new(target)), Arc::new(Mutex::new(Vec::new())));
        let door = Door { port, target: target.clone(), open: open.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let node = TcpStream::connect(("127.0.0.1", target.load(Ordering::SeqCst)));
                let Ok(node) = node else { continue };
                for (mut from, mut to) in [(&stream, &node), (&node, &stream)]
                    .map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()))
                {
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                        let _ = from.shutdown(Shutdown::Both);
                    });
                }
                open.lock().expect("whole").extend([stream, node]);
            }
        });
        door
    }

    /// Whoever came through is thrown out; whoever comes now finds the other node.
    fn leads_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
        for stream in self.open.lock().expect("whole").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A group of a master behind a door, and a replica that follows it through that.
struct House {
    name: &'static str,
    door: Door,
    master: Node,
    replica: Node,
}

impl House {
    fn new(name: &'static str) -> House {
        let quick = "repl-diskless-sync-delay 0";
        let master = Node::start(Nodes::Redis, &[quick]);
        let door = Door::to(master.port);
        let replica = Node::replica_of(Nodes::Redis, door.port, &[quick]);
        master.call(&["SET", "whose", name]);
        wait_until(20, "the replica follows", || replica.follows(door.port));
        House { name, door, master, replica }
    }

    fn entry(&self, sentinel: &Sentinel, field: &str) -> String {
        let entry = sentinel.call(&["SENTINEL", "MASTER", self.name]);
        entry.field(field).unwrap_or_default()
    }

    /// Its nodes hold its own data, and one of them follows the other.
    fn is_well(&self, sentinels: &[Sentinel]) -> bool {
        let holds = |node: &Node| {
            ask(node.port, &["GET", "whose"]).is_some_and(|whose| whose.text() == self.name)
        };
        let roles = [&self.master, &self.replica].map(|node| node.replication("role"));
        let linked = [&self.master, &self.replica]
            .iter()
            .any(|node| node.replication("master_link_status").as_deref() == Some("up"));
        let named = |sentinel: &Sentinel| self.entry(sentinel, "flags") == "master";
        holds(&self.master)
            && holds(&self.replica)
            && linked
            && roles.iter().flatten().filter(|role| *role == "master").count() == 1
            && sentinels.iter().all(named)
    }
}

#[test]
fn each_group_keeps_its_own_data_through_a_swap_and_back() {
    let _slot = slots::one();
    let houses = [House::new("first"), House::new("second")];
    let [first, second] = &houses;
    let start = |_| {
        Sentinel::start_with(Program::Watchfire, "sentinel.conf", |port, dir| {
            let own = Watch::of(first.door.port).config(Syntax::Conf, port, dir);
            let other = Watch::of(second.door.port).config(Syntax::Conf, port, dir);
            let groups = |text: &str, name: &str| -> String {
                let lines = text.lines().filter(|line| line.starts_with("sentinel "));
                lines.map(|line| line.replace("mymaster", name) + "\n").collect()
            };
            let common = own.lines().filter(|line| !line.starts_with("sentinel "));
            let common: String = common.map(|line| line.to_owned() + "\n").collect();
            common + &groups(&own, first.name) + &groups(&other, second.name)
        })
    };
    let mut sentinels: Vec<Sentinel> = (0..3).map(start).collect();
    let known = |house: &House, sentinel: &Sentinel| {
        house.entry(sentinel, "num-slaves") == "1"
            && house.entry(sentinel, "num-other-sentinels") == "2"
            && house.entry(sentinel, "runid").len() == 40
            && sentinel.call(&["SENTINEL", "CKQUORUM", house.name]).text().starts_with("OK 3")
    };
    wait_until(30, "all know both groups", || {
        sentinels.iter().all(|sentinel| houses.iter().all(|house| known(house, sentinel)))
    });
    wait_until(30, "all is well", || houses.iter().all(|house| house.is_well(&sentinels)));

    first.door.leads_to(second.master.port);
    second.door.leads_to(first.master.port);
    wait_until(40, "each sentinel says so of both", || {
        sentinels.iter_mut().all(|sentinel| {
            let log = sentinel.process().log();
            houses.iter().all(|house| {
                log.contains(&format!("127.0.0.1:{} is another group's node", house.door.port))
            })
        })
    });
    wait_until(20, "and calls both down", || {
        sentinels.iter_mut().all(|sentinel| {
            let log = sentinel.process().log();
            houses.iter().all(|house| {
                log.contains(&format!("+sdown master {} 127.0.0.1 {}", house.name, house.door.port))
            })
        })
    });
    // Time for elections, and for what may come of them.
    holds_for(Duration::from_secs(5), "neither master is sent anywhere", || {
        houses.iter().all(|house| house.master.replication("role").as_deref() == Some("master"))
    });
    first.door.leads_to(first.master.port);
    second.door.leads_to(second.master.port);
    wait_until(60, "each group has its own data again", || {
        houses.iter().all(|house| house.is_well(&sentinels))
    });
}
