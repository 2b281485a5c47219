//! The state file of a sentinel that is configured by YAML: JSON with a version and a checksum, so
//! that damage is noticed, and a lock beside it, so that two processes never share one memory.
//! Where there are many groups it names the journal that adds to it.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crc_fast::CrcAlgorithm;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::journal::{self, JournalId};
use super::replace::{ReplaceError, Stamp, remove, remove_leftovers, replace};
use crate::config::diagnostic::os_words;
use crate::config::state::State;

/// Told in the file, so that a stranger knows what he has found.
const FORMAT: &str = "watchfire sentinel state";
/// Changes whenever an older program could misread a file.
const VERSION: u64 = 1;
/// That of a file with a journal.
const VERSION_WITH_JOURNAL: u64 = 2;
/// Where it names its journal, beside what a state has.
const JOURNAL: &str = "journal";
/// Only its owner reads it: it holds passwords.
const MODE: u32 = 0o600;

/// A state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// Another process holds it.
    #[error(
        "State file {} is in use by another sentinel{holder}. Stop that one, or give this one a \
         'port' or a 'state_dir' of its own",
        path.display()
    )]
    InUse {
        /// The state file.
        path: PathBuf,
        /// ` (pid 123)`, or empty where that is not known.
        holder: String,
    },
    /// The system does not let us.
    #[error(
        "State file {}: {step}: {}. A sentinel must be able to keep its votes: set 'state_dir' \
         ('dir' in a sentinel.conf) to a folder that exists and that this user may write to",
        path.display(),
        os_words(cause)
    )]
    Unusable {
        /// The state file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// The system's words.
        cause: io::Error,
    },
    /// It was written, but not by this version.
    #[error(
        "State file {} is of version {found}, which this program does not know. Start the \
         version of Watchfire that wrote it, or see to its groups as if the file were lost: {}",
        path.display(),
        way_out()
    )]
    OtherVersion {
        /// The state file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// The journal beside it, or beside a `sentinel.conf`, is not what was written.
    #[error(
        "The journal {} is damaged, at byte {at}. It holds what {} does not say yet: epochs, \
         votes and changes of the last seconds. A sentinel that forgot its votes could vote twice \
         in one election, so it does not start without them. Restore both files from a backup. \
         Without one: make sure that the other sentinels are up and that no failover is running, \
         move the journal away and start; this sentinel goes on with what the file says, and \
         learns newer configurations from the others",
        path.display(),
        file.display()
    )]
    Journal {
        /// The journal.
        path: PathBuf,
        /// The file that it belongs to.
        file: PathBuf,
        /// Where the damage begins.
        at: usize,
    },
    /// It is not what was written.
    #[error(
        "State file {} is damaged: {what}. It holds this sentinel's id, epochs, votes and known \
         nodes. A sentinel that forgot its votes could vote twice in one election, so it does not \
         start without them. Restore the file from a backup. Without one: {}",
        path.display(),
        way_out()
    )]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// How this shows.
        what: String,
    },
}

/// What is left to do when the memory is lost.
fn way_out() -> &'static str {
    "make sure that the other sentinels are up and that no failover is running, then move the file \
     away and start: this sentinel begins anew under a new id and learns epochs and nodes from the \
     others. Then send each of them SENTINEL RESET <group>, so that they forget its old id"
}

/// An open state file. The lock goes with it.
pub(in super::super) struct StateFile {
    path: PathBuf,
    _lock: File,
}

impl StateFile {
    /// The state file of the sentinel with this port in `folder`, with what it holds; `None` if
    /// there is no file yet.
    pub(super) fn open(
        folder: &Path,
        port: u16,
    ) -> Result<(StateFile, Option<State>), StateFileError> {
        StateFile::open_as(folder, &format!("watchfire-state-{port}"))
    }

    /// Whether there is a state file with this name, which is given without its ending.
    pub(super) fn exists(folder: &Path, stem: &str) -> bool {
        path(folder, stem).exists()
    }

    /// The same as [`open`](StateFile::open) by the name of the file, without its ending.
    pub(super) fn open_as(
        folder: &Path,
        stem: &str,
    ) -> Result<(StateFile, Option<State>), StateFileError> {
        let path = path(folder, stem);
        let lock = lock(&path)?;
        remove_leftovers(&path);
        let state = match fs::read(&path) {
            Ok(content) => {
                let (mut state, id) = decode(&path, &content)?;
                let found = journal::read(&path, id.as_ref())?;
                journal::note(&path, &found).into_iter().for_each(|note| tracing::warn!("{note}"));
                journal::replay(found, &mut state);
                Some(state)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tell_of_others(folder);
                None
            }
            Err(cause) => {
                return Err(StateFileError::Unusable { path, step: "can't read it", cause });
            }
        };
        Ok((StateFile { path, _lock: lock }, state))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns when the state is on disk, and the id of a journal that will add to it.
    pub(super) fn write(
        &self,
        state: &State,
        journal: Option<&JournalId>,
    ) -> Result<Stamp, ReplaceError> {
        let at = |step| {
            let path = self.path.clone();
            move |cause| ReplaceError { step, path, cause }
        };
        let content = encode(state, journal).map_err(io::Error::from);
        replace(&self.path, content.map_err(at("can't encode"))?.as_bytes(), MODE)?;
        Stamp::of_path(&self.path).map_err(at("can't look at"))
    }

    /// Removes the file, since what it held is kept elsewhere now. The lock stays: somebody may be
    /// waiting for it.
    pub(super) fn remove(self) -> Result<(), ReplaceError> {
        remove(&self.path)?;
        journal::remove(&self.path);
        Ok(())
    }
}

fn path(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!("{stem}.json"))
}

/// Takes the lock, a file of its own: the state file itself is replaced at each write.
fn lock(path: &Path) -> Result<File, StateFileError> {
    let lock_path = path.with_extension("lock");
    let unusable =
        |step| move |cause| StateFileError::Unusable { path: path.to_owned(), step, cause };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(MODE);
    let mut file = options.open(&lock_path).map_err(unusable("can't open its lock file"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // For the one who finds it locked; the lock does not depend on it.
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.take(20).read_to_string(&mut pid);
            let known = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
            let holder = if known { format!(" (pid {pid})") } else { String::new() };
            Err(StateFileError::InUse { path: path.to_owned(), holder })
        }
        Err(error) => Err(unusable("can't lock it")(error.into())),
    }
}

pub(in super::super) fn encode(
    state: &State,
    journal: Option<&JournalId>,
) -> serde_json::Result<String> {
    let mut state = serde_json::to_value(state)?;
    let mut version = VERSION;
    if let (Some(id), Value::Object(state)) = (journal, &mut state) {
        // Under the checksum: a file must not forget its journal.
        state.insert(JOURNAL.to_owned(), id.as_str().into());
        version = VERSION_WITH_JOURNAL;
    }
    let checksum = checksum(&state);
    let document =
        json!({ "format": FORMAT, "version": version, "checksum": checksum, "state": state });
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

pub(in super::super) fn decode(
    path: &Path,
    content: &[u8],
) -> Result<(State, Option<JournalId>), StateFileError> {
    let damaged = |what: &str| StateFileError::Damaged { path: path.to_owned(), what: what.into() };
    if content.is_empty() {
        return Err(damaged("it is empty"));
    }
    // The parser's words name a place, never the content, which has passwords in it.
    let document: Value = serde_json::from_slice(content)
        .map_err(|error| damaged(&format!("it is not valid JSON ({error})")))?;
    if document["format"] != FORMAT {
        return Err(damaged("it does not say that it is a state file of Watchfire"));
    }
    match document["version"].as_u64() {
        Some(VERSION | VERSION_WITH_JOURNAL) => {}
        Some(found) => return Err(StateFileError::OtherVersion { path: path.to_owned(), found }),
        None => return Err(damaged("it has no version")),
    }
    if document["checksum"].as_str() != Some(&checksum(&document["state"])) {
        return Err(damaged("its checksum does not fit its content, or it was edited by hand"));
    }
    let journal = document["state"][JOURNAL].as_str().map(JournalId::read);
    let mut document = document;
    let state = serde_json::from_value(document["state"].take())
        .map_err(|_| damaged("its content does not have the form of this version"))?;
    Ok((state, journal))
}

/// A sentinel that begins without memory beside the memory of another port may be an old one on a
/// new port.
fn tell_of_others(folder: &Path) {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    for name in names {
        let name = name.to_string_lossy();
        if name.starts_with("watchfire-state-") && name.ends_with(".json") {
            tracing::warn!(
                "This sentinel starts without memory (no id, epochs, votes, failovers), but {name} \
                 lies in {}. If that is its own from before its port changed, stop it, rename the \
                 file after the new port, and start it again",
                folder.display()
            );
        }
    }
}

/// The checksum of the state in its compact form, so that blanks and line ends do not matter.
fn checksum(state: &Value) -> String {
    let mut text = String::new();
    let sum = crc_fast::checksum(CrcAlgorithm::Crc64Redis, state.to_string().as_bytes());
    let _ = write!(text, "{sum:016x}");
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::daemon::store::tests::state;

    fn open(folder: &Path) -> Result<(StateFile, Option<State>), StateFileError> {
        StateFile::open(folder, 26379)
    }

    #[test]
    fn what_is_written_is_read_back_and_hidden_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let (file, nothing) = open(folder.path()).unwrap();
        assert_eq!(nothing, None);
        file.write(&state(1), None).unwrap();
        file.write(&state(2), None).unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        drop(file);
        let (file, found) = reopen(folder.path());
        assert_eq!(found, Some(state(2)));
        assert!(file.path().ends_with("watchfire-state-26379.json"));
    }

    #[test]
    fn two_sentinels_never_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        let error = open(folder.path()).err().unwrap().to_string();
        let expected = format!("is in use by another sentinel (pid {})", std::process::id());
        assert!(error.contains(&expected), "{error}");
        StateFile::open(folder.path(), 26380).unwrap();
        drop(first);
        reopen(folder.path());
    }

    /// Opens a file that is closed: a child that another test is starting may hold a copy of its
    /// lock for a moment, until it is the program that it shall be.
    fn reopen(folder: &Path) -> (StateFile, Option<State>) {
        let began = std::time::Instant::now();
        loop {
            match open(folder) {
                Err(StateFileError::InUse { .. }) if began.elapsed().as_secs() < 10 => {
                    std::thread::yield_now();
                }
                opened => return opened.unwrap(),
            }
        }
    }

    /// What is said about a file with this content; `None` if it is taken.
    fn complaint(content: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchfire-state-26379.json");
        fs::write(&path, content).unwrap();
        let complaint = open(folder.path()).err()?.to_string();
        assert!(complaint.contains(path.to_str().unwrap()), "{complaint}");
        assert!(complaint.contains("move the file away"), "{complaint}");
        assert!(!complaint.contains("secret"), "{complaint}");
        assert_eq!(fs::read(&path).unwrap(), content, "a damaged file is left as it is");
        Some(complaint)
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let good = encode(&state(3), None).unwrap();
        assert_eq!(complaint(good.as_bytes()), None);
        for end in 0..good.len() - 1 {
            // Only the line end after the last brace may be missing.
            assert!(decode(Path::new("f"), &good.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 0x04;
            if let Err(error) = decode(Path::new("f"), &bad) {
                assert!(!error.to_string().contains("secret"));
            } else {
                assert!(good.as_bytes()[at].is_ascii_whitespace(), "byte {at}");
            }
        }
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        let mut document: Value = serde_json::from_str(&encode(&state(3), None).unwrap()).unwrap();
        let content = document["state"].as_object_mut().unwrap();
        for added_since in ["removed", "live"] {
            assert!(content.remove(added_since).is_some(), "{added_since}");
        }
        document["checksum"] = checksum(&document["state"]).into();
        let (read, _) = decode(Path::new("f"), document.to_string().as_bytes()).unwrap();
        assert_eq!(read, state(3));
    }

    #[test]
    fn each_damage_is_named() {
        let good = encode(&state(3), None).unwrap();
        let edited = good.replace("\"current_epoch\": 3", "\"current_epoch\": 2");
        assert_ne!(edited, good);
        for (content, expected) in [
            ("", "it is empty"),
            ("{", "it is not valid JSON"),
            ("{}", "does not say that it is a state file"),
            (&good.replace("\"version\": 1", "\"version\": 3"), "is of version 3"),
            (&good.replace("\"version\": 1", "\"version\": \"x\""), "has no version"),
            (&edited, "checksum does not fit"),
        ] {
            let complaint = complaint(content.as_bytes()).unwrap();
            assert!(complaint.contains(expected), "{complaint}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_the_mend() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&folder.path().join("gone")).err().unwrap().to_string();
        assert!(error.contains("can't open its lock file: No such file or directory"), "{error}");
        assert!(error.contains("set 'state_dir'"), "{error}");
    }
}
