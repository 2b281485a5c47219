//! The command line and the lines of redis-sentinel: the same arguments and the same file, given to
//! Redis's program and to ours under that name, start the same or are refused in the same words.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::client::ask;
use crate::support::process::Process;
use crate::support::sentinel::Program;
use crate::support::slots;
use crate::support::wait::{free_port, wait_until};

/// What became of a start.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// It runs: the groups that it watches, and the file after `SENTINEL FLUSHCONFIG`.
    Runs { groups: Vec<String>, file: String },
    /// It ended with this code and said this.
    Ended { code: Option<i32>, said: String },
}

/// A program under the name of redis-sentinel, with a file beside it.
struct Stage {
    /// Ends with it.
    _dir: TempDir,
    program: PathBuf,
    file: PathBuf,
}

impl Stage {
    fn new(program: Program) -> Stage {
        let dir = tempfile::tempdir().expect("a folder");
        let link = dir.path().join("redis-sentinel");
        let path = std::env::var_os("PATH").expect("a PATH");
        let named = std::env::split_paths(&path).map(|folder| folder.join(program.path()));
        let found = named.into_iter().find(|file| file.is_file());
        symlink(found.expect("the program is on the PATH"), &link).expect("a link");
        let file = dir.path().join("its.conf");
        Stage { _dir: dir, program: link, file }
    }

    /// Starts it with these arguments; `FILE` stands for a file that is good.
    fn start(&self, args: &[&str]) -> Outcome {
        self.start_with("", args)
    }

    /// The same with more lines in the file.
    fn start_with(&self, lines: &str, args: &[&str]) -> Outcome {
        for _ in 0..5 {
            let port = free_port();
            let text = format!(
                "port {port}\nbind 127.0.0.1\nloglevel notice\n\
                 sentinel monitor m 127.0.0.1 1 2\n{lines}"
            );
            fs::write(&self.file, text).expect("a file");
            let file = plain(&self.file);
            let args: Vec<&str> =
                args.iter().map(|arg| if *arg == "FILE" { file } else { *arg }).collect();
            let log = tempfile::tempdir().expect("a folder");
            let mut process =
                Process::start("redis-sentinel", plain(&self.program), &args, log.path());
            let mut ended = None;
            wait_until(20, "it answers or ends", || {
                ended = process.exit();
                ended.is_some() || is_process(port, process.pid())
            });
            let said = process.log();
            match ended {
                Some(_) if said.to_lowercase().contains("address already in use") => continue,
                Some(status) => return Outcome::Ended { code: status.code(), said },
                None => {}
            }
            assert_eq!(ask(port, &["SENTINEL", "FLUSHCONFIG"]).expect("it answers").text(), "OK");
            let masters = ask(port, &["SENTINEL", "MASTERS"]).expect("it answers");
            let name =
                |field: &str| masters.items().iter().filter_map(|m| m.field(field)).collect();
            let mut groups: Vec<String> = name("name");
            groups.sort();
            let text = fs::read_to_string(&self.file).expect("its file");
            return Outcome::Runs { groups, file: text.replace(&port.to_string(), "PORT") };
        }
        panic!("five ports that were free a moment ago were taken");
    }
}

/// Whether it is this process that answers there, and not one that was faster to take the port.
fn is_process(port: u16, pid: u32) -> bool {
    let info = ask(port, &["INFO", "server"]).map(|reply| reply.text()).unwrap_or_default();
    info.lines().any(|line| line.trim_end() == format!("process_id:{pid}"))
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

#[test]
fn the_same_arguments_start_the_same() {
    let _slot = slots::one();
    let (redis, ours) = (Stage::new(Program::Redis), Stage::new(Program::Watchfire));
    for (args, line) in [
        (&["--loglevel", "debug"][..], "loglevel debug"),
        (&["--loglevel verbose"], "loglevel verbose"),
        (&["--LogLevel", "debug", "--loglevel", "warning"], "loglevel warning"),
        (&["loglevel", "debug"], "loglevel debug"),
        (&["--sentinel", "--loglevel", "debug"], "loglevel debug"),
        (&["--loglevel", "debug", "--sentinel"], "loglevel debug"),
        (&["--save", "--loglevel", "debug"], "loglevel debug"),
        (&["--bind", "127.0.0.1", "-::1"], "bind 127.0.0.1 -::1"),
        (&["--maxclients", "500"], "maxclients 500"),
        (&["--timeout", "7", "--tcp-keepalive 9"], "timeout 7"),
        // Redis writes the password without its quotes.
        (&["--sentinel", "auth-pass", "m", "a b"], "sentinel auth-pass m "),
        (
            &["--sentinel", "monitor", "q", "127.0.0.1", "7", "1"],
            "sentinel monitor q 127.0.0.1 7 1",
        ),
        (
            &["--sentinel", "down-after-milliseconds", "m", "5000"],
            "sentinel down-after-milliseconds m 5000",
        ),
        (&["--sentinel announce-ip 10.0.0.1"], "sentinel announce-ip"),
        (&["--foo.bar", "1"], ""),
        (&["--"], ""),
        (&["--supervised", "no", "--daemonize", "no"], ""),
    ] {
        let args = [&["FILE"], args].concat();
        let (theirs, our) = (redis.start(&args), ours.start(&args));
        let (Outcome::Runs { groups, file }, Outcome::Runs { groups: our_groups, file: our_file }) =
            (&theirs, &our)
        else {
            panic!("{args:?}: {theirs:?}\n{our:?}");
        };
        assert_eq!(our_groups, groups, "{args:?}");
        let has = |file: &str| file.lines().any(|l| l.starts_with(line) && !line.is_empty());
        assert!(line.is_empty() || (has(file) && has(our_file)), "{args:?}:\n{file}\n{our_file}");
        // Two lines of one directive would be one too many.
        let first = line.split(' ').next().unwrap_or_default();
        if !line.starts_with("sentinel") && !line.is_empty() {
            let count = |file: &str| file.lines().filter(|l| l.starts_with(first)).count();
            assert_eq!((count(our_file), count(file)), (1, 1), "{args:?}:\n{our_file}");
        }
    }
}

/// What Redis says in the end, without time and sign.
fn last_words(said: &str) -> &str {
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.split_once(" # ").map_or(line, |(_, words)| words)
}

#[test]
fn the_same_arguments_are_refused_in_the_same_words() {
    let _slot = slots::one();
    let (redis, ours) = (Stage::new(Program::Redis), Stage::new(Program::Watchfire));
    for args in [
        &[][..],
        &["-"],
        &["--port", "1"],
        &["FILE.gone"],
        &["FILE", "--port=7000"],
        &["FILE", "7000"],
        &["FILE", ""],
        &["FILE", "-port", "7"],
        &["FILE", "--loglevel"],
        &["FILE", "--loglevel", "--port"],
        &["FILE", "--help"],
        &["FILE", "-v"],
        &["FILE", "--unknown-thing", "1"],
        &["FILE", "--sentinel", "--port"],
        &["FILE", "--port", "x"],
        &["FILE", "--port", "70000"],
        &["FILE", "--sentinel", "monitor", "q", "127.0.0.1", "7"],
        &["FILE", "--sentinel", "monitor", "q", "127.0.0.1", "7", "0"],
        &["FILE", "--sentinel", "monitor", "q", "no.such.name", "7", "1"],
        &["FILE", "--sentinel", "monitor", "m", "127.0.0.1", "1", "2"],
        &["FILE", "--sentinel", "monitor", "q", "127.0.0.1", "7", "x"],
        &["FILE", "--sentinel", "parallel-syncs", "nobody", "1"],
        &["FILE", "--sentinel", "nonsense", "1"],
        &["FILE", "--sentinel", "resolve-hostnames", "maybe"],
        &["FILE", "--sentinel", "notification-script", "m", "/none"],
    ] {
        both_refuse((&redis, &ours), "", args);
    }
}

fn both_refuse((redis, ours): (&Stage, &Stage), lines: &str, args: &[&str]) {
    let (theirs, our) = (redis.start_with(lines, args), ours.start_with(lines, args));
    let (Outcome::Ended { code, said }, Outcome::Ended { code: our_code, said: our_words }) =
        (&theirs, &our)
    else {
        panic!("{args:?} {lines:?}: {theirs:?}\n{our:?}");
    };
    assert_eq!((code, our_code), (&Some(1), &Some(1)), "{args:?} {lines:?}");
    // Ours shows a path as it was given, and knows one more log level.
    let expected = last_words(said).split('\'').next().unwrap_or_default();
    assert!(our_words.contains(expected), "{args:?} {lines:?}: {expected:?} is not in {our_words}");
}

#[test]
fn the_same_lines_are_refused_in_the_same_words() {
    let _slot = slots::one();
    let (redis, ours) = (Stage::new(Program::Redis), Stage::new(Program::Watchfire));
    for lines in [
        "logfile \"a\"b",
        "logfile \"a",
        "prot 1",
        "port 1 2",
        "daemonize maybe",
        "maxclients 0",
        "tcp-backlog -1",
        "timeout x",
        "loglevel loud",
        "dir /no/such/folder",
        "include /no/such/file",
        "include",
        "sentinel nonsense",
        "sentinel monitor m 127.0.0.1 1 2",
        "sentinel monitor n 127.0.0.1 70000 1",
        "sentinel monitor n 127.0.0.1 1",
        "sentinel down-after-milliseconds m 0",
        "sentinel failover-timeout m -1",
        "sentinel failover-timeout n 1",
        "sentinel failover-timeout m abc",
        "sentinel down-after-milliseconds m 9999999999999999999999",
        "sentinel monitor n 127.0.0.1 1 abc",
        "sentinel known-replica nobody 127.0.0.1 1",
        "maxclients 50s",
        "maxclients +50",
        "port 0700",
        "port \" 7\"",
        "port \"\"",
        "port -1",
        "port 0",
        "port 0x10",
        "timeout 00",
        "timeout -0",
        "tcp-keepalive \"7 \"",
        "tcp-backlog 511.0",
        "acllog-max-len 01",
        "tls-port 07",
        "tls-session-cache-size 99999999999999999999",
        "sentinel master-reboot-down-after-period m -1",
        "sentinel myid short",
        "sentinel deny-scripts-reconfig maybe",
        "sentinel announce-hostnames maybe",
        "sentinel client-reconfig-script m /none",
        "sentinel notification-script m /none",
        "sentinel rename-command m a b\nsentinel rename-command m A c",
        "sentinel auth-pass m",
        "sentinel auth-pass m a b",
        "sentinel sentinel-pass a b",
    ] {
        both_refuse((&redis, &ours), lines, &["FILE"]);
    }
}

#[test]
fn the_same_odd_lines_are_taken() {
    let _slot = slots::one();
    let (redis, ours) = (Stage::new(Program::Redis), Stage::new(Program::Watchfire));
    let peer = "aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbb";
    for lines in [
        "SENTINEL Monitor q 127.0.0.1 7 1\r\nSentinel PARALLEL-SYNCS q 2\r\n",
        "sentinel parallel-syncs m 0\nsentinel parallel-syncs m -3\n",
        "sentinel\nsave \"\"\nsave 60 1\nappendonly yes\ncluster-enabled yes\n",
        "slaveof 127.0.0.1 1\nmasterauth x\nslave-priority 1\nmin-slaves-to-write 1\n",
        "sentinel known-sentinel m 127.0.0.1 1\nsentinel known-slave m 127.0.0.1 2\n",
        &format!("sentinel known-sentinel m 127.0.0.1 3 {peer}\n"),
        "sentinel config-epoch m 3\nsentinel leader-epoch m 4\nsentinel current-epoch 5\n",
        "\t sentinel  auth-pass\tm \"\\x41\\\"\" \n'loglevel' \"debug\"\n",
        "loadmodule /no/such.so\nsome.setting 1\nlua-replicate-commands yes\n",
        "include /no/such/*.conf\ntls-port 0\nbind-source-addr 127.0.0.1\n",
        "sentinel monitor q 127.0.0.1 07x 2abc\nsentinel failover-timeout q 5s\n",
        "sentinel config-epoch m 5th\nsentinel current-epoch x\nsentinel announce-port 7tcp\n",
        "unixsocketperm +700\nunixsocketperm \"\"\nsentinel parallel-syncs m none\n",
        "sentinel announce-port 70000\nsentinel known-replica m 127.0.0.1 none\n",
        "# a comment without an end",
    ] {
        let args = ["FILE"];
        let (theirs, our) = (redis.start_with(lines, &args), ours.start_with(lines, &args));
        let (Outcome::Runs { groups, .. }, Outcome::Runs { groups: our_groups, .. }) =
            (&theirs, &our)
        else {
            panic!("{lines:?}: {theirs:?}\n{our:?}");
        };
        assert_eq!(our_groups, groups, "{lines:?}");
    }
}

/// What Redis starts with though nobody is guarded by it: few elections are left after such an
/// epoch, or none, and ours refuse its votes and hellos, too; nobody listens on port 0.
#[test]
fn what_is_of_no_use_in_redis_is_refused() {
    let _slot = slots::one();
    let (redis, ours) = (Stage::new(Program::Redis), Stage::new(Program::Watchfire));
    let no_epoch = "value is not an integer or out of range";
    for (lines, words) in [
        ("sentinel current-epoch 18446744073709551615", no_epoch),
        ("sentinel config-epoch m -1", no_epoch),
        ("sentinel leader-epoch m 4611686018427387905", no_epoch),
        ("sentinel monitor q 127.0.0.1 0 1", "Invalid port number."),
    ] {
        let (theirs, our) = (redis.start_with(lines, &["FILE"]), ours.start_with(lines, &["FILE"]));
        assert!(matches!(theirs, Outcome::Runs { .. }), "{lines}: {theirs:?}");
        let Outcome::Ended { code, said } = our else { panic!("{lines}: {our:?}") };
        assert!(code == Some(1) && said.contains(words), "{lines}: {said}");
    }
}

#[test]
fn what_is_asked_of_the_program_itself() {
    let _slot = slots::one();
    let (redis, ours) = (Stage::new(Program::Redis), Stage::new(Program::Watchfire));
    for (arg, both, part) in [
        ("--version", Some(0), "watchfire sentinel "),
        ("-v", Some(0), "watchfire sentinel "),
        ("--help", Some(1), "Usage: "),
        ("-h", Some(1), "Usage: "),
        ("--test-memory", Some(1), "not tested"),
    ] {
        let Outcome::Ended { code, .. } = redis.start(&[arg]) else { panic!("{arg}") };
        let Outcome::Ended { code: our_code, said } = ours.start(&[arg]) else { panic!("{arg}") };
        assert_eq!((code, our_code), (both, both), "{arg}");
        assert!(said.contains(part), "{arg}: {said}");
    }
    // Redis looks at what matters to a data node, and may find fault with this machine.
    let Outcome::Ended { code, said } = ours.start(&["--check-system"]) else { panic!() };
    assert_eq!(code, Some(0), "{said}");
    let Outcome::Ended { code, said } = ours.start(&["FILE", "-"]) else { panic!() };
    assert!(code == Some(1) && said.contains("standard input"), "{said}");
}
