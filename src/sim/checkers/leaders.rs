//! Who leads, and by what right: a majority, and one after the other.

use std::collections::BTreeSet;

use super::{Checkers, Claim, Group, Said, Speaker};
use crate::resp::Value;
use crate::sentinel::hello::GiveUp;
use crate::sentinel::types::{Address, Epoch, RunId};
use crate::sentinel::{Effect, Request};
use crate::sim::rules::Rule;
use crate::sim::wire::Proc;

impl Checkers {
    /// A stock sentinel says something: no rule of ours binds it, but its votes count.
    pub(in crate::sim) fn stock_says(&mut self, speaker: &Speaker, said: &Said) {
        self.mixed = true;
        self.accuse(speaker, said);
        if let (
            Some(Request::IsMasterDown { host, port, candidate: Some(_), .. }),
            Effect::Reply { reply: Value::Array(items), .. },
        ) = (said.question, said.effect)
            && let [_, leader, Value::Integer(epoch)] = &items[..]
            && let Some(leader) = leader.text().and_then(RunId::parse)
        {
            let master = Address::new(host.clone(), u16::try_from(*port).unwrap_or(0));
            let Some(group) = self.group_of(speaker, &master) else { return };
            let votes = self.votes.entry((group, *epoch as Epoch)).or_default();
            votes.insert(speaker.id.clone(), leader);
        }
    }

    /// Nobody promotes without a majority of votes, nor when somebody else leads already in a later
    /// epoch.
    pub(super) fn promotion(&mut self, speaker: &Speaker, said: &Said) {
        let to = said.to;
        // An address may have been one group's and be another's now.
        let of = |nodes: &BTreeSet<Address>| to.is_some_and(|to| nodes.contains(to));
        let groups: Vec<Group> = self
            .groups
            .iter()
            .filter(|(_, nodes)| of(nodes))
            .map(|(name, _)| name.clone())
            .collect();
        // It acts on the last candidacy with which it won.
        let stood = |group: &&Group| {
            let (epoch, quorum) = self.candidacies.get(&(speaker.number, (*group).clone()))?;
            // That it won may not be told yet.
            let votes = self.votes.get(&((*group).clone(), *epoch));
            let mine = votes.map_or(0, |v| v.values().filter(|of| *of == speaker.id).count());
            let known = speaker.disk.groups.get(*group);
            let others = known.map_or(0, |known| known.sentinels.len());
            let won = mine > others.div_ceil(2).max((*quorum as usize).saturating_sub(1));
            // Another group's node may have been there before.
            let is_there = known.zip(to).is_some_and(|(known, to)| known.replicas.contains(to));
            // Of two groups that know it, it is the one that told last that it promotes.
            let page = self.ledger.page(speaker.number, group);
            let told = page.and_then(|page| page.promotes_since());
            let election = (speaker.number, (*group).clone(), *epoch);
            let done = self.acted_on.contains(&election) || self.given_up.contains(&election);
            let open = won && !done && known.is_some_and(|known| *epoch > known.config_epoch);
            Some((told, open, is_there, won, *epoch))
        };
        let Some(group) = groups.iter().max_by_key(stood).cloned() else {
            let whom = to.map_or_else(|| "nobody knows whom".into(), Address::to_string);
            return self.broken(speaker, Rule::PromotesAKnownNode, format!("promotes {whom}"));
        };
        self.needs_majority(speaker, &group, "promotes a replica");
        if let Some((epoch, _)) = self.candidacies.get(&(speaker.number, group.clone())).copied() {
            let known = speaker.disk.groups.get(&group).map_or(0, |known| known.config_epoch);
            if epoch <= known {
                let how = format!("promotes in epoch {epoch}, and knows configuration {known}");
                self.broken(speaker, Rule::ANewerConfigurationEndsOlderFailovers, how);
            }
            let election = (speaker.number, group.clone(), epoch);
            if self.given_up.contains(&election) {
                let how = format!("promotes in epoch {epoch}, which it gave up");
                self.broken(speaker, Rule::WhatIsGivenUpIsNotActedOn, how);
            }
            self.acted_on.insert(election);
            let excused = self.may_be_two(&group, epoch) || speaker.was_stopped();
            let later =
                self.leaders.range((group.clone(), epoch + 1)..=(group.clone(), Epoch::MAX));
            let later = later.map(|((_, e), n)| (*e, *n));
            let later = later.filter(|(e, _)| !self.may_be_two(&group, *e));
            let mut later = later.filter(|(_, n)| *n != speaker.number);
            let later = later.next();
            if let Some((newer, leader)) = later.filter(|_| !self.mixed && !excused) {
                let how = format!("promotes in epoch {epoch}, sentinel {leader} leads in {newer}");
                self.broken(speaker, Rule::LeadersActOneAfterTheOther, how);
            }
        }
        if let Some(Proc::Node(node)) = said.receiver {
            let groups = groups
                .into_iter()
                .filter(|group| self.candidacies.contains_key(&(speaker.number, group.clone())));
            let groups = groups.collect();
            if let Some(to) = to {
                self.claims_hand_over(speaker, to, node);
            }
            self.claims.push(Claim::Promotes { sentinel: speaker.number, node, groups });
        }
    }

    /// It says that it acts no more on the votes that it has for an election.
    pub(super) fn gives_up(&mut self, speaker: &Speaker, given_up: &GiveUp) {
        let GiveUp { id, epoch, group } = given_up;
        let election = (speaker.number, group.clone(), *epoch);
        let before = self.ids.get(&speaker.number).is_some_and(|ids| ids.contains(id));
        if id != speaker.id && !before || self.acted_on.contains(&election) {
            let how = format!("gives up epoch {epoch} of {group} for {id}, and acted in it");
            self.broken(speaker, Rule::WhatIsGivenUpIsNotActedOn, how);
        }
        self.given_up.insert(election);
        self.owed.remove(&(speaker.number, group.clone()));
    }

    /// It tells that it gave up an election: those who voted for it are to hear of that.
    pub(super) fn owes_word(&mut self, speaker: &Speaker, group: &str) {
        let place = (speaker.number, group.to_owned());
        let Some((epoch, _)) = self.candidacies.get(&place).copied() else { return };
        let election = (speaker.number, group.to_owned(), epoch);
        // Where the disk failed it never stood, and its last candidacy is that of another failover.
        let tried_at = self.ledger.page(speaker.number, group).map_or(0, |page| page.tried_at);
        let stood = self.stood_at.get(&place).is_some_and(|stood_at| *stood_at >= tried_at);
        // Nor has one a word to give whose id another may have.
        if !stood || self.conduct.may_hear_itself(speaker) {
            return;
        }
        let known = speaker.disk.groups.get(group);
        let alone = known.is_none_or(|known| known.sentinels.is_empty());
        if !alone && !self.acted_on.contains(&election) && !self.given_up.contains(&election) {
            self.owed.insert(place, epoch);
        }
    }

    /// It stands for election: the voters of the last one have heard by now that it gave that up.
    pub(super) fn has_kept_word(&mut self, speaker: &Speaker, group: &str) {
        let Some(epoch) = self.owed.remove(&(speaker.number, group.to_owned())) else { return };
        // Votes for an id that two may have are not its own to free.
        if self.identities.twins.is_empty() && !self.conduct.may_hear_itself(speaker) {
            let how = format!("gave up epoch {epoch} of {group}, and told none of its voters");
            self.broken(speaker, Rule::WhoeverGivesUpFreesItsVoters, how);
        }
    }

    pub(super) fn needs_majority(&mut self, speaker: &Speaker, group: &str, what: &str) {
        let stood = self.candidacies.get(&(speaker.number, group.into())).copied();
        let Some((epoch, quorum)) = stood else {
            let how = format!("{what} of {group} without having stood for election");
            return self.broken(speaker, Rule::AMajorityBeforePromotion, how);
        };
        let votes = self.votes.get(&(group.into(), epoch));
        let mine = votes.map_or(0, |v| v.values().filter(|leader| *leader == speaker.id).count());
        let voters = speaker.disk.groups.get(group).map_or(0, |known| known.sentinels.len()) + 1;
        // It may have been changed since, and back.
        let known = speaker.disk.groups.get(group).map_or(0, |known| known.settings.quorum);
        let tuned = self.is_tuned(speaker, group);
        let quorum = if tuned { 0 } else { known.min(quorum) };
        let enough = mine >= (voters / 2 + 1).max(quorum as usize);
        if !enough && !self.excuses(group, epoch) {
            let how =
                format!("{what} of {group} in epoch {epoch} with {mine} votes of {voters} voters");
            self.broken(speaker, Rule::AMajorityBeforePromotion, how);
        }
    }

    /// At most one leader per group and epoch.
    pub(super) fn lead(&mut self, speaker: &Speaker, group: &str) {
        let stood = self.candidacies.get(&(speaker.number, group.into())).map(|(epoch, _)| *epoch);
        let epoch = stood.unwrap_or_default();
        let key = (group.to_owned(), epoch);
        if self.may_win_with_few(speaker, group) {
            self.split.insert(key.clone());
        }
        let excused = self.may_be_two(group, key.1);
        self.won += 1;
        self.unjudged += u64::from(excused);
        let first = *self.leaders.entry(key).or_insert(speaker.number);
        if first != speaker.number && !self.mixed && !excused {
            let how = format!("leads {group} in epoch {epoch} as sentinel {first} does");
            self.broken(speaker, Rule::OneLeaderPerEpoch, how);
        }
    }
}
