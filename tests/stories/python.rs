//! A client that nobody here wrote: redis-py's Sentinel, in a loop that knows nothing of failovers.

use std::time::Instant;

use crate::support::group::Plan;
use crate::support::node::{Node, Nodes};
use crate::support::process::Process;
use crate::support::python::{RedisPy, script};
use crate::support::sentinel::GROUP;
use crate::support::wait::wait_until;

over_both_nodes!(redis_py_5_follows_a_kill, redis_py_8_follows_a_kill);

fn redis_py_5_follows_a_kill(nodes: Nodes) {
    follow(nodes, RedisPy::Resp2);
}

fn redis_py_8_follows_a_kill(nodes: Nodes) {
    follow(nodes, RedisPy::Resp3);
}

fn follow(nodes: Nodes, version: RedisPy) {
    let mut group = Plan::over(nodes).start();
    let mut client = Follower::start(version, &group.sentinel_ports());
    client.wait_for_more(50);
    let old = group.watch.master;
    let before = client.acknowledged();
    let killed = Instant::now();
    group.node(old).kill9();
    let new = group.wait_for_new_master(old, 30);
    client.wait_for_more(50);
    println!("{version:?} over {nodes:?} writes again after {:?}", killed.elapsed());

    let acknowledged = client.stop();
    let lost = group.node(new).missing_of(&acknowledged);
    println!("{} acknowledged, {} lost at the kill", acknowledged.len(), lost.len());
    // Replication is asynchronous, so only the last moment before the kill may be lost.
    let last = *before.last().expect("it wrote before the kill");
    let moment = last.saturating_sub(20)..last + 20;
    assert!(lost.iter().all(|n| moment.contains(n)), "killed after {last}, lost: {lost:?}");
}

/// follow.py as a process; its log tells what was acknowledged.
pub(crate) struct Follower {
    process: Process,
    _dir: tempfile::TempDir,
}

impl Follower {
    pub(crate) fn start(version: RedisPy, sentinels: &[u16]) -> Follower {
        let dir = tempfile::Builder::new().prefix("client-").tempdir().expect("a folder");
        let ports: Vec<String> = sentinels.iter().map(u16::to_string).collect();
        let script = script("follow.py");
        let mut args = vec![script.as_str(), GROUP];
        args.extend(ports.iter().map(String::as_str));
        let process = Process::start("follow.py", &version.interpreter(), &args, dir.path());
        Follower { process, _dir: dir }
    }

    /// Numbers of the acknowledged writes, in order.
    pub(crate) fn acknowledged(&self) -> Vec<u64> {
        let log = self.process.log();
        log.lines().filter_map(|line| line.strip_prefix("ack ")?.parse().ok()).collect()
    }

    #[track_caller]
    pub(crate) fn wait_for_more(&mut self, count: usize) {
        let enough = self.acknowledged().len() + count;
        wait_until(30, "follow.py writes", || {
            assert!(self.process.exit().is_none(), "follow.py gave up:\n{}", self.process.log());
            self.acknowledged().len() >= enough
        });
    }

    pub(crate) fn stop(mut self) -> Vec<u64> {
        self.process.kill9();
        self.acknowledged()
    }
}

impl Node {
    /// The numbers whose key `py:<number>` this node lacks.
    pub(crate) fn missing_of(&self, numbers: &[u64]) -> Vec<u64> {
        let mut client = self.client();
        let mut lacks = |n: &u64| {
            let reply = client.call(&["GET", &format!("py:{n}")]).expect("the node answers");
            reply.text() != n.to_string()
        };
        numbers.iter().filter(|n| lacks(n)).copied().collect()
    }
}
