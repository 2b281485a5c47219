//! Makes the core's state durable. One thread writes, one state at a time, so a slow disk delays
//! votes and nothing else.

mod aside;
mod change;
mod conf_file;
mod conf_lock;
pub(super) mod journal;
#[cfg(test)]
mod kill_tests;
mod memory;
#[cfg(test)]
mod memory_tests;
mod replace;
pub(super) mod state_file;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};

use tokio::sync::mpsc::Sender;

pub use aside::{journal_left, state_folders};
pub use state_file::StateFileError;

use self::memory::Main;
pub(super) use self::memory::Memory;
use self::replace::ReplaceError;
pub(crate) use self::replace::replace as replace_file;
use self::state_file::StateFile;
use super::StartError;
use crate::config::load::{Loaded, Syntax};
use crate::config::state::State;
use crate::config::types::RunId;
use crate::sentinel::{Input, Revision, reconcile, reconcile_live};

/// States that may wait for the writer: the core hands out one at a time.
const JOBS_MAX: usize = 1;

/// A memory that has been written once.
pub(super) struct Opened {
    pub(super) memory: Memory,
    /// The state to start with.
    pub(super) state: State,
    /// What of it an operator should know.
    pub(super) notes: Vec<String>,
}

impl Memory {
    /// Opens what this configuration calls for, and makes sure that it can be written.
    pub(super) fn open(loaded: &Loaded, fresh_id: RunId) -> Result<Opened, StartError> {
        if loaded.syntax == Syntax::Conf {
            return aside::open(loaded, fresh_id);
        }
        let (file, remembered) =
            StateFile::open(&loaded.settings.dir, loaded.settings.main_port())?;
        let (mut state, mut notes) = reconcile(loaded.groups.clone(), remembered, fresh_id);
        let (live, more) = reconcile_live(loaded.settings.live(), state.live.take());
        state.live = live;
        notes.extend(more);
        loaded.user_lines().are_lost();
        let mut memory = Memory::new(Main::Own(file), &state);
        match memory.write_first(&state) {
            Ok(()) => {}
            Err(error) if error.is_for_want_of_room() => notes.push(no_room(&error)),
            Err(error) => {
                let (path, why) = (memory.path().to_owned(), error.to_string());
                let what = "state file";
                return Err(StartError::NotWritable { what, path, why });
            }
        }
        Ok(Opened { memory, state, notes })
    }
}

/// Said of a start on a full disk: a sentinel that watches and answers is better than none. The
/// core tries again, and takes no part in elections before it has succeeded.
fn no_room(error: &ReplaceError) -> String {
    format!("The state cannot be written: {error}. Make room; until then I only watch and answer")
}

/// A state to be written; `whole` if it has to be in the file itself.
pub(super) struct Job {
    pub(super) revision: Revision,
    pub(super) state: Box<State>,
    pub(super) whole: bool,
}

/// The writer.
pub(super) struct Store {
    jobs: SyncSender<Job>,
}

impl Store {
    /// Starts the thread; it answers to `answers`.
    pub(super) fn start(memory: Memory, answers: Sender<Input>) -> std::io::Result<Store> {
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let work = move || write_all(memory, &queue, &answers);
        std::thread::Builder::new().name("store".into()).spawn(work)?;
        Ok(Store { jobs })
    }

    /// Hands a state over; an input to give to the core if that is not possible.
    pub(super) fn persist(&self, job: Job) -> Result<(), Input> {
        let revision = job.revision;
        self.jobs.try_send(job).map_err(|_| Input::PersistFailed {
            revision,
            reason: "the thread that writes it is gone or busy".into(),
        })
    }

    /// Lets the thread end; when the write in flight is done and the file has all, its answers end.
    pub(super) fn stop(self) {
        drop(self.jobs);
    }
}

fn write_all(mut memory: Memory, queue: &Receiver<Job>, answers: &Sender<Input>) {
    loop {
        let job = match memory.rest() {
            Some(rest) => queue.recv_timeout(rest),
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let Job { revision, state, whole } = match job {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                memory.settle();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return memory.close(),
        };
        let answer = match memory.write(&state, whole) {
            Ok(()) => Input::Persisted { revision },
            Err(error) => Input::PersistFailed { revision, reason: error.to_string() },
        };
        // The core may be gone; the state is safe all the same.
        let _ = answers.blocking_send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::config::load::load_sentinel;
    use crate::config::settings::GroupSettings;
    use crate::config::state::GroupState;
    use crate::config::types::{Address, RunId, Secret};

    /// A state that is told by its epoch, with a password in it.
    pub(super) fn state(epoch: u64) -> State {
        let mut settings = GroupSettings::new(Address::new("127.0.0.1", 6379), 2);
        settings.auth_pass = Some(Secret::new("secret"));
        let mut group = GroupState::fresh(settings, None);
        group.leader_epoch = epoch;
        group.voted_for = Some(RunId::from_bytes([7; 20]));
        group.replicas.push(Address::new("::1", 6380));
        group.sentinels.insert(RunId::from_bytes([8; 20]), Address::new("127.0.0.1", 26380));
        State {
            my_id: RunId::from_bytes([1; 20]),
            current_epoch: epoch,
            groups: [("mymaster", group)].into(),
            removed: Default::default(),
            live: None,
        }
    }

    /// The same with so many groups that there is a journal.
    pub(super) fn wide(epoch: u64) -> State {
        let mut state = state(epoch);
        for n in 0..memory::REWRITTEN_MAX {
            let port = 7000 + u16::try_from(n).unwrap();
            let settings = GroupSettings::new(Address::new("127.0.0.1", port), 2);
            state.groups.insert(format!("g{n:03}"), GroupState::fresh(settings, None));
        }
        state
    }

    fn conf(folder: &Path) -> Loaded {
        let path = folder.join("sentinel.conf");
        if !path.exists() {
            fs::write(
                &path,
                "# mine\nport 26400\nsentinel monitor mymaster 127.0.0.1 6379 2\n\
                 sentinel auth-pass mymaster secret\n",
            )
            .unwrap();
        }
        load_sentinel(&path, &[]).unwrap()
    }

    #[test]
    fn a_conf_file_is_rewritten_in_place_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let id = RunId::from_bytes([9; 20]);
        let Opened { mut memory, state: fresh, .. } =
            Memory::open(&conf(folder.path()), id.clone()).unwrap();
        assert_eq!((&fresh.my_id, fresh.current_epoch), (&id, 0));
        for epoch in [5, 6] {
            memory.write(&state(epoch), false).unwrap();
        }
        let text = fs::read_to_string(memory.path()).unwrap();
        assert!(text.starts_with("# mine\nport 26400\n"), "{text}");
        assert_eq!(text.matches("leader-epoch").count(), 1, "{text}");
        drop(memory);
        let again = Memory::open(&conf(folder.path()), id).unwrap();
        assert_eq!(again.state, state(6));
    }

    #[test]
    fn a_link_to_a_conf_file_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        conf(folder.path());
        let link = folder.path().join("link.conf");
        std::os::unix::fs::symlink(folder.path().join("sentinel.conf"), &link).unwrap();
        let loaded = load_sentinel(&link, &[]).unwrap();
        let mut memory = Memory::open(&loaded, RunId::from_bytes([9; 20])).unwrap().memory;
        memory.write(&state(5), false).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&link).unwrap().contains("current-epoch 5"));
    }

    #[test]
    fn the_writer_answers_for_each_state_good_or_bad() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = conf(folder.path());
        let memory = Memory::open(&loaded, RunId::from_bytes([9; 20])).unwrap().memory;
        let (sender, mut answers) = channel(2);
        let store = Store::start(memory, sender).unwrap();
        let mut answer = |revision| {
            let state = Box::new(state(revision));
            store.persist(Job { revision: Revision(revision), state, whole: false }).unwrap();
            answers.blocking_recv().unwrap()
        };
        assert_eq!(answer(1), Input::Persisted { revision: Revision(1) });
        let away = folder.path().with_extension("away");
        fs::rename(folder.path(), &away).unwrap();
        let Input::PersistFailed { revision: Revision(2), reason } = answer(2) else { panic!() };
        assert!(reason.contains("No such file or directory"), "{reason}");
        assert!(reason.contains(folder.path().to_str().unwrap()), "{reason}");
        fs::rename(&away, folder.path()).unwrap();
        assert_eq!(answer(3), Input::Persisted { revision: Revision(3) });
        store.stop();
        assert_eq!(answers.blocking_recv(), None, "the thread ends");
    }
}
