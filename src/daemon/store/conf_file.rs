//! A `sentinel.conf` that is rewritten in place. Who edits it meanwhile keeps his comments and all
//! lines that mean nothing to a sentinel; whatever else he wrote is put beside the file before what
//! is in force takes its place.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

use super::conf_lock::{ConfLock, Held};
use super::journal::JournalId;
use super::replace::{ReplaceError, Stamp, remove_leftovers, replace, replace_if};
use crate::config::bytes::{decode, encode};
use crate::config::load::Loaded;
use crate::config::state::State;

/// Mode of a `sentinel.conf` that is gone when it is written again, as Redis makes it.
const CONF_MODE: u32 = 0o644;
/// An edited file is taken for complete when it has been the same for this long: most editors empty
/// it first. So often it is looked at, at most.
const SETTLED: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 5;
/// Ends the name of the file that keeps what somebody wrote while the sentinel ran.
const EDITED: &str = ".edited";

/// A `sentinel.conf` and what this process knows of it.
pub(in super::super) struct ConfFile {
    path: PathBuf,
    /// Its text as it was last read or written.
    text: String,
    loaded: Loaded,
    /// What was found in its place and has been told of.
    told: Option<Vec<u8>>,
    /// Ours, for as long as this process writes it.
    lock: Option<ConfLock>,
}

impl ConfFile {
    /// The file of this configuration. Nothing is written yet.
    pub(super) fn new(loaded: &Loaded) -> ConfFile {
        // A link leads to the file that is to be replaced.
        let path = fs::canonicalize(&loaded.path).unwrap_or_else(|_| loaded.path.clone());
        remove_leftovers(&path);
        let text = loaded.text.clone();
        ConfFile { path, text, loaded: loaded.clone(), told: None, lock: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It was read once more before the first write.
    pub(super) fn was_read(&mut self, loaded: &Loaded) {
        self.text.clone_from(&loaded.text);
        self.loaded = loaded.clone();
    }

    /// Keeps other sentinels from writing this file, if it is ours to write.
    ///
    /// # Errors
    /// Another one writes it.
    pub(super) fn lock(&mut self) -> Result<(), Held> {
        if self.lock.is_none() && access(&self.path, Access::WRITE_OK).is_ok() {
            self.lock = ConfLock::take(&self.path)?;
        }
        Ok(())
    }

    /// Asked at the start. A file without permission to write is left alone, though its folder
    /// would let us replace it: somebody wants it so.
    pub(super) fn may_be_written(&self) -> Result<(), ReplaceError> {
        match access(&self.path, Access::WRITE_OK).map_err(io::Error::from) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.error("can't write", error))
            }
            _ => Ok(()),
        }
    }

    /// Returns when the state is on disk, and the id of a journal that will add to it.
    pub(super) fn write(
        &mut self,
        state: &State,
        journal: Option<&JournalId>,
    ) -> Result<Stamp, ReplaceError> {
        let journal = journal.map(JournalId::as_str);
        let mut looks = 0;
        loop {
            let seen = self.settled()?;
            let original = self.original(seen.as_deref())?;
            let text = self.loaded.render(&original, &self.loaded.settings, state, journal);
            looks += 1;
            // A slow disk leaves time for an edit.
            let still = || looks == LOOKS_MAX || self.read().is_ok_and(|now| now == seen);
            let mut lock = None;
            let lock_it = |new: &File| {
                lock = ConfLock::of_new(new);
                still()
            };
            if let Some(stamp) = replace_if(&self.path, &encode(&text), CONF_MODE, lock_it)? {
                (self.text, self.lock) = (text, lock);
                return Ok(stamp);
            }
        }
    }

    /// What is there now, and not just being written by somebody else; `None` if there is no file.
    fn settled(&self) -> Result<Option<Vec<u8>>, ReplaceError> {
        let mut found = self.read()?;
        for _ in 0..LOOKS_MAX {
            if found.as_ref().is_none_or(|bytes| is_text(bytes, &self.text)) {
                break;
            }
            std::thread::sleep(SETTLED);
            let now = self.read()?;
            if std::mem::replace(&mut found, now) == found {
                break;
            }
        }
        Ok(found)
    }

    /// What is to be rewritten: the text that is there now, where a start could read it.
    fn original(&mut self, found: Option<&[u8]>) -> Result<String, ReplaceError> {
        let Some(bytes) = found.filter(|bytes| !is_text(bytes, &self.text)) else {
            return Ok(self.text.clone());
        };
        let is_new = self.told.as_deref() != Some(bytes);
        let decoded = decode(bytes);
        let found = match without_mark(&decoded) {
            text if text.trim().is_empty() => Err("it is empty".to_owned()),
            text => Ok(text),
        };
        let before = &self.text;
        let taken = found.and_then(|now| match self.loaded.edited(before, now) {
            Ok(changed) => Ok((now.to_owned(), changed)),
            Err(found) => {
                let worst = found.iter().find(|finding| finding.is_error());
                let why = |d: &_| format!("{d}").replace('\n', " ");
                Err(worst.map_or_else(|| "it cannot be read".to_owned(), why))
            }
        });
        let kept = beside(&self.path);
        let (path, kept_in) = (self.path.display(), kept.display());
        let (text, told) = match taken {
            Ok((text, false)) => return Ok(text),
            Ok((text, true)) => (
                text,
                format!(
                    "Config file {path} was edited while this sentinel runs. Settings and state in \
                     force take the place of what it says, as in Redis; the edited text is kept in \
                     {kept_in}. To apply it, stop the sentinel, put it back, and start"
                ),
            ),
            Err(why) => (
                self.text.clone(),
                format!(
                    "Config file {path} was edited while this sentinel runs, and no sentinel could \
                     start with it: {why}. It is written anew as it was, and the edited text is \
                     kept in {kept_in}"
                ),
            ),
        };
        if is_new {
            let mode = fs::metadata(&self.path).map_or(0o600, |m| m.mode() & 0o7777);
            replace(&kept, bytes, mode)?;
            tracing::warn!("{told}");
            self.told = Some(bytes.to_vec());
        }
        Ok(text)
    }

    /// What is there now; `None` if there is no file.
    fn read(&self) -> Result<Option<Vec<u8>>, ReplaceError> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("can't read", error)),
        }
    }

    fn error(&self, step: &'static str, cause: io::Error) -> ReplaceError {
        ReplaceError { step, path: self.path.clone(), cause }
    }
}

fn is_text(bytes: &[u8], text: &str) -> bool {
    without_mark(&decode(bytes)) == text
}

/// Without the invisible mark that some editors begin a file with.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Where an edited text is kept.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(EDITED);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::state;
    use super::*;
    use crate::config::load::load_sentinel;

    const TEXT: &str = "# mine\nport 26400\nsentinel monitor mymaster 127.0.0.1 6379 2\n";

    /// A file that was written once, in a folder of its own.
    fn written() -> (tempfile::TempDir, ConfFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sentinel.conf");
        fs::write(&path, TEXT).unwrap();
        let mut file = ConfFile::new(&load_sentinel(&path, &[]).unwrap());
        file.write(&state(5), None).unwrap();
        (folder, file)
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn comments_and_foreign_lines_added_meanwhile_stay() {
        let (_folder, mut file) = written();
        let edited = read(&file.path).replace("# mine\n", "# mine\n# and theirs\nsave 60 1\n");
        fs::write(&file.path, edited).unwrap();
        file.write(&state(6), None).unwrap();
        let text = read(&file.path);
        assert!(text.starts_with("# mine\n# and theirs\nsave 60 1\nport 26400\n"), "{text}");
        assert!(text.contains("current-epoch 6"), "{text}");
        assert!(!beside(&file.path).exists(), "nothing of it is lost");
    }

    #[test]
    fn what_is_in_force_wins_and_the_edited_text_is_kept() {
        let (_folder, mut file) = written();
        let before = read(&file.path);
        let edited = before
            .replace("port 26400\n", "# no port\n")
            .replace("6379 2", "6379 3\nsentinel monitor other 127.0.0.1 1 1");
        fs::write(&file.path, &edited).unwrap();
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o600)).unwrap();
        file.write(&state(6), None).unwrap();
        let text = read(&file.path);
        assert!(text.contains("# no port\n") && text.contains("\nport 26400\n"), "{text}");
        assert!(text.contains("6379 2\n") && !text.contains("other"), "{text}");
        assert_eq!(read(&beside(&file.path)), edited);
        let mode = fs::metadata(beside(&file.path)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "there may be passwords in it");
        let again = load_sentinel(&file.path, &[]).unwrap();
        assert_eq!(again.settings, file.loaded.settings);
    }

    #[test]
    fn a_switch_for_signed_hellos_is_not_edited_away() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("sentinel.conf"), folder.path().join("secret"));
        fs::write(&secret, "0123456789abcdef").unwrap();
        let lines = format!(
            "# watchfire-hello-secret-file {}\n# watchfire-hello-signed-only yes\n",
            secret.display()
        );
        fs::write(&path, format!("{lines}{TEXT}")).unwrap();
        let mut file = ConfFile::new(&load_sentinel(&path, &[]).unwrap());
        file.write(&state(5), None).unwrap();
        assert!(read(&path).starts_with(&lines), "{}", read(&path));
        fs::write(&path, read(&path).replace(&lines, "")).unwrap();
        file.write(&state(6), None).unwrap();
        let again = load_sentinel(&path, &[]).unwrap();
        assert_eq!(again.settings.hello_key, file.loaded.settings.hello_key);
        assert!(again.settings.hello_key.is_some_and(|key| key.signed_only));
        assert_eq!(read(&path).matches("watchfire-hello").count(), 2, "{}", read(&path));
    }

    #[test]
    fn an_edited_text_that_nothing_could_start_with_is_not_written_on() {
        for edited in
            [&b"prot 1\n"[..], b"", b"\xff\xfe\n", b"a: b\n", b"sentinel monitor m x y z\n"]
        {
            let (_folder, mut file) = written();
            fs::write(&file.path, edited).unwrap();
            for epoch in [6, 7] {
                file.write(&state(epoch), None).unwrap();
            }
            let text = read(&file.path);
            assert!(text.starts_with("# mine\nport 26400\n"), "{text}");
            assert!(text.contains("current-epoch 7"), "{text}");
            assert_eq!(fs::read(beside(&file.path)).unwrap(), edited);
        }
    }

    #[test]
    fn comments_older_than_utf_8_stay_as_they_are() {
        let (_folder, mut file) = written();
        let mut edited = b"# gr\xfc\xdfe\r\n".to_vec();
        edited.extend(fs::read(&file.path).unwrap());
        fs::write(&file.path, &edited).unwrap();
        for epoch in [6, 7] {
            file.write(&state(epoch), None).unwrap();
        }
        assert!(fs::read(&file.path).unwrap().starts_with(b"# gr\xfc\xdfe\r\n# mine\n"));
        assert!(!beside(&file.path).exists());
    }

    #[test]
    fn an_edit_during_the_write_is_seen() {
        let (folder, file) = written();
        let path = file.path.clone();
        let old = fs::read(&path).unwrap();
        let edits = |_: &File| {
            fs::write(&path, b"# theirs\n").unwrap();
            fs::read(&path).unwrap() == old
        };
        assert_eq!(replace_if(&path, b"ours", CONF_MODE, edits).unwrap(), None);
        assert_eq!(read(&path), "# theirs\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn one_sentinel_has_the_file_through_all_rewrites() {
        let (folder, mut file) = written();
        let loaded = file.loaded.clone();
        let held = || ConfFile::new(&loaded).lock().map_err(|Held(holder)| holder);
        file.lock().unwrap();
        let pid = format!(" (pid {})", std::process::id());
        assert_eq!(held(), Err(pid.clone()));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file.path, &link).unwrap();
        let mut other = ConfFile::new(&load_sentinel(&link, &[]).unwrap());
        file.write(&state(6), None).unwrap();
        assert_eq!(other.lock().map_err(|Held(holder)| holder), Err(pid), "by any name");
        fs::remove_file(link).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing lies beside it");
        drop(file);
        assert_eq!(held(), Ok(()));
    }

    #[test]
    fn a_file_that_a_predecessor_writes_a_last_time_is_waited_for() {
        let (_folder, mut file) = written();
        let mut next = ConfFile::new(&file.loaded);
        file.lock().unwrap();
        let waits = std::thread::spawn(move || next.lock().is_ok());
        file.write(&state(6), None).unwrap();
        drop(file);
        assert!(waits.join().unwrap());
    }

    #[test]
    fn a_file_that_is_gone_is_made_again() {
        let (_folder, mut file) = written();
        fs::remove_file(&file.path).unwrap();
        file.write(&state(6), None).unwrap();
        assert!(read(&file.path).starts_with("# mine\n"));
    }
}
