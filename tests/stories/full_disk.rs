//! A sentinel whose disk is full goes on watching, votes for nobody, and recovers.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::group::Plan;
use crate::support::node::{Node, Nodes};
use crate::support::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::{holds_for, wait_until};

/// Lets no file of this process grow above so many bytes, which is how a full disk looks to it.
fn limit(sentinel: &mut Sentinel, bytes: &str) {
    let pid = sentinel.process().pid().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(set.expect("prlimit is part of util-linux").success());
}

/// The epoch of the last vote that is on disk.
fn voted(sentinel: &Sentinel) -> String {
    let text = std::fs::read_to_string(sentinel.file()).expect("its file can be read");
    let line = text.lines().find(|line| line.starts_with("sentinel leader-epoch"));
    line.expect("it is always written").to_owned()
}

#[test]
fn it_watches_on_and_votes_for_nobody_until_there_is_room() {
    if Program::under_test() == Program::Redis {
        return; // It votes all the same.
    }
    let mut group = Plan::over(Nodes::Bundled).start();
    for sentinel in &mut group.sentinels[1..] {
        limit(sentinel, "1");
        let said = sentinel.call(&["SENTINEL", "FLUSHCONFIG"]);
        assert!(said.is_error() && said.text().contains("save config"), "{said}");
    }
    let votes: Vec<String> = group.sentinels[1..].iter().map(voted).collect();

    let (old, killed) = (group.watch.master, Instant::now());
    group.node(old).kill9();
    wait_until(10, "all of them see that the master is down", || {
        let down = |s: &Sentinel| s.master("flags").is_some_and(|flags| flags.contains("s_down"));
        group.sentinels.iter().all(down)
    });
    // Two of three cannot promise anything, so nobody is elected.
    holds_for(Duration::from_secs(5), "nobody is promoted", || {
        group.sentinels.iter().all(|s| s.master_port() == Some(old))
    });
    assert!(group.events.since(killed, "+elected-leader").is_empty());
    assert_eq!(group.sentinels[1..].iter().map(voted).collect::<Vec<_>>(), votes);

    limit(&mut group.sentinels[1], "unlimited");
    let two = |group: &crate::support::group::Group| {
        let named = |s: &Sentinel| s.master_port();
        let new = named(&group.sentinels[0])?;
        (new != old && named(&group.sentinels[1]) == Some(new)).then_some(new)
    };
    wait_until(40, "two of three are enough", || two(&group).is_some());
    let new = two(&group).expect("just seen");
    limit(&mut group.sentinels[2], "unlimited");
    wait_until(20, "the third one writes and names the new master, too", || {
        group.sentinels[2].master_port() == Some(new)
            && group.sentinels[2].call(&["SENTINEL", "FLUSHCONFIG"]).text() == "OK"
    });
    let text = std::fs::read_to_string(group.sentinels[2].file()).expect("its file");
    assert!(text.contains(&format!("sentinel monitor {GROUP} 127.0.0.1 {new} 2")), "{text}");
}

#[test]
fn it_starts_on_a_full_disk_and_answers() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Bundled, &[]);
    for syntax in [Syntax::Conf, Syntax::Yaml] {
        let watch = Watch::of(node.port);
        let mut sentinel = Sentinel::start(Program::Watchfire, syntax, &watch);
        let id = sentinel.id();
        sentinel.process().terminate();
        let file = sentinel.file().to_str().expect("a plain name").to_owned();
        let program = Program::Watchfire.path();
        let limited = ["--fsize=1:unlimited", program, "sentinel", &file];
        sentinel.process().becomes("prlimit", &limited);
        sentinel.restart();
        assert_eq!((sentinel.id(), sentinel.master_port()), (id.clone(), Some(node.port)));
        let quorum = sentinel.call(&["SENTINEL", "CKQUORUM", GROUP]).text();
        assert!(quorum.contains("its state cannot be written"), "{syntax:?}: {quorum}");
        assert!(sentinel.call(&["SENTINEL", "FLUSHCONFIG"]).is_error(), "{syntax:?}");
        limit(&mut sentinel, "unlimited");
        wait_until(20, &format!("it recovers ({syntax:?})"), || {
            sentinel.call(&["SENTINEL", "FLUSHCONFIG"]).text() == "OK"
        });
        assert_eq!(sentinel.id(), id);
    }
}
