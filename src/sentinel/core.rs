//! What all groups of one sentinel share: time, identity, epoch, links to peers, the way out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use super::claims::{Claims, GroupNode};
use super::double::Doubles;
use super::effect::{Command, Effect, Target, TargetKind};
use super::event::{Event, EventKind, Level};
use super::hello::GiveUp;
use super::mutant::{Guard, Guards};
use super::node::HELLO_PERIOD_MS;
use super::origins::Origins;
use super::outbox::Outbox;
use super::peer::PeerLink;
use super::signed::sign;
use super::tunables::Tunables;
use super::types::{
    Address, Chance, Clock, EPOCH_JUMP_MAX, EPOCH_LEAP, EPOCH_MAX, EPOCH_STRIDE_MAX,
    EPOCH_STRIDES_MAX, Epoch, GroupName, Instant, LinkId, RunId,
};
use crate::config::settings::{GroupSettings, HelloKey, SentinelSettings};

/// How long our own hellos from before our address changed may still be on their way, in ms.
const LAST_WORDS_MS: u64 = 3 * HELLO_PERIOD_MS;

/// Where all hellos are signed, who is not heard for so long, in ms, is none of us.
const UNHEARD_MS: u64 = 5 * HELLO_PERIOD_MS;

/// How long after a leap no other one is made, in ms, by a vote request and by the hello of one who
/// is known: who lags behind is faster than whoever leads others on.
const ASKED_LEAP_PAUSE_MS: u64 = 1_000;
const HEARD_LEAP_PAUSE_MS: u64 = 200;

/// Masters that go down for a quorum within so long, in ms, do so at once.
const ODOWNS_MS: u64 = 1_000;

/// Whose link it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    Node(GroupNode),
    Peer(RunId),
    /// The address that is said to have our id; see `double`.
    Double,
}

/// The two clocks of the core at one moment, for those who do not need the rest of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// See [`Core::watched`].
    pub(super) watched: Instant,
}

/// The shared part; a group's `step` gets it by the hand.
pub(super) struct Core {
    pub(super) clock: Clock,
    /// Total time during which this process did not run; see `stall`.
    pub(super) unwatched_ms: u64,
    /// While this lies ahead the sentinel has just woken from a stall and decides nothing.
    pub(super) tilt_until: Option<Instant>,
    pub(super) tilt_since: Option<Instant>,
    pub(super) my_id: RunId,
    pub(super) current_epoch: Epoch,
    pub(super) settings: SentinelSettings,
    /// See `tunables`.
    pub(super) tune: Tunables,
    /// See `simulate`: the bits of INFO's `sentinel_simulate_failure_flags`.
    pub(super) simulated: u8,
    guards: Guards,
    pub(super) out: Outbox,
    pub(super) chance: Chance,
    pub(super) links: BTreeMap<LinkId, Owner>,
    pub(super) peers: BTreeMap<RunId, PeerLink>,
    pub(super) claims: Claims,
    pub(super) origins: Origins,
    /// `notification-script` of each group that has one.
    pub(super) notified: BTreeMap<GroupName, PathBuf>,
    /// Links to peers were opened since [`Core::has_new_peers`] was last asked.
    opened: bool,
    /// Our own IPs on connections so far.
    pub(super) local_ips: BTreeSet<String>,
    /// Who else speaks with our id.
    pub(super) doubles: Doubles,
    /// Where other sentinels reached us before `SENTINEL CONFIG SET` changed that, and when it did.
    pub(super) moved_from: Option<(Address, Instant)>,
    /// Hello messages that were ignored because they are none.
    pub(super) bad_hellos: u64,
    /// Hello messages that were ignored since nobody signed them.
    pub(super) unsigned_hellos: u64,
    /// When the epoch last grew by more than elections make it grow.
    leapt_at: Option<Instant>,
    /// How often an epoch was heard that lies absurdly far ahead.
    absurd_epochs: u64,
    /// How many masters went down for a quorum within a second, and since when that is counted.
    odowns: (u32, Instant),
    /// The counter of our last signed hello.
    said: u64,
    next_link: u64,
    /// The earliest moment that the present step asked for; see [`Core::due`].
    alarm: Option<Instant>,
}

impl Core {
    pub(super) fn new(
        clock: Clock,
        settings: SentinelSettings,
        my_id: RunId,
        current_epoch: Epoch,
        seed: u64,
    ) -> Core {
        Core {
            clock,
            unwatched_ms: 0,
            tilt_until: None,
            tilt_since: None,
            my_id,
            current_epoch,
            settings,
            tune: Tunables::default(),
            simulated: 0,
            guards: Guards::new(),
            out: Outbox::new(Guards::new()),
            chance: Chance::new(seed),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            claims: Claims::default(),
            origins: Origins::default(),
            notified: BTreeMap::new(),
            opened: false,
            local_ips: BTreeSet::new(),
            doubles: Doubles::default(),
            moved_from: None,
            bad_hellos: 0,
            unsigned_hellos: 0,
            leapt_at: None,
            absurd_epochs: 0,
            odowns: (0, clock.mono),
            said: 0,
            next_link: 1,
            alarm: None,
        }
    }

    /// An id that nobody has: chance decides.
    pub(super) fn fresh_id(&mut self) -> RunId {
        RunId::from_bytes(std::array::from_fn(|_| self.chance.below(256) as u8))
    }

    /// True, unless a test has switched this guard off.
    pub(super) fn holds(&self, guard: Guard) -> bool {
        self.guards.hold(guard)
    }

    /// The monotonic clock: promises, votes and validity count by it.
    pub(super) fn now(&self) -> Instant {
        self.clock.mono
    }

    /// The clock that stands still while this process does not run. Silence of others counts by it:
    /// time not watched counts against nobody.
    pub(super) fn watched(&self) -> Instant {
        Instant::from_ms(self.clock.mono.as_ms() - self.unwatched_ms)
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { now: self.now(), watched: self.watched() }
    }

    /// A master went down for a quorum.
    pub(super) fn note_odown(&mut self) {
        let (count, since) = self.odowns;
        self.odowns = match self.now().since(since) > ODOWNS_MS {
            true => (1, self.now()),
            false => (count.saturating_add(1), since),
        };
    }

    /// How many did so of late, at the same time.
    pub(super) fn odowns(&self) -> u32 {
        let (count, since) = self.odowns;
        if self.now().since(since) > 2 * ODOWNS_MS { 0 } else { count }
    }

    /// True if `at` has come or will within `slack_ms`: regular work that can as well be done in a
    /// step that is under way anyway. If not, the step will be run again at `at`.
    pub(super) fn due_about(&mut self, at: Instant, slack_ms: u64) -> bool {
        self.now().plus(slack_ms) >= at || self.due(at)
    }

    /// True if `at` has come. If not, the step under way will be run again then: asking is all it
    /// takes to be woken.
    pub(super) fn due(&mut self, at: Instant) -> bool {
        let come = self.now() >= at;
        if !come {
            self.alarm = Some(self.alarm.map_or(at, |alarm| alarm.min(at)));
        }
        come
    }

    /// The same for a moment of the watched clock.
    pub(super) fn due_watched(&mut self, at: Instant) -> bool {
        self.due(at.plus(self.unwatched_ms))
    }

    /// True if somebody who has been silent since then has been so for longer than `ms`.
    pub(super) fn silent_beyond(&mut self, since: Option<Instant>, ms: u64) -> bool {
        let ms = if self.holds(Guard::DownAfter) { ms } else { ms / 4 };
        since.is_some_and(|since| self.due_watched(since.plus(ms.saturating_add(1))))
    }

    /// Forgets earlier wishes to be woken: a step begins.
    pub(super) fn begin_step(&mut self) {
        self.alarm = None;
    }

    /// When the step that ends wants to be run again.
    pub(super) fn end_step(&mut self) -> Option<Instant> {
        self.alarm.take()
    }

    pub(super) fn in_tilt(&self) -> bool {
        self.tilt_until.is_some() && self.holds(Guard::Tilt)
    }

    /// Tells everybody, in the order of events.
    pub(super) fn announce(
        &mut self,
        kind: EventKind,
        group: Option<&GroupName>,
        payload: impl Into<String>,
    ) {
        for effect in self.announcement(kind, group, payload.into()) {
            self.out.emit_in_order(effect);
        }
    }

    /// Tells everybody once all that was decided up to now is durable.
    pub(super) fn announce_durable(
        &mut self,
        kind: EventKind,
        group: Option<&GroupName>,
        payload: impl Into<String>,
    ) {
        for effect in self.announcement(kind, group, payload.into()) {
            self.out.emit_durable(effect);
        }
    }

    /// An event, and the operator's script that it is due to.
    fn announcement(
        &self,
        kind: EventKind,
        group: Option<&GroupName>,
        payload: String,
    ) -> impl Iterator<Item = Effect> + use<> {
        let script = group.and_then(|group| self.notification(kind, group, &payload));
        let event = Event { kind, group: group.cloned(), payload };
        std::iter::once(Effect::Announce(event)).chain(script)
    }

    /// Tells the log why.
    pub(super) fn say(&mut self, level: Level, group: Option<&GroupName>, text: impl Into<String>) {
        let (group, text) = (group.cloned(), text.into());
        self.out.emit_in_order(Effect::Say { level, group, text });
    }

    /// True for an epoch in which a vote may be asked for now.
    pub(super) fn may_be_asked_for(&self, epoch: Epoch) -> bool {
        self.reach(epoch, EPOCH_JUMP_MAX, ASKED_LEAP_PAUSE_MS) == epoch
    }

    /// How far we follow now to an epoch of which a sentinel says hello. One that we do not know
    /// yet (`is_new`) leads nobody far.
    pub(super) fn follow_to(&self, epoch: Epoch, is_new: bool) -> Epoch {
        if is_new {
            let reached = self.reach(epoch, EPOCH_JUMP_MAX, ASKED_LEAP_PAUSE_MS);
            return if reached == epoch { epoch } else { self.current_epoch };
        }
        let strides = epoch.saturating_sub(self.current_epoch) / EPOCH_STRIDE_MAX;
        if strides > EPOCH_STRIDES_MAX && self.holds(Guard::CredibleEpoch) {
            return self.current_epoch;
        }
        self.reach(epoch, EPOCH_STRIDE_MAX, HEARD_LEAP_PAUSE_MS)
    }

    /// How much of the way to this epoch may be gone now. All of it, unless it lies absurdly far
    /// ahead, or beyond a leap and the last one was made within `pause_ms`. So a few words lead
    /// nobody to the end of all epochs, and who was left behind gets there in steps.
    fn reach(&self, epoch: Epoch, most: Epoch, pause_ms: u64) -> Epoch {
        if !self.holds(Guard::CredibleEpoch) {
            return epoch;
        }
        let rests = self.leapt_at.is_some_and(|at| self.now().since(at) < pause_ms);
        let most = if rests { EPOCH_LEAP } else { most };
        epoch.min(self.current_epoch.saturating_add(most)).min(EPOCH_MAX)
    }

    /// Somebody speaks of an epoch that lies absurdly far from ours, or is none. `what`: the begin
    /// of the sentence.
    pub(super) fn count_absurd_epoch(&mut self, what: &str, epoch: impl Display) {
        self.absurd_epochs += 1;
        if self.absurd_epochs.is_power_of_two() {
            let text = format!(
                "{what} epoch {epoch}, which lies absurdly far from ours, {} ({} such so far)",
                self.current_epoch, self.absurd_epochs
            );
            self.say(Level::Warning, None, text);
        }
    }

    /// Takes over a newer epoch, of which this group brought word; an older one changes nothing.
    pub(super) fn adopt_epoch(&mut self, epoch: Epoch, of: &GroupName) {
        let newer = epoch > self.current_epoch;
        if epoch > self.current_epoch.saturating_add(EPOCH_LEAP) {
            self.leapt_at = Some(self.now());
        }
        if newer || (epoch < self.current_epoch && !self.holds(Guard::HigherEpochOnly)) {
            self.current_epoch = epoch;
            self.out.touch();
            let payload = epoch.to_string();
            // The event is of no group, but the script of this one is told.
            let script = self.notification(EventKind::NewEpoch, of, &payload);
            self.announce_durable(EventKind::NewEpoch, None, payload);
            script.into_iter().for_each(|script| self.out.emit_durable(script));
        }
    }

    /// Opens a link to a node of a group.
    pub(super) fn connect_node(
        &mut self,
        group: &GroupName,
        address: &Address,
        settings: &GroupSettings,
    ) -> LinkId {
        let target = Target {
            address: address.clone(),
            kind: TargetKind::Node,
            user: settings.auth_user.clone(),
            password: settings.auth_pass.clone(),
            rename_commands: Arc::new(settings.rename_commands.clone()),
            client_name: self.client_name(),
        };
        self.connect(Owner::Node(Arc::new((group.clone(), address.clone()))), target)
    }

    /// Opens a link to another sentinel.
    pub(super) fn connect_peer(&mut self, id: &RunId, address: &Address) -> LinkId {
        self.connect_sentinel(Owner::Peer(id.clone()), address)
    }

    /// Opens a link to whoever lives where our id was heard from.
    pub(super) fn connect_double(&mut self, address: &Address) -> LinkId {
        self.connect_sentinel(Owner::Double, address)
    }

    /// Without `sentinel-pass` the own `requirepass` is used.
    fn connect_sentinel(&mut self, owner: Owner, address: &Address) -> LinkId {
        let own = self.settings.sentinel_pass.as_ref();
        let target = Target {
            address: address.clone(),
            kind: TargetKind::Sentinel,
            user: own.and(self.settings.sentinel_user.clone()),
            password: own.or(self.settings.requirepass.as_ref()).cloned(),
            rename_commands: Arc::default(),
            client_name: self.client_name(),
        };
        self.connect(owner, target)
    }

    fn client_name(&self) -> String {
        format!("sentinel-{}", self.my_id.short())
    }

    fn connect(&mut self, owner: Owner, target: Target) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        if let Owner::Node(node) = &owner {
            self.claims.opened(node);
        }
        self.links.insert(link, owner);
        self.out.emit(Effect::Connect { link, target: Box::new(target) });
        link
    }

    /// Closes a link for good.
    pub(super) fn disconnect(&mut self, link: LinkId) {
        if let Some(Owner::Node(node)) = self.links.remove(&link) {
            self.claims.closed(link, &node);
            self.origins.lost(&node.0, &node.1);
        }
        self.out.emit(Effect::Disconnect { link });
    }

    /// Notes all IPs that the name of this link's node may mean.
    pub(super) fn note_meaning(&mut self, link: LinkId, ips: &[String]) {
        if let Some(Owner::Node(node)) = self.links.get(&link) {
            self.claims.means(link, node, ips);
        }
    }

    /// Sends at once: questions show nothing that would have to be durable.
    pub(super) fn send(&mut self, link: LinkId, command: Command) {
        self.out.emit(Effect::Send { link, command });
    }

    /// Sends what shows an epoch or a configuration of this group: once that is durable.
    pub(super) fn send_durable(&mut self, link: LinkId, group: &GroupName, command: Command) {
        self.out.emit_durable_of(group, Effect::Send { link, command }, None);
    }

    /// Counts a question of this group for a peer and sends it once what it shows is durable.
    pub(super) fn send_peer(&mut self, id: &RunId, group: &GroupName, command: Command) {
        if let Some(link) = self.peers.get_mut(id) {
            link.health.pending += 1;
            let link = link.health.link;
            self.out.emit_durable_of(group, Effect::Send { link, command }, None);
        }
    }

    /// Counts a question for a peer and sends it at once.
    pub(super) fn send_peer_now(&mut self, id: &RunId, command: Command) {
        if let Some(link) = self.peers.get_mut(id) {
            link.health.pending += 1;
            let link = link.health.link;
            self.send(link, command);
        }
    }

    /// The texts in which a hello is said: plain, and signed where there is a secret.
    pub(super) fn as_said(&mut self, payload: String) -> Vec<String> {
        let Some(HelloKey { secret, signed_only, .. }) = &self.settings.hello_key else {
            return vec![payload];
        };
        self.said = self.clock.wall_ms.max(self.said + 1);
        let signed = sign(secret, self.said, &payload);
        if *signed_only { vec![signed] } else { vec![payload, signed] }
    }

    /// The commands by which peers are told that we gave up an election.
    pub(super) fn give_up_as_said(&mut self, given_up: &GiveUp) -> Vec<Command> {
        let texts = self.as_said(given_up.payload());
        let plain = given_up.payload();
        let command = |payload: String| match payload == plain {
            true => Command::GiveUp(given_up.clone()),
            false => Command::Hello { payload },
        };
        texts.into_iter().map(command).collect()
    }

    /// True for a sentinel that says no hello which we may believe, where all are signed: it has
    /// another secret, or none. It could learn nothing from us, nor we from it, so it is neither
    /// voted for nor counted.
    pub(super) fn is_unheard(&mut self, last_hello: Instant) -> bool {
        let signed_only = self.settings.hello_key.as_ref().is_some_and(|key| key.signed_only);
        signed_only && self.due(last_hello.plus(UNHEARD_MS))
    }

    /// Somebody else answers where this sentinel should: nothing that is said there is its word.
    pub(super) fn is_another(&self, id: &RunId) -> bool {
        let other = self.peers.get(id).is_some_and(|link| link.other.is_some());
        other && self.holds(Guard::PeerIsItself)
    }

    /// A group knows this peer: the link to it is opened, or shared if another group has it.
    pub(super) fn join_peer(
        &mut self,
        id: &RunId,
        address: &Address,
        group: &GroupName,
        down_after_ms: u64,
    ) {
        if !self.peers.contains_key(id) {
            let link = PeerLink::new(self, id, address.clone());
            self.peers.insert(id.clone(), link);
            self.opened = true;
        }
        if let Some(link) = self.peers.get_mut(id) {
            link.groups.insert(group.clone());
            link.down_after_ms = link.down_after_ms.min(down_after_ms);
        }
    }

    /// True if links to peers were opened since the last call: their PINGs have to be set going.
    pub(super) fn has_new_peers(&mut self) -> bool {
        std::mem::take(&mut self.opened)
    }

    /// A group forgets this peer; without any group left its link is closed.
    pub(super) fn leave_peer(&mut self, id: &RunId, group: &GroupName) {
        let Some(link) = self.peers.get_mut(id) else { return };
        link.groups.remove(group);
        if link.groups.is_empty() {
            let link = link.health.link;
            self.peers.remove(id);
            self.disconnect(link);
        }
    }

    /// Where other sentinels reach us, seen from a connection with this local address.
    pub(super) fn own_address(&self, local_ip: &str) -> Address {
        Address::new(self.own_host().unwrap_or(local_ip), self.settings.hello_port())
    }

    /// What is said to others instead of what a connection tells.
    fn own_host(&self) -> Option<&str> {
        self.settings.announce_ip.as_deref().filter(|host| !host.is_empty())
    }

    /// False where we listen on no port: then a hello would lead nobody to us.
    pub(super) fn is_reachable(&self) -> bool {
        self.settings.hello_port() != 0
    }

    /// True if a hello to this peer makes sense.
    pub(super) fn greets(&self, id: &RunId) -> bool {
        self.is_reachable() && self.peers.get(id).is_some_and(|link| link.health.up)
    }

    /// False until a connection has told our address, where none is announced.
    pub(super) fn knows_own_address(&self) -> bool {
        self.own_host().is_some() || !self.local_ips.is_empty()
    }

    /// True if other sentinels reach us at this address.
    pub(super) fn is_own_address(&self, address: &Address) -> bool {
        self.is_at(self.own_host(), self.settings.hello_port(), address)
    }

    /// True if they did until a moment ago: our own words from then are still heard.
    pub(super) fn was_own_address(&self, address: &Address) -> bool {
        self.moved_from.as_ref().is_some_and(|(shown, at)| {
            let host = Some(&*shown.host).filter(|host| !host.is_empty());
            self.now().since(*at) < LAST_WORDS_MS && self.is_at(host, shown.port, address)
        })
    }

    /// `host`: what is announced; `None` where connections tell.
    fn is_at(&self, host: Option<&str>, port: u16, address: &Address) -> bool {
        let same = match host {
            Some(host) => host == address.host,
            None => self.local_ips.contains(&address.host),
        };
        same && port == address.port
    }

    /// The host as it is shown: what the name was resolved to, or the name where
    /// `announce-hostnames` is on or nothing is resolved yet.
    pub(super) fn shown_host<'a>(
        &self,
        address: &'a Address,
        resolved: Option<&'a str>,
    ) -> &'a str {
        match resolved {
            Some(ip) if !self.settings.announce_hostnames => ip,
            _ => &address.host,
        }
    }
}
