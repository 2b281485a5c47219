//! A door for the fuzz targets, which live outside this crate: the reader of INFO. Everything else
//! of the core is reached by its inputs. It is no `cfg(fuzzing)`: `tests/fuzz.rs` runs the same
//! targets without it.

use super::info::{Info, Role};
use super::types::Address;

/// What was read of an INFO.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// It says that it is a master.
    pub is_master: bool,
    /// Its replicas.
    pub replicas: Vec<Address>,
    /// Whom it follows.
    pub master: Option<Address>,
    /// All of it, for comparing.
    pub shown: String,
}

/// Reads an INFO; `None` if it is none.
pub fn info(text: &str) -> Option<Said> {
    let info = Info::parse(text)?;
    let shown = format!("{info:?}");
    Some(Said {
        is_master: info.role == Role::Master,
        replicas: info.slaves,
        master: info.master,
        shown,
    })
}
