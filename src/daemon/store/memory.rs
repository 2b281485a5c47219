//! What a sentinel remembers, as it is on disk: a file with all of it, and beside the file of a
//! wide sentinel a journal of what has changed since. A start reads the file, then the journal over
//! it, and writes the file anew.
//!
//! A crash at any step loses nothing: the file is replaced as a whole with a new id in it, and the
//! journal, which has the old id, counts until that moment and never again.

use std::path::Path;
use std::time::{Duration, Instant};

use super::change::Change;
use super::conf_file::ConfFile;
use super::journal::{self, Journal, JournalId};
use super::replace::{ReplaceError, Stamp};
use super::state_file::StateFile;
use crate::config::state::State;

/// With so many groups the file is still rewritten at each change, within a few ms, and stays all
/// that there is: whoever goes back to Redis Sentinel after a crash finds everything in it.
pub(in super::super) const REWRITTEN_MAX: usize = 100;
/// The journal may become so many times as large as the file before that is written again.
const LARGER_MAX: u64 = 4;
/// The file is written again when nothing has changed for so many times as long as that took the
/// last time: it shall not take more than a fiftieth of a core, however many groups there are.
const QUIET_TIMES: u32 = 50;
/// But no sooner than this.
const QUIET_MIN: Duration = Duration::from_secs(1);

/// The file with all of it.
pub(super) enum Main {
    /// One of ours, beside a YAML file or a `sentinel.conf` that is never written.
    Own(StateFile),
    /// A `sentinel.conf`, which keeps it among its lines.
    Conf(Box<ConfFile>),
}

impl Main {
    fn path(&self) -> &Path {
        match self {
            Main::Own(file) => file.path(),
            Main::Conf(file) => file.path(),
        }
    }

    fn write(&mut self, state: &State, id: Option<&JournalId>) -> Result<Stamp, ReplaceError> {
        match self {
            Main::Own(file) => file.write(state, id),
            Main::Conf(file) => file.write(state, id),
        }
    }
}

/// Where a sentinel remembers.
pub(in super::super) struct Memory {
    main: Main,
    /// The file as it was written the last time; `None` before that, and where that is in doubt.
    stamp: Option<Stamp>,
    /// Where there is one, and nothing has failed since it was begun: of a journal that could not
    /// be synced nothing more is believed than was answered before.
    journal: Option<Journal>,
    /// There may be a journal in the folder.
    litter: bool,
    /// What the file holds.
    in_file: State,
    /// What it holds with the journal.
    on_disk: State,
    /// How long the last writing of the file took.
    took: Duration,
    /// When something was last added to the journal, or taking it into the file last tried.
    stirred: Instant,
}

impl Memory {
    /// A memory in this file, which has to be written before it can be relied on.
    pub(super) fn new(main: Main, state: &State) -> Memory {
        Memory {
            main,
            stamp: None,
            journal: None,
            litter: true,
            in_file: state.clone(),
            on_disk: state.clone(),
            took: Duration::ZERO,
            stirred: Instant::now(),
        }
    }

    /// The file.
    pub(in super::super) fn path(&self) -> &Path {
        self.main.path()
    }

    /// The first write of a process.
    pub(super) fn write_first(&mut self, state: &State) -> Result<(), ReplaceError> {
        if let Main::Conf(file) = &self.main {
            file.may_be_written()?;
        }
        self.write_file(state)
    }

    /// Returns when the state is on disk; with `whole`, in the file itself.
    pub(super) fn write(&mut self, state: &State, whole: bool) -> Result<(), ReplaceError> {
        if !whole && self.add(state)? {
            return Ok(());
        }
        self.write_file(state)
    }

    /// Adds what has changed to the journal. False where that is not enough: there is none, it has
    /// become large, or somebody has touched it or the file.
    fn add(&mut self, state: &State) -> Result<bool, ReplaceError> {
        let Some(journal) = &mut self.journal else { return Ok(false) };
        let path = self.main.path();
        let stamp = self.stamp.as_ref().filter(|stamp| stamp.is_at(path));
        let Some(stamp) = stamp.filter(|_| journal.is_as_written()) else { return Ok(false) };
        if journal.len() > LARGER_MAX * stamp.len() {
            return Ok(false);
        }
        let was_empty = journal.len() == 0;
        match Change::between(&self.on_disk, state) {
            Some(change) => {
                let change = match self.main {
                    Main::Own(_) => change,
                    Main::Conf(_) => change.beside(&self.in_file),
                };
                if let Err(error) = journal.append(&change) {
                    (self.journal, self.stamp) = (None, None);
                    return Err(error);
                }
                self.stirred = Instant::now();
            }
            // The same by value: from now on the very same.
            None if was_empty => self.in_file = state.clone(),
            None => {}
        }
        self.on_disk = state.clone();
        Ok(true)
    }

    /// Writes the file, and begins a new journal where there are many groups.
    fn write_file(&mut self, state: &State) -> Result<(), ReplaceError> {
        let began = Instant::now();
        // If this fails nobody knows which file is there, and so, whose journal.
        (self.journal, self.stamp) = (None, None);
        let id = (state.groups.len() > REWRITTEN_MAX).then(JournalId::fresh);
        self.stamp = Some(self.main.write(state, id.as_ref())?);
        (self.in_file, self.on_disk) = (state.clone(), state.clone());
        match id {
            Some(id) => {
                self.litter = true;
                let begun = Journal::begin(self.main.path(), id);
                self.journal = begun
                    .inspect_err(|error| tracing::warn!("{error}. The file is written instead"))
                    .ok();
            }
            None => self.clear_litter(),
        }
        (self.took, self.stirred) = (began.elapsed(), Instant::now());
        Ok(())
    }

    fn clear_litter(&mut self) {
        if std::mem::take(&mut self.litter) {
            journal::remove(self.main.path());
        }
    }

    /// How long it may rest until the journal is due to be taken into the file; `None` if there is
    /// nothing in it.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.journal.as_ref().filter(|journal| journal.len() > 0)?;
        let quiet = (self.took * QUIET_TIMES).max(QUIET_MIN);
        Some(quiet.saturating_sub(self.stirred.elapsed()))
    }

    /// Takes the journal into the file, since nothing has changed for a while.
    pub(super) fn settle(&mut self) {
        let state = self.on_disk.clone();
        if let Err(error) = self.write_file(&state) {
            tracing::warn!("{error}. The journal keeps what has changed");
        }
    }

    /// The orderly end: the file has all of it, and nothing lies beside it.
    pub(super) fn close(mut self) {
        if self.rest().is_some() || self.stamp.is_none() {
            self.settle();
        }
        if self.journal.as_ref().is_some_and(|journal| journal.len() == 0) {
            self.clear_litter();
        }
    }
}

#[cfg(test)]
impl Memory {
    /// From now on nothing can be added to the journal.
    pub(super) fn break_journal(&mut self) {
        self.journal.as_mut().expect("a journal").break_file();
    }
}
