//! The world of one run: processes on machines, what comes to them, the demand that in the end all
//! is well. What goes wrong is carried out in `trouble`, what "well" means is in `wellness`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::checkers::{Checkers, Season, Violation};
use super::client::Client;
use super::dice::Dice;
use super::host::Host;
use super::net::Net;
use super::node::Node;
use super::plan::{Plan, Shape};
use super::rules::Rule;
use super::sabotage::Sabotage;
use super::story::{Fingerprint, Story, Telling};
use super::trial::Trial;
use super::watch::Watch;
use super::wire::{Happening, Ms, News, Note, Proc};
use super::{Outcome, faults::FaultKind, words};
use crate::sentinel::Request;
use crate::sentinel::types::Address;

/// Pause between two looks whether all is well, in ms.
pub(super) const PROBE_MS: Ms = 500;
/// How long all must stay well before a run ends, in ms, and `down-after` on top of it.
const SETTLE_MS: Ms = 4_000;
/// So long after healing an operator looks after nodes that RESET made the sentinels forget, in ms.
const FORGOTTEN_MS: Ms = 20_000;
/// So long after healing an operator who had to say RESET looks again, in ms.
const RESET_AGAIN_MS: Ms = 40_000;
/// A freeze of this length, in ms, is noticed as one: TILT's trigger and the longest time in which
/// nothing is due.
const LONG_FREEZE_MS: Ms = 4_000;
/// So many happenings within one ms mean that somebody asks and is answered in circles.
const HAPPENINGS_MAX: u32 = 10_000;

/// A process as the system sees it: it may be frozen, and then what comes waits.
#[derive(Default)]
pub(super) struct Shell {
    pub(super) frozen: u32,
    /// Since when.
    pub(super) frozen_at: Ms,
    /// Reasons why it is down.
    pub(super) down: u32,
    inbox: VecDeque<News>,
}

/// Everything there is.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) net: Net,
    pub(super) watch: Watch,
    pub(super) hosts: Vec<Host>,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Vec<Client>,
    pub(super) shells: BTreeMap<Proc, Shell>,
    /// Faults that last at present, by number.
    pub(super) active: BTreeSet<usize>,
    /// Partitions that come and go, and are gone at present.
    pub(super) flapped: BTreeSet<usize>,
    /// Sentinels that an ambush killed, by the fault that set it.
    pub(super) ambushed: BTreeSet<usize>,
    /// What an operator has still to say, and to which sentinel, as soon as it can be reached.
    pub(super) errands: VecDeque<(usize, Request)>,
    /// Something is gone for good, and the sentinels have to be told to forget it.
    pub(super) must_reset: bool,
    /// When an operator last said RESET for that, some time after healing.
    pub(super) reset_at: Option<Ms>,
    /// A sentinel names somebody who is not there.
    pub(super) ghosts: bool,
    /// Nodes that got another one's address.
    pub(super) swapped: BTreeSet<usize>,
    /// Masters that live at each other's address, by the fault that moved them; who ever did.
    pub(super) trades: BTreeMap<usize, [usize; 2]>,
    pub(super) traded: BTreeSet<usize>,
    /// Those of which the second is reached at both addresses until it moves.
    pub(super) trading: BTreeMap<usize, [usize; 2]>,
    /// Another group has made one of them its own, as nobody could tell: its data are lost, and
    /// nothing more can be asked of this run.
    pub(super) captured: bool,
    /// A sentinel lost its memory, and with it maybe a node that nobody else knew.
    pub(super) forgetful: bool,
    pub(super) dice: Dice,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) trial: Trial,
    /// All must become well from then on.
    pub(super) healed_at: Option<Ms>,
    /// Since when all is well, once healed.
    pub(super) well_since: Option<Ms>,
    /// How long it took to become well for good, before the last trial.
    converged_ms: Option<Ms>,
    /// Switches that had been announced at the last look.
    switches_seen: u64,
    /// The present ms and how much has happened in it.
    busy: (Ms, u32),
}

impl World {
    pub(super) fn new(plan: &Plan, telling: Telling, sabotage: Option<Sabotage>) -> World {
        let shape = &plan.shape;
        let groups: BTreeMap<String, BTreeSet<Address>> = (0..shape.groups)
            .map(|group| {
                let addresses = shape.nodes_of(group).map(|n| shape.node_address(n));
                (Shape::group_name(group), addresses.collect())
            })
            .collect();
        let mut world = World {
            net: Net::new(shape.net(), Dice::new(plan.seed, "net")),
            watch: Watch {
                story: Story::new(telling),
                checkers: Checkers::new(groups, shape.sentinels),
                print: Fingerprint::new(),
                effects: 0,
                inputs: 0,
                tries: 0,
                left_alone: BTreeSet::new(),
                led_away: BTreeSet::new(),
                no_candidate: BTreeSet::new(),
                displaced: BTreeSet::new(),
                quarrels: BTreeSet::new(),
                switches: 0,
                renamed: false,
                helps: BTreeSet::new(),
            },
            hosts: Vec::new(),
            nodes: Vec::new(),
            clients: Vec::new(),
            shells: BTreeMap::new(),
            active: BTreeSet::new(),
            flapped: BTreeSet::new(),
            ambushed: BTreeSet::new(),
            errands: VecDeque::new(),
            must_reset: false,
            reset_at: None,
            ghosts: false,
            swapped: BTreeSet::new(),
            trades: BTreeMap::new(),
            trading: BTreeMap::new(),
            traded: BTreeSet::new(),
            captured: false,
            forgetful: false,
            dice: Dice::new(plan.seed, "world"),
            sabotage,
            trial: if plan.trial { Trial::Due } else { Trial::None },
            healed_at: None,
            well_since: None,
            converged_ms: None,
            switches_seen: 0,
            busy: (0, 0),
            plan: plan.clone(),
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let (shape, seed) = (self.plan.shape.clone(), self.plan.seed);
        for n in 0..shape.sentinels {
            let declared = (0..shape.groups)
                .map(|group| (Shape::group_name(group), shape.group_settings(n, group)))
                .collect();
            let sabotage = self.sabotage.filter(|_| n == 0);
            let settings = shape.sentinel_settings();
            let mut host = Host::new(n, settings, declared, shape.host(), seed, sabotage);
            host.stock = shape.stock.contains(&n);
            self.hosts.push(host);
            let port = shape.sentinel_address(n).port;
            self.add(Proc::Sentinel(n), Some(port));
        }
        for n in 0..shape.nodes() {
            let (proc, address) = (Proc::Node(n), shape.node_address(n));
            self.add(proc, Some(address.port));
            if shape.named {
                self.name_node(n, shape.machine_of(proc));
            }
            let first = shape.nodes_of(shape.group_of(n)).start;
            let master = (n != first).then(|| shape.node_address(first));
            let dice = Dice::new(seed, &format!("node {n}"));
            self.nodes.push(Node::new(proc, address, master, shape.node(n), dice));
        }
        for n in 0..shape.groups {
            let sentinels = (0..shape.sentinels).map(|n| shape.sentinel_address(n)).collect();
            let dice = Dice::new(seed, &format!("client {n}"));
            self.clients.push(Client::new(n, Shape::group_name(n), sentinels, dice));
            self.add(Proc::Client(n), None);
        }
    }

    fn add(&mut self, proc: Proc, port: Option<u16>) {
        self.net.add(proc, self.plan.shape.machine_of(proc), port);
        self.shells.insert(proc, Shell::default());
    }

    /// Lives the whole run.
    pub(super) fn run(&mut self) {
        if self.watch.story.is_heard() {
            for line in words::legend(self.plan.seed, &self.plan.shape) {
                self.tell(|_| line);
            }
        }
        self.begin();
        let heal_at = self.plan.shape.heal_at();
        self.net.remind(heal_at, Note::Heal);
        let settle = SETTLE_MS + self.plan.shape.down_after_ms;
        let mut end = heal_at + self.plan.shape.bound_ms() + settle + PROBE_MS;
        if self.plan.trial {
            end += self.plan.shape.replaced_ms() + self.plan.shape.bound_ms() + settle + PROBE_MS;
        }
        while self.watch.checkers.violation().is_none() && !self.captured {
            let Some(happening) = self.net.next(end) else {
                if !self.plan.shape.stock.is_empty() {
                    break;
                }
                let wrong = self.what_is_wrong();
                let how = format!("it changes to and fro, now {wrong:?}");
                self.watch.checkers.fail(end, Rule::AllStaysWell, how);
                break;
            };
            self.count_happening();
            match happening {
                Happening::To(proc, news) => self.deliver(proc, news),
                Happening::Reminder(Note::Heal) if !self.plan.heals => break,
                Happening::Reminder(note) => {
                    if self.mind(note) {
                        break;
                    }
                }
            }
        }
    }

    /// True if the run is over.
    fn mind(&mut self, note: Note) -> bool {
        match note {
            Note::Probe => return self.probe(),
            Note::Sentinels => self.start_sentinels(),
            Note::CalmOver => self.watch.checkers.set_season(Season::Rough),
            Note::Begins(fault) => self.begin_fault(fault),
            Note::Ends(fault) => self.end_fault(fault),
            Note::Flaps(fault) => self.flap(fault),
            Note::Trades(fault) => self.end_trade_gap(fault),
            Note::Heal => self.heal(),
            Note::Operator => self.run_errands(),
        }
        false
    }

    fn begin(&mut self) {
        for n in 0..self.nodes.len() {
            self.start(Proc::Node(n));
        }
        for n in 0..self.hosts.len() {
            self.shell(Proc::Sentinel(n)).down = 1;
        }
        self.net.remind(self.plan.shape.sentinels_ms, Note::Sentinels);
        for (n, fault) in self.plan.faults.iter().enumerate() {
            self.net.remind(fault.at, Note::Begins(n));
            self.net.remind(fault.at + fault.for_ms, Note::Ends(n));
        }
        if !self.plan.shape.monitors.is_empty() {
            self.watch.checkers.set_season(Season::Rough);
        } else if !self.plan.calm {
            let heal_at = self.plan.shape.heal_at();
            let first = self.plan.faults.first().map_or(heal_at, |fault| fault.at);
            self.net.remind(first, Note::CalmOver);
        }
    }

    fn start_sentinels(&mut self) {
        for n in 0..self.hosts.len() {
            if !self.plan.shape.late.contains(&n) {
                self.put_up(Proc::Sentinel(n));
            }
        }
        for n in 0..self.clients.len() {
            self.start(Proc::Client(n));
        }
    }

    fn count_happening(&mut self) {
        let now = self.net.now();
        let (at, count) = self.busy;
        self.busy = (now, if at == now { count + 1 } else { 1 });
        if self.busy.1 == HAPPENINGS_MAX {
            self.watch.checkers.fail(now, Rule::NoCircles, "the world does not get on".into());
        }
    }

    pub(super) fn tell(&mut self, what: impl FnOnce(&World) -> String) {
        if self.watch.story.is_heard() {
            let line = what(self);
            self.watch.story.tell(self.net.now(), &"world", || line);
        }
    }

    pub(super) fn shell(&mut self, proc: Proc) -> &mut Shell {
        self.shells.get_mut(&proc).expect("every process has a shell from the beginning")
    }

    /// It runs, and is not frozen.
    pub(super) fn is_awake(&self, proc: Proc) -> bool {
        self.net.running(proc) && self.shells.get(&proc).is_some_and(|shell| shell.frozen == 0)
    }

    pub(super) fn deliver(&mut self, proc: Proc, news: News) {
        if !self.active.is_empty() {
            let shell = self.shell(proc);
            if shell.frozen > 0 {
                shell.inbox.push_back(news);
                return;
            }
        }
        let (net, watch) = (&mut self.net, &mut self.watch);
        match proc {
            Proc::Sentinel(n) => {
                self.hosts[n].take(net, watch, news);
                self.after_sentinel(n);
            }
            Proc::Node(n) if watch.story.is_heard() => {
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
            Proc::Node(n) => self.nodes[n].take(net, news),
            Proc::Client(n) => self.clients[n].take(net, news),
        }
    }

    /// What a sentinel claimed is compared with the truth, and its ambush may be due.
    pub(super) fn after_sentinel(&mut self, n: usize) {
        for claim in self.watch.checkers.claims() {
            self.verify(&claim);
        }
        self.spring_ambush(n);
        self.audit(n);
    }

    pub(super) fn start(&mut self, proc: Proc) {
        self.net.start(proc);
        self.tell(|_| format!("{proc} starts"));
        let (net, watch) = (&mut self.net, &mut self.watch);
        match proc {
            Proc::Sentinel(n) => {
                self.hosts[n].start(net, watch);
                // A master that is back in its place still shows replicas of where it was.
                self.watch.checkers.is_misled(n, !self.traded.is_empty());
                self.after_sentinel(n);
            }
            Proc::Node(n) => self.nodes[n].start(net),
            Proc::Client(n) => self.clients[n].start(net),
        }
    }

    /// Ends a process; with its machine if `silently`.
    pub(super) fn kill(&mut self, proc: Proc, silently: bool) {
        match silently {
            true => self.net.vanish(proc),
            false => self.net.kill(proc),
        }
        self.shell(proc).inbox.clear();
        match proc {
            Proc::Sentinel(n) => {
                self.hosts[n].crash();
                self.watch.checkers.died(n);
            }
            Proc::Node(n) => self.nodes[n].stopped(self.net.now()),
            Proc::Client(_) => {}
        }
        self.tell(|_| format!("{proc} dies"));
    }

    /// Another reason for a process to be down; it dies of the first.
    pub(super) fn put_down(&mut self, proc: Proc, silently: bool) {
        self.shell(proc).down += 1;
        if self.net.running(proc) {
            self.kill(proc, silently);
        }
    }

    /// One reason less; it starts when there is none.
    pub(super) fn put_up(&mut self, proc: Proc) {
        let shell = self.shell(proc);
        shell.down -= 1;
        if shell.down == 0 {
            self.start(proc);
        }
    }

    pub(super) fn freeze(&mut self, proc: Proc) {
        let now = self.net.now();
        let shell = self.shell(proc);
        shell.frozen += 1;
        if shell.frozen == 1 {
            shell.frozen_at = now;
        }
    }

    /// What lay waiting while it was frozen comes at once.
    ///
    /// If `judged`, nothing may be decided for a while; who was stopped right after a decision has
    /// others still to say.
    pub(super) fn thaw(&mut self, proc: Proc, judged: bool) {
        self.shell(proc).frozen -= 1;
        if self.shell(proc).frozen > 0 {
            return;
        }
        let now = self.net.now();
        if let Proc::Sentinel(n) = proc {
            let since = self.shell(proc).frozen_at;
            self.watch.checkers.goes_on(n, since, now);
        }
        if let Proc::Sentinel(n) = proc
            && judged
            && self.net.running(proc)
            && now - self.shell(proc).frozen_at > LONG_FREEZE_MS
            // Else what was decided before may still wait to be said.
            && self.hosts[n].disk.is_settled()
            && !self.hosts[n].was_stopped()
        {
            self.watch.checkers.thawed(n, now);
        }
        for news in std::mem::take(&mut self.shell(proc).inbox) {
            if self.net.running(proc) {
                self.deliver(proc, news);
            }
        }
        if let Proc::Sentinel(n) = proc
            && self.net.running(proc)
        {
            self.hosts[n].go_on(&mut self.net, &mut self.watch);
            self.after_sentinel(n);
        }
    }

    /// All that fails is mended: from now on things must become well.
    fn heal(&mut self) {
        self.tell(|_| "all is healed".to_owned());
        self.end_faults();
        for n in self.plan.shape.late.clone() {
            if self.shell(Proc::Sentinel(n)).down > 0 {
                self.join(n);
            }
        }
        if self.must_reset && self.has_masters() {
            self.reset_all();
        }
        self.healed_at = Some(self.net.now());
        let after = self.dice.below(5_000);
        self.net.remind(after, Note::Operator);
        self.net.remind(1, Note::Probe);
    }

    /// Looks whether all is well. True if the run is over.
    fn probe(&mut self) -> bool {
        self.net.remind(PROBE_MS, Note::Probe);
        let now = self.net.now();
        let healed_at = self.healed_at.unwrap_or(now);
        let bound = self.plan.shape.bound_ms();
        if matches!(self.trial, Trial::Orphaned { .. }) {
            self.judge_trial();
            return false;
        }
        if now > healed_at + FORGOTTEN_MS && (now - healed_at) % 5_000 < PROBE_MS {
            self.adopt_forgotten();
        }
        self.must_reset |= std::mem::take(&mut self.watch.renamed);
        if self.must_reset && now > healed_at + RESET_AGAIN_MS && self.has_masters() {
            // A late hello may have brought back a sentinel that is gone.
            self.must_reset = false;
            self.reset_at = Some(now);
            self.well_since = None;
            self.reset_all();
            self.run_errands();
        }
        // A master may still have named one that is gone then: its connection was half open.
        let again = self.reset_at.is_some_and(|at| now > at + RESET_AGAIN_MS);
        self.must_reset |= std::mem::take(&mut self.ghosts) && again;
        if self.watch.switches != self.switches_seen {
            // Between two looks it was not.
            self.switches_seen = self.watch.switches;
            self.well_since = None;
        }
        match (self.what_is_wrong(), self.well_since) {
            (None, None) => {
                let trouble = match self.trial {
                    Trial::None | Trial::Due => "healing",
                    _ => "healing, the trial included",
                };
                self.tell(|_| format!("all is well, {} ms after {trouble}", now - healed_at));
                self.well_since = Some(now);
            }
            (None, Some(since)) if now >= since + SETTLE_MS + self.plan.shape.down_after_ms => {
                self.converged_ms.get_or_insert(since - healed_at);
                if self.trial == Trial::Due && self.must_reset {
                    // Nobody helps once it has begun.
                    return false;
                }
                self.check_data(since);
                if self.trial != Trial::Due {
                    return true;
                }
                self.begin_trial();
            }
            // What was asked of a node that hung may still count as silence for a while.
            (None, Some(since)) if now >= since + self.plan.shape.down_after_ms + 1_000 => {
                let season = if self.plan.calm { Season::Calm } else { Season::After };
                self.watch.checkers.set_season(season);
            }
            (None, Some(_)) => {}
            // What stock sentinels are stuck in is their defect; that ours broke no rule was seen.
            (Some(_), _) if now > healed_at + bound && !self.plan.shape.stock.is_empty() => {
                return true;
            }
            (Some(wrong), _) if now > healed_at + bound => {
                let how = format!("not within {bound} ms of healing, {wrong}");
                self.watch.checkers.fail(now, Rule::AllIsWellAgain, how);
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

    /// What became of the run, which ended with this panic if with any.
    pub(super) fn outcome(mut self, panic: Option<String>) -> Outcome {
        let (acked, lost) = self.lost_writes();
        // Whoever panicked cannot be asked any more.
        let groups = if panic.is_some() { 0 } else { self.plan.shape.groups };
        let groups = (0..groups).map(|group| self.group_end(group)).collect();
        let panic = panic.map(|what| Violation { at_ms: self.net.now(), what });
        let mut violation = self.watch.checkers.violation().cloned().or(panic);
        if let Some(found) = &mut violation {
            found.what = self.watch.story.named(&found.what);
        }
        let orders = |f: &super::faults::Fault| matches!(f.kind, FaultKind::Order(..));
        Outcome {
            seed: self.plan.seed,
            hash: self.watch.print.value(),
            violation,
            virtual_ms: self.net.now(),
            faults: self.plan.faults.len() as u64,
            orders: self.plan.faults.iter().filter(|f| orders(f)).count() as u64,
            inputs: self.watch.inputs,
            effects: self.watch.effects,
            elections: self.watch.tries,
            helps: self.watch.helps.clone(),
            switches: self.watch.switches,
            converged_ms: self.converged_ms,
            captured: self.captured,
            won: self.watch.checkers.won,
            unjudged: self.watch.checkers.unjudged,
            replaced_ms: match self.trial {
                Trial::Passed(ms) => Some(ms),
                _ => None,
            },
            writes_acked: acked,
            writes_lost: lost,
            groups,
            legend: Vec::new(),
            unwritten: self.watch.story.unwritten.take(),
            story: self.watch.story.into_lines(),
        }
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
