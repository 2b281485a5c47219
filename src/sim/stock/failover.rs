//! The failover: one step with each tick at most.

use super::core::Core;
use super::group::{Group, Replica};
use super::instance::{INFO_PERIOD_MS, PING_PERIOD_MS, age};
use super::vote::DESYNC_MS;
use crate::sentinel::types::Address;
use crate::sentinel::{Command, Epoch, EventKind, Instant};

const ELECTION_TIMEOUT_MS: u64 = 10_000;
/// A replica that was told whom to follow and does not is given up after this, in ms.
const RECONF_TIMEOUT_MS: u64 = 10_000;

/// Redis's failover states, in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    #[default]
    None,
    WaitStart,
    SelectSlave,
    SendSlaveofNoone,
    WaitPromotion,
    ReconfSlaves,
    UpdateConfig,
}

impl Step {
    pub(super) fn name(self) -> &'static str {
        match self {
            Step::None => "none",
            Step::WaitStart => "wait_start",
            Step::SelectSlave => "select_slave",
            Step::SendSlaveofNoone => "send_slaveof_noone",
            Step::WaitPromotion => "wait_promotion",
            Step::ReconfSlaves => "reconf_slaves",
            Step::UpdateConfig => "update_config",
        }
    }
}

/// What a group knows of its failover, and of the last one.
#[derive(Debug, Default)]
pub(super) struct Failover {
    pub(super) step: Step,
    pub(super) step_since: Option<Instant>,
    pub(super) forced: bool,
    pub(super) epoch: Epoch,
    /// When the last attempt began, our own or one that we voted for; may lie ahead. The blackout
    /// counts from it.
    pub(super) started_at: Option<Instant>,
    pub(super) promoted: Option<Address>,
}

impl Failover {
    pub(super) fn enter(&mut self, now: Instant, step: Step) {
        self.step = step;
        self.step_since = Some(now);
    }

    /// The address that is shown for `configured`.
    pub(super) fn shown<'a>(&'a self, configured: &'a Address) -> &'a Address {
        match &self.promoted {
            Some(promoted) if self.step >= Step::ReconfSlaves => promoted,
            _ => configured,
        }
    }
}

impl Group {
    pub(super) fn start_failover_if_needed(&mut self, core: &mut Core) -> bool {
        let blackout = self.failover.started_at.is_some_and(|at| {
            core.now < at.plus(self.settings.failover_timeout_ms.saturating_mul(2))
        });
        if self.odown_since.is_none() || self.failover.step != Step::None || blackout {
            return false;
        }
        self.start_failover(core);
        true
    }

    /// Takes the next epoch. It is written with the vote, not here.
    pub(super) fn start_failover(&mut self, core: &mut Core) {
        core.current_epoch = core.current_epoch.wrapping_add(1);
        self.failover.epoch = core.current_epoch;
        self.failover.enter(core.now, Step::WaitStart);
        core.announce_epoch(&self.name);
        self.announce(core, EventKind::TryFailover);
        self.failover.started_at = Some(core.now.plus(core.chance.below(DESYNC_MS)));
    }

    /// `sentinelFailoverStateMachine`
    pub(super) fn advance(&mut self, core: &mut Core) {
        match self.failover.step {
            Step::None | Step::UpdateConfig => {}
            Step::WaitStart => self.wait_start(core),
            Step::SelectSlave => self.select_slave(core),
            Step::SendSlaveofNoone => self.promote(core),
            Step::WaitPromotion => {
                if self.step_is_late(core) {
                    self.abort(core, EventKind::AbortSlaveTimeout);
                }
            }
            Step::ReconfSlaves => self.reconfigure(core),
        }
    }

    fn step_is_late(&self, core: &Core) -> bool {
        age(core.now, self.failover.step_since) > self.settings.failover_timeout_ms
    }

    /// Gives up. What was sent is sent: a replica may become master all the same.
    fn abort(&mut self, core: &mut Core, kind: EventKind) {
        self.announce(core, kind);
        self.failover.forced = false;
        self.failover.enter(core.now, Step::None);
        if let Some(promoted) = self.failover.promoted.take()
            && let Some(replica) = self.replicas.get_mut(&promoted)
        {
            replica.promoted = false;
        }
    }

    fn wait_start(&mut self, core: &mut Core) {
        let leads = self.is_leader(core, self.failover.epoch);
        if leads || self.failover.forced {
            self.announce(core, EventKind::ElectedLeader);
            self.failover.enter(core.now, Step::SelectSlave);
            self.announce(core, EventKind::StateSelectSlave);
            return;
        }
        let timeout = ELECTION_TIMEOUT_MS.min(self.settings.failover_timeout_ms);
        if age(core.now, self.failover.started_at) > timeout {
            self.abort(core, EventKind::AbortNotElected);
        }
    }

    /// `sentinelSelectSlave`: priority, then offset, then run id, all by the last INFO.
    pub(super) fn best_replica(&self, now: Instant) -> Option<&Address> {
        let sdown = self.master.sdown;
        let down_for = if sdown { age(now, self.master.sdown_since) } else { 0 };
        let link_down_max = self.settings.down_after_ms.saturating_mul(10).saturating_add(down_for);
        let info_max = if sdown { 5 * PING_PERIOD_MS } else { 3 * INFO_PERIOD_MS };
        let good = |replica: &&Replica| {
            let instance = &replica.instance;
            !instance.sdown
                && instance.up
                && now.since(instance.last_ok) <= 5 * PING_PERIOD_MS
                && instance.priority != 0
                && age(now, instance.info_at) <= info_max
                && instance.link_down_ms <= i64::try_from(link_down_max).unwrap_or(i64::MAX)
        };
        let rank = |replica: &&Replica| {
            let instance = &replica.instance;
            let id = instance.run_id.as_deref();
            let offset = std::cmp::Reverse(instance.offset);
            (instance.priority, offset, id.is_none(), id.map(str::to_ascii_lowercase))
        };
        let best = self.replicas.values().filter(good).min_by_key(rank)?;
        Some(&best.instance.address)
    }

    fn select_slave(&mut self, core: &mut Core) {
        let Some(at) = self.best_replica(core.now).cloned() else {
            return self.abort(core, EventKind::AbortNoGoodSlave);
        };
        self.announce_replica(core, EventKind::SelectedSlave, &at);
        if let Some(replica) = self.replicas.get_mut(&at) {
            replica.promoted = true;
        }
        self.failover.enter(core.now, Step::SendSlaveofNoone);
        self.announce_replica(core, EventKind::StateSendSlaveofNoone, &at);
        self.failover.promoted = Some(at);
    }

    fn promote(&mut self, core: &mut Core) {
        let Some(at) = self.failover.promoted.clone() else { return };
        let Some(replica) = self.replicas.get_mut(&at) else { return };
        if replica.instance.up {
            replica.instance.send(core, Command::Promote);
            self.announce_replica(core, EventKind::StateWaitPromotion, &at);
            self.failover.enter(core.now, Step::WaitPromotion);
        } else if self.step_is_late(core) {
            self.abort(core, EventKind::AbortSlaveTimeout);
        }
    }

    /// The promoted replica says that it is master.
    pub(super) fn promoted(&mut self, core: &mut Core, at: &Address) {
        self.config_epoch = self.failover.epoch;
        self.failover.enter(core.now, Step::ReconfSlaves);
        core.flush();
        self.announce_replica(core, EventKind::PromotedSlave, at);
        self.announce(core, EventKind::StateReconfSlaves);
        // Everybody is told with the next tick.
        self.master.hello_sent_at = None;
        for replica in self.replicas.values_mut() {
            replica.instance.hello_sent_at = None;
        }
        for peer in self.peers.values_mut() {
            peer.instance.hello_sent_at = None;
        }
    }

    /// `sentinelFailoverReconfNextSlave`. Who is late is found only while a slot is free.
    fn reconfigure(&mut self, core: &mut Core) {
        let Some(promoted) = self.failover.promoted.clone() else { return };
        let slots = self.settings.parallel_syncs as usize;
        let mut busy = self.replicas.values().filter(|r| r.sent || r.in_progress).count();
        let mut events = Vec::new();
        for (at, replica) in &mut self.replicas {
            if busy >= slots {
                break;
            }
            if replica.promoted || replica.done {
                continue;
            }
            if replica.sent && core.now.since(replica.sent_at) > RECONF_TIMEOUT_MS {
                events.push((EventKind::SlaveReconfSentTimeout, at.clone()));
                replica.sent = false;
                replica.done = true;
            }
            if replica.sent || replica.in_progress || !replica.instance.up {
                continue;
            }
            replica.instance.send(core, Command::Follow { master: promoted.clone() });
            replica.sent = true;
            replica.sent_at = core.now;
            events.push((EventKind::SlaveReconfSent, at.clone()));
            busy += 1;
        }
        for (kind, at) in events {
            self.announce_replica(core, kind, &at);
        }
        self.detect_end(core, &promoted);
    }

    fn detect_end(&mut self, core: &mut Core, promoted: &Address) {
        // The known gap: not even the timeout ends it while the new master is down.
        if self.replicas.get(promoted).is_none_or(|replica| replica.instance.sdown) {
            return;
        }
        let undone = |r: &Replica| !r.promoted && !r.done && !r.instance.sdown;
        let late = self.step_is_late(core);
        if late {
            self.announce(core, EventKind::FailoverEndForTimeout);
        }
        if late || !self.replicas.values().any(undone) {
            self.announce(core, EventKind::FailoverEnd);
            self.failover.enter(core.now, Step::UpdateConfig);
        }
        if !late {
            return;
        }
        for replica in self.replicas.values_mut() {
            if !replica.promoted && !replica.done && !replica.sent && replica.instance.up {
                replica.instance.send(core, Command::Follow { master: promoted.clone() });
                replica.sent = true;
            }
        }
    }

    /// The end of a failover: only now the leader announces the switch.
    pub(super) fn switch_if_done(&mut self, core: &mut Core) {
        if self.failover.step != Step::UpdateConfig {
            return;
        }
        let to = self.failover.promoted.clone();
        let to = to.unwrap_or_else(|| self.settings.master.clone());
        self.announce_switch(core, &to);
        self.change_address(core, to);
    }

    pub(super) fn announce_switch(&self, core: &mut Core, to: &Address) {
        let from = &self.settings.master;
        let payload = format!("{} {} {} {} {}", self.name, from.host, from.port, to.host, to.port);
        core.announce(EventKind::SwitchMaster, Some(&self.name), payload);
    }
}
