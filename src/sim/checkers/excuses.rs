//! When nothing can be asked of an election: memories that were lost, put back or copied, and
//! majorities of those who do not know all.

use std::collections::BTreeMap;

use super::{Checkers, Epoch, Group, Speaker};
use crate::config::state::State;
use crate::sentinel::types::RunId;

impl Checkers {
    /// What this sentinel said before binds it no more: its memory was lost or replaced.
    pub(in crate::sim) fn excuse(&mut self, sentinel: usize) {
        self.current_epochs.remove(&sentinel);
        self.config_epochs.retain(|(number, _), _| *number != sentinel);
        self.candidacies.retain(|(number, _), _| *number != sentinel);
        self.removed.retain(|(number, _)| *number != sentinel);
        self.given_up.retain(|(number, ..)| *number != sentinel);
        self.acted_on.retain(|(number, ..)| *number != sentinel);
        self.identities.excuse(sentinel);
        self.conduct.excuse(sentinel);
    }

    /// Two sentinels have this id from now on.
    pub(in crate::sim) fn cloned(&mut self, id: &RunId) {
        self.identities.cloned(id);
        self.conduct.cloned();
    }

    /// A memory was lost, and no other sentinel remembers a later epoch than this one: what was in
    /// later ones may happen again.
    pub(in crate::sim) fn remembered(&mut self, epoch: Epoch) {
        let later = self.newest().into_iter().filter(|(_, newest)| *newest > epoch);
        self.forgotten.extend(later.map(|(group, newest)| (group, epoch + 1, newest)));
    }

    /// A sentinel lost its memory: once a majority did, nobody has to ask those who still remember.
    pub(in crate::sim) fn lost_memory(&mut self, sentinel: usize) {
        for (group, newest) in self.newest() {
            let lost = self.lost.entry(group.clone()).or_default();
            lost.insert(sentinel, newest);
            let mut until: Vec<Epoch> = lost.values().copied().collect();
            until.sort_unstable_by(|a, b| b.cmp(a));
            let until = until.get(self.sentinels / 2);
            self.forgotten.extend(until.map(|until| (group, 1, *until)));
        }
    }

    /// Whoever lost its memory votes in an epoch in which it may have voted before: of that it has
    /// not heard while it listened, which [`Conduct`](super::conduct::Conduct) judges.
    pub(super) fn votes_again(&mut self, sentinel: usize, group: &str, epoch: Epoch) {
        let lost = self.lost.get(group).and_then(|lost| lost.get(&sentinel));
        if lost.is_some_and(|newest| epoch <= *newest) {
            self.forgotten.push((group.to_owned(), epoch, epoch));
        }
    }

    /// The newest epoch of each group in which somebody voted.
    fn newest(&self) -> BTreeMap<Group, Epoch> {
        self.votes.keys().cloned().collect()
    }

    /// This old file was put back: its sentinel may vote once more in epochs in which it did since.
    pub(in crate::sim) fn put_back(&mut self, state: &State) {
        for ((group, epoch), votes) in &mut self.votes {
            let known = state.groups.get(group).map_or(0, |known| known.leader_epoch);
            if *epoch > known && votes.remove(&state.my_id).is_some() {
                self.forgotten.push((group.clone(), *epoch, *epoch));
            }
        }
    }

    /// True if nothing can be asked of this election: somebody took part who had the id of another,
    /// or has forgotten it.
    pub(super) fn excuses(&self, group: &str, epoch: Epoch) -> bool {
        let twin = |id: &RunId| self.identities.twins.contains(id);
        let is_in =
            |(of, from, to): &(Group, Epoch, Epoch)| of == group && (*from..=*to).contains(&epoch);
        let votes = self.votes.get(&(group.to_owned(), epoch));
        votes.is_some_and(|votes| votes.iter().any(|(voter, leader)| twin(voter) || twin(leader)))
            || self.forgotten.iter().any(is_in)
    }

    /// True if this election may have had two winners: nothing can be asked of it, or an operator
    /// made a majority out of a minority.
    pub(super) fn may_be_two(&self, group: &str, epoch: Epoch) -> bool {
        self.excuses(group, epoch) || self.split.contains(&(group.to_owned(), epoch))
    }

    /// True for one who may take a minority of all for a majority, since it does not know all: an
    /// operator told it that the others are gone, or its `quorum` is less than a majority of all,
    /// too.
    pub(super) fn may_win_with_few(&self, speaker: &Speaker, group: &str) -> bool {
        speaker.disk.groups.get(group).is_some_and(|known| {
            let low = (known.settings.quorum as usize) < self.sentinels / 2 + 1;
            let shrunk = self.shrunk.contains(&(speaker.number, group.to_owned()));
            known.sentinels.len() + 1 < self.sentinels && (low || shrunk)
        })
    }
}
