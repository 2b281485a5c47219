//! What a Prometheus exporter reads: the very commands that redis_exporter sends, one after the
//! other on one connection, and what it makes of the replies. Ours and redis-sentinel give the
//! same metrics for the same group, before a failover and after it.

use std::collections::BTreeMap;

use crate::support::client::{Client, Reply};
use crate::support::group::{Group, Plan};
use crate::support::node::Nodes;
use crate::support::sentinel::Program::{Redis, Watchfire};
use crate::support::wait::wait_until;

#[test]
fn an_exporter_reads_the_same_metrics_from_ours_and_from_redis() {
    let plan = Plan::over(Nodes::Redis).sentinels(&[Watchfire, Redis, Redis]).quick_syncs();
    let mut group = plan.down_after_ms(2_500).start();
    let old = group.watch.master;
    let [ours, theirs] = both(&group);
    assert_eq!(ours, theirs, "while all is well");
    let address = format!("127.0.0.1:{old}");
    let status = format!("sentinel_master_status{{mymaster,{address},ok}}");
    assert_eq!(ours.get(&status).map(String::as_str), Some("1"), "{ours:#?}");
    assert_eq!(ours.len(), 17, "{ours:#?}");

    group.node(old).kill9();
    let new = group.wait_for_new_master(old, 60);
    let replicas = format!("sentinel_master_ok_slaves{{mymaster,127.0.0.1:{new}}}");
    wait_until(30, "both see the old master down, and the same of all else", || {
        let [ours, theirs] = both(&group);
        ours.get(&replicas).map(String::as_str) == Some("1") && ours == theirs
    });

    // Without a quorum, CKQUORUM is an error and its text a label.
    group.sentinels[2].kill9();
    group.sentinels[1].process().freeze();
    let status = "sentinel_master_ckquorum_status";
    wait_until(30, "the exporter is told that no failover is possible", || {
        let metrics = scrape(group.sentinels[0].port);
        metrics.iter().any(|(name, value)| {
            name.starts_with(status) && name.contains("NOQUORUM 1 usable") && value == "0"
        })
    });
    group.sentinels[1].process().thaw();
}

/// The metrics from our sentinel and from the first one of Redis.
fn both(group: &Group) -> [BTreeMap<String, String>; 2] {
    [0, 1].map(|at| scrape(group.sentinels[at].port))
}

/// One scrape: metrics by name and labels. Ages and what else differs by its nature are left out.
fn scrape(port: u16) -> BTreeMap<String, String> {
    let mut client = Client::connect(port).expect("the sentinel is reachable");
    let mut ask = |words: &[&str]| client.call(words).expect("the connection stays");
    let mut metrics = BTreeMap::new();
    let mut put = |name: String, value: String| metrics.insert(name, value);

    assert_eq!(ask(&["PING"]), Reply::Simple("PONG".into()));
    assert_eq!(ask(&["CLIENT", "SETNAME", "redis_exporter"]), Reply::Simple("OK".into()));
    // What no sentinel has is an error to it, and it goes on.
    for words in [&["CONFIG", "GET", "*"][..], &["LATENCY", "LATEST"], &["SLOWLOG", "LEN"]] {
        assert!(ask(words).is_error(), "{words:?}");
    }
    let info = ask(&["INFO", "ALL"]).text();
    assert!(info.contains("# Sentinel"), "by this it knows a sentinel:\n{info}");
    let fields: BTreeMap<&str, &str> = info.lines().filter_map(|l| l.split_once(':')).collect();
    for label in ["redis_version", "redis_build_id", "os", "tcp_port", "run_id", "process_id"] {
        assert!(fields.get(label).is_some_and(|value| !value.is_empty()), "{label}:\n{info}");
    }
    for name in ["uptime_in_seconds", "connected_clients", "total_commands_processed"] {
        let number = fields.get(name).and_then(|value| value.parse::<f64>().ok());
        assert!(number.is_some(), "{name} is a number:\n{info}");
    }
    put("instance_info".into(), fields["redis_mode"].to_owned());
    for name in [
        "sentinel_masters",
        "sentinel_tilt",
        "sentinel_running_scripts",
        "sentinel_scripts_queue_length",
        "sentinel_simulate_failure_flags",
    ] {
        put(name.into(), fields[name].parse::<u64>().expect("a number").to_string());
    }
    // master0:name=mymaster,status=ok,address=127.0.0.1:7001,slaves=2,sentinels=3
    let parts = fields["master0"].split(',').map(|part| part.split_once('=').expect("key=value"));
    let row: BTreeMap<&str, &str> = parts.collect();
    let (name, status, address) = (row["name"], row["status"], row["address"]);
    let up = if status == "ok" { "1" } else { "0" };
    put(format!("sentinel_master_status{{{name},{address},{status}}}"), up.into());
    for count in ["slaves", "sentinels"] {
        put(format!("sentinel_master_{count}{{{name},{address}}}"), row[count].to_owned());
    }

    for master in ask(&["SENTINEL", "MASTERS"]).items() {
        let field = |field| master.field(field).unwrap_or_else(|| panic!("no {field}: {master}"));
        let labels = format!("{{{},{}:{}}}", field("name"), field("ip"), field("port"));
        let ckquorum = ask(&["SENTINEL", "CKQUORUM", &field("name")]);
        let ok = u8::from(!ckquorum.is_error()).to_string();
        let name = format!("sentinel_master_ckquorum_status{{{}}}", ckquorum.text());
        put(name, ok);
        for setting in [
            "quorum",
            "failover-timeout",
            "parallel-syncs",
            "down-after-milliseconds",
            "config-epoch",
        ] {
            let value = field(setting).parse::<u64>().expect("a number").to_string();
            put(format!("sentinel_master_setting_{setting}{labels}"), value);
        }
        let age: f64 = field("last-ok-ping-reply").parse().expect("a number of ms");
        assert!(age < 10_000.0, "a master that answers: {age} ms");
        let well = |all: Reply| {
            let flags = all.items().iter().map(|one| one.field("flags").expect("flags")).collect();
            let flags: Vec<String> = flags;
            flags.iter().filter(|f| !f.contains("s_down") && !f.contains("o_down")).count()
        };
        let peers = well(ask(&["SENTINEL", "SENTINELS", &field("name")])) + 1;
        put(format!("sentinel_master_ok_sentinels{labels}"), peers.to_string());
        let replicas = well(ask(&["SENTINEL", "SLAVES", &field("name")]));
        put(format!("sentinel_master_ok_slaves{labels}"), replicas.to_string());
    }
    metrics
}
