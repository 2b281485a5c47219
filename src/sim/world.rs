//! The world of one run: processes on machines, faults that come and go, the demand that in the end
//! all is well.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::checkers::{Checkers, Weather};
use super::client::Client;
use super::dice::Dice;
use super::faults::{Fault, FaultKind, Targets, draw};
use super::host::{Host, HostShape, Watch};
use super::net::{Happening, Machine, Ms, Net, NetShape, News, Proc, ip_of};
use super::node::{Node, NodeShape};
use super::sabotage::Sabotage;
use super::story::{Fingerprint, Story};
use super::{Options, Outcome};
use crate::config::settings::{GroupSettings, SENTINEL_PORT};
use crate::resp::Value;
use crate::sentinel::Request;
use crate::sentinel::types::Address;

/// Nothing fails before all sentinels have met: an INFO period and a hello period, and some more.
const WARM_UP_MS: Ms = 15_000;
/// Pause between two looks whether all is well, in ms.
const PROBE_MS: Ms = 250;
/// How long all must stay well before a run ends, in ms.
const SETTLE_MS: Ms = 12_000;
/// So many happenings within one ms mean that somebody asks and is answered in circles.
const HAPPENINGS_MAX: u32 = 10_000;
/// The port of the nodes of the first group; the next group has the next one.
const NODE_PORT: u16 = 6379;

/// Notes of the world to itself: beginnings of faults, then their ends, then these.
const NOTE_END: u64 = 1 << 32;
const NOTE_HEAL: u64 = 1 << 33;
const NOTE_PROBE: u64 = NOTE_HEAL + 1;
const NOTE_CALM_OVER: u64 = NOTE_HEAL + 2;

/// What a run is like; drawn from its seed.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    sentinels: usize,
    groups: usize,
    nodes_per_group: usize,
    quorum: u32,
    down_after_ms: u64,
    failover_timeout_ms: u64,
    parallel_syncs: u32,
    /// Sentinels share machines with nodes.
    together: bool,
    /// How long things fail, in ms.
    faults_ms: Ms,
    net: NetShape,
    node: NodeShape,
    host: HostShape,
}

impl Shape {
    fn draw(options: &Options, dice: &mut Dice) -> Shape {
        let sentinels = *dice.pick(&[3, 3, 5]);
        let majority = sentinels as u64 / 2 + 1;
        Shape {
            sentinels,
            groups: *dice.pick(&[1, 1, 2]),
            nodes_per_group: dice.within(2..=4) as usize,
            quorum: *dice.pick(&[majority, majority, 2, sentinels as u64]) as u32,
            down_after_ms: dice.skewed(500..=5_000),
            failover_timeout_ms: dice.skewed(2_000..=20_000),
            parallel_syncs: dice.within(1..=2) as u32,
            together: dice.one_in(2),
            faults_ms: dice.within(options.faults_ms / 2..=options.faults_ms),
            net: NetShape {
                jitter_ms: dice.skewed(0..=20),
                patience_ms: dice.skewed(3_000..=60_000),
            },
            node: NodeShape {
                rewrites: dice.one_in(2),
                loading_ms: dice.skewed(1..=5_000),
                copy_ms: dice.skewed(10..=3_000),
                silence_ms: dice.skewed(5_000..=60_000),
            },
            host: HostShape {
                connect_ms: dice.skewed(250..=2_000),
                backoff_ms: (dice.skewed(10..=200), dice.skewed(250..=1_000)),
                drift_ppm: dice.skewed(1..=2_000),
            },
        }
    }

    fn group_name(number: usize) -> String {
        format!("g{number}")
    }

    fn machines(&self) -> usize {
        let nodes = self.nodes_per_group * self.groups;
        if self.together {
            self.sentinels.max(self.nodes_per_group)
        } else {
            self.sentinels + nodes
        }
    }

    fn node_machine(&self, number: usize) -> Machine {
        let (group, within) = (number / self.nodes_per_group, number % self.nodes_per_group);
        match self.together {
            true => (within + group) % self.machines(),
            false => self.sentinels + number,
        }
    }

    fn node_address(&self, number: usize) -> Address {
        let port = NODE_PORT + (number / self.nodes_per_group) as u16;
        Address::new(ip_of(self.node_machine(number)), port)
    }

    fn first_node(&self, group: usize) -> usize {
        group * self.nodes_per_group
    }

    /// How long a healed world may take until all is well, in ms. Connections that stood through
    /// the faults may be half open for as long as their ends have patience; then the worst case is
    /// a master to be called down, a few elections lost, a promotion, and nodes put right, each of
    /// which has the time of a failover.
    fn bound_ms(&self) -> Ms {
        let connections = self.node.silence_ms + self.net.patience_ms;
        60_000 + connections + 3 * self.down_after_ms + 3 * self.failover_timeout_ms
    }
}

/// A process as the system sees it: it may be frozen, and then what comes waits.
#[derive(Default)]
struct Shell {
    frozen: u32,
    down: u32,
    inbox: VecDeque<News>,
}

/// Everything there is.
pub(super) struct World {
    shape: Shape,
    seed: u64,
    net: Net,
    watch: Watch,
    hosts: Vec<Host>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    shells: BTreeMap<Proc, Shell>,
    faults: Vec<Fault>,
    active: BTreeSet<usize>,
    /// Sentinels that an ambush killed, by the fault that set it.
    ambushed: BTreeSet<usize>,
    healed_at: Option<Ms>,
    /// Since when all is well, once healed.
    well_since: Option<Ms>,
    sabotage: Option<Sabotage>,
    /// The present ms and how much has happened in it.
    busy: (Ms, u32),
}

impl World {
    pub(super) fn new(seed: u64, options: &Options) -> World {
        let mut shape = Shape::draw(options, &mut Dice::new(seed, "shape"));
        let targets = Targets {
            sentinels: shape.sentinels,
            nodes: shape.nodes_per_group * shape.groups,
            groups: shape.groups,
            machines: shape.machines(),
        };
        let until = WARM_UP_MS + shape.faults_ms;
        let mut faults = draw(&targets, WARM_UP_MS, until, &mut Dice::new(seed, "faults"));
        if options.calm {
            faults.clear();
            shape.faults_ms = options.faults_ms;
        }
        let groups: BTreeMap<String, BTreeSet<Address>> = (0..shape.groups)
            .map(|group| {
                let first = shape.first_node(group);
                let nodes = first..first + shape.nodes_per_group;
                (Shape::group_name(group), nodes.map(|n| shape.node_address(n)).collect())
            })
            .collect();
        let watch = Watch {
            story: Story::new(options.telling),
            checkers: Checkers::new(shape.sentinels, groups),
            print: Fingerprint::new(),
            effects: 0,
            inputs: 0,
            tries: 0,
            switches: 0,
        };
        let mut world = World {
            net: Net::new(shape.net.clone(), Dice::new(seed, "net")),
            seed,
            watch,
            hosts: Vec::new(),
            nodes: Vec::new(),
            clients: Vec::new(),
            shells: BTreeMap::new(),
            faults,
            active: BTreeSet::new(),
            ambushed: BTreeSet::new(),
            healed_at: None,
            well_since: None,
            sabotage: options.sabotage,
            busy: (0, 0),
            shape,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let shape = self.shape.clone();
        let sentinel_address = |n| Address::new(ip_of(n), SENTINEL_PORT);
        for n in 0..shape.nodes_per_group * shape.groups {
            let master = shape.first_node(n / shape.nodes_per_group);
            let master = (n != master).then(|| shape.node_address(master));
            let (proc, address) = (Proc::Node(n), shape.node_address(n));
            let dice = Dice::new(self.seed, &format!("node {n}"));
            self.nodes.push(Node::new(proc, address.clone(), master, shape.node.clone(), dice));
            self.add(proc, shape.node_machine(n), Some(address));
        }
        let declared: BTreeMap<String, GroupSettings> = (0..shape.groups)
            .map(|group| {
                let master = shape.node_address(shape.first_node(group));
                let mut settings = GroupSettings::new(master, shape.quorum);
                settings.down_after_ms = shape.down_after_ms;
                settings.failover_timeout_ms = shape.failover_timeout_ms;
                settings.parallel_syncs = shape.parallel_syncs;
                (Shape::group_name(group), settings)
            })
            .collect();
        for n in 0..shape.sentinels {
            let sabotage = self.sabotage.filter(|_| n == 0);
            let (host, declared) = (shape.host.clone(), declared.clone());
            self.hosts.push(Host::new(n, SENTINEL_PORT, declared, host, self.seed, sabotage));
            self.add(Proc::Sentinel(n), n, Some(sentinel_address(n)));
        }
        for n in 0..shape.groups {
            let sentinels = (0..shape.sentinels).map(sentinel_address).collect();
            let dice = Dice::new(self.seed, &format!("client {n}"));
            self.clients.push(Client::new(n, Shape::group_name(n), sentinels, dice));
            self.add(Proc::Client(n), shape.machines() + n, None);
        }
    }

    fn add(&mut self, proc: Proc, machine: Machine, address: Option<Address>) {
        self.net.add(proc, machine, address);
        self.shells.insert(proc, Shell::default());
    }

    /// Lives the whole run.
    pub(super) fn run(mut self) -> Outcome {
        self.tell(|w| format!("seed {}: {:?}", w.seed, w.shape));
        for n in 0..self.nodes.len() {
            self.start(Proc::Node(n));
        }
        for n in 0..self.hosts.len() {
            self.start(Proc::Sentinel(n));
        }
        for n in 0..self.clients.len() {
            self.start(Proc::Client(n));
        }
        for (n, fault) in self.faults.iter().enumerate() {
            self.net.remind(fault.at, n as u64);
            self.net.remind(fault.at + fault.for_ms, NOTE_END + n as u64);
        }
        if let Some(first) = self.faults.first() {
            self.net.remind(first.at, NOTE_CALM_OVER);
        }
        let heal_at = WARM_UP_MS + self.shape.faults_ms;
        self.net.remind(heal_at, NOTE_HEAL);
        let end = heal_at + self.shape.bound_ms() + SETTLE_MS + PROBE_MS;
        while self.watch.checkers.violation().is_none() {
            let Some(happening) = self.net.next(end) else {
                let wrong = self.what_is_wrong();
                let what = format!("all stays well: it changes to and fro, now {wrong:?}");
                self.watch.checkers.fail(end, what);
                break;
            };
            self.count_happening();
            match happening {
                Happening::To(proc, news) => self.deliver(proc, news),
                Happening::Reminder(NOTE_HEAL) => self.heal(),
                Happening::Reminder(NOTE_CALM_OVER) => {
                    self.watch.checkers.set_weather(Weather::Rough);
                }
                Happening::Reminder(NOTE_PROBE) => {
                    if self.probe() {
                        break;
                    }
                }
                Happening::Reminder(note) if note >= NOTE_END => {
                    self.end_fault((note - NOTE_END) as usize);
                }
                Happening::Reminder(note) => self.begin_fault(note as usize),
            }
        }
        self.outcome()
    }

    fn count_happening(&mut self) {
        let now = self.net.now();
        let (at, count) = self.busy;
        self.busy = (now, if at == now { count + 1 } else { 1 });
        if self.busy.1 == HAPPENINGS_MAX {
            self.watch.checkers.fail(now, "no circles: the world does not get on".into());
        }
    }

    fn tell(&mut self, what: impl FnOnce(&World) -> String) {
        if self.watch.story.is_heard() {
            let line = what(self);
            self.watch.story.tell(self.net.now(), &"world", || line);
        }
    }

    fn shell(&mut self, proc: Proc) -> &mut Shell {
        self.shells.get_mut(&proc).expect("every process has a shell from the beginning")
    }

    fn deliver(&mut self, proc: Proc, news: News) {
        let shell = self.shell(proc);
        if shell.frozen > 0 {
            shell.inbox.push_back(news);
            return;
        }
        let (net, watch) = (&mut self.net, &mut self.watch);
        match proc {
            Proc::Sentinel(n) => {
                self.hosts[n].take(net, watch, news);
                self.spring_ambush(n);
            }
            Proc::Node(n) => {
                let before = self.nodes[n].following().cloned();
                self.nodes[n].take(net, news);
                let node = &self.nodes[n];
                if node.following() != before.as_ref() {
                    let now = net.now();
                    watch.story.tell(now, &proc, || match node.following() {
                        None => "is a master now".to_owned(),
                        Some(master) => format!("follows {master} now"),
                    });
                }
            }
            Proc::Client(n) => self.clients[n].take(net, news),
        }
    }

    fn start(&mut self, proc: Proc) {
        self.net.start(proc);
        let (net, watch) = (&mut self.net, &mut self.watch);
        match proc {
            Proc::Sentinel(n) => {
                self.hosts[n].start(net, watch);
                self.spring_ambush(n);
            }
            Proc::Node(n) => self.nodes[n].start(net),
            Proc::Client(n) => self.clients[n].start(net),
        }
        self.tell(|_| format!("{proc} starts"));
    }

    fn kill(&mut self, proc: Proc) {
        self.net.kill(proc);
        self.shell(proc).inbox.clear();
        if let Proc::Sentinel(n) = proc {
            self.hosts[n].crash();
        }
        self.tell(|_| format!("{proc} dies"));
    }

    /// Another reason for a process to be down; it dies of the first.
    fn put_down(&mut self, proc: Proc) {
        self.shell(proc).down += 1;
        if self.net.running(proc) {
            self.kill(proc);
        }
    }

    /// One reason less; it starts when there is none.
    fn put_up(&mut self, proc: Proc) {
        let shell = self.shell(proc);
        shell.down -= 1;
        if shell.down == 0 {
            self.start(proc);
        }
    }

    /// Carries out the crash of a sentinel that met its ambush.
    fn spring_ambush(&mut self, n: usize) {
        if !self.hosts[n].doomed() {
            return;
        }
        let fault = self.active.iter().copied().find(|fault| {
            matches!(self.faults[*fault].kind, FaultKind::Ambush(sentinel, _) if sentinel == n)
                && !self.ambushed.contains(fault)
        });
        match fault {
            Some(fault) => {
                self.ambushed.insert(fault);
                self.put_down(Proc::Sentinel(n));
            }
            // The fault that set it is over: the process starts again at once.
            None => {
                self.kill(Proc::Sentinel(n));
                self.start(Proc::Sentinel(n));
            }
        }
    }

    fn begin_fault(&mut self, number: usize) {
        let fault = self.faults[number].clone();
        self.tell(|_| format!("begins, for {} ms: {}", fault.for_ms, fault.kind));
        self.active.insert(number);
        match fault.kind {
            FaultKind::Crash(proc) => self.put_down(proc),
            FaultKind::Ambush(n, ambush) => self.hosts[n].ambush = Some(ambush),
            FaultKind::Freeze(proc) => self.shell(proc).frozen += 1,
            FaultKind::Cut(a, b) => self.net.cut_between(a, b),
            FaultKind::Failover { sentinel, group } => self.order_failover(sentinel, group),
            _ => self.change_weather(),
        }
    }

    fn end_fault(&mut self, number: usize) {
        if !self.active.remove(&number) {
            return;
        }
        let fault = self.faults[number].clone();
        self.tell(|_| format!("ends: {}", fault.kind));
        match fault.kind {
            FaultKind::Crash(proc) => self.put_up(proc),
            FaultKind::Ambush(n, _) => {
                self.hosts[n].ambush = None;
                if self.ambushed.remove(&number) {
                    self.put_up(Proc::Sentinel(n));
                }
            }
            FaultKind::Freeze(proc) => self.thaw(proc),
            FaultKind::Cut(..) | FaultKind::Failover { .. } => {}
            _ => self.change_weather(),
        }
    }

    /// What lay waiting while it was frozen comes at once.
    fn thaw(&mut self, proc: Proc) {
        self.shell(proc).frozen -= 1;
        if self.shell(proc).frozen > 0 {
            return;
        }
        for news in std::mem::take(&mut self.shell(proc).inbox) {
            if self.net.running(proc) {
                self.deliver(proc, news);
            }
        }
    }

    /// Network and disks as the active faults make them.
    fn change_weather(&mut self) {
        let mut blocked = BTreeSet::new();
        let mut slow: BTreeMap<(Machine, Machine), Ms> = BTreeMap::new();
        let machines = self.shape.machines() + self.clients.len();
        self.net.reset_one_in = 0;
        for host in &mut self.hosts {
            (host.disk.slow_ms, host.disk.failing) = (0, false);
        }
        for number in &self.active {
            match &self.faults[*number].kind {
                FaultKind::Partition { from, both } => {
                    for a in from {
                        for b in (0..machines).filter(|b| !from.contains(b)) {
                            blocked.insert((*a, b));
                            if *both {
                                blocked.insert((b, *a));
                            }
                        }
                    }
                }
                FaultKind::Slow(a, b, ms) => {
                    let pair = (*a.min(b), *a.max(b));
                    let worst = slow.entry(pair).or_default();
                    *worst = (*worst).max(*ms);
                }
                FaultKind::Flaky(one_in) => self.net.reset_one_in = *one_in,
                FaultKind::SlowDisk(n, ms) => self.hosts[*n].disk.slow_ms = *ms,
                FaultKind::BadDisk(n) => self.hosts[*n].disk.failing = true,
                _ => {}
            }
        }
        self.net.set_weather(blocked, slow);
    }

    fn order_failover(&mut self, sentinel: usize, group: usize) {
        let proc = Proc::Sentinel(sentinel);
        if self.shell(proc).frozen > 0 || !self.net.running(proc) {
            return;
        }
        let request = Request::Failover(Shape::group_name(group));
        let reply = self.hosts[sentinel].ask(&mut self.net, &mut self.watch, request);
        self.tell(|_| format!("an operator asks {proc} for a failover: {reply:?}"));
        self.spring_ambush(sentinel);
    }

    /// All that fails is mended: from now on things must become well.
    fn heal(&mut self) {
        self.tell(|_| "all is healed".to_owned());
        for number in std::mem::take(&mut self.active) {
            let never = self.sabotage == Some(Sabotage::NeverHealed);
            if never && matches!(self.faults[number].kind, FaultKind::Freeze(_)) {
                continue;
            }
            self.active.insert(number);
            self.end_fault(number);
        }
        if self.sabotage == Some(Sabotage::NeverHealed) {
            self.shell(Proc::Sentinel(0)).frozen += 1;
        }
        self.healed_at = Some(self.net.now());
        self.net.remind(0, NOTE_PROBE);
    }

    /// Looks whether all is well. True if the run is over.
    fn probe(&mut self) -> bool {
        self.net.remind(PROBE_MS, NOTE_PROBE);
        let now = self.net.now();
        let healed_at = self.healed_at.unwrap_or(now);
        match (self.what_is_wrong(), self.well_since) {
            (None, None) => {
                self.tell(|_| format!("all is well, {} ms after healing", now - healed_at));
                self.well_since = Some(now);
                let calm = self.faults.is_empty();
                self.watch.checkers.set_weather(if calm { Weather::Calm } else { Weather::After });
            }
            (None, Some(since)) if now >= since + SETTLE_MS => {
                self.check_data(since);
                return true;
            }
            (None, Some(_)) => {}
            (Some(wrong), _) if now > healed_at + self.shape.bound_ms() => {
                let bound = self.shape.bound_ms();
                let what = format!("all is well within {bound} ms of healing: {wrong}");
                self.watch.checkers.fail(now, what);
            }
            // A connection that was half open may still break, and a node be out of sync for a
            // while.
            (Some(wrong), Some(_)) => {
                self.tell(|_| format!("not well any more: {wrong}"));
                self.well_since = None;
            }
            (Some(_), None) => {}
        }
        false
    }

    /// What keeps the world from being well; `None` if all is.
    fn what_is_wrong(&mut self) -> Option<String> {
        for group in 0..self.shape.groups {
            let first = self.shape.first_node(group);
            let nodes = first..first + self.shape.nodes_per_group;
            let mut masters = nodes.clone().filter(|n| self.nodes[*n].following().is_none());
            let Some(master) = masters.next() else {
                return Some(format!("no node of g{group} is a master"));
            };
            if let Some(other) = masters.next() {
                return Some(format!("nodes {master} and {other} of g{group} are masters"));
            }
            let address = self.nodes[master].address.clone();
            for n in nodes.filter(|n| *n != master) {
                let node = &self.nodes[n];
                if node.following() != Some(&address) || !node.in_sync() {
                    let state = if node.in_sync() { "in sync" } else { "not in sync" };
                    let follows = node.following();
                    return Some(format!("node {n} follows {follows:?}, {state}, not {address}"));
                }
            }
            for n in 0..self.hosts.len() {
                if let Some(wrong) = self.what_is_wrong_with(n, group, &address) {
                    return Some(format!("sentinel {n}, g{group}: {wrong}"));
                }
            }
        }
        None
    }

    fn what_is_wrong_with(&mut self, n: usize, group: usize, master: &Address) -> Option<String> {
        if self.shell(Proc::Sentinel(n)).frozen > 0 {
            return Some("is frozen".into());
        }
        if self.hosts[n].has_unwritten() {
            return Some("has not written what it decided".into());
        }
        let request = Request::Master(Shape::group_name(group));
        let Some(entry) = self.hosts[n].ask(&mut self.net, &mut self.watch, request) else {
            return Some("does not answer".into());
        };
        let expected = [
            ("ip", master.host.clone()),
            ("port", master.port.to_string()),
            ("flags", "master".to_owned()),
            ("num-slaves", (self.shape.nodes_per_group - 1).to_string()),
            ("num-other-sentinels", (self.shape.sentinels - 1).to_string()),
        ];
        for (name, value) in expected {
            let found = field(&entry, name);
            if found != Some(&value) {
                return Some(format!("{name} is {found:?}, not {value}"));
            }
        }
        field(&entry, "failover-state").map(|state| format!("a failover is in state {state}"))
    }

    /// In the end all nodes hold the same, and whatever was confirmed since all is well; without
    /// any fault, whatever was ever confirmed.
    fn check_data(&mut self, well_since: Ms) {
        let now = self.net.now();
        let since = if self.faults.is_empty() { 0 } else { well_since };
        for group in 0..self.shape.groups {
            let first = self.shape.first_node(group);
            let nodes = &self.nodes[first..first + self.shape.nodes_per_group];
            let Some(master) = nodes.iter().find(|node| node.following().is_none()) else { return };
            let held: BTreeSet<u32> = master.history().iter().copied().collect();
            let clients = self.clients.iter().filter(|c| c.group == Shape::group_name(group));
            for client in clients {
                let mut recent = client.acked().iter().filter(|(at, _)| *at >= since).peekable();
                if recent.peek().is_none() {
                    let what = format!("clients find the master: {} writes nothing", client.proc);
                    self.watch.checkers.fail(now, what);
                }
                if let Some((at, write)) = recent.find(|(_, write)| !held.contains(write)) {
                    let what =
                        format!("confirmed writes stay: {write}, confirmed at {at} ms, is lost");
                    self.watch.checkers.fail(now, what);
                }
            }
        }
    }

    fn lost_writes(&self) -> (u64, u64) {
        let (mut acked, mut lost) = (0, 0);
        for (group, client) in self.clients.iter().enumerate() {
            let first = self.shape.first_node(group);
            let nodes = &self.nodes[first..first + self.shape.nodes_per_group];
            let master = nodes.iter().find(|node| node.following().is_none());
            let held: BTreeSet<u32> =
                master.map(|m| m.history().iter().copied().collect()).unwrap_or_default();
            acked += client.acked().len() as u64;
            lost += client.acked().iter().filter(|(_, w)| !held.contains(w)).count() as u64;
        }
        (acked, lost)
    }

    fn outcome(self) -> Outcome {
        let (acked, lost) = self.lost_writes();
        Outcome {
            seed: self.seed,
            hash: self.watch.print.value(),
            violation: self.watch.checkers.violation().cloned(),
            virtual_ms: self.net.now(),
            faults: self.faults.len() as u64,
            inputs: self.watch.inputs,
            effects: self.watch.effects,
            elections: self.watch.tries,
            switches: self.watch.switches,
            converged_ms: self.well_since.zip(self.healed_at).map(|(well, healed)| well - healed),
            writes_acked: acked,
            writes_lost: lost,
            story: self.watch.story.into_tail(),
        }
    }
}

/// A field of an entry of SENTINEL MASTER.
fn field<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    match entry {
        Value::Map(pairs) => {
            pairs.iter().find(|(key, _)| key.text() == Some(name)).and_then(|(_, v)| v.text())
        }
        Value::Array(items) => {
            items.chunks(2).find(|pair| pair[0].text() == Some(name)).and_then(|p| p[1].text())
        }
        _ => None,
    }
}
