//! What is to be done is done in time: looked at now and then, at moments when a sentinel has
//! nothing left to do and nothing that waits for its disk.

mod flapping;

use std::collections::{BTreeMap, BTreeSet};

use super::choice::{Place, group_at, named, slack};
use super::times::{AWAKE_MS, LEAD_MS, ORDER_MS, PATIENCE_MS, PING_MS, SANE_MS, TENURE_MS};
use super::told::{Ear, Info, Seat};
use super::{Checkers, Speaker};
use crate::config::state::GroupState;
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{Event, EventKind, Input};
use crate::sim::rules::{Broken, Rule};
use crate::sim::wire::Ms;
use flapping::Flapping;

/// Pause between two looks at a sentinel, in ms.
const LOOK_MS: Ms = 1_000;
/// A failed write is tried again after so long, in ms.
const DISK_RETRY_MS: Ms = 1_000;
/// What is due is done within so long, in ms: the beat of a sentinel's steps, and some more.
const BEAT_MS: Ms = 1_500;
/// The lead of each sentinel that comes first is as long as so many writes take, at least.
const LEAD_WRITES: Ms = 3;
/// A master that said so within so long, in ms, is one by any clock.
const SURELY_SANE_MS: Ms = SANE_MS - SANE_MS / 100;
/// By so long after a refusal, in ms, another attempt to connect has shown what is so.
const ATTEMPT_MS: Ms = 2_500;
/// Who is to be put right has said lately what it is, in ms.
const LATELY_MS: Ms = 3_000;

/// What each sentinel has to do, as its own words tell.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    next_look: Vec<Ms>,
    /// Until when another's vote may bind it.
    bound: BTreeMap<Place, Ms>,
    /// When it last had another master, and when anything else last changed in the group.
    named: BTreeMap<Place, Ms>,
    stirred: BTreeMap<Place, Ms>,
    /// When it last said that it met somebody at this address.
    met: BTreeMap<(usize, Address), Ms>,
    /// It leaves nodes of the group alone that are somebody else's.
    alone: BTreeSet<Place>,
    /// The write under way, and the longest of its life.
    writes: BTreeMap<usize, (Ms, Ms)>,
    /// When a write last failed.
    failed: BTreeMap<usize, Ms>,
    flapping: Flapping,
}

/// One group of a sentinel that is looked at.
struct Look<'a> {
    speaker: &'a Speaker<'a>,
    place: &'a Place,
    group: &'a GroupState,
    seat: &'a Seat<'a>,
    /// Since when it has decided again after it stood still.
    woke: Ms,
    /// Since when it has known, at the latest, that it can write again, in ms.
    mended: Ms,
}

impl Prompt {
    /// A sentinel starts: its old vote may bind it for once more.
    pub(super) fn started(&mut self, speaker: &Speaker) {
        for name in speaker.disk.groups.keys() {
            let place = (speaker.number, name.to_string());
            self.bound.insert(place.clone(), speaker.at + TENURE_MS);
            self.stirred.insert(place, speaker.at);
        }
    }

    pub(super) fn died(&mut self, sentinel: usize) {
        let other = |place: &Place| place.0 != sentinel;
        self.bound.retain(|place, _| other(place));
        self.named.retain(|place, _| other(place));
        self.met.retain(|(number, _), _| *number != sentinel);
        self.alone.retain(other);
        self.writes.remove(&sentinel);
        self.failed.remove(&sentinel);
        self.flapping.died(sentinel);
    }

    /// A write begins, and ends.
    pub(super) fn writes(&mut self, speaker: &Speaker) {
        self.writes.entry(speaker.number).or_default().0 = speaker.at;
    }

    pub(super) fn hears(&mut self, speaker: &Speaker, input: &Input) {
        if let Input::Persisted { .. } | Input::PersistFailed { .. } = input {
            let (since, longest) = self.writes.entry(speaker.number).or_default();
            *longest = (*longest).max(speaker.at - *since);
        }
        if let Input::PersistFailed { .. } = input {
            self.failed.insert(speaker.number, speaker.at);
        }
    }

    /// How long its longest write took, in ms.
    fn write_ms(&self, sentinel: usize) -> Ms {
        self.writes.get(&sentinel).map_or(0, |(_, longest)| *longest)
    }

    /// It says of a node that it is somebody else's.
    pub(super) fn leaves_alone(&mut self, sentinel: usize, group: &str) {
        self.alone.insert((sentinel, group.to_owned()));
    }

    /// When this sentinel last had another master.
    pub(super) fn named_at(&self, place: &Place) -> Ms {
        self.named.get(place).copied().unwrap_or_default()
    }

    /// What it announces tells what it is about.
    pub(super) fn note(&mut self, speaker: &Speaker, event: &Event) {
        use EventKind::*;
        let Some(group) = &event.group else { return };
        let (at, place) = (speaker.at, (speaker.number, group.to_string()));
        let words: Vec<&str> = event.payload.split(' ').collect();
        match event.kind {
            Sentinel => self.meets(speaker, words.get(2), words.get(3)),
            SentinelAddressSwitch => self.meets(speaker, words.get(5), words.get(7)),
            Slave => {
                if let Some((_, node)) = named(&event.payload) {
                    self.met.insert((speaker.number, node), at);
                }
            }
            VoteForLeader if words[0] != speaker.id.as_str() => {
                self.bound.insert(place, at + TENURE_MS);
            }
            TryFailover | AbortNotElected | AbortNoGoodSlave | AbortSlaveTimeout => {
                self.stirred.insert(place, at);
            }
            PromotedSlave | SwitchMaster | ConfigUpdateFrom | ResetMaster | Monitor | Unmonitor => {
                if let Monitor | Unmonitor = event.kind {
                    self.alone.remove(&place);
                }
                self.named.insert(place.clone(), at);
                self.stirred.insert(place, at);
            }
            _ => {}
        }
    }

    fn meets(&mut self, speaker: &Speaker, host: Option<&&str>, port: Option<&&str>) {
        if let (Some(host), Some(Ok(port))) = (host, port.map(|port| port.parse())) {
            self.met.insert((speaker.number, Address::new(*host, port)), speaker.at);
        }
    }
}

impl Checkers {
    /// True if this sentinel was not looked at lately.
    pub(in crate::sim) fn is_to_be_looked_at(&mut self, sentinel: usize, now: Ms) -> bool {
        let looks = &mut self.prompt.next_look;
        if looks.len() <= sentinel {
            looks.resize(sentinel + 1, 0);
        }
        let due = now >= looks[sentinel];
        if due {
            looks[sentinel] = now + LOOK_MS;
        }
        due
    }

    /// Looks at a sentinel that has done all that is due, and written it.
    pub(in crate::sim) fn look(&mut self, speaker: &Speaker, seat: &Seat) {
        let woke =
            self.progress.stood_still.get(&speaker.number).map_or(0, |(_, at)| at + AWAKE_MS);
        if speaker.at < woke {
            return;
        }
        // A failed write is tried again after a while.
        let write_ms = self.prompt.write_ms(speaker.number);
        let mended = self.prompt.failed.get(&speaker.number);
        let mended = mended.map_or(0, |at| at + DISK_RETRY_MS + write_ms);
        let mut wrong = Vec::new();
        for (name, group) in speaker.disk.groups.iter() {
            let place = (speaker.number, name.to_string());
            let look = Look { speaker, place: &place, group, seat, woke, mended };
            if self.ledger.is_untried(speaker.number, name) {
                let how = format!("answered OK to a FAILOVER of {name}, and does not begin");
                wrong.push((Rule::AFailoverThatIsOrderedIsTried, how));
            }
            wrong.extend(self.idle_election(&look));
            if !self.is_tuned(speaker, name) {
                wrong.extend(self.late_sdown(&look));
                wrong.extend(self.late_gone(&look));
                wrong.extend(self.late_election(&look));
                wrong.extend(self.late_repair(&look));
            }
        }
        for (rule, how) in wrong {
            self.broken(speaker, rule, how);
        }
    }

    /// It says that it was elected: the master is still down then, or somebody has ordered this.
    pub(super) fn weigh_election(&mut self, speaker: &Speaker, place: &Place) {
        let Some(page) = self.page(place) else { return };
        let cause = page.odown.is_some() || page.forced;
        if !cause && page.odown_ended < speaker.told().since {
            let how = format!("is elected in {}, and no quorum sees its master down", place.1);
            self.broken(speaker, Rule::AnElectionEndsWithItsCause, how);
        }
    }

    /// Who has not answered for much longer than `down-after` is called down.
    fn late_sdown(&self, look: &Look) -> Option<Broken> {
        let Look { place, group, seat, .. } = *look;
        let master = &group.settings.master;
        let known = group.replicas.iter().chain([master]).map(|at| (None, at, seat.ears.get(at)));
        let peers = group.sentinels.iter().map(|(id, at)| (Some(id), at, seat.peers.get(at)));
        let mut silent = known.chain(peers).filter_map(|(id, at, ear)| {
            let ms = self.silent_ms(look, at, ear?)?;
            Some((id, at, ms))
        });
        let unnoticed = silent.find(|(id, at, _)| match id {
            Some(id) => !self.page(place).is_some_and(|page| page.is_silent(id)),
            None if *at == master => self.master_down(place).is_none(),
            None => !self.ledger.is_down(place.0, at),
        });
        unnoticed.map(|(_, at, ms)| {
            let how = format!("does not call {at} down, which has not answered for {ms} ms");
            (Rule::SilenceIsNoticedInTime, how)
        })
    }

    /// Whose port has refused all connections for `refused-after` is called down.
    fn late_gone(&self, look: &Look) -> Option<Broken> {
        let Look { speaker, place, group, seat, woke, .. } = *look;
        let master = &group.settings.master;
        let after_ms = Some(group.settings.refused_after_ms).filter(|ms| *ms > 0)?;
        group.replicas.iter().chain([master]).find_map(|at| {
            let ear = seat.ears.get(at)?;
            let (first, last) = ear.closed_port(speaker.at + 1)?;
            let met = self.prompt.met.get(&(speaker.number, at.clone())).copied();
            let since = first.max(woke).max(ear.met_at).max(met.unwrap_or_default());
            let refused_ms = last.saturating_sub(since.max(self.prompt.named_at(place)));
            let down = match at == master {
                true => self.master_down(place).is_some(),
                false => self.ledger.is_down(place.0, at),
            };
            let lately = slack(speaker.at - last) < ATTEMPT_MS;
            (refused_ms > slack(after_ms) && lately && !down).then(|| {
                let how =
                    format!("does not call {at} down, which has refused us for {refused_ms} ms");
                (Rule::RefusalsAreNoticedInTime, how)
            })
        })
    }

    /// For how long this one has not answered, if that is too long.
    fn silent_ms(&self, look: &Look, at: &Address, ear: &Ear) -> Option<Ms> {
        let down_after_ms = look.group.settings.down_after_ms;
        let limit_ms = slack(down_after_ms + down_after_ms / 2 + PING_MS + BEAT_MS);
        let silent_ms =
            |since: Ms| Some(look.speaker.at.saturating_sub(since)).filter(|ms| *ms > limit_ms);
        let since = ear.alive_at.unwrap_or_default().max(ear.met_at).max(look.woke);
        let since = since.max(ear.odd_at);
        silent_ms(since)?;
        let met = self.prompt.met.get(&(look.speaker.number, at.clone())).copied();
        let met = met.unwrap_or_default().max(self.prompt.named_at(look.place));
        silent_ms(since.max(met))
    }

    /// An election goes on only as long as its cause, and ends when the votes bind no more.
    fn idle_election(&self, look: &Look) -> Option<Broken> {
        let place = look.place;
        let page = self.page(place)?;
        let (since, elected) = page.candidacy()?;
        let (epoch, _) = *self.candidacies.get(place)?;
        if look.group.config_epoch >= epoch {
            // Overtaken, and so given up in silence.
            return None;
        }
        let for_ms = look.speaker.at - since;
        if for_ms > slack(TENURE_MS) + BEAT_MS {
            let how = format!("has stood in {} for {for_ms} ms", place.1);
            return Some((Rule::AFailoverComesToAnEnd, how));
        }
        let cause = page.odown.is_some() || page.forced;
        (!elected && !cause).then(|| {
            let how = format!("stands in {}, though no quorum sees its master down", place.1);
            (Rule::AnElectionEndsWithItsCause, how)
        })
    }

    /// As long as a quorum sees the master down whoever can be elected stands: at once, and again
    /// after a pause that doubles.
    fn late_election(&self, look: &Look) -> Option<Broken> {
        let Look { speaker, place, group, woke, mended, .. } = *look;
        let page = self.page(place)?;
        let odown = page.odown?.at;
        let silent = |id: &&RunId| page.is_silent(id);
        let voters = group.sentinels.len() + 1;
        let reached = voters - group.sentinels.keys().filter(silent).count();
        let needed = (voters / 2 + 1).max(group.settings.quorum as usize);
        let listens = group.sentinels.is_empty() || self.conduct.may_hear_itself(speaker);
        if page.fails_over() || reached < needed || listens || !self.identities.twins.is_empty() {
            return None;
        }
        let lead_ms = LEAD_MS.max(LEAD_WRITES * self.prompt.write_ms(speaker.number));
        let lead_ms = group.sentinels.len() as Ms * lead_ms;
        let bound = self.prompt.bound.get(place).copied().unwrap_or_default();
        let again = self.conduct.stands_again(place, voters)?;
        let again = again.max(self.prompt.flapping.until(place, group.settings.flap_pause_ms));
        let turn = odown.max(bound).max(again).max(woke).max(mended) + lead_ms;
        let due = odown + slack(turn - odown) + BEAT_MS;
        (speaker.at > due).then(|| {
            let how = format!("should have stood in {} {} ms ago", place.1, speaker.at - due);
            (Rule::WhoeverCanBeElectedStandsInTime, how)
        })
    }

    /// A node that is steadily wrong is sent to the master that is sane; at once by who led the
    /// failover.
    fn late_repair(&self, look: &Look) -> Option<Broken> {
        let Look { speaker, place, group, seat, woke, mended } = *look;
        let sane = |info: &Info| info.is_master && speaker.at - info.at < SURELY_SANE_MS;
        let page = self.page(place)?;
        if page.fails_over()
            || self.prompt.alone.contains(place)
            || page.master_down().is_some()
            || seat.hellos.lead_far(speaker.at)
            || !seat.ears.get(&group.settings.master)?.info.as_ref().is_some_and(sane)
        {
            return None;
        }
        let timeout_ms = group.settings.failover_timeout_ms;
        let stirred = self.prompt.stirred.get(place).copied().unwrap_or_default();
        group.replicas.iter().find_map(|at| {
            let ear = seat.ears.get(at).filter(|ear| self.is_wrong(look, at, ear))?;
            let judged = page.judged(at).map_or(0, |told| told.at);
            let since = stirred.max(woke).max(mended).max(judged).max(ear.steady_since);
            // Before, it may have been the master itself by a name that lied.
            let since = since.max(ear.met_at).max(ear.born_at);
            let patience_ms = match ear.info.as_ref()?.is_master {
                true => PATIENCE_MS,
                false if page.leads() => 0,
                false => PATIENCE_MS.max(timeout_ms),
            };
            let due = since + slack(patience_ms) + BEAT_MS;
            (speaker.at > due && !look.is_sent(ear)).then(|| {
                let for_ms = speaker.at - since;
                let how = format!("does not put {at} right, which has been wrong for {for_ms} ms");
                (Rule::NodesArePutRightInTime, how)
            })
        })
    }

    /// This node can be put right, and has to be: it says master, or follows another of the group
    /// while nobody else is on the way. Who follows a stranger may be somebody else's.
    fn is_wrong(&self, look: &Look, at: &Address, ear: &Ear) -> bool {
        let Look { speaker, group, seat, .. } = *look;
        let Some(info) = &ear.info else { return false };
        let fresh = ear.up && info.at > ear.connected_at && speaker.at - info.at < LATELY_MS;
        let deaf = ear.refused || ear.locked || self.ledger.is_down(speaker.number, at);
        // By a name that lies it is the master itself.
        let of_master = seat.ears.get(&group.settings.master).and_then(|ear| ear.info.as_ref());
        let double = of_master.is_some_and(|of| of.run_id == info.run_id);
        if !fresh || deaf || double || group_at(speaker, at).is_none() {
            return false;
        }
        let is_free = |other: &Address| {
            let page = self.page(look.place);
            let judged = page.and_then(|page| page.judged(other)).map_or(0, |told| told.at);
            let switched = page.and_then(|page| page.switched).map_or(0, |told| told.at);
            seat.ears.get(other).is_some_and(|ear| look.is_free(ear, judged.max(switched)))
        };
        let whom = info.follows.as_ref();
        let strays = whom.is_some_and(|whom| whom != at && group.replicas.contains(whom));
        info.is_master || strays && group.replicas.iter().all(|other| other == at || is_free(other))
    }
}

impl Look<'_> {
    /// This node was told to follow another, and has time to show it.
    fn is_sent(&self, ear: &Ear) -> bool {
        let for_ms = slack(ORDER_MS.max(self.group.settings.failover_timeout_ms)) + BEAT_MS;
        ear.repointed.as_ref().is_some_and(|(at, _)| self.speaker.at < at + for_ms)
    }

    /// This node is not on its way to the master. One that never gets there is waited for no longer
    /// than `failover-timeout`.
    fn is_free(&self, ear: &Ear, changed: Ms) -> bool {
        let since = ear.steady_since.max(ear.connected_at).max(ear.met_at);
        let since = since.max(changed).max(self.woke);
        let for_ms = self.speaker.at.saturating_sub(since);
        let copies = ear.info.as_ref().is_some_and(|info| {
            let follows = info.follows.as_ref() == Some(&self.group.settings.master);
            let late = for_ms > slack(self.group.settings.failover_timeout_ms) + BEAT_MS;
            !info.is_master && !info.linked && follows && !late
        });
        !copies && !self.is_sent(ear)
    }
}

#[cfg(test)]
#[path = "prompt_tests.rs"]
mod tests;
