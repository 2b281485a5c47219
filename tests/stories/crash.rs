//! A sentinel is killed at random moments of a failover. It comes back as the same sentinel: id,
//! epochs that never go back, its votes, the nodes and sentinels that it knew. One that watches
//! many groups is killed while an operator changes them, and has all that it said OK to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::support::client::Client;
use crate::support::events::Heard;
use crate::support::group::{Group, Plan};
use crate::support::node::Nodes;
use crate::support::sentinel::{GROUP, Program, Sentinel};
use crate::support::wait::wait_until;

over_both_nodes!(a_sentinel_killed_at_any_moment_comes_back_the_same);

/// Failovers per story; each has another sentinel killed at another moment.
const ROUNDS: usize = 4;

fn a_sentinel_killed_at_any_moment_comes_back_the_same(nodes: Nodes) {
    let replicas: Vec<&[&'static str]> = vec![&[]; ROUNDS + 1];
    let mut group = Plan::over(nodes).replicas(&replicas).start();
    let ids: Vec<String> = group.sentinels.iter().map(Sentinel::id).collect();
    let mut master = group.watch.master;
    for round in 0..ROUNDS {
        let victim = round % group.sentinels.len();
        let before = OnDisk::read(&group.sentinels[victim]);
        let killed = Instant::now();
        group.node(master).kill9();
        group.events.wait(killed, 20, "+sdown", "master ");
        // The moment is what this story varies: from the first SDOWN to after the promotion.
        let moment = Duration::from_millis(rand::rng().random_range(0..700));
        std::thread::sleep(moment);
        group.sentinels[victim].kill9();
        println!("round {round}: sentinel {victim} killed {moment:?} after +sdown");

        let left = OnDisk::read(&group.sentinels[victim]);
        assert_eq!(left.id, ids[victim]);
        assert!(left.current_epoch >= before.current_epoch, "epoch went back on disk");
        assert!(left.config_epoch >= before.config_epoch, "config epoch went back on disk");
        let votes = votes_of(&group, victim);
        if let Some(spoken) = votes.last() {
            assert!(left.leader_epoch >= *spoken, "voted in {spoken}, on disk: {left:?}");
            assert!(left.current_epoch >= *spoken, "voted in {spoken}, on disk: {left:?}");
        }

        group.sentinels[victim].restart();
        let sentinel = &group.sentinels[victim];
        assert_eq!(sentinel.id(), ids[victim]);
        assert_eq!(sentinel.master("num-slaves"), Some((ROUNDS + 1).to_string()));
        assert_eq!(sentinel.master("num-other-sentinels").as_deref(), Some("2"));

        let old = master;
        master = group.wait_for_new_master(old, 60);
        wait_until(30, "all sentinels have the same configuration epoch", || {
            let mut epochs: Vec<_> =
                group.sentinels.iter().map(|s| s.master("config-epoch")).collect();
            epochs.dedup();
            epochs.len() == 1
        });
        let all = group.events.all();
        let twice = voted_twice(&all);
        assert!(twice.is_none(), "two votes in one epoch: {twice:?}");
    }
}

/// So many that each change is a record in the journal beside the file.
const MANY: u64 = 120;

#[test]
fn a_sentinel_of_many_groups_killed_at_any_moment_has_what_it_said_ok_to() {
    let mut sentinel = Sentinel::start_with(Program::Watchfire, "sentinel.conf", |port, dir| {
        let groups = (1..=MANY).map(|n| format!("sentinel monitor g{n} 127.0.0.1 {n} 2\n"));
        format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n{}",
            dir.display(),
            groups.collect::<String>()
        )
    });
    let journal = sentinel.file().with_extension("conf.journal");
    // The last value that was answered for each group, and the one under way.
    let mut said = BTreeMap::new();
    let mut value = 1_000;
    let mut changed = 0;
    for round in 0..6 {
        let port = sentinel.port;
        let begin = value;
        let operator = std::thread::spawn(move || change_until_it_dies(port, begin));
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(20..600)));
        sentinel.kill9();
        let (answered, open) = operator.join().expect("the operator is fine");
        changed += answered.len();
        let was_there = journal.exists();
        value = answered.last().map_or(value, |(_, last)| *last) + 2;
        said.extend(answered);
        sentinel.restart();
        for (group, value) in &mut said {
            let is = sentinel.call(&["SENTINEL", "MASTER", group]);
            let is = is.field("down-after-milliseconds").and_then(|ms| ms.parse().ok());
            // It was written, and the answer died with its process.
            let under_way = open.as_ref().filter(|(of, new)| of == group && Some(*new) == is);
            *value = under_way.map_or(*value, |(_, new)| *new);
            assert_eq!(is, Some(*value), "round {round}, {group}");
        }
        assert!(was_there || changed == 0, "round {round}: each change is in the journal");
    }
    assert!(changed > 50, "{changed} changes");
}

/// Those that were answered, and the last one, which was not.
type Answered = (Vec<(String, u64)>, Option<(String, u64)>);

/// Sets one group after the other to another value.
fn change_until_it_dies(port: u16, begin: u64) -> Answered {
    let mut client = Client::connect(port).expect("the sentinel is reachable");
    let mut answered = Vec::new();
    for value in begin.. {
        let group = format!("g{}", value % MANY + 1);
        let words = ["SENTINEL", "SET", &group, "down-after-milliseconds", &value.to_string()];
        match client.call(&words) {
            Ok(reply) if reply.text() == "OK" => answered.push((group, value)),
            Ok(reply) => panic!("{reply:?}"),
            Err(_) => return (answered, Some((group, value))),
        }
    }
    (answered, None)
}

/// Epochs in which a sentinel announced a vote.
fn votes_of(group: &Group, sentinel: usize) -> Vec<u64> {
    let port = group.sentinels[sentinel].port;
    let all = group.events.all();
    let own = all.iter().filter(|h| h.by == port && h.event == "+vote-for-leader");
    own.filter_map(|h| h.text.split(' ').nth(1)?.parse().ok()).collect()
}

/// Two votes of one sentinel for different leaders in the same epoch, if there are such.
fn voted_twice(all: &[Heard]) -> Option<(&Heard, &Heard)> {
    let votes: Vec<&Heard> = all.iter().filter(|h| h.event == "+vote-for-leader").collect();
    let epoch = |h: &Heard| h.text.split(' ').nth(1).map(str::to_owned);
    votes.iter().enumerate().find_map(|(at, one)| {
        let other = votes[at + 1..].iter().find(|other| {
            other.by == one.by && epoch(other) == epoch(one) && other.text != one.text
        });
        other.map(|other| (*one, *other))
    })
}

/// What a sentinel's file says about it.
#[derive(Debug)]
struct OnDisk {
    id: String,
    current_epoch: u64,
    config_epoch: u64,
    leader_epoch: u64,
}

impl OnDisk {
    fn read(sentinel: &Sentinel) -> OnDisk {
        let text = std::fs::read_to_string(sentinel.file()).expect("its file can be read");
        let value = |start: &str| -> String {
            let line = text.lines().find_map(|l| l.strip_prefix(start));
            line.unwrap_or_else(|| panic!("no '{start}' in:\n{text}")).trim().to_owned()
        };
        let epoch = |start: &str| value(start).parse().expect("an epoch is a number");
        OnDisk {
            id: value("sentinel myid "),
            current_epoch: epoch("sentinel current-epoch "),
            config_epoch: epoch(&format!("sentinel config-epoch {GROUP} ")),
            leader_epoch: epoch(&format!("sentinel leader-epoch {GROUP} ")),
        }
    }
}
