//! The main job on real input: 100,000 keys, a benchmark that writes all the time, a client that
//! knows nothing of failovers; the master is killed, frozen, and killed again.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::client::Reply;
use crate::support::follower::Follower;
use crate::support::group::{Group, Plan};
use crate::support::library::Library;
use crate::support::node::{Node, Nodes};
use crate::support::process::Process;

over_both_nodes!(a_hundred_thousand_keys_under_load);

/// Keys that are loaded before anything happens.
const KEYS: usize = 100_000;

fn a_hundred_thousand_keys_under_load(nodes: Nodes) {
    let mut group = Plan::over(nodes).alone().start();
    let mut master = group.watch.master;
    load(master);
    group.wait_until_they_follow(master, &group.ports_but(master), 30);
    let mut client = Follower::start(Library::RedisPy8, &group.sentinel_ports());
    client.wait_for_more(20);
    for fault in ["kill -9", "freeze", "kill -9"] {
        master = under_load(&mut group, &mut client, master, fault);
        assert_eq!(missing_keys(group.node(master)), 0, "keys lost by {fault}");
    }
    client.stop();
    let (acknowledged, lost) = (client.acks().len(), client.missing_on(group.node(master)).len());
    println!("{nodes:?}: redis-py: {acknowledged} writes acknowledged, {lost} lost");
    assert!(lost <= 60, "only what was acknowledged in the last moment before a fault may be lost");
}

/// One fault while redis-benchmark writes; returns the new master with all others behind it.
fn under_load(group: &mut Group, client: &mut Follower, old: u16, fault: &str) -> u16 {
    let mut load = Benchmark::start(old);
    client.wait_for_more(20);
    let began = Instant::now();
    match fault {
        "freeze" => group.node(old).process().freeze(),
        _ => group.node(old).kill9(),
    }
    let new = group.wait_for_new_master(old, 30);
    let agreed = began.elapsed().as_millis();
    client.wait_for_more(20);
    println!("{fault} under load: agreed after {agreed} ms, redis-py writes again");
    load.process.kill9();

    let _load = Benchmark::start(new);
    match fault {
        "freeze" => group.node(old).process().thaw(),
        _ => group.node(old).restart(),
    }
    group.wait_until_they_follow(new, &group.ports_but(new), 60);
    group.wait_until_known();
    new
}

/// redis-benchmark that writes until it is dropped or its node dies.
struct Benchmark {
    process: Process,
    _dir: tempfile::TempDir,
}

impl Benchmark {
    fn start(port: u16) -> Benchmark {
        let dir = tempfile::Builder::new().prefix("benchmark-").tempdir().expect("a folder");
        let port = port.to_string();
        let args = ["-p", &port, "-t", "set", "-c", "10", "-n", "100000000", "-r", "50000", "-q"];
        let process = Process::start("redis-benchmark", "redis-benchmark", &args, dir.path());
        Benchmark { process, _dir: dir }
    }
}

/// Loads the keys through redis-cli, as an operator would.
fn load(port: u16) {
    let mut cli = Command::new("redis-cli")
        .args(["-p", &port.to_string(), "--pipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed: tests/run does it");
    let mut input = cli.stdin.take().expect("stdin is piped");
    let mut text = String::new();
    for n in 0..KEYS {
        text += &format!("SET key:{n} value:{n}\r\n");
    }
    input.write_all(text.as_bytes()).expect("redis-cli reads");
    drop(input);
    let said = cli.wait_with_output().expect("redis-cli ends");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains(&format!("errors: 0, replies: {KEYS}")), "{said}");
}

/// How many of the loaded keys a node lacks or holds wrongly.
fn missing_keys(node: &Node) -> usize {
    let mut client = node.client();
    let mut missing = 0;
    for from in (0..KEYS).step_by(1_000) {
        let keys: Vec<String> = (from..from + 1_000).map(|n| format!("key:{n}")).collect();
        let mut words = vec!["MGET"];
        words.extend(keys.iter().map(String::as_str));
        let values = client.call(&words).expect("the node answers");
        assert_eq!(values.items().len(), 1_000, "{values}");
        let wrong = |(at, v): &(usize, &Reply)| v.text() != format!("value:{}", from + at);
        missing += values.items().iter().enumerate().filter(wrong).count();
    }
    missing
}
