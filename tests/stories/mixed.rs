//! Watchfire and Redis's own sentinel side by side in one quorum: they find each other, agree that
//! the master is down, elect either kind, and adopt what the other kind has decided.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Reply};
use crate::support::group::{Group, Plan};
use crate::support::node::Nodes;
use crate::support::sentinel::Program::{Redis, Watchfire};
use crate::support::sentinel::{GROUP, Program};
use crate::support::wait::wait_for;

over_both_nodes!(one_of_three_is_ours, two_of_three_are_ours, three_of_five_are_ours);

// The quorum is always such that neither kind reaches it without the other.

fn one_of_three_is_ours(nodes: Nodes) {
    live_together(nodes, &[Watchfire, Redis, Redis], 3);
}

fn two_of_three_are_ours(nodes: Nodes) {
    live_together(nodes, &[Watchfire, Watchfire, Redis], 3);
}

fn three_of_five_are_ours(nodes: Nodes) {
    live_together(nodes, &[Watchfire, Watchfire, Watchfire, Redis, Redis], 4);
}

/// Redis's sentinel reconnects no sooner than 1 s after a switch, so a shorter time lets it see the
/// new master down at once.
const DOWN_AFTER_MS: u64 = 2_500;

fn live_together(nodes: Nodes, programs: &[Program], quorum: u32) {
    let plan = Plan::over(nodes).sentinels(programs).quorum(quorum).quick_syncs();
    let group = plan.down_after_ms(DOWN_AFTER_MS).start();
    let mut mixed = Mixed { group, programs: programs.to_vec(), failovers: 0, epoch: 0 };
    let mut led = BTreeSet::new();

    let by = mixed.kill_the_master();
    println!("{programs:?} over {nodes:?}, quorum {quorum}: agreed; {by:?} was elected");
    led.insert(format!("{by:?}"));
    for (at, program) in programs.iter().enumerate() {
        if led.insert(format!("{program:?}")) {
            mixed
                .is_first_to_see(at, quorum, |mixed| assert_eq!(mixed.kill_the_master(), *program));
        }
    }
    for program in [Watchfire, Redis] {
        let at = programs.iter().position(|p| *p == program).expect("both kinds are there");
        mixed.switch_at(at);
    }
    println!("{programs:?} over {nodes:?}: {} failovers, 0 others", mixed.failovers);
}

struct Mixed {
    group: Group,
    programs: Vec<Program>,
    /// How many failovers there were.
    failovers: usize,
    /// That of the last configuration.
    epoch: u64,
}

impl Mixed {
    /// Kills the master, waits until all is well again, and tells what kind of sentinel led.
    fn kill_the_master(&mut self) -> Program {
        let (began, old) = (Instant::now(), self.group.agreed_master().expect("one master"));
        self.group.node(old).kill9();
        let by = self.all_adopt(began, old);
        self.group.node(old).restart();
        self.all_well();
        by
    }

    /// Has one sentinel move the master, and waits until all is well again.
    fn switch_at(&mut self, at: usize) {
        let (began, old) = (Instant::now(), self.group.agreed_master().expect("one master"));
        let asked = self.group.sentinels[at].call(&["SENTINEL", "FAILOVER", GROUP]);
        assert_eq!(asked, Reply::Simple("OK".into()));
        assert_eq!(self.all_adopt(began, old), self.programs[at], "it was asked");
        self.all_well();
    }

    /// During `story` one sentinel sees the master down long before the others, and needs nobody
    /// else to be sure; but it needs their votes.
    fn is_first_to_see(&mut self, first: usize, quorum: u32, story: impl FnOnce(&mut Mixed)) {
        let (usual, all) = (DOWN_AFTER_MS.to_string(), quorum.to_string());
        for (at, sentinel) in self.group.sentinels.iter().enumerate() {
            let (time, needed) = if at == first { (&usual[..], "1") } else { ("600000", &all[..]) };
            set(sentinel.port, time, needed);
        }
        story(self);
        for sentinel in &self.group.sentinels {
            set(sentinel.port, &usual, &all);
        }
    }

    /// Every sentinel announces one and the same switch, once; who led it.
    fn all_adopt(&mut self, began: Instant, old: u16) -> Program {
        let new = self.group.wait_for_new_master(old, 60);
        self.failovers += 1;
        let switch = format!("{GROUP} 127.0.0.1 {old} 127.0.0.1 {new}");
        for (port, program) in self.group.sentinel_ports().into_iter().zip(&self.programs) {
            let said = wait_for(30, &format!("{program:?} announces the switch"), || {
                let heard = self.group.events.since(began, "+switch-master");
                let own = heard.into_iter().filter(|h| h.by == port);
                let own: Vec<String> = own.map(|h| h.text).collect();
                (!own.is_empty()).then_some(own)
            });
            assert_eq!(said, std::slice::from_ref(&switch), "{program:?} on {port}");
        }
        // On a slow disk a leader may give up, and another election follows; one promotes.
        let promoted = self.group.events.since(began, "+promoted-slave");
        let [leader] = &promoted[..] else { panic!("one leader promotes: {promoted:?}") };
        let at = self.group.sentinels.iter().position(|s| s.port == leader.by);
        self.programs[at.expect("a sentinel of this group")]
    }

    /// All nodes follow one master, all sentinels see everybody, and agree on its epoch, which is
    /// a new one.
    fn all_well(&mut self) {
        let master = self.group.agreed_master().expect("one master");
        self.group.wait_until_they_follow(master, &self.group.ports_but(master), 60);
        self.group.wait_until_seen();
        let before = self.epoch;
        self.epoch = wait_for(10, "every sentinel has the configuration of one epoch", || {
            let epochs = self.group.sentinels.iter().map(|s| s.master("config-epoch"));
            let mut epochs: Vec<String> = epochs.collect::<Option<_>>()?;
            epochs.dedup();
            let epoch = epochs[0].parse().expect("a number");
            (epochs.len() == 1 && epoch > before).then_some(epoch)
        });
    }
}

fn set(sentinel: u16, down_after_ms: &str, quorum: &str) {
    let words = ["SENTINEL", "SET", GROUP, "down-after-milliseconds", down_after_ms];
    let words = [&words[..], &["quorum", quorum]].concat();
    // It is saved before the reply comes, and disks may be busy.
    let client = Client::connect_with(sentinel, Duration::from_secs(20));
    let said = client.and_then(|mut client| client.call(&words));
    assert_eq!(said.expect("the sentinel answers"), Reply::Simple("OK".into()));
}
