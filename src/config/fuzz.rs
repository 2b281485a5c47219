//! A door for the fuzz targets, which live outside this crate: both syntaxes read from text, with
//! no file around it. It is no `cfg(fuzzing)`: `tests/fuzz.rs` runs the same targets without it.

use std::collections::BTreeMap;
use std::path::Path;

use super::conf;
use super::diagnostic::Diagnostic;
use super::load::{self, Loaded, Syntax};
use super::settings::{GroupSettings, SentinelSettings};
use super::yaml;

/// What a YAML text says. Outside of it every script can be run, every file and every variable
/// whose name does not begin with `no` holds a password.
pub fn yaml(text: &str) -> (SentinelSettings, BTreeMap<String, GroupSettings>, Vec<Diagnostic>) {
    let outside = yaml::Outside {
        executable: &|_| true,
        file: &|path: &Path| match path.starts_with("no") {
            true => Err("No such file or directory".to_owned()),
            false => Ok("hunter2\n".to_owned()),
        },
        variable: &|name| (!name.starts_with("no")).then(|| "hunter2".to_owned()),
    };
    yaml::read(text, &outside)
}

/// What the text of a `sentinel.conf` says; `None` if it is none, or might read other files.
///
/// # Errors
/// All that is wrong with it.
pub fn sentinel_conf(text: &str) -> Option<Result<Loaded, Vec<Diagnostic>>> {
    let is_conf = matches!(load::detect(text), Ok(Syntax::Conf));
    let includes = conf::parse(text).0.iter().any(|line| line.name() == "include");
    let root = Path::new("/");
    let read = || {
        let none = load::Options::New(&[]);
        load::load_in(root, Path::new("sentinel.conf"), text.to_owned(), none)
    };
    (is_conf && !includes).then(read)
}
