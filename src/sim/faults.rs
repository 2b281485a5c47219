//! What goes wrong in a run, drawn from its seed before it begins: each run has its own mix.

use std::collections::BTreeSet;
use std::fmt;

use super::dice::Dice;
use super::host::{Ambush, Moment};
use super::net::{Machine, Ms, Proc};

/// One thing that goes wrong, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub(super) at: Ms,
    pub(super) for_ms: Ms,
    pub(super) kind: FaultKind,
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FaultKind {
    /// `kill -9`, and a start at the end.
    Crash(Proc),
    /// A sentinel dies at the next moment of a kind, and starts at the end.
    Ambush(usize, Ambush),
    /// SIGSTOP and SIGCONT.
    Freeze(Proc),
    /// Nothing passes from these machines to the others, nor back if `both`.
    Partition { from: BTreeSet<Machine>, both: bool },
    /// Packets between two machines take up to so much longer, in ms.
    Slow(Machine, Machine, Ms),
    /// All connections between two processes are reset, once.
    Cut(Proc, Proc),
    /// One packet in so many resets its connection.
    Flaky(u64),
    /// Writes of a sentinel's state take up to so much longer, in ms.
    SlowDisk(usize, Ms),
    /// They fail.
    BadDisk(usize),
    /// An operator says SENTINEL FAILOVER, once.
    Failover { sentinel: usize, group: usize },
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Crash(proc) => write!(f, "crash of {proc}"),
            FaultKind::Ambush(n, Ambush { moment, after }) => {
                let when = if *after { "after" } else { "before" };
                write!(f, "crash of sentinel {n}, right {when} its next {moment:?}")
            }
            FaultKind::Freeze(proc) => write!(f, "freeze of {proc}"),
            FaultKind::Partition { from, both } => {
                let way = if *both { "between" } else { "from" };
                write!(f, "partition {way} machines {from:?} and the others")
            }
            FaultKind::Slow(a, b, ms) => {
                write!(f, "delay of up to {ms} ms between machines {a} and {b}")
            }
            FaultKind::Cut(a, b) => write!(f, "reset of connections of {a} and {b}"),
            FaultKind::Flaky(n) => write!(f, "one packet in {n} resets its connection"),
            FaultKind::SlowDisk(n, ms) => write!(f, "disk of sentinel {n} slow by up to {ms} ms"),
            FaultKind::BadDisk(n) => write!(f, "disk of sentinel {n} fails"),
            FaultKind::Failover { sentinel, group } => {
                write!(f, "SENTINEL FAILOVER of group {group} on sentinel {sentinel}")
            }
        }
    }
}

/// What there is that can fail.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    pub(super) sentinels: usize,
    pub(super) nodes: usize,
    pub(super) groups: usize,
    pub(super) machines: usize,
}

impl Targets {
    fn sentinel(&self, dice: &mut Dice) -> usize {
        dice.below(self.sentinels as u64) as usize
    }

    fn node(&self, dice: &mut Dice) -> usize {
        dice.below(self.nodes as u64) as usize
    }

    fn machine(&self, dice: &mut Dice) -> Machine {
        dice.below(self.machines as u64) as usize
    }

    fn proc(&self, dice: &mut Dice) -> Proc {
        match dice.one_in(2) {
            true => Proc::Sentinel(self.sentinel(dice)),
            false => Proc::Node(self.node(dice)),
        }
    }

    fn machines(&self, dice: &mut Dice) -> BTreeSet<Machine> {
        if dice.one_in(2) {
            return BTreeSet::from([self.machine(dice)]);
        }
        (0..self.machines).filter(|_| dice.one_in(2)).collect()
    }
}

/// The makers of faults; a run enables some of them.
const MAKERS: &[fn(&Targets, &mut Dice) -> FaultKind] = &[
    |t, dice| FaultKind::Crash(Proc::Sentinel(t.sentinel(dice))),
    |t, dice| FaultKind::Crash(Proc::Node(t.node(dice))),
    |t, dice| {
        let ambush = Ambush { moment: *dice.pick(Moment::ALL), after: dice.one_in(2) };
        FaultKind::Ambush(t.sentinel(dice), ambush)
    },
    |t, dice| FaultKind::Freeze(Proc::Sentinel(t.sentinel(dice))),
    |t, dice| FaultKind::Freeze(Proc::Node(t.node(dice))),
    |t, dice| FaultKind::Partition { from: t.machines(dice), both: true },
    |t, dice| FaultKind::Partition { from: t.machines(dice), both: false },
    |t, dice| FaultKind::Slow(t.machine(dice), t.machine(dice), dice.skewed(50..=3_000)),
    |t, dice| FaultKind::Cut(t.proc(dice), t.proc(dice)),
    |_, dice| FaultKind::Flaky(dice.skewed(20..=2_000)),
    |t, dice| FaultKind::SlowDisk(t.sentinel(dice), dice.skewed(50..=4_000)),
    |t, dice| FaultKind::BadDisk(t.sentinel(dice)),
    |t, dice| FaultKind::Failover {
        sentinel: t.sentinel(dice),
        group: dice.below(t.groups as u64) as usize,
    },
];

/// How long a fault that lasts to the end lasts at most, in ms.
const LAST_MS: Ms = 20_000;

/// Draws all faults of a run between two moments. One run in ten has none.
pub(super) fn draw(targets: &Targets, from: Ms, until: Ms, dice: &mut Dice) -> Vec<Fault> {
    let mut faults = Vec::new();
    if dice.one_in(10) {
        return faults;
    }
    for maker in MAKERS {
        if dice.one_in(2) {
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
            let at = until - dice.skewed(100..=LAST_MS);
            faults.push(Fault { at, for_ms: until - at, kind: maker(targets, dice) });
        }
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_in_kind_and_number_of_faults_and_some_have_none() {
        let targets = Targets { sentinels: 3, nodes: 3, groups: 1, machines: 6 };
        let of = |seed| draw(&targets, 1_000, 60_000, &mut Dice::new(seed, "faults"));
        let plans: Vec<Vec<Fault>> = (0..200).map(of).collect();
        assert_eq!(plans[3], of(3));
        let none = plans.iter().filter(|plan| plan.is_empty()).count();
        assert!((5..60).contains(&none), "{none} of 200 without faults");
        let kinds = |plan: &Vec<Fault>| {
            let names = plan.iter().map(|f| std::mem::discriminant(&f.kind));
            names.collect::<Vec<_>>().len()
        };
        assert!(plans.iter().any(|plan| kinds(plan) > 20));
        for fault in plans.iter().flatten() {
            assert!(fault.at >= 1_000 && fault.at + fault.for_ms <= 60_000, "{fault:?}");
        }
    }
}
