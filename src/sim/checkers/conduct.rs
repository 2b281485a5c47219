//! How sentinels conduct themselves in elections: when they vote and stand, seen from what each is
//! told, writes and says. No word of the core's own reckoning is taken for it.

use std::collections::{BTreeMap, BTreeSet};

use super::Speaker;
use super::ledger::{Ledger, Page};
use super::times::{LEAD_MS, OPINION_MS, SHORT_TENURE_MS};
use crate::config::state::{GroupState, State};
use crate::resp::Value;
use crate::sentinel::hello::GiveUp;
use crate::sentinel::types::{Address, Epoch, RunId};
use crate::sentinel::{
    Command, Effect, Event, EventKind, Input, LinkEvent, Request, RequestId, TargetKind,
};
use crate::sim::rules::{Broken, Rule};
use crate::sim::wire::Ms;
use crate::sim::words;

/// A sentinel without a memory listens for so long by any clock, in ms.
const LISTEN_MS: Ms = 2_490;
/// What a clock may make of some such leads, in ms.
const LEAD_SLACK_MS: Ms = 2;
/// The shortest pause after the first failover that was given up, and after many, in ms.
const PAUSE_MS: Ms = 98;
const PAUSE_MAX_MS: Ms = 4_900;
/// The longest pause after the first, in ms; it doubles up to so much for each voter.
const RETRY_MS: Ms = 200;
const RETRY_MAX_MS: Ms = 10_000;
/// A question in an epoch farther ahead than this is no honest one.
const HONEST_EPOCHS: Epoch = 1 << 16;

/// Whoever moved hears its former self for so long at most, in ms, and minds it for 20 s more.
const HEARS_ITSELF_MS: Ms = 60_000;

/// What all sentinels were seen to do, as far as it binds them.
#[derive(Default)]
pub(super) struct Conduct {
    members: BTreeMap<(usize, String), Member>,
    /// What a sentinel was told by others, by their address, of a master.
    opinions: BTreeMap<(usize, Address, Address), Opinion>,
    /// Who a sentinel was told lives at the address of another one.
    told_ids: BTreeMap<(usize, Address), String>,
    /// Votes that a sentinel was asked for while it could write.
    asked: BTreeSet<(usize, RunId, Epoch)>,
    /// Questions that a sentinel must answer with its vote for this candidate.
    due: BTreeMap<(usize, RequestId), RunId>,
    /// Writes of a sentinel that failed in a row.
    failed: BTreeMap<usize, u32>,
    /// Two sentinels may have one id, and then they give no votes that are asked for.
    cloned: bool,
    /// When a sentinel moved. It may hear a last word of its former self.
    moved: BTreeMap<usize, Ms>,
}

/// One sentinel as a member of one group.
#[derive(Default)]
struct Member {
    /// The vote that its state showed last, and the last ones before.
    seen: (Epoch, Option<RunId>),
    votes: Vec<Vote>,
    /// The other sentinels that it ever knew.
    known: BTreeSet<RunId>,
    /// It remembers none: since when, and the newest epoch of which it heard while it listened.
    listens: Option<Ms>,
    heard: Epoch,
    /// Opinions of before count no longer for who comes first.
    judged_anew: Ms,
    /// It voted for somebody else at this time, and from that time on gives the others the usual
    /// lead: once the vote binds no more.
    holds_back: Option<(Ms, Ms)>,
    /// What candidates said that they gave up, and when.
    freed_by: Vec<(RunId, Epoch, Ms)>,
    /// Failovers that it gave up in a row.
    gave_up: GivenUp,
    /// The epoch of the last vote for itself that it told, and that of the last that is free again.
    stood: Option<Epoch>,
    freed: Option<Epoch>,
}

#[derive(Default)]
struct GivenUp {
    times: u32,
    /// The last one was given up no earlier than this, and said to be so at that time.
    since: Ms,
    told: Ms,
}

#[derive(Default)]
struct Opinion {
    /// When it last said that the master is down.
    down_at: Option<Ms>,
    /// It still says so, over the connection that stands.
    stands: bool,
}

/// A vote that a sentinel wrote.
struct Vote {
    epoch: Epoch,
    leader: RunId,
    own: bool,
    /// It was decided no earlier than this, and no later than that.
    since: Ms,
    until: Ms,
    /// Who had said by then that the master is down and comes first, and when.
    ahead: Vec<(RunId, Address, Ms)>,
    /// How many said so lately, this sentinel included, and how many have to.
    accusers: usize,
    quorum: usize,
}

/// What a vote is judged by.
struct Basis<'a> {
    /// Its voter was asked for it, while it could write.
    asked: bool,
    sees_majority: bool,
    /// The last write failed.
    disk_failed: bool,
    /// What others said of the master, and where they are.
    opinions: Vec<(&'a Address, &'a Opinion)>,
    /// Who was told to live at an address.
    told_ids: &'a BTreeMap<(usize, Address), String>,
}

impl Conduct {
    /// A sentinel starts with what its disk remembers.
    pub(super) fn started(&mut self, speaker: &Speaker) {
        for (name, group) in speaker.disk.groups.iter() {
            let member = self.members.entry((speaker.number, name.to_string())).or_default();
            *member = Member {
                seen: (group.leader_epoch, group.voted_for.clone()),
                // A vote outlives its voter.
                votes: std::mem::take(&mut member.votes),
                known: group.sentinels.keys().cloned().collect(),
                listens: group.sentinels.is_empty().then_some(speaker.at),
                ..Member::default()
            };
        }
    }

    /// A sentinel dies.
    pub(super) fn died(&mut self, sentinel: usize) {
        self.failed.remove(&sentinel);
        self.asked.retain(|(number, ..)| *number != sentinel);
        self.due.retain(|(number, _), _| *number != sentinel);
        self.opinions.retain(|(number, ..), _| *number != sentinel);
    }

    /// Its memory is lost or replaced: what it voted binds it no more.
    pub(super) fn excuse(&mut self, sentinel: usize) {
        self.members.retain(|(number, _), _| *number != sentinel);
    }

    /// A sentinel has another address from now on.
    pub(super) fn moved(&mut self, sentinel: usize, at: Ms) {
        self.moved.insert(sentinel, at);
    }

    /// It may take a last word of its former self for one of a sentinel with its id, and then takes
    /// no part in elections.
    pub(super) fn may_hear_itself(&self, speaker: &Speaker) -> bool {
        self.moved.get(&speaker.number).is_some_and(|at| speaker.at < at + HEARS_ITSELF_MS)
    }

    /// Two sentinels have one id from now on.
    pub(super) fn cloned(&mut self) {
        self.cloned = true;
        self.due.clear();
    }

    /// When the pause is over, by any chance, that follows the last failover which this sentinel
    /// gave up.
    pub(super) fn stands_again(&self, place: &(usize, String), voters: usize) -> Option<Ms> {
        let GivenUp { times, told, .. } = self.members.get(place)?.gave_up;
        let longest_ms = RETRY_MAX_MS * voters as Ms;
        let pause_ms = (RETRY_MS << times.saturating_sub(1).min(8)).min(longest_ms);
        Some(if times == 0 { 0 } else { told + pause_ms })
    }

    /// Something comes to a sentinel, over the link to this address if it is news of a link.
    /// `fails`: its disk does, and it knows; `idle`: all that it decided is on disk.
    pub(super) fn hears(
        &mut self,
        speaker: &Speaker,
        from: Option<&Address>,
        input: &Input,
        (fails, idle): (bool, bool),
        ledger: &Ledger,
    ) {
        if let Input::PersistFailed { .. } = input {
            *self.failed.entry(speaker.number).or_default() += 1;
        }
        match input {
            Input::Request {
                id,
                request: Request::IsMasterDown { host, port, epoch, candidate: Some(candidate) },
            } => {
                let (Some(candidate), Ok(epoch)) =
                    (RunId::parse(candidate), Epoch::try_from(*epoch))
                else {
                    return;
                };
                if fails {
                    return;
                }
                let master = Address::new(host.clone(), u16::try_from(*port).unwrap_or(0));
                if idle && self.must_vote(speaker, &master, &candidate, epoch, ledger) {
                    self.due.insert((speaker.number, *id), candidate.clone());
                }
                self.asked.insert((speaker.number, candidate, epoch));
            }
            Input::Link {
                event: LinkEvent::Reply { command: Command::IsMasterDown { master, .. }, reply },
                ..
            } => {
                let Some(from) = from else { return };
                let key = (speaker.number, master.clone(), from.clone());
                let opinion = self.opinions.entry(key).or_default();
                opinion.stands = says_down(reply);
                if opinion.stands {
                    opinion.down_at = Some(speaker.at);
                }
            }
            Input::Link {
                event: LinkEvent::Reply { command: Command::AskId { .. }, reply },
                ..
            } => {
                let Some((from, told)) = from.zip(reply.text()) else { return };
                self.told_ids.insert((speaker.number, from.clone()), told.to_owned());
            }
            Input::Link { event: LinkEvent::Down { .. }, .. } => {
                if let Some(from) = from {
                    self.lost(speaker.number, from);
                }
            }
            Input::Persisted { .. } => _ = self.failed.remove(&speaker.number),
            // What is removed, and what cannot be written, has no vote.
            Input::PersistFailed { .. } => {
                self.due.retain(|(number, _), _| *number != speaker.number);
            }
            Input::Request { request: Request::Hello(payload), .. } => {
                let Some(given_up) = GiveUp::parse(payload) else { return };
                let place = (speaker.number, given_up.group.clone());
                if let Some(member) = self.members.get_mut(&place) {
                    member.is_released(speaker.at, &given_up);
                }
            }
            Input::Request { request: Request::Remove(name), .. } => {
                self.due.retain(|(number, _), _| *number != speaker.number);
                if let Some(member) = self.members.get_mut(&(speaker.number, name.clone())) {
                    member.gave_up = GivenUp::default();
                }
            }
            _ => {}
        }
    }

    /// Whoever gave up its own failover has its vote free for the next who asks.
    fn must_vote(
        &self,
        speaker: &Speaker,
        master: &Address,
        candidate: &RunId,
        epoch: Epoch,
        ledger: &Ledger,
    ) -> bool {
        let disk = speaker.disk;
        let named = disk.groups.iter().find(|(_, group)| group.settings.master == *master);
        let Some((name, group)) = named else { return false };
        let member = self.members.get(&(speaker.number, name.to_string()));
        let free = member.is_some_and(|member| member.freed == Some(group.leader_epoch));
        let newer = epoch > group.leader_epoch.max(group.config_epoch)
            && epoch < disk.current_epoch + HONEST_EPOCHS;
        let sees = sees_majority(ledger.page(speaker.number, name), group, candidate);
        free && newer
            && sees
            && group.voted_for.as_ref() == Some(speaker.id)
            && group.sentinels.contains_key(candidate)
            && !self.cloned
            && !self.may_hear_itself(speaker)
    }

    /// The connection to another sentinel is another one from now on.
    fn lost(&mut self, sentinel: usize, address: &Address) {
        for ((number, _, of), opinion) in &mut self.opinions {
            opinion.stands &= *number != sentinel || of != address;
        }
        for (_, member) in self.members.iter_mut().filter(|((number, _), _)| *number == sentinel) {
            if let Some(vote) = member.votes.last_mut() {
                vote.ahead.retain(|(_, of, _)| of != address);
            }
        }
    }

    /// A sentinel says something.
    pub(super) fn says(
        &mut self,
        speaker: &Speaker,
        effect: &Effect,
        ledger: &Ledger,
    ) -> Option<Broken> {
        match effect {
            Effect::Persist { state, .. } => self.writes(speaker, state, ledger),
            Effect::Announce(event) => self.announces(speaker, event, ledger),
            Effect::Connect { target, .. } if target.kind == TargetKind::Sentinel => {
                self.lost(speaker.number, &target.address);
                None
            }
            Effect::Reply { id, reply } => {
                let candidate = self.due.remove(&(speaker.number, *id))?;
                let Value::Array(items) = reply else { return None };
                let voted = items.get(1).and_then(Value::text) == Some(candidate.as_str());
                (!voted).then(|| {
                    let how = format!("answers {}: {}", candidate.short(), words::reply(reply));
                    (Rule::AVoteForOneselfIsFreeOnceThatIsGivenUp, how)
                })
            }
            _ => None,
        }
    }

    fn writes(&mut self, speaker: &Speaker, state: &State, ledger: &Ledger) -> Option<Broken> {
        let number = speaker.number;
        let gone = |of: usize, name: &String| of == number && !state.groups.contains_key(name);
        self.members.retain(|(of, name), _| !gone(*of, name));
        let mut broken = None;
        for (name, group) in state.groups.iter() {
            let member = self.members.entry((number, name.to_string())).or_default();
            member.known.extend(group.sentinels.keys().cloned());
            let vote = (group.leader_epoch, group.voted_for.clone());
            if vote != member.seen {
                member.seen = vote;
                if let Some(leader) = &group.voted_for {
                    // The write before this one was a second try already, and held no such vote.
                    let failed = self.failed.get(&number).copied().unwrap_or(0);
                    if *leader == state.my_id && failed > 1 {
                        let how = format!("stands in {name}, epoch {}", group.leader_epoch);
                        broken = Some((Rule::NobodyStandsWhoCannotWrite, how));
                    }
                    let asked = self.asked.contains(&(number, leader.clone(), group.leader_epoch));
                    let of_master = |key: &&(usize, Address, Address)| {
                        key.0 == number && key.1 == group.settings.master
                    };
                    let opinions = self.opinions.iter().filter(|(key, _)| of_master(key));
                    let opinions = opinions.map(|(key, of)| (&key.2, of));
                    let basis = Basis {
                        asked,
                        sees_majority: sees_majority(ledger.page(number, name), group, leader),
                        disk_failed: failed > 0,
                        opinions: opinions.collect(),
                        told_ids: &self.told_ids,
                    };
                    let found = member.votes(speaker, name, state, leader, &basis);
                    broken = broken.or(found);
                }
            }
            match group.sentinels.is_empty() {
                true => {
                    let since = *member.listens.get_or_insert(speaker.since);
                    if speaker.at < since + LISTEN_MS {
                        member.heard = member.heard.max(state.current_epoch);
                    }
                }
                false => member.listens = None,
            }
        }
        broken
    }

    fn announces(&mut self, speaker: &Speaker, event: &Event, ledger: &Ledger) -> Option<Broken> {
        let number = speaker.number;
        if event.kind == EventKind::Tilt {
            let members = self.members.iter_mut().filter(|((of, _), _)| *of == number);
            members.for_each(|(_, member)| member.judged_anew = speaker.at);
        }
        let name = event.group.as_deref()?.to_owned();
        let member = self.members.get_mut(&(number, name.clone()))?;
        match event.kind {
            // Its state shows nobody while it listens.
            EventKind::Sentinel => {
                let id = event.payload.split(' ').nth(1).and_then(RunId::parse);
                member.known.extend(id);
            }
            EventKind::Sdown | EventKind::SdownEnd if event.payload.starts_with("master ") => {
                member.judged_anew = speaker.at;
            }
            EventKind::SentinelInvalidAddr | EventKind::SentinelAddressSwitch => {
                member.judged_anew = speaker.at;
            }
            EventKind::SwitchMaster | EventKind::PromotedSlave | EventKind::ResetMaster => {
                member.judged_anew = speaker.at;
                member.holds_back = None;
                member.gave_up = GivenUp::default();
            }
            EventKind::AbortNotElected
            | EventKind::AbortNoGoodSlave
            | EventKind::AbortSlaveTimeout => {
                let times = member.gave_up.times + 1;
                member.gave_up = GivenUp { times, since: speaker.since, told: speaker.at };
                member.holds_back = None;
                member.freed = member.stood.take();
            }
            EventKind::VoteForLeader => {
                let told =
                    |vote: &&Vote| event.payload == format!("{} {}", vote.leader, vote.epoch);
                // The same vote of an earlier life may have been lost on its way to the disk.
                let vote = member.votes.iter().rev().find(told).filter(|vote| vote.own)?;
                let page = ledger.page(number, &name)?;
                let broken = member.stands(&name, vote, page);
                member.stood = Some(vote.epoch);
                return broken;
            }
            _ => {}
        }
        None
    }
}

impl Member {
    /// A candidate for which it may have voted gave up. The vote may wait for the disk.
    fn is_released(&mut self, now: Ms, given_up: &GiveUp) {
        self.freed_by.push((given_up.id.clone(), given_up.epoch, now));
        let last = self.votes.last();
        if last.is_some_and(|vote| vote.leader == given_up.id && vote.epoch == given_up.epoch) {
            self.holds_back = self.holds_back.map(|(at, until)| (at, until.min(now)));
        }
    }

    /// When the candidate said that it gave up this election.
    fn released_at(&self, leader: &RunId, epoch: Epoch) -> Option<Ms> {
        let word = self.freed_by.iter().find(|(id, of, _)| id == leader && *of == epoch);
        word.map(|(.., at)| *at)
    }

    /// A vote is written that was not there before.
    fn votes(
        &mut self,
        speaker: &Speaker,
        name: &str,
        state: &State,
        leader: &RunId,
        basis: &Basis,
    ) -> Option<Broken> {
        let broken = self.breach(speaker, name, state, leader, basis);
        let (group, now) = (&state.groups[name], speaker.at);
        let own = *leader == state.my_id;
        let id_of = |at: &Address| group.sentinels.iter().find(|(_, a)| *a == at).map(|(id, _)| id);
        let ahead = basis
            .opinions
            .iter()
            .filter(|(_, opinion)| opinion.stands)
            .filter_map(|(at, opinion)| Some((id_of(at)?, (*at).clone(), opinion.down_at?)))
            .filter(|(id, ..)| **id < state.my_id)
            // Another one in its place does not stand for it.
            .filter(|(id, at, _)| {
                let told = basis.told_ids.get(&(speaker.number, at.clone()));
                told.is_none_or(|told| told == id.as_str())
            })
            .map(|(id, at, down_at)| (id.clone(), at, down_at))
            .collect();
        let late = |opinion: &Opinion| {
            opinion.down_at.is_some_and(|at| now.saturating_sub(at) <= OPINION_MS)
        };
        let accusers = 1 + basis.opinions.iter().filter(|(_, opinion)| late(opinion)).count();
        let quorum = group.settings.quorum as usize;
        // Who could not write may have decided to stand long ago.
        let since = if own && basis.disk_failed { 0 } else { speaker.since };
        let same = speaker.disk.groups.get(name).is_some_and(|disk| {
            disk.config_epoch == group.config_epoch && disk.settings.master == group.settings.master
        });
        if !own {
            let until = self.released_at(leader, group.leader_epoch);
            let until = until.unwrap_or(since + SHORT_TENURE_MS);
            self.holds_back = same.then_some((since, until));
        }
        let (epoch, leader) = (group.leader_epoch, leader.clone());
        self.votes.push(Vote { epoch, leader, own, since, until: now, ahead, accusers, quorum });
        if self.votes.len() > 3 {
            self.votes.remove(0);
        }
        broken
    }

    /// The rule that such a vote breaks.
    fn breach(
        &self,
        speaker: &Speaker,
        name: &str,
        state: &State,
        leader: &RunId,
        basis: &Basis,
    ) -> Option<Broken> {
        let (group, now) = (&state.groups[name], speaker.at);
        let (epoch, own) = (group.leader_epoch, *leader == state.my_id);
        let what = || format!("votes for {} in {name}, epoch {epoch}", leader.short());
        let mut broken = None;
        let durable = speaker.disk.groups.get(name);
        // What was never written was never told.
        let old = self.votes.iter().find(|vote| {
            durable.is_some_and(|disk| {
                disk.leader_epoch == vote.epoch && disk.voted_for.as_ref() == Some(&vote.leader)
            })
        });
        if let Some(old) = old
            && !old.own
            && self.released_at(&old.leader, old.epoch).is_none()
            && old.leader != *leader
            && group.config_epoch < old.epoch
            && now - old.since < SHORT_TENURE_MS
        {
            let (before, ago) = (old.leader.short(), now - old.since);
            let how = format!("{}, {ago} ms after one for {before}", what());
            broken = Some((Rule::AVoteBinds, how));
        }
        if durable.is_some_and(|disk| disk.config_epoch >= epoch) {
            broken = Some((Rule::VotesAreForWhatIsToCome, format!("{}, too late", what())));
        }
        if !own && !self.known.contains(leader) {
            broken = Some((Rule::VotesAreForSentinelsOfTheGroup, what()));
        }
        // Word of who is silent may wait for the disk, too.
        if !own && speaker.since == now && !basis.sees_majority {
            broken = Some((Rule::VotesAreOfThoseWhoSeeAMajority, what()));
        }
        if !own && !basis.asked {
            let how = format!("{}, asked for while it cannot write", what());
            broken = Some((Rule::NoVoteWhileTheDiskFails, how));
        }
        if let Some(since) = self.listens.filter(|since| now < since + LISTEN_MS) {
            let how = format!("{}, {} ms after it began to listen", what(), now - since);
            broken = Some((Rule::NewcomersListenFirst, how));
        } else if epoch <= self.heard {
            let how = format!("{}, of which it heard while it listened", what());
            broken = Some((Rule::NewcomersVoteInLaterEpochs, how));
        }
        broken
    }

    /// It tells that it stands for election: whether it was its turn.
    fn stands(&self, name: &str, vote: &Vote, page: &Page) -> Option<Broken> {
        if page.forced {
            return None;
        }
        let GivenUp { times, since, told } = self.gave_up;
        let pause = (PAUSE_MS << times.saturating_sub(1).min(8)).min(PAUSE_MAX_MS);
        let what = || format!("stands for election in {name}, epoch {}", vote.epoch);
        if times > 0 && vote.since >= told && vote.until < since + pause {
            let ago = vote.until - since;
            let how = format!("{}, {ago} ms after it gave up, for the {times}th time", what());
            return Some((Rule::APauseAfterAFailoverThatWasGivenUp, how));
        }
        // What waited for the disk is not known to the ms.
        if vote.since < vote.until {
            return None;
        }
        if vote.accusers < vote.quorum {
            let how = format!("{}, accused by {} of {}", what(), vote.accusers, vote.quorum);
            return Some((Rule::AQuorumOfFreshOpinionsBeforeAnElection, how));
        }
        let heard = |id| {
            let judged = page.peer_judged(id);
            !page.is_silent(id) && judged.is_none_or(|told| told.at < vote.until)
        };
        let ahead = vote.ahead.iter().filter(|(id, _, at)| *at > self.judged_anew && heard(id));
        let ahead = ahead.count() as u64;
        // A later vote for another did not bind it then.
        let held_back = self.holds_back.filter(|(at, _)| *at < vote.until);
        let held_back = held_back.map_or(0, |(_, until)| until);
        let odown = page.odown.filter(|told| told.at_once)?.at;
        let turn = odown.max(held_back) + ahead * LEAD_MS;
        (ahead > 0 && vote.until + LEAD_SLACK_MS < turn).then(|| {
            let early = turn - vote.until;
            let how = format!("{}, {early} ms early: {ahead} others come first", what());
            (Rule::SentinelsOfSmallerRankStandFirst, how)
        })
    }
}

/// More than half of the sentinels that it knows are not silent for it, the candidate included.
fn sees_majority(page: Option<&Page>, group: &GroupState, candidate: &RunId) -> bool {
    let silent = |id: &&RunId| *id != candidate && page.is_some_and(|page| page.is_silent(id));
    let voters = group.sentinels.len() + 1;
    voters - group.sentinels.keys().filter(silent).count() > voters / 2
}

fn says_down(reply: &Value) -> bool {
    matches!(reply, Value::Array(items) if items.first() == Some(&Value::Integer(1)))
}

#[cfg(test)]
#[path = "conduct_tests.rs"]
mod tests;
