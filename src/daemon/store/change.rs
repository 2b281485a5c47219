//! What has changed from one state to the next: a record of the journal. Each group that has
//! changed is in it as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::settings::GroupSettings;
use crate::config::state::{GroupState, LiveState, State};
use crate::config::types::RunId;

/// The steps from a state to a later one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Change {
    /// The new id, if that has changed.
    pub(super) my_id: Option<RunId>,
    pub(super) current_epoch: u64,
    pub(super) live: Option<LiveState>,
    /// Groups that are new or other than before; `None` for those that are gone.
    pub(super) groups: BTreeMap<String, Option<GroupState>>,
    /// The same of [`State::removed`]. Groups that are there again need not be in it.
    pub(super) removed: BTreeMap<String, Option<GroupSettings>>,
}

impl Change {
    /// What has changed since `old`; `None` if nothing has.
    pub(super) fn between(old: &State, new: &State) -> Option<Change> {
        let (groups, removed) = (new.groups.since(&old.groups), new.removed.since(&old.removed));
        let of_groups = groups.changed.is_empty() && groups.gone.is_empty();
        let of_removed = removed.changed.is_empty() && removed.gone.is_empty();
        let of_process = |state: &State| (state.my_id.clone(), state.current_epoch);
        if of_groups && of_removed && of_process(old) == of_process(new) && old.live == new.live {
            return None;
        }
        let changed = groups.changed.into_iter();
        let changed = changed.map(|(name, group)| (name.to_owned(), Some(group.clone())));
        let gone = groups.gone.into_iter().map(|name| (name.to_owned(), None));
        let added = removed.changed.into_iter();
        let added = added.map(|(name, settings)| (name.to_owned(), Some(settings.clone())));
        let lost = removed.gone.into_iter().map(|name| (name.to_owned(), None));
        Some(Change {
            my_id: (new.my_id != old.my_id).then(|| new.my_id.clone()),
            current_epoch: new.current_epoch,
            live: new.live.clone(),
            groups: changed.chain(gone).collect(),
            removed: added.chain(lost).collect(),
        })
    }

    /// The same as the record of a `sentinel.conf`, where only the file tells what was declared:
    /// each group says what stands there, so that a start sees what somebody has edited since.
    pub(super) fn beside(mut self, file: &State) -> Change {
        for (name, group) in &mut self.groups {
            let declared = file.groups.get(name).map(|group| group.settings.clone());
            match group {
                Some(group) => group.declared = declared,
                None => drop(self.removed.insert(name.clone(), declared)),
            }
        }
        self.live = match (self.live, &file.live) {
            (Some(now), None) => Some(now),
            (None, None) => None,
            (None, Some(there)) => Some(LiveState {
                settings: there.declared.clone(),
                declared: there.settings.clone(),
            }),
            (Some(now), Some(there)) => {
                Some(LiveState { settings: now.settings, declared: there.settings.clone() })
            }
        };
        self.live = self.live.filter(|live| live.settings != live.declared);
        self
    }

    /// Takes the steps.
    pub(super) fn apply(self, state: &mut State) {
        state.my_id = self.my_id.unwrap_or_else(|| state.my_id.clone());
        state.current_epoch = self.current_epoch;
        state.live = self.live;
        for (name, settings) in self.removed {
            match settings {
                Some(settings) => state.removed.insert(name, settings),
                None => drop(state.removed.remove(&name)),
            }
        }
        for (name, group) in self.groups {
            match group {
                Some(group) => {
                    state.removed.remove(&name);
                    state.groups.insert(name, group);
                }
                None => drop(state.groups.remove(&name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::state;
    use super::*;

    #[test]
    fn the_steps_lead_from_one_state_to_the_other() {
        let old = state(5);
        let mut new = state(6);
        new.my_id = RunId::from_bytes([3; 20]);
        new.groups.insert("other", new.groups["mymaster"].clone());
        let settings = new.groups["mymaster"].settings.clone();
        let mut last = new.clone();
        last.groups.remove("mymaster");
        last.removed.insert("mymaster", settings);
        let mut found = old.clone();
        for (before, after) in [(&old, &new), (&new, &last), (&last, &new)] {
            Change::between(before, after).unwrap().apply(&mut found);
            assert_eq!(found, *after);
        }
        assert_eq!(Change::between(&new, &new.clone()), None);
    }

    #[test]
    fn beside_a_file_a_group_tells_what_that_says() {
        let (file, mut new) = (state(5), state(6));
        new.groups.insert("other", new.groups["mymaster"].clone());
        let declared = file.groups["mymaster"].settings.clone();
        let change = Change::between(&file, &new).unwrap().beside(&file);
        let of = |name: &str| change.groups[name].as_ref().unwrap().declared.clone();
        assert_eq!((of("mymaster"), of("other")), (Some(declared.clone()), None));
        let gone = State { groups: Default::default(), ..new.clone() };
        let mut found = file.clone();
        let steps = [
            Change::between(&file, &new).unwrap().beside(&file),
            Change::between(&new, &gone).unwrap().beside(&file),
        ];
        steps.into_iter().for_each(|change| change.apply(&mut found));
        assert_eq!(found.removed, [("mymaster", declared)].into());
    }
}
