//! What a run is to be: a world and what goes wrong in it. Drawn from a seed, or written down by
//! hand to tell one story.

use std::collections::BTreeMap;

use super::Options;
use super::dice::Dice;
use super::disk::Memory;
use super::faults::{Fault, FaultKind, Targets, draw};
use super::host::HostShape;
use super::net::{NetShape, ip_of};
use super::node::NodeShape;
use super::themes;
use super::wire::{Machine, Ms, Proc};
use crate::config::settings::{GroupSettings, SENTINEL_PORT, SentinelSettings};
use crate::sentinel::types::Address;

/// In a drawn world sentinels start when the nodes have found their masters.
const NODES_FIRST_MS: Ms = 1_300;
/// Then they have met, and listened as newcomers do, before anything fails.
const WARM_UP_MS: Ms = 5_000;
/// Where more than a majority must agree a lost election is repeated after up to so long for each
/// sentinel, in ms.
const VOTERS_MS: Ms = 10_000;
/// In one run in so many the masters die once all is well again.
const TRIAL_ONE_IN: u64 = 3;
/// One world in so many has a `refused-after`.
const REFUSED_AFTER_ONE_IN: u64 = 3;
/// One world in so many has a `flap-pause`.
const FLAP_PAUSE_ONE_IN: u64 = 3;
/// The port of the nodes of the first group; the next group has the next one.
const NODE_PORT: u16 = 6379;

/// Everything that decides a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides all that is left to chance.
    pub seed: u64,
    /// The world.
    pub shape: Shape,
    /// What goes wrong in it, in order of time.
    pub faults: Vec<Fault>,
    /// The number that each of these had when all were drawn, or written down: whoever sees a part
    /// of a run knows its faults from the whole.
    pub numbers: Vec<usize>,
    /// Nothing goes wrong, so nothing may happen.
    pub calm: bool,
    /// In the end all is mended, and then all must become well. If not, the run simply ends.
    pub heals: bool,
    /// Then all masters die, and must be replaced.
    pub trial: bool,
}

impl Plan {
    /// The plan of this seed.
    pub fn draw(seed: u64, options: &Options) -> Plan {
        let mut shape = Shape::draw(options, &mut Dice::new(seed, "shape"));
        shape.shows_ips = shape.named && Dice::new(seed, "shown names").one_in(3);
        let dice = &mut Dice::new(seed, "refused-after");
        if dice.one_in(REFUSED_AFTER_ONE_IN) && !options.stock {
            shape.refused_after_ms = dice.skewed(50..=3_000);
        }
        let dice = &mut Dice::new(seed, "flap-pause");
        if dice.one_in(FLAP_PAUSE_ONE_IN) && !options.stock {
            shape.flap_pause_ms = dice.skewed(500..=20_000);
        }
        let theme = themes::votes::draw(&mut shape, &mut Dice::new(seed, "theme of votes"));
        let targets = Targets::of(&shape);
        let (from, until) = (shape.warm_up_ms, shape.heal_at());
        let mut faults = draw(&targets, from, until, seed);
        match theme.is_empty() {
            false => faults.extend(theme),
            true if faults.len() > shape.late.len() => {
                let dice = &mut Dice::new(seed, "theme of choice");
                faults.extend(themes::choice::draw(&targets, &faults, from, until, dice));
            }
            true => {}
        }
        if shape.sentinels == 1 {
            // Nobody else remembers anything.
            let old =
                |fault: &Fault| matches!(fault.kind, FaultKind::CrashSentinel(_, Memory::Old));
            faults.retain(|fault| !old(fault));
        }
        if shape.shows_ips {
            // What a lying name means is what peers and operators would be told, and remember, as
            // they would remember where a node was that moved.
            let misleads =
                |fault: &Fault| matches!(fault.kind, FaultKind::FalseName(..) | FaultKind::Move(_));
            faults.retain(|fault| !misleads(fault));
        }
        faults.sort_by_key(|fault| fault.at);
        // What a theme began is seen to its end.
        let end = faults.iter().map(|fault| fault.at + fault.for_ms).max().unwrap_or(0);
        shape.faults_ms = shape.faults_ms.max(end.saturating_sub(from));
        if options.calm {
            faults.clear();
            shape.late.clear();
        }
        let calm = faults.is_empty() && shape.late.is_empty();
        let stands_trial = Dice::new(seed, "trial").one_in(TRIAL_ONE_IN);
        let trial = stands_trial && !calm && !options.stock;
        let numbers = (0..faults.len()).collect();
        let mut plan = Plan { seed, shape, faults, numbers, calm, heals: true, trial };
        if let Some(only) = &options.only {
            plan = plan.keep(|n, _| only.contains(&n));
        }
        if let Some(faults_ms) = options.faults_ms {
            plan.shape.faults_ms = faults_ms;
        }
        plan
    }

    /// A story told by hand: this world, and these things that go wrong at their times. All is
    /// mended once `shape.faults_ms` have passed since `shape.warm_up_ms`.
    pub fn scripted(seed: u64, shape: Shape, mut faults: Vec<Fault>) -> Plan {
        faults.sort_by_key(|fault| fault.at);
        let numbers = (0..faults.len()).collect();
        Plan { seed, shape, faults, numbers, calm: false, heals: true, trial: false }
    }

    /// The same plan with some of its faults.
    pub fn keep(&self, mut kept: impl FnMut(usize, &Fault) -> bool) -> Plan {
        let faults = self.faults.iter().zip(&self.numbers).enumerate();
        let faults = faults.filter(|(n, (fault, _))| kept(*n, fault));
        let (faults, numbers) = faults.map(|(_, (f, number))| (f.clone(), *number)).unzip();
        Plan { faults, numbers, ..self.clone() }
    }
}

/// What a world is like.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many sentinels there are.
    pub sentinels: usize,
    /// Those that do not exist from the beginning, but join while things fail.
    pub late: Vec<usize>,
    /// Those that are stock sentinels, which follow Redis's rules and not ours.
    pub stock: Vec<usize>,
    /// How many groups they watch, each with as many nodes; the first node of a group is its
    /// master.
    pub groups: usize,
    /// Nodes of each group.
    pub nodes_per_group: usize,
    /// `quorum`
    pub quorum: u32,
    /// `down-after-milliseconds`
    pub down_after_ms: u64,
    /// `failover-timeout`, in ms.
    pub failover_timeout_ms: u64,
    /// `parallel-syncs`
    pub parallel_syncs: u32,
    /// Our `refused-after`, in ms; 0: none.
    pub refused_after_ms: u64,
    /// Our `flap-pause`, in ms; 0: none.
    pub flap_pause_ms: u64,
    /// Sentinels share machines with nodes.
    pub together: bool,
    /// Nodes are known by names, which have to be resolved.
    pub named: bool,
    /// Sentinels show the addresses that names were resolved to: `announce-hostnames no`.
    pub shows_ips: bool,
    /// When sentinels start, in ms; nodes do so in the beginning.
    pub sentinels_ms: Ms,
    /// Nothing fails before, in ms.
    pub warm_up_ms: Ms,
    /// How long things fail, in ms.
    pub faults_ms: Ms,
    /// Packets take 1 ms and up to so much more.
    pub jitter_ms: Ms,
    /// A connection is given up if nothing gets through it for so long, in ms.
    pub patience_ms: Ms,
    /// Nodes have a file to rewrite, and so remember across a restart whom they follow.
    pub rewrites: bool,
    /// Reading the data at a node's start takes up to so long, in ms.
    pub loading_ms: Ms,
    /// A full copy takes up to so long, in ms.
    pub copy_ms: Ms,
    /// `repl-timeout`, in ms.
    pub silence_ms: Ms,
    /// `repl-backlog-size`, in bytes.
    pub backlog: u64,
    /// What the INFO of a replica says of a link to the master that was never up, in s: -1, or, in
    /// older versions of Redis, the time since 1970.
    pub never_up_s: i64,
    /// The offset of the first master's history in the beginning, in bytes.
    pub first_offset: u64,
    /// `replica-serve-stale-data`: without it, a replica that has lost its master answers PING with
    /// MASTERDOWN.
    pub serves_stale: bool,
    /// `replica-priority` of all nodes; 0: each draws its own.
    pub priority: u32,
    /// `replica-priority` of these nodes.
    pub priorities: BTreeMap<usize, u32>,
    /// The node that a sentinel's file names as the master of the first group, where that is not
    /// its first node.
    pub monitors: BTreeMap<usize, usize>,
    /// A sentinel's connection that does not stand after so long is tried anew, in ms.
    pub connect_ms: Ms,
    /// The first pause before a reconnection, and the longest, in ms.
    pub backoff_ms: (Ms, Ms),
    /// Clocks run so many millionths too fast or too slow at most.
    pub drift_ppm: u64,
}

impl Default for Shape {
    /// Three sentinels on machines of their own, a master, two replicas, a quick network.
    fn default() -> Shape {
        Shape {
            sentinels: 3,
            late: Vec::new(),
            stock: Vec::new(),
            groups: 1,
            nodes_per_group: 3,
            quorum: 2,
            down_after_ms: 1_000,
            failover_timeout_ms: 10_000,
            parallel_syncs: 1,
            refused_after_ms: 0,
            flap_pause_ms: 0,
            together: false,
            named: false,
            shows_ips: false,
            sentinels_ms: 0,
            // An INFO period, a hello period, and some more.
            warm_up_ms: 13_000,
            faults_ms: 60_000,
            jitter_ms: 1,
            patience_ms: 30_000,
            rewrites: true,
            loading_ms: 50,
            copy_ms: 500,
            silence_ms: 60_000,
            backlog: 100_000,
            never_up_s: -1,
            first_offset: 1,
            serves_stale: true,
            priority: 100,
            priorities: BTreeMap::new(),
            monitors: BTreeMap::new(),
            connect_ms: 1_000,
            backoff_ms: (50, 500),
            drift_ppm: 0,
        }
    }
}

impl Shape {
    fn draw(options: &Options, dice: &mut Dice) -> Shape {
        // Hellos grow with the cube of the size, and most of what can happen can happen among few:
        // many small worlds show more than few large ones in the same time.
        let large = dice.one_in(12);
        let sentinels = match large {
            true => *dice.pick(&[4, 5, 5, 6, 7]),
            false => *dice.pick(&[3, 3, 3, 3, 3, 3, 3, 4, 5]),
        };
        let majority = sentinels as u64 / 2 + 1;
        let mut shape = Shape {
            sentinels,
            groups: match large {
                true => *dice.pick(&[1, 2, 3]),
                false => *dice.pick(&[1, 1, 1, 1, 1, 2]),
            },
            nodes_per_group: dice.within(2..=4) as usize,
            // Where many must all agree, every vote for somebody else is a lost election: with more
            // than five that may go on for minutes.
            quorum: match sentinels {
                0..=5 => *dice.pick(&[majority, majority, 2, sentinels as u64]) as u32,
                _ => *dice.pick(&[majority, majority, 2, majority + 1]) as u32,
            },
            down_after_ms: dice.skewed(500..=10_000),
            failover_timeout_ms: dice.skewed(2_000..=20_000),
            parallel_syncs: dice.within(1..=2) as u32,
            together: dice.one_in(2),
            sentinels_ms: NODES_FIRST_MS,
            warm_up_ms: WARM_UP_MS,
            named: dice.one_in(5),
            faults_ms: dice.skewed(if large { 20_000..=60_000 } else { 6_000..=40_000 }),
            jitter_ms: dice.skewed(0..=20),
            patience_ms: dice.skewed(3_000..=60_000),
            rewrites: dice.one_in(2),
            loading_ms: dice.skewed(1..=5_000),
            copy_ms: dice.skewed(10..=3_000),
            silence_ms: dice.skewed(5_000..=60_000),
            backlog: dice.skewed(200..=100_000),
            priority: if dice.one_in(2) { 100 } else { 0 },
            connect_ms: dice.skewed(250..=2_000),
            backoff_ms: (dice.skewed(10..=200), dice.skewed(250..=1_000)),
            drift_ppm: dice.skewed(1..=2_000),
            ..Shape::default()
        };
        if dice.one_in(5) {
            shape.late.push(sentinels - 1);
            if sentinels > 4 && dice.one_in(2) {
                shape.late.push(sentinels - 2);
            }
        }
        shape.serves_stale = !dice.one_in(4);
        if dice.one_in(2) {
            // More than 32 bits hold.
            shape.first_offset = dice.skewed(1..=1 << 40);
        }
        if shape.nodes_per_group > 2 && dice.one_in(4) {
            // One replica is never to be a master.
            shape.priorities.insert(shape.nodes_per_group - 1, 0);
        }
        if options.stock {
            // The model of a stock sentinel knows no names.
            shape.named = false;
            let count = dice.within(1..=sentinels as u64 - 1) as usize;
            shape.stock = (0..count).collect();
        }
        shape
    }

    pub(super) fn net(&self) -> NetShape {
        NetShape { jitter_ms: self.jitter_ms, patience_ms: self.patience_ms }
    }

    pub(super) fn node(&self, number: usize) -> NodeShape {
        NodeShape {
            rewrites: self.rewrites,
            loading_ms: self.loading_ms,
            copy_ms: self.copy_ms,
            silence_ms: self.silence_ms,
            backlog: self.backlog,
            never_up_s: self.never_up_s,
            first_offset: self.first_offset,
            serves_stale: self.serves_stale,
            priority: match self.priorities.get(&number) {
                Some(own) => Some(*own),
                None => Some(self.priority).filter(|priority| *priority > 0),
            },
        }
    }

    pub(super) fn host(&self) -> HostShape {
        HostShape {
            connect_ms: self.connect_ms,
            backoff_ms: self.backoff_ms,
            drift_ppm: self.drift_ppm,
        }
    }

    /// The name of a group.
    pub fn group_name(number: usize) -> String {
        format!("g{number}")
    }

    /// How many nodes there are in all groups.
    pub fn nodes(&self) -> usize {
        self.nodes_per_group * self.groups
    }

    /// The nodes of a group; the first is its master in the beginning.
    pub fn nodes_of(&self, group: usize) -> std::ops::Range<usize> {
        let first = group * self.nodes_per_group;
        first..first + self.nodes_per_group
    }

    pub(super) fn group_of(&self, node: usize) -> usize {
        node / self.nodes_per_group
    }

    /// How many machines there are, those of clients aside.
    pub fn machines(&self) -> usize {
        match self.together {
            true => self.sentinels.max(self.nodes_per_group),
            false => self.sentinels + self.nodes(),
        }
    }

    /// The machine of a process.
    pub fn machine_of(&self, proc: Proc) -> Machine {
        match proc {
            Proc::Sentinel(n) => n,
            Proc::Node(n) if self.together => {
                (n % self.nodes_per_group + self.group_of(n)) % self.machines()
            }
            Proc::Node(n) => self.sentinels + n,
            Proc::Client(n) => self.machines() + n,
        }
    }

    pub(super) fn node_port(&self, node: usize) -> u16 {
        NODE_PORT + self.group_of(node) as u16
    }

    pub(super) fn node_name(&self, node: usize) -> String {
        format!("node{node}.test")
    }

    /// Where a node is in the beginning, as sentinels and other nodes are told.
    pub fn node_address(&self, node: usize) -> Address {
        let host = match self.named {
            true => self.node_name(node),
            false => ip_of(self.machine_of(Proc::Node(node))),
        };
        Address::new(host, self.node_port(node))
    }

    pub(super) fn sentinel_address(&self, sentinel: usize) -> Address {
        Address::new(ip_of(self.machine_of(Proc::Sentinel(sentinel))), SENTINEL_PORT)
    }

    pub(super) fn sentinel_settings(&self) -> SentinelSettings {
        SentinelSettings {
            port: SENTINEL_PORT,
            resolve_hostnames: self.named,
            announce_hostnames: self.named && !self.shows_ips,
            ..SentinelSettings::default()
        }
    }

    /// What a sentinel's file says of a group.
    pub(super) fn group_settings(&self, sentinel: usize, group: usize) -> GroupSettings {
        let monitored = self.monitors.get(&sentinel).filter(|_| group == 0);
        let master = monitored.copied().unwrap_or(self.nodes_of(group).start);
        let master = self.node_address(master);
        let mut settings = GroupSettings::new(master, self.quorum);
        settings.down_after_ms = self.down_after_ms;
        settings.failover_timeout_ms = self.failover_timeout_ms;
        settings.parallel_syncs = self.parallel_syncs;
        settings.refused_after_ms = self.refused_after_ms;
        settings.flap_pause_ms = self.flap_pause_ms;
        settings
    }

    /// What an operator tells a sentinel that he has watch a group by command.
    pub(super) fn settings(&self) -> Vec<(&'static str, u64)> {
        let mut settings = vec![
            ("quorum", self.quorum.into()),
            ("down-after-milliseconds", self.down_after_ms),
            ("failover-timeout", self.failover_timeout_ms),
            ("parallel-syncs", self.parallel_syncs.into()),
        ];
        // Stock sentinels do not know it.
        settings.extend(Some(("refused-after", self.refused_after_ms)).filter(|(_, ms)| *ms > 0));
        if self.stock.is_empty() {
            settings.push(("flap-pause", self.flap_pause_ms));
        }
        settings
    }

    /// When all is healed, in ms.
    pub fn heal_at(&self) -> Ms {
        self.warm_up_ms + self.faults_ms
    }

    /// How long a healed world may take until all is well, in ms. Connections that stood through
    /// the faults may be half open for as long as their ends have patience; then the worst case is
    /// a master to be called down, a few elections lost, a promotion, and nodes put right, each of
    /// which has the time of a failover.
    pub fn bound_ms(&self) -> Ms {
        let connections = self.silence_ms + self.patience_ms;
        let elections = self.all_voters_ms();
        let failovers = self.down_after_ms + self.failover_timeout_ms + self.flap_pause_ms;
        60_000 + connections + 3 * failovers + elections
    }

    /// How long it may take in a world that was well, in ms, until masters that died are replaced
    /// and followed.
    pub fn replaced_ms(&self) -> Ms {
        let copies_ms = 2 * (self.copy_ms + self.loading_ms);
        30_000 + 2 * self.down_after_ms + copies_ms + self.flap_pause_ms + self.all_voters_ms()
    }

    /// How much longer an election may take, in ms, which more than a majority must agree to.
    fn all_voters_ms(&self) -> Ms {
        let majority = self.sentinels / 2 + 1;
        if self.quorum as usize > majority { VOTERS_MS * self.sentinels as Ms } else { 0 }
    }
}
