//! The rules by which nodes are put right and called down, judged by what the sentinel was told.

use std::collections::BTreeSet;

use super::choice::{Place, group_at, has_data_of_others, is_of_others, slack};
use super::times::{ORDER_MS, PATIENCE_MS, QUICK_DISK_MS, SANE_MS};
use super::told::{Ear, Seat};
use super::{Checkers, Speaker};
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::sentinel::Event;
use crate::sentinel::types::Address;
use crate::sim::rules::{Broken, Rule};
use crate::sim::wire::Ms;

/// News of another configuration come within so long, in ms: a hello period.
const NEWS_MS: Ms = 2_000;
/// What is so much too late, in ms, may be a busy machine's.
const LATE_MS: Ms = 60;
/// A sentinel that stands still may notice only what is longer, in ms: the longest time in which
/// nothing is due, and what may pass for a busy machine.
const UNNOTICED_MS: Ms = 1_050;

/// After how much silence at least the one that this event is about may be called down, in ms by
/// any clock.
pub(super) fn soonest_down(settings: &GroupSettings, payload: &str) -> Ms {
    let by_refusals = Some(settings.refused_after_ms).filter(|ms| *ms > 0);
    let by_refusals = by_refusals.filter(|_| !payload.starts_with("sentinel "));
    by_refusals.map_or(settings.down_after_ms, |ms| ms.min(settings.down_after_ms)) * 99 / 100
}

impl Checkers {
    /// A node is sent to a master: one that is there, and not before all have had the time to say
    /// that it is no longer the master, nor too many at once.
    pub(super) fn weigh_repair(
        &mut self,
        speaker: &Speaker,
        to: &Address,
        master: &Address,
        seat: &Seat,
    ) {
        let Some((name, group)) = group_at(speaker, to) else { return };
        let place = (speaker.number, name.to_owned());
        let mut wrong = Vec::new();
        if group.settings.master == *master && speaker.waited_ms <= QUICK_DISK_MS {
            wrong.extend(self.no_master(speaker, &place, master, seat));
        }
        if let Some(ear) = seat.ears.get(to) {
            wrong.extend(self.too_early(speaker, &place, to, ear, seat));
            wrong.extend(self.too_many(speaker, group, to, master, seat));
        }
        for (rule, how) in wrong {
            self.broken(speaker, rule, format!("sends {to} to {master}: {how}"));
        }
    }

    fn no_master(
        &self,
        speaker: &Speaker,
        place: &Place,
        master: &Address,
        seat: &Seat,
    ) -> Option<Broken> {
        let rule = Rule::NodesAreSentToAMaster;
        if seat.settled && self.master_down(place).is_some() {
            return Some((rule, "the sentinel itself calls that down".into()));
        }
        let info = seat.ears.get(master)?.info.as_ref();
        if speaker.waited_ms == 0 && info.is_none_or(|info| !info.is_master) {
            return Some((rule, "that does not say that it is one".into()));
        }
        let age_ms = speaker.at - info?.at;
        let how = || format!("that said so {age_ms} ms ago");
        (age_ms > slack(SANE_MS + speaker.waited_ms)).then(|| (rule, how()))
    }

    /// Who did not lead the failover leaves a node alone until news could have come.
    fn too_early(
        &self,
        speaker: &Speaker,
        place: &Place,
        to: &Address,
        ear: &Ear,
        seat: &Seat,
    ) -> Option<Broken> {
        let page = self.page(place)?;
        if page.leads() {
            return None;
        }
        let since = ear.steady_since.max(page.judged(to).map_or(0, |told| told.since));
        if since > speaker.at.saturating_sub(speaker.waited_ms) {
            // It changed while the order had to wait.
            return None;
        }
        let for_ms = speaker.at - since;
        let known = speaker.disk.groups.get(&place.1)?;
        let (master, config) = (&known.settings.master, known.config_epoch);
        let answered = |ear: &&Ear| ear.has_no_news(master, config, since);
        let asked =
            known.sentinels.iter().filter(|(_, at)| seat.peers.get(*at).is_some_and(answered));
        let asked: BTreeSet<&str> = asked.map(|(id, _)| id.as_str()).collect();
        let majority = |others: usize| others + 1 > known.sentinels.len().div_ceil(2);
        // Of whom it knows, its disk may know more or less while it is being written.
        let settled = speaker.waited_ms == 0 && seat.settled;
        let too_few = match settled {
            true => !majority(asked.len()),
            false => !seat.peers.values().any(answered),
        };
        if slack(for_ms) < NEWS_MS && too_few {
            let how = format!("it has been as it is for {for_ms} ms");
            return Some((Rule::NewsHaveTimeToCome, how));
        }
        let said = seat.hellos.confirm(&place.1, config, speaker.id, since);
        let said = said.chain(asked.iter().copied()).collect::<BTreeSet<_>>().len();
        let early = slack(for_ms) < PATIENCE_MS && settled;
        (early && !majority(said)).then(|| {
            let how = format!(
                "it has been as it is for {for_ms} ms, and {said} of {} others said that there \
                 are no news",
                known.sentinels.len()
            );
            (Rule::AMajorityKnowsOfNoNews, how)
        })
    }

    /// `parallel-syncs` is respected, but for masters too many.
    fn too_many(
        &self,
        speaker: &Speaker,
        group: &GroupState,
        to: &Address,
        master: &Address,
        seat: &Seat,
    ) -> Option<Broken> {
        let ear = seat.ears.get(to)?;
        // It may have been one when the order was given, which then had to wait.
        let changed = ear.role_since > speaker.at.saturating_sub(speaker.waited_ms);
        let place = (speaker.number, group_at(speaker, to)?.0.to_owned());
        if ear.info.as_ref()?.is_master || changed || self.is_tuned(speaker, &place.1) {
            return None;
        }
        let page = self.page(&place)?;
        let switched = self.switched(&place);
        let under_way = |at: &&Address| {
            let Some(ear) = seat.ears.get(*at) else { return false };
            // Whoever was down meanwhile is no longer waited for.
            let since = switched.max(page.judged(at).map_or(0, |told| told.at + 1));
            let sent = ear.repointed.as_ref().is_some_and(|(at, whom)| {
                whom == master && *at >= since && slack(speaker.at - at) < ORDER_MS
            });
            // That it is down may have to wait for the disk, and be told later.
            let silent = |alive_at: Ms| speaker.at - alive_at >= group.settings.down_after_ms;
            let down = speaker.since < speaker.at && ear.alive_at.is_none_or(silent);
            *at != to && sent && !down && !ear.refused && !ear.is_in_sync_with(master)
        };
        let others = group.replicas.iter().filter(under_way).count();
        let most = group.settings.parallel_syncs as usize;
        let how = || format!("{others} others are on their way, and {most} may be");
        (others >= most).then(|| (Rule::ParallelSyncsIsRespected, how()))
    }

    /// A node is called down for a silence that was watched; a master also for having followed for
    /// long since it became the master.
    pub(super) fn weigh_sdown(
        &mut self,
        speaker: &Speaker,
        place: &Place,
        event: &Event,
        seat: &Seat,
    ) {
        let words: Vec<&str> = event.payload.split(' ').collect();
        let [kind, name, host, port, ..] = words[..] else { return };
        let at = Address::new(host, port.parse().unwrap_or(0));
        let known = speaker.disk.groups.get(&place.1);
        let tuned = self.is_tuned(speaker, &place.1) || speaker.waited_ms > QUICK_DISK_MS;
        let ears = if kind == "sentinel" { &seat.peers } else { &seat.ears };
        let (Some(group), Some(ear)) = (known.filter(|_| !tuned), ears.get(&at)) else {
            return;
        };
        // Nor does another sentinel in its place speak for it, and what that one said was heard
        // until a moment ago.
        let is_another = ear.goes_by.as_ref().is_some_and(|id| id != name);
        let was_another = slack(speaker.at - ear.another_until) < group.settings.down_after_ms;
        if kind == "sentinel" && (is_another || was_another) {
            return;
        }
        // Another group's process in our master's place is none, however well it answers.
        let is_stranger = ear.info.as_ref().is_some_and(|info| {
            is_of_others(group, seat, &info.run_id) || has_data_of_others(group, seat, info)
        });
        if kind == "master" && is_stranger {
            return;
        }
        if kind != "sentinel" && self.is_gone(speaker, group, ear) {
            return;
        }
        let follows = ear.info.as_ref().is_some_and(|info| !info.is_master);
        if speaker.waited_ms == 0
            && kind != "sentinel"
            && !(kind == "master" && follows)
            && let Some(watched_ms) = self.watched_ms(speaker, ear)
            && slack(watched_ms) + UNNOTICED_MS < group.settings.down_after_ms
        {
            let how = format!("calls {at} down, which it watched in silence for {watched_ms} ms");
            self.broken(speaker, Rule::TimeNotWatchedCountsAgainstNobody, how);
        }
        let alive_ms = ear.alive_at.filter(|_| speaker.waited_ms == 0).map(|at| speaker.at - at);
        let lives = alive_ms.is_some_and(|ms| slack(ms) < group.settings.down_after_ms);
        // A master that has followed for long is none.
        if lives && ear.locked && ear.up && !(kind == "master" && follows) {
            let how = format!("calls {at} down, which answers that it may not be asked");
            self.broken(speaker, Rule::WhoRefusesUsLives, how);
        } else if lives
            && (kind == "slave" || kind == "sentinel" && self.identities.twins.is_empty())
        {
            let how = format!("calls {at} down, which has answered");
            self.broken(speaker, Rule::OnlySilenceIsDown, how);
        }
        if kind != "master" {
            return;
        }
        // Some of the last PONGs may have come since it was called down.
        let answered_ms = ear.pongs[2].map(|at| speaker.at - at);
        if answered_ms.is_none_or(|ms| slack(ms) >= group.settings.down_after_ms) {
            return;
        }
        let switched = self.switched(place);
        let as_it_is_ms = speaker.at - ear.role_since.max(switched);
        if !follows || slack(as_it_is_ms) < SANE_MS {
            let how = format!("calls {at} down, which answers, and was named {as_it_is_ms} ms ago");
            self.broken(speaker, Rule::AMasterIsDownForAReason, how);
        }
    }

    /// All attempts to connect to it were refused for as long as `refused-after` says, while the
    /// sentinel watched.
    fn is_gone(&self, speaker: &Speaker, group: &GroupState, ear: &Ear) -> bool {
        let after_ms = group.settings.refused_after_ms;
        let row = ear.closed_port(speaker.at - speaker.waited_ms).filter(|_| after_ms > 0);
        let stood_still = self.progress.stood_still.get(&speaker.number).copied();
        row.is_some_and(|(first, last)| {
            let (from, until) = stood_still.unwrap_or_default();
            let missed_ms = until.min(last).saturating_sub(from.max(first));
            // It looks at the time four times meanwhile, and a busy machine may be a little late.
            let missed_ms = missed_ms.saturating_sub((after_ms / 4).max(10) + LATE_MS);
            slack(last - first) >= after_ms + missed_ms
        })
    }

    /// For how long a node has said nothing while the sentinel ran, as far as it stood still once.
    fn watched_ms(&self, speaker: &Speaker, ear: &Ear) -> Option<Ms> {
        let (from, until) = self.progress.stood_still.get(&speaker.number)?;
        let silent_since = ear.pongs[0]?;
        let missed_ms = until.saturating_sub(silent_since.max(*from));
        Some(speaker.at - silent_since - missed_ms)
    }
}
