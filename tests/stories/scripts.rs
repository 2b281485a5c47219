//! Scripts of real sentinels, ours and Redis's own: what they are told in a failover, what becomes
//! of those that fail, hang or come in masses, and that none of it holds up a sentinel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::client::{Reply, ask};
use crate::support::events::{Heard, Recorder};
use crate::support::group::{Group, Plan};
use crate::support::node::{Node, Nodes, start_on_free_port};
use crate::support::sentinel::{GROUP, Program, Sentinel, Syntax, Watch};
use crate::support::slots;
use crate::support::wait::{wait_for, wait_until};

const BOTH: [Program; 2] = [Program::Watchfire, Program::Redis];

/// Events of a group at the level `warning`.
const WARNINGS: &[&str] = &[
    "+monitor",
    "-monitor",
    "+set",
    "+reset-master",
    "+new-epoch",
    "+vote-for-leader",
    "+config-update-from",
    "+switch-master",
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+try-failover",
    "+elected-leader",
    "-failover-abort-not-elected",
    "+failover-state-select-slave",
    "-failover-abort-no-good-slave",
    "+selected-slave",
    "-failover-abort-slave-timeout",
    "+promoted-slave",
    "+failover-state-reconf-slaves",
    "+failover-end-for-timeout",
    "+failover-end",
];

/// A script of the shell in `dir`, where it is run.
fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    // A script that is still open for writing cannot be executed.
    let aside = dir.join(format!("{name}.new"));
    fs::write(&aside, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).expect("executable");
    fs::rename(&aside, &path).expect("in place");
    path
}

/// Lines of a `sentinel.conf` for two scripts that write down their arguments, one call a line.
fn listeners(dir: &Path) -> String {
    // One write of one line: scripts that run at once do not mix theirs.
    let write = |file: &str| {
        format!("line=$#; for arg; do line=\"$line|$arg\"; done; echo \"$line\" >> {file}")
    };
    let notify = script(dir, "notify.sh", &write("events"));
    let reconfig = script(dir, "reconfig.sh", &write("moves"));
    format!(
        "sentinel notification-script {GROUP} {}\nsentinel client-reconfig-script {GROUP} {}\n",
        notify.display(),
        reconfig.display()
    )
}

/// What a script of this sentinel has written so far, a line for each call.
fn lines(sentinel: &Sentinel, file: &str) -> Vec<String> {
    let text = fs::read_to_string(sentinel.dir().join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

/// What the notification script has to be told of these events.
fn due(heard: &[Heard], by: u16) -> Vec<String> {
    let told = heard.iter().filter(|h| h.by == by && WARNINGS.contains(&&*h.event));
    told.map(|h| format!("2|{}|{}", h.event, h.text)).collect()
}

/// One failover, told to the scripts of three sentinels. Returns each kind of call that there was,
/// with numbers and ids masked.
fn failover_told(programs: &[Program]) -> BTreeSet<String> {
    let mut group =
        Plan::over(Nodes::Redis).sentinels(programs).down_after_ms(2_500).more(listeners).start();
    // What the scripts were told before anybody listened.
    let before: Vec<usize> = group.sentinels.iter().map(|s| settled(s).len()).collect();
    for sentinel in &group.sentinels {
        let monitor =
            format!("2|+monitor|master {GROUP} 127.0.0.1 {} quorum 2", group.watch.master);
        assert_eq!(lines(sentinel, "events")[0], monitor);
    }
    let (killed, old) = (Instant::now(), group.watch.master);
    group.node(old).kill9();
    let new = group.wait_for_new_master(old, 40);
    let switch = format!("{GROUP} 127.0.0.1 {old} 127.0.0.1 {new}");
    for sentinel in &group.sentinels {
        wait_until(30, "each sentinel announces the switch", || {
            let heard = group.events.since(killed, "+switch-master");
            heard.iter().any(|h| h.by == sentinel.port && h.text == switch)
        });
    }
    group.node(old).restart();
    group.wait_until_they_follow(new, &group.ports_but(new), 40);
    group.wait_until_known();

    let mut leaders = 0;
    let mut kinds = BTreeSet::new();
    for (sentinel, before) in group.sentinels.iter().zip(before) {
        // Events of the very end may still be on their way to one side or the other.
        wait_until(10, "the script is told what subscribers are", || {
            let heard: Vec<Heard> =
                group.events.all().into_iter().filter(|h| h.at >= killed).collect();
            sorted(lines(sentinel, "events")[before..].to_vec())
                == sorted(due(&heard, sentinel.port))
        });
        let moves = lines(sentinel, "moves");
        let call = |role| format!("7|{GROUP}|{role}|start|127.0.0.1|{old}|127.0.0.1|{new}");
        assert_eq!(moves.len(), 1, "{moves:?}");
        leaders += usize::from(moves[0] == call("leader"));
        assert!([call("leader"), call("observer")].contains(&moves[0]), "{moves:?}");
        let led =
            lines(sentinel, "events").iter().any(|line| line.starts_with("2|+promoted-slave"));
        assert_eq!(led, moves[0] == call("leader"), "{moves:?}");
        kinds.extend(lines(sentinel, "events").iter().chain(&moves).map(|line| masked(line)));
    }
    assert_eq!(leaders, 1);
    kinds
}

/// The calls so far, once no event has come for a while.
fn settled(sentinel: &Sentinel) -> Vec<String> {
    let mut seen = (lines(sentinel, "events"), Instant::now());
    wait_for(20, "the sentinel has nothing more to tell", || {
        let now = lines(sentinel, "events");
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        (seen.1.elapsed() > Duration::from_secs(1) && !seen.0.is_empty()).then(|| seen.0.clone())
    })
}

/// Numbers and ids as `N`.
fn masked(line: &str) -> String {
    let mut out = String::new();
    for word in line.split_inclusive(['|', ' ', ':', '.', '/', '#']) {
        let end = word.trim_end_matches(['|', ' ', ':', '.', '/', '#']).len();
        let (word, rest) = word.split_at(end);
        let is_id = word.len() == 40 && word.chars().all(|c| c.is_ascii_hexdigit());
        let is_number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit());
        out += if is_id || is_number { "N" } else { word };
        out += rest;
    }
    out
}

#[test]
fn both_scripts_are_told_a_failover_as_redis_tells_it() {
    let ours = failover_told(&[Program::under_test(); 3]);
    let theirs = failover_told(&[Program::Redis; 3]);
    let by_event = |kinds: &BTreeSet<String>| {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for kind in kinds {
            // `N|+sdown|slave ...`: the event, and for that the kind of node.
            let name = kind.split('|').nth(1).unwrap_or_default();
            let of = kind.split('|').nth(2).and_then(|rest| rest.split(' ').next());
            let name = format!("{name} {}", of.unwrap_or_default());
            found.entry(name).or_default().insert(kind.clone());
        }
        found
    };
    let (ours, theirs) = (by_event(&ours), by_event(&theirs));
    let mut common = 0;
    for (name, forms) in &ours {
        if let Some(others) = theirs.get(name) {
            common += 1;
            assert_eq!(forms, others, "{name}");
        }
    }
    assert!(common >= 12, "they have little in common: {ours:?} and {theirs:?}");
}

#[test]
fn sentinels_of_both_kinds_tell_their_scripts_the_same_failover() {
    failover_told(&[Program::Watchfire, Program::Redis, Program::Watchfire]);
}

/// One sentinel over one node, with these lines of its file.
struct Alone {
    _node: Node,
    sentinel: Sentinel,
    events: Recorder,
    _slot: slots::Slot,
}

impl Alone {
    fn start(program: Program, script_text: &str) -> Alone {
        let slot = slots::one();
        let node = Node::start(Nodes::Redis, &[]);
        let watch = Watch::of(node.port);
        let sentinel = Sentinel::start_with(program, "sentinel.conf", |port, dir| {
            let path = script(dir, "script.sh", script_text);
            let path = path.display();
            watch.config(Syntax::Conf, port, dir)
                + &format!("sentinel notification-script {GROUP} {path}\n")
        });
        let events = Recorder::start(&[sentinel.port]);
        Alone { _node: node, sentinel, events, _slot: slot }
    }

    /// Makes `count` events that a script is told of.
    fn make_events(&self, count: u32) {
        let mut client = self.sentinel.client();
        for n in 0..count {
            let timeout = (6_000 + n).to_string();
            let reply = client.call(&["SENTINEL", "SET", GROUP, "failover-timeout", &timeout]);
            assert_eq!(reply.expect("it answers").text(), "OK");
        }
    }

    fn pending(&self) -> Vec<Vec<(String, String)>> {
        let reply = self.sentinel.call(&["SENTINEL", "PENDING-SCRIPTS"]);
        reply.items().iter().map(Reply::pairs).collect()
    }

    /// `sentinel_running_scripts` and `sentinel_scripts_queue_length` of INFO.
    fn counts(&self) -> (u32, u32) {
        let info = self.sentinel.call(&["INFO", "sentinel"]).text();
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.parse().ok()).expect(name)
        };
        (field("sentinel_running_scripts"), field("sentinel_scripts_queue_length"))
    }

    fn wait_for_counts(&self, counts: (u32, u32)) {
        wait_until(20, &format!("{counts:?} scripts run and wait"), || self.counts() == counts);
    }
}

fn value(entry: &[(String, String)], field: &str) -> String {
    let found = entry.iter().find(|(name, _)| name == field);
    found.unwrap_or_else(|| panic!("{field} is not in {entry:?}")).1.clone()
}

#[test]
fn what_becomes_of_a_script_is_told_as_redis_tells_it() {
    // By the value that `+set` tells of, 6001 and so on; the events before are taken for granted.
    let text = "case $2 in\n\
                *6000) exit 0;;\n*6001) exit 2;;\n*6002) exit 255;;\n\
                *6003) exit 1;;\n*6004) kill -9 $$;;\n*6005) rm $0;;\nesac";
    for program in BOTH {
        let alone = Alone::start(program, text);
        alone.wait_for_counts((0, 0));
        let began = Instant::now();
        alone.make_events(5);
        wait_until(10, "those that failed for good are gone", || alone.counts() == (0, 2));
        let path = alone.sentinel.dir().join("script.sh");
        let errors = |since| -> Vec<String> {
            let heard = alone.events.since(since, "-script-error");
            sorted(heard.into_iter().map(|h| h.text).collect())
        };
        let expected = [2, 255].map(|code| format!("{} 0 {code}", path.display()));
        wait_until(5, "they are told", || errors(began) == expected);
        for (entry, n) in alone.pending().iter().zip(["6003", "6004"]) {
            assert!(value(entry, "argv").contains(n), "{program:?}: {entry:?}");
            assert_eq!(value(entry, "flags"), "scheduled", "{program:?}");
            assert_eq!((value(entry, "pid"), value(entry, "retry-num")), ("0".into(), "1".into()));
            let delay: u64 = value(entry, "run-delay").parse().expect("a number");
            assert!((15_000..=30_000).contains(&delay), "{program:?}: {entry:?}");
        }
        // From now on there is no script any more.
        fs::remove_file(&path).expect("removed");
        let removed = Instant::now();
        alone.make_events(1);
        wait_until(10, "it cannot be executed", || {
            errors(removed) == [format!("{} 0 2", path.display())]
        });
        assert_eq!(alone.counts(), (0, 2), "{program:?}");
    }
}

#[test]
fn a_script_that_hangs_is_killed_and_told() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    for program in BOTH {
        let began = Instant::now();
        let sentinel = Sentinel::start_with(program, "sentinel.conf", |port, dir| {
            let hangs = script(dir, "hangs.sh", "echo $$ >> begun\nexec sleep 1000");
            let line = format!("sentinel notification-script {GROUP} {}\n", hangs.display());
            Watch::of(node.port).config(Syntax::Conf, port, dir) + &line
        });
        let debug = ["SENTINEL", "DEBUG", "script-max-runtime", "300"];
        let events = Recorder::start(&[sentinel.port]);
        assert_eq!(sentinel.call(&debug).text(), "OK");
        // The one that +monitor started, and another.
        sentinel.call(&["SENTINEL", "SET", GROUP, "parallel-syncs", "2"]);
        let path = sentinel.dir().join("hangs.sh").display().to_string();
        wait_until(20, &format!("{program:?} tells which script it killed"), || {
            let begun = lines(&sentinel, "begun");
            let told = events.since(began, "-script-timeout");
            begun.len() >= 2 && told.iter().any(|h| h.text == format!("{path} {}", begun[1]))
        });
        let pid: u32 = lines(&sentinel, "begun")[1].parse().expect("a process id");
        wait_until(10, "it is gone", || !Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn pending_scripts_and_info_show_what_redis_shows() {
    let text = "[ $1 = +set ] || exit 0\nwhile [ ! -e go ]; do sleep 0.05; done";
    let mut shown = Vec::new();
    for program in BOTH {
        let alone = Alone::start(program, text);
        alone.wait_for_counts((0, 0));
        alone.make_events(20);
        alone.wait_for_counts((16, 20));
        let (dir, pid) = (alone.sentinel.dir().display().to_string(), children(&alone.sentinel));
        let mut replies = Vec::new();
        for hello in ["2", "3"] {
            let mut client = alone.sentinel.client();
            client.call(&["HELLO", hello]).expect("it answers");
            // Processes are made one after another.
            let reply = wait_for(10, "all have their processes", || {
                let reply = client.call(&["SENTINEL", "PENDING-SCRIPTS"]).expect("it answers");
                let zeros = reply.items().iter().filter(|e| e.field("pid") == Some("0".into()));
                (zeros.count() == 4).then_some(reply)
            });
            replies.push(pending_masked(&reply, &dir, &pid));
        }
        fs::write(alone.sentinel.dir().join("go"), "").expect("a file");
        alone.wait_for_counts((0, 0));
        assert_eq!(alone.pending(), Vec::<Vec<_>>::new());
        wait_until(5, "none is left, not even as a zombie", || {
            children(&alone.sentinel).is_empty()
        });
        shown.push(replies);
    }
    assert_eq!(shown[0], shown[1]);
}

/// A reply with times, the folder and the ports of the story masked; each process must be a child.
fn pending_masked(reply: &Reply, dir: &str, children: &BTreeSet<String>) -> String {
    for entry in reply.items() {
        let (pid, flags) = (entry.field("pid"), entry.field("flags"));
        let pid = pid.expect("a field");
        let expected =
            if flags.as_deref() == Some("running") { children.contains(&pid) } else { pid == "0" };
        assert!(expected, "{entry}");
    }
    let text = format!("{reply:?}").replace(dir, "DIR");
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        // Ports, processes and times have numbers of their own; the events' values are kept.
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        let number: u64 = digits.parse().unwrap_or(0);
        let kept = digits.len() < 2 && number < 2 || (6_000..6_020).contains(&number);
        out += if digits.is_empty() || kept { digits } else { "N" };
        out += &word[digits.len()..];
    }
    out
}

/// Processes whose parent this sentinel is, by number.
fn children(sentinel: &Sentinel) -> BTreeSet<String> {
    children_of(sentinel.pid())
}

fn children_of(pid: u32) -> BTreeSet<String> {
    let own = pid.to_string();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("Linux has /proc").flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // `pid (name) state parent ...`
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        if parent == Some(own.as_str()) {
            found.insert(pid);
        }
    }
    found
}

#[test]
fn a_script_inherits_no_descriptor_of_a_busy_sentinel() {
    let list: fn(&Path) -> String = |dir| {
        let notify = script(dir, "notify.sh", "ls -l /proc/self/fd > fds.new && mv fds.new fds");
        format!("sentinel notification-script {GROUP} {}\n", notify.display())
    };
    let group = Plan::over(Nodes::Redis).more(list).start();
    for sentinel in &group.sentinels {
        let _clients: Vec<_> = (0..20).map(|_| sentinel.client()).collect();
        let _ = fs::remove_file(sentinel.dir().join("fds"));
        sentinel.call(&["SENTINEL", "SET", GROUP, "parallel-syncs", "2"]);
        let listed = wait_for(10, "the script lists its descriptors", || {
            fs::read_to_string(sentinel.dir().join("fds")).ok()
        });
        let fds = listed.lines().filter_map(|line| {
            let (left, target) = line.split_once(" -> ")?;
            Some((left.rsplit(' ').next()?, target))
        });
        let mut others: Vec<_> = fds.filter(|(fd, _)| !["0", "1", "2"].contains(fd)).collect();
        // Whoever started these tests may have given them one, which every child inherits.
        let given = |fd: &str| fs::read_link(format!("/proc/self/fd/{fd}")).ok();
        others.retain(|(fd, target)| given(fd).is_none_or(|given| given != Path::new(target)));
        // And one is the folder that is being listed.
        assert!(others.len() == 1 && others[0].1.ends_with("/fd"), "{others:?}");
    }
}

#[test]
fn scripts_that_hang_hold_up_no_vote_no_save_and_no_failover() {
    let stuck: fn(&Path) -> String = |dir| {
        let hang = script(dir, "hang.sh", "echo $$ >> hanging; exec sleep 60");
        format!(
            "sentinel notification-script {GROUP} {}\nsentinel client-reconfig-script {GROUP} {}\n",
            hang.display(),
            hang.display()
        )
    };
    let mut group = Plan::over(Nodes::Redis).more(stuck).alone().start();
    // Three hundred events at once.
    let mut words = vec!["SENTINEL", "SET", GROUP];
    words.extend(["parallel-syncs", "2"].repeat(300));
    for sentinel in &group.sentinels {
        assert_eq!(sentinel.call(&words).text(), "OK");
        wait_until(10, "sixteen hang", || lines(sentinel, "hanging").len() == 16);
        let pending = sentinel.call(&["SENTINEL", "PENDING-SCRIPTS"]);
        assert_eq!(pending.items().len(), 256);
        assert_eq!(lines(sentinel, "hanging").len(), 16);
    }
    let (killed, old) = (Instant::now(), group.watch.master);
    group.node(old).kill9();
    let new = group.wait_for_new_master(old, 10);
    let took = group.ms_until(killed, "+switch-master", GROUP).expect("it was announced");
    assert!(took < 5_000, "the failover took {took} ms");
    group.wait_until_they_follow(new, &left(&group, &[old, new]), 10);
    end_scripts(&mut group);
}

/// As the first process of a container does, a sentinel gets the orphans that its scripts leave.
#[test]
fn what_scripts_leave_behind_becomes_no_zombie() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    let watch = Watch::of(node.port);
    let dir = tempfile::tempdir().expect("a folder");
    let leave = script(dir.path(), "leave.sh", "sleep 0.1 &\necho $! >> left");
    let file = dir.path().join("sentinel.conf");
    // 36 is PR_SET_CHILD_SUBREAPER.
    let adopt = "import ctypes, os, sys\n\
                 assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0\n\
                 os.execv(sys.argv[1], sys.argv[1:])";
    let program = Program::Watchfire;
    let args = program.args(file.to_str().expect("temporary folders have plain names"));
    let args = [&["-c", adopt, program.path()], &args[..]].concat();
    let (process, port) = start_on_free_port("sentinel", "python3", &args, dir.path(), |port| {
        let text = watch.config(Syntax::Conf, port, dir.path());
        let leave = leave.display();
        let text = format!("{text}sentinel notification-script {GROUP} {leave}\n");
        fs::write(&file, text).expect("a file");
    });
    for n in 0..20 {
        let value = (6_000 + n).to_string();
        ask(port, &["SENTINEL", "SET", GROUP, "failover-timeout", &value]).expect("it answers");
    }
    wait_until(20, "each script has left somebody", || {
        let left = fs::read_to_string(dir.path().join("left")).unwrap_or_default();
        left.lines().count() == 21
    });
    wait_until(10, "nobody of them is left", || children_of(process.pid()).is_empty());
}

fn left(group: &Group, but: &[u16]) -> Vec<u16> {
    group.nodes.iter().map(|n| n.port).filter(|port| !but.contains(port)).collect()
}

/// Ends the sentinels, and then their scripts, which outlive them.
fn end_scripts(group: &mut Group) {
    for sentinel in &mut group.sentinels {
        let scripts = children(sentinel);
        assert_eq!(scripts.len(), 16);
        assert!(sentinel.process().terminate().success());
        for pid in scripts {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a number");
            let killed = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            killed.expect("it has outlived its sentinel");
        }
    }
}
