//! Clients that nobody here wrote, over programs that know nothing of failovers: all at once
//! through a planned switch and through a `kill -9` of the master. Each keeps its subscriptions to
//! the sentinels, writes again, and hears the news of the new master.

use crate::support::client::{Reply, ask};
use crate::support::follower::{Ack, Follower, now_ms};
use crate::support::group::{Group, Plan};
use crate::support::library::Library;
use crate::support::node::Nodes;
use crate::support::sentinel::GROUP;

over_both_nodes!(every_client_follows_a_switch_and_a_kill);

/// Replication is asynchronous: what was acknowledged so shortly before a kill may be lost.
const MAY_BE_LOST_MS: u64 = 1_000;

fn every_client_follows_a_switch_and_a_kill(nodes: Nodes) {
    let mut group = Plan::over(nodes).quick_syncs().alone().start();
    let ports = group.sentinel_ports();
    let mut clients: Vec<Follower> =
        Library::ALL.iter().map(|library| Follower::start(*library, &ports)).collect();
    for client in &mut clients {
        client.wait_until_ready();
    }
    // Who listens to all events: the four that speak RESP3, the other seven, and our recorder.
    let listeners = group.sentinels[0].call(&["CLIENT", "LIST"]).text();
    let all = || listeners.lines().filter(|line| line.contains(" psub=1 "));
    let by = |resp| all().filter(|line| line.contains(&format!(" resp={resp}"))).count();
    assert_eq!((by(3), by(2)), (4, 8), "{listeners}");
    let first = group.watch.master;

    let switch = Fault::begin();
    let asked = group.sentinels[0].call(&["SENTINEL", "FAILOVER", GROUP]);
    assert_eq!(asked, Reply::Simple("OK".into()));
    let second = group.wait_for_new_master(first, 30);
    group.wait_until_they_follow(second, &group.ports_but(second), 30);
    let switch = switch.end(&mut clients, second);
    group.wait_until_seen();

    group.node(second).kill9();
    let kill = Fault::begin();
    let third = group.wait_for_new_master(second, 30);
    let kill = kill.end(&mut clients, third);

    for client in &mut clients {
        client.stop();
    }
    print_table(nodes, &mut group, &clients, third, [&switch, &kill]);
    for client in &clients {
        let name = client.library.name();
        assert_eq!(client.subscriptions_lost(), 0, "{name} lost a subscription:\n{}", client.log());
        for sentinel in &ports {
            let heard = client.events("+switch-master");
            let own = heard.iter().filter(|(_, port, _)| port == sentinel);
            let own: Vec<&str> = own.map(|(_, _, text)| text.as_str()).collect();
            let words = |from, to| format!("{GROUP} 127.0.0.1 {from} 127.0.0.1 {to}");
            assert_eq!(own, [words(first, second), words(second, third)], "{name}, {sentinel}");
        }
        let lost = client.missing_on(group.node(third));
        let certain = |a: &&Ack| !switch.may_lose(a) && !kill.may_lose(a);
        let certain: Vec<&Ack> = lost.iter().filter(certain).collect();
        assert!(certain.is_empty(), "{name} lost what was replicated: {certain:?}");
    }
}

/// A failover as the clients live it.
struct Fault {
    began_ms: u64,
    /// When every client wrote and heard again.
    over_ms: u64,
}

impl Fault {
    fn begin() -> Fault {
        Fault { began_ms: now_ms(), over_ms: u64::MAX }
    }

    /// Waits until every client writes, and hears what is published on the new master.
    fn end(self, clients: &mut [Follower], master: u16) -> Fault {
        for client in &mut *clients {
            client.wait_for_more(20);
        }
        let words = format!("news of {master}");
        let listeners = clients.iter_mut().filter(|client| client.library.follows_news());
        for client in listeners {
            client.wait_until("hears the news of the new master", |client| {
                let _ = ask(master, &["PUBLISH", "news", &words]);
                client.said("news").iter().any(|(_, text)| *text == words)
            });
        }
        Fault { over_ms: now_ms(), ..self }
    }

    /// Whether a write was acknowledged so near to the fault that it may be lost.
    fn may_lose(&self, ack: &Ack) -> bool {
        (self.began_ms - MAY_BE_LOST_MS..self.over_ms).contains(&ack.at_ms)
    }
}

fn print_table(
    nodes: Nodes,
    group: &mut Group,
    clients: &[Follower],
    master: u16,
    faults: [&Fault; 2],
) {
    println!("{nodes:?} nodes, down-after {} ms, 2 failovers each:", group.watch.down_after_ms);
    println!(
        "{:<14}{:>8}{:>7}{:>20}{:>20}{:>16}{:>16}",
        "client",
        "events",
        "acked",
        "pause ms (switch)",
        "pause ms (kill -9)",
        "lost (switch)",
        "lost (kill)"
    );
    for client in clients {
        let lost = client.missing_on(group.node(master));
        let [switch, kill] = faults.map(|fault| {
            let pause = client.longest_pause(fault.began_ms, fault.over_ms);
            (pause, lost.iter().filter(|ack| fault.may_lose(ack)).count())
        });
        println!(
            "{:<14}{:>8}{:>7}{:>20}{:>20}{:>16}{:>16}",
            client.library.name(),
            format!("{} lost", client.subscriptions_lost()),
            client.acks().len(),
            switch.0,
            kill.0,
            switch.1,
            kill.1
        );
        let anew = client.said("anew").len();
        if anew > 0 {
            println!("  {}: hung and was made anew, {anew} times", client.library.name());
        }
    }
}
