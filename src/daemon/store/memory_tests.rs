//! A file and its journal: what stands where, and what a start makes of both.

use std::fs;
use std::path::{Path, PathBuf};

use super::journal::beside;
use super::tests::{state, wide};
use super::{Memory, Opened, aside};
use crate::config::diagnostic::Severity;
use crate::config::load::load_sentinel;
use crate::config::settings::GroupSettings;
use crate::config::state::{GroupState, State};
use crate::config::types::{Address, RunId};

const CONF: &str = "# mine\nport 26400\nsentinel monitor mymaster 127.0.0.1 6379 2\n\
                    sentinel auth-pass mymaster secret\n";

/// A folder with a `sentinel.conf`.
struct Place(tempfile::TempDir);

impl Place {
    /// Nothing has been started on it.
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.conf(), CONF).unwrap();
        place
    }

    /// Killed with `wide(5)` in the file and the steps to `last` in the journal.
    fn killed_with(last: &State) -> Place {
        let place = Place::new();
        let mut memory = place.open().memory;
        memory.write(&wide(5), true).unwrap();
        memory.write(last, false).unwrap();
        assert!(place.has_journal() && !place.text().contains("current-epoch 6"));
        place
    }

    fn conf(&self) -> PathBuf {
        self.0.path().join("sentinel.conf")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.conf()).unwrap()
    }

    fn edit(&self, from: &str, to: &str) {
        assert!(self.text().contains(from), "{}", self.text());
        fs::write(self.conf(), self.text().replace(from, to)).unwrap();
    }

    fn has_journal(&self) -> bool {
        beside(&self.conf()).exists()
    }

    fn open(&self) -> Opened {
        let loaded = load_sentinel(&self.conf(), &[]).unwrap();
        Memory::open(&loaded, RunId::from_bytes([9; 20])).unwrap()
    }

    /// What `watchfire check` says.
    fn left(&self) -> Option<(Severity, String)> {
        let left = aside::journal_left(&load_sentinel(&self.conf(), &[]).unwrap())?;
        Some((left.severity, left.message))
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn few_groups_have_all_in_the_file_and_nothing_beside_it() {
    let place = Place::new();
    let mut memory = place.open().memory;
    for epoch in [5, 6] {
        memory.write(&state(epoch), false).unwrap();
        assert!(place.text().contains(&format!("current-epoch {epoch}")));
        assert!(!place.has_journal() && !place.text().contains("watchfire-journal"));
    }
    assert_eq!(memory.rest(), None);
}

#[test]
fn with_many_groups_a_change_goes_to_the_journal_and_the_end_puts_all_into_the_file() {
    let place = Place::new();
    let mut memory = place.open().memory;
    memory.write(&wide(5), false).unwrap();
    let before = read(&place.conf());
    memory.write(&wide(6), false).unwrap();
    let journal = read(&beside(&place.conf()));
    assert_eq!(read(&place.conf()), before);
    assert!(journal.len() < 1_500, "only the group that has changed: {}", journal.len());
    memory.write(&wide(6), false).unwrap();
    assert_eq!(read(&beside(&place.conf())), journal, "nothing has changed");
    assert_eq!(place.left().unwrap().0, Severity::Note);
    memory.write(&wide(6), true).unwrap();
    assert!(place.text().contains("current-epoch 6"), "the file was asked for");
    assert_eq!(memory.rest(), None);
    memory.write(&wide(7), false).unwrap();
    assert!(memory.rest().is_some());
    memory.settle();
    assert!(place.text().contains("current-epoch 7"));
    assert_eq!(memory.rest(), None);
    memory.write(&wide(8), false).unwrap();
    memory.close();
    assert!(place.text().contains("current-epoch 8"));
    assert!(!place.has_journal());
    assert_eq!((place.left(), place.open().state), (None, wide(8)));
}

#[test]
fn after_a_crash_the_journal_is_told_of_and_taken_over() {
    let place = Place::killed_with(&wide(6));
    let (severity, message) = place.left().unwrap();
    assert_eq!(severity, Severity::Warning);
    assert!(message.contains("is ahead of it"), "{message}");
    let Opened { state, notes, memory } = place.open();
    assert_eq!(state, wide(6));
    assert!(notes.len() == 1 && notes[0].contains("1 records of its journal"), "{notes:?}");
    assert!(place.text().contains("current-epoch 6"));
    drop(memory);
    assert_eq!(place.left(), None, "the new one is empty");
}

#[test]
fn what_came_and_went_since_the_file_was_written_is_so_after_a_crash() {
    let mut last = wide(6);
    last.groups.remove("mymaster");
    last.groups.insert("g007", {
        let mut group = last.groups["g007"].clone();
        group.settings.quorum = 1;
        group
    });
    let settings = GroupSettings::new(Address::new("127.0.0.1", 9), 1);
    last.groups.insert("new", GroupState::fresh(settings, None));
    let place = Place::killed_with(&last);
    let Opened { state, notes, .. } = place.open();
    assert_eq!(state, last);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(!place.text().contains("mymaster") && place.text().contains("monitor new "));
}

#[test]
fn what_somebody_edits_after_a_crash_wins_over_the_journal() {
    let mut last = wide(6);
    for name in ["g001", "g002", "g003", "g004"] {
        let group = last.groups.get_mut(name).unwrap();
        (group.settings.master.port, group.config_epoch, group.leader_epoch) = (6380, 6, 6);
    }
    last.groups.remove("g005");
    let place = Place::killed_with(&last);
    place.edit("sentinel monitor g001 127.0.0.1 7001 2", "sentinel monitor g001 127.0.0.1 1 2");
    place.edit("sentinel monitor g002 127.0.0.1 7002 2\n", "");
    place.edit("sentinel config-epoch g002 0\n", "");
    place.edit("sentinel leader-epoch g002 0\n", "");
    place.edit("sentinel monitor g003 127.0.0.1 7003 2", "sentinel monitor g003 127.0.0.1 7003 3");
    place.edit("sentinel monitor g005 127.0.0.1 7005 2", "sentinel monitor g005 127.0.0.1 5 2");
    let Opened { state, notes, .. } = place.open();
    let of = |name: &str| {
        let group = &state.groups[name];
        let settings = &group.settings;
        (settings.master.port, settings.quorum, group.config_epoch, group.leader_epoch)
    };
    assert_eq!(of("g001"), (1, 2, 0, 6), "an edited address was elected by nobody");
    assert!(!state.groups.contains_key("g002"));
    assert_eq!(of("g003"), (6380, 3, 6, 6), "the failover stands");
    assert_eq!(of("g004"), (6380, 2, 6, 6));
    assert_eq!(of("g005"), (5, 2, 0, 0), "watched again");
    assert_eq!(notes.len(), 5, "{notes:?}");
}

#[test]
fn where_redis_went_on_with_the_file_the_newer_one_counts() {
    let mut last = wide(6);
    for name in ["g001", "g002"] {
        let group = last.groups.get_mut(name).unwrap();
        (group.settings.master.port, group.config_epoch, group.leader_epoch) = (6380, 6, 6);
    }
    let place = Place::killed_with(&last);
    place.edit("sentinel monitor g001 127.0.0.1 7001 2", "sentinel monitor g001 127.0.0.1 1 2");
    place.edit("sentinel config-epoch g001 0", "sentinel config-epoch g001 9");
    place.edit("sentinel leader-epoch g001 0", "sentinel leader-epoch g001 9");
    let state = place.open().state;
    let of = |name: &str| {
        let group = &state.groups[name];
        (group.settings.master.port, group.config_epoch, group.leader_epoch)
    };
    assert_eq!((of("g001"), of("g002"), state.current_epoch), ((1, 9, 9), (6380, 6, 6), 9));
}

#[test]
fn the_journal_of_another_writing_is_not_used() {
    let place = Place::new();
    let mut memory = place.open().memory;
    memory.write(&wide(5), true).unwrap();
    let old = place.text();
    memory.write(&wide(6), true).unwrap();
    memory.write(&wide(7), false).unwrap();
    drop(memory);
    fs::write(place.conf(), old).unwrap();
    assert!(place.left().unwrap().1.contains("does not belong to"));
    let Opened { state, notes, memory } = place.open();
    assert_eq!((state, notes.len()), (wide(5), 1));
    drop(memory);
    assert_eq!(place.left(), None);
}

#[test]
fn what_is_edited_or_lost_while_it_runs_is_written_again_with_the_next_change() {
    let place = Place::new();
    let mut memory = place.open().memory;
    memory.write(&wide(5), true).unwrap();
    place.edit("# mine", "# theirs");
    memory.write(&wide(6), false).unwrap();
    assert!(place.text().starts_with("# theirs\n") && place.text().contains("current-epoch 6"));
    fs::remove_file(beside(&place.conf())).unwrap();
    memory.write(&wide(7), false).unwrap();
    assert!(place.has_journal() && place.text().contains("current-epoch 7"));
    fs::remove_file(place.conf()).unwrap();
    memory.write(&wide(8), false).unwrap();
    assert!(place.text().contains("current-epoch 8"));
}

#[test]
fn a_journal_that_fails_is_not_added_to_any_more() {
    let place = Place::new();
    let mut memory = place.open().memory;
    memory.write(&wide(5), true).unwrap();
    memory.break_journal();
    let error = memory.write(&wide(6), false).unwrap_err().to_string();
    assert!(error.contains("can't write") && error.contains(".journal"), "{error}");
    memory.write(&wide(7), false).unwrap();
    assert!(place.text().contains("current-epoch 7"), "the file has all of it");
    memory.write(&wide(8), false).unwrap();
    assert!(place.text().contains("current-epoch 7"), "a new journal");
    drop(memory);
    assert_eq!(place.open().state, wide(8));
}

#[test]
fn a_journal_does_not_grow_for_ever() {
    let place = Place::new();
    let mut memory = place.open().memory;
    memory.write(&wide(5), true).unwrap();
    let mut last = 5;
    while place.text().contains("current-epoch 5\n") {
        last += 1;
        memory.write(&wide(last), false).unwrap();
        assert!(last < 1_000);
    }
    assert!(last > 20, "{last}");
    assert!(place.text().contains(&format!("current-epoch {last}\n")));
}

#[test]
fn a_damaged_journal_is_refused_with_the_way_out() {
    let place = Place::killed_with(&wide(6));
    let journal = beside(&place.conf());
    let mut bytes = read(&journal);
    bytes[3] ^= 1;
    fs::write(&journal, bytes).unwrap();
    let loaded = load_sentinel(&place.conf(), &[]).unwrap();
    let error = Memory::open(&loaded, RunId::from_bytes([9; 20])).err().unwrap().to_string();
    assert!(error.contains("is damaged, at byte 0") && error.contains("move the journal away"));
    assert_eq!(place.left().unwrap().0, Severity::Error);
}
