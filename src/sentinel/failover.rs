//! The states of a failover: election, choice, promotion. What comes after the promotion (the other
//! replicas) is `repair`'s.

use super::core::Core;
use super::effect::Command;
use super::election::{TENURE_MS, rank_step_ms, retry_ms};
use super::event::{EventKind, Level};
use super::group::Group;
use super::hand_over::Hold;
use super::hello::GiveUp;
use super::info::Role;
use super::mutant::Guard;
use super::node::INFO_PERIOD_AWAITED_MS;
use super::repair::Repoint;
use super::simulate::Moment;
use super::types::{Address, EPOCH_MAX, Epoch, Instant, Revision};
use crate::resp::Value;

/// How long the leader waits for fresh INFO of all replicas before it chooses, in ms.
const FRESH_INFO_MS: u64 = 200;
/// The same while the master lives and an operator wants another, in ms: nobody is without a master
/// meanwhile.
const FRESH_INFO_FORCED_MS: u64 = 1_000;

/// How much of a node's refusal reaches the log, in characters.
const REFUSAL_CHARS_MAX: usize = 200;

/// A failover that this sentinel tries.
#[derive(Debug)]
pub(super) struct Failover {
    pub(super) epoch: Epoch,
    /// Asked for by an operator: needs no ODOWN.
    pub(super) forced: bool,
    /// The operator wants it only if nothing is lost by it; see `hand_over`.
    pub(super) coordinated: bool,
    pub(super) started: Instant,
    /// Holds our own vote: nothing is done on votes that a crash could take back.
    pub(super) vote_in: Revision,
    pub(super) state: State,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum State {
    /// Votes are being asked for.
    Election,
    /// Elected; the replicas are asked for fresh INFO.
    Choosing { since: Instant },
    /// The master is to hold writes until this replica, which was chosen, has them all.
    Holding { replica: Address, hold: Hold },
    /// `SLAVEOF NO ONE` is sent; the replica, which had answered so many INFOs until then, is asked
    /// until it says master.
    Promoting { replica: Address, infos: u64, next_info: Instant },
    /// The master was told to hand its role over to this replica, which is asked in the same way.
    HandingOver { replica: Address, infos: u64, next_info: Instant },
}

impl Failover {
    /// Sentinel's name of the state, for `failover-state`.
    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::Election => "wait_start",
            State::Choosing { .. } => "select_slave",
            State::Holding { .. } | State::Promoting { .. } | State::HandingOver { .. } => {
                "wait_promotion"
            }
        }
    }

    /// True if this is the replica that was told to become master.
    pub(super) fn promotes(&self, address: &Address) -> bool {
        match &self.state {
            State::Holding { replica, .. }
            | State::Promoting { replica, .. }
            | State::HandingOver { replica, .. } => replica == address,
            State::Election | State::Choosing { .. } => false,
        }
    }
}

impl Group {
    /// The epoch in which we stand for election now.
    pub(super) fn election_epoch(&self) -> Option<Epoch> {
        let failover = self.failover.as_ref()?;
        matches!(failover.state, State::Election).then_some(failover.epoch)
    }

    /// Moves the failover on by at most one state. True if it moved.
    pub(super) fn advance_failover(&mut self, core: &mut Core) -> bool {
        if core.in_tilt() {
            return false;
        }
        match self.failover.as_ref().map(|f| &f.state) {
            Some(State::Election | State::Choosing { .. } | State::Holding { .. })
                if core.asks_double() =>
            {
                false
            }
            None => self.consider_failover(core),
            Some(State::Election) => self.count_votes(core),
            Some(State::Choosing { since }) => {
                let since = *since;
                self.choose_replica(core, since)
            }
            Some(State::Holding { .. }) => self.advance_hand_over(core),
            Some(State::Promoting { .. } | State::HandingOver { .. }) => self.await_promotion(core),
        }
    }

    /// Starts an election if the master is down for a quorum and nothing speaks against it.
    fn consider_failover(&mut self, core: &mut Core) -> bool {
        let down_since = match core.holds(Guard::OdownNeeded) {
            true => self.odown_since,
            false => self.master.sdown_since,
        };
        let Some(down_since) = down_since else { return false };
        if let Some(reason) = core.out.failure().map(str::to_owned)
            && core.holds(Guard::DiskForElection)
        {
            let why = format!("I take no part in elections: my state cannot be written: {reason}");
            self.explain(core, why);
            return false;
        }
        if let Some(until) = self.promised(&core.my_id)
            && !core.due(until)
            && core.holds(Guard::VoteBindsCandidate)
        {
            let leader = self.voted_for.as_ref().map_or("another sentinel", |id| id.short());
            let why = format!(
                "I do not start a failover of {} yet: {leader} has my vote for epoch {}",
                self.name, self.leader_epoch
            );
            self.explain(core, why);
            return false;
        }
        if let Some(why) = self.why_no_election(core) {
            self.explain(core, why);
            return false;
        }
        if self.rests(core) {
            return false;
        }
        let rank = if core.holds(Guard::Rank) { self.rank(core) } else { 0 };
        let lead_ms = u64::from(rank) * rank_step_ms(core.out.write_ms(), core.odowns());
        let free = self.not_before.max(self.held_back.unwrap_or(self.not_before));
        let turn = down_since.max(free).plus(lead_ms);
        if !core.due(turn) {
            return false;
        }
        self.start_failover(core, false);
        true
    }

    /// The epoch of an election that begins now. Real ones never get near the last one.
    fn next_epoch(&self, core: &Core) -> Option<Epoch> {
        let newest = core.current_epoch.max(self.leader_epoch).max(self.config_epoch);
        newest.checked_add(1).filter(|epoch| *epoch <= EPOCH_MAX)
    }

    /// A sentence if no election can be won: we take no part yet, so many sentinels are down, or no
    /// epoch is left.
    pub(super) fn why_no_election(&self, core: &Core) -> Option<String> {
        if let Some(why) = self.why_no_part(core) {
            return Some(why);
        }
        if self.next_epoch(core).is_none() {
            return Some(format!(
                "No failover of {}: no epoch comes after {}; stop all its sentinels and lower it",
                self.name, core.current_epoch
            ));
        }
        let usable = 1 + self.peers.values().filter(|p| p.sdown_since.is_none()).count() as u32;
        let needed = self.votes_needed(core);
        (usable < needed).then(|| {
            format!(
                "No failover of {}: only {usable} of {} sentinels can be reached, and \
                 {needed} votes are needed",
                self.name,
                self.voters()
            )
        })
    }

    /// How many sentinels with a smaller id see the master down, or have not said yet.
    fn rank(&self, core: &Core) -> u32 {
        let ahead = self.peers.iter().filter(|(id, peer)| {
            let up = core.peers.get(*id).is_some_and(|link| link.health.up);
            let candidate = peer.master_down_at.is_some() || peer.questions_open > 0;
            **id < core.my_id && up && peer.sdown_since.is_none() && candidate
        });
        ahead.count() as u32
    }

    /// Stands for election in a new epoch.
    pub(super) fn start_failover(&mut self, core: &mut Core, forced: bool) {
        let Some(epoch) = self.next_epoch(core) else { return };
        core.adopt_epoch(epoch, &self.name);
        let details = self.master_details(core);
        core.announce_durable(EventKind::TryFailover, Some(&self.name), details);
        let my_id = core.my_id.clone();
        self.cast_vote(core, my_id, epoch);
        self.repoint = None;
        let (started, vote_in) = (core.now(), core.out.newest());
        let (coordinated, state) = (false, State::Election);
        self.failover = Some(Failover { epoch, forced, coordinated, started, vote_in, state });
        core.out.rests_on_disk(&self.name);
    }

    fn count_votes(&mut self, core: &mut Core) -> bool {
        let Some(Failover { epoch, forced, started, vote_in, .. }) = self.failover else {
            return false;
        };
        if core.out.failure().is_some() && core.holds(Guard::DiskForElection) {
            let why = "my state cannot be written".to_owned();
            return self.abort(core, EventKind::AbortNotElected, why);
        }
        if !forced && self.odown_since.is_none() && core.holds(Guard::OdownStands) {
            let why = match self.master.sdown_since {
                None => "the master is back".to_owned(),
                Some(_) => "the quorum does not see the master down any more".to_owned(),
            };
            return self.abort(core, EventKind::AbortNotElected, why);
        }
        let tally = self.tally(core, epoch);
        let elected = tally.votes >= tally.needed;
        if elected && (core.out.is_durable(vote_in) || !core.holds(Guard::PromotionOnDisk)) {
            let details = self.master_details(core);
            core.announce_durable(EventKind::ElectedLeader, Some(&self.name), details.clone());
            core.crash_if_asked(Moment::Election);
            core.announce_durable(EventKind::StateSelectSlave, Some(&self.name), details);
            for node in std::iter::once(&mut self.master).chain(self.replicas.values_mut()) {
                node.ask_info(core);
            }
            let since = core.now();
            self.set_state(State::Choosing { since });
            return true;
        }
        let lost = tally.votes + tally.undecided < tally.needed;
        let wait_ms = match elected {
            // Who needs no other vote waits for the disk only.
            true => self.tenure_ms(),
            false => core.tune.election_timeout_ms.min(self.settings.failover_timeout_ms),
        };
        if lost || core.due(started.plus(wait_ms)) {
            let why = match elected {
                true => format!("my vote for epoch {epoch} is not on disk yet"),
                false => format!("{} of {} votes in epoch {epoch}", tally.votes, tally.needed),
            };
            return self.abort(core, EventKind::AbortNotElected, why);
        }
        false
    }

    pub(super) fn set_state(&mut self, state: State) {
        if let Some(failover) = &mut self.failover {
            failover.state = state;
        }
    }

    /// True once the time that the votes gave us is over.
    pub(super) fn tenure_is_over(&self, core: &mut Core) -> bool {
        match &self.failover {
            Some(failover) => core.due(failover.started.plus(self.tenure_ms())),
            None => true,
        }
    }

    fn choose_replica(&mut self, core: &mut Core, since: Instant) -> bool {
        if self.tenure_is_over(core) && core.holds(Guard::PromotionInTenure) {
            let why = "too late: the votes do not bind any more".to_owned();
            return self.abort(core, EventKind::AbortNotElected, why);
        }
        let at = core.moment();
        let waiting =
            self.replicas.values().filter(|node| node.sdown_since.is_none()).any(|node| {
                // Who promotes a node ends all its connections: another group that watches the same
                // nodes may just have done that.
                let is_back_soon = node.health.silent_ms(at) < FRESH_INFO_MS;
                (node.health.up || is_back_soon) && node.info_at.is_none_or(|at| at < since)
            });
        let unhurried = self.failover.as_ref().is_some_and(|f| f.forced);
        let patience_ms = match unhurried && self.master.sdown_since.is_none() {
            true => FRESH_INFO_FORCED_MS,
            false => FRESH_INFO_MS,
        };
        if waiting && core.holds(Guard::FreshInfoAwaited) && !core.due(since.plus(patience_ms)) {
            return false;
        }
        let Some(Failover { epoch, forced, .. }) = self.failover else { return false };
        let tally = self.tally(core, epoch);
        if tally.votes < tally.needed && core.holds(Guard::VotesCountedAgain) {
            // Whoever was met since the election has a say, too.
            let why = format!("{} votes in epoch {epoch} are too few by now", tally.votes);
            return self.abort(core, EventKind::AbortNotElected, why);
        }
        let replica = match self.best_replica(core, forced) {
            Ok(replica) => replica,
            Err(reasons) => {
                let why = match reasons.is_empty() {
                    true => "no replica is known".to_owned(),
                    false => reasons.join("; "),
                };
                return self.abort(core, EventKind::AbortNoGoodSlave, why);
            }
        };
        let details = self.node_details(core, &replica);
        for kind in [
            EventKind::SelectedSlave,
            EventKind::StateSendSlaveofNoone,
            EventKind::StateWaitPromotion,
        ] {
            core.announce_durable(kind, Some(&self.name), details.clone());
        }
        if !self.hand_over(core, &replica, since) {
            self.promote(core, replica);
        }
        true
    }

    /// Tells this replica that it is the master.
    pub(super) fn promote(&mut self, core: &mut Core, replica: Address) {
        let mut infos = 0;
        if let Some(node) = self.node_mut(&replica) {
            infos = node.infos;
            node.refused = None;
            node.health.send(core, Command::Promote);
        }
        let next_info = core.now().plus(INFO_PERIOD_AWAITED_MS);
        self.set_state(State::Promoting { replica, infos, next_info });
    }

    fn await_promotion(&mut self, core: &mut Core) -> bool {
        let tenure_ms = self.tenure_ms();
        let Some(failover) = &mut self.failover else { return false };
        let (State::Promoting { replica, infos, next_info }
        | State::HandingOver { replica, infos, next_info }) = &mut failover.state
        else {
            return false;
        };
        let (replica, infos) = (replica.clone(), *infos);
        let demoted_master = self.master.address == replica;
        let Some(node) = (match demoted_master {
            true => Some(&mut self.master),
            false => self.replicas.get_mut(&replica),
        }) else {
            let why = format!("{replica} is not known any more");
            return self.abort(core, EventKind::AbortSlaveTimeout, why);
        };
        let is_master = node.role() == Some(Role::Master);
        let late = core.due(failover.started.plus(tenure_ms));
        // Too late it may not count: others may have undone it, and told nobody why.
        let in_time = !late || !core.holds(Guard::PromotionCounts);
        let fresh = node.infos > infos || !core.holds(Guard::PromotionSeen);
        if is_master && in_time && fresh {
            self.promoted(core, replica);
            return true;
        }
        if core.due(*next_info) {
            *next_info = core.now().plus(INFO_PERIOD_AWAITED_MS);
            core.due(*next_info);
            node.ask_info(core);
        }
        let refused = node.refused.take();
        let down = node.sdown_since.is_some() && !demoted_master;
        let why = match refused {
            Some(error) => format!("{replica} refused: {error}"),
            None if down => format!("{replica} went down"),
            None if late && core.holds(Guard::PromotionEnds) => {
                format!("{replica} did not become a master in time")
            }
            None => return false,
        };
        self.abort(core, EventKind::AbortSlaveTimeout, why)
    }

    /// The replica says that it is master: this is the group's configuration from now on.
    fn promoted(&mut self, core: &mut Core, replica: Address) {
        let Some(failover) = self.failover.take() else { return };
        assert!(failover.epoch > self.config_epoch, "configuration epochs never go back");
        let own = core.holds(Guard::ConfigOfItsEpoch);
        self.config_epoch = failover.epoch + u64::from(!own);
        core.out.touch_group(&self.name);
        let details = self.node_details(core, &replica);
        core.announce_durable(EventKind::PromotedSlave, Some(&self.name), details);
        core.crash_if_asked(Moment::Promotion);
        self.end_hand_over(core, &failover.state);
        let details = self.master_details(core);
        core.announce_durable(EventKind::StateReconfSlaves, Some(&self.name), details);
        if self.master.address == replica {
            self.confirm_master(core);
        } else {
            if let Some(node) = self.replicas.get(&replica) {
                let (from, to) = (self.shown_master(core), self.shown(core, node));
                self.run_reconfig_script(core, "leader", &from, &to);
            }
            self.switch_master(core, replica);
        }
        self.repoint = Some(Repoint { started: core.now() });
    }

    /// Gives up this attempt; another follows after a pause that grows and is left to chance.
    pub(super) fn abort(&mut self, core: &mut Core, kind: EventKind, why: String) -> bool {
        let details = self.master_details(core);
        core.announce_durable(kind, Some(&self.name), details);
        self.attempts += 1;
        // Where all votes are needed, one sentinel still bound to the loser of the last election
        // loses the next: there must come a time in which nobody has stood for as long as a vote
        // binds.
        let all_free_ms = match core.holds(Guard::PauseFreesAll) {
            true => 2 * TENURE_MS * u64::from(self.voters()),
            false => TENURE_MS,
        };
        let pause = retry_ms(self.attempts, all_free_ms);
        let pause = pause / 2 + core.chance.below(pause / 2 + 1);
        if core.holds(Guard::RetryPause) {
            self.not_before = core.now().plus(pause);
        }
        self.held_back = None;
        let text = format!("Failover of {} given up: {why}", self.name);
        core.say(Level::Warning, Some(&self.name), text);
        self.give_up(core);
        self.said = None;
        true
    }

    /// Nobody acts any more on the votes that we have: our own, and those of others, who are told
    /// so.
    pub(super) fn give_up(&mut self, core: &mut Core) {
        let Some(Failover { epoch, state, .. }) = self.failover.take() else { return };
        self.free_all_writes(core);
        let own = self.voted_for.as_ref() == Some(&core.my_id);
        if own && core.holds(Guard::OwnVoteFreed) {
            self.voted_at = None;
        }
        // An order that is under way may still make a master; and whoever shares our id may lead.
        let may_be_led = matches!(state, State::Promoting { .. } | State::HandingOver { .. })
            || core.may_be_double();
        if may_be_led && core.holds(Guard::ReleasedUnacted) || !core.holds(Guard::VotersReleased) {
            return;
        }
        let given_up = GiveUp { id: core.my_id.clone(), epoch, group: self.name.to_string() };
        for id in self.peers.keys() {
            // Like the question for the vote, which comes first.
            for command in core.give_up_as_said(&given_up) {
                core.send_peer(id, &self.name, command);
            }
        }
    }

    /// The reply to the promotion or to a SLAVEOF: the transaction's replies, then INFO.
    pub(super) fn take_transaction(&mut self, core: &mut Core, address: &Address, reply: &Value) {
        let Value::Array(replies) = reply else { return };
        let refusal = replies.iter().take(6).find_map(refusal);
        let refusal =
            refusal.map(|error| error.chars().take(REFUSAL_CHARS_MAX).collect::<String>());
        if let Some(error) = refusal {
            let text = format!("{address} refused to change its role: {error}");
            core.say(Level::Warning, Some(&self.name), text);
            if let Some(node) = self.node_mut(address) {
                node.refused = Some(error);
                node.refused_at = Some(core.now());
                node.reconf = None;
            }
            return;
        }
        let info = replies.last().and_then(Value::text);
        self.take_info(core, address, info);
    }
}

/// The error of a transaction that did not happen. CONFIG REWRITE may fail in it (a node without a
/// configuration file): that error stands inside EXEC's array and does no harm; SLAVEOF's would.
fn refusal(reply: &Value) -> Option<&str> {
    match reply {
        Value::Error(error) => Some(error),
        Value::Array(results) => match results.first() {
            Some(Value::Error(error)) => Some(error),
            _ => None,
        },
        _ => None,
    }
}
