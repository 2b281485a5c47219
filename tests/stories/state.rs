//! What a sentinel writes and reads: its file rewritten in place, exchanged with redis-sentinel in
//! both directions, a YAML file that is never touched, damaged and unwritable state, a taken port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::client::Reply;
use crate::support::group::Plan;
use crate::support::node::{Node, Nodes};
use crate::support::process::Process;
use crate::support::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::{free_port, wait_for, wait_until};

/// What a sentinel answers about itself and its group; the same before and after a restart.
fn identity(sentinel: &Sentinel) -> [Option<String>; 6] {
    let of = |field| sentinel.master(field);
    [
        Some(sentinel.id()),
        of("port"),
        of("config-epoch"),
        of("num-slaves"),
        of("num-other-sentinels"),
        of("down-after-milliseconds"),
    ]
}

#[test]
fn a_conf_file_is_rewritten_in_place_and_redis_sentinel_takes_it_over_and_back() {
    let mut group = Plan::over(Nodes::Redis).start();
    let old = group.watch.master;
    group.node(old).kill9();
    let new = group.wait_for_new_master(old, 30);
    group.node(old).restart();
    group.wait_until_they_follow(new, &group.ports_but(new), 30);
    group.wait_until_known();

    let sentinel = &mut group.sentinels[0];
    let before = identity(sentinel);
    for next in [Program::Redis, Program::Watchfire, Program::Redis, Program::under_test()] {
        assert!(sentinel.process().terminate().success(), "SIGTERM is a clean end");
        let text = fs::read_to_string(sentinel.file()).expect("its file can be read");
        let begins = format!("# What the operator wrote stays.\nport {}\n", sentinel.port);
        assert!(text.starts_with(&begins), "the head of the file stays:\n{text}");
        let monitor =
            format!("# The one group of this story.\nsentinel monitor {GROUP} 127.0.0.1 {new} 2\n");
        assert!(text.contains(&monitor), "monitor is changed in its place:\n{text}");
        if next == Program::Watchfire && Program::under_test() == Program::Redis {
            continue;
        }
        sentinel.restart_as(next);
        assert_eq!(identity(sentinel), before, "taken over by {next:?} from:\n{text}");
    }
    group.wait_until_known();
}

#[test]
fn a_yaml_file_stays_as_it_is_and_the_state_survives() {
    if Program::under_test() == Program::Redis {
        return; // It has no YAML.
    }
    let mut group = Plan::over(Nodes::Redis).syntax(Syntax::Yaml).start();
    let files: Vec<Vec<u8>> = group.sentinels.iter().map(|s| fs::read(s.file()).unwrap()).collect();
    let old = group.watch.master;
    group.node(old).kill9();
    let new = group.wait_for_new_master(old, 30);
    let left = group.ports_but(new).into_iter().filter(|p| *p != old).collect::<Vec<_>>();
    group.wait_until_they_follow(new, &left, 30);

    let before: Vec<_> = group.sentinels.iter().map(identity).collect();
    for sentinel in &mut group.sentinels {
        sentinel.kill9();
        sentinel.restart();
    }
    let after: Vec<_> = group.sentinels.iter().map(identity).collect();
    assert_eq!(after, before);
    assert_eq!(group.agreed_master(), Some(new), "not what the YAML file still says");
    for (sentinel, bytes) in group.sentinels.iter().zip(files) {
        assert_eq!(fs::read(sentinel.file()).unwrap(), bytes, "the YAML file is the operator's");
    }
}

/// Runs the program under test on a file that it must refuse; returns what it said.
fn refused(file: &Path) -> String {
    let program = Program::under_test();
    let (status, said) = run_to_end(program, file);
    assert!(!status.success(), "it accepted {}:\n{said}", file.display());
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn run_to_end(program: Program, file: &Path) -> (ExitStatus, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let name = file.to_str().expect("temporary folders have plain names");
    let mut process = Process::start("sentinel", program.path(), &program.args(name), dir.path());
    let status = wait_for(10, "it refuses to start", || process.exit());
    (status, process.log())
}

/// A folder with a configuration file made from its text.
fn written(name: &str, text: impl Fn(&Path) -> String) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join(name);
    fs::write(&file, text(dir.path())).expect("a file");
    (dir, file)
}

fn lines_after_port(lines: &str) -> (TempDir, PathBuf) {
    written("sentinel.conf", |dir| {
        format!("port {}\ndir {}\n{lines}\n", free_port(), dir.display())
    })
}

#[test]
fn wrong_lines_are_refused_with_their_place() {
    let monitor = "sentinel monitor m 127.0.0.1 7000 2\n";
    for (wrong, line, words) in [
        ("sentinel monitor m 127.0.0.1 7000 0", 3, "Quorum must be 1 or greater"),
        ("sentinel monitor m 127.0.0.1 70000 2", 3, "Invalid port"),
        ("no-such-directive 1", 4, "Bad directive or wrong number of arguments"),
        ("sentinel no-such-thing m 1", 4, "Unrecognized sentinel configuration statement"),
        ("sentinel quorum", 4, "Unrecognized sentinel configuration statement"),
        ("sentinel down-after-milliseconds x 1000", 4, "No such master with specified name"),
        ("sentinel down-after-milliseconds m 0", 4, "negative or zero time parameter"),
        ("sentinel myid 12345", 4, "Malformed Sentinel id in myid option"),
    ] {
        let text = if line == 4 { format!("{monitor}{wrong}") } else { wrong.to_owned() };
        let (_dir, file) = lines_after_port(&text);
        let said = refused(&file);
        assert!(said.contains(wrong), "it shows the offending line '{wrong}':\n{said}");
        assert!(said.contains(words), "it says '{words}':\n{said}");
        if Program::under_test() == Program::Watchfire {
            let place = format!("sentinel.conf:{line}");
            assert!(said.contains(&place), "it shows the place {place}:\n{said}");
        }
    }
}

#[test]
fn check_reports_every_mistake_at_once_and_starts_nothing() {
    let (_dir, file) = lines_after_port(
        "sentinel monitor m 127.0.0.1 7000 2\n\
         sentinel parallel-synks m 1\n\
         sentinel failover-timeout m never\n\
         prot 7000",
    );
    let said = check(&file, false);
    for part in ["sentinel.conf:4", "parallel-synks", "sentinel.conf:5", "never", "prot"] {
        assert!(said.contains(part), "'{part}' is missing:\n{said}");
    }
    let (_dir, file) = lines_after_port("sentinel monitor m 127.0.0.1 7000 2");
    check(&file, true);
    let (_dir, file) =
        written("sentinel.yaml", |dir| Watch::of(7000).config(Syntax::Yaml, 7001, dir));
    check(&file, true);
    let (_dir, file) = written("sentinel.yaml", |dir| {
        let good = Watch::of(7000).config(Syntax::Yaml, 7001, dir);
        good.replace("quorum: 2", "quorum: two").replace("down_after:", "down_aftr:")
    });
    let said = check(&file, false);
    for part in ["two", "down_aftr", "sentinel.yaml:"] {
        assert!(said.contains(part), "'{part}' is missing:\n{said}");
    }
}

/// `watchfire check FILE`; returns what it said.
fn check(file: &Path, good: bool) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let args = ["check", file.to_str().expect("temporary folders have plain names")];
    let mut process = Process::start("check", Program::Watchfire.path(), &args, dir.path());
    let status = wait_for(10, "check ends by itself", || process.exit());
    let said = process.log();
    assert_eq!(status.success(), good, "{said}");
    said
}

#[test]
fn a_damaged_state_file_is_refused_with_the_way_out() {
    if Program::under_test() == Program::Redis {
        return;
    }
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    let watch = Watch::of(node.port);
    let mut sentinel = Sentinel::start(Program::Watchfire, Syntax::Yaml, &watch);
    assert_eq!(sentinel.call(&["SENTINEL", "FLUSHCONFIG"]), Reply::Simple("OK".into()));
    sentinel.kill9();
    let state = state_file(&sentinel);
    let whole = fs::read(&state).expect("the state file can be read");
    let name = state.file_name().expect("it has a name").to_string_lossy().into_owned();
    for damaged in [whole[..whole.len() / 2].to_vec(), b"\0\0\0\0".to_vec(), Vec::new()] {
        fs::write(&state, &damaged).expect("the state file can be written");
        let said = refused(sentinel.file());
        assert!(said.contains(&name), "it names the file {name}:\n{said}");
        assert_eq!(fs::read(&state).expect("still there"), damaged, "a refused file stays");
    }
    fs::write(&state, &whole).expect("the state file can be written");
    sentinel.restart();
}

/// The one state file in a YAML sentinel's state folder.
fn state_file(sentinel: &Sentinel) -> PathBuf {
    let entries = fs::read_dir(sentinel.dir().join("state")).expect("its folder can be read");
    let paths = entries.map(|e| e.expect("an entry").path());
    let found: Vec<PathBuf> = paths.filter(|p| p.extension() == Some("json".as_ref())).collect();
    assert_eq!(found.len(), 1, "one state file: {found:?}");
    found.into_iter().next().expect("just counted")
}

#[test]
fn a_state_folder_that_cannot_be_is_refused() {
    if Program::under_test() == Program::Redis {
        return;
    }
    // Below a regular file there is no folder, not even for root.
    let (_dir, file) = written("sentinel.yaml", |dir| {
        Watch::of(7000).config(Syntax::Yaml, free_port(), &dir.join("sentinel.yaml"))
    });
    let said = refused(&file);
    assert!(said.contains("sentinel.yaml/state"), "it names the folder:\n{said}");
}

#[test]
fn a_file_that_cannot_be_written_any_more_is_told_and_retried() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    let watch = Watch::of(node.port);
    let home = tempfile::tempdir().expect("a folder");
    let (folder, aside) = (home.path().join("conf"), home.path().join("aside"));
    fs::create_dir(&folder).expect("a folder");
    let file = folder.join("sentinel.conf");
    let program = Program::under_test();
    let args = program.args(file.to_str().expect("temporary folders have plain names"));
    let (mut process, port) = crate::support::node::start_on_free_port(
        "sentinel",
        program.path(),
        &args,
        home.path(),
        |port| fs::write(&file, watch.config(Syntax::Conf, port, home.path())).expect("a file"),
    );
    let call = |words: &[&str]| crate::support::client::ask(port, words).expect("it answers");
    let flush = ["SENTINEL", "FLUSHCONFIG"];
    assert_eq!(call(&flush).text(), "OK");

    // The folder is gone and a regular file has its name: nobody can write there.
    fs::rename(&folder, &aside).expect("renamed");
    fs::write(&folder, "").expect("a file");
    let said = call(&flush);
    assert!(said.is_error() && said.text().contains("save config"), "{said}");
    assert_eq!(call(&["PING"]).text(), "PONG");
    let address = call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP]);
    assert_eq!(address.items().len(), 2, "it still watches and answers: {address}");
    let log = process.log();
    assert!(log.contains("save") || log.contains("write"), "the log tells of it:\n{log}");

    fs::remove_file(&folder).expect("removed");
    fs::rename(&aside, &folder).expect("renamed back");
    wait_until(20, "it saves again", || call(&flush).text() == "OK");
    process.kill9();
}

#[test]
fn what_somebody_edits_while_it_runs_is_not_lost() {
    let _slot = slots::one();
    let sentinel = &mut Sentinel::start(Program::under_test(), Syntax::Conf, &Watch::of(1));
    let flush = |sentinel: &Sentinel| sentinel.call(&["SENTINEL", "FLUSHCONFIG"]).text();
    let text = |sentinel: &Sentinel| fs::read_to_string(sentinel.file()).expect("its file");
    // Who edits in the very moment of a write is too late, as with Redis: he looks, and repeats.
    wait_until(20, "what was added is there after a write", || {
        let edited = text(sentinel) + "# a late comment\nhz 20\n";
        fs::write(sentinel.file(), edited).expect("written");
        flush(sentinel) == "OK" && text(sentinel).contains("# a late comment\n")
    });
    let good = text(sentinel);
    assert!(good.contains("# a late comment\n") && good.contains("hz 20\n"), "{good}");
    if Program::under_test() == Program::Redis {
        return; // It goes on with whatever is there.
    }
    let slip = good.replace("sentinel monitor", "sentinel monitr");
    let kept = sentinel.file().with_extension("conf.edited");
    wait_until(20, "the slip is kept beside the file", || {
        fs::write(sentinel.file(), &slip).expect("written");
        flush(sentinel) == "OK" && fs::read_to_string(&kept).is_ok_and(|kept| kept == slip)
    });
    assert_eq!(flush(sentinel), "OK");
    assert_eq!(text(sentinel), good);
    let log = sentinel.process().log();
    let told = |l: &&str| l.contains("was edited while") && l.contains("Unrecognized sentinel");
    assert_eq!(log.lines().filter(told).count(), 1, "{log}");
    assert!(sentinel.process().terminate().success());
    sentinel.restart();
}

#[test]
fn a_taken_port_is_told() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    for program in [&["sentinel"][..], &["server"]] {
        let text = match program {
            ["sentinel"] => Watch::of(node.port).config(Syntax::Conf, node.port, Path::new(".")),
            _ => format!("port {}\nbind 127.0.0.1\nsave \"\"\n", node.port),
        };
        let (dir, file) = written("taken.conf", |_| text.clone());
        let args = [program, &[file.to_str().expect("plain names")]].concat();
        let began = Instant::now();
        let mut process = Process::start("taken", Program::Watchfire.path(), &args, dir.path());
        let status = wait_for(10, "it gives up", || process.exit());
        let said = process.log();
        assert!(!status.success(), "{program:?}: {said}");
        let told = said.to_lowercase().contains("address already in use");
        assert!(told && said.contains(&node.port.to_string()), "{program:?}: {said}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(node.call(&["PING"]).text(), "PONG");
}
