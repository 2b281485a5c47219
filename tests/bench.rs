//! `watchfire bench` as a person runs it: a round gives numbers, as a table, as JSON and as a
//! picture, and leaves nothing behind.

use std::process::Command;

#[test]
fn one_round_of_kill_gives_numbers_and_loses_nothing() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (json, svg) = (home.path().join("rounds.jsonl"), home.path().join("chart.svg"));
    let tmp = home.path().join("tmp");
    std::fs::create_dir(&tmp).expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["bench", "failover", "--faults", "kill", "--only", "watchfire", "--rounds", "1"])
        .args(["--down-after", "500", "--json"])
        .arg(&json)
        .arg("--svg")
        .arg(&svg)
        .env("TMPDIR", &tmp)
        .output()
        .expect("the bench runs");
    let table = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}\n{table}", output.status);

    let cell = |what: &str| {
        let row = table.lines().find(|line| line.starts_with(&format!("| {what}")));
        let row = row.unwrap_or_else(|| panic!("no row '{what}':\n{table}"));
        row.split('|').nth(3).expect("a column for Watchfire").trim().to_owned()
    };
    for timed in [
        "one sentinel finds it down",
        "a quorum agrees",
        "leader elected",
        "a replica says that it is master",
        "first sentinel announces it",
        "all sentinels have announced it",
        "first write on the new master",
        "+odown to first write",
        "all replicas follow it",
        "old master back, until it is a replica",
    ] {
        let median = cell(timed).split(' ').next().and_then(|median| median.parse::<f64>().ok());
        assert!(median.is_some(), "'{timed}' has no number:\n{table}");
    }
    assert!(cell("acknowledged writes lost").starts_with("0 of "), "{table}");
    assert_eq!(cell("rounds: failed over again"), "0 of 1", "{table}");

    let lines = std::fs::read_to_string(&json).expect("JSON was written");
    let round: serde_json::Value =
        serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&round["program"], &round["fault"]), (&"watchfire".into(), &"kill".into()));
    let told = round["told"].as_array().expect("what was seen");
    assert!(told.iter().any(|fact| fact["text"].as_str().is_some_and(|t| t.contains("+odown"))));
    let chart = std::fs::read_to_string(&svg).expect("a picture was drawn");
    assert!(chart.contains("first write on the new master"), "{chart}");
    let left: Vec<_> = std::fs::read_dir(&tmp).expect("readable").flatten().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
