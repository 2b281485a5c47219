//! Peers are asked, answer, and votes are given and counted.

use super::core::Core;
use super::failover::Step;
use super::group::Group;
use crate::resp::Value;
use crate::sentinel::types::RunId;
use crate::sentinel::{Command, Epoch, EventKind};

/// Each peer is asked so often while the master is down, counted from its last answer.
const ASK_PERIOD_MS: u64 = 1_000;
/// A peer's opinion and vote are valid for so long.
const VALID_MS: u64 = 5 * ASK_PERIOD_MS;
/// Elections begin up to so much later than they do.
pub(super) const DESYNC_MS: u64 = 1_000;

impl Group {
    /// `sentinelAskMasterStateToOtherSentinels`
    pub(super) fn ask_peers(&mut self, core: &mut Core, forced: bool) {
        let now = core.now;
        let standing = self.failover.step != Step::None;
        for peer in self.peers.values_mut() {
            let silence = now.since(peer.answered_at);
            if silence > VALID_MS {
                peer.says_down = false;
                peer.leader = None;
            }
            let early = !forced && silence < ASK_PERIOD_MS;
            if !self.master.sdown || !peer.instance.up || early {
                continue;
            }
            let command = Command::IsMasterDown {
                master: self.settings.master.clone(),
                epoch: core.current_epoch,
                candidate: standing.then(|| core.my_id.clone()),
            };
            peer.instance.send(core, command);
        }
    }

    /// A peer answered, maybe about the master before this one: nobody looks.
    pub(super) fn take_opinion(&mut self, core: &Core, id: &RunId, reply: &Value) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let Value::Array(parts) = reply else { return };
        let [Value::Integer(down), leader, Value::Integer(epoch)] = &parts[..] else { return };
        peer.answered_at = core.now;
        peer.says_down = *down == 1;
        if let Some(leader) = leader.text().filter(|leader| *leader != "*") {
            peer.leader = Some(leader.to_owned());
            peer.leader_epoch = *epoch as Epoch;
        }
    }

    /// `sentinelVoteLeader`: one vote in an epoch; later requests are told the same one. Nothing
    /// bounds the epoch, so that -1, read as unsigned, ends all elections.
    pub(super) fn vote(
        &mut self,
        core: &mut Core,
        epoch: Epoch,
        candidate: &str,
    ) -> (Option<&str>, Epoch) {
        if epoch > core.current_epoch {
            core.current_epoch = epoch;
            core.flush();
            core.announce_epoch(&self.name);
        }
        if self.leader_epoch < epoch && core.current_epoch <= epoch {
            self.leader = Some(candidate.to_owned());
            self.leader_epoch = core.current_epoch;
            core.flush();
            let payload = format!("{candidate} {}", self.leader_epoch);
            core.announce(EventKind::VoteForLeader, Some(&self.name), payload);
            if !candidate.eq_ignore_ascii_case(core.my_id.as_str()) {
                self.failover.started_at = Some(core.now.plus(core.chance.below(DESYNC_MS)));
            }
        }
        (self.leader.as_deref(), self.leader_epoch)
    }

    /// Of all peers ever met, the dead ones too, and ourselves.
    pub(super) fn majority(&self) -> usize {
        let voters = self.peers.len() + 1;
        voters / 2 + 1
    }

    /// `sentinelGetLeader`, as far as it matters: have we won this epoch? Our own vote goes to
    /// whom most peers named, if it is not given yet.
    pub(super) fn is_leader(&mut self, core: &mut Core, epoch: Epoch) -> bool {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for peer in self.peers.values().filter(|peer| peer.leader_epoch == core.current_epoch) {
            let Some(leader) = &peer.leader else { continue };
            match counts.iter_mut().find(|(id, _)| id == leader) {
                Some((_, count)) => *count += 1,
                None => counts.push((leader.clone(), 1)),
            }
        }
        let best = |counts: &[(String, usize)]| {
            let mut best: Option<(String, usize)> = None;
            for (id, count) in counts {
                if best.as_ref().is_none_or(|(_, most)| count > most) {
                    best = Some((id.clone(), *count));
                }
            }
            best
        };
        let favourite = best(&counts);
        let choice = favourite.as_ref().map_or(core.my_id.as_str(), |(id, _)| id).to_owned();
        let (vote, vote_epoch) = self.vote(core, epoch, &choice);
        let mut winner = favourite;
        if let Some(vote) = vote.filter(|_| vote_epoch == epoch) {
            let count = 1 + counts.iter().find(|(id, _)| id == vote).map_or(0, |(_, n)| *n);
            if winner.as_ref().is_none_or(|(_, most)| count > *most) {
                winner = Some((vote.to_owned(), count));
            }
        }
        let need = self.majority().max(self.settings.quorum as usize);
        winner.is_some_and(|(id, count)| count >= need && id == core.my_id.as_str())
    }
}
