//! A door for the fuzz targets, which live outside this crate: the content of the state file and of
//! its journal, with no file around it. It is no `cfg(fuzzing)`: `tests/fuzz.rs` runs the same
//! targets without it.

use std::path::Path;

use super::store::journal::{self, Found, JournalId};
use super::store::{StateFileError, state_file};
use crate::config::state::State;

/// The content of the state file for this state.
///
/// # Errors
/// There is no state that cannot be written.
pub fn encode(state: &State) -> Result<String, String> {
    state_file::encode(state, None).map_err(|error| error.to_string())
}

/// The state that a state file with this content holds.
///
/// # Errors
/// The content is damaged, or of another version.
pub fn decode(content: &[u8]) -> Result<State, StateFileError> {
    state_file::decode(Path::new("state.json"), content).map(|(state, _)| state)
}

/// A journal that leads from each of these states to the next, for the file with this id in it.
///
/// # Errors
/// There is no change that cannot be written.
pub fn journal(id: &str, states: &[State]) -> Result<String, String> {
    journal::encode(&JournalId::read(id), states).map_err(|error| error.to_string())
}

/// The state that a file with this state and id, and a journal with this content, hold together;
/// `None` where the journal is not that of the file.
///
/// # Errors
/// The byte from which on the journal is damaged.
pub fn replay(id: &str, content: &[u8], mut state: State) -> Result<Option<State>, usize> {
    let found = journal::decode(content, Some(&JournalId::read(id)))?;
    let ours = matches!(found, Found::Ours(..));
    journal::replay(found, &mut state);
    Ok(ours.then_some(state))
}
