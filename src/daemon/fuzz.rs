//! A door for the fuzz targets, which live outside this crate: the state file's content, with no
//! file around it. It is no `cfg(fuzzing)`: `tests/fuzz.rs` runs the same targets without it.

use std::path::Path;

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
