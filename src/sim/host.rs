//! A sentinel process: the real core, and a model of the daemon around it: links that reconnect,
//! sessions of those who ask, a disk, a clock that drifts.

mod overhear;
mod sessions;

use std::collections::{BTreeMap, VecDeque};

use super::ambush::Ambush;
use super::checkers::{Ear, Hellos, Said, followed_in, is_weighed};
use super::clock::Skewed;
use super::dice::Dice;
use super::disk::{Disk, Memory};
use super::net::Net;
use super::rules::Rule;
use super::sabotage::{EAGER_DISK_MS, Sabotage, tamper};
use super::stock::Stock;
use super::watch::Watch;
use super::wire::{Ask, ConnId, Ms, News, Packet, Proc, Purpose, Timer};
use super::words::told;
use crate::config::settings::{GroupSettings, SentinelSettings};
use crate::config::state::State;
use crate::resp::Value;
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{
    Clock, Command, Effect, Input, Instant, LinkEvent, LinkId, LostReason, Request, RequestId,
    Revision, Sentinel, Target, TargetKind, reconcile,
};

/// Unix time at which the world begins, in ms.
const WALL_BEGIN_MS: u64 = 1_700_000_000_000;
/// So many wake-ups within one ms mean that a core turns in circles.
const SPIN_MAX: u32 = 50;

/// How the daemons of this run behave.
#[derive(Debug, Clone)]
pub(super) struct HostShape {
    /// A connection that does not stand after so long is tried anew, in ms.
    pub(super) connect_ms: Ms,
    /// The first pause before a reconnection, and the longest, in ms.
    pub(super) backoff_ms: (Ms, Ms),
    /// Clocks run so many millionths too fast or too slow at most.
    pub(super) drift_ppm: u64,
}

/// What decides: the core that ships, or the model of a stock sentinel.
enum Mind {
    Ours(Box<Sentinel>),
    Stock(Box<Stock>),
}

impl Mind {
    fn handle(&mut self, clock: Clock, input: Input) {
        match self {
            Mind::Ours(core) => core.handle(clock, input),
            Mind::Stock(stock) => stock.handle(clock, input),
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        match self {
            Mind::Ours(core) => core.poll(),
            Mind::Stock(stock) => stock.poll(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Mind::Ours(core) => core.deadline(),
            Mind::Stock(stock) => stock.deadline(),
        }
    }
}

/// One connection of a link.
#[derive(Debug, Default)]
struct Wire {
    conn: Option<ConnId>,
    up: bool,
    failures: u32,
    unanswered: VecDeque<Command>,
}

/// A link as the daemon keeps it.
#[derive(Debug)]
struct Link {
    target: Box<Target>,
    /// Its address, as it is to be read.
    known_as: Address,
    commands: Wire,
    subscription: Wire,
    ear: Ear,
}

impl Link {
    fn wire(&mut self, subscription: bool) -> &mut Wire {
        if subscription { &mut self.subscription } else { &mut self.commands }
    }
}

/// Somebody who asks us over a connection: one request at a time, in order.
#[derive(Debug, Default)]
struct Session {
    queue: VecDeque<Ask>,
    busy: bool,
}

/// A request that the core has not answered yet.
struct Asked {
    request: Request,
    conn: Option<ConnId>,
}

/// One sentinel process.
pub(super) struct Host {
    pub(super) proc: Proc,
    number: usize,
    shape: HostShape,
    settings: SentinelSettings,
    declared: BTreeMap<String, GroupSettings>,
    id: RunId,
    clock: Skewed,
    /// How far its wall clock is off, in ms; it decides nothing.
    pub(super) wall_off_ms: i64,
    dice: Dice,
    pub(super) disk: Disk,
    mind: Option<Mind>,
    links: BTreeMap<LinkId, Link>,
    conns: BTreeMap<ConnId, (LinkId, bool)>,
    sessions: BTreeMap<ConnId, Session>,
    asked: BTreeMap<RequestId, Asked>,
    next_request: u64,
    answer: Option<Value>,
    /// The world asks, which is no part of the run.
    probed: bool,
    inputs: VecDeque<Input>,
    /// What was heard over links that are closed, and the last hello of everybody.
    ears: BTreeMap<Address, Ear>,
    hellos: Hellos,
    /// When the last two writes began.
    writes: [Ms; 2],
    /// What goes out now may have been decided so long ago, in ms.
    waited_ms: Ms,
    /// Since when it has been writing without a pause, or was stopped: what it writes next was
    /// decided since then.
    busy_since: Option<Ms>,
    /// A hello that is due in answer to the present input.
    debt: Option<(LinkId, String)>,
    /// When a wake-up is under way, and its token; an earlier one replaces it.
    alarm: Option<Ms>,
    alarm_token: u64,
    spins: (Ms, u32),
    /// With the number of the fault that set it.
    pub(super) ambush: Option<(usize, Ambush)>,
    doomed: bool,
    sabotage: Option<Sabotage>,
    /// It follows Redis's rules, and not ours.
    pub(super) stock: bool,
}

impl Host {
    pub(super) fn new(
        number: usize,
        settings: SentinelSettings,
        declared: BTreeMap<String, GroupSettings>,
        shape: HostShape,
        seed: u64,
        sabotage: Option<Sabotage>,
    ) -> Host {
        let mut dice = Dice::new(seed, &format!("sentinel {number}"));
        let drift = dice.below(2 * shape.drift_ppm + 1) as i64 - shape.drift_ppm as i64;
        Host {
            proc: Proc::Sentinel(number),
            number,
            shape,
            settings,
            declared,
            id: dice.run_id(),
            clock: Skewed { begin_ms: dice.below(1 << 32), ppm: drift },
            wall_off_ms: 0,
            disk: Disk::new(Dice::new(seed, &format!("disk {number}"))),
            dice,
            mind: None,
            links: BTreeMap::new(),
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_request: 1,
            answer: None,
            probed: false,
            inputs: VecDeque::new(),
            ears: BTreeMap::new(),
            hellos: Hellos::default(),
            writes: [0; 2],
            waited_ms: 0,
            busy_since: None,
            debt: None,
            alarm: None,
            alarm_token: 0,
            spins: (0, 0),
            ambush: None,
            doomed: false,
            sabotage,
            stock: false,
        }
    }

    /// Begins a life with what the disk remembers. Without a state file it is a new sentinel.
    pub(super) fn start(&mut self, net: &mut Net, watch: &mut Watch) {
        let forgets = self.sabotage == Some(Sabotage::Amnesia);
        let remembered = self.disk.content().filter(|_| !forgets).cloned();
        if remembered.is_none() && !forgets {
            self.id = self.dice.run_id();
        }
        let (state, _) = reconcile(self.declared.clone(), remembered, self.id.clone());
        if self.disk.content().is_none() || forgets {
            self.disk.install(state.clone());
        }
        watch.story.introduce(&state.my_id, &self.proc);
        if let Some(disk) = self.read_disk(net)
            && !self.stock
        {
            watch.checkers.started(&self.speaker(net.now(), &disk));
        }
        let seed = self.dice.number();
        let (now, settings) = (self.now(net), self.settings.clone());
        self.mind = Some(match self.stock {
            false => Mind::Ours(Box::new(Sentinel::new(now, settings, state, seed))),
            true => Mind::Stock(Box::new(Stock::new(now, settings, state, seed))),
        });
        self.inputs.push_back(Input::Wake);
        self.run(net, watch);
    }

    /// Its file names this master from the next start on.
    pub(super) fn declare_master(&mut self, group: &str, master: Address) {
        if let Some(settings) = self.declared.get_mut(group) {
            settings.master = master;
        }
    }

    /// Its disk comes to hold something else; it does not run.
    pub(super) fn tamper_with_memory(&mut self, memory: Memory, watch: &mut Watch) {
        self.disk.tamper(memory);
        if memory != Memory::Kept {
            watch.checkers.excuse(self.number);
        }
        if let (Memory::Old, Some(state)) = (memory, self.disk.content()) {
            watch.checkers.put_back(state);
        }
    }

    /// Its disk comes to hold a copy of another sentinel's files; it does not run.
    pub(super) fn get_files(&mut self, files: Option<State>, watch: &mut Watch) {
        if let Some(state) = files {
            watch.checkers.excuse(self.number);
            watch.checkers.cloned(&state.my_id);
            self.disk.install(state);
        }
    }

    /// Ends it: all that was not on disk is gone.
    pub(super) fn crash(&mut self) {
        self.mind = None;
        self.disk.crash();
        self.links.clear();
        self.conns.clear();
        self.sessions.clear();
        self.asked.clear();
        self.inputs.clear();
        self.ears.clear();
        self.hellos = Hellos::default();
        self.waited_ms = 0;
        self.busy_since = None;
        self.alarm = None;
        self.alarm_token += 1;
        self.ambush = None;
        self.doomed = false;
    }

    /// Its id, as its disk has it.
    pub(super) fn id(&self) -> &RunId {
        self.disk.content().map_or(&self.id, |state| &state.my_id)
    }

    /// It was stopped in the middle of something, and goes on with it.
    pub(super) fn go_on(&mut self, net: &mut Net, watch: &mut Watch) {
        self.inputs.push_back(Input::Wake);
        self.run(net, watch);
    }

    /// It was only to be stopped: what it wanted still goes out once it goes on.
    pub(super) fn spare(&mut self, now: Ms) {
        self.busy_since.get_or_insert(now);
        self.doomed = false;
        self.ambush = None;
        self.waited_ms = Ms::MAX;
    }

    /// What it says now was decided before it was stopped.
    pub(super) fn was_stopped(&self) -> bool {
        self.waited_ms == Ms::MAX
    }

    /// True once the crash that lay in ambush is due; the world carries it out.
    pub(super) fn doomed(&self) -> bool {
        self.doomed
    }

    /// What comes to it.
    pub(super) fn take(&mut self, net: &mut Net, watch: &mut Watch, news: News) {
        match news {
            News::Packet(conn, packet) => self.packet(net, conn, packet),
            News::Lost(conn, reason) => self.lost(net, conn, reason),
            News::Timer(Timer::Wake { token }) if token == self.alarm_token => {
                self.alarm = None;
                let deadline = self.mind.as_ref().and_then(Mind::deadline);
                if deadline.is_some_and(|deadline| deadline <= self.clock.at(net.now())) {
                    self.count_spins(net.now(), watch);
                    self.inputs.push_back(Input::Wake);
                }
            }
            News::Timer(Timer::Redial { link, subscription }) => {
                self.dial(net, LinkId(link), subscription);
            }
            News::Timer(Timer::Disk) => self.disk_finished(watch, net.now()),
            News::Timer(_) => {}
        }
        self.run(net, watch);
    }

    /// Asks the core as if over a connection of our own; `None` if it does not answer at once.
    pub(super) fn ask(
        &mut self,
        net: &mut Net,
        watch: &mut Watch,
        request: Request,
    ) -> Option<Value> {
        self.submit(request, None);
        self.answer = None;
        self.probed = true;
        self.run(net, watch);
        self.probed = false;
        self.answer.take()
    }

    /// True if it has decided something that is not on its disk, and so not announced, yet.
    pub(super) fn has_unwritten(&self) -> bool {
        let Some(Mind::Ours(core)) = &self.mind else { return false };
        let decided = Some(core.view().current_epoch());
        let written = self.disk.content().map(|state| state.current_epoch);
        decided != written || !self.disk.is_settled()
    }

    fn now(&self, net: &Net) -> Clock {
        let wall_ms = (WALL_BEGIN_MS + net.now()).saturating_add_signed(self.wall_off_ms);
        Clock { mono: self.clock.at(net.now()), wall_ms }
    }

    fn count_spins(&mut self, now: Ms, watch: &mut Watch) {
        let (at, count) = self.spins;
        self.spins = (now, if at == now { count + 1 } else { 1 });
        if self.spins.1 == SPIN_MAX {
            let how = format!("sentinel {} asks to be woken at once", self.number);
            watch.checkers.fail(now, Rule::NoCircles, how);
        }
    }

    fn disk_finished(&mut self, watch: &mut Watch, now: Ms) {
        let Some((revision, result)) = self.disk.finish() else { return };
        if self.sabotage == Some(Sabotage::EagerDisk) {
            return;
        }
        self.inputs.push_back(match result {
            Ok(()) => {
                let done = || format!("revision {} is on disk", revision.0);
                watch.story.tell(now, &self.proc, done);
                Input::Persisted { revision }
            }
            Err(reason) => {
                watch.story.tell(now, &self.proc, || format!("cannot write: {reason}"));
                Input::PersistFailed { revision, reason }
            }
        });
    }

    /// Feeds the core and carries out what it wants, until both have nothing left.
    fn run(&mut self, net: &mut Net, watch: &mut Watch) {
        while let Some(input) = self.inputs.pop_front() {
            let clock = self.now(net);
            self.overhear(net, watch, &input);
            let debt = self.debt(&input);
            let Some(mind) = &mut self.mind else { return };
            if let Input::Persisted { .. } | Input::PersistFailed { .. } = input {
                self.waited_ms = self.waited_ms.max(net.now() - self.writes[1]);
            }
            watch.inputs += 1;
            mind.handle(clock, input);
            self.debt = debt;
            while let Some(effect) = self.mind.as_mut().and_then(Mind::poll) {
                let Some(sabotage) = self.sabotage else {
                    if !self.act(net, watch, effect) {
                        return;
                    }
                    continue;
                };
                for effect in tamper(sabotage, net.now(), effect) {
                    if !self.act(net, watch, effect) {
                        return;
                    }
                }
            }
            self.waited_ms = 0;
            if self.disk.is_settled() {
                self.busy_since = None;
                self.demand_debt(net.now(), watch);
                self.look(net, watch);
            }
        }
        self.set_alarm(net);
    }

    /// Carries out one effect. False if the process dies of it.
    fn act(&mut self, net: &mut Net, watch: &mut Watch, effect: Effect) -> bool {
        let trap = self.ambush.map(|(_, ambush)| ambush).filter(|a| a.moment.is(&effect));
        if trap.is_some_and(|ambush| !ambush.after) {
            self.doomed = true;
            return false;
        }
        self.observe(net, watch, &effect);
        match effect {
            // A stock sentinel waits for its disk, and goes on without it where it fails.
            Effect::Persist { state, .. } if self.stock => {
                if !self.disk.failing {
                    self.disk.install(*state);
                }
            }
            Effect::Persist { revision: of, state, .. } => match self.write(net.now(), of, state) {
                None => {
                    let how = format!("sentinel {} begins another", self.number);
                    watch.checkers.fail(net.now(), Rule::OneWriteAtATime, how);
                }
                Some(_) if self.sabotage == Some(Sabotage::EagerDisk) => {
                    self.inputs.push_back(Input::Persisted { revision: of });
                    net.timer(self.proc, EAGER_DISK_MS, Timer::Disk);
                }
                Some(ms) => {
                    self.busy_since.get_or_insert(net.now());
                    net.timer(self.proc, ms, Timer::Disk);
                }
            },
            Effect::Connect { link, target } => self.connect(net, link, target),
            Effect::Disconnect { link } => self.disconnect(net, link),
            Effect::Send { link, command } => self.send(net, link, command),
            Effect::Reply { id, reply } => self.reply(net, id, reply),
            Effect::Crash => self.doomed = true,
            Effect::Announce(_) | Effect::Say { .. } | Effect::SetLogLevel(_) => {}
            // No group of these worlds has any.
            Effect::Show { .. } | Effect::RunScript { .. } | Effect::TimeScripts(_) => {}
        }
        if trap.is_some() {
            self.doomed = true;
        }
        !self.doomed
    }

    fn write(&mut self, now: Ms, revision: Revision, state: Box<State>) -> Option<Ms> {
        self.writes = [now, self.writes[0]];
        if self.sabotage == Some(Sabotage::EagerDisk) {
            self.disk.finish();
        }
        self.disk.write(revision, state)
    }

    /// Shows an effect to the checkers, the fingerprint and the story.
    fn observe(&mut self, net: &Net, watch: &mut Watch, effect: &Effect) {
        let now = net.now();
        watch.effects += 1;
        if let Effect::Send { link, command: Command::Ping | Command::Info } = effect {
            watch.print.count(now, self.number as u64, link.0);
            return;
        }
        if let Effect::Send { link, command: Command::Hello { payload } } = effect {
            watch.print.count(now, self.number as u64, link.0);
            watch.print.bytes(payload.as_bytes());
        } else if !matches!(effect, Effect::Reply { .. }) || !self.probed {
            watch.print.effect(now, self.number as u64, effect);
        }
        let link = match effect {
            Effect::Send { link, .. } => self.links.get(link),
            _ => None,
        };
        let to = link.map(|link| &link.known_as);
        let receiver = link.and_then(|link| net.other_end(self.proc, link.commands.conn?));
        let question = match effect {
            Effect::Reply { id, .. } => self.asked.get(id).map(|asked| &asked.request),
            _ => None,
        };
        let read = net.shown.effect(effect);
        if let Some(disk) = self.read_disk(net) {
            let speaker = self.speaker(now, &disk);
            if self.is_puzzled(net) {
                watch.checkers.puzzled(self.number);
            }
            // Whoever says down knows of whom.
            let known = |question: &&Request| {
                overhear::says_down(effect) || self.understands(net, question)
            };
            let question = question.filter(known).map(|question| net.shown.request(question));
            let question = question.as_deref();
            let said = Said { effect: &read, to, receiver, question };
            match self.stock {
                false => {
                    if is_weighed(effect) {
                        watch.checkers.weigh(&speaker, &said, &self.seat());
                    }
                    watch.checkers.says(&speaker, &said);
                }
                true => watch.checkers.stock_says(&speaker, &said),
            }
        }
        watch.read_log(self.number, &read);
        if watch.story.is_heard()
            && let Some(line) = told(effect, to, question, self.disk.content())
        {
            watch.story.tell(now, &self.proc, || line);
        }
    }

    /// One timer is under way, for the earliest deadline that was asked for; whoever comes too
    /// early looks again.
    fn set_alarm(&mut self, net: &mut Net) {
        let Some(deadline) = self.mind.as_ref().and_then(Mind::deadline) else { return };
        if self.doomed {
            return;
        }
        let now = net.now();
        let at = now + self.clock.until(deadline, now);
        if self.alarm.is_none_or(|alarm| at < alarm) {
            self.alarm = Some(at);
            self.alarm_token += 1;
            net.timer(self.proc, at - now, Timer::Wake { token: self.alarm_token });
        }
    }

    fn connect(&mut self, net: &mut Net, id: LinkId, target: Box<Target>) {
        let subscribe = target.kind == TargetKind::Node;
        let known_as = net.shown.node(&target.address);
        let ear = self.ears.remove(&known_as).unwrap_or_default().reopen(net.now());
        let (commands, subscription) = (Wire::default(), Wire::default());
        let link = Link { target, known_as, commands, subscription, ear };
        self.links.insert(id, link);
        self.dial(net, id, false);
        if subscribe {
            self.dial(net, id, true);
        }
    }

    fn dial(&mut self, net: &mut Net, id: LinkId, subscription: bool) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.wire(subscription).conn.is_some() {
            return;
        }
        if let Some(ip) = net.meaning(&link.target.address.host).filter(|_| !subscription) {
            link.ear.means(ip, false);
            let event = LinkEvent::Resolved { ips: vec![ip.to_owned()] };
            self.inputs.push_back(Input::Link { link: id, event });
        }
        let purpose = if subscription { Purpose::Subscribe } else { Purpose::Commands };
        let conn = net.dial(self.proc, &link.target.address, purpose, self.shape.connect_ms);
        link.wire(subscription).conn = Some(conn);
        self.conns.insert(conn, (id, subscription));
    }

    fn disconnect(&mut self, net: &mut Net, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        self.ears.insert(link.known_as, link.ear.closed(net.now()));
        for conn in [link.commands.conn, link.subscription.conn].into_iter().flatten() {
            self.conns.remove(&conn);
            net.close(self.proc, conn);
        }
    }

    fn send(&mut self, net: &mut Net, id: LinkId, command: Command) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.ear.send(net.now(), &net.shown.command(&command));
        let Some(conn) = link.commands.conn.filter(|_| link.commands.up) else { return };
        if self.debt.as_ref().is_some_and(|(to, _)| *to == id)
            && matches!(command, Command::Hello { .. })
        {
            self.debt = None;
        }
        let packet = match command {
            Command::Ping => Packet::Ping,
            _ => Packet::Ask(Box::new(Ask::Command(command.clone()))),
        };
        link.commands.unanswered.push_back(command);
        net.send(self.proc, conn, packet);
    }

    fn packet(&mut self, net: &mut Net, conn: ConnId, packet: Packet) {
        if let Some((link, subscription)) = self.conns.get(&conn).copied() {
            self.link_packet(net, link, subscription, packet);
            return;
        }
        match packet {
            Packet::Greet(purpose) if *purpose == Purpose::Commands => {
                self.sessions.insert(conn, Session::default());
                net.send(self.proc, conn, Packet::Greeted);
            }
            Packet::Ping => match self.sessions.get_mut(&conn) {
                Some(session) if session.busy => {
                    session.queue.push_back(Ask::Command(Command::Ping));
                }
                Some(_) => net.send(self.proc, conn, Packet::Pong),
                None => {}
            },
            Packet::Ask(ask) => {
                let Some(session) = self.sessions.get_mut(&conn) else { return };
                session.queue.push_back(*ask);
                self.serve(net, conn);
            }
            _ => {}
        }
    }

    fn link_packet(&mut self, net: &Net, id: LinkId, subscription: bool, packet: Packet) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let wire = link.wire(subscription);
        let event = match packet {
            Packet::Greeted => {
                wire.up = true;
                wire.failures = 0;
                let remote_ip = wire.conn.and_then(|conn| net.remote_ip(self.proc, conn));
                match (subscription, remote_ip) {
                    (true, _) => LinkEvent::Subscribed,
                    (false, Some(remote_ip)) => {
                        link.ear.connected(net.now());
                        link.ear.means(&remote_ip, true);
                        LinkEvent::Up { local_ip: net.ip(self.proc), remote_ip }
                    }
                    // Closed again, as will be heard.
                    (false, None) => {
                        wire.up = false;
                        return;
                    }
                }
            }
            Packet::Pong | Packet::Reply(_) => {
                let Some(command) = wire.unanswered.pop_front() else { return };
                let reply = match packet {
                    Packet::Reply(reply) => *reply,
                    _ => Value::Simple("PONG".into()),
                };
                let (command_read, reply_read) =
                    (net.shown.command(&command), net.shown.value(&reply));
                link.ear.answer(net.now(), &command_read, &reply_read);
                LinkEvent::Reply { command, reply }
            }
            Packet::Published(payload) => {
                self.hellos.hear(net.now(), &net.shown.text(&payload));
                LinkEvent::Hello { payload }
            }
            _ => return,
        };
        if let LinkEvent::Reply { command: Command::Info, reply } = &event
            && !net.shown.is_empty()
        {
            let whom = followed_in(reply);
            let puzzles = whom.is_some_and(|whom| !self.knows_whom(net, &whom));
            self.links.get_mut(&id).expect("it was there").ear.puzzles = puzzles;
        }
        self.inputs.push_back(Input::Link { link: id, event });
    }

    fn lost(&mut self, net: &mut Net, conn: ConnId, reason: LostReason) {
        self.sessions.remove(&conn);
        let Some((id, subscription)) = self.conns.remove(&conn) else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        let wire = link.wire(subscription);
        let failures = wire.failures.min(16);
        *wire = Wire { failures: failures + 1, ..Wire::default() };
        let (first, longest) = self.shape.backoff_ms;
        let pause = (first << failures).min(longest);
        let pause = pause / 2 + self.dice.below(pause / 2 + 1);
        net.timer(self.proc, pause, Timer::Redial { link: id.0, subscription });
        let event = match subscription {
            true => LinkEvent::Unsubscribed { reason: reason.to_string() },
            false => {
                link.ear.lost(net.now(), &reason);
                LinkEvent::Down { reason }
            }
        };
        self.inputs.push_back(Input::Link { link: id, event });
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
