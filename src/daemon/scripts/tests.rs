//! Scripts as real processes: what they are given, and what becomes of them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::daemon::handle::Handle;
use crate::sentinel::{Event, EventKind};

/// No condition of these tests takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs scripts that lie in a folder of its own.
struct Theatre {
    dir: TempDir,
    handle: Handle,
    events: Receiver<Arc<Event>>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Theatre {
    fn open() -> Theatre {
        let (handle, _) = Handle::new();
        let stop = CancellationToken::new();
        Theatre {
            dir: tempfile::tempdir().unwrap(),
            events: handle.events(),
            running: tokio::spawn(run(handle.clone(), stop.clone())),
            handle,
            stop,
        }
    }

    /// A script in the shell's words; `$dir` is the folder.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let text = format!("#!/bin/sh\ndir='{}'\n{text}\n", self.dir.path().display());
        written(&self.dir.path().join(name), &text, 0o755)
    }

    fn add(&self, script: &Path, args: &[&str]) {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.handle.scripts().add(script.to_owned(), args);
    }

    fn set_times(&self, max_runtime_ms: u64, retry_delay_ms: u64) {
        self.handle.scripts().set_times(ScriptTimes { max_runtime_ms, retry_delay_ms });
    }

    /// Waits until a file of the folder is there, with a whole line at its end.
    async fn file(&self, name: &str) -> String {
        let path = self.dir.path().join(name);
        let mut text = String::new();
        until(&format!("a script writes {name}"), || {
            text = fs::read_to_string(&path).unwrap_or_default();
            text.ends_with('\n')
        })
        .await;
        text
    }

    /// The next event of this kind, and how many of others came before it.
    async fn event(&mut self, kind: EventKind) -> (String, usize) {
        let mut others = 0;
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("no {}", kind.name())).unwrap();
            if event.kind == kind {
                return (event.payload.clone(), others);
            }
            others += 1;
        }
    }

    async fn done(&self) {
        until("all scripts are done", || self.handle.scripts().counts() == (0, 0)).await;
    }
}

impl Drop for Theatre {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Written by another process: a script that is still open for writing, be it in a child that
/// another test is about to start, cannot be executed.
fn written(path: &Path, text: &str, mode: u32) -> PathBuf {
    let mut writer = std::process::Command::new("tee")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_owned()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// True while there is such a process that has not ended.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[tokio::test]
async fn a_script_gets_its_arguments_environment_and_folder_and_no_descriptor() {
    let theatre = Theatre::open();
    // Descriptors of ours that are open meanwhile: a file, a listener, a connection.
    let _file = fs::File::open("/dev/null").unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _connection = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let script = theatre.script(
        "ask",
        "printf '%s|' \"$#\" \"$@\" > $dir/args\n\
         pwd > $dir/cwd\n\
         env > $dir/env\n\
         ls -l /proc/self/fd > $dir/fds\n\
         echo >> $dir/args",
    );
    theatre.add(&script, &["+sdown", "master a b", "", "a\0b", "two  words; $(exit) \"'\n*"]);
    theatre.done().await;
    let args = theatre.file("args").await;
    assert_eq!(args, "5|+sdown|master a b||a|two  words; $(exit) \"'\n*|\n");
    assert_eq!(
        theatre.file("cwd").await.trim(),
        std::env::current_dir().unwrap().display().to_string()
    );
    let theirs = theatre.file("env").await;
    for (name, value) in std::env::vars().filter(|(name, value)| {
        // The shell has its own ideas of these.
        !["_", "PWD", "OLDPWD", "SHLVL"].contains(&&**name) && !value.contains('\n')
    }) {
        assert!(theirs.lines().any(|line| line == format!("{name}={value}")), "{name} is missing");
    }
    let listed = theatre.file("fds").await;
    let open =
        listed.lines().filter_map(|line| line.rsplit(' ').nth(2).zip(line.split("-> ").nth(1)));
    let mut others: Vec<_> = open.filter(|(fd, _)| !["0", "1", "2"].contains(fd)).collect();
    // Whoever started these tests may have given them a descriptor, which goes on to children.
    let given = |fd: &str| fs::read_link(format!("/proc/{}/fd/{fd}", parent_id())).ok();
    others.retain(|(fd, target)| given(fd).is_none_or(|given| given != Path::new(target)));
    // And one is the folder that is being listed.
    assert!(others.len() == 1 && others[0].1.ends_with("/fd"), "{others:?}");
    theatre.done().await;
}

#[tokio::test]
async fn exit_codes_and_signals_decide_what_follows() {
    let mut theatre = Theatre::open();
    theatre.set_times(60_000, 20);
    // Counts its calls, and then ends as it is told.
    let script = theatre.script("end", "echo . >> $dir/$1\nshift\neval \"$@\"");
    let path = script.display();
    for (name, how, calls, told) in [
        ("done", "exit 0", 1, None),
        ("second", "[ $(wc -l < $dir/second) -eq 2 ] || exit 1", 2, None),
        ("killed-once", "[ $(wc -l < $dir/killed-once) -eq 2 ] || kill -9 $$", 2, None),
        ("wrong", "exit 2", 1, Some("0 2")),
        ("worse", "exit 255", 1, Some("0 255")),
    ] {
        theatre.add(&script, &[name, how]);
        if let Some(told) = told {
            let (payload, _) = theatre.event(EventKind::ScriptError).await;
            assert_eq!(payload, format!("{path} {told}"));
        }
        theatre.done().await;
        let count = theatre.file(name).await.lines().count();
        assert_eq!(count, calls, "{name}");
    }
}

#[tokio::test]
async fn ten_attempts_and_no_more() {
    for (how, told) in [("exit 1", "0 1"), ("kill -TERM $$", "15 0")] {
        let mut theatre = Theatre::open();
        theatre.set_times(60_000, 1);
        let script = theatre.script("fail", &format!("echo . >> $dir/calls\n{how}"));
        theatre.add(&script, &[]);
        let (payload, _) = theatre.event(EventKind::ScriptError).await;
        assert_eq!(payload, format!("{} {told}", script.display()));
        theatre.done().await;
        assert_eq!(theatre.file("calls").await.lines().count(), 10, "{how}");
    }
}

#[tokio::test]
async fn the_children_of_scripts_are_told_to_the_log_alone() {
    let mut theatre = Theatre::open();
    let script = theatre.script("end", "echo $$ > $dir/pid\nexit 3");
    theatre.add(&script, &[]);
    let (born, _) = theatre.event(EventKind::ScriptChild).await;
    let (ended, _) = theatre.event(EventKind::ScriptChildEnd).await;
    let pid = theatre.file("pid").await;
    assert_eq!((born.as_str(), ended), (pid.trim(), format!("{born} 3 0")));
    assert_eq!(EventKind::ScriptChild.level(), crate::sentinel::Level::Debug);
    assert_eq!(EventKind::ScriptChildEnd.level(), crate::sentinel::Level::Debug);
}

#[tokio::test]
async fn what_cannot_be_executed_ends_like_exit_code_two() {
    let mut theatre = Theatre::open();
    let folder = theatre.dir.path();
    let plain = written(&folder.join("plain"), "#!/bin/sh\n", 0o644);
    // No shell guesses what it may be.
    let headless = written(&folder.join("headless"), "exit 0\n", 0o755);
    let strange = written(&folder.join("strange"), "#!/no/such/interpreter\n", 0o755);
    for path in [folder.join("missing"), plain, headless, strange, folder.to_owned()] {
        theatre.add(&path, &["+sdown", "x"]);
        let (payload, others) = theatre.event(EventKind::ScriptError).await;
        assert_eq!((payload, others), (format!("{} 0 2", path.display()), 0));
        theatre.done().await;
    }
}

#[tokio::test]
async fn a_name_without_a_slash_means_the_working_directory_not_the_path() {
    let mut theatre = Theatre::open();
    // There is one in PATH.
    theatre.add(Path::new("true"), &[]);
    assert_eq!(theatre.event(EventKind::ScriptError).await.0, "true 0 2");
}

#[tokio::test]
async fn a_script_that_hangs_is_killed_with_all_that_it_waits_for_and_tried_again() {
    let mut theatre = Theatre::open();
    theatre.set_times(300, 60_000);
    let script = theatre.script("hang", "sleep 1000 &\necho $$ $! > $dir/pids\nwait");
    theatre.add(&script, &["+sdown"]);
    let (payload, _) = theatre.event(EventKind::ScriptTimeout).await;
    let pids = theatre.file("pids").await;
    let (shell, sleeper) = pids.trim().split_once(' ').unwrap();
    assert_eq!(payload, format!("{} {shell}", script.display()));
    let (ended, others) = theatre.event(EventKind::ScriptChildEnd).await;
    assert_eq!((ended, others), (format!("{shell} 0 9"), 0));
    until("both processes are gone", || !lives(shell) && !lives(sleeper)).await;
    assert!(!Path::new(&format!("/proc/{shell}")).exists(), "it has been waited for");
    until("it waits for another attempt", || {
        theatre.handle.scripts().pending().first().is_some_and(|job| !job.running)
    })
    .await;
    let job = theatre.handle.scripts().pending().remove(0);
    assert_eq!((job.pid, job.attempts, job.running), (0, 1, false));
    assert!((30_000..=60_000).contains(&job.ms), "{job:?}");
}

#[tokio::test]
async fn new_times_concern_scripts_that_run_already() {
    let mut theatre = Theatre::open();
    let script = theatre.script("hang", "exec sleep 1000");
    theatre.add(&script, &[]);
    theatre.event(EventKind::ScriptChild).await;
    theatre.set_times(1, 60_000);
    theatre.event(EventKind::ScriptTimeout).await;
}

#[tokio::test]
async fn three_hundred_at_once_run_sixteen_at_a_time_in_their_order() {
    let theatre = Theatre::open();
    let script = theatre.script(
        "count",
        "echo $1 >> $dir/begun\n\
         while [ -d $dir ] && [ ! -e $dir/go ]; do sleep 0.02; done\necho $1 >> $dir/done",
    );
    for n in 0..300 {
        theatre.add(&script, &[&n.to_string()]);
    }
    let scripts = theatre.handle.scripts();
    until("sixteen run", || scripts.counts().0 == 16).await;
    until("sixteen have begun and are known", || {
        let known = scripts.pending().iter().filter(|job| job.pid != 0).count();
        lines(&theatre, "begun").len() == 16 && known == 16
    })
    .await;
    assert_eq!(scripts.counts(), (16, 256));
    let pending = scripts.pending();
    let [running, waiting] = [true, false].map(|is| {
        let of_kind = pending.iter().filter(|job| job.running == is);
        of_kind.map(|job| job.argv[1].parse::<u32>().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(running.len(), 16);
    assert!(pending.iter().all(|job| job.running == (job.pid != 0)), "{pending:?}");
    // The oldest that did not run had to go, and all others keep their order.
    assert!(waiting.is_sorted() && waiting.len() == 240 && waiting.last() == Some(&299));
    written(&theatre.dir.path().join("go"), "", 0o644);
    theatre.done().await;
    assert_eq!(lines(&theatre, "done").len(), 256);
}

fn lines(theatre: &Theatre, name: &str) -> Vec<String> {
    let text = fs::read_to_string(theatre.dir.path().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn long_arguments_are_cut_between_characters() {
    let theatre = Theatre::open();
    let script = theatre.script("measure", "printf %s \"$1\" | wc -c > $dir/size");
    theatre.add(&script, &[&"é".repeat(100_000)]);
    theatre.done().await;
    assert_eq!(theatre.file("size").await.trim(), "1022");
}

#[tokio::test]
async fn scripts_that_run_outlive_the_sentinel() {
    let mut theatre = Theatre::open();
    let script = theatre.script(
        "late",
        "echo $$ > $dir/pid\n\
         while [ -d $dir ] && [ ! -e $dir/go ]; do sleep 0.02; done\necho end > $dir/end",
    );
    theatre.add(&script, &[]);
    let pid = theatre.file("pid").await;
    theatre.stop.cancel();
    tokio::time::timeout(PATIENCE, &mut theatre.running).await.expect("it ends at once").unwrap();
    assert!(lives(&pid));
    written(&theatre.dir.path().join("go"), "", 0o644);
    assert_eq!(theatre.file("end").await, "end\n");
}
