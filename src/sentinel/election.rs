//! Votes: the arithmetic of majorities, the voter's side, the candidate's count.

use super::core::Core;
use super::effect::Command;
use super::event::EventKind;
use super::group::Group;
use super::mutant::Guard;
use super::node::HELLO_PERIOD_MS;
use super::peer::Peer;
use super::types::{Epoch, Instant, RunId};

/// How long a vote binds the voter and entitles the leader, in ms: the voter gives its vote to
/// nobody else for that long, and the leader promotes within that time, or within
/// `failover-timeout` if that is shorter, or not at all. So two leaders of neighbouring epochs do
/// not act at once.
pub(super) const TENURE_MS: u64 = 5_000;
/// Each sentinel that also sees the master down and has a smaller id is given at least this lead,
/// in ms, so that candidates rarely compete.
const RANK_STEP_MS: u64 = 50;
/// Elections at once for which a lead of a ms each is given.
const ELECTIONS_MAX: u32 = 1_000;
/// After the first lost election the next attempt comes after half to all of this, in ms; it
/// doubles up to the maximum.
const RETRY_MS: u64 = 200;
const RETRY_MAX_MS: u64 = 10_000;

/// How long a sentinel that knows no other one of a group listens to its hello channel before it
/// takes part in elections, in ms: every sentinel that can be heard says hello meanwhile.
const LISTEN_MS: u64 = HELLO_PERIOD_MS + 500;

/// More than half of the voters.
pub fn majority(voters: u32) -> u32 {
    voters / 2 + 1
}

/// Votes that a leader needs: a majority, and the quorum if that is larger.
pub fn needed(voters: u32, quorum: u32) -> u32 {
    majority(voters).max(quorum)
}

/// The pause before attempt number `attempts` + 1, in ms, before chance shortens it; `max_ms`
/// counts where it is above the usual maximum.
pub(super) fn retry_ms(attempts: u32, max_ms: u64) -> u64 {
    (RETRY_MS << attempts.saturating_sub(1).min(8)).min(max_ms.max(RETRY_MAX_MS))
}

/// The lead that is given to each sentinel of a smaller rank, in ms: time for it to make its own
/// vote durable and for us to hear of it, on a disk like ours, and where `at_once` groups want
/// their elections, to come to this one.
pub(super) fn rank_step_ms(write_ms: u64, at_once: u32) -> u64 {
    RANK_STEP_MS.max(3 * write_ms).max(u64::from(at_once.min(ELECTIONS_MAX)))
}

/// Where an election stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) votes: u32,
    pub(super) needed: u32,
    /// Voters that may still vote for us.
    pub(super) undecided: u32,
}

impl Group {
    /// All sentinels of this group ever met and not forgotten by RESET, ourselves included.
    pub(super) fn voters(&self) -> u32 {
        self.peers.len() as u32 + 1
    }

    /// Votes that a leader of this group needs.
    pub(super) fn votes_needed(&self, core: &Core) -> u32 {
        let (voters, quorum) = (self.voters(), self.settings.quorum);
        if !core.holds(Guard::Majority) {
            return quorum;
        }
        if !core.holds(Guard::QuorumOfVotes) {
            return majority(voters);
        }
        needed(voters, quorum)
    }

    /// How long a leader may act on its votes, in ms. They bind the voters for all of
    /// [`TENURE_MS`], whatever `failover-timeout` each of them has.
    pub(super) fn tenure_ms(&self) -> u64 {
        TENURE_MS.min(self.settings.failover_timeout_ms)
    }

    /// Until when our vote is or was promised to somebody else.
    pub(super) fn promised(&self, candidate: &RunId) -> Option<Instant> {
        let at = self.voted_at?;
        (self.voted_for.as_ref() != Some(candidate)).then(|| at.plus(TENURE_MS))
    }

    /// A newcomer to this group has listened for long enough; until then it sends nobody anywhere,
    /// either. It is new, or its memory was lost
    /// with its disk: a former self may have voted in any epoch that was heard of, so it votes in
    /// none of them.
    pub(super) fn listen(&mut self, core: &mut Core) {
        let Some(since) = self.listening else { return };
        let nodes = std::iter::once(&self.master).chain(self.replicas.values());
        if !nodes.into_iter().any(|node| node.subscribed_since.is_some()) {
            self.listening = Some(None);
            return;
        }
        let since = since.unwrap_or(core.now());
        // Whom we hear and may not believe is there all the same: alone with that, we would take
        // ourselves for the only one.
        let strangers = self.unbelieved_at.filter(|_| self.peers.is_empty());
        let since = strangers.map_or(since, |at| at.max(since));
        self.listening = Some(Some(since));
        if core.due(since.plus(LISTEN_MS)) {
            self.listening = None;
            if core.current_epoch > self.leader_epoch && core.holds(Guard::NewcomerVotesLater) {
                self.leader_epoch = core.current_epoch;
                self.voted_for = None;
            }
            core.out.touch_group(&self.name);
        }
    }

    /// A sentence if this sentinel takes no part in elections yet.
    pub(super) fn why_no_part(&self, core: &Core) -> Option<String> {
        let doubtful = core.may_be_double() && core.holds(Guard::DoubleStandsBack);
        if let Some(double) = core.doubles.now.as_ref().filter(|_| doubtful) {
            return Some(format!(
                "I take no part in elections of {} for now: {} speaks with my id",
                self.name, double.address
            ));
        }
        self.listening.filter(|_| core.holds(Guard::NewcomerListens)).map(|_| {
            format!(
                "I take no part in elections of {} yet: I remember no other sentinel of it, and \
                 listen first",
                self.name
            )
        })
    }

    /// Another sentinel asks for our vote. Given at most once per epoch, in no epoch twice, and to
    /// nobody else while an earlier vote binds us.
    pub(super) fn consider_vote(&mut self, core: &mut Core, candidate: &RunId, epoch: Epoch) {
        if !self.peers.contains_key(candidate) && core.holds(Guard::KnownCandidate) {
            return;
        }
        let last_hello = self.peers.get(candidate).map(|peer| peer.last_hello);
        if last_hello.is_some_and(|last_hello| core.is_unheard(last_hello)) {
            return;
        }
        core.adopt_epoch(epoch, &self.name);
        // The candidate may not know all whom we know, and take a minority for a majority.
        let seen = |(id, peer): &(&RunId, &Peer)| *id == candidate || peer.sdown_since.is_none();
        let few = 1 + (self.peers.iter().filter(seen).count() as u32) < majority(self.voters());
        let bound = self.promised(candidate).is_some_and(|until| core.now() < until);
        let refused = epoch <= self.leader_epoch && core.holds(Guard::OneVotePerEpoch)
            || epoch <= self.config_epoch && core.holds(Guard::VoteAboveConfig)
            || bound && core.holds(Guard::VoteBinds)
            || self.listening.is_some() && core.holds(Guard::NewcomerListens)
            || core.may_be_double() && core.holds(Guard::OneIdPerSentinel)
            || core.out.failure().is_some() && core.holds(Guard::DiskForVote)
            || few && core.holds(Guard::VoterSeesMajority);
        if refused {
            return;
        }
        self.cast_vote(core, candidate.clone(), epoch);
        // Whoever has our vote gets the time to act.
        if core.holds(Guard::VoterHoldsBack) {
            self.held_back = Some(core.now().plus(TENURE_MS));
        }
    }

    /// A candidate gave up this election. Where it has our vote, nothing binds us any more: without
    /// that, candidates that each have a few voters hinder one another for as long as votes bind,
    /// again and again where many vote.
    pub(super) fn released(&mut self, core: &mut Core, candidate: &RunId, epoch: Epoch) {
        let ours = self.voted_for.as_ref() == Some(candidate) && *candidate != core.my_id;
        let this = self.leader_epoch == epoch || !core.holds(Guard::ReleasedOfThisEpoch);
        if ours && this && self.voted_at.take().is_some() {
            self.held_back = Some(core.now());
        }
    }

    /// Records a vote; whoever tells of it waits for the disk.
    pub(super) fn cast_vote(&mut self, core: &mut Core, candidate: RunId, epoch: Epoch) {
        let higher = epoch > self.leader_epoch;
        assert!(higher || !core.holds(Guard::OneVotePerEpoch), "one vote per epoch");
        self.leader_epoch = epoch;
        self.voted_at = Some(core.now());
        core.out.touch_group(&self.name);
        let payload = format!("{candidate} {epoch}");
        core.announce_durable(EventKind::VoteForLeader, Some(&self.name), payload);
        self.voted_for = Some(candidate);
    }

    /// Counts the votes that we have in this epoch.
    pub(super) fn tally(&self, core: &Core, epoch: Epoch) -> Tally {
        let my_id = &core.my_id;
        let mut tally = Tally { votes: 0, needed: self.votes_needed(core), undecided: 0 };
        let own = self.leader_epoch == epoch && self.voted_for.as_ref() == Some(my_id);
        if own && core.holds(Guard::OwnVoteCounts) {
            tally.votes += 1;
        }
        for peer in self.peers.values() {
            let counts = |of: Epoch| of == epoch || !core.holds(Guard::VotesOfThisEpoch);
            if peer.vote.as_ref().is_some_and(|(id, of)| id == my_id && counts(*of)) {
                tally.votes += 1;
            } else if peer.answered_epoch != Some(epoch) && peer.sdown_since.is_none() {
                tally.undecided += 1;
            }
        }
        tally
    }

    /// Somebody asks about the master, which is down for us and not for a quorum: whoever asks sees
    /// it down, too, and those who did not yet say so are asked at once, not when it is their turn.
    pub(super) fn ask_again(&mut self) {
        if self.master.sdown_since.is_some() && self.odown_since.is_none() {
            let silent = self.peers.values_mut().filter(|peer| peer.master_down_at.is_none());
            silent.for_each(|peer| peer.asked_at = None);
        }
    }

    /// Asks the peers what has to be asked now: votes in an election, else opinions of a master
    /// that is down for us.
    pub(super) fn ask_peers(&mut self, core: &mut Core) {
        let election = self.election_epoch();
        if election.is_none() && self.master.sdown_since.is_none() {
            return;
        }
        let master = self.shown_master(core);
        for (id, peer) in &mut self.peers {
            if !core.peers.get(id).is_some_and(|link| link.health.up) {
                continue;
            }
            let vote_wanted = election.is_some() && peer.asked_epoch != election;
            let opinion_wanted = self.master.sdown_since.is_some()
                && peer.questions_open == 0
                && peer.asked_at.is_none_or(|at| core.due(at.plus(core.tune.ask_period_ms)));
            if !vote_wanted && !opinion_wanted {
                continue;
            }
            peer.asked_at = Some(core.now());
            peer.questions_open += 1;
            let candidate = election.map(|_| core.my_id.clone());
            if election.is_some() {
                peer.asked_epoch = election;
            }
            let command = Command::IsMasterDown {
                master: master.clone(),
                epoch: election.unwrap_or(core.current_epoch),
                candidate,
            };
            match election {
                Some(_) if core.holds(Guard::CandidacyOnDisk) => {
                    core.send_peer(id, &self.name, command)
                }
                // A mere question shows nothing new, and must get through while the disk fails.
                _ => core.send_peer_now(id, command),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_elections_are_repeated_after_growing_pauses() {
        let pauses: Vec<u64> = (1..=9).map(|attempts| retry_ms(attempts, 0)).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        assert_eq!((retry_ms(8, 30_000), retry_ms(99, 30_000)), (25_600, 30_000));
    }
}
