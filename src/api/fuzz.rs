//! A door for the fuzz targets, which live outside this crate: from words to a request of the core,
//! as a connection goes. It is no `cfg(fuzzing)`: `tests/fuzz.rs` runs the same targets without it.

use bytes::Bytes;

use super::sentinel::set_words;
use super::table::{self, Names, Run};
use crate::resp::Value;
use crate::sentinel::Request;

/// What these words, at least one, ask of the core; `None` if the connection answers by itself.
///
/// # Errors
/// The error reply that the client gets.
pub fn request(args: &[Bytes]) -> Result<Option<Request>, Value> {
    let found = Names::default().find(args)?;
    match found.command.run {
        Run::Container => Err(table::wrong_arity(&found)),
        Run::Core(request) => request(args).map(Some),
        Run::Here(_) if found.name() == "sentinel|set" => {
            let (name, options) = set_words(args)?;
            Ok(Some(Request::Set { name, options }))
        }
        Run::Here(_) => Ok(None),
    }
}
