//! `SENTINEL FAILOVER name COORDINATED`: an ordered failover in which the master itself hands its
//! role over. It holds all writes until the replica has every one that it acknowledged, and steps
//! down only then, so none is lost; the plain order promotes a replica beside a master that goes on
//! writing.
//!
//! Election, choice, events and what comes after are those of any failover. Where the master is
//! down, or does not know `FAILOVER TO` (before Redis 6.2), or may not be sent it, the plain order
//! is carried out, as without the word. Where the master took the order and the replica did not
//! catch up in time, the failover is given up and nothing has changed.

use super::core::Core;
use super::effect::Command;
use super::event::Level;
use super::failover::State;
use super::group::Group;
use super::info::Role;
use super::node::INFO_PERIOD_AWAITED_MS;
use super::types::Address;
use crate::resp::Value;

/// How long a master may hold writes while it waits for the replica, in ms, where the votes do not
/// end before.
const CATCH_UP_MS: u64 = 3_000;
/// What must be left of the votes' time when the master has given up waiting, in ms: enough for the
/// change of roles that it had begun to be seen.
const SEEN_MS: u64 = 1_000;

impl Group {
    /// Tells the master to hand its role over to this replica. False where that was not asked for,
    /// or cannot be: then the replica is to be promoted without the master.
    pub(super) fn hand_over(&mut self, core: &mut Core, replica: &Address) -> bool {
        let Some(failover) = self.failover.as_ref().filter(|failover| failover.coordinated) else {
            return false;
        };
        let end = failover.started.plus(self.tenure_ms());
        let left_ms = end.since(core.now()).saturating_sub(SEEN_MS);
        let timeout_ms = left_ms.min(CATCH_UP_MS);
        let (to, infos) = match self.why_no_hand_over(replica) {
            _ if timeout_ms == 0 => return self.without_master(core, "no time is left for it"),
            Ok(found) => found,
            Err(why) => return self.without_master(core, why),
        };
        self.master.health.send(core, Command::HandOver { to, timeout_ms });
        let next_info = core.now().plus(INFO_PERIOD_AWAITED_MS);
        self.set_state(State::HandingOver { replica: replica.clone(), infos, next_info });
        true
    }

    /// The replica as its master shows it, and how many INFOs it has answered; or why the master
    /// cannot be asked.
    fn why_no_hand_over(&self, replica: &Address) -> Result<(Address, u64), &'static str> {
        let master = &self.master;
        let usable = master.sdown_since.is_none() && master.health.locked_out.is_none();
        if !master.health.up || !usable || master.stranger.is_some() {
            return Err("the master cannot be reached");
        }
        let info = master.info.as_ref().filter(|info| info.role == Role::Master);
        let info = info.ok_or("the master does not say that it is one")?;
        let node = self.replicas.get(replica).ok_or("the master itself was chosen")?;
        let shown = info.slaves.iter().find(|shown| node.is_at(shown));
        let to = shown.ok_or("the master does not show that replica")?;
        Ok((to.clone(), node.infos))
    }

    fn without_master(&self, core: &mut Core, why: &str) -> bool {
        let text = format!(
            "No hand-over of {}: {why}. A replica is promoted without the master, which may go on \
             taking writes until it is made a replica: those are lost",
            self.name
        );
        core.say(Level::Warning, Some(&self.name), text);
        false
    }

    /// The master answered: an error means that nothing was begun.
    pub(super) fn take_hand_over(&mut self, core: &mut Core, reply: &Value) {
        let Value::Error(error) = reply else { return };
        let Some(State::HandingOver { replica, .. }) = self.failover.as_ref().map(|f| &f.state)
        else {
            return;
        };
        let replica = replica.clone();
        let error: String = error.chars().take(REFUSAL_CHARS_MAX).collect();
        self.without_master(core, &format!("the master refused: {error}"));
        self.promote(core, replica);
    }

    /// The replica is the master: both are told to remember their new roles, and to send their
    /// clients to look for the master again.
    pub(super) fn end_hand_over(&mut self, core: &mut Core, state: &State) {
        let State::HandingOver { replica, .. } = state else { return };
        self.master.health.send(core, Command::HandedOver);
        // What it said was said before: it is asked anew before anything is ordered of it.
        self.master.parted_at = Some(core.now());
        if let Some(node) = self.replicas.get_mut(replica) {
            node.health.send(core, Command::HandedOver);
        }
    }
}

/// How much of the master's refusal reaches the log, in characters.
const REFUSAL_CHARS_MAX: usize = 200;
