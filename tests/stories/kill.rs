//! The master is killed by `kill -9`: once with its return, and three times in a row.

use std::time::{Duration, Instant};

use crate::support::group::{Group, Plan};
use crate::support::node::Nodes;
use crate::support::writer::{Write, Writer, missing};

over_both_nodes!(the_master_is_killed_and_returns, three_failovers_in_a_row);

/// Replication is asynchronous: what was acknowledged so shortly before a kill may be lost.
const MAY_BE_LOST: Duration = Duration::from_secs(1);

fn the_master_is_killed_and_returns(nodes: Nodes) {
    let mut group = Plan::over(nodes).alone().start();
    let writer = Writer::start(&group.sentinel_ports());
    writer.wait_for_more(200);
    let old = group.watch.master;
    let killed = Instant::now();
    let new = kill_and_watch(&mut group, &writer, old, nodes);

    group.node(old).restart();
    group.wait_until_they_follow(new, &group.ports_but(new), 30);
    group.wait_until_known();

    // All sentinels told their clients, once each and with the same words.
    let words = format!("mymaster 127.0.0.1 {old} 127.0.0.1 {new}");
    for sentinel in group.sentinel_ports() {
        let heard = group.events.since(killed, "+switch-master");
        let own: Vec<_> = heard.iter().filter(|h| h.by == sentinel).collect();
        assert_eq!(own.len(), 1, "sentinel {sentinel} announces the switch once: {own:?}");
        assert_eq!(own[0].text, words);
    }
    assert_kept(new, &writer.stop(), &[(killed, old)]);
}

fn three_failovers_in_a_row(nodes: Nodes) {
    let mut group = Plan::over(nodes).start();
    let writer = Writer::start(&group.sentinel_ports());
    let mut master = group.watch.master;
    let mut kills = Vec::new();
    for _ in 0..3 {
        writer.wait_for_more(50);
        let old = master;
        kills.push((Instant::now(), old));
        master = kill_and_watch(&mut group, &writer, old, nodes);
        group.node(old).restart();
        group.wait_until_they_follow(master, &group.ports_but(master), 30);
        group.wait_until_known();
    }
    let epochs = |group: &Group| -> Vec<_> {
        group.sentinels.iter().map(|s| s.master("config-epoch")).collect()
    };
    let mut agreed = epochs(&group);
    agreed.dedup();
    assert_eq!(agreed.len(), 1, "all sentinels agree on the configuration epoch");
    assert_kept(master, &writer.stop(), &kills);
}

/// Kills the master, waits for the next one with everybody behind it, and prints the stages.
fn kill_and_watch(group: &mut Group, writer: &Writer, old: u16, nodes: Nodes) -> u16 {
    let killed = Instant::now();
    group.node(old).kill9();
    let write = writer.first_elsewhere(old, killed, 30);
    let new = group.wait_for_new_master(old, 30);
    let left: Vec<u16> = group.ports_but(new).into_iter().filter(|p| *p != old).collect();
    group.wait_until_they_follow(new, &left, 30);

    let mut told = format!("kill -9 over {nodes:?} nodes, ms since the kill:");
    for event in ["+sdown", "+odown", "+elected-leader", "+promoted-slave", "+switch-master"] {
        let at = group.ms_until(killed, event, "mymaster");
        told += &format!(" {event} {}", at.map_or("never".into(), |ms| ms.to_string()));
    }
    let down = group.events.wait(killed, 1, "+sdown", "master mymaster").at;
    let accepted = (write.at - killed).as_millis();
    let from_down = write.at.saturating_duration_since(down);
    println!("{told}, first accepted write {accepted}; from +sdown {} ms", from_down.as_millis());
    assert!(from_down < Duration::from_secs(10), "SDOWN to first write took {from_down:?}");
    new
}

/// Every acknowledged write is on the master, but for those that a master gave in the last moment
/// before it was killed.
fn assert_kept(master: u16, writes: &[Write], kills: &[(Instant, u16)]) {
    let must_stay = |w: &&Write| {
        let last_moment = |(kill, port): &(Instant, u16)| {
            let apart = if w.at > *kill { w.at - *kill } else { *kill - w.at };
            w.by == *port && apart < MAY_BE_LOST
        };
        !kills.iter().any(last_moment)
    };
    let certain: Vec<Write> = writes.iter().filter(must_stay).copied().collect();
    let lost = missing(master, writes);
    println!("{} writes acknowledged, {} lost at the kills", writes.len(), lost.len());
    assert_eq!(missing(master, &certain), Vec::<u64>::new(), "writes lost that were replicated");
}
