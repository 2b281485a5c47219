//! What goes wrong in a run, drawn from its seed before it begins: each run has its own mix.

use std::collections::BTreeSet;
use std::fmt;

use super::ambush::{Ambush, Moment};
use super::dice::Dice;
use super::disk::Memory;
use super::node::Data;
use super::plan::Shape;
use super::wire::{Machine, Ms, Proc};
use super::words;
use crate::sentinel::Request;

/// One thing that goes wrong, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// When it begins, in virtual ms.
    pub at: Ms,
    /// How long it lasts, in ms.
    pub for_ms: Ms,
    /// What it is.
    pub kind: FaultKind,
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// `kill -9` of a node, and a start at the end with these data; as a master, whatever its file
    /// said, if the last is true.
    CrashNode(usize, Data, bool),
    /// `kill -9` of a sentinel, and a start at the end with this memory.
    CrashSentinel(usize, Memory),
    /// A sentinel dies at the next moment of a kind, and starts at the end.
    Ambush(usize, Ambush),
    /// A sentinel is stopped right after the next moment of a kind, and goes on at the end.
    Stall(usize, Moment),
    /// A machine loses its power: its processes end and their connections stay half open.
    Power(Machine),
    /// SIGSTOP and SIGCONT.
    Freeze(Proc),
    /// A node accepts connections and answers nothing.
    Hang(usize),
    /// A node gets round to requests up to so late, in ms.
    SlowNode(usize, Ms),
    /// A node answers requests with this error.
    Sick(usize, &'static str),
    /// The sentinels have a wrong password for a node; all others have the right one.
    WrongPassword(usize),
    /// A node's INFO shows an offset larger by so much.
    Boast(usize, u64),
    /// A node does not get a link to its master: a wrong `masterauth`, say.
    Unlinked(usize),
    /// Nothing passes from these machines to the others, nor back if `both`.
    Partition {
        /// The machines on one side.
        from: BTreeSet<Machine>,
        /// Both directions.
        both: bool,
        /// It comes and goes with this half period, in ms; 0: it stays.
        flap_ms: Ms,
    },
    /// Packets between two machines take up to so much longer, in ms.
    Slow(Machine, Machine, Ms),
    /// All connections between two processes are reset, once.
    Cut(Proc, Proc),
    /// What is sent over the connections between two machines as they are now vanishes, for ever.
    HalfOpen(Machine, Machine),
    /// One packet in so many resets its connection.
    Flaky(u64),
    /// One packet in so many is lost and sent again by TCP.
    Lossy(u64),
    /// One message of a channel in so many is delivered twice.
    Echo(u64),
    /// Writes of a sentinel's state take up to so much longer, in ms.
    SlowDisk(usize, Ms),
    /// They fail.
    BadDisk(usize),
    /// A sentinel's wall clock is off by so much, in ms.
    ClockStep(usize, i64),
    /// Nobody resolves the name of a node.
    MuteName(usize),
    /// The name of a node means another one's machine.
    FalseName(usize, usize),
    /// An operator has something done by a sentinel, once; what he undoes in the end is told with
    /// it.
    Order(usize, Order),
    /// A sentinel that was late joins.
    Join(usize),
    /// A sentinel is lost with its machine; in the end another one takes its place elsewhere.
    Replace(usize),
    /// A sentinel is moved with its files to a machine and address that nobody had before.
    Relocate(usize),
    /// A sentinel is lost; in the end it starts from a copy of another one's files.
    Clone(usize, usize),
    /// A node is moved to a machine and address that nobody had before.
    Move(usize),
    /// Two nodes, maybe of different groups, restart with each other's address.
    Swap(usize, usize),
    /// The masters of two groups live at each other's address for some time, while they run. For
    /// so long before, in ms, the second one is reached at both.
    Trade(usize, usize, Ms),
    /// Who dials a sentinel reaches another one.
    Misroute(usize, usize),
}

impl FaultKind {
    /// True if there is nothing to end: how long it lasts means nothing.
    pub fn is_over_at_once(&self) -> bool {
        match self {
            FaultKind::Cut(..) | FaultKind::HalfOpen(..) | FaultKind::Join(_) => true,
            FaultKind::Order(_, order) => !matches!(order, Order::Remove(_) | Order::Set(..)),
            _ => false,
        }
    }
}

/// What an operator asks of a sentinel, for one group.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// `SENTINEL FAILOVER`
    Failover(usize),
    /// `SENTINEL RESET`
    Reset(usize),
    /// `SENTINEL REMOVE`, and `SENTINEL MONITOR` and `SET` in the end.
    Remove(usize),
    /// `SENTINEL SET` of an option, undone in the end.
    Set(usize, &'static str, u64),
    /// Somebody asks it for its vote for this sentinel in an absurd epoch.
    Poison(usize, usize, i64),
    /// Somebody asks it for its vote for a sentinel, or for a stranger.
    Canvass {
        /// For which group.
        group: usize,
        /// For which sentinel; `None`: for one that nobody knows.
        candidate: Option<usize>,
        /// The epoch, counted from that of the sentinel that is asked.
        ahead: i64,
    },
    /// A late word of the candidate that has its vote: that it gave up the election before.
    LateWord(usize),
    /// Whatever somebody says to it, once.
    Say(Request),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.3} s", self.at as f64 / 1_000.0)?;
        if !self.kind.is_over_at_once() {
            write!(f, ", for {} ms", self.for_ms)?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::CrashNode(n, data, as_master) => {
                write!(f, "crash of node {n}")?;
                match data {
                    Data::Same => {}
                    Data::Old => write!(f, ", to come back with old data")?,
                    Data::Empty => write!(f, ", to come back empty")?,
                }
                if *as_master { write!(f, ", as a master") } else { Ok(()) }
            }
            FaultKind::CrashSentinel(n, memory) => {
                write!(f, "crash of sentinel {n}")?;
                match memory {
                    Memory::Kept => Ok(()),
                    Memory::Lost => write!(f, ", its state is lost"),
                    Memory::Old => write!(f, ", an old state is put back"),
                }
            }
            FaultKind::Ambush(n, Ambush { moment, after }) => {
                let when = if *after { "after" } else { "before" };
                write!(f, "crash of sentinel {n}, right {when} its next {moment}")
            }
            FaultKind::Stall(n, moment) => {
                write!(f, "freeze of sentinel {n}, right after its next {moment}")
            }
            FaultKind::Power(machine) => write!(f, "machine {machine} is without power"),
            FaultKind::Freeze(proc) => write!(f, "freeze of {proc}"),
            FaultKind::Hang(n) => write!(f, "node {n} accepts and never answers"),
            FaultKind::SlowNode(n, ms) => write!(f, "node {n} is slow by up to {ms} ms"),
            FaultKind::Sick(n, error) => write!(f, "node {n} answers {error:?}"),
            FaultKind::WrongPassword(n) => write!(f, "sentinels may not talk to node {n}"),
            FaultKind::Boast(n, more) => write!(f, "node {n} shows {more} bytes too many"),
            FaultKind::Unlinked(n) => write!(f, "node {n} gets no link to its master"),
            FaultKind::Partition { from, both, flap_ms } => {
                let way = if *both { "between" } else { "from" };
                write!(f, "partition {way} machines {from:?} and the others")?;
                if *flap_ms > 0 { write!(f, ", on and off every {flap_ms} ms") } else { Ok(()) }
            }
            FaultKind::Slow(a, b, ms) => {
                write!(f, "delay of up to {ms} ms between machines {a} and {b}")
            }
            FaultKind::Cut(a, b) => write!(f, "reset of connections of {a} and {b}"),
            FaultKind::HalfOpen(a, b) => {
                write!(f, "connections of machines {a} and {b} become half open")
            }
            FaultKind::Flaky(n) => write!(f, "one packet in {n} resets its connection"),
            FaultKind::Lossy(n) => write!(f, "one packet in {n} is lost"),
            FaultKind::Echo(n) => write!(f, "one message in {n} comes twice"),
            FaultKind::SlowDisk(n, ms) => write!(f, "disk of sentinel {n} slow by up to {ms} ms"),
            FaultKind::BadDisk(n) => write!(f, "disk of sentinel {n} fails"),
            FaultKind::ClockStep(n, ms) => write!(f, "wall clock of sentinel {n} off by {ms} ms"),
            FaultKind::MuteName(n) => write!(f, "the name of node {n} cannot be resolved"),
            FaultKind::FalseName(n, other) => {
                write!(f, "the name of node {n} means the machine of node {other}")
            }
            FaultKind::Order(n, order) => write!(f, "order to sentinel {n}: {order}"),
            FaultKind::Join(n) => write!(f, "sentinel {n} joins"),
            FaultKind::Replace(n) => write!(f, "sentinel {n} is lost and will be replaced"),
            FaultKind::Relocate(n) => write!(f, "sentinel {n} moves with its files"),
            FaultKind::Clone(n, of) => {
                write!(f, "sentinel {n} is lost and will get the files of sentinel {of}")
            }
            FaultKind::Move(n) => write!(f, "node {n} moves to another address"),
            FaultKind::Swap(a, b) => write!(f, "nodes {a} and {b} swap addresses"),
            FaultKind::Trade(a, b, gap_ms) => {
                write!(f, "the masters of g{a} and g{b} trade places")?;
                if *gap_ms > 0 { write!(f, ", one {gap_ms} ms after the other") } else { Ok(()) }
            }
            FaultKind::Misroute(a, b) => write!(f, "sentinel {b} answers in sentinel {a}'s place"),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Failover(group) => write!(f, "FAILOVER g{group}"),
            Order::Reset(group) => write!(f, "RESET g{group}"),
            Order::Remove(group) => write!(f, "REMOVE g{group}"),
            Order::Set(group, option, value) => write!(f, "SET g{group} {option} {value}"),
            Order::Poison(group, candidate, epoch) => {
                write!(f, "a vote in g{group} for sentinel {candidate} in epoch {epoch}, please")
            }
            Order::LateWord(group) => {
                write!(f, "late word: its candidate gave up the election before, g{group}")
            }
            Order::Canvass { group, candidate, ahead } => match candidate {
                Some(n) => write!(f, "a vote in g{group} for sentinel {n}, {ahead} epochs ahead"),
                None => write!(f, "a vote in g{group} for a stranger, {ahead} epochs ahead"),
            },
            Order::Say(request) => f.write_str(&words::typed(request)),
        }
    }
}

/// What there is that can fail.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    pub(super) sentinels: usize,
    late: Vec<usize>,
    pub(super) nodes: usize,
    pub(super) groups: usize,
    machines: usize,
    pub(super) named: bool,
    pub(super) down_after_ms: Ms,
    /// Stock sentinels take part, and do not stand everything.
    mixed: bool,
}

impl Targets {
    pub(super) fn of(shape: &Shape) -> Targets {
        Targets {
            sentinels: shape.sentinels,
            late: shape.late.clone(),
            nodes: shape.nodes(),
            groups: shape.groups,
            machines: shape.machines(),
            named: shape.named,
            down_after_ms: shape.down_after_ms,
            mixed: !shape.stock.is_empty(),
        }
    }

    fn sentinel(&self, dice: &mut Dice) -> usize {
        dice.any(self.sentinels)
    }

    fn node(&self, dice: &mut Dice) -> usize {
        dice.any(self.nodes)
    }

    fn group(&self, dice: &mut Dice) -> usize {
        dice.any(self.groups)
    }

    fn machine(&self, dice: &mut Dice) -> Machine {
        dice.any(self.machines)
    }

    fn two_nodes(&self, dice: &mut Dice) -> (usize, usize) {
        let node = self.node(dice);
        (node, dice.other(self.nodes, node))
    }

    /// A node that is not this process.
    fn other_node(&self, than: Proc, dice: &mut Dice) -> usize {
        match than {
            Proc::Node(node) => dice.other(self.nodes, node),
            _ => self.node(dice),
        }
    }

    fn two_machines(&self, dice: &mut Dice) -> (Machine, Machine) {
        let machine = self.machine(dice);
        (machine, dice.other(self.machines, machine))
    }

    fn proc(&self, dice: &mut Dice) -> Proc {
        match dice.one_in(2) {
            true => Proc::Sentinel(self.sentinel(dice)),
            false => Proc::Node(self.node(dice)),
        }
    }

    /// Some machines, but not all.
    fn side(&self, dice: &mut Dice) -> BTreeSet<Machine> {
        let mut side: BTreeSet<Machine> = match dice.one_in(2) {
            true => BTreeSet::new(),
            false => (0..self.machines).filter(|_| dice.one_in(2)).collect(),
        };
        let (one, other) = self.two_machines(dice);
        side.insert(one);
        side.remove(&other);
        side
    }
}

/// A maker of faults, and how many of eight runs have it.
type Maker = (u64, fn(&Targets, &mut Dice) -> FaultKind);

/// The makers of faults; a run has some of them.
const MAKERS: &[Maker] = &[
    (4, |t, dice| FaultKind::CrashSentinel(t.sentinel(dice), Memory::Kept)),
    (4, |t, dice| FaultKind::CrashNode(t.node(dice), Data::Same, false)),
    (2, |t, dice| {
        let data = *dice.pick(&[Data::Same, Data::Old, Data::Empty]);
        FaultKind::CrashNode(t.node(dice), data, dice.one_in(2))
    }),
    (4, |t, dice| {
        let ambush = Ambush { moment: *dice.pick(Moment::ALL), after: dice.one_in(2) };
        FaultKind::Ambush(t.sentinel(dice), ambush)
    }),
    (3, |t, dice| FaultKind::Stall(t.sentinel(dice), *dice.pick(Moment::ALL))),
    (2, |t, dice| FaultKind::Power(t.machine(dice))),
    (3, |t, dice| FaultKind::Freeze(Proc::Sentinel(t.sentinel(dice)))),
    (3, |t, dice| FaultKind::Freeze(Proc::Node(t.node(dice)))),
    (2, |t, dice| FaultKind::Hang(t.node(dice))),
    (2, |t, dice| FaultKind::SlowNode(t.node(dice), dice.skewed(50..=5_000))),
    (2, |t, dice| {
        let errors = [
            "BUSY Redis is busy running a script",
            "MISCONF Redis is configured to save RDB snapshots, but it cannot",
            "NOAUTH Authentication required.",
        ];
        let error: &&'static str = dice.pick(&errors);
        FaultKind::Sick(t.node(dice), error)
    }),
    (1, |t, dice| FaultKind::WrongPassword(t.node(dice))),
    (2, |t, dice| FaultKind::Boast(t.node(dice), dice.skewed(1..=10_000))),
    (2, |t, dice| FaultKind::Unlinked(t.node(dice))),
    (4, |t, dice| FaultKind::Partition { from: t.side(dice), both: true, flap_ms: 0 }),
    (3, |t, dice| FaultKind::Partition { from: t.side(dice), both: false, flap_ms: 0 }),
    (2, |t, dice| FaultKind::Partition {
        from: t.side(dice),
        both: dice.one_in(2),
        flap_ms: dice.skewed(100..=8_000),
    }),
    (4, |t, dice| {
        let (one, other) = t.two_machines(dice);
        FaultKind::Slow(one, other, dice.skewed(50..=3_000))
    }),
    (3, |t, dice| {
        let (one, other) = (t.proc(dice), t.proc(dice));
        // Nobody is connected to itself.
        FaultKind::Cut(one, if one == other { Proc::Node(t.other_node(one, dice)) } else { other })
    }),
    (2, |t, dice| {
        let (one, other) = t.two_machines(dice);
        FaultKind::HalfOpen(one, other)
    }),
    (2, |_, dice| FaultKind::Flaky(dice.skewed(20..=2_000))),
    (2, |_, dice| FaultKind::Lossy(dice.skewed(3..=200))),
    (2, |_, dice| FaultKind::Echo(dice.skewed(1..=20))),
    (4, |t, dice| FaultKind::SlowDisk(t.sentinel(dice), dice.skewed(50..=12_000))),
    (4, |t, dice| FaultKind::BadDisk(t.sentinel(dice))),
    (1, |t, dice| {
        let ms = dice.skewed(1_000..=100_000_000) as i64;
        FaultKind::ClockStep(t.sentinel(dice), if dice.one_in(2) { ms } else { -ms })
    }),
    (3, |t, dice| FaultKind::Order(t.sentinel(dice), Order::Failover(t.group(dice)))),
    (2, |t, dice| FaultKind::Order(t.sentinel(dice), Order::Reset(t.group(dice)))),
    (1, |t, dice| FaultKind::Order(t.sentinel(dice), Order::Remove(t.group(dice)))),
    (2, |t, dice| {
        let (option, most) = *dice.pick(&[
            ("quorum", t.sentinels as u64),
            ("down-after-milliseconds", 8_000),
            ("failover-timeout", 20_000),
            ("parallel-syncs", 4),
        ]);
        let value = dice.within(1..=most);
        FaultKind::Order(t.sentinel(dice), Order::Set(t.group(dice), option, value))
    }),
    (1, |t, dice| {
        let epoch = *dice.pick(&[-1, i64::MAX, 1 << 40]);
        FaultKind::Order(t.sentinel(dice), Order::Poison(t.group(dice), t.sentinel(dice), epoch))
    }),
    (1, |t, dice| FaultKind::Move(t.node(dice))),
];

/// These ask too much of a stock sentinel, or take away what safety rests on.
const HARD_MAKERS: &[Maker] = &[
    (1, |t, dice| {
        let memory = *dice.pick(&[Memory::Lost, Memory::Old]);
        FaultKind::CrashSentinel(t.sentinel(dice), memory)
    }),
    (1, |t, dice| FaultKind::Replace(t.sentinel(dice))),
    (2, |t, dice| FaultKind::Relocate(t.sentinel(dice))),
];

const NAME_MAKERS: &[Maker] = &[
    (4, |t, dice| FaultKind::MuteName(t.node(dice))),
    (2, |t, dice| {
        let (node, other) = t.two_nodes(dice);
        FaultKind::FalseName(node, other)
    }),
];

/// Where nodes are known by their addresses only.
const ADDRESS_MAKERS: &[Maker] = &[
    (1, |t, dice| {
        let (one, other) = t.two_nodes(dice);
        FaultKind::Swap(one, other)
    }),
    (1, |t, dice| {
        let one = t.group(dice);
        let other = if t.groups > 1 { dice.other(t.groups, one) } else { one };
        FaultKind::Trade(one, other, 0)
    }),
];

/// How long a fault that lasts to the end lasts at most, in ms.
const LAST_MS: Ms = 20_000;

/// Draws all faults of a run between two moments. One run in ten has none.
pub(super) fn draw(targets: &Targets, from: Ms, until: Ms, seed: u64) -> Vec<Fault> {
    let dice = &mut Dice::new(seed, "faults");
    let mut faults = Vec::new();
    for n in &targets.late {
        let at = from + dice.below(until - from);
        faults.push(Fault { at, for_ms: 0, kind: FaultKind::Join(*n) });
    }
    if dice.one_in(10) {
        return faults;
    }
    // Each run has a level of trouble of its own, so that there are quiet ones and wild ones.
    let trouble = dice.within(2..=8);
    let hard = HARD_MAKERS.iter().filter(|_| !targets.mixed);
    let of_addresses = if targets.named { NAME_MAKERS } else { ADDRESS_MAKERS };
    for (often, maker) in MAKERS.iter().chain(hard).chain(of_addresses) {
        if dice.below(8 * 8) >= often * trouble {
            continue;
        }
        let gap_ms = dice.skewed(3_000..=60_000);
        let longest_ms = dice.skewed(500..=60_000);
        let mut at = from + dice.below(gap_ms);
        while at < until {
            let for_ms = match dice.one_in(2) {
                true => dice.skewed(20..=longest_ms),
                false => dice.within(20..=longest_ms),
            };
            let for_ms = for_ms.min(until - at);
            faults.push(Fault { at, for_ms, kind: maker(targets, dice) });
            at += gap_ms / 2 + dice.below(gap_ms);
        }
        // One of each kind may last to the end, so that there is something to heal.
        if dice.one_in(2) {
            let at = until - dice.skewed(100..=LAST_MS.min(until - from));
            faults.push(Fault { at, for_ms: until - at, kind: maker(targets, dice) });
        }
    }
    misroute(&mut faults, targets, from, until, &mut Dice::new(seed, "ways"));
    faults.sort_by_key(|fault| fault.at);
    // Addresses change seldom; who changes them often has to tell the sentinels each time.
    let mut moves = 0;
    faults.retain(|fault| match fault.kind {
        FaultKind::Move(_) | FaultKind::Swap(..) | FaultKind::Trade(..) => {
            moves += 1;
            moves == 1
        }
        _ => true,
    });
    faults
}

/// Ways that lead to somebody else. One run in eight has some between sentinels; of masters that
/// trade places every second pair does it one after the other.
fn misroute(faults: &mut Vec<Fault>, targets: &Targets, from: Ms, until: Ms, dice: &mut Dice) {
    for fault in faults.iter_mut() {
        if let FaultKind::Trade(_, _, gap_ms) = &mut fault.kind
            && dice.one_in(2)
        {
            *gap_ms = dice.skewed(20..=10_000).min(fault.for_ms);
        }
    }
    if targets.mixed || targets.sentinels < 3 || !dice.one_in(8) {
        return;
    }
    for _ in 0..dice.within(1..=3) {
        let at = from + dice.below(until - from);
        let for_ms = dice.skewed(500..=60_000).min(until - at);
        let one = targets.sentinel(dice);
        let kind = FaultKind::Misroute(one, dice.other(targets.sentinels, one));
        faults.push(Fault { at, for_ms, kind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_in_kind_and_number_of_faults_and_some_have_none() {
        let of = |seed| {
            let named = seed % 2 == 0;
            let targets = Targets::of(&Shape { named, late: vec![2], ..Shape::default() });
            draw(&targets, 1_000, 60_000, seed)
        };
        let plans: Vec<Vec<Fault>> = (0..400).map(of).collect();
        assert_eq!(plans[3], of(3));
        let none = plans.iter().filter(|plan| plan.len() == 1).count();
        assert!((10..120).contains(&none), "{none} of 400 without faults");
        let mut kinds = BTreeSet::new();
        for fault in plans.iter().flatten() {
            assert!(fault.at >= 1_000 && fault.at + fault.for_ms <= 60_000, "{fault:?}");
            let name = format!("{:?}", fault.kind);
            kinds.insert(name.split(['(', ' ']).next().unwrap_or_default().to_owned());
        }
        assert_eq!(kinds.len(), 32, "most kinds are drawn: {kinds:?}");
    }
}
