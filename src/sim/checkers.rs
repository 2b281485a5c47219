//! What must hold at every moment of every run, whatever fails. Checked on all that sentinels say:
//! hellos, questions, votes, commands, events.

mod choice;
mod conduct;
mod excuses;
mod hand_overs;
mod identities;
mod leaders;
mod ledger;
mod orders;
mod prompt;
mod season;
mod times;
mod told;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};

use choice::Progress;
use conduct::Conduct;
use hand_overs::HandOvers;
use identities::Identities;
use ledger::{Ledger, Page, Told};
use orders::Orders;
use prompt::Prompt;
pub(super) use season::Season;
pub(super) use times::TENURE_MS;
pub(super) use told::{Ear, Hellos, Seat, followed_in, is_weighed};

use super::rules::Rule;
use super::wire::{Ms, Proc};
use super::words;
use crate::config::state::State;
use crate::resp::Value;
use crate::sentinel::types::{Address, Epoch, RunId};
use crate::sentinel::{Command, Effect, Event, EventKind, Input, LEFT_ALONE, Request};

/// Something that must never happen, and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When, in virtual ms.
    pub at_ms: u64,
    /// Which rule is broken, by whom, and how.
    pub what: String,
}

/// A sentinel at the moment when it says something.
pub(super) struct Speaker<'a> {
    pub(super) at: Ms,
    /// What it says and writes now was decided since then: it may have waited for the disk.
    pub(super) since: Ms,
    /// What it says now may have had to wait so long for its disk, in ms; [`Ms::MAX`] if it was
    /// stopped.
    pub(super) waited_ms: Ms,
    /// Its number in the world.
    pub(super) number: usize,
    pub(super) id: &'a RunId,
    /// What it would remember if it crashed now.
    pub(super) disk: &'a State,
}

impl Speaker<'_> {
    /// It was stopped between its decision and what it says now.
    pub(super) fn was_stopped(&self) -> bool {
        self.waited_ms == Ms::MAX
    }

    /// When it says something, and decided that at the earliest.
    fn told(&self) -> Told {
        let since = self.at.saturating_sub(self.waited_ms);
        Told { since, at: self.at, at_once: self.since == self.at }
    }
}

/// What it says.
pub(super) struct Said<'a> {
    pub(super) effect: &'a Effect,
    /// Where a command goes.
    pub(super) to: Option<&'a Address>,
    /// Who really gets it.
    pub(super) receiver: Option<Proc>,
    /// What a reply answers.
    pub(super) question: Option<&'a Request>,
}

/// How long a sentinel decides nothing after a long freeze, by any clock, in ms.
const TILT_MS: Ms = 1_900;

/// For so long, in ms, what an operator changed in the settings may still show in what follows: a
/// master's silence, an election, its tenure.
const TUNED_MS: Ms = 30_000;

/// The group that an address or a name belongs to.
type Group = String;

/// No run gets anywhere near this epoch but by a lie.
const CREDIBLE_EPOCH: Epoch = 1 << 32;

/// Something that a sentinel said or did, to be compared with the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// It announced this replica as promoted, and saw that at this time at the earliest.
    Promoted { sentinel: usize, master: Address, since: Ms },
    /// It told this node to follow that master.
    Sent { sentinel: usize, node: usize, master: Address },
    /// It told this node to be the master of one of these groups.
    Promotes { sentinel: usize, node: usize, groups: Vec<Group> },
    /// Ordered to, it told this node to be the master in the place of that one.
    HandsOver { place: (usize, Group), node: usize, master: Address },
    /// It answered OK to a SET of these options.
    Tuned { sentinel: usize, group: Group, options: Vec<String> },
}

/// All that was said so far, as far as later words must agree with it.
pub(super) struct Checkers {
    /// Where nodes of each group are or were.
    groups: BTreeMap<Group, BTreeSet<Address>>,
    /// How many sentinels there are.
    sentinels: usize,
    season: Season,
    identities: Identities,
    leaders: BTreeMap<(Group, Epoch), usize>,
    votes: BTreeMap<(Group, Epoch), BTreeMap<RunId, RunId>>,
    config_epochs: BTreeMap<(usize, Group), Epoch>,
    current_epochs: BTreeMap<usize, Epoch>,
    masters: BTreeMap<(Group, Epoch), Address>,
    /// The epoch in which each sentinel last stood for election, and its quorum then.
    candidacies: BTreeMap<(usize, Group), (Epoch, u32)>,
    /// When that was.
    stood_at: BTreeMap<(usize, Group), Ms>,
    /// Who has ever said of a master that it is down, by number and id: another one may have taken
    /// its place.
    accusers: BTreeMap<Address, BTreeSet<(usize, RunId)>>,
    /// When each sentinel last went on after a long freeze.
    thawed: BTreeMap<usize, Ms>,
    /// When an operator last changed what a sentinel was told of a group.
    tuned: BTreeMap<(usize, Group), Ms>,
    /// The ids that each sentinel's disk has held.
    ids: BTreeMap<usize, BTreeSet<RunId>>,
    /// Groups that a sentinel was told to remove.
    removed: BTreeSet<(usize, Group)>,
    /// Who was told, while things fail, that who is silent is gone: RESET, REMOVE and MONITOR.
    shrunk: BTreeSet<(usize, Group)>,
    /// Elections that one of these won, or one who did not know all, maybe with a minority of all.
    split: BTreeSet<(Group, Epoch)>,
    /// Epochs that all, or some who voted, have forgotten, from one to another.
    forgotten: Vec<(Group, Epoch, Epoch)>,
    /// The newest epoch of a group when each of these lost its memory.
    lost: BTreeMap<Group, BTreeMap<usize, Epoch>>,
    /// Elections that were won, and those of them of which nothing can be asked.
    pub(super) won: u64,
    pub(super) unjudged: u64,
    /// Elections that a sentinel said it gave up, and those in which it promoted somebody.
    given_up: BTreeSet<(usize, Group, Epoch)>,
    acted_on: BTreeSet<(usize, Group, Epoch)>,
    /// An election that it told to have given up, without a word to its voters yet.
    owed: BTreeMap<(usize, Group), Epoch>,
    conduct: Conduct,
    claims: Vec<Claim>,
    /// Sentinels that were started while masters lived at each other's address, and take them for
    /// what they seem to be.
    pub(super) misled: BTreeSet<usize>,
    /// What each sentinel is about.
    progress: Progress,
    ledger: Ledger,
    /// What each should have done by now.
    prompt: Prompt,
    orders: Orders,
    hand_overs: HandOvers,
    /// Stock sentinels take part: what they agree on breaks rules that ours keep.
    mixed: bool,
    /// Sentinels that know, or knew, a node both by its name and by its address: of what they say
    /// of nodes it is not known which of the two entries it is about.
    puzzled: BTreeSet<usize>,
    violation: Option<Violation>,
}

impl Checkers {
    pub(super) fn new(groups: BTreeMap<Group, BTreeSet<Address>>, sentinels: usize) -> Checkers {
        Checkers {
            groups,
            sentinels,
            season: Season::Calm,
            identities: Identities::default(),
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            config_epochs: BTreeMap::new(),
            current_epochs: BTreeMap::new(),
            masters: BTreeMap::new(),
            candidacies: BTreeMap::new(),
            stood_at: BTreeMap::new(),
            accusers: BTreeMap::new(),
            thawed: BTreeMap::new(),
            tuned: BTreeMap::new(),
            ids: BTreeMap::new(),
            removed: BTreeSet::new(),
            shrunk: BTreeSet::new(),
            split: BTreeSet::new(),
            forgotten: Vec::new(),
            lost: BTreeMap::new(),
            won: 0,
            unjudged: 0,
            given_up: BTreeSet::new(),
            acted_on: BTreeSet::new(),
            owed: BTreeMap::new(),
            conduct: Conduct::default(),
            claims: Vec::new(),
            misled: BTreeSet::new(),
            progress: Progress::default(),
            ledger: Ledger::default(),
            prompt: Prompt::default(),
            orders: Orders::default(),
            hand_overs: HandOvers::default(),
            mixed: false,
            puzzled: BTreeSet::new(),
            violation: None,
        }
    }

    /// Says whether something fails from now on.
    pub(super) fn set_season(&mut self, season: Season) {
        self.season = season;
    }

    /// A node of the group is at this address from now on.
    pub(super) fn node_is_at(&mut self, group: &str, address: Address) {
        self.groups.entry(group.into()).or_default().insert(address);
    }

    /// A sentinel starts, with this on its disk.
    pub(super) fn started(&mut self, speaker: &Speaker) {
        self.ids.entry(speaker.number).or_default().insert(speaker.id.clone());
        self.conduct.started(speaker);
        self.open_book(speaker);
        self.prompt.started(speaker);
    }

    /// Something comes to a sentinel, over the link to this address if it is news of a link.
    pub(super) fn hears(
        &mut self,
        speaker: &Speaker,
        from: Option<&Address>,
        input: &Input,
        (disk_fails, disk_idle): (bool, bool),
    ) {
        self.read_book(speaker, disk_fails, disk_idle);
        self.hears_order(speaker, input);
        self.identities.hears(speaker, input);
        self.conduct.hears(speaker, from, input, (disk_fails, disk_idle), &self.ledger);
        self.prompt.hears(speaker, input);
        self.orders.hears(speaker, input);
    }

    /// A sentinel was told to forget the others of a group that it cannot reach.
    pub(super) fn shrinks(&mut self, sentinel: usize, group: &str) {
        self.shrunk.insert((sentinel, group.into()));
    }

    /// A sentinel has another address from now on.
    pub(super) fn moved(&mut self, sentinel: usize, at: Ms) {
        self.conduct.moved(sentinel, at);
    }

    /// A sentinel was told to remove a group.
    pub(super) fn removed(&mut self, sentinel: usize, group: &str) {
        self.config_epochs.remove(&(sentinel, group.into()));
        self.removed.insert((sentinel, group.into()));
        self.owed.remove(&(sentinel, group.into()));
    }

    /// A sentinel goes on after a long freeze.
    pub(super) fn thawed(&mut self, sentinel: usize, at: Ms) {
        self.thawed.insert(sentinel, at);
    }

    /// A sentinel dies; what it saw is forgotten.
    pub(super) fn died(&mut self, sentinel: usize) {
        self.thawed.remove(&sentinel);
        self.candidacies.retain(|(number, _), _| *number != sentinel);
        self.stood_at.retain(|(number, _), _| *number != sentinel);
        self.owed.retain(|(number, _), _| *number != sentinel);
        self.progress.forget(sentinel);
        self.identities.died(sentinel);
        self.conduct.died(sentinel);
        self.close_book(sentinel);
        self.prompt.died(sentinel);
        self.orders.died(sentinel);
        self.hand_overs.died(sentinel);
    }

    /// An operator changes what a sentinel was told in the beginning.
    pub(super) fn tuned(&mut self, sentinel: usize, group: &str, at: Ms) {
        self.tuned.insert((sentinel, group.into()), at);
    }

    /// What this sentinel was told of the group changed a short time ago: what it decides now may
    /// still follow from what it was told before.
    fn is_tuned(&self, speaker: &Speaker, group: &str) -> bool {
        let at = self.tuned.get(&(speaker.number, group.to_owned()));
        at.is_some_and(|at| speaker.at < at + TUNED_MS)
    }

    /// An operator has it watch a group again.
    pub(super) fn monitored(&mut self, sentinel: usize, group: &str) {
        self.removed.remove(&(sentinel, group.into()));
    }

    /// A sentinel is started, and may meet masters at each other's address.
    pub(super) fn is_misled(&mut self, sentinel: usize, misled: bool) {
        match misled {
            true => self.misled.insert(sentinel),
            false => self.misled.remove(&sentinel),
        };
    }

    /// What has to be compared with the truth since the last call.
    pub(super) fn claims(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.claims)
    }

    /// The first rule that was broken.
    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Records a broken rule; the first one counts.
    pub(super) fn fail(&mut self, at: Ms, rule: Rule, how: String) {
        #[cfg(test)]
        if super::mutants::goes_on_after(rule) {
            return;
        }
        let what = format!("{}: {how}", rule.name());
        self.violation.get_or_insert(Violation { at_ms: at, what });
    }

    /// A sentinel says something.
    pub(super) fn says(&mut self, speaker: &Speaker, said: &Said) {
        if let Some((rule, how)) = self.conduct.says(speaker, said.effect, &self.ledger) {
            self.broken(speaker, rule, how);
        }
        self.weigh_hand_over(speaker, said);
        match said.effect {
            Effect::Send { command: Command::Hello { payload }, .. } => {
                if let Some((rule, how)) = self.identities.says(speaker, payload) {
                    self.broken(speaker, rule, how);
                }
                self.hello(speaker, payload);
            }
            Effect::Send {
                command: Command::IsMasterDown { master, epoch, candidate }, ..
            } => {
                self.question(speaker, master, *epoch, candidate.as_ref());
            }
            Effect::Send { command: Command::GiveUp(given_up), .. } => {
                self.gives_up(speaker, given_up);
            }
            // Over a link that is closed it goes nowhere.
            Effect::Send { command: Command::Promote, .. } if said.to.is_none() => {}
            Effect::Send { command: Command::Promote, .. } => self.promotion(speaker, said),
            Effect::Send { command: Command::Follow { master }, .. } => {
                if !speaker.disk.groups.values().any(|group| group.settings.master == *master) {
                    let how = format!("sends a node to {master}");
                    self.broken(speaker, Rule::DurableBeforeSpoken, how);
                }
                if let Some(Proc::Node(node)) = said.receiver {
                    let master = master.clone();
                    self.claims.push(Claim::Sent { sentinel: speaker.number, node, master });
                }
            }
            Effect::Reply { id, reply } => {
                self.accuse(speaker, said);
                self.answered(speaker, *id, said.question, reply);
                self.reply(speaker, said.question, reply);
            }
            Effect::Announce(event) => {
                self.prompt.note(speaker, event);
                self.event(speaker, event);
            }
            Effect::Persist { state, .. } => {
                if let Some((rule, how)) = self.identities.writes(speaker, state) {
                    self.broken(speaker, rule, how);
                }
                self.prompt.writes(speaker);
            }
            Effect::Say { text, group: Some(group), .. } if text.contains(LEFT_ALONE) => {
                self.prompt.leaves_alone(speaker.number, group);
            }
            _ => {}
        }
        if let Some((rule, how)) = self.write_book(speaker, said) {
            self.broken(speaker, rule, how);
        }
    }

    /// An answer may say that a master is down.
    fn accuse(&mut self, speaker: &Speaker, said: &Said) {
        if let (
            Some(Request::IsMasterDown { host, port, .. }),
            Effect::Reply { reply: Value::Array(items), .. },
        ) = (said.question, said.effect)
            && items.first() == Some(&Value::Integer(1))
        {
            let master = Address::new(host.clone(), u16::try_from(*port).unwrap_or(0));
            self.accusers.entry(master).or_default().insert((speaker.number, speaker.id.clone()));
        }
    }

    /// A sentinel knows a node by its name and by its address.
    pub(super) fn puzzled(&mut self, sentinel: usize) {
        self.puzzled.insert(sentinel);
    }

    fn broken(&mut self, speaker: &Speaker, rule: Rule, how: String) {
        if self.puzzled.contains(&speaker.number) && !rule.is_of_elections() {
            return;
        }
        self.fail(speaker.at, rule, format!("sentinel {} {how}", speaker.number));
    }

    /// Nothing spoken before durable; epochs never go back; one master per config epoch.
    fn hello(&mut self, speaker: &Speaker, payload: &str) {
        let Some((id, current, group, master, config)) = read_hello(payload) else {
            return self.broken(speaker, Rule::WellFormedHello, format!("says {payload:?}"));
        };
        // One that it had before may have been on its way.
        let ids = self.ids.entry(speaker.number).or_default();
        ids.insert(speaker.id.clone());
        if RunId::parse(id).is_none_or(|id| !ids.contains(&id)) {
            let how = format!("says {payload} while its disk holds the id {}", speaker.id);
            self.broken(speaker, Rule::DurableBeforeSpoken, how);
        }
        self.orders.names(group, &master);
        if current > speaker.disk.current_epoch {
            let on_disk = speaker.disk.current_epoch;
            let how = format!("shows epoch {current} while its disk holds {on_disk}");
            self.broken(speaker, Rule::DurableBeforeSpoken, how);
        }
        if self.removed.contains(&(speaker.number, group.into())) {
            self.broken(speaker, Rule::WhatIsRemovedStaysSo, format!("says {payload}"));
        }
        // Where stock sentinels were led on, ours follow.
        if current > CREDIBLE_EPOCH && !self.mixed {
            self.broken(speaker, Rule::EpochsStayCredible, format!("shows epoch {current}"));
        }
        let before = self.current_epochs.insert(speaker.number, current);
        if let Some(before) = before.filter(|before| *before > current) {
            let how = format!("shows epoch {current} after {before}");
            self.broken(speaker, Rule::EpochsNeverGoBack, how);
        }
        let Some(known) = speaker.disk.groups.get(group) else {
            return self.broken(speaker, Rule::DurableBeforeSpoken, format!("says {payload}"));
        };
        let (epoch, at) = (known.config_epoch, &known.settings.master);
        let how =
            || format!("says {payload} while its disk holds master {at}, config epoch {epoch}");
        if config > epoch || (config == epoch && master != *at) {
            self.broken(speaker, Rule::DurableBeforeSpoken, how());
        }
        if config < epoch && !speaker.was_stopped() {
            let how = how();
            self.broken(speaker, Rule::AHelloShowsTheNewestConfiguration, how);
        }
        let before = self.config_epochs.insert((speaker.number, group.into()), config);
        if let Some(before) = before.filter(|before| *before > config) {
            let how = format!("says config epoch {config} of {group} after {before}");
            self.broken(speaker, Rule::ConfigEpochsNeverGoBack, how);
        }
        self.overdue(speaker, group, config);
        // In epoch 0 nobody was elected: it is what an operator told each of them.
        if config == 0 || self.mixed {
            return;
        }
        // A leader may have died before it could say so.
        let voters = known.sentinels.len() + 1;
        let won = |votes: &BTreeMap<RunId, RunId>| {
            votes
                .values()
                .any(|leader| votes.values().filter(|other| *other == leader).count() > voters / 2)
        };
        let key = (group.to_owned(), config);
        if !self.leaders.contains_key(&key) && !self.votes.get(&key).is_some_and(won) {
            let how = format!("says config epoch {config} of {group}, in which nobody was elected");
            self.broken(speaker, Rule::ConfigurationsAreElected, how);
        }
        let first = self.masters.entry((group.into(), config)).or_insert_with(|| master.clone());
        let first = first.clone();
        if first != master && !self.may_be_two(group, config) {
            let how = format!("says {master} for config epoch {config} of {group}, not {first}");
            self.broken(speaker, Rule::OneMasterPerConfigEpoch, how);
        }
    }

    /// A question for an opinion only shows an epoch that nobody takes over; one for votes is a
    /// vote for its sender.
    fn question(
        &mut self,
        speaker: &Speaker,
        master: &Address,
        epoch: Epoch,
        candidate: Option<&RunId>,
    ) {
        let Some(candidate) = candidate else { return };
        let Some(group) = self.group_of(speaker, master) else { return };
        if candidate == speaker.id {
            self.vote(speaker, &group, candidate, epoch, "asks for votes");
        }
    }

    /// A vote is shown: it is on disk, and none was shown in this epoch that differs.
    fn vote(&mut self, speaker: &Speaker, group: &str, leader: &RunId, epoch: Epoch, how: &str) {
        let durable = speaker.disk.groups.get(group).is_some_and(|state| {
            let same = state.leader_epoch == epoch && state.voted_for.as_ref() == Some(leader);
            same || state.leader_epoch > epoch
        });
        if !durable {
            let how = format!("{how} for {} in {group}, epoch {epoch}", leader.short());
            self.broken(speaker, Rule::DurableBeforeSpoken, format!("{how}, not yet on its disk"));
        }
        self.votes_again(speaker.number, group, epoch);
        let votes = self.votes.entry((group.into(), epoch)).or_default();
        let first = votes.entry(speaker.id.clone()).or_insert_with(|| leader.clone()).clone();
        if first != *leader && !self.identities.twins.contains(speaker.id) {
            let (now, before) = (leader.short(), first.short());
            let how = format!("{how} for {now} in {group}, epoch {epoch}, after one for {before}");
            self.broken(speaker, Rule::OneVotePerEpoch, how);
        }
    }

    fn reply(&mut self, speaker: &Speaker, question: Option<&Request>, reply: &Value) {
        let Some(Request::IsMasterDown { host, port, candidate: Some(_), .. }) = question else {
            return;
        };
        let Value::Array(items) = reply else { return };
        let [_, leader, Value::Integer(epoch)] = &items[..] else {
            let how = format!("answers {}", words::reply(reply));
            return self.broken(speaker, Rule::WellFormedVote, how);
        };
        let leader = leader.text().and_then(RunId::parse);
        let master = Address::new(host.clone(), u16::try_from(*port).unwrap_or(0));
        if let (Some(leader), Some(group)) = (leader, self.group_of(speaker, &master)) {
            self.vote(speaker, &group, &leader, *epoch as Epoch, "votes");
        }
    }

    fn event(&mut self, speaker: &Speaker, event: &Event) {
        let group = event.group.as_deref().unwrap_or_default().to_owned();
        if self.season.forbids(event.kind) {
            let how =
                format!("announces {} {} while nothing fails", event.kind.name(), event.payload);
            self.broken(speaker, Rule::NoFailoverWithoutCause, how);
        }
        let removed = (speaker.number, group.clone());
        self.cause(speaker, &removed, event);
        if event.kind == EventKind::Monitor && speaker.disk.groups.contains_key(&group) {
            self.removed.remove(&removed);
        } else if self.removed.contains(&removed)
            && event.kind != EventKind::Unmonitor
            && !event.kind.is_of_all_groups()
        {
            let how = format!("announces {} {}", event.kind.name(), event.payload);
            self.broken(speaker, Rule::WhatIsRemovedStaysSo, how);
        }
        match event.kind {
            EventKind::PromotedSlave => {
                let words: Vec<&str> = event.payload.split(' ').collect();
                if let [_, _, host, port, ..] = words[..] {
                    let master = Address::new(host, port.parse().unwrap_or(0));
                    let (sentinel, since) = (speaker.number, speaker.since);
                    self.claims.push(Claim::Promoted { sentinel, master, since });
                }
            }
            EventKind::VoteForLeader => {
                let Some((leader, epoch)) = read_vote(&event.payload) else {
                    return self.broken(speaker, Rule::WellFormedVote, event.payload.clone());
                };
                self.vote(speaker, &group, &leader, epoch, "announces a vote");
                if leader == *speaker.id {
                    self.has_kept_word(speaker, &group);
                    let known = speaker.disk.groups.get(&group);
                    let quorum = known.map_or(0, |known| known.settings.quorum);
                    self.stood_at.insert((speaker.number, group.clone()), speaker.at);
                    self.candidacies.insert((speaker.number, group), (epoch, quorum));
                }
            }
            EventKind::ElectedLeader => {
                self.needs_majority(speaker, &group, "announces to lead the failover");
                self.lead(speaker, &group);
            }
            EventKind::AbortNotElected | EventKind::AbortNoGoodSlave => {
                self.owes_word(speaker, &group);
            }
            EventKind::SwitchMaster => self.switch(speaker, &group, &event.payload),
            _ => {}
        }
    }

    /// An election has its cause: a quorum that sees the master down, or an order. A quorum is made
    /// of sentinels that have said so of this master.
    fn cause(&mut self, speaker: &Speaker, key: &(usize, Group), event: &Event) {
        let words: Vec<&str> = event.payload.split(' ').collect();
        match event.kind {
            EventKind::Odown => {
                let [_, _, host, port, _, count] = words[..] else { return };
                let count = count.split('/').next().and_then(|count| count.parse().ok());
                let master = Address::new(host, port.parse().unwrap_or(0));
                let others = self.accusers.get(&master).map_or(0, |who| {
                    who.iter().filter(|(number, _)| *number != speaker.number).count()
                });
                if count.is_none_or(|count: usize| count > others + 1) {
                    let how =
                        format!("announces +odown {}, said by {others} others", event.payload);
                    self.broken(speaker, Rule::OpinionsAreOfThePresentMaster, how);
                }
            }
            EventKind::TryFailover => {
                let page = self.ledger.page(key.0, &key.1);
                let odown = page.is_some_and(|page| page.odown.is_some());
                if !odown && !self.ledger.is_ordered(key.0, &key.1) {
                    let how = format!("announces +try-failover {} without +odown", event.payload);
                    self.broken(speaker, Rule::AQuorumBeforeAnElection, how);
                }
            }
            _ => {}
        }
        self.stall(speaker, &key.1, event);
    }

    /// After a long freeze nothing is decided for a while, and nobody is down for not having
    /// answered meanwhile.
    fn stall(&mut self, speaker: &Speaker, group: &str, event: &Event) {
        let Some(thawed) = self.thawed.get(&speaker.number) else { return };
        let awake = speaker.at - thawed;
        let how =
            || format!("announces {} {}, awake for {awake} ms", event.kind.name(), event.payload);
        let settings = speaker.disk.groups.get(group).map(|known| &known.settings);
        let least = settings.map_or(0, |settings| upkeep::soonest_down(settings, &event.payload));
        // A master may be down for other reasons than silence.
        let silent = event.kind == EventKind::Sdown && !event.payload.starts_with("master ");
        // It comes first: the other rule would speak for it, as what counts does so at once.
        if silent && awake < least && !self.is_tuned(speaker, group) {
            self.broken(speaker, Rule::TimeNotWatchedCountsAgainstNobody, how());
        }
        let decides =
            matches!(event.kind, EventKind::Sdown | EventKind::Odown | EventKind::ElectedLeader);
        if decides && awake < TILT_MS {
            self.broken(speaker, Rule::NothingIsDecidedRightAfterAStall, how());
        }
    }

    /// What is announced as master is a node of the group.
    fn switch(&mut self, speaker: &Speaker, group: &str, payload: &str) {
        let words: Vec<&str> = payload.split(' ').collect();
        let known = self.groups.get(group).zip(match words[..] {
            [_, _, _, host, port] => port.parse().ok().map(|port| Address::new(host, port)),
            _ => None,
        });
        if !known.is_some_and(|(nodes, to)| nodes.contains(&to)) {
            let how = format!("announces +switch-master {payload}");
            self.broken(speaker, Rule::MastersAreNodesOfTheirGroup, how);
        }
    }

    /// The group whose master the speaker has at this address, or to which it belongs or belonged.
    fn group_of(&self, speaker: &Speaker, address: &Address) -> Option<Group> {
        let known = speaker.disk.groups.iter().find(|(_, g)| g.settings.master == *address);
        let named = known.map(|(name, _)| name.to_string());
        let mut belongs = self.groups.iter().filter(|(_, nodes)| nodes.contains(address));
        // It may have been one group's and be another's now.
        let only = belongs.next().filter(|_| belongs.next().is_none());
        named.or(only.map(|(name, _)| name.clone()))
    }
}

/// Id, current epoch, group, master, config epoch.
fn read_hello(payload: &str) -> Option<(&str, Epoch, &str, Address, Epoch)> {
    let fields: Vec<&str> = payload.split(',').collect();
    let [_, _, id, current, group, host, port, config] = fields[..] else { return None };
    let master = Address::new(host, port.parse().ok()?);
    Some((id, current.parse().ok()?, group, master, config.parse().ok()?))
}

fn read_vote(payload: &str) -> Option<(RunId, Epoch)> {
    let (leader, epoch) = payload.split_once(' ')?;
    Some((RunId::parse(leader)?, epoch.parse().ok()?))
}

#[cfg(test)]
#[path = "checkers_tests.rs"]
mod tests;
