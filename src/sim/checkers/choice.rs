//! The rules by which a replica is chosen and promoted, judged by what the sentinel was told.

use std::collections::BTreeMap;

use super::times::{AWAKE_MS, TENURE_MS};
use super::told::{Ear, Info, Seat};
use super::{Checkers, Group, Page, Said, Speaker};
use crate::config::state::GroupState;
use crate::resp::Value;
use crate::sentinel::types::{Address, Epoch};
use crate::sentinel::{Command, Effect, Event, EventKind, Request};
use crate::sim::rules::{Broken, Rule};
use crate::sim::wire::Ms;

/// Replicas have so long to tell how far they are, in ms.
const FRESH_MS: Ms = 200;
/// Who is promoted has answered within so long, in ms.
const ANSWERED_MS: Ms = 5_000;
/// The same while the master lives, in ms: three times Sentinel's INFO period.
const ANSWERED_IN_PEACE_MS: Ms = 30_000;

/// What was said so long ago, in ms, is fresh enough at any time.
const SAID_MS: Ms = 4_000;

/// A replica keeps up whose link broke not much longer than `down-after`, and this, in ms, before
/// the master fell silent.
const KEPT_UP_MS: Ms = 2_000;
/// Silence begins with a PING: so long after the last answer at most, in ms.
const SILENCE_SLACK_MS: Ms = 1_200;

/// A sentinel, and a group that it watches.
pub(super) type Place = (usize, Group);

/// Promotions under way, and stalls.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Promotions that must have come to an end at some moment, and their epochs.
    open: BTreeMap<Place, (Ms, Epoch)>,
    /// When a sentinel last stood still, and when it went on.
    pub(super) stood_still: BTreeMap<usize, (Ms, Ms)>,
}

/// How long a replica's link may have been broken, in ms, by any clock.
struct Ages {
    /// If its data are to count as good as any.
    kept_up_ms: Ms,
    /// If they are not to come last.
    behind_ms: Ms,
}

impl Ages {
    fn kept_up(&self, info: &Info) -> bool {
        info.linked || info.unlinked_ms.is_some_and(|ms| ms <= self.kept_up_ms)
    }

    fn fell_behind(&self, info: &Info) -> bool {
        let lost = info.unlinked_ms.is_none_or(|ms| ms > self.behind_ms);
        !info.linked && lost && self.behind_ms < Ms::MAX
    }
}

impl Progress {
    /// A sentinel dies.
    pub(super) fn forget(&mut self, sentinel: usize) {
        self.open.retain(|place, _| place.0 != sentinel);
    }

    /// What it announces may end a promotion.
    fn note(&mut self, place: &Place, event: &Event) {
        use EventKind::*;
        if let PromotedSlave | SwitchMaster | ConfigUpdateFrom | AbortNotElected
        | AbortNoGoodSlave | AbortSlaveTimeout | ResetMaster | Monitor | Unmonitor = event.kind
        {
            self.open.remove(place);
        }
    }
}

/// The node that an event is about, and whether it is the master.
pub(super) fn named(payload: &str) -> Option<(bool, Address)> {
    let words: Vec<&str> = payload.split(' ').collect();
    let [kind @ ("master" | "slave"), _, host, port, ..] = words[..] else { return None };
    Some((kind == "master", Address::new(host, port.parse().ok()?)))
}

/// The only group of which this address is a node.
pub(super) fn group_at<'a>(
    speaker: &'a Speaker,
    at: &Address,
) -> Option<(&'a str, &'a GroupState)> {
    let knows = |group: &GroupState| group.settings.master == *at || group.replicas.contains(at);
    let mut groups = speaker.disk.groups.iter().filter(|(_, group)| knows(group));
    let (name, group) = groups.next()?;
    groups.next().is_none().then_some((name, group))
}

impl Checkers {
    /// What the sentinel has told of the group since it started.
    pub(super) fn page(&self, place: &Place) -> Option<&Page> {
        self.ledger.page(place.0, &place.1)
    }

    /// Since when it has called the master down, in ms.
    pub(super) fn master_down(&self, place: &Place) -> Option<Ms> {
        self.page(place)?.master_down()
    }

    /// An operator wanted its present failover.
    pub(super) fn is_forced(&self, place: &Place) -> bool {
        self.page(place).is_some_and(|page| page.forced)
    }

    /// When it was last told of, or made, another master, at the earliest.
    pub(super) fn switched(&self, place: &Place) -> Ms {
        self.page(place).and_then(|page| page.switched).map_or(0, |told| told.since)
    }

    /// A sentinel says something, having been told so much.
    pub(in crate::sim) fn weigh(&mut self, speaker: &Speaker, said: &Said, seat: &Seat) {
        match said.effect {
            Effect::Send { command: Command::Promote, .. } => {
                if let Some(to) = said.to {
                    self.weigh_choice(speaker, to, seat);
                }
            }
            Effect::Send { command: Command::Follow { master }, .. } => {
                if let Some(to) = said.to {
                    self.weigh_repair(speaker, to, master, seat);
                }
            }
            Effect::Announce(event) => {
                self.weigh_flapping(speaker, event);
                let place = (speaker.number, event.group.as_deref().unwrap_or_default().to_owned());
                match event.kind {
                    EventKind::ElectedLeader => self.weigh_election(speaker, &place),
                    EventKind::PromotedSlave => self.weigh_promotion(speaker, &place, event, seat),
                    EventKind::AbortNoGoodSlave => {
                        if let Some(elected) = self.page(&place).and_then(|page| page.elected) {
                            self.weigh_refusal(speaker, &place, elected + 1, seat);
                        }
                    }
                    EventKind::Sdown => self.weigh_sdown(speaker, &place, event, seat),
                    _ => {}
                }
                self.progress.note(&place, event);
            }
            Effect::Reply { reply, .. } => {
                self.weigh_address(speaker, said.question, reply, seat);
                if let (Some(Request::Failover(name)), Value::Error(text)) = (said.question, reply)
                    && text.starts_with("NOGOODSLAVE")
                {
                    let since = speaker.at.saturating_sub(SAID_MS);
                    self.weigh_refusal(speaker, &(speaker.number, name.clone()), since, seat);
                }
            }
            _ => {}
        }
    }

    /// A sentinel that stood still since then goes on.
    pub(in crate::sim) fn goes_on(&mut self, sentinel: usize, since: Ms, at: Ms) {
        let open = self.progress.open.iter_mut().filter(|((number, _), _)| *number == sentinel);
        for (_, (due, _)) in open {
            *due = (*due).max(at + AWAKE_MS);
        }
        self.progress.stood_still.insert(sentinel, (since, at));
    }

    /// How long the votes bind that a sentinel has, in ms, by a slow clock.
    fn tenure_ms(&self, speaker: &Speaker, group: &str) -> Ms {
        let known = speaker.disk.groups.get(group).filter(|_| !self.is_tuned(speaker, group));
        let tenure = known.map_or(TENURE_MS, |g| g.settings.failover_timeout_ms.min(TENURE_MS));
        slack(tenure)
    }

    /// A promotion that shows no effect while the votes bind is given up, and that is said.
    pub(super) fn overdue(&mut self, speaker: &Speaker, group: &str, config: Epoch) {
        let place = (speaker.number, group.to_owned());
        let Some((due, epoch)) = self.progress.open.get(&place).copied() else { return };
        if config >= epoch {
            self.progress.open.remove(&place);
        } else if speaker.since > due && !self.is_tuned(speaker, group) {
            let late = speaker.since - due;
            let how = format!("says hello {late} ms later, and nothing came of it");
            self.broken(speaker, Rule::APromotionWithoutEffectIsGivenUp, how);
        }
    }

    /// A replica is promoted: it can be, and nobody else was to be preferred.
    fn weigh_choice(&mut self, speaker: &Speaker, to: &Address, seat: &Seat) {
        let Some((name, group)) = group_at(speaker, to) else { return };
        let place = (speaker.number, name.to_owned());
        let Some(stood_at) = self.stood_at.get(&place).copied() else { return };
        let until = stood_at + self.tenure_ms(speaker, name);
        // One that another group has just found may still be known as this one's.
        let later = |(place, at): (&Place, &Ms)| place.0 == speaker.number && *at > stood_at;
        if speaker.at > until && self.stood_at.iter().any(later) {
            return;
        }
        if speaker.at > until && speaker.waited_ms < Ms::MAX {
            let how = format!("promotes {} ms after it stood", speaker.at - stood_at);
            self.broken(speaker, Rule::APromotionComesWhileTheVotesBind, how);
        }
        let epoch = self.candidacies.get(&place).map_or(Epoch::MAX, |(epoch, _)| *epoch);
        let stood_still = self.progress.stood_still.get(&speaker.number);
        let awake = stood_still.map_or(0, |(_, until)| until + AWAKE_MS);
        self.progress.open.insert(place.clone(), (until.max(awake), epoch));
        let Some(ear) = seat.ears.get(to) else { return };
        let mut wrong = Vec::new();
        if *to != group.settings.master {
            wrong.extend(self.unfit(speaker, &place, to, ear, seat));
            wrong.extend(self.too_old(speaker, &place, group, ear, seat));
            // Nor can the others tell what one of them took for the group's.
            if self.misled.is_empty() {
                wrong.extend(others_data(speaker, group, ear, seat));
            }
        }
        // What an operator set at this moment may have made some of them down.
        if speaker.waited_ms == 0 && !self.is_tuned(speaker, name) {
            wrong.extend(self.hasty(speaker, &place, group, seat));
            wrong.extend(self.better(speaker, &place, group, to, seat));
        }
        for (rule, how) in wrong {
            self.broken(speaker, rule, format!("promotes {to}: {how}"));
        }
    }

    /// Who is promoted answers, and has said lately what it is.
    fn unfit(
        &self,
        speaker: &Speaker,
        place: &Place,
        to: &Address,
        ear: &Ear,
        seat: &Seat,
    ) -> Option<Broken> {
        let ago = |at: Ms| speaker.at.saturating_sub(at).saturating_sub(speaker.waited_ms);
        let rule = Rule::WhoIsPromotedAnswers;
        if speaker.waited_ms == 0 && !ear.up {
            return Some((rule, "there is no connection to it".into()));
        }
        // One that was forgotten and is met again at a switch is not down any more.
        let judged = self.page(place).and_then(|page| page.judged(to));
        let silent = ear.pongs[0] <= judged.map(|told| told.at);
        let down = silent && self.ledger.is_down(speaker.number, to);
        if speaker.waited_ms < Ms::MAX && seat.settled && down {
            return Some((rule, "the sentinel itself calls it down".into()));
        }
        let answered_ms = ago(ear.pongs[0].map_or(ear.opened_at, |at| at.max(ear.opened_at)));
        if answered_ms > slack(ANSWERED_MS) {
            return Some((rule, format!("its last PONG is {answered_ms} ms old")));
        }
        let rule = Rule::WhoIsPromotedHasSaidLatelyWhatItIs;
        let Some(info) = &ear.info else { return Some((rule, "it said nothing yet".into())) };
        let limit_ms = match self.master_down(place).is_some() {
            true => ANSWERED_MS,
            false => ANSWERED_IN_PEACE_MS,
        };
        (ago(info.at) > slack(limit_ms))
            .then(|| (rule, format!("its INFO is {} ms old", ago(info.at))))
    }

    /// Old data are promoted only where an operator wants it, and no stranger ever; unless the
    /// master itself says that it follows somebody.
    fn too_old(
        &self,
        speaker: &Speaker,
        place: &Place,
        group: &GroupState,
        ear: &Ear,
        seat: &Seat,
    ) -> Option<Broken> {
        let info = ear.info.as_ref()?;
        let master = seat.ears.get(&group.settings.master)?;
        if master.info.as_ref().is_some_and(|info| !info.is_master) || speaker.waited_ms == Ms::MAX
        {
            return None;
        }
        if info.is_master {
            let how = || "it says master, and never said that it follows anybody".to_owned();
            return ear.is_stray().then(|| (Rule::WhoIsPromotedWasAReplica, how()));
        }
        // Old data may be an operator's wish where there is no master, and only there.
        let wanted = self.is_forced(place) && self.master_down(place).is_some();
        if wanted || self.is_tuned(speaker, &place.1) {
            return None;
        }
        match info.unlinked_ms {
            None if info.linked || info.has_data => None,
            None => Some((
                Rule::EmptinessIsNotPromoted,
                "it started without data and has not reached its master since".into(),
            )),
            Some(unlinked_ms) => {
                let called = self.master_down(place).unwrap_or(speaker.at);
                let silent_since = master.pongs[0]?.min(called);
                let limit = speaker.at - silent_since + 10 * group.settings.down_after_ms;
                let how = || format!("its link has been down for {unlinked_ms} ms");
                (unlinked_ms > slack(limit)).then(|| (Rule::OldDataAreNotPromoted, how()))
            }
        }
    }

    /// Whoever can be asked is, and has time to answer, before one of them is chosen.
    fn hasty(
        &self,
        speaker: &Speaker,
        place: &Place,
        group: &GroupState,
        seat: &Seat,
    ) -> Option<Broken> {
        if self.is_handed_over(place) {
            return None;
        }
        let elected = self.page(place)?.elected?;
        let waited_ms = speaker.at - elected;
        if slack(waited_ms) >= FRESH_MS {
            return None;
        }
        // Who is silent for so long is down, though that may wait for the disk to be announced.
        let answers = |ear: &Ear| {
            let last = ear.pongs[0].map_or(ear.opened_at, |at| at.max(ear.opened_at));
            ear.up && slack(speaker.at - last) < group.settings.down_after_ms
        };
        let silent = self.candidates(speaker, group, seat).find(|(_, ear)| {
            answers(ear) && ear.info.as_ref().is_none_or(|info| info.at + 2 < elected)
        });
        silent.map(|(other, _)| {
            let how = format!("{waited_ms} ms after the election, {other} has not said yet");
            (Rule::AllAreAskedBeforeOneIsPromoted, how)
        })
    }

    /// Of those that can be promoted without any doubt none is to be preferred.
    fn better(
        &self,
        speaker: &Speaker,
        place: &Place,
        group: &GroupState,
        to: &Address,
        seat: &Seat,
    ) -> Option<Broken> {
        if self.is_handed_over(place) {
            return None;
        }
        let elected = self.page(place)?.elected?;
        let chosen = seat.ears.get(to)?.info.as_ref()?;
        let ages = self.ages(speaker, &place.1, group, seat);
        for (other, info) in self.fit(speaker, place, group, seat, elected + 1) {
            if other == to {
                continue;
            }
            if is_double(group, seat, chosen) {
                let how = format!("it is two nodes or none, and {other} is one");
                return Some((Rule::WhoIsPromotedIsOneNode, how));
            }
            if chosen.is_master {
                continue;
            }
            if info.is_master {
                let how = format!("{other} says master already, and was ours");
                return Some((Rule::WhoWasPromotedAlreadyComesFirst, how));
            }
            if ages.fell_behind(chosen) {
                let how =
                    format!("its link broke long before the master fell silent, {other}'s not");
                return Some((Rule::WhoFellBehindComesLast, how));
            }
            let rank = |info: &Info| (info.priority, u64::MAX - info.offset, info.run_id.clone());
            if rank(info) < rank(chosen) {
                let of =
                    |info: &Info| format!("{} at {}, {}", info.priority, info.offset, info.run_id);
                let how = format!("{} where {other} has {}", of(chosen), of(info));
                return Some((Rule::TheBestReplicaIsPromoted, how));
            }
        }
        None
    }

    /// Those that can be promoted without any doubt, and have said how far they are since then.
    fn fit<'a>(
        &'a self,
        speaker: &'a Speaker,
        place: &Place,
        group: &'a GroupState,
        seat: &'a Seat,
        since: Ms,
    ) -> Vec<(&'a Address, &'a Info)> {
        let ages = self.ages(speaker, &place.1, group, seat);
        let named = self.prompt.named_at(place);
        let master = &group.settings.master;
        let fit = |(at, ear): (&'a Address, &'a Ear)| {
            let info = ear.info.as_ref().filter(|info| info.at >= since.max(ear.met_at))?;
            let answers = ear.up
                && !ear.locked
                && ear.pongs[0].is_some_and(|at| speaker.at - at < ANSWERED_MS);
            let ours = match info.is_master {
                // A master says nothing of its priority.
                true => ear.came_from(master, named),
                false => {
                    let follows = info.follows.as_ref() == Some(master);
                    follows && info.priority > 0 && ages.kept_up(info)
                }
            };
            let doubtful = is_double(group, seat, info) || has_data_of_others(group, seat, info);
            (answers && ours && !ear.puzzles && !doubtful).then_some((at, info))
        };
        self.candidates(speaker, group, seat).filter_map(fit).collect()
    }

    /// Where somebody can be promoted without any doubt, nobody says that there is none.
    fn weigh_refusal(&mut self, speaker: &Speaker, place: &Place, since: Ms, seat: &Seat) {
        let Some(group) = speaker.disk.groups.get(&place.1) else { return };
        let master = seat.ears.get(&group.settings.master).and_then(|ear| ear.info.as_ref());
        // Who follows a stranger has a master already.
        let led_away = master.is_some_and(|info| !info.is_master);
        // Whose data these are may have been seen where another group has forgotten since.
        let of_another = |(n, of): &(usize, String)| *n == speaker.number && *of != place.1;
        let led_away = led_away || self.shrunk.iter().any(of_another);
        if speaker.waited_ms > 0 || !seat.settled || led_away || self.is_tuned(speaker, &place.1) {
            return;
        }
        let fit = self.fit(speaker, place, group, seat, since);
        if let Some((at, _)) = fit.first() {
            let how = format!("has nobody to promote in {}, where {at} waits", place.1);
            self.broken(speaker, Rule::WhoeverCanBePromotedIsFound, how);
        }
    }

    /// A replica's link may have broken not much earlier than the master fell silent.
    fn ages(&self, speaker: &Speaker, name: &str, group: &GroupState, seat: &Seat) -> Ages {
        let settings = &group.settings;
        let slack_ms = settings.down_after_ms + KEPT_UP_MS;
        let slack_least_ms = slack_ms.min(10 * settings.down_after_ms) * 99 / 100;
        let master = seat.ears.get(&settings.master);
        if self.is_tuned(speaker, name) {
            return Ages { kept_up_ms: 0, behind_ms: Ms::MAX };
        }
        // Where the master says that it follows another there is none to lag behind.
        let Some(ear) = master.filter(|ear| ear.info.as_ref().is_none_or(|info| info.is_master))
        else {
            return Ages { kept_up_ms: slack_least_ms, behind_ms: Ms::MAX };
        };
        let heard = ear.alive_at.unwrap_or_default().max(ear.met_at);
        let woke = self.progress.stood_still.get(&speaker.number).map_or(0, |(_, at)| *at);
        let silent_least_ms =
            speaker.at.saturating_sub(heard.max(woke) + SILENCE_SLACK_MS) * 99 / 100;
        Ages {
            kept_up_ms: silent_least_ms + slack_least_ms,
            behind_ms: slack(speaker.at - heard) + slack(slack_ms),
        }
    }

    /// The replicas that the sentinel does not call down.
    fn candidates<'a>(
        &'a self,
        speaker: &'a Speaker,
        group: &'a GroupState,
        seat: &'a Seat,
    ) -> impl Iterator<Item = (&'a Address, &'a Ear)> {
        let down = |at: &Address| self.ledger.is_down(speaker.number, at);
        let ear = |at: &'a Address| Some((at, *seat.ears.get(at)?));
        group.replicas.iter().filter(move |at| !down(at)).filter_map(ear)
    }

    /// What is announced as promoted has said that it is a master: after it was told to become one,
    /// and while the votes bound.
    fn weigh_promotion(&mut self, speaker: &Speaker, place: &Place, event: &Event, seat: &Seat) {
        let Some((_, at)) = named(&event.payload) else { return };
        let stood_at = self.stood_at.get(place).copied();
        let order = seat.ears.get(&at).and_then(|ear| ear.promotion);
        let (Some(stood_at), Some(order)) = (stood_at, order) else { return };
        if order.at < stood_at {
            // It was one already, and the order never left.
            return;
        }
        let Some(shown_at) = order.shown_at else {
            let how = format!("announces {at}, which has not said master since its order");
            return self.broken(speaker, Rule::APromotionIsSeenBeforeItIsTold, how);
        };
        if shown_at > stood_at + self.tenure_ms(speaker, &place.1) {
            let how = format!("counts {at}, a master {} ms after it stood", shown_at - stood_at);
            self.broken(speaker, Rule::APromotionCountsWhileTheVotesBind, how);
        }
    }
}

/// Its data must not be those of another group, which it has copied from a master that lived at the
/// address of its own one.
fn others_data(speaker: &Speaker, group: &GroupState, ear: &Ear, seat: &Seat) -> Option<Broken> {
    let info = ear.info.as_ref().filter(|_| speaker.waited_ms == 0)?;
    let how = || "it has copied the data of another group".to_owned();
    // The master, a node of this group, had them already when it was promoted: it copied them
    // between its last INFO and the order.
    let master = seat.ears.get(&group.settings.master).and_then(|ear| ear.info.as_ref());
    let master = master.filter(|of| of.is_master && !is_of_others(group, seat, &of.run_id));
    if master.is_some_and(|of| of.histories.iter().any(|data| info.histories.contains(data))) {
        return None;
    }
    has_data_of_others(group, seat, info).then(|| (Rule::OthersDataAreNotPromoted, how()))
}

/// One of its nodes shows the run id of another.
fn is_double(group: &GroupState, seat: &Seat, info: &Info) -> bool {
    let nodes = group.replicas.iter().chain([&group.settings.master]);
    let ears = nodes.filter_map(|at| seat.ears.get(at).filter(|ear| ear.up));
    let same = ears.filter(|ear| ear.info.as_ref().is_some_and(|of| of.run_id == info.run_id));
    same.count() > 1
}

/// This process or history was seen in another group before it was seen in this one.
pub(super) fn is_of_others(group: &GroupState, seat: &Seat, name: &str) -> bool {
    let is_own = |at: &Address| *at == group.settings.master || group.replicas.contains(at);
    let first = |own: bool| {
        let ears = seat.ears.iter().filter(|(at, _)| is_own(at) == own);
        ears.filter_map(|(_, ear)| ear.shown_at(name)).min()
    };
    first(false).is_some_and(|there| first(true).is_none_or(|here| there < here))
}

/// A node has data of another group's master.
pub(super) fn has_data_of_others(group: &GroupState, seat: &Seat, info: &Info) -> bool {
    info.histories.iter().any(|history| is_of_others(group, seat, history))
}

/// So much by the slowest clock.
pub(super) fn slack(ms: Ms) -> Ms {
    ms + ms / 100 + 20
}

#[cfg(test)]
#[path = "choice_tests.rs"]
pub(super) mod tests;
