//! Killed with SIGKILL after each step of each write, and within the writes: what is found then is
//! always a state that was written, whole, and nothing is missing that was answered as durable. The
//! process that is killed is this test program, started
//! once more to run [`writes_until_it_is_killed`] alone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use super::state_file::StateFile;
use super::tests::{state, wide};
use super::{Main, Memory, Opened};
use crate::config::load::{Loaded, load_sentinel};
use crate::config::state::State;
use crate::config::types::RunId;

/// Where the child dies: `step:3`, or `byte:100` of all that it writes.
const DIE_AT: &str = "WATCHFIRE_TEST_DIE_AT";
/// What the child does, and in which folder.
const STORY: &str = "WATCHFIRE_TEST_STORY";
const FOLDER: &str = "WATCHFIRE_TEST_FOLDER";
/// The file in which the child says what was answered as durable.
const TOLD: &str = "told";

/// Steps passed and bytes written by this process.
static STEPS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Where to die, in this unit; `None` but in a child.
fn die_at(unit: &str) -> Option<usize> {
    std::env::var(DIE_AT).ok()?.strip_prefix(unit)?.parse().ok()
}

fn die() {
    let _ = kill_process(getpid(), Signal::KILL);
}

/// Between two steps of a write.
pub(super) fn step() {
    if die_at("step:") == Some(STEPS.fetch_add(1, Ordering::Relaxed)) {
        die();
    }
}

pub(super) fn write(file: &mut File, content: &[u8]) -> io::Result<()> {
    let before = BYTES.fetch_add(content.len(), Ordering::Relaxed);
    let left = die_at("byte:").and_then(|at| at.checked_sub(before));
    if let Some(part) = left.and_then(|left| content.get(..left)) {
        file.write_all(part)?;
        die();
    }
    file.write_all(content)
}

const CONF: &str = "# mine\nport 26400\nsentinel monitor mymaster 127.0.0.1 6379 2\n\
                    sentinel auth-pass mymaster secret\n";

fn fresh_id() -> RunId {
    RunId::from_bytes([9; 20])
}

fn conf(folder: &Path) -> Loaded {
    load_sentinel(&folder.join("sentinel.conf"), &[]).expect("never a file that cannot be read")
}

/// What happens to a folder: prepared by the parent, then done by the child until it dies.
struct Story {
    name: &'static str,
    prepare: fn(&Path),
    happens: fn(&Path),
    /// What is remembered there.
    remembered: fn(&Path) -> State,
    /// The epochs of the states that may be found.
    epochs: &'static [u64],
    /// The state of an epoch.
    state: fn(u64) -> State,
    /// At least so many places to die at.
    steps_min: usize,
    /// It is cut at each so many bytes; a prime, so that the writes are cut at ever other places.
    stride: usize,
}

/// Tells the parent that the state of this epoch is durable.
fn tell(folder: &Path, epoch: u64) {
    fs::write(folder.join(TOLD), epoch.to_string()).unwrap();
}

/// Writes a state, and tells when that is done.
fn keep(memory: &mut Memory, folder: &Path, state: &State) {
    memory.write(state, false).unwrap();
    tell(folder, state.current_epoch);
}

fn conf_with_state(folder: &Path) {
    fs::write(folder.join("sentinel.conf"), CONF).unwrap();
    Memory::open(&conf(folder), fresh_id()).unwrap().memory.write(&state(5), false).unwrap();
}

fn opened(folder: &Path) -> State {
    Memory::open(&conf(folder), fresh_id()).unwrap().state
}

/// A wide one, closed as at an orderly end.
fn wide_conf(folder: &Path) {
    fs::write(folder.join("sentinel.conf"), CONF).unwrap();
    let mut memory = Memory::open(&conf(folder), fresh_id()).unwrap().memory;
    memory.write(&wide(5), false).unwrap();
    memory.close();
}

/// The memory of a YAML sentinel.
fn own(folder: &Path) -> Memory {
    let (file, state) = open_state_file(folder);
    Memory::new(Main::Own(file), &state.unwrap_or_else(|| wide(5)))
}

/// What a wide sentinel lives through: changes, a rest, changes, its end.
fn lives(mut memory: Memory, folder: &Path) {
    keep(&mut memory, folder, &wide(6));
    keep(&mut memory, folder, &wide(7));
    memory.settle();
    keep(&mut memory, folder, &wide(8));
    memory.close();
}

fn open_state_file(folder: &Path) -> (StateFile, Option<State>) {
    StateFile::open(folder, 26400).unwrap()
}

const STORIES: &[Story] = &[
    Story {
        name: "a sentinel.conf is written",
        prepare: conf_with_state,
        happens: |folder| {
            let Opened { mut memory, .. } = Memory::open(&conf(folder), fresh_id()).unwrap();
            (6..8).for_each(|epoch| keep(&mut memory, folder, &state(epoch)));
        },
        remembered: opened,
        epochs: &[5, 6, 7],
        state,
        steps_min: 18,
        stride: 89,
    },
    Story {
        name: "a state file is written",
        prepare: |folder| {
            open_state_file(folder).0.write(&state(5), None).unwrap();
        },
        happens: |folder| {
            let (file, _) = open_state_file(folder);
            for epoch in 6..8 {
                file.write(&state(epoch), None).unwrap();
                tell(folder, epoch);
            }
        },
        remembered: |folder| open_state_file(folder).1.unwrap(),
        epochs: &[5, 6, 7],
        state,
        steps_min: 12,
        stride: 89,
    },
    Story {
        name: "a wide sentinel.conf has its journal",
        prepare: wide_conf,
        happens: |folder| {
            lives(Memory::open(&conf(folder), fresh_id()).unwrap().memory, folder);
        },
        remembered: opened,
        epochs: &[5, 6, 7, 8],
        state: wide,
        steps_min: 40,
        stride: 1999,
    },
    Story {
        name: "a wide state file has its journal",
        prepare: |folder| {
            let mut memory = own(folder);
            memory.write_first(&wide(5)).unwrap();
            memory.close();
        },
        happens: |folder| {
            let mut memory = own(folder);
            memory.write_first(&wide(5)).unwrap();
            lives(memory, folder);
        },
        remembered: |folder| open_state_file(folder).1.unwrap(),
        epochs: &[5, 6, 7, 8],
        state: wide,
        steps_min: 40,
        stride: 9973,
    },
    Story {
        name: "a full disk ends a journal",
        prepare: wide_conf,
        happens: |folder| {
            let mut memory = Memory::open(&conf(folder), fresh_id()).unwrap().memory;
            keep(&mut memory, folder, &wide(6));
            memory.break_journal();
            memory.write(&wide(7), false).unwrap_err();
            keep(&mut memory, folder, &wide(8));
            keep(&mut memory, folder, &wide(9));
            memory.close();
        },
        remembered: opened,
        epochs: &[5, 6, 7, 8, 9],
        state: wide,
        steps_min: 36,
        stride: 4999,
    },
    Story {
        name: "a sentinel.conf that somebody edited is written",
        prepare: conf_with_state,
        happens: |folder| {
            let Opened { mut memory, .. } = Memory::open(&conf(folder), fresh_id()).unwrap();
            fs::write(folder.join("sentinel.conf"), CONF.replace("mine", "theirs")).unwrap();
            keep(&mut memory, folder, &state(6));
        },
        remembered: |folder| {
            let path = folder.join("sentinel.conf");
            let edited = fs::read_to_string(&path).unwrap() == CONF.replace("mine", "theirs");
            let found = opened(folder);
            // What the operator wrote is whole, and has no state in it: his doing.
            if edited { state(6) } else { found }
        },
        epochs: &[5, 6],
        state,
        steps_min: 18,
        stride: 89,
    },
    Story {
        name: "a sentinel.conf takes over what was kept elsewhere",
        prepare: |folder| {
            // The folder of the state is `dir`.
            let text = format!("{CONF}dir {}\n", folder.display());
            fs::write(folder.join("sentinel.conf"), text).unwrap();
            let mut kept = state(6);
            let group = kept.groups.get_mut("mymaster").unwrap();
            group.config_epoch = 6;
            group.declared = Some(conf(folder).groups["mymaster"].clone());
            group.settings.master.port = 6380;
            let name = "watchfire-state-conf-26400";
            StateFile::open_as(folder, name).unwrap().0.write(&kept, None).unwrap();
        },
        happens: |folder| drop(Memory::open(&conf(folder), fresh_id()).unwrap()),
        remembered: |folder| {
            let mut found = opened(folder);
            let group = found.groups.get_mut("mymaster").unwrap();
            assert_eq!((group.settings.master.port, group.config_epoch), (6380, 6));
            (group.settings.master.port, group.config_epoch) = (6379, 0);
            assert!(!StateFile::exists(folder, "watchfire-state-conf-26400"), "told twice");
            found
        },
        epochs: &[6],
        state,
        steps_min: 8,
        stride: 89,
    },
];

/// Runs a story in a child that dies there; false if it lived to the end.
fn dies(story: &Story, folder: &Path, place: &str) -> bool {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args(["--exact", "daemon::store::kill_tests::writes_until_it_is_killed", "--nocapture"])
        .envs([(DIE_AT, place), (STORY, story.name)])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let killed = output.status.signal() == Some(Signal::KILL.as_raw());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(killed || (output.status.success() && said.contains("1 passed")), "{said}");
    killed
}

/// Kills the story at `place`, and looks at what is left. False if it was not killed.
fn survives(story: &Story, place: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    (story.prepare)(folder.path());
    let killed = dies(story, folder.path(), place);
    let found = (story.remembered)(folder.path());
    let known = story.epochs.iter().any(|&epoch| found == (story.state)(epoch));
    assert!(known, "{}, killed at {place}: {found:?}", story.name);
    let told = fs::read_to_string(folder.path().join(TOLD)).unwrap_or_default();
    let told = told.parse().unwrap_or(0);
    let durable = found.current_epoch >= told;
    assert!(durable, "{}, killed at {place}: {told} was answered, {found:?}", story.name);
    let last = story.epochs[story.epochs.len() - 1];
    assert!(killed || found == (story.state)(last), "{}: it lived, and forgot", story.name);
    let leftover = |name: &str| name.ends_with(".tmp");
    let names = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name());
    assert!(!names.map(|n| n.into_string().unwrap()).any(|n| leftover(&n)), "it is swept up");
    killed
}

#[test]
fn whenever_it_is_killed_a_whole_state_is_found() {
    for story in STORIES {
        let steps = (0..).take_while(|n| survives(story, &format!("step:{n}"))).count();
        assert!(steps >= story.steps_min, "{}: only {steps} steps", story.name);
        let cut = |n: &usize| survives(story, &format!("byte:{}", n * story.stride));
        let cut = (0..).take_while(cut).count();
        assert!(cut >= 3, "{}: only {cut} places", story.name);
    }
}

/// Not a test by itself: what the child does.
#[test]
fn writes_until_it_is_killed() {
    let Ok(name) = std::env::var(STORY) else { return };
    let folder = std::env::var_os(FOLDER).unwrap();
    let story = STORIES.iter().find(|story| story.name == name).unwrap();
    (story.happens)(Path::new(&folder));
}
