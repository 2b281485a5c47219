//! A sentinel's disk: writes take time, may fail, and are lost or done when the process dies
//! meanwhile.

use super::dice::Dice;
use super::wire::Ms;
use crate::config::state::State;
use crate::sentinel::Revision;

/// A write takes up to so long on a good day, in ms.
const WRITE_MS: Ms = 20;

/// What becomes of a state file while its sentinel does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// It is as it was.
    Kept,
    /// It is gone: deleted, on a disk that was replaced, or torn and so refused and removed.
    Lost,
    /// Somebody put a copy back that is some writes old.
    Old,
}

/// What one sentinel's state file holds and what is being written to it.
pub(super) struct Disk {
    content: Option<State>,
    /// An earlier content, as a backup would have it.
    backup: Option<State>,
    writing: Option<(Revision, Box<State>)>,
    /// The last write failed: it will be tried again.
    failed: bool,
    dice: Dice,
    /// How long a write takes at most beyond a good day, in ms.
    pub(super) slow_ms: Ms,
    /// Writes fail.
    pub(super) failing: bool,
}

impl Disk {
    pub(super) fn new(dice: Dice) -> Disk {
        Disk {
            content: None,
            backup: None,
            writing: None,
            failed: false,
            dice,
            slow_ms: 0,
            failing: false,
        }
    }

    /// What would be read back now.
    pub(super) fn content(&self) -> Option<&State> {
        self.content.as_ref()
    }

    /// What would be read back now, or may be after a crash.
    pub(super) fn contents(&self) -> impl Iterator<Item = &State> {
        self.content.iter().chain(self.writing.iter().map(|(_, state)| &**state))
    }

    /// True if no write is under way or has to be repeated.
    pub(super) fn is_settled(&self) -> bool {
        self.writing.is_none() && !self.failed
    }

    /// True if the last write failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// What a daemon writes before it starts its core.
    pub(super) fn install(&mut self, state: State) {
        self.content = Some(state);
    }

    /// Begins a write; returns how long it takes. `None` if one is under way already, which the
    /// core must never ask for.
    pub(super) fn write(&mut self, revision: Revision, state: Box<State>) -> Option<Ms> {
        if self.writing.is_some() {
            return None;
        }
        self.writing = Some((revision, state));
        Some(self.dice.skewed(1..=WRITE_MS) + self.dice.below(self.slow_ms + 1))
    }

    /// The write under way ends, well or with the system's words. `None` if none is.
    pub(super) fn finish(&mut self) -> Option<(Revision, Result<(), String>)> {
        let (revision, state) = self.writing.take()?;
        self.failed = self.failing;
        if self.failing {
            // Seldom the file was renamed and only the folder's fsync failed: the new state may
            // stay.
            if self.dice.one_in(8) {
                self.content = Some(*state);
            }
            return Some((revision, Err("No space left on device".into())));
        }
        if self.backup.is_none() || self.dice.one_in(4) {
            self.backup.clone_from(&self.content);
        }
        self.content = Some(*state);
        Some((revision, Ok(())))
    }

    /// The file comes to hold something else.
    pub(super) fn tamper(&mut self, memory: Memory) {
        match memory {
            Memory::Kept => {}
            Memory::Lost => self.content = None,
            Memory::Old => self.content.clone_from(&self.backup),
        }
    }

    /// The process dies: what was being written is there or is not, and nobody was told.
    pub(super) fn crash(&mut self) {
        self.failed = false;
        if let Some((_, state)) = self.writing.take()
            && !self.failing
            && self.dice.one_in(2)
        {
            self.content = Some(*state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(epoch: u64) -> State {
        State {
            my_id: Dice::new(1, "id").run_id(),
            current_epoch: epoch,
            groups: Default::default(),
            removed: Default::default(),
            live: None,
        }
    }

    fn epoch(disk: &Disk) -> Option<u64> {
        disk.content().map(|state| state.current_epoch)
    }

    #[test]
    fn a_write_counts_once_it_is_finished_and_only_one_is_under_way() {
        let mut disk = Disk::new(Dice::new(1, "disk"));
        disk.install(state(1));
        assert!(disk.write(Revision(1), Box::new(state(2))).is_some());
        assert_eq!(epoch(&disk), Some(1));
        assert!(disk.write(Revision(2), Box::new(state(3))).is_none());
        assert_eq!(disk.finish(), Some((Revision(1), Ok(()))));
        assert_eq!(epoch(&disk), Some(2));
    }

    #[test]
    fn a_crash_during_a_write_leaves_the_old_state_or_the_new_one() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut disk = Disk::new(Dice::new(seed, "disk"));
            disk.install(state(1));
            disk.write(Revision(1), Box::new(state(2)));
            disk.crash();
            assert_eq!(disk.finish(), None);
            seen.extend(epoch(&disk));
        }
        assert_eq!(seen, [1, 2].into());
    }

    #[test]
    fn a_failing_disk_says_so() {
        let mut disk = Disk::new(Dice::new(1, "disk"));
        disk.failing = true;
        disk.write(Revision(7), Box::new(state(2)));
        assert!(matches!(disk.finish(), Some((Revision(7), Err(_)))));
    }
}
