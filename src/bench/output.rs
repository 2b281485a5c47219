//! A file that a benchmark writes at its end, and that is made at its beginning.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(super) struct Output {
    path: PathBuf,
    file: File,
}

impl Output {
    /// Makes the file, empty.
    pub(super) fn create(path: &Path) -> io::Result<Output> {
        let file = File::create(path).map_err(|error| named(path, &error))?;
        Ok(Output { path: path.to_owned(), file })
    }

    /// Adds to it.
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        (&self.file).write_all(text.as_bytes()).map_err(|error| named(&self.path, &error))
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
}
