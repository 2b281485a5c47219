//! An ordered failover beside a master that lives: it loses no write that the master has
//! acknowledged. Redis's sentinels promote a replica beside a master that goes on writing.
//!
//! The leader drives it. It waits until the replica is so near that it is short, has the master
//! hold all writes (`CLIENT PAUSE ms WRITE`), asks the replica until it has all that the master
//! wrote, and promotes it; the old master is sent behind it as in any failover, and lets its
//! clients go then. The pause ends by itself, counted from when the master began it: so it is
//! counted here from when it was sent, and nobody is promoted once too little of it is left.
//!
//! Election, choice, events and what comes after are those of any failover. Where the master is
//! down, all is as in Redis. Where it may not be told to hold writes, the plain order promotes the
//! replica all the same and the log says what may be lost; `COORDINATED` asks the master itself to
//! hand its role over (`FAILOVER TO`). Where that is refused, too, or the replica does not catch
//! up, `COORDINATED` is given up and nothing has changed.

use super::core::Core;
use super::effect::Command;
use super::event::{EventKind, Level};
use super::failover::{Failover, State};
use super::group::Group;
use super::info::{Info, Role};
use super::mutant::Guard;
use super::node::{INFO_PERIOD_AWAITED_MS, Node};
use super::types::{Address, Epoch, Instant, RunId};
use crate::resp::Value;

/// How long a master may hold writes while it waits for the replica, in ms, where the votes do not
/// end before.
const CATCH_UP_MS: u64 = 3_000;
/// What must be left of the votes' time when the master has given up waiting, in ms: enough for the
/// change of roles that it had begun to be seen.
const SEEN_MS: u64 = 1_000;
/// How long the replica is waited for before writes are held, in ms.
const NEAR_WITHIN_MS: u64 = 1_000;
/// A replica is near that has after so long, in ms, what its master had before.
const NEAR_MS: u64 = 20;
/// How long the master holds writes if nobody frees them, in ms.
const HOLD_MS: u64 = 2_000;
/// For so much of that the replica may be waited for, in ms: the rest is for its promotion, for the
/// disk, and for the order to the old master.
const HELD_WAIT_MS: u64 = 500;
/// Longest pause between INFOs to the replica meanwhile, in ms; it grows with time.
const ASK_AGAIN_MS: u64 = 20;
/// Said where a replica is promoted without the master, with the group's name behind it.
pub(crate) const NO_HAND_OVER: &str = "No hand-over of";

/// How far a hand-over has come.
#[derive(Debug, Clone)]
pub(super) enum Hold {
    /// The replica is waited for until then. What the master had is shown by an INFO of it, later
    /// than its first so many.
    Nearing { until: Instant, infos: u64 },
    /// The master was then told to hold writes; its answer says what was written.
    Asked { since: Instant },
    /// It holds them; the replica, which had answered so many INFOs until then, is to come up to
    /// this offset of this history.
    Held { since: Instant, infos: u64, offset: u64, replid: RunId },
}

/// What a master has written: the history and how far it goes.
fn written(info: &Info) -> Option<(&RunId, u64)> {
    Some((info.replid.as_ref()?, info.written?))
}

/// The node is a replica that follows, and has this much of this history.
fn has(node: &Node, replid: &RunId, offset: u64) -> bool {
    node.info.as_ref().is_some_and(|info| {
        let follows = info.role == Role::Slave && info.link_up;
        follows && info.replid.as_ref() == Some(replid) && info.offset >= offset
    })
}

impl Group {
    /// Begins to hand the master's role over to this replica, chosen since then, or gives up. False
    /// where nobody ordered the failover, or the master cannot be asked: then it is to be promoted
    /// without it.
    pub(super) fn hand_over(&mut self, core: &mut Core, replica: &Address, since: Instant) -> bool {
        let Some(failover) = self.failover.as_ref().filter(|failover| failover.forced) else {
            return false;
        };
        if !core.holds(Guard::WritesHeld) {
            return false;
        }
        let tenure_ms = self.tenure_ms();
        let end = failover.started.plus(tenure_ms);
        let needed_ms = (SEEN_MS + HELD_WAIT_MS).min(tenure_ms / 2);
        let left_ms = end.since(core.now()).saturating_sub(needed_ms);
        let until = core.now().plus(left_ms.min(NEAR_WITHIN_MS));
        if let Err(why) = self.why_no_hand_over(replica) {
            return self.without_master(core, why);
        }
        if left_ms == 0 && core.holds(Guard::PromotionInTenure) {
            // To promote it beside a master that goes on writing is no way to save time.
            let why = "no time is left for a hand-over".to_owned();
            return self.abort(core, EventKind::AbortSlaveTimeout, why);
        }
        let fresh = self.master.info_at.is_some_and(|at| at >= since);
        let infos = self.master.infos.saturating_sub(u64::from(fresh));
        self.set_holding(replica, Hold::Nearing { until, infos });
        true
    }

    fn set_holding(&mut self, replica: &Address, hold: Hold) {
        self.set_state(State::Holding { replica: replica.clone(), hold });
    }

    /// Why there is nothing to be handed over, or nobody to hand it over.
    fn why_no_hand_over(&self, replica: &Address) -> Result<&Node, &'static str> {
        let master = &self.master;
        let usable = master.sdown_since.is_none() && master.health.locked_out.is_none();
        if !usable || master.stranger.is_some() {
            return Err("the master cannot be reached");
        }
        let node = self.replicas.get(replica).ok_or("the master itself was chosen")?;
        match node.role() {
            Some(Role::Slave) => Ok(node),
            _ => Err("the replica says master already"),
        }
    }

    /// Why the master cannot be asked now. It may be in a moment: who was just promoted, say, has
    /// ended all connections.
    fn why_not_now(&self) -> Option<&'static str> {
        if !self.master.health.up {
            return Some("there is no connection to the master");
        }
        let says_so = self.master.role() == Some(Role::Master);
        (!says_so).then_some("the master does not say that it is one")
    }

    fn without_master(&self, core: &mut Core, why: &str) -> bool {
        let text = format!(
            "{NO_HAND_OVER} {}: {why}. A replica is promoted without the master, which may go on \
             taking writes until it is made a replica: those are lost",
            self.name
        );
        core.say(Level::Warning, Some(&self.name), text);
        false
    }

    /// Goes one step on with a hand-over. True if the failover moved.
    pub(super) fn advance_hand_over(&mut self, core: &mut Core) -> bool {
        let Some(State::Holding { replica, hold }) = self.failover.as_ref().map(|f| &f.state)
        else {
            return false;
        };
        let (replica, hold) = (replica.clone(), hold.clone());
        let Some(node) = self.replicas.get_mut(&replica) else {
            let why = format!("{replica} is not known any more");
            return self.abort(core, EventKind::AbortSlaveTimeout, why);
        };
        if node.sdown_since.is_some() {
            let why = format!("{replica} went down");
            return self.abort(core, EventKind::AbortSlaveTimeout, why);
        }
        match hold {
            Hold::Nearing { until, infos } => self.await_near(core, replica, until, infos),
            Hold::Asked { since } => {
                let late = core.due(since.plus(HELD_WAIT_MS));
                late && self.in_vain(core, replica, "the master did not say that it holds writes")
            }
            Hold::Held { since, infos, offset, replid } => {
                let late = core.due(since.plus(HELD_WAIT_MS));
                let has_all = node.infos > infos && has(node, &replid, offset);
                let in_time = !late || !core.holds(Guard::HoldLasts);
                if in_time && (has_all || !core.holds(Guard::CaughtUp)) {
                    let text = format!(
                        "{replica} has all that the master of {} wrote, which holds writes since \
                         {} ms: nothing is lost",
                        self.name,
                        core.now().since(since)
                    );
                    core.say(Level::Notice, Some(&self.name), text);
                    return self.promote_chosen(core, replica, true);
                }
                if late {
                    return self.in_vain(core, replica, "the replica did not catch up");
                }
                node.ask_info_after(core, core.now().since(since).clamp(1, ASK_AGAIN_MS));
                false
            }
        }
    }

    /// Before writes are held the replica must be near: else they would be held for long.
    fn await_near(
        &mut self,
        core: &mut Core,
        replica: Address,
        until: Instant,
        infos: u64,
    ) -> bool {
        if let Err(why) = self.why_no_hand_over(&replica) {
            self.without_master(core, why);
            return self.promote_chosen(core, replica, false);
        }
        if core.due(until) {
            let info = self.replicas.get(&replica).and_then(|node| node.info.as_ref());
            let behind = match info.is_some_and(|info| info.link_up) {
                true => "the replica is too far behind",
                false => "the replica has no link to its master",
            };
            let why = self.why_not_now().unwrap_or(behind);
            return self.in_vain(core, replica, why);
        }
        if self.master.infos <= infos || self.why_not_now().is_some() {
            self.master.ask_info_after(core, ASK_AGAIN_MS);
            return false;
        }
        let (Some(info), Some(shown_at)) = (&self.master.info, self.master.info_at) else {
            return false;
        };
        let Some((replid, offset)) = written(info) else {
            return self.refused(core, replica, "INFO does not say how much is written");
        };
        let Some(node) = self.replicas.get_mut(&replica) else { return false };
        if !has(node, replid, offset) {
            node.ask_info_after(core, core.now().since(shown_at).clamp(1, ASK_AGAIN_MS));
            return false;
        }
        if node.info_at > Some(shown_at.plus(NEAR_MS)) {
            // It comes nearer: it is to show it once more.
            let infos = self.master.infos;
            self.set_holding(&replica, Hold::Nearing { until, infos });
            self.master.ask_info_after(core, 0);
            return false;
        }
        self.hold_writes(core, &replica);
        false
    }

    /// The master is told to hold all writes for a while.
    fn hold_writes(&mut self, core: &mut Core, replica: &Address) {
        let Some(epoch) = self.failover.as_ref().map(|failover| failover.epoch) else { return };
        // A master that holds writes holds PUBLISH, too, and whatever we send behind it.
        self.recall_hellos(core);
        let since = core.now();
        self.master.held_until = Some(since.plus(HOLD_MS));
        self.master.health.send(core, Command::HoldWrites { epoch, ms: HOLD_MS });
        self.set_holding(replica, Hold::Asked { since });
        core.due(since.plus(HELD_WAIT_MS));
    }

    /// The master answered: whether it holds writes, and its INFO.
    pub(super) fn take_hold(
        &mut self,
        core: &mut Core,
        address: &Address,
        of: Epoch,
        reply: &Value,
    ) {
        let replies = match reply {
            Value::Array(replies) => &replies[..],
            other => std::slice::from_ref(other),
        };
        let infos = self.master.infos;
        if let [_, info] = replies
            && let Some(text) = info.text()
        {
            self.take_info(core, address, Some(text));
        }
        let Some(Failover { epoch, state: State::Holding { replica, hold }, .. }) = &self.failover
        else {
            return;
        };
        let Hold::Asked { since } = *hold else { return };
        if *epoch != of || *address != self.master.address || core.in_tilt() {
            return;
        }
        let replica = replica.clone();
        if replies.first() != Some(&Value::ok()) {
            let error = match replies.first() {
                Some(Value::Error(error)) => error.chars().take(REFUSAL_CHARS_MAX).collect(),
                _ => "it does not say that it holds writes".to_owned(),
            };
            self.master.held_until = None;
            self.refused(core, replica, &format!("the master refused: {error}"));
            return;
        }
        let why_not = self.why_no_hand_over(&replica).err().or(self.why_not_now());
        if let Some(why) = why_not {
            self.in_vain(core, replica, why);
            return;
        }
        // What it said before it held writes says nothing.
        let told = self.master.info.as_ref().filter(|_| self.master.infos > infos);
        let all = told.and_then(written).map(|(replid, offset)| (replid.clone(), offset));
        let Some((replid, offset)) = all else {
            self.in_vain(core, replica, "INFO does not say how much is written");
            return;
        };
        if let Some(node) = self.replicas.get_mut(&replica) {
            let infos = node.infos;
            node.ask_info_after(core, 0);
            self.set_holding(&replica, Hold::Held { since, infos, offset, replid });
        }
    }

    /// The votes still bind, and the replica can still be promoted: it is. `whole`: it has all that
    /// was written.
    fn promote_chosen(&mut self, core: &mut Core, replica: Address, whole: bool) -> bool {
        let Some(Failover { epoch, .. }) = self.failover else { return false };
        let late = self.tenure_is_over(core) && core.holds(Guard::PromotionInTenure);
        let tally = self.tally(core, epoch);
        let few = tally.votes < tally.needed && core.holds(Guard::VotesCountedAgain);
        let unfit = match self.replicas.get(&replica) {
            Some(node) => self.why_unfit(core, node),
            None => Some("it is not known any more".to_owned()),
        };
        // Who has all is as good as any.
        let second = || match self.best_replica(core, true) {
            Ok(best) if best == replica => None,
            Ok(_) => Some("another one is to be preferred by now".to_owned()),
            Err(reasons) => Some(reasons.join("; ")),
        };
        let unfit = unfit.or_else(|| if whole { None } else { second() });
        let why = match unfit {
            _ if late => "too late: the votes do not bind any more".to_owned(),
            _ if few => format!("{} votes in epoch {epoch} are too few by now", tally.votes),
            Some(unfit) => format!("{replica}: {unfit}"),
            None => {
                self.promote(core, replica);
                return true;
            }
        };
        self.abort(core, EventKind::AbortSlaveTimeout, why)
    }

    /// It has come to nothing. Writes that are held stay so for the plain order: fewer are lost.
    fn in_vain(&mut self, core: &mut Core, replica: Address, why: &str) -> bool {
        if self.failover.as_ref().is_some_and(|failover| failover.coordinated) {
            return self.abort(core, EventKind::AbortSlaveTimeout, why.to_owned());
        }
        self.without_master(core, why);
        self.promote_chosen(core, replica, false)
    }

    /// The master cannot be told to hold writes.
    fn refused(&mut self, core: &mut Core, replica: Address, why: &str) -> bool {
        if !self.failover.as_ref().is_some_and(|failover| failover.coordinated) {
            self.without_master(core, why);
            return self.promote_chosen(core, replica, false);
        }
        let text = format!(
            "The master of {} cannot be told to hold writes (CLIENT PAUSE): {why}. It is asked to \
             hand its role over itself (FAILOVER TO)",
            self.name
        );
        core.say(Level::Warning, Some(&self.name), text);
        match self.ask_master(core, &replica) {
            Ok(()) => true,
            Err(why) => self.abort(core, EventKind::AbortSlaveTimeout, why.to_owned()),
        }
    }

    /// Has the master itself hand its role over to this replica, or says why it cannot be asked.
    fn ask_master(&mut self, core: &mut Core, replica: &Address) -> Result<(), &'static str> {
        let started = self.failover.as_ref().map_or(core.now(), |failover| failover.started);
        let tenure_ms = self.tenure_ms();
        let left_ms = started.plus(tenure_ms).since(core.now());
        let timeout_ms = left_ms.saturating_sub(SEEN_MS.min(tenure_ms / 4)).min(CATCH_UP_MS);
        if timeout_ms == 0 {
            return Err("no time is left for it");
        }
        let (to, infos) = self.as_master_shows(replica)?;
        self.master.health.send(core, Command::HandOver { to, timeout_ms });
        let next_info = core.now().plus(INFO_PERIOD_AWAITED_MS);
        self.set_state(State::HandingOver { replica: replica.clone(), infos, next_info });
        Ok(())
    }

    /// The replica as its master shows it, and how many INFOs it has answered; or why the master
    /// cannot be asked.
    fn as_master_shows(&self, replica: &Address) -> Result<(Address, u64), &'static str> {
        let node = self.why_no_hand_over(replica)?;
        if let Some(why) = self.why_not_now() {
            return Err(why);
        }
        let shown = self.master.info.iter().flat_map(|info| &info.slaves);
        let to = shown.clone().find(|shown| node.is_at(shown));
        let to = to.ok_or("the master does not show that replica")?;
        Ok((to.clone(), node.infos))
    }

    /// The master answered: an error means that nothing was begun, and nothing is.
    pub(super) fn take_hand_over(&mut self, core: &mut Core, reply: &Value) {
        let Value::Error(error) = reply else { return };
        let asked = |failover: &Failover| matches!(failover.state, State::HandingOver { .. });
        if self.failover.as_ref().is_some_and(asked) {
            let error: String = error.chars().take(REFUSAL_CHARS_MAX).collect();
            let why = format!("the master refused to hand its role over: {error}");
            self.abort(core, EventKind::AbortSlaveTimeout, why);
        }
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

    /// Nobody is going to take the master's place: it goes on writing.
    pub(super) fn free_all_writes(&mut self, core: &mut Core) {
        let nodes = std::iter::once(&mut self.master).chain(self.replicas.values_mut());
        nodes.for_each(|node| node.free_writes(core));
    }
}

/// How much of the master's refusal reaches the log, in characters.
const REFUSAL_CHARS_MAX: usize = 200;
