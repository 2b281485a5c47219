//! The journal beside the file of a wide sentinel: what has changed since the file was written, a
//! record for each write, so that a change costs by its own size and not by that of all groups.
//!
//! Its first line names its file by an id that stands in the file, too, and that is a new one at
//! each writing of the file. A record is a line: the length of its text, a checksum of that id and
//! the text, the text. What a crash tears is the last record, of which nobody was told yet; any
//! other damage is noticed.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crc_fast::CrcAlgorithm;

use super::change::Change;
use super::replace::{ReplaceError, Stamp, step, sync_folder, write};
use super::state_file::StateFileError;
use crate::config::diagnostic::os_words;
use crate::config::state::State;

/// Ends the name of a journal.
const SUFFIX: &str = ".journal";
/// Begins its first line; the id follows.
const TITLE: &str = "watchfire journal ";
/// Changes whenever an older program could misread a journal.
const VERSION: &str = "1 ";
/// Digits of a length and of a checksum, each with a blank behind it.
const LENGTH: usize = 8;
const CHECKSUM: usize = 16;
const HEAD: usize = LENGTH + 1 + CHECKSUM + 1;

/// Ties a journal to one writing of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct JournalId(String);

impl JournalId {
    /// One that no other file has.
    pub(super) fn fresh() -> JournalId {
        JournalId(format!("{:016x}", rand::random::<u64>()))
    }

    /// As it stands in a file.
    pub(in super::super) fn read(text: &str) -> JournalId {
        JournalId(text.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the journal of this file is.
pub(super) fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(SUFFIX);
    name.into()
}

/// A journal that is being written.
pub(super) struct Journal {
    path: PathBuf,
    id: JournalId,
    file: File,
    /// What it was like after the last write; nobody else writes it.
    stamp: Stamp,
    begins_at: u64,
}

impl Journal {
    /// Begins the journal of a file that has just been written, with this id in it, and is durable.
    /// What an older journal held is in that file.
    pub(super) fn begin(main: &Path, id: JournalId) -> Result<Journal, ReplaceError> {
        let path = beside(main);
        let at = |step| {
            let path = path.clone();
            move |cause| ReplaceError { step, path, cause }
        };
        step();
        let is_new = !path.exists();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&path).map_err(at("can't open"))?;
        step();
        // It says what its file says, and is for the same eyes.
        if let Ok(main) = fs::metadata(main) {
            let mode = Permissions::from_mode(main.mode() & 0o666);
            file.set_permissions(mode).map_err(at("can't set the mode of"))?;
            let _ = fchown(&file, Some(main.uid()), Some(main.gid()));
        }
        write(&mut file, title(&id).as_bytes()).map_err(at("can't write"))?;
        step();
        file.sync_all().map_err(at("can't fsync"))?;
        step();
        if is_new {
            sync_folder(&path)?;
        }
        let stamp = Stamp::of(&file).map_err(at("can't look at"))?;
        Ok(Journal { begins_at: stamp.len(), path, id, file, stamp })
    }

    /// Whether it is as it was left, and where.
    pub(super) fn is_as_written(&self) -> bool {
        self.stamp.is_at(&self.path)
    }

    /// Bytes of all records.
    pub(super) fn len(&self) -> u64 {
        self.stamp.len() - self.begins_at
    }

    /// Adds a record; returns when it is on disk. After an error nothing more may be added: what
    /// the disk has then nobody knows.
    pub(super) fn append(&mut self, change: &Change) -> Result<(), ReplaceError> {
        let at = |step| {
            let path = self.path.clone();
            move |cause| ReplaceError { step, path, cause }
        };
        let text = serde_json::to_string(change).map_err(io::Error::from);
        let record = frame(&self.id, &text.map_err(at("can't encode a record of"))?);
        step();
        write(&mut self.file, record.as_bytes()).map_err(at("can't write"))?;
        step();
        self.file.sync_data().map_err(at("can't fsync"))?;
        step();
        self.stamp = Stamp::of(&self.file).map_err(at("can't look at"))?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn break_file(&mut self) {
        self.file = File::open(&self.path).expect("it can be read");
    }
}

/// A record as it is written.
fn frame(id: &JournalId, text: &str) -> String {
    format!("{:08x} {:016x} {text}\n", text.len(), checksum(id, text.as_bytes()))
}

fn checksum(id: &JournalId, text: &[u8]) -> u64 {
    let mut digest = crc_fast::Digest::new(CrcAlgorithm::Crc64Redis);
    digest.update(id.as_str().as_bytes());
    digest.update(text);
    digest.finalize()
}

/// The text of the record that these bytes begin with, if it is whole.
fn record<'a>(bytes: &'a [u8], id: &JournalId) -> Option<&'a [u8]> {
    let hex = |range: std::ops::Range<usize>| {
        let digits = bytes.get(range.clone())?;
        let good = digits.iter().all(u8::is_ascii_hexdigit) && bytes.get(range.end) == Some(&b' ');
        u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| good)?, 16).ok()
    };
    let length = usize::try_from(hex(0..LENGTH)?).ok()?;
    let sum = hex(LENGTH + 1..HEAD - 1)?;
    let text = bytes.get(HEAD..HEAD.checked_add(length)?)?;
    (bytes.get(HEAD + length) == Some(&b'\n') && checksum(id, text) == sum).then_some(text)
}

/// What lies in the place of a journal.
#[derive(Debug, PartialEq)]
pub(in super::super) enum Found {
    /// Nothing, or a journal that was never begun.
    Nothing,
    /// The journal of another file, or of another writing of this one.
    Foreign,
    /// The journal of this file, with what it adds, and the number of bytes behind that, which a
    /// crash has torn.
    Ours(Vec<Change>, usize),
}

/// Reads the journal of the file at `main`, which has this id in it.
///
/// # Errors
/// It cannot be read, or holds what it should not.
pub(super) fn read(main: &Path, id: Option<&JournalId>) -> Result<Found, StateFileError> {
    let path = beside(main);
    match fs::read(&path) {
        Ok(bytes) => decode(&bytes, id).map_err(|at| {
            let file = main.to_owned();
            StateFileError::Journal { path, file, at }
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(cause) => Err(StateFileError::Unusable { path, step: "can't read it", cause }),
    }
}

/// What a journal with this content holds for the file with this id.
///
/// # Errors
/// The byte from which on it is damaged.
pub(in super::super) fn decode(bytes: &[u8], id: Option<&JournalId>) -> Result<Found, usize> {
    let Some(id) = id else {
        return Ok(if bytes.is_empty() { Found::Nothing } else { Found::Foreign });
    };
    let follows = |from: usize| (from..bytes.len()).any(|at| record(&bytes[at..], id).is_some());
    let title = title(id);
    if !bytes.starts_with(title.as_bytes()) {
        // A journal whose begin is damaged is ours all the same.
        if follows(0) {
            return Err(0);
        }
        let torn = title.as_bytes().starts_with(bytes);
        return Ok(if torn { Found::Nothing } else { Found::Foreign });
    }
    let mut changes = Vec::new();
    let mut at = title.len();
    while let Some(text) = record(&bytes[at..], id) {
        changes.push(serde_json::from_slice(text).map_err(|_| at)?);
        at += HEAD + text.len() + 1;
    }
    if follows(at) {
        return Err(at);
    }
    Ok(Found::Ours(changes, bytes.len() - at))
}

/// The first line of a journal.
fn title(id: &JournalId) -> String {
    format!("{TITLE}{VERSION}{id}\n")
}

/// The whole journal that leads from each of these states to the next.
///
/// # Errors
/// There is no change that cannot be written.
pub(in super::super) fn encode(id: &JournalId, states: &[State]) -> serde_json::Result<String> {
    let mut text = title(id);
    for change in states.windows(2).filter_map(|pair| Change::between(&pair[0], &pair[1])) {
        text += &frame(id, &serde_json::to_string(&change)?);
    }
    Ok(text)
}

/// What an operator should know of a journal that was found.
pub(super) fn note(main: &Path, found: &Found) -> Option<String> {
    let path = beside(main);
    let path = path.display();
    match found {
        Found::Nothing => None,
        Found::Foreign => Some(format!(
            "The journal {path} does not belong to {} as that is now: what it holds is not used, \
             and it goes with the next write",
            main.display()
        )),
        Found::Ours(changes, _) if changes.is_empty() => None,
        Found::Ours(changes, torn) => {
            let torn = match torn {
                0 => "",
                _ => "; its last record, of which nobody was told, is torn and left out",
            };
            Some(format!(
                "The last sentinel on {} did not end by itself: {} records of its journal {path} \
                 are taken over{torn}",
                main.display(),
                changes.len()
            ))
        }
    }
}

/// Takes all steps of a journal that was found.
pub(in super::super) fn replay(found: Found, state: &mut State) {
    if let Found::Ours(changes, _) = found {
        changes.into_iter().for_each(|change| change.apply(state));
    }
}

/// Removes the journal of this file, which holds all of it; says so in the log where that fails.
pub(super) fn remove(main: &Path) {
    let path = beside(main);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            // It is not believed any more, and does no harm.
            tracing::warn!("Can't remove {}: {}", path.display(), os_words(&error));
        }
        _ => step(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::state;
    use super::*;

    /// A journal of three records in a folder of its own, and its text.
    fn written() -> (tempfile::TempDir, PathBuf, JournalId, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let (main, id) = (folder.path().join("main"), JournalId::fresh());
        fs::write(&main, "").unwrap();
        let mut journal = Journal::begin(&main, id.clone()).unwrap();
        for epoch in 5..8 {
            let change = Change::between(&state(epoch), &state(epoch + 1)).unwrap();
            journal.append(&change).unwrap();
        }
        assert!(journal.is_as_written());
        let bytes = fs::read(beside(&main)).unwrap();
        (folder, main, id, bytes)
    }

    #[test]
    fn what_is_added_is_read_back_by_who_has_the_id() {
        let (_folder, main, id, bytes) = written();
        let found = read(&main, Some(&id)).unwrap();
        let mut last = state(5);
        replay(found, &mut last);
        assert_eq!(last, state(8));
        for other in [None, Some(JournalId::fresh())] {
            assert_eq!(read(&main, other.as_ref()).unwrap(), Found::Foreign);
        }
        assert!(bytes.starts_with(format!("watchfire journal 1 {id}\n").as_bytes()));
        remove(&main);
        remove(&main);
        assert_eq!(read(&main, Some(&id)).unwrap(), Found::Nothing);
    }

    #[test]
    fn a_torn_end_is_cut_off_wherever_it_is_torn() {
        let (_folder, main, id, bytes) = written();
        let mut counts = Vec::new();
        for end in 0..bytes.len() {
            fs::write(beside(&main), &bytes[..end]).unwrap();
            counts.push(match read(&main, Some(&id)).unwrap() {
                Found::Nothing => 0,
                Found::Ours(changes, _) => changes.len(),
                Found::Foreign => panic!("cut at {end}"),
            });
        }
        counts.dedup();
        assert_eq!(counts, [0, 1, 2], "no record without its last byte");
        let zeros = [&bytes[..], &[0; 4096]].concat();
        fs::write(beside(&main), zeros).unwrap();
        let found = read(&main, Some(&id)).unwrap();
        assert!(matches!(found, Found::Ours(changes, 4096) if changes.len() == 3));
    }

    #[test]
    fn damage_before_the_last_record_is_no_torn_end() {
        let (_folder, main, id, bytes) = written();
        let last = bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        for at in 0..last {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            fs::write(beside(&main), bytes).unwrap();
            let error = read(&main, Some(&id)).unwrap_err().to_string();
            assert!(error.contains("is damaged"), "{at}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
