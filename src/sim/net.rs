//! Virtual time and the network: TCP-like connections over one queue of what will happen.
//!
//! A connection delivers in order or not at all. What a partition stops is held and sent again when
//! the way is free, as TCP does, unless one side gives up first; a crash of a process closes its
//! connections, and the other side hears of it unless the way is blocked. A machine that loses its
//! power closes nothing: its peers sit on half-open connections until they give up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::dice::Dice;
use super::names::Names;
use super::queue::Queue;
use super::wire::{ConnId, Happening, Machine, Ms, News, Note, Packet, Proc, Purpose, Timer};
use crate::sentinel::LostReason;
use crate::sentinel::types::Address;

/// TCP sends a lost packet again after at least so long, in ms; then after twice that, and so on.
const RESEND_MS: Ms = 200;
/// The number of a packet that is none of the lane's: a message that comes again.
const ECHO: u32 = u32::MAX;
/// A message of a channel that is delivered twice comes again within so long, in ms.
const ECHO_MS: u64 = 10_000;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Dialer = 0,
    Server = 1,
}

impl End {
    fn other(self) -> End {
        match self {
            End::Dialer => End::Server,
            End::Server => End::Dialer,
        }
    }
}

/// How the network of this run behaves.
#[derive(Debug, Clone)]
pub(super) struct NetShape {
    /// Packets take 1 ms and up to so much more.
    pub(super) jitter_ms: Ms,
    /// An end that could not get a packet through for so long gives the connection up.
    pub(super) patience_ms: Ms,
}

/// What is wrong with the network at present.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Weather {
    /// Ordered pairs of machines between which nothing passes.
    pub(super) blocked: BTreeSet<(Machine, Machine)>,
    /// Extra delay between two machines (the smaller first), in ms, either way.
    pub(super) slow: BTreeMap<(Machine, Machine), Ms>,
    /// Machines without power.
    pub(super) dark: BTreeSet<Machine>,
    /// One packet in so many resets its connection; 0 means none.
    pub(super) reset_one_in: u64,
    /// One packet in so many is lost, and sent again by TCP; 0 means none.
    pub(super) lose_one_in: u64,
    /// One message of a channel in so many is delivered twice; 0 means none.
    pub(super) echo_one_in: u64,
    /// Names that nobody resolves.
    pub(super) mute_names: BTreeSet<String>,
    /// Names that resolve to the machine of another one.
    pub(super) false_names: BTreeMap<String, String>,
    /// Addresses at which somebody else is reached than who lives there.
    pub(super) forwards: BTreeMap<Address, Proc>,
}

enum Event {
    Arrive {
        conn: ConnId,
        to: End,
        seq: u32,
        packet: Packet,
    },
    /// The sender gives up if its packet is still held.
    GiveUp {
        conn: ConnId,
        to: End,
        since: Ms,
    },
    /// The dialer gives up if nobody greeted it.
    GreetTimeout {
        conn: ConnId,
    },
    Cut {
        conn: ConnId,
        end: End,
    },
    Timer {
        proc: Proc,
        life: u64,
        timer: Timer,
    },
    Reminder(Note),
}

/// One direction of a connection.
#[derive(Default)]
struct Lane {
    /// When the last packet arrives: the next one not before.
    last: Ms,
    /// The number of the next packet that is sent, and of the next that is delivered.
    sent: u32,
    delivered: u32,
    /// Packets that something stopped.
    held: VecDeque<(u32, Packet)>,
    held_since: Ms,
    /// Packets that came before one that was stopped and is sent again.
    early: BTreeMap<u32, Packet>,
}

struct Conn {
    procs: [Proc; 2],
    /// Where they were when it was opened.
    machines: [Machine; 2],
    open: [bool; 2],
    /// Who moved away since, maybe to another port of the same machine, is not met here any more.
    moved: [bool; 2],
    greeted: bool,
    /// The IP that was dialled, where that leads to another machine.
    dialled: Option<String>,
    /// Whatever is sent over it from now on vanishes: a router forgot it.
    deaf: bool,
    /// The name that was dialled could not be resolved.
    unresolved: bool,
    /// Lanes by the end that they lead to.
    lanes: [Lane; 2],
}

#[derive(Clone)]
struct Host {
    machine: Machine,
    /// Counts starts; timers of an earlier life mean nothing.
    life: u64,
    running: bool,
}

/// Time, queue and connections.
pub(super) struct Net {
    queue: Queue<Event>,
    shape: NetShape,
    dice: Dice,
    /// Sentinels, nodes and clients, each by number.
    hosts: [Vec<Host>; 3],
    /// Who listens where; hosts are IP addresses.
    addresses: BTreeMap<Address, Proc>,
    /// What names resolve to on a good day.
    names: BTreeMap<String, String>,
    /// How what sentinels say of nodes is to be read.
    pub(super) shown: Names,
    /// By number; closed ones are gone.
    conns: Vec<Option<Box<Conn>>>,
    weather: Weather,
    /// One more than the largest machine that a process is on.
    machines: Machine,
}

impl Net {
    pub(super) fn new(shape: NetShape, dice: Dice) -> Net {
        Net {
            queue: Queue::new(),
            shape,
            dice,
            hosts: Default::default(),
            addresses: BTreeMap::new(),
            names: BTreeMap::new(),
            shown: Names::default(),
            conns: Vec::new(),
            weather: Weather::default(),
            machines: 0,
        }
    }

    /// A process that exists from now on, not yet running. Processes of a kind are added by number.
    /// With a port it can be reached there.
    pub(super) fn add(&mut self, proc: Proc, machine: Machine, port: Option<u16>) {
        let (kind, number) = place(proc);
        assert_eq!(self.hosts[kind].len(), number, "processes are added by number");
        self.hosts[kind].push(Host { machine, life: 0, running: false });
        self.listen(proc, machine, port);
    }

    /// A process that does not run moves to another machine; nobody listens where it was.
    pub(super) fn relocate(&mut self, proc: Proc, machine: Machine, port: Option<u16>) {
        self.addresses.retain(|_, at| *at != proc);
        for (id, end) in self.ends_of(proc) {
            if let Some(conn) = self.conn_mut(id) {
                conn.moved[end as usize] = true;
            }
        }
        self.host_mut(proc).machine = machine;
        self.listen(proc, machine, port);
    }

    fn listen(&mut self, proc: Proc, machine: Machine, port: Option<u16>) {
        self.machines = self.machines.max(machine + 1);
        if let Some(port) = port {
            self.addresses.insert(Address::new(ip_of(machine), port), proc);
        }
    }

    /// A machine that was never used.
    pub(super) fn fresh_machine(&mut self) -> Machine {
        self.machines += 1;
        self.machines - 1
    }

    /// How many machines there are.
    pub(super) fn machines(&self) -> Machine {
        self.machines
    }

    /// From now on this name means that machine.
    pub(super) fn name(&mut self, name: String, machine: Machine) {
        self.names.insert(name, ip_of(machine));
    }

    pub(super) fn now(&self) -> Ms {
        self.queue.now()
    }

    pub(super) fn machine(&self, proc: Proc) -> Machine {
        self.host(proc).machine
    }

    pub(super) fn running(&self, proc: Proc) -> bool {
        self.host(proc).running
    }

    /// The IP of a process's machine.
    pub(super) fn ip(&self, proc: Proc) -> String {
        ip_of(self.machine(proc))
    }

    /// The IP at the other end of a connection.
    pub(super) fn remote_ip(&self, proc: Proc, conn: ConnId) -> Option<String> {
        let conn = self.conn(conn)?;
        let dials = conn.procs[0] == proc;
        let dialled = conn.dialled.clone().filter(|_| dials);
        Some(dialled.unwrap_or_else(|| ip_of(conn.machines[usize::from(dials)])))
    }

    /// Who is at the other end of a connection.
    pub(super) fn other_end(&self, proc: Proc, conn: ConnId) -> Option<Proc> {
        let procs = self.conn(conn)?.procs;
        Some(if procs[0] == proc { procs[1] } else { procs[0] })
    }

    /// Begins a life of a process.
    pub(super) fn start(&mut self, proc: Proc) {
        let host = self.host_mut(proc);
        host.running = true;
        host.life += 1;
    }

    /// Ends it: the system closes its connections.
    pub(super) fn kill(&mut self, proc: Proc) {
        self.host_mut(proc).running = false;
        for (conn, end) in self.ends_of(proc) {
            self.close_end(conn, end, LostReason::Closed);
        }
    }

    /// Ends it with its machine: nothing is closed, nobody is told.
    pub(super) fn vanish(&mut self, proc: Proc) {
        self.host_mut(proc).running = false;
        for (id, end) in self.ends_of(proc) {
            let Some(conn) = self.conn_mut(id) else { continue };
            conn.open[end as usize] = false;
            if conn.open == [false, false] {
                self.conns[id.0 as usize] = None;
            }
        }
    }

    fn ends_of(&self, proc: Proc) -> Vec<(ConnId, End)> {
        self.open_conns()
            .flat_map(|(id, conn)| [(id, End::Dialer, conn), (id, End::Server, conn)])
            .filter(|(_, end, conn)| conn.procs[*end as usize] == proc)
            .map(|(id, end, _)| (id, end))
            .collect()
    }

    fn open_conns(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.conns
            .iter()
            .enumerate()
            .filter_map(|(id, conn)| Some((ConnId(id as u32), conn.as_deref()?)))
    }

    /// Opens a connection: `Greeted` follows, or `Lost`. With nobody there to greet it is given up
    /// after `timeout_ms`.
    pub(super) fn dial(
        &mut self,
        from: Proc,
        to: &Address,
        purpose: Purpose,
        timeout_ms: Ms,
    ) -> ConnId {
        let id = ConnId(self.conns.len() as u32);
        // Where no process listens no machine is: nobody refuses, and nobody answers.
        let ip = self.resolve(&to.host);
        let unresolved = ip.is_none();
        let mut dialled = None;
        let server = ip.and_then(|ip| {
            let at = Address { host: ip.to_owned(), port: to.port };
            let forward = self.weather.forwards.get(&at);
            dialled = forward.map(|_| at.host.clone());
            // Nobody is connected to itself.
            forward.or_else(|| self.addresses.get(&at)).copied().filter(|proc| *proc != from)
        });
        let procs = [from, server.unwrap_or(from)];
        self.conns.push(Some(Box::new(Conn {
            procs,
            machines: procs.map(|proc| self.machine(proc)),
            open: [true, server.is_some()],
            moved: [false, false],
            greeted: false,
            dialled,
            deaf: false,
            unresolved,
            lanes: Default::default(),
        })));
        self.schedule(timeout_ms, Event::GreetTimeout { conn: id });
        if server.is_some() {
            self.transmit(id, End::Server, Packet::Greet(Box::new(purpose)));
        }
        id
    }

    /// What a name means; `None` if nobody says, or if it is none.
    pub(super) fn meaning(&self, host: &str) -> Option<&str> {
        let name = self.names.get_key_value(host)?.0;
        self.resolve(name)
    }

    /// What a host name or IP means; `None` if nobody says.
    fn resolve<'a>(&'a self, host: &'a str) -> Option<&'a str> {
        let Some(ip) = self.names.get(host) else { return Some(host) };
        if self.weather.mute_names.contains(host) {
            return None;
        }
        match self.weather.false_names.get(host) {
            Some(other) => self.names.get(other).map(String::as_str),
            None => Some(ip),
        }
    }

    /// Sends over a connection, from the end that `from` holds. Nothing happens if that is closed.
    pub(super) fn send(&mut self, from: Proc, conn: ConnId, packet: Packet) {
        let Some(end) = self.end_of(from, conn) else { return };
        let resets = self.weather.reset_one_in;
        if resets > 0 && self.dice.one_in(resets) {
            self.cut(conn);
            return;
        }
        let echoes = self.weather.echo_one_in;
        if echoes > 0 && matches!(packet, Packet::Published(_)) && self.dice.one_in(echoes) {
            let after = self.dice.below(ECHO_MS);
            let to = end.other();
            let again = Event::Arrive { conn, to, seq: ECHO, packet: packet.clone() };
            self.schedule(after, again);
        }
        self.transmit(conn, end.other(), packet);
    }

    /// Closes the end that `from` holds.
    pub(super) fn close(&mut self, from: Proc, conn: ConnId) {
        if let Some(end) = self.end_of(from, conn) {
            self.close_end(conn, end, LostReason::Closed);
        }
    }

    /// Resets a connection: what is under way is lost, both sides hear of it.
    fn cut(&mut self, conn: ConnId) {
        for end in [End::Dialer, End::Server] {
            self.schedule(0, Event::Cut { conn, end });
        }
    }

    /// Resets all connections of a process.
    pub(super) fn cut_all(&mut self, proc: Proc) {
        for (conn, _) in self.ends_of(proc) {
            self.cut(conn);
        }
    }

    /// Resets all connections between two processes.
    pub(super) fn cut_between(&mut self, a: Proc, b: Proc) {
        for conn in self.between(|conn| conn.procs == [a, b] || conn.procs == [b, a]) {
            self.cut(conn);
        }
    }

    /// What is sent from now on over the connections that two machines have open vanishes.
    pub(super) fn forget_between(&mut self, a: Machine, b: Machine) {
        for id in self.between(|conn| conn.machines == [a, b] || conn.machines == [b, a]) {
            if let Some(conn) = self.conn_mut(id) {
                conn.deaf = true;
            }
        }
    }

    fn between(&self, meant: impl Fn(&Conn) -> bool) -> Vec<ConnId> {
        self.open_conns().filter(|(_, conn)| meant(conn)).map(|(id, _)| id).collect()
    }

    /// A timer of the process as it lives now.
    pub(super) fn timer(&mut self, proc: Proc, after_ms: Ms, timer: Timer) {
        let life = self.host(proc).life;
        self.schedule(after_ms, Event::Timer { proc, life, timer });
    }

    /// A note of the world to itself.
    pub(super) fn remind(&mut self, after_ms: Ms, note: Note) {
        self.schedule(after_ms, Event::Reminder(note));
    }

    /// What is wrong from now on; what was held and may pass now is sent again.
    pub(super) fn set_weather(&mut self, weather: Weather) {
        if weather == self.weather {
            return;
        }
        self.weather = weather;
        for id in 0..self.conns.len() as u32 {
            for to in [End::Dialer, End::Server] {
                self.release(ConnId(id), to);
            }
        }
    }

    /// The next thing that happens, with time set to its moment; `None` if that lies beyond
    /// `until`.
    pub(super) fn next(&mut self, until: Ms) -> Option<Happening> {
        loop {
            let event = self.queue.pop(until)?;
            if let Some(happening) = self.happen(event) {
                return Some(happening);
            }
        }
    }

    fn happen(&mut self, event: Event) -> Option<Happening> {
        match event {
            Event::Reminder(note) => Some(Happening::Reminder(note)),
            Event::Timer { proc, life, timer } => {
                let host = self.host(proc);
                (host.running && host.life == life)
                    .then_some(Happening::To(proc, News::Timer(timer)))
            }
            Event::Cut { conn, end } => self.lose(conn, end, LostReason::Closed),
            Event::GiveUp { conn, to, since } => {
                let lane = &self.conn(conn)?.lanes[to as usize];
                if lane.held.is_empty() || lane.held_since != since {
                    return None;
                }
                self.lose(conn, to.other(), LostReason::TimedOut)
            }
            Event::GreetTimeout { conn } => {
                let c = self.conn(conn)?;
                if c.greeted {
                    return None;
                }
                let why = match c.unresolved {
                    true => LostReason::Unresolved("no answer from any name server".into()),
                    false => LostReason::TimedOut,
                };
                self.lose(conn, End::Dialer, why)
            }
            Event::Arrive { conn, to, seq, packet } => self.arrive(conn, to, seq, packet),
        }
    }

    /// An end learns that its connection is gone.
    fn lose(&mut self, id: ConnId, end: End, reason: LostReason) -> Option<Happening> {
        let conn = self.conn(id)?;
        let (open, proc) = (conn.open[end as usize], conn.procs[end as usize]);
        self.close_end(id, end, reason.clone());
        open.then_some(Happening::To(proc, News::Lost(id, reason)))
    }

    fn blocks(&self, conn: &Conn, to: End) -> bool {
        let way = (conn.machines[to.other() as usize], conn.machines[to as usize]);
        let Weather { blocked, dark, .. } = &self.weather;
        conn.moved[to as usize]
            || (!blocked.is_empty() && blocked.contains(&way))
            || (!dark.is_empty() && (dark.contains(&way.0) || dark.contains(&way.1)))
    }

    fn arrive(&mut self, id: ConnId, to: End, seq: u32, packet: Packet) -> Option<Happening> {
        let conn = self.conn(id)?;
        let to_proc = conn.procs[to as usize];
        let blocked = conn.deaf || self.blocks(conn, to);
        let now = self.now();
        let conn = self.conn_mut(id)?;
        let lane = &mut conn.lanes[to as usize];
        if blocked || !lane.held.is_empty() {
            if seq == ECHO {
                return None;
            }
            lane.held.push_back((seq, packet));
            if lane.held.len() == 1 {
                lane.held_since = now;
                let event = Event::GiveUp { conn: id, to, since: now };
                self.schedule(self.shape.patience_ms, event);
            }
            return None;
        }
        if seq != ECHO {
            if seq != lane.delivered {
                lane.early.insert(seq, packet);
                return None;
            }
            lane.delivered += 1;
            if let Some(packet) = lane.early.remove(&lane.delivered) {
                let seq = lane.delivered;
                self.schedule(0, Event::Arrive { conn: id, to, seq, packet });
            }
        }
        let conn = self.conn_mut(id)?;
        if let Packet::Closed(reason) = packet {
            return self.lose(id, to, *reason);
        }
        if packet == Packet::Greeted {
            conn.greeted = true;
        }
        if !conn.open[to as usize] || !self.running(to_proc) {
            let refused = matches!(packet, Packet::Greet(_));
            let reason = if refused { LostReason::Refused } else { LostReason::Closed };
            self.transmit(id, to.other(), Packet::Closed(Box::new(reason)));
            return None;
        }
        Some(Happening::To(to_proc, News::Packet(id, packet)))
    }

    fn close_end(&mut self, id: ConnId, end: End, reason: LostReason) {
        let Some(conn) = self.conn_mut(id) else { return };
        if !std::mem::replace(&mut conn.open[end as usize], false) {
            return;
        }
        if conn.open == [false, false] {
            self.conns[id.0 as usize] = None;
            return;
        }
        // A dialer that gives up does not tell why; the other side sees a connection closed.
        let said = if reason == LostReason::Refused { reason } else { LostReason::Closed };
        self.transmit(id, end.other(), Packet::Closed(Box::new(said)));
    }

    fn transmit(&mut self, id: ConnId, to: End, packet: Packet) {
        let Some(conn) = self.conn(id) else { return };
        let way = conn.machines;
        let at = self.now() + if way[0] == way[1] { 0 } else { self.delay(way) };
        let Some(conn) = self.conn_mut(id) else { return };
        let lane = &mut conn.lanes[to as usize];
        lane.last = lane.last.max(at);
        let (at, seq) = (lane.last, lane.sent);
        lane.sent += 1;
        self.queue.push(at, Event::Arrive { conn: id, to, seq, packet });
    }

    fn delay(&mut self, way: [Machine; 2]) -> Ms {
        let mut delay = 1 + self.dice.below(self.shape.jitter_ms + 1);
        if !self.weather.slow.is_empty() {
            let pair = (way[0].min(way[1]), way[0].max(way[1]));
            let extra = self.weather.slow.get(&pair).copied().unwrap_or(0);
            delay += self.dice.below(extra + 1);
        }
        let losses = self.weather.lose_one_in;
        let mut resend = RESEND_MS;
        while losses > 0 && resend < 16 * RESEND_MS && self.dice.one_in(losses) {
            delay += resend;
            resend *= 2;
        }
        delay
    }

    /// Sends again what a lane held, if it may pass now.
    fn release(&mut self, id: ConnId, to: End) {
        let Some(conn) = self.conn(id) else { return };
        let held = !conn.lanes[to as usize].held.is_empty();
        if !held || conn.deaf || self.blocks(conn, to) {
            return;
        }
        // TCP sends again after a pause that grew while nothing passed.
        let now = self.now();
        let since = conn.lanes[to as usize].held_since;
        let pause = self.dice.below(1 + (now - since).min(3_000));
        let Some(conn) = self.conn_mut(id) else { return };
        let lane = &mut conn.lanes[to as usize];
        lane.last = lane.last.max(now + pause);
        for (seq, packet) in std::mem::take(&mut lane.held) {
            self.schedule(pause, Event::Arrive { conn: id, to, seq, packet });
        }
    }

    fn end_of(&self, proc: Proc, conn: ConnId) -> Option<End> {
        let c = self.conn(conn)?;
        [End::Dialer, End::Server]
            .into_iter()
            .find(|end| c.open[*end as usize] && c.procs[*end as usize] == proc)
    }

    fn schedule(&mut self, after_ms: Ms, event: Event) {
        let at = self.queue.now() + after_ms;
        self.queue.push(at, event);
    }

    fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(id.0 as usize)?.as_deref()
    }

    fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.0 as usize)?.as_deref_mut()
    }

    fn host(&self, proc: Proc) -> &Host {
        let (kind, number) = place(proc);
        &self.hosts[kind][number]
    }

    fn host_mut(&mut self, proc: Proc) -> &mut Host {
        let (kind, number) = place(proc);
        &mut self.hosts[kind][number]
    }
}

fn place(proc: Proc) -> (usize, usize) {
    match proc {
        Proc::Sentinel(n) => (0, n),
        Proc::Node(n) => (1, n),
        Proc::Client(n) => (2, n),
    }
}

/// The IP of a machine.
pub(super) fn ip_of(machine: Machine) -> String {
    format!("10.0.{}.{}", machine / 250, machine % 250 + 1)
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
