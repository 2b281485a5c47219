//! Who speaks with whose id: nobody stands for election while another speaks with the same one, and
//! an id that was given up stays so.

use std::collections::{BTreeMap, BTreeSet};

use super::Speaker;
use crate::config::state::State;
use crate::sentinel::types::RunId;
use crate::sentinel::{Input, LinkEvent, Request};
use crate::sim::rules::{Broken, Rule};
use crate::sim::wire::Ms;

/// Whoever hears its own id from elsewhere minds it for so long at least, in ms.
const MINDED_MS: Ms = 10_000;

/// What all sentinels said and heard of ids.
#[derive(Default)]
pub(super) struct Identities {
    /// Ids that two sentinels had at once: a vote by or for one of them counts for both.
    pub(super) twins: BTreeSet<RunId>,
    /// The id with which each sentinel last said hello, and the address that it gave.
    said: BTreeMap<usize, (RunId, String)>,
    /// Those with which it did before.
    given_up: BTreeSet<(usize, RunId)>,
    /// Since when it knows that another one, which runs, has this id.
    double: BTreeMap<usize, (RunId, Ms)>,
    /// Those that do not run: whoever shares an id with one of them only has it for itself.
    dead: BTreeSet<usize>,
    /// Its last write failed: what it writes now may be decided long ago.
    failed: BTreeSet<usize>,
}

impl Identities {
    /// Two sentinels have this id from now on.
    pub(super) fn cloned(&mut self, id: &RunId) {
        self.twins.insert(id.clone());
    }

    /// A sentinel dies; what it heard is forgotten.
    pub(super) fn died(&mut self, sentinel: usize) {
        self.double.remove(&sentinel);
        self.failed.remove(&sentinel);
        self.dead.insert(sentinel);
        let alive = |id: &RunId, but: usize| self.speaks(id, but);
        let still = |(number, (id, _)): (&usize, &(RunId, Ms))| alive(id, *number);
        let kept = self.double.iter().filter(|entry| still(*entry));
        self.double = kept.map(|(number, heard)| (*number, heard.clone())).collect();
    }

    /// Another one with this id runs, as far as it has said hello.
    fn speaks(&self, id: &RunId, but: usize) -> bool {
        let mut others = self.said.iter().filter(|(number, _)| **number != but);
        others.any(|(number, (said, _))| said == id && !self.dead.contains(number))
    }

    /// Its memory was lost or replaced, and its id with it.
    pub(super) fn excuse(&mut self, sentinel: usize) {
        self.said.remove(&sentinel);
        self.given_up.retain(|(number, _)| *number != sentinel);
    }

    /// Something comes to a sentinel.
    pub(super) fn hears(&mut self, speaker: &Speaker, input: &Input) {
        let payload = match input {
            Input::Link { event: LinkEvent::Hello { payload }, .. } => payload,
            Input::Request { request: Request::Hello(payload), .. } => payload,
            Input::Persisted { .. } => {
                self.failed.remove(&speaker.number);
                return;
            }
            Input::PersistFailed { .. } => {
                self.failed.insert(speaker.number);
                return;
            }
            _ => return,
        };
        let Some((id, from)) = id_and_address(payload) else { return };
        // Until it has said where it lives, nobody knows what it takes for elsewhere.
        let elsewhere = self.said.get(&speaker.number).is_some_and(|(_, own)| *own != from);
        let known = self.twins.contains(&id) && self.speaks(&id, speaker.number);
        if id == *speaker.id && elsewhere && known {
            self.double.insert(speaker.number, (id, speaker.at));
        }
    }

    /// A sentinel says hello: with an id that it gave up?
    pub(super) fn says(&mut self, speaker: &Speaker, payload: &str) -> Option<Broken> {
        let (id, from) = id_and_address(payload)?;
        let number = speaker.number;
        self.dead.remove(&number);
        let before = self.said.insert(number, (id.clone(), from));
        if let Some((before, _)) = before.filter(|(before, _)| *before != id) {
            self.given_up.insert((number, before));
        }
        self.given_up.contains(&(number, id.clone())).then(|| {
            let how = format!("says hello as {}, an id that it gave up", id.short());
            (Rule::AnIdThatIsGivenUpStaysSo, how)
        })
    }

    /// A sentinel writes its state: does it stand with an id that another one has?
    pub(super) fn writes(&self, speaker: &Speaker, state: &State) -> Option<Broken> {
        let (id, heard_at) = self.double.get(&speaker.number)?;
        let minds = *heard_at <= speaker.since && speaker.at < heard_at + MINDED_MS;
        if *id != state.my_id || !minds || self.failed.contains(&speaker.number) {
            return None;
        }
        let stands = state.groups.iter().find(|(name, group)| {
            let written = speaker.disk.groups.get(*name).map_or(0, |disk| disk.leader_epoch);
            group.voted_for.as_ref() == Some(id) && group.leader_epoch > written
        });
        stands.map(|(name, group)| {
            let ago = speaker.at - heard_at;
            let epoch = group.leader_epoch;
            let how =
                format!("stands in {name}, epoch {epoch}, {ago} ms after it heard its double");
            (Rule::NobodyStandsWhoseIdAnotherHas, how)
        })
    }
}

/// `<ip>,<port>,<id>,...`
fn id_and_address(payload: &str) -> Option<(RunId, String)> {
    let (port_ends, _) = payload.match_indices(',').nth(1)?;
    let id = RunId::parse(payload[port_ends + 1..].split(',').next()?)?;
    Some((id, payload[..port_ends].to_owned()))
}

#[cfg(test)]
#[path = "identities_tests.rs"]
mod tests;
