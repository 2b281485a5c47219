//! Virtual time and the network: one queue of what will happen, and TCP-like connections over it.
//!
//! A connection delivers in order or not at all. What a partition stops is held and sent again when
//! the way is free, as TCP does, unless one side gives up first; a crash of a process closes its
//! connections, and the other side hears of it unless the way is blocked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use super::dice::Dice;
use crate::resp::Value;
use crate::sentinel::LostReason;
use crate::sentinel::types::Address;

/// Virtual milliseconds since the world began.
pub(super) type Ms = u64;

/// A machine: what partitions come between. Processes on one machine always reach each other.
pub(super) type Machine = usize;

/// Processes of the world, by kind and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Proc {
    Sentinel(usize),
    Node(usize),
    Client(usize),
}

impl std::fmt::Display for Proc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Proc::Sentinel(n) => write!(f, "sentinel {n}"),
            Proc::Node(n) => write!(f, "node {n}"),
            Proc::Client(n) => write!(f, "client {n}"),
        }
    }
}

/// One connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnId(u64);

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
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

/// What a connection is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Requests and replies.
    Commands,
    /// The hello channel.
    Subscribe,
    /// A replica that listens at this address wants the data.
    Replicate(Address),
}

/// One request as its words.
pub(super) type Words = Vec<String>;

/// The number of a write, given by the client that made it.
pub(super) type Write = u32;

/// What travels over a connection.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Packet {
    /// Opens it.
    Greet(Purpose),
    /// The server's consent.
    Greeted,
    /// Requests, pipelined.
    Requests(Vec<Words>),
    /// Their replies.
    Replies(Vec<Value>),
    /// A message of the hello channel.
    Published(String),
    /// All data, to a replica.
    Copy { history: Vec<Write>, offset: u64 },
    /// What happened on the master, to a replica; `offset` is the one after it.
    Stream { change: Change, offset: u64 },
    /// A replica is alive.
    Ack,
    /// FIN or RST: nothing comes after it.
    Closed(LostReason),
}

/// One entry of the replication stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Write(Write),
    Publish(String),
    Ping,
}

/// What a process set itself to do later; forgotten when it crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// A sentinel's deadline; a later one replaces it.
    Wake { token: u64 },
    /// A sentinel connects again: the link's number, and whether its subscription is meant.
    Redial { link: u64, subscription: bool },
    /// A sentinel's disk has finished this write.
    Disk { revision: u64 },
    /// A node's or client's regular work.
    Tick,
    /// A node has its data ready for this replica.
    CopyReady { conn: ConnId },
}

/// What comes to a process.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    Packet(ConnId, Packet),
    Lost(ConnId, LostReason),
    Timer(Timer),
}

/// What [`Net::next`] hands to the world.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Happening {
    /// For a process.
    To(Proc, News),
    /// For the world itself: what it scheduled with [`Net::remind`].
    Reminder(u64),
}

/// How the network of this run behaves.
#[derive(Debug, Clone)]
pub(super) struct NetShape {
    /// Packets take 1 ms and up to so much more.
    pub(super) jitter_ms: Ms,
    /// An end that could not get a packet through for so long gives the connection up.
    pub(super) patience_ms: Ms,
}

enum Event {
    Arrive {
        conn: ConnId,
        to: End,
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
    Reminder(u64),
}

struct Scheduled {
    at: Ms,
    seq: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Lane {
    /// When the last packet arrives: the next one not before.
    last: Ms,
    held: VecDeque<Packet>,
    held_since: Ms,
}

struct Conn {
    procs: [Proc; 2],
    open: [bool; 2],
    greeted: bool,
    /// Lanes by the end that they lead to.
    lanes: [Lane; 2],
}

struct Host {
    machine: Machine,
    /// Counts starts; timers of an earlier life mean nothing.
    life: u64,
    running: bool,
}

/// Time, queue and connections.
pub(super) struct Net {
    now: Ms,
    seq: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    shape: NetShape,
    dice: Dice,
    hosts: BTreeMap<Proc, Host>,
    addresses: BTreeMap<Address, Proc>,
    conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    /// Ordered pairs of machines between which nothing passes.
    blocked: BTreeSet<(Machine, Machine)>,
    /// Extra delay between two machines, in ms, either way.
    slow: BTreeMap<(Machine, Machine), Ms>,
    /// One packet in so many resets its connection; 0 means none.
    pub(super) reset_one_in: u64,
}

impl Net {
    pub(super) fn new(shape: NetShape, dice: Dice) -> Net {
        Net {
            now: 0,
            seq: 0,
            queue: BinaryHeap::new(),
            shape,
            dice,
            hosts: BTreeMap::new(),
            addresses: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 1,
            blocked: BTreeSet::new(),
            slow: BTreeMap::new(),
            reset_one_in: 0,
        }
    }

    /// A process that exists from now on, not yet running.
    pub(super) fn add(&mut self, proc: Proc, machine: Machine, address: Option<Address>) {
        self.hosts.insert(proc, Host { machine, life: 0, running: false });
        if let Some(address) = address {
            self.addresses.insert(address, proc);
        }
    }

    pub(super) fn now(&self) -> Ms {
        self.now
    }

    pub(super) fn machine(&self, proc: Proc) -> Machine {
        self.hosts[&proc].machine
    }

    pub(super) fn running(&self, proc: Proc) -> bool {
        self.hosts[&proc].running
    }

    /// The IP of a process's machine.
    pub(super) fn ip(&self, proc: Proc) -> String {
        ip_of(self.machine(proc))
    }

    /// Begins a life of a process.
    pub(super) fn start(&mut self, proc: Proc) {
        let host = self.host(proc);
        host.running = true;
        host.life += 1;
    }

    /// Ends it: the system closes its connections.
    pub(super) fn kill(&mut self, proc: Proc) {
        self.host(proc).running = false;
        let ends: Vec<(ConnId, End)> = self
            .conns
            .iter()
            .flat_map(|(id, conn)| [(*id, End::Dialer, conn), (*id, End::Server, conn)])
            .filter(|(_, end, conn)| conn.procs[*end as usize] == proc)
            .map(|(id, end, _)| (id, end))
            .collect();
        for (conn, end) in ends {
            self.close_end(conn, end, LostReason::Closed);
        }
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
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        // Where no process listens no machine is: nobody refuses, and nobody answers.
        let server = self.addresses.get(to).copied();
        let conn = Conn {
            procs: [from, server.unwrap_or(from)],
            open: [true, server.is_some()],
            greeted: false,
            lanes: Default::default(),
        };
        self.conns.insert(id, conn);
        self.schedule(timeout_ms, Event::GreetTimeout { conn: id });
        if server.is_some() {
            self.transmit(id, End::Server, Packet::Greet(purpose));
        }
        id
    }

    /// Sends over a connection, from the end that `from` holds. Nothing happens if that is closed.
    pub(super) fn send(&mut self, from: Proc, conn: ConnId, packet: Packet) {
        let Some(end) = self.end_of(from, conn) else { return };
        if self.reset_one_in > 0 && self.dice.one_in(self.reset_one_in) {
            self.cut(conn);
            return;
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
    pub(super) fn cut(&mut self, conn: ConnId) {
        for end in [End::Dialer, End::Server] {
            self.schedule(0, Event::Cut { conn, end });
        }
    }

    /// Resets all connections between two processes.
    pub(super) fn cut_between(&mut self, a: Proc, b: Proc) {
        let pairs = [[a, b], [b, a]];
        let between: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, c)| pairs.contains(&c.procs))
            .map(|(id, _)| *id)
            .collect();
        for conn in between {
            self.cut(conn);
        }
    }

    /// A timer of the process as it lives now.
    pub(super) fn timer(&mut self, proc: Proc, after_ms: Ms, timer: Timer) {
        let life = self.hosts[&proc].life;
        self.schedule(after_ms, Event::Timer { proc, life, timer });
    }

    /// A note of the world to itself.
    pub(super) fn remind(&mut self, after_ms: Ms, note: u64) {
        self.schedule(after_ms, Event::Reminder(note));
    }

    /// What is blocked and slow from now on; what was held and may pass now is sent again.
    pub(super) fn set_weather(
        &mut self,
        blocked: BTreeSet<(Machine, Machine)>,
        slow: BTreeMap<(Machine, Machine), Ms>,
    ) {
        self.blocked = blocked;
        self.slow = slow;
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            for to in [End::Dialer, End::Server] {
                self.release(id, to);
            }
        }
    }

    /// The next thing that happens, with time set to its moment; `None` if that lies beyond
    /// `until`.
    pub(super) fn next(&mut self, until: Ms) -> Option<Happening> {
        loop {
            if self.queue.peek().is_none_or(|Reverse(next)| next.at > until) {
                return None;
            }
            let Reverse(Scheduled { at, event, .. }) = self.queue.pop()?;
            self.now = at;
            if let Some(happening) = self.happen(event) {
                return Some(happening);
            }
        }
    }

    fn happen(&mut self, event: Event) -> Option<Happening> {
        match event {
            Event::Reminder(note) => Some(Happening::Reminder(note)),
            Event::Timer { proc, life, timer } => {
                let host = &self.hosts[&proc];
                (host.running && host.life == life)
                    .then_some(Happening::To(proc, News::Timer(timer)))
            }
            Event::Cut { conn, end } => self.lose(conn, end, LostReason::Closed),
            Event::GiveUp { conn, to, since } => {
                let lane = &self.conns.get(&conn)?.lanes[to as usize];
                if lane.held.is_empty() || lane.held_since != since {
                    return None;
                }
                self.lose(conn, to.other(), LostReason::TimedOut)
            }
            Event::GreetTimeout { conn } => {
                if self.conns.get(&conn)?.greeted {
                    return None;
                }
                self.lose(conn, End::Dialer, LostReason::TimedOut)
            }
            Event::Arrive { conn, to, packet } => self.arrive(conn, to, packet),
        }
    }

    /// An end learns that its connection is gone.
    fn lose(&mut self, conn: ConnId, end: End, reason: LostReason) -> Option<Happening> {
        let open = self.conns.get(&conn)?.open[end as usize];
        let proc = self.conns[&conn].procs[end as usize];
        self.close_end(conn, end, reason.clone());
        open.then_some(Happening::To(proc, News::Lost(conn, reason)))
    }

    fn arrive(&mut self, conn: ConnId, to: End, packet: Packet) -> Option<Happening> {
        let (from_proc, to_proc) = {
            let c = self.conns.get(&conn)?;
            (c.procs[to.other() as usize], c.procs[to as usize])
        };
        let way = (self.machine(from_proc), self.machine(to_proc));
        let blocked = self.blocked.contains(&way);
        let now = self.now;
        let lane = &mut self.conns.get_mut(&conn)?.lanes[to as usize];
        if blocked || !lane.held.is_empty() {
            if lane.held.is_empty() {
                lane.held_since = now;
                let event = Event::GiveUp { conn, to, since: now };
                lane.held.push_back(packet);
                self.schedule(self.shape.patience_ms, event);
            } else {
                lane.held.push_back(packet);
            }
            return None;
        }
        if let Packet::Closed(reason) = packet {
            return self.lose(conn, to, reason);
        }
        if !self.conns[&conn].open[to as usize] || !self.running(to_proc) {
            let refused = matches!(packet, Packet::Greet(_));
            let reason = if refused { LostReason::Refused } else { LostReason::Closed };
            self.transmit(conn, to.other(), Packet::Closed(reason));
            return None;
        }
        if packet == Packet::Greeted {
            self.conns.get_mut(&conn)?.greeted = true;
        }
        Some(Happening::To(to_proc, News::Packet(conn, packet)))
    }

    fn close_end(&mut self, conn: ConnId, end: End, reason: LostReason) {
        let Some(c) = self.conns.get_mut(&conn) else { return };
        if !std::mem::replace(&mut c.open[end as usize], false) {
            return;
        }
        if c.open == [false, false] {
            self.conns.remove(&conn);
            return;
        }
        // A dialer that gives up does not tell why; the other side sees a connection closed.
        let said = if reason == LostReason::Refused { reason } else { LostReason::Closed };
        self.transmit(conn, end.other(), Packet::Closed(said));
    }

    fn transmit(&mut self, conn: ConnId, to: End, packet: Packet) {
        let Some(c) = self.conns.get(&conn) else { return };
        let way = c.procs.map(|proc| self.hosts[&proc].machine);
        let delay = if way[0] == way[1] { 0 } else { self.delay(way) };
        let at = self.now + delay;
        let Some(c) = self.conns.get_mut(&conn) else { return };
        let lane = &mut c.lanes[to as usize];
        lane.last = lane.last.max(at);
        let after = lane.last - self.now;
        self.schedule(after, Event::Arrive { conn, to, packet });
    }

    fn delay(&mut self, way: [Machine; 2]) -> Ms {
        let pair = (way[0].min(way[1]), way[0].max(way[1]));
        let extra = self.slow.get(&pair).copied().unwrap_or(0);
        1 + self.dice.below(self.shape.jitter_ms + 1) + self.dice.below(extra + 1)
    }

    /// Sends again what a lane held, if it may pass now.
    fn release(&mut self, conn: ConnId, to: End) {
        let Some(c) = self.conns.get(&conn) else { return };
        let way = (self.machine(c.procs[to.other() as usize]), self.machine(c.procs[to as usize]));
        if self.blocked.contains(&way) {
            return;
        }
        // TCP sends again after a pause that grew while nothing passed.
        let now = self.now;
        let pause = self.dice.below(1 + (now - c.lanes[to as usize].held_since).min(3_000));
        let Some(c) = self.conns.get_mut(&conn) else { return };
        let lane = &mut c.lanes[to as usize];
        if lane.held.is_empty() {
            return;
        }
        lane.last = lane.last.max(now + pause);
        for packet in std::mem::take(&mut lane.held) {
            self.transmit(conn, to, packet);
        }
    }

    fn end_of(&self, proc: Proc, conn: ConnId) -> Option<End> {
        let c = self.conns.get(&conn)?;
        [End::Dialer, End::Server]
            .into_iter()
            .find(|end| c.open[*end as usize] && c.procs[*end as usize] == proc)
    }

    fn schedule(&mut self, after_ms: Ms, event: Event) {
        self.seq += 1;
        let at = self.now + after_ms;
        self.queue.push(Reverse(Scheduled { at, seq: self.seq, event }));
    }

    fn host(&mut self, proc: Proc) -> &mut Host {
        self.hosts.get_mut(&proc).expect("every process is added before it is used")
    }
}

/// The IP of a machine.
pub(super) fn ip_of(machine: Machine) -> String {
    format!("10.0.0.{}", machine + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Proc = Proc::Client(0);
    const B: Proc = Proc::Node(0);

    fn net() -> (Net, Address) {
        let shape = NetShape { jitter_ms: 5, patience_ms: 10_000 };
        let mut net = Net::new(shape, Dice::new(1, "net"));
        let address = Address::new(ip_of(1), 6379);
        net.add(A, 0, None);
        net.add(B, 1, Some(address.clone()));
        net.start(A);
        net.start(B);
        (net, address)
    }

    fn all(net: &mut Net, until: Ms) -> Vec<(Ms, Happening)> {
        let mut seen = Vec::new();
        while let Some(happening) = net.next(until) {
            seen.push((net.now(), happening));
        }
        seen
    }

    fn ask(n: usize) -> Packet {
        Packet::Requests(vec![vec![n.to_string()]])
    }

    fn asks(seen: &[(Ms, Happening)]) -> Vec<String> {
        seen.iter()
            .filter_map(|(_, happening)| match happening {
                Happening::To(_, News::Packet(_, Packet::Requests(r))) => Some(r[0][0].clone()),
                _ => None,
            })
            .collect()
    }

    fn both_ways() -> BTreeSet<(Machine, Machine)> {
        BTreeSet::from([(0, 1), (1, 0)])
    }

    #[test]
    fn a_connection_keeps_its_order_whatever_the_delays() {
        let (mut net, address) = net();
        let conn = net.dial(A, &address, Purpose::Commands, 1_000);
        for n in 0..20 {
            net.send(A, conn, ask(n));
        }
        let seen = all(&mut net, 500);
        assert_eq!(asks(&seen), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn a_partition_holds_packets_and_a_short_one_loses_none() {
        let (mut net, address) = net();
        let conn = net.dial(A, &address, Purpose::Commands, 60_000);
        net.set_weather(both_ways(), BTreeMap::new());
        net.send(A, conn, ask(1));
        assert_eq!(asks(&all(&mut net, 5_000)), Vec::<String>::new());
        net.set_weather(BTreeSet::new(), BTreeMap::new());
        net.send(A, conn, ask(2));
        assert_eq!(asks(&all(&mut net, 9_000)), ["1", "2"]);
    }

    #[test]
    fn a_long_partition_makes_the_sender_give_up() {
        let (mut net, address) = net();
        let conn = net.dial(A, &address, Purpose::Commands, 60_000);
        net.set_weather(both_ways(), BTreeMap::new());
        net.send(A, conn, ask(1));
        let seen = all(&mut net, 20_000);
        let lost = Happening::To(A, News::Lost(conn, LostReason::TimedOut));
        assert!(seen.iter().any(|(at, h)| *h == lost && *at >= 10_000), "{seen:?}");
    }

    #[test]
    fn who_does_not_run_refuses_and_who_is_nowhere_never_answers() {
        let (mut net, address) = net();
        net.kill(B);
        let conn = net.dial(A, &address, Purpose::Commands, 1_000);
        let seen = all(&mut net, 500);
        assert_eq!(seen[0].1, Happening::To(A, News::Lost(conn, LostReason::Refused)));
        let conn = net.dial(A, &Address::new("10.9.9.9", 1), Purpose::Commands, 1_000);
        let seen = all(&mut net, 5_000);
        assert_eq!(seen[0].1, Happening::To(A, News::Lost(conn, LostReason::TimedOut)));
    }

    #[test]
    fn a_crash_is_heard_on_the_other_side_and_timers_of_a_dead_life_are_not() {
        let (mut net, address) = net();
        let conn = net.dial(A, &address, Purpose::Commands, 1_000);
        all(&mut net, 100);
        net.timer(B, 50, Timer::Tick);
        net.kill(B);
        net.start(B);
        let seen = all(&mut net, 500);
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].1, Happening::To(A, News::Lost(conn, LostReason::Closed)));
    }

    #[test]
    fn one_blocked_direction_lets_the_other_pass() {
        let (mut net, address) = net();
        let conn = net.dial(A, &address, Purpose::Commands, 60_000);
        all(&mut net, 100);
        net.set_weather(BTreeSet::from([(1, 0)]), BTreeMap::new());
        net.send(B, conn, Packet::Greeted);
        net.send(A, conn, ask(1));
        let seen = all(&mut net, 1_000);
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(asks(&seen), ["1"]);
    }
}
