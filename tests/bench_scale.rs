//! `watchfire bench scale`, small: it comes to its end, finds what it looks for, leaves nothing.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than the benchmark's own patience, so that its own explanation comes first.
const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn twenty_masters_hang_and_all_groups_move() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let line = "bench scale --mass 20 --faults hang --only watchfire --patience 15s";
    let mut bench = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(line.split(' '))
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let deadline = Instant::now() + WITHIN;
    while bench.try_wait().expect("can be waited for").is_none() {
        if Instant::now() >= deadline {
            bench.kill().expect("can be killed");
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = bench.wait_with_output().expect("can be read");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.starts_with("### three sentinels, 20 masters hang\n"), "{table}");
    let found = |what: &str| -> f64 {
        let line = table.lines().find(|line| line.starts_with(&format!("| {what}")));
        let cells: Vec<&str> = line.expect(what).split(" | ").map(str::trim).collect();
        assert_eq!(cells[1], "-", "{what}: redis-sentinel was not measured");
        let number = cells[2].split(' ').next();
        number.and_then(|number| number.parse().ok()).expect(what)
    };
    assert_eq!(found("groups stuck"), 0.0, "{table}");
    assert_eq!(found("groups promoted twice"), 0.0, "{table}");
    assert!(found("beyond down-after: told by all three, median") > 0.0, "{table}");
    assert!(found("start until they know each other") > 0.0, "{table}");
    assert!(found("idle: memory, each") > 0.0, "{table}");

    let left = std::fs::read_dir(dir.path()).expect("the directory").count();
    assert_eq!(left, 0, "files are left behind");
}
