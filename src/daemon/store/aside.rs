//! Where a sentinel remembers whose `sentinel.conf`, or its folder, cannot be written: a ConfigMap,
//! a file mounted by itself, a read-only system. The file is then to it what a YAML file is, and
//! its state goes to a file of ours in the first folder that takes it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::conf_file::ConfFile;
use super::conf_lock::{ConfLock, Held};
use super::journal::{self, Found, JournalId};
use super::memory::Main;
use super::replace::ReplaceError;
use super::state_file::StateFile;
use super::{Memory, Opened, no_room};
use crate::config::diagnostic::{Diagnostic, Severity, os_words};
use crate::config::load::Loaded;
use crate::config::state::State;
use crate::config::types::RunId;
use crate::daemon::{StartError, StateFileError, make_folder};
use crate::sentinel::{reconcile_conf, reconcile_journal, reconcile_live};

/// The folders that may keep the state of a `sentinel.conf` that cannot be written, in the order in
/// which they are tried: `dir`, what systemd gives by `StateDirectory=`, and a folder of the user.
pub fn state_folders(loaded: &Loaded) -> Vec<PathBuf> {
    folders(&loaded.home, |name| std::env::var_os(name))
}

fn folders(home: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let given = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let systemd = variable("STATE_DIRECTORY")
        .and_then(|list| list.to_str()?.split(':').next().map(PathBuf::from))
        .filter(|path| path.is_absolute());
    let users = given("XDG_STATE_HOME").or_else(|| Some(given("HOME")?.join(".local/state")));
    let all = [Some(home.to_owned()), systemd, users.map(|path| path.join("watchfire"))];
    all.into_iter().flatten().collect()
}

/// The name of the state file, without its ending: not that of a YAML sentinel on the same port.
fn stem(port: u16) -> String {
    format!("watchfire-state-conf-{port}")
}

/// Opens a `sentinel.conf`, or what takes its place.
pub(super) fn open(loaded: &Loaded, fresh_id: RunId) -> Result<Opened, StartError> {
    let mut conf = ConfFile::new(loaded);
    conf.lock()
        .map_err(|Held(holder)| StartError::ConfInUse { path: conf.path().to_owned(), holder })?;
    // A predecessor may have written it a last time.
    let again = loaded.again();
    if let Some(again) = &again {
        conf.was_read(again);
    }
    let loaded = again.as_ref().unwrap_or(loaded);
    let found = loaded.conf_state.clone().unwrap_or_default();
    let found = State {
        my_id: found.my_id.unwrap_or(fresh_id),
        current_epoch: found.current_epoch,
        groups: found.groups.into(),
        removed: Default::default(),
        live: None,
    };
    let mut kept = find(loaded)?;
    let remembered = kept.as_mut().and_then(|(_, state)| state.take());
    let (mut state, mut notes) = match remembered {
        // It has taken the journal over, if there was one.
        Some(remembered) => reconcile_conf(found, Some(remembered)),
        None => with_journal(loaded, conf.path(), found)?,
    };
    let (live, more) = reconcile_live(loaded.settings.live(), state.live.take());
    state.live = live;
    notes.extend(more);
    let plain = for_conf(state.clone());
    let mut memory = Memory::new(Main::Conf(Box::new(conf)), &plain);
    match memory.write_first(&plain) {
        Ok(()) => {
            if let Some((file, _)) = kept {
                notes.push(format!(
                    "Config file {} can be written again: it has taken over what was kept in {}",
                    memory.path().display(),
                    file.path().display()
                ));
                notes.extend(file.remove().err().map(|error| format!("{error}; remove it")));
            }
            Ok(Opened { memory, state: plain, notes })
        }
        Err(why) if why.is_for_want_of_room() => {
            notes.push(no_room(&why));
            Ok(Opened { memory, state: plain, notes })
        }
        Err(why) if why.is_forbidden() => {
            instead(loaded, memory.path(), &why, kept, (state, notes))
        }
        Err(why) => Err(not_writable(memory.path(), why.to_string())),
    }
}

/// What the file says, and what its journal adds where a sentinel was killed.
fn with_journal(
    loaded: &Loaded,
    path: &Path,
    found: State,
) -> Result<(State, Vec<String>), StateFileError> {
    let id = loaded.journal().map(JournalId::read);
    let left = journal::read(path, id.as_ref())?;
    let note = journal::note(path, &left);
    let (mut remembered, _) = reconcile_conf(found.clone(), None);
    journal::replay(left, &mut remembered);
    let (state, edits) = reconcile_journal(found, remembered);
    Ok((state, note.into_iter().chain(edits).collect()))
}

/// What is to be known of a journal beside a `sentinel.conf`, before anything is started on it.
pub fn journal_left(loaded: &Loaded) -> Option<Diagnostic> {
    let path = fs::canonicalize(&loaded.path).unwrap_or_else(|_| loaded.path.clone());
    let found = match journal::read(&path, loaded.journal().map(JournalId::read).as_ref()) {
        Ok(found) => found,
        Err(error) => return Some(Diagnostic::error(error.to_string())),
    };
    let note = journal::note(&path, &found)?;
    Some(match found {
        Found::Ours(..) if ConfLock::is_held(&path) => {
            let message = "A sentinel runs on this file, and its journal is ahead of it";
            Diagnostic::new(Severity::Note, message)
                .help("the file has all as soon as nothing changes for a while, or it is stopped")
        }
        Found::Ours(..) => {
            let journal = journal::beside(&path);
            let message = format!(
                "The last sentinel on this file did not end by itself, and its journal {} is ahead \
                 of it",
                journal.display()
            );
            Diagnostic::new(Severity::Warning, message).help(
                "before Redis Sentinel gets the file, start Watchfire on it once and stop it: \
                 then the file has all",
            )
        }
        _ => Diagnostic::new(Severity::Warning, note),
    })
}

/// What a `sentinel.conf` says for itself needs not be remembered beside it.
fn for_conf(mut state: State) -> State {
    state.removed.clear();
    state.groups.values_mut().for_each(|group| group.declared = None);
    state
}

/// A state file of before, and what it holds.
type Kept = (StateFile, Option<State>);

fn find(loaded: &Loaded) -> Result<Option<Kept>, StateFileError> {
    let stem = stem(loaded.settings.main_port());
    let folder = state_folders(loaded).into_iter().find(|folder| StateFile::exists(folder, &stem));
    folder.map(|folder| StateFile::open_as(&folder, &stem)).transpose()
}

/// The state goes to a file of ours, to the one of before if there is one.
fn instead(
    loaded: &Loaded,
    conf: &Path,
    why: &ReplaceError,
    kept: Option<Kept>,
    (state, mut notes): (State, Vec<String>),
) -> Result<Opened, StartError> {
    let stem = stem(loaded.settings.main_port());
    let mut refusals = Vec::new();
    let mut open_in = |folder: PathBuf| {
        let opened = make_folder(&folder)
            .map_err(|error| why_not_made(&error))
            .and_then(|()| StateFile::open_as(&folder, &stem).map_err(|error| reason(&error)))
            .and_then(|(file, _)| written(file, &state).map_err(|(_, error)| error.to_string()));
        opened.map_err(|why| refusals.push(format!("{}: {why}", folder.display()))).ok()
    };
    let memory = match kept {
        Some((file, _)) => written(file, &state).map_err(|(path, error)| {
            StartError::NotWritable { what: "state file", path, why: error.to_string() }
        })?,
        None => match state_folders(loaded).into_iter().find_map(&mut open_in) {
            Some(memory) => memory,
            None => {
                let refused = refusals.join("; ");
                let why = format!(
                    "{why}. Nor can its state be kept elsewhere: {refused}. Set 'dir' to a folder \
                     that this user may write to"
                );
                return Err(not_writable(conf, why));
            }
        },
    };
    loaded.user_lines().are_lost();
    notes.insert(
        0,
        format!(
            "Config file {} cannot be written ({why}): it stays as it is, and what this sentinel \
             learns and is told is kept in {}. What somebody changes in the file counts at the \
             next start. To go back to Redis Sentinel, make the file and its folder writable and \
             start this program once more: it writes all of it into the file",
            conf.display(),
            memory.path().display()
        ),
    );
    Ok(Opened { memory, state, notes })
}

/// A state file with this state in it.
fn written(file: StateFile, state: &State) -> Result<Memory, (PathBuf, ReplaceError)> {
    let mut memory = Memory::new(Main::Own(file), state);
    match memory.write_first(state) {
        Ok(()) => Ok(memory),
        Err(error) => Err((memory.path().to_owned(), error)),
    }
}

/// What is wrong with a state file, without the advice that is meant for YAML.
fn reason(error: &StateFileError) -> String {
    match error {
        StateFileError::Unusable { step, cause, .. } => format!("{step}: {}", os_words(cause)),
        error => error.to_string(),
    }
}

/// The same of the folder for it.
fn why_not_made(error: &StartError) -> String {
    match error {
        StartError::Folder { cause, .. } => format!("can't create it: {}", os_words(cause)),
        error => error.to_string(),
    }
}

fn not_writable(conf: &Path, why: String) -> StartError {
    StartError::NotWritable { what: "config file", path: conf.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_in_their_order() {
        let of = |given: &[(&str, &str)]| {
            let given: Vec<(String, OsString)> =
                given.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
            let value = |name: &str| given.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
            folders(Path::new("/data"), value)
        };
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(of(&[]), paths(&["/data"]));
        let home = ("HOME", "/u/r");
        assert_eq!(of(&[home]), paths(&["/data", "/u/r/.local/state/watchfire"]));
        let systemd = ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b");
        let all = of(&[home, systemd, ("XDG_STATE_HOME", "/state")]);
        assert_eq!(all, paths(&["/data", "/var/lib/a", "/state/watchfire"]));
        assert_eq!(of(&[("XDG_STATE_HOME", "here")]), paths(&["/data"]));
    }

    #[test]
    fn names_of_state_files_differ() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("watchfire-state-7.json"), "").unwrap();
        assert!(!StateFile::exists(folder.path(), &stem(7)));
    }
}
