//! Is there a newer configuration than ours? A node that is wrong by ours may be right by one that
//! we have not heard of. Hellos tell in time; asking tells at once.
//!
//! Whoever was elected to make another configuration had the votes of a majority before it gave any
//! order. So if a majority, asked after the node was seen to be wrong, has voted in no later epoch
//! than that of our configuration, no later one made the node what it is. The question is that for
//! a vote in epoch 0, in which nobody votes: the answer is the last vote, also of a stock sentinel,
//! and it needs no other right than elections do. Stock sentinels may promote without any votes but
//! their own (`SENTINEL FAILOVER`), so everybody who can be reached has to answer, not a majority
//! only.

use super::core::Core;
use super::effect::Command;
use super::election::majority;
use super::group::Group;
use super::mutant::Guard;
use super::peer::{LastVote, Peer};
use super::types::{Address, Epoch, Instant, RunId};
use crate::resp::Value;

/// An answer counts for so long after its question, in ms; then it is asked for again.
const VALID_MS: u64 = 1_000;

impl Group {
    /// True if all others that can be reached, and with us a majority, have said that they voted in
    /// no later epoch than that of our configuration, when asked after a node said (`said`) what is
    /// wrong with it; and if the master has said since that it is one. Asks whoever has not.
    pub(super) fn no_news_since(&mut self, core: &mut Core, said: Instant) -> bool {
        let alone = self.peers.is_empty();
        if alone || self.config_epoch == 0 || self.leader_epoch > self.config_epoch {
            return false;
        }
        // What comes within the same ms may have come before.
        if !core.due(said.plus(1)) {
            return false;
        }
        let master = self.shown_master(core);
        let anytime = !core.holds(Guard::NewsAskedSince);
        let (mut confirming, mut all) = (1, true);
        for (id, peer) in &mut self.peers {
            let up = core.peers.get(id).is_some_and(|link| link.health.up);
            if !up || peer.sdown_since.is_some() || core.is_another(id) {
                continue;
            }
            let LastVote { asked_at, told } = peer.last_vote;
            let told = told.filter(|(at, _)| *at > said || anytime);
            if told.is_some_and(|(at, _)| !core.due(at.plus(VALID_MS))) {
                match peer.has_no_news(core, self.config_epoch, said) {
                    true => confirming += 1,
                    // It knows more, or we do not know what it knows.
                    false => all = false,
                }
                continue;
            }
            all = false;
            // One question at a time, so that each answer is that to the last one.
            if asked_at.is_none() {
                peer.last_vote.asked_at = Some(core.now());
                let (master, asker) = (master.clone(), core.my_id.clone());
                core.send_peer_now(id, Command::AskVote { master, asker });
            }
        }
        let everybody = all || !core.holds(Guard::NewsOfAll);
        let is_told = self.master.has_told_anew(core, said) || !core.holds(Guard::MasterToldAnew);
        everybody && confirming >= majority(self.voters()) && is_told
    }

    /// A peer told its last vote in the group of this master.
    pub(super) fn take_last_vote(
        &mut self,
        core: &Core,
        id: &RunId,
        asked_master: &Address,
        reply: &Value,
    ) {
        let about_this_master = *asked_master == self.shown_master(core);
        let Some(peer) = self.peers.get_mut(id).filter(|_| about_this_master) else { return };
        let Some(asked_at) = peer.last_vote.asked_at.take() else { return };
        // Whoever cannot tell has told nothing that counts.
        let epoch = read_epoch(reply).filter(|_| !core.is_another(id)).unwrap_or(0);
        peer.last_vote.told = Some((asked_at, epoch));
    }
}

impl Peer {
    /// It was asked since then, and has voted in no later epoch than that. Epoch 0 says nothing:
    /// it has never voted, or has another master.
    pub(super) fn has_no_news(&self, core: &Core, config_epoch: Epoch, since: Instant) -> bool {
        self.last_vote.told.is_some_and(|(asked_at, epoch)| {
            let later = asked_at > since || !core.holds(Guard::NewsAskedSince);
            later && (1..=config_epoch).contains(&epoch)
        })
    }
}

/// The epoch of the vote in `[down, leader or "*", epoch]`.
fn read_epoch(reply: &Value) -> Option<Epoch> {
    let Value::Array(items) = reply else { return None };
    let [Value::Integer(_), _, Value::Integer(epoch)] = &items[..] else { return None };
    Epoch::try_from(*epoch).ok()
}
