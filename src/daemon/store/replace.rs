//! A file is replaced as a whole: written beside it, made durable, renamed over it. Whoever reads
//! it, at any moment and after any crash, finds the old content or the new one. The tests kill a
//! process after each step, and within the write.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::config::diagnostic::os_words;

/// Ends the name of a file that is being written.
const SUFFIX: &str = ".tmp";

/// A file could not be replaced; the old one is as it was.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}: {}", path.display(), os_words(cause))]
pub(crate) struct ReplaceError {
    /// The step that failed, as the beginning of a sentence.
    pub(super) step: &'static str,
    /// The file or folder that the step was about.
    pub(super) path: PathBuf,
    /// The system's words.
    pub(super) cause: io::Error,
}

impl ReplaceError {
    /// Whether the file, or its folder, is not ours to write: it will not be next time either.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(
            self.cause.kind(),
            // A file that is a mount of its own, as in containers, is busy when it is renamed over.
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::ResourceBusy
        )
    }
}

impl ReplaceError {
    /// Whether there is no room for it: there may be some later.
    pub(super) fn is_for_want_of_room(&self) -> bool {
        matches!(
            self.cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}

/// What a file is like: whether somebody else has written it, or put another one in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// That of an open file.
    pub(super) fn of(file: &File) -> io::Result<Stamp> {
        Ok(Stamp::from(&file.metadata()?))
    }

    /// That of the file that has this name now.
    pub(super) fn of_path(path: &Path) -> io::Result<Stamp> {
        Ok(Stamp::from(&fs::metadata(path)?))
    }

    /// Whether the file that has this name is the one, and as it was then.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        Stamp::of_path(path).is_ok_and(|now| now == *self)
    }

    /// Its length, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn from(metadata: &fs::Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Replaces the file at `path`. A new file gets `mode`; an existing one keeps its mode and, where
/// this process may give files away, its owner.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), ReplaceError> {
    replace_if(path, content, mode, |_| true).map(drop)
}

/// The same if, in the last moment, it is `still` to be done; `None` if not. It is given the new
/// file.
pub(super) fn replace_if(
    path: &Path,
    content: &[u8],
    mode: u32,
    still: impl FnOnce(&File) -> bool,
) -> Result<Option<Stamp>, ReplaceError> {
    let at = |step, path: &Path| {
        let path = path.to_owned();
        move |cause| ReplaceError { step, path, cause }
    };
    let folder = folder(path);
    let mut new = tempfile::Builder::new()
        .prefix(&prefix(path))
        .suffix(SUFFIX)
        .tempfile_in(folder)
        .map_err(at("can't create a file in", folder))?;
    let name = new.path().to_owned();
    step();
    write(new.as_file_mut(), content).map_err(at("can't write", &name))?;
    step();
    let old = fs::metadata(path).ok();
    let mode = old.as_ref().map_or(mode, |old| old.mode() & 0o7777);
    let permissions = Permissions::from_mode(mode);
    new.as_file().set_permissions(permissions).map_err(at("can't set the mode of", &name))?;
    if let Some(old) = old {
        // Only root may do this, and only root needs to.
        let _ = fchown(new.as_file(), Some(old.uid()), Some(old.gid()));
    }
    step();
    new.as_file().sync_all().map_err(at("can't fsync", &name))?;
    step();
    if !still(new.as_file()) {
        return Ok(None);
    }
    let new = new.persist(path);
    let new = new.map_err(|error| at("can't rename a new file to", path)(error.error))?;
    step();
    sync_folder(path)?;
    step();
    Ok(Some(Stamp::of(&new).map_err(at("can't look at", path))?))
}

/// Removes the file at `path` for good.
pub(super) fn remove(path: &Path) -> Result<(), ReplaceError> {
    step();
    fs::remove_file(path).map_err(|cause| ReplaceError {
        step: "can't remove",
        path: path.to_owned(),
        cause,
    })?;
    step();
    sync_folder(path)
}

/// What happened to the names in the folder of `path` survives a loss of power.
pub(super) fn sync_folder(path: &Path) -> Result<(), ReplaceError> {
    let folder = folder(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|cause| ReplaceError {
        step: "can't fsync the folder",
        path: folder.to_owned(),
        cause,
    })
}

#[cfg(not(test))]
pub(super) fn step() {}

#[cfg(not(test))]
pub(super) fn write(file: &mut File, content: &[u8]) -> io::Result<()> {
    io::Write::write_all(file, content)
}

#[cfg(test)]
pub(super) use super::kill_tests::{step, write};

/// Removes what a crash in the middle of [`replace`] left behind.
pub(super) fn remove_leftovers(path: &Path) {
    let prefix = prefix(path);
    let Ok(entries) = fs::read_dir(folder(path)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(SUFFIX) {
            // What cannot be removed does no harm but to look odd.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_made_and_replaced_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        replace(&path, b"one", 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(names(folder.path()), ["state"]);
    }

    #[test]
    fn what_a_crash_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["state", ".state.Ab12.tmp", ".other.Ab12.tmp", "state.tmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_leftovers(&folder.path().join("state"));
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, [".other.Ab12.tmp", "state", "state.tmp"]);
    }

    #[test]
    fn a_folder_that_is_gone_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("state");
        let error = replace(&path, b"", 0o600).unwrap_err().to_string();
        let expected = format!("can't create a file in {}", path.parent().unwrap().display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.contains("No such file or directory"), "{error}");
    }

    #[test]
    fn a_target_that_cannot_be_replaced_stays_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::create_dir(&path).unwrap();
        let error = replace(&path, b"", 0o600).unwrap_err().to_string();
        assert!(error.starts_with("can't rename a new file to"), "{error}");
        assert_eq!(names(folder.path()), ["state"]);
    }
}
