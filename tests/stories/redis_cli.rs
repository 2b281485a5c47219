//! What scripts read through redis-cli: every way of printing, ours beside redis-sentinel's, and
//! the prompt, which asks for COMMAND DOCS first.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::group::Plan;
use crate::support::node::Nodes;
use crate::support::sentinel::GROUP;
use crate::support::sentinel::Program::{Redis, Watchfire};

#[test]
fn redis_cli_prints_the_same_of_ours_and_of_redis() {
    let plan = Plan::over(Nodes::Redis).sentinels(&[Watchfire, Redis, Redis]).quick_syncs();
    let group = plan.down_after_ms(2_500).start();
    let [ours, theirs] = [0, 1].map(|at| group.sentinels[at].port);
    let mut compared = 0;
    for how in [&[][..], &["-3"], &["--no-raw"], &["-3", "--no-raw"], &["--csv"], &["--json"]] {
        for words in [
            &["PING"][..],
            &["ROLE"],
            &["SENTINEL", "get-master-addr-by-name", GROUP],
            &["SENTINEL", "get-master-addr-by-name", "nobody"],
            &["SENTINEL", "masters"],
            &["SENTINEL", "master", GROUP],
            &["SENTINEL", "master", "nobody"],
            &["SENTINEL", "replicas", GROUP],
            &["SENTINEL", "slaves", GROUP],
            &["SENTINEL", "sentinels", GROUP],
            &["SENTINEL", "ckquorum", GROUP],
            &["SENTINEL", "reset", "nobody*"],
            &["SENTINEL", "pending-scripts"],
            &["SENTINEL", "info-cache", "nobody"],
            &["SENTINEL", "myid"],
            &["INFO", "sentinel"],
            &["INFO", "replication"],
            &["GET", "x"],
        ] {
            let [ours, theirs] = [ours, theirs].map(|port| masked(&cli(port, how, words, "")));
            assert_eq!(ours, theirs, "redis-cli {how:?} {words:?}");
            compared += 1;
        }
    }
    println!("{compared} outputs of redis-cli are the same but for numbers and ids");

    for port in [ours, theirs] {
        let typed = "help sentinel master\nsentinel ckquorum mymaster\nping\nquit\nping\n";
        let said = cli(port, &[], &[], typed);
        for part in ["SENTINEL MASTER", "summary:", "OK 3 usable Sentinels", "PONG"] {
            assert!(said.contains(part), "{part} of {port}:\n{said}");
        }
        assert_eq!(said.matches("PONG").count(), 1, "quit ends it:\n{said}");
    }
}

/// What redis-cli prints when its output goes to a script.
fn cli(port: u16, how: &[&str], words: &[&str], typed: &str) -> String {
    let mut child = Command::new("redis-cli")
        .args(["-p", &port.to_string()])
        .args(how)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed: tests/run does it");
    let mut input = child.stdin.take().expect("stdin is piped");
    // It may end without reading all of it.
    let _ = input.write_all(typed.as_bytes());
    drop(input);
    let said = child.wait_with_output().expect("redis-cli ends");
    [said.stdout, said.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat()
}

/// The text with `#` for each number and id.
fn masked(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        for word in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let is_id = bare.len() == 40 && bare.bytes().all(|b| b.is_ascii_hexdigit());
            let is_number = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
            if is_id || is_number {
                out.push('#');
                out.push_str(&word[bare.len()..]);
            } else {
                out.push_str(word);
            }
        }
        out.push('\n');
    }
    out
}
