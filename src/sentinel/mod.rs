//! The decision core: pure and deterministic. Time and input go in, effects come out.
//!
//! ```text
//! loop {
//!     sentinel.handle(clock, input);              // mutate
//!     while let Some(effect) = sentinel.poll() {  // drain to the end
//!         carry_out(effect);
//!     }
//!     wait_for(sentinel.deadline() or the next input);
//! }
//! ```
//!
//! Start reading at [`Sentinel::handle`], then `Group::step` in `group.rs`, the one place in which
//! all that is due is done. `election`, `failover`, `promote` and `repair` are the parts of that
//! step; `outbox` holds the rule *durable before said aloud*.

mod answer;
mod claims;
mod core;
mod double;
mod durable;
mod effect;
pub mod election;
mod entries;
mod event;
mod failover;
mod flap;
#[doc(hidden)]
pub mod fuzz;
mod group;
mod hand_over;
mod health;
pub mod hello;
mod info;
mod input;
mod live;
mod meet;
mod mutant;
mod news;
mod node;
mod origins;
mod outbox;
mod packed;
mod peer;
mod promote;
mod repair;
mod replicas;
mod request;
mod rights;
mod scripts;
mod settle;
mod signed;
mod simulate;
mod stall;
#[cfg(test)]
mod tests;
mod timers;
mod told;
mod tunables;
pub mod types;
mod view;

use std::collections::BTreeMap;

pub(crate) use double::NEW_ID;
pub use durable::{reconcile, reconcile_conf, reconcile_journal};
pub use effect::{Command, Effect, ScriptTimes, Target, TargetKind};
pub use event::{Event, EventKind, Level};
pub(crate) use hand_over::NO_HAND_OVER;
pub use input::{Input, LinkEvent, LostReason};
pub use live::reconcile_live;
pub(crate) use meet::TOLD_WRONG;
#[cfg(test)]
pub(crate) use mutant::{Guard, without};
pub(crate) use origins::{NOT_THE_MASTER, THE_MASTER};
pub(crate) use repair::{IF_THAT_IS_THE_MASTER, LEFT_ALONE};
pub use request::Request;
pub(crate) use rights::{FULL, MYID};
pub use tunables::Tunables;
pub use types::{Clock, Epoch, GroupName, Instant, LinkId, RequestId, Revision};
pub use view::{GroupView, NodeView, View};

use self::core::{Core, Owner};
use self::group::Group;
use self::rights::{Refusal, refusal_of_command};
use self::timers::{Subject, Timers};
use self::types::{Address, RunId};
use crate::config::by_name::ByName;
use crate::config::settings::{GroupSettings, LiveSettings, SentinelSettings};
use crate::config::state::{GroupState, State};
use crate::resp::Value;

/// One sentinel's mind: a function of settings, durable state, seed and the sequence of (clock,
/// input).
pub struct Sentinel {
    core: Core,
    groups: BTreeMap<GroupName, Group>,
    /// What must survive a crash of each group, as it was when the state was last handed out.
    remembered: ByName<GroupState>,
    /// See [`State::removed`].
    removed: ByName<GroupSettings>,
    /// What the configuration says of what `SENTINEL CONFIG SET` may change.
    declared_live: LiveSettings,
    timers: Timers,
    /// Groups that MONITOR added and that are announced after its reply.
    new_groups: Vec<(GroupName, GroupState)>,
}

impl Sentinel {
    /// A sentinel as it starts, with what [`reconcile`] made of configuration and memory. `seed`
    /// decides all that is left to chance. The state is written once at the start, so that a
    /// sentinel which cannot write knows it before it is needed.
    pub fn new(clock: Clock, settings: SentinelSettings, state: State, seed: u64) -> Sentinel {
        let State { my_id, current_epoch, groups, removed, live } = state;
        let declared_live = settings.live();
        let mut settings = settings;
        let loglevel = live.as_ref().map(|live| live.settings.loglevel);
        if let Some(live) = live {
            settings.set_live(live.settings);
        }
        let mut core = Core::new(clock, settings, my_id, current_epoch, seed);
        core.out.touch();
        if let Some(loglevel) = loglevel.filter(|level| *level != declared_live.loglevel) {
            core.out.emit(Effect::SetLogLevel(loglevel));
        }
        let mut sentinel = Sentinel {
            core,
            groups: BTreeMap::new(),
            remembered: ByName::new(),
            removed,
            declared_live,
            timers: Timers::default(),
            new_groups: Vec::new(),
        };
        for (name, state) in groups {
            sentinel.add_group(name, state);
        }
        sentinel
    }

    /// The only way in. Total: never an error, never a panic on any input. Drain
    /// [`poll`](Self::poll) afterwards.
    pub fn handle(&mut self, clock: Clock, input: Input) {
        self.hear(clock, input);
        while let Some(subject) = self.timers.pop_due(self.core.now()) {
            self.run(subject);
        }
        debug_assert!(self.groups.values().all(|group| group.is_shown(&self.core)));
    }

    /// Takes an input and decides nothing yet: more has come at the same time, and the last of it
    /// goes to [`Sentinel::handle`]. Whoever did not run for a while is to hear all that was said
    /// meanwhile before it calls anybody silent.
    pub fn hear(&mut self, clock: Clock, input: Input) {
        self.notice_stall(clock);
        self.core.clock = clock;
        match input {
            Input::Wake => {}
            Input::Link { link, event } => self.take_link_event(link, event),
            Input::Request { id, request } => self.answer(id, request),
            Input::Persisted { revision } => self.persisted(revision),
            Input::PersistFailed { revision, reason } => self.persist_failed(revision, reason),
        }
    }

    /// The next thing to do; `None` once all are taken.
    pub fn poll(&mut self) -> Option<Effect> {
        let Some(revision) = self.core.out.begin_write(self.core.now()) else {
            return self.core.out.pop();
        };
        let (state, whole) = (Box::new(self.state()), self.core.out.take_whole());
        Some(Effect::Persist { revision, state, whole })
    }

    /// When [`Input::Wake`] is due if nothing else happens before: often enough for a stall to be
    /// noticed even where nothing else is due.
    pub fn deadline(&self) -> Option<Instant> {
        let beat = self.core.now().plus(stall::BEAT_MS);
        Some(self.timers.first().map_or(beat, |first| first.min(beat)))
    }

    /// What can be read of this sentinel.
    pub fn view(&self) -> View<'_> {
        View::new(&self.core, &self.groups)
    }

    /// All that must survive a crash, as it is now. Of groups that have not changed it is what was
    /// handed out before.
    fn state(&mut self) -> State {
        for name in self.core.out.take_changed() {
            match self.groups.get(&name) {
                Some(group) => self.remembered.insert(name, group.state()),
                None => drop(self.remembered.remove(&name)),
            }
        }
        debug_assert!(self.remembers_all(), "a group has changed and was not marked");
        State {
            my_id: self.core.my_id.clone(),
            current_epoch: self.core.current_epoch,
            groups: self.remembered.clone(),
            removed: self.removed.clone(),
            live: self.live_state(),
        }
    }

    /// Whether what is remembered of the groups is what they are now.
    fn remembers_all(&self) -> bool {
        let mut both = self.groups.iter().zip(self.remembered.iter());
        self.groups.len() == self.remembered.len()
            && both.all(|((name, group), (of, state))| name == of && group.state() == *state)
    }

    fn add_group(&mut self, name: GroupName, state: GroupState) {
        self.core.note_scripts(&name, Some(&state.settings));
        let group = Group::new(&mut self.core, name.clone(), state);
        let payload =
            format!("{} quorum {}", group.master_details(&self.core), group.settings.quorum);
        self.core.announce(EventKind::Monitor, Some(&name), payload);
        self.groups.insert(name.clone(), group);
        self.core.out.mark(&name);
        self.touch(Subject::Group(name));
    }

    /// This subject's step is run before `handle` returns.
    fn touch(&mut self, subject: Subject) {
        self.timers.set(subject, Some(self.core.now()));
    }

    fn touch_groups_of(&mut self, peer: &RunId) {
        let groups = self.core.peers.get(peer).map(|link| link.groups.clone());
        for name in groups.unwrap_or_default() {
            self.touch(Subject::Group(name));
        }
    }

    fn run(&mut self, subject: Subject) {
        let next = match &subject {
            Subject::Group(name) => {
                self.groups.get_mut(name).and_then(|group| group.step(&mut self.core))
            }
            Subject::Peers => self.run_peers(),
            // Waking is all: `poll` begins the write.
            Subject::Write => None,
            Subject::Tilt => self.run_tilt(),
        };
        self.timers.set(subject, next);
        if self.core.has_new_peers() {
            self.touch(Subject::Peers);
        }
    }

    /// All links to peers in one step: there are as many as sentinels, and PINGs that are nearly
    /// due go out together.
    fn run_peers(&mut self) -> Option<Instant> {
        self.core.begin_step();
        let mut links = std::mem::take(&mut self.core.peers);
        for (id, link) in &mut links {
            link.tend(&mut self.core, id);
        }
        self.core.peers = links;
        self.await_double();
        self.core.end_step()
    }

    fn persisted(&mut self, revision: Revision) {
        let mut waiting = self.core.out.take_resting();
        let waits = |name: &GroupName| self.groups.get(name).is_some_and(|g| g.waits(&self.core));
        waiting.retain(waits);
        debug_assert!(
            self.groups.iter().filter(|(_, g)| g.waits(&self.core)).map(|(n, _)| n).eq(&waiting),
            "a group waits for the disk and is not known to"
        );
        if self.core.out.written(revision, self.core.now()) {
            self.core.say(Level::Notice, None, "My state can be written again");
        }
        self.timers.set(Subject::Write, None);
        for name in waiting {
            // It may wait for more.
            self.core.out.rests_on_disk(&name);
            self.touch(Subject::Group(name));
        }
    }

    fn persist_failed(&mut self, revision: Revision, reason: String) {
        let text = format!(
            "WARNING: Sentinel was not able to save the new configuration on disk!!!: {reason}. \
             It goes on watching and answering, but takes no part in elections until this is mended"
        );
        if self.core.out.write_failed(revision, reason, self.core.now()) {
            self.core.say(Level::Warning, None, text);
        }
        self.timers.set(Subject::Write, self.core.out.retry_at());
    }

    fn take_link_event(&mut self, link: LinkId, event: LinkEvent) {
        match self.core.links.get(&link).cloned() {
            None => {}
            Some(Owner::Node(node)) => self.take_node_event(&node.0, &node.1, event),
            Some(Owner::Peer(id)) => self.take_peer_event(id, event),
            Some(Owner::Double) => self.take_double_event(link, &event),
        }
    }

    fn take_node_event(&mut self, name: &GroupName, address: &Address, event: LinkEvent) {
        if let LinkEvent::Hello { payload } = event {
            if let Some(node) = self.groups.get_mut(name).and_then(|g| g.node_mut(address)) {
                node.heard(&self.core);
            }
            self.hear_hello(&payload);
            return;
        }
        let core = &mut self.core;
        let Some(group) = self.groups.get_mut(name) else { return };
        let quiet = group.quiet;
        let Some(node) = group.node_mut(address) else { return };
        match event {
            LinkEvent::Up { local_ip, remote_ip } => {
                core.local_ips.insert(local_ip.clone());
                let is_news = node.resolved.as_ref() != Some(&remote_ip);
                node.connected(core, local_ip, remote_ip);
                core.note_meaning(node.link(), node.meaning());
                if is_news && *address == group.master.address {
                    group.meet_followers();
                }
            }
            LinkEvent::Resolved { ips } => {
                node.looked_up = ips;
                core.note_meaning(node.link(), node.meaning());
                return;
            }
            LinkEvent::Down { reason } => {
                node.lost(core, &reason);
                core.origins.lost(name, address);
                let refusal = match &reason {
                    LostReason::Rejected(error) => Refusal::of(error),
                    LostReason::Untrusted(_) => Some(Refusal::Untrusted),
                    // That tells nothing: it makes nobody silent, and brings nobody back to life.
                    LostReason::OwnLimit(_) if node.sdown_since.is_none() => {
                        Some(Refusal::OwnLimit)
                    }
                    _ => None,
                };
                match (&reason, refusal) {
                    (LostReason::Rejected(error), None) => node.complain(core, name, error),
                    (LostReason::Unresolved(_), _) => {
                        node.complain(core, name, &reason.to_string());
                    }
                    _ => {}
                }
                if let Some(refusal) = refusal {
                    node.shut_out(core, name, refusal, Some(&reason));
                    group.note_right(core, address, "PING", Some(refusal));
                }
                let payload = format!("{} #{reason}", group.node_details(core, address));
                core.announce(EventKind::CmdLinkReconnection, Some(name), payload);
            }
            LinkEvent::Subscribed => {
                node.subscribed_since = Some(core.now());
                node.heard(core);
                group.note_right(core, address, "SUBSCRIBE", None);
            }
            LinkEvent::Unsubscribed { reason } => {
                node.subscribed_since = None;
                if let Some(refusal) = Refusal::of(&reason).filter(|why| why.is_of_command()) {
                    group.note_right(core, address, "SUBSCRIBE", Some(refusal));
                }
                let payload = format!("{} #{reason}", group.node_details(core, address));
                core.announce(EventKind::PubsubLinkReconnection, Some(name), payload);
            }
            LinkEvent::Reply { command, reply } => {
                let at = core.moment();
                let regular = matches!(command, Command::Ping | Command::Hello { .. });
                let down = node.sdown_since.is_some();
                node.health.replied(at);
                group.take_node_reply(core, address, &command, &reply);
                let late = group.node_mut(address).is_none_or(|node| node.is_late(at));
                if quiet && regular && !down && !late {
                    // Nothing hangs on it: the next step comes when something is due.
                    return;
                }
            }
            LinkEvent::Right { command, refused } => {
                let refusal = refused.as_deref().and_then(Refusal::of);
                return group.note_right(core, address, &command, refusal);
            }
            LinkEvent::Hello { .. } => {}
        }
        self.touch(Subject::Group(name.clone()));
    }

    fn take_peer_event(&mut self, id: RunId, event: LinkEvent) {
        let at = self.core.moment();
        let is_another = self.core.is_another(&id);
        let Some(link) = self.core.peers.get_mut(&id) else { return };
        match event {
            LinkEvent::Up { local_ip, .. } => {
                self.core.local_ips.insert(local_ip.clone());
                if let Some(mut link) = self.core.peers.remove(&id) {
                    link.connected(&mut self.core, local_ip);
                    self.core.peers.insert(id.clone(), link);
                }
            }
            LinkEvent::Down { .. } => link.health.lost(at),
            LinkEvent::Reply { command: Command::Ping, .. } if is_another => {
                link.health.replied(at);
                return;
            }
            LinkEvent::Reply { command: Command::AskId { .. }, reply } => {
                link.health.replied(at);
                return self.note_identity(&id, &reply);
            }
            LinkEvent::Reply { command: Command::Ping, reply } => {
                link.health.replied(at);
                // Only a silence long enough to have been noticed concerns the groups.
                let noticed = link.health.silent_ms(at) > link.down_after_ms;
                link.health.pong(at, &reply, false);
                let late = link.health.ping_is_late(at);
                let refusal = match Refusal::of_ping(&reply) {
                    Some(Refusal::NoAuth) => link.refusals.of("AUTH").or(Some(Refusal::NoAuth)),
                    refusal => refusal,
                };
                self.note_peer_right(&id, "PING", refusal);
                if !noticed {
                    if late {
                        self.touch(Subject::Peers);
                    }
                    return;
                }
            }
            LinkEvent::Reply { command, reply } => {
                link.health.replied(at);
                return self.take_peer_reply(&id, &command, &reply);
            }
            LinkEvent::Right { command, refused } => {
                let refusal = refused.as_deref().and_then(Refusal::of);
                return self.note_peer_right(&id, &command, refusal);
            }
            LinkEvent::Resolved { .. } => return,
            LinkEvent::Subscribed | LinkEvent::Unsubscribed { .. } | LinkEvent::Hello { .. } => {}
        }
        let groups = self.core.peers.get(&id).map(|link| link.groups.clone()).unwrap_or_default();
        for name in &groups {
            if let Some(peer) = self.groups.get_mut(name).and_then(|g| g.peers.get_mut(&id)) {
                peer.connection_changed();
            }
        }
        self.touch_groups_of(&id);
        self.touch(Subject::Peers);
    }

    fn take_peer_reply(&mut self, id: &RunId, command: &Command, reply: &Value) {
        let used = match command {
            Command::IsMasterDown { .. } | Command::AskVote { .. } => Some("SENTINEL"),
            Command::Hello { .. } => Some("PUBLISH"),
            _ => None,
        };
        if let Some(used) = used {
            self.note_peer_right(id, used, refusal_of_command(reply));
        }
        match command {
            Command::IsMasterDown { master, epoch, candidate } => {
                // Two groups may watch the same master.
                for name in self.core.claims.groups_at(master) {
                    let Some(group) = self.groups.get_mut(&name) else { continue };
                    group.take_opinion(
                        &self.core,
                        id,
                        (master, *epoch, candidate.is_some()),
                        reply,
                    );
                    self.touch(Subject::Group(name));
                }
            }
            Command::AskVote { master, .. } => {
                for name in self.core.claims.groups_at(master) {
                    let Some(group) = self.groups.get_mut(&name) else { continue };
                    group.take_last_vote(&self.core, id, master, reply);
                    self.touch(Subject::Group(name));
                }
            }
            Command::Hello { payload } => {
                let Ok(said) = hello::Hello::parse(signed::inner(payload)) else { return };
                let Some(group) = self.groups.get_mut(said.group.as_str()) else { return };
                let Some(peer) = group.peers.get_mut(id) else { return };
                peer.hello_in_flight = false;
                if self.core.now() >= peer.next_hello {
                    let name = group.name.clone();
                    self.touch(Subject::Group(name));
                }
            }
            _ => {}
        }
    }
}

impl Group {
    /// Whether something that it does next rests on the disk: an election on its votes, all else on
    /// its configuration.
    fn waits(&self, core: &Core) -> bool {
        self.election_epoch().is_some() || !core.out.is_durable(self.config_in)
    }

    /// A node answered.
    fn take_node_reply(
        &mut self,
        core: &mut Core,
        address: &Address,
        command: &Command,
        reply: &Value,
    ) {
        let name = self.name.clone();
        let Some(node) = self.node_mut(address) else { return };
        match command {
            Command::Ping => {
                let was_unwell =
                    std::mem::replace(&mut node.unwell, matches!(reply, Value::Error(_)));
                let refusal = node.refusal_of_ping(core, reply);
                let heard = core.holds(mutant::Guard::PongCounts);
                if heard && node.health.pong(core.moment(), reply, refusal.is_some()) {
                    node.rebooted_at = None;
                    node.complaint = None;
                    if was_unwell {
                        // What it was asked meanwhile was refused, too.
                        node.hasten_info();
                    }
                }
                match (refusal, reply) {
                    (Some(refusal), _) => node.shut_out(core, &name, refusal, None),
                    (None, Value::Error(error)) => node.complain(core, &name, error),
                    _ => {}
                }
                let busy = matches!(reply, Value::Error(error) if error.starts_with("BUSY"));
                if busy && node.sdown_since.is_some() && !node.script_killed {
                    node.script_killed = true;
                    node.health.send(core, Command::ScriptKill);
                }
                self.note_right(core, address, "PING", refusal);
            }
            Command::Info => {
                node.info_answered();
                self.note_right(core, address, "INFO", refusal_of_command(reply));
                match reply {
                    // LOADING, NOAUTH and the like: PING tells the same, and that is judged.
                    Value::Error(_) => {}
                    other => self.take_info(core, address, other.text()),
                }
            }
            Command::Hello { .. } => {
                node.hello_answered(core, reply);
                self.note_right(core, address, "PUBLISH", refusal_of_command(reply));
            }
            Command::Promote | Command::Follow { .. } => {
                self.take_transaction(core, address, reply)
            }
            Command::HoldWrites { epoch, .. } => self.take_hold(core, address, *epoch, reply),
            Command::HandOver { .. } => self.take_hand_over(core, reply),
            Command::IsMasterDown { .. }
            | Command::AskVote { .. }
            | Command::GiveUp(_)
            | Command::AskId { .. }
            | Command::ScriptKill
            | Command::FreeWrites
            | Command::HandedOver => {}
        }
    }
}
