//! A model of a stock Redis Sentinel 7.0, in the shape of the real core, so that a host can hold
//! either. It keeps the rules of Redis's `sentinel.c` and its known defects; it is there to be
//! mixed into quorums and to be shown failing, not to be run.
//!
//! A timer drives everything, 10 to 19 times a second as chance will have it: see [`Stock::tick`].
//! What differs from the original on purpose:
//!
//! * each group has a link of its own to each peer;
//! * a host reconnects links, and command link and subscription are only reopened together;
//! * garbage for an id is refused in hellos, though not in vote requests, and our own id too;
//! * a host name is looked up by the link that connects, and by nobody else;
//! * scripts and the event `+slave-reconf-sent-be` do not exist.

mod answer;
mod core;
mod failover;
mod group;
mod hello;
mod info;
mod instance;
#[cfg(test)]
mod tests;
mod vote;

use std::collections::BTreeMap;

use self::core::{Core, Whom};
use self::group::Group;
use crate::config::by_name::ByName;
use crate::config::settings::{GroupSettings, SentinelSettings};
use crate::config::state::State;
use crate::resp::Value;
use crate::sentinel::{
    Clock, Command, Effect, EventKind, GroupName, Input, Instant, LinkEvent, LinkId, Revision,
};

/// Two runs of the timer further apart than this begin TILT, in ms.
const TILT_TRIGGER_MS: u64 = 2_000;
/// How long TILT lasts, in ms.
const TILT_MS: u64 = 30_000;

/// One stock sentinel.
pub(super) struct Stock {
    core: Core,
    groups: BTreeMap<GroupName, Group>,
    removed: ByName<GroupSettings>,
    revision: u64,
    last_tick: Instant,
    next_tick: Instant,
    tilt_since: Instant,
}

impl Stock {
    pub(super) fn new(clock: Clock, settings: SentinelSettings, state: State, seed: u64) -> Stock {
        let core = Core::new(clock.mono, settings, state.my_id, state.current_epoch, seed);
        let mut stock = Stock {
            core,
            groups: BTreeMap::new(),
            removed: state.removed,
            revision: 0,
            last_tick: clock.mono,
            next_tick: clock.mono,
            tilt_since: clock.mono,
        };
        for (name, state) in state.groups {
            // Redis does the same when it reads `config-epoch`.
            stock.core.current_epoch = stock.core.current_epoch.max(state.config_epoch);
            stock.add_group(name, state);
        }
        stock
    }

    /// Takes what was read first and runs the timer then, as an event loop does that comes back.
    pub(super) fn handle(&mut self, clock: Clock, input: Input) {
        self.core.now = clock.mono;
        match input {
            // Redis writes synchronously, and where it fails, it only logs that.
            Input::Wake | Input::Persisted { .. } | Input::PersistFailed { .. } => {}
            Input::Link { link, event } => self.take_link_event(link, event),
            Input::Request { id, request } => self.answer(id, request),
        }
        if self.core.now >= self.next_tick {
            self.tick();
        }
    }

    /// The next thing to do. What is written is the state after the whole input, a little more
    /// than Redis writes in the middle of it.
    pub(super) fn poll(&mut self) -> Option<Effect> {
        if !std::mem::take(&mut self.core.unwritten) {
            return self.core.out.pop_front();
        }
        self.revision += 1;
        let revision = Revision(self.revision);
        Some(Effect::Persist { revision, state: Box::new(self.state()), whole: true })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.next_tick)
    }

    #[cfg(test)]
    pub(super) fn current_epoch(&self) -> crate::sentinel::Epoch {
        self.core.current_epoch
    }

    /// `sentinelTimer`
    fn tick(&mut self) {
        let now = self.core.now;
        self.check_tilt();
        for group in self.groups.values_mut() {
            group.tick(&mut self.core);
        }
        for group in self.groups.values_mut() {
            group.switch_if_done(&mut self.core);
        }
        self.last_tick = now;
        self.next_tick = now.plus(1_000_u64.div_ceil(10 + self.core.chance.below(10)));
    }

    fn check_tilt(&mut self) {
        let now = self.core.now;
        if now.since(self.last_tick) > TILT_TRIGGER_MS {
            self.core.tilt = true;
            self.tilt_since = now;
            self.core.announce(EventKind::Tilt, None, "#tilt mode entered".into());
        }
        if self.core.tilt && now.since(self.tilt_since) >= TILT_MS {
            self.core.tilt = false;
            self.core.announce(EventKind::TiltEnd, None, "#tilt mode exited".into());
        }
    }

    /// The content of the configuration file, so to speak.
    fn state(&self) -> State {
        State {
            my_id: self.core.my_id.clone(),
            current_epoch: self.core.current_epoch,
            groups: self.groups.iter().map(|(name, g)| (name.to_string(), g.state())).collect(),
            removed: self.removed.clone(),
            live: None,
        }
    }

    fn take_link_event(&mut self, link: LinkId, event: LinkEvent) {
        let Some(owner) = self.core.links.get(&link).cloned() else { return };
        let core = &mut self.core;
        let Some(group) = self.groups.get_mut(&owner.group) else { return };
        let Some(instance) = group.instance_mut(&owner.whom) else { return };
        match event {
            LinkEvent::Up { local_ip, .. } => instance.came_up(core, local_ip),
            LinkEvent::Resolved { .. } | LinkEvent::Right { .. } => {}
            LinkEvent::Down { .. } => instance.went_down(),
            LinkEvent::Subscribed => instance.subscribed(core.now),
            LinkEvent::Unsubscribed { .. } => instance.unsubscribed(),
            LinkEvent::Hello { payload } => {
                instance.heard_at = core.now;
                // Our own hellos come back; they only show that the subscription lives.
                if !payload.contains(core.my_id.as_str()) {
                    self.hear(&payload);
                }
            }
            LinkEvent::Reply { command, reply } => {
                instance.pending = instance.pending.saturating_sub(1);
                match command {
                    Command::Ping => instance.pong(core, &reply),
                    Command::Hello { .. } if !matches!(reply, Value::Error(_)) => {
                        instance.hello_sent_at = Some(core.now);
                    }
                    Command::Info if !matches!(reply, Value::Error(_)) => {
                        if let Some(text) = reply.text() {
                            group.take_info(core, &owner.whom, text);
                        }
                    }
                    Command::IsMasterDown { .. } => {
                        if let Whom::Peer(id) = &owner.whom {
                            group.take_opinion(core, id, &reply);
                        }
                    }
                    // The replies to a transaction are not looked at; INFO will tell.
                    _ => {}
                }
            }
        }
    }
}
