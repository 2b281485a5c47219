//! A `sentinel.conf` that cannot be written: another user's, a file mounted by itself. The state
//! goes to a folder, one warning says so, and the way back is open.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::{Reply, ask};
use crate::support::node::{restart_on_its_port, start_on_free_port};
use crate::support::process::Process;
use crate::support::sentinel::Program;
use crate::support::slots;
use crate::support::wait::wait_for;

/// Nobody's id in Debian.
const NOBODY: u32 = 65_534;
const STATE: &str = "watchfire-state-conf-";

/// A folder for the file, one for the state, and a copy of the program that any user may run.
struct Stage {
    dir: TempDir,
}

impl Stage {
    fn new() -> Stage {
        let dir = tempfile::tempdir().expect("a folder");
        let stage = Stage { dir };
        for name in ["", "etc", "var"] {
            fs::create_dir_all(stage.path(name)).expect("a folder");
            mode(&stage.path(name), 0o755);
        }
        fs::copy(Program::Watchfire.path(), stage.path("watchfire")).expect("a copy");
        mode(&stage.path("watchfire"), 0o755);
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn conf(&self) -> PathBuf {
        self.path("etc/sentinel.conf")
    }

    /// Gives the folder of the state, or takes it from, the user that [`Stage::start`] runs as.
    fn state_folder_is_ours(&self, ours: bool) {
        mode(&self.path("var"), if ours { 0o755 } else { 0o555 });
        if rustix::process::getuid().is_root() {
            let owner = if ours { NOBODY } else { 0 };
            chown(self.path("var"), Some(owner), Some(owner)).expect("root may do this");
        }
    }

    /// The same for the file and its folder.
    fn file_is_ours(&self, ours: bool) {
        for (path, if_ours, if_not) in
            [(self.path("etc"), 0o755, 0o555), (self.conf(), 0o644, 0o444)]
        {
            if !path.exists() {
                continue;
            }
            mode(&path, if ours { if_ours } else { if_not });
            if rustix::process::getuid().is_root() {
                let owner = if ours { NOBODY } else { 0 };
                chown(path, Some(owner), Some(owner)).expect("root may do this");
            }
        }
    }

    fn text(&self, port: u16) -> String {
        format!(
            "# the operator's\nport {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor m 127.0.0.1 1 2\nsentinel down-after-milliseconds m 5000\n\
             sentinel monitor gone 127.0.0.1 2 2\n",
            self.path("var").display()
        )
    }

    /// The command line of a user that is not root.
    fn command_line(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        if rustix::process::getuid().is_root() {
            words.extend(["setpriv", "--clear-groups"].map(str::to_owned));
            words.extend([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
        }
        words.extend([plain(&self.path("watchfire")), "sentinel".into(), plain(&self.conf())]);
        words
    }

    fn start(&self) -> (Process, u16) {
        let words = self.command_line();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        start_on_free_port("sentinel", words[0], &words[1..], self.dir.path(), |port| {
            self.file_is_ours(true);
            fs::write(self.conf(), self.text(port)).expect("a file");
            self.file_is_ours(false);
        })
    }

    /// The state file, if there is one.
    fn state(&self) -> Option<PathBuf> {
        let found = fs::read_dir(self.path("var")).expect("a folder").flatten();
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        found
            .map(|entry| entry.path())
            .find(|path| name(path).starts_with(STATE) && name(path).ends_with(".json"))
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

fn plain(path: &Path) -> String {
    path.to_str().expect("temporary folders have plain names").to_owned()
}

fn call(port: u16, words: &[&str]) -> Reply {
    ask(port, words).expect("it answers")
}

/// Name, port, quorum, down-after of each group.
fn groups(port: u16) -> Vec<[String; 4]> {
    let masters = call(port, &["SENTINEL", "MASTERS"]);
    let fields = ["name", "port", "quorum", "down-after-milliseconds"];
    let mut groups: Vec<[String; 4]> = masters
        .items()
        .iter()
        .map(|master| fields.map(|field| master.field(field).expect("a field")))
        .collect();
    groups.sort();
    groups
}

fn group(name: &str, port: u16, quorum: u32, down_after_ms: u64) -> [String; 4] {
    [name.to_owned(), port.to_string(), quorum.to_string(), down_after_ms.to_string()]
}

#[test]
fn state_goes_to_a_folder_and_comes_back_into_the_file() {
    let _slot = slots::one();
    let stage = Stage::new();
    stage.state_folder_is_ours(true);
    let (mut process, port) = stage.start();
    let text = fs::read(stage.conf()).expect("the file");
    let id = call(port, &["SENTINEL", "MYID"]).text();
    let log = process.log();
    let warnings: Vec<&str> = log.lines().filter(|l| l.contains("cannot be written")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    let state = stage.state().expect("a state file");
    for part in [plain(&stage.conf()), plain(&state), "Permission denied".into()] {
        assert!(warnings[0].contains(&part), "{part} is not in {}", warnings[0]);
    }
    assert!(warnings[0].contains("To go back to Redis"), "{}", warnings[0]);

    // What happens while it runs is remembered; the file stays.
    for (words, reply) in [
        ("SENTINEL SET m quorum 3", "OK"),
        ("SENTINEL MONITOR added 127.0.0.1 3 1", "OK"),
        ("SENTINEL REMOVE gone", "OK"),
        ("SENTINEL FLUSHCONFIG", "OK"),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        assert_eq!(call(port, &words).text(), reply, "{words:?}");
    }
    let told = vec![group("added", 3, 1, 30_000), group("m", 1, 3, 5_000)];
    assert_eq!(groups(port), told);
    process.kill9();
    restart_on_its_port(&mut process, port);
    assert_eq!(groups(port), told, "after a kill");
    assert_eq!(call(port, &["SENTINEL", "MYID"]).text(), id);
    assert_eq!(fs::read(stage.conf()).expect("the file"), text, "the file stays as it is");

    // Where somebody changes the file, it counts.
    assert!(process.terminate().success());
    stage.file_is_ours(true);
    let edited = stage.text(port).replace("m 5000", "m 7000");
    fs::write(stage.conf(), &edited).expect("ours");
    stage.file_is_ours(false);
    restart_on_its_port(&mut process, port);
    let told = vec![group("added", 3, 1, 30_000), group("m", 1, 2, 7_000)];
    assert_eq!(groups(port), told, "the declaration of m is taken anew");
    assert_eq!(call(port, &["SENTINEL", "SET", "m", "quorum", "4"]).text(), "OK");

    // The way back: the file can be written, and has all of it.
    assert!(process.terminate().success());
    stage.file_is_ours(true);
    restart_on_its_port(&mut process, port);
    let told = vec![group("added", 3, 1, 30_000), group("m", 1, 4, 7_000)];
    assert_eq!(groups(port), told);
    assert!(process.log().contains("has taken over what was kept in"), "{}", process.log());
    assert_eq!(stage.state(), None, "nothing stale stays behind");
    assert!(process.terminate().success());
    let text = fs::read_to_string(stage.conf()).expect("the file");
    assert!(text.starts_with("# the operator's\n") && !text.contains("gone"), "{text}");
    let file = plain(&stage.conf());
    process.becomes("redis-server", &[file.as_str(), "--sentinel"]);
    restart_on_its_port(&mut process, port);
    assert_eq!(groups(port), told, "Redis reads it");
    assert_eq!(call(port, &["SENTINEL", "MYID"]).text(), id);
}

#[test]
fn with_nowhere_to_remember_it_does_not_start() {
    let _slot = slots::one();
    let stage = Stage::new();
    fs::write(stage.conf(), stage.text(crate::support::wait::free_port())).expect("a file");
    stage.file_is_ours(false);
    stage.state_folder_is_ours(false);
    let words = stage.command_line();
    // A home would be one more place.
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.splice(0..0, ["env", "-u", "HOME", "-u", "XDG_STATE_HOME", "-u", "STATE_DIRECTORY"]);
    let mut process = Process::start("sentinel", words[0], &words[1..], stage.dir.path());
    let status = wait_for(10, "it gives up", || process.exit());
    let said = process.log();
    assert_eq!(status.code(), Some(1), "{said}");
    let file = format!("Sentinel config file {} is not writable", plain(&stage.conf()));
    assert!(said.contains(&file) && said.contains(&plain(&stage.path("var"))), "{said}");
    assert!(said.contains("Set 'dir' to a folder") && !said.contains("state_dir"), "{said}");

    // And so says the check, which starts nothing.
    let at = words.iter().position(|word| *word == "sentinel").expect("the subcommand");
    words[at] = "check";
    let output = Command::new(words[0]).args(&words[1..]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&file) && said.contains(&plain(&stage.path("var"))), "{said}");
    stage.state_folder_is_ours(true);
    let output = Command::new(words[0]).args(&words[1..]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let kept = format!("state would be kept in {}", plain(&stage.path("var")));
    assert!(output.status.success() && said.contains(&kept), "{said}");
}

/// As in a container that mounts one file: it can be written, but not renamed over.
#[test]
fn a_file_that_is_a_mount_of_its_own_is_never_written_in_place() {
    let _slot = slots::one();
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("this system lets nobody mount: not looked at");
        return;
    }
    let stage = Stage::new();
    let (outside, inside) = (stage.path("outside.conf"), stage.conf());
    let script = "mount --bind \"$1\" \"$2\" && exec \"$3\" sentinel \"$2\"";
    let program = plain(&stage.path("watchfire"));
    let (out, inn) = (plain(&outside), plain(&inside));
    let args = ["-rm", "sh", "-c", script, "sh", &out, &inn, &program];
    let (mut process, port) =
        start_on_free_port("sentinel", "unshare", &args, stage.dir.path(), |port| {
            fs::write(&outside, stage.text(port)).expect("a file");
            fs::write(&inside, "").expect("what is mounted over");
        });
    assert_eq!(call(port, &["SENTINEL", "SET", "m", "quorum", "3"]).text(), "OK");
    let log = process.log();
    assert!(log.contains("cannot be written") && log.contains("busy"), "{log}");
    assert!(stage.state().is_some());
    assert_eq!(fs::read_to_string(&outside).expect("the file"), stage.text(port));
    process.kill9();
    restart_on_its_port(&mut process, port);
    assert_eq!(groups(port)[1], group("m", 1, 3, 5_000));
    let checked = "mount --bind \"$1\" \"$2\" && exec \"$3\" check \"$2\"";
    let args = ["-rm", "sh", "-c", checked, "sh", &out, &inn, &program];
    let output = Command::new("unshare").args(args).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("it is a mount of its own"), "{said}");
}
