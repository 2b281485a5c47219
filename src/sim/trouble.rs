//! Faults carried out: how each begins, and how it ends.

use std::collections::BTreeMap;

use super::ailment::Ailment;
use super::ambush::Ambush;
use super::disk::Memory;
use super::faults::{Fault, FaultKind, Order};
use super::net::{Weather, ip_of};
use super::node::Data;
use super::operator::set;
use super::plan::Shape;
use super::sabotage::Sabotage;
use super::wire::{Machine, Ms, Note, Proc};
use super::world::World;
use crate::sentinel::Request;
use crate::sentinel::hello::GiveUp;
use crate::sentinel::types::Address;

/// By so long after its start, in ms, a node has been asked who it is: an INFO period and
/// a little more.
const KNOWN_MS: Ms = 11_000;

impl World {
    pub(super) fn begin_fault(&mut self, number: usize) {
        let fault = self.plan.faults[number].clone();
        self.tell(|world| {
            let (Fault { for_ms, kind, .. }, number) = (&fault, world.plan.numbers[number]);
            match kind.is_over_at_once() {
                true => format!("{kind} (fault {number})"),
                false => format!("begins, for {for_ms} ms: {kind} (fault {number})"),
            }
        });
        self.active.insert(number);
        match fault.kind {
            FaultKind::CrashNode(n, ..) | FaultKind::Move(n) => {
                self.put_down(Proc::Node(n), false);
            }
            FaultKind::CrashSentinel(n, _) | FaultKind::Clone(n, _) => {
                self.put_down(Proc::Sentinel(n), false);
            }
            FaultKind::Replace(n) | FaultKind::Relocate(n) => {
                self.put_down(Proc::Sentinel(n), true);
            }
            FaultKind::Swap(a, b) => {
                for n in [a, b] {
                    self.put_down(Proc::Node(n), false);
                }
            }
            FaultKind::Trade(one, other, gap_ms) => self.trade_places(number, [one, other], gap_ms),
            FaultKind::Misroute(n, _) => {
                self.change_weather();
                self.net.cut_all(Proc::Sentinel(n));
            }
            FaultKind::Power(machine) => {
                self.change_weather();
                for proc in self.procs_on(machine) {
                    self.put_down(proc, true);
                }
            }
            FaultKind::Ambush(n, ambush) => self.hosts[n].ambush = Some((number, ambush)),
            FaultKind::Stall(n, moment) => {
                self.hosts[n].ambush = Some((number, Ambush { moment, after: true }));
            }
            FaultKind::Freeze(proc) => self.freeze(proc),
            FaultKind::Cut(a, b) => self.net.cut_between(a, b),
            FaultKind::HalfOpen(a, b) => self.net.forget_between(a, b),
            FaultKind::Join(n) => {
                if self.plan.shape.late.contains(&n) {
                    self.join(n);
                }
            }
            FaultKind::Order(n, order) => self.begin_order(number, n, &order),
            FaultKind::Partition { flap_ms, .. } => {
                if flap_ms > 0 {
                    self.net.remind(flap_ms, Note::Flaps(number));
                }
                self.change_weather();
            }
            FaultKind::Hang(_)
            | FaultKind::SlowNode(..)
            | FaultKind::Sick(..)
            | FaultKind::WrongPassword(_)
            | FaultKind::Boast(..)
            | FaultKind::Unlinked(_)
            | FaultKind::ClockStep(..)
            | FaultKind::Slow(..)
            | FaultKind::Flaky(_)
            | FaultKind::Lossy(_)
            | FaultKind::Echo(_)
            | FaultKind::SlowDisk(..)
            | FaultKind::BadDisk(_)
            | FaultKind::MuteName(_)
            | FaultKind::FalseName(..) => self.change_weather(),
        }
    }

    pub(super) fn end_fault(&mut self, number: usize) {
        if !self.active.remove(&number) {
            return;
        }
        self.flapped.remove(&number);
        let fault = self.plan.faults[number].clone();
        if !fault.kind.is_over_at_once() {
            self.tell(|world| {
                let vain = match fault.kind {
                    FaultKind::Ambush(..) | FaultKind::Stall(..)
                        if !world.ambushed.contains(&number) =>
                    {
                        "; its moment never came"
                    }
                    _ => "",
                };
                format!("ends: {} (fault {}){vain}", fault.kind, world.plan.numbers[number])
            });
        }
        match fault.kind {
            FaultKind::CrashNode(n, data, as_master) => {
                // A stranger at a given-away address that says master and has no replicas looks
                // just like an old master that is back: nobody could tell.
                let as_master = as_master && !self.swapped.contains(&n);
                self.nodes[n].refit(data, as_master.then_some(None));
                self.put_up(Proc::Node(n));
            }
            FaultKind::CrashSentinel(n, memory) => self.put_up_with(n, memory),
            FaultKind::Replace(n) => self.replace_sentinel(n),
            FaultKind::Relocate(n) => {
                self.relocate_sentinel(n);
                self.must_reset |= self.forgets();
                self.watch.checkers.moved(n, self.net.now());
                self.put_up(Proc::Sentinel(n));
            }
            FaultKind::Clone(n, of) => {
                let files = self.hosts[of].disk.content().cloned();
                self.hosts[n].get_files(files, &mut self.watch);
                self.forget_what_nobody_remembers();
                self.put_up(Proc::Sentinel(n));
            }
            FaultKind::Move(n) => {
                self.relocate_node(n);
                self.put_up(Proc::Node(n));
            }
            FaultKind::Swap(a, b) => {
                self.swap_nodes(a, b);
                for n in [a, b] {
                    self.put_up(Proc::Node(n));
                }
            }
            FaultKind::Misroute(_, n) => {
                self.change_weather();
                self.net.cut_all(Proc::Sentinel(n));
            }
            FaultKind::Trade(..) => {
                if let Some([_, b]) = self.trading.remove(&number) {
                    self.change_weather();
                    self.net.cut_all(Proc::Node(b));
                }
                if let Some(nodes) = self.trades.remove(&number) {
                    self.exchange(nodes);
                }
            }
            FaultKind::Power(machine) => {
                self.change_weather();
                for proc in self.procs_on(machine) {
                    self.put_up(proc);
                }
            }
            FaultKind::Ambush(n, _) => {
                self.hosts[n].ambush.take_if(|(by, _)| *by == number);
                if self.ambushed.remove(&number) {
                    self.put_up(Proc::Sentinel(n));
                }
            }
            FaultKind::Stall(n, _) => {
                self.hosts[n].ambush.take_if(|(by, _)| *by == number);
                if self.ambushed.remove(&number) {
                    self.thaw(Proc::Sentinel(n), false);
                }
            }
            FaultKind::Freeze(proc) => self.thaw(proc, true),
            FaultKind::Order(n, order) => self.end_order(n, &order),
            FaultKind::FalseName(_, other) => {
                self.change_weather();
                self.connect_anew(other);
            }
            FaultKind::Cut(..) | FaultKind::HalfOpen(..) | FaultKind::Join(_) => {}
            _ => self.change_weather(),
        }
    }

    /// Another sentinel takes its place, elsewhere.
    fn replace_sentinel(&mut self, n: usize) {
        self.relocate_sentinel(n);
        self.must_reset = true;
        // It may come back with its files, or get old ones later: then it is one that moved.
        self.watch.checkers.moved(n, self.net.now());
        self.put_up_with(n, Memory::Lost);
    }

    /// Whoever took another node for the one that a name means would stay there: who puts the name
    /// right has all connect again to where this node is.
    fn connect_anew(&mut self, n: usize) {
        let machine = self.net.machine(Proc::Node(n));
        let nodes = (0..self.nodes.len()).map(Proc::Node);
        let there = nodes.clone().filter(|n| self.net.machine(*n) == machine);
        for there in there.collect::<Vec<_>>() {
            for proc in nodes.clone().chain((0..self.hosts.len()).map(Proc::Sentinel)) {
                self.net.cut_between(proc, there);
            }
        }
    }

    /// All that lasts ends.
    pub(super) fn end_faults(&mut self) {
        for number in std::mem::take(&mut self.active) {
            let never = self.sabotage == Some(Sabotage::NeverHealed);
            if never && matches!(self.plan.faults[number].kind, FaultKind::Freeze(_)) {
                continue;
            }
            self.active.insert(number);
            self.end_fault(number);
        }
        if self.sabotage == Some(Sabotage::NeverHealed) {
            self.shell(Proc::Sentinel(0)).frozen += 1;
            self.active.insert(0);
        }
    }

    /// The processes that are on a machine in the beginning.
    fn procs_on(&self, machine: Machine) -> Vec<Proc> {
        let sentinels = (0..self.hosts.len()).map(Proc::Sentinel);
        let nodes = (0..self.nodes.len()).map(Proc::Node);
        sentinels.chain(nodes).filter(|proc| self.plan.shape.machine_of(*proc) == machine).collect()
    }

    fn put_up_with(&mut self, sentinel: usize, memory: Memory) {
        if memory != Memory::Kept {
            self.forgetful = true;
        }
        if self.shell(Proc::Sentinel(sentinel)).down > 1 {
            return self.put_up(Proc::Sentinel(sentinel));
        }
        self.hosts[sentinel].tamper_with_memory(memory, &mut self.watch);
        if memory != Memory::Kept {
            self.watch.checkers.lost_memory(sentinel);
            self.forget_what_nobody_remembers();
        }
        match memory {
            Memory::Lost => self.join(sentinel),
            _ => self.put_up(Proc::Sentinel(sentinel)),
        }
    }

    /// Votes bind as long as a sentinel that is awake remembers their epoch: all others listen to
    /// it.
    fn forget_what_nobody_remembers(&mut self) {
        let running = self.hosts.iter().enumerate();
        let running = running.filter(|(n, _)| self.is_awake(Proc::Sentinel(*n)));
        let states = running.filter_map(|(_, host)| host.disk.content());
        let newest = states.map(|state| state.current_epoch).max();
        self.watch.checkers.remembered(newest.unwrap_or_default());
    }

    /// A sentinel without a memory starts, with a file that names the masters of today.
    pub(super) fn join(&mut self, sentinel: usize) {
        for group in 0..self.plan.shape.groups {
            let master = self.told_master(group, sentinel);
            self.hosts[sentinel].declare_master(&Shape::group_name(group), master);
        }
        self.put_up(Proc::Sentinel(sentinel));
    }

    /// True if sentinels lose their memory in this run: one that moved, and then takes another id,
    /// is still looked for where it was by whoever had not heard of its move.
    fn forgets(&self) -> bool {
        let forgets = |fault: &Fault| match fault.kind {
            FaultKind::CrashSentinel(_, memory) => memory != Memory::Kept,
            FaultKind::Clone(..) => true,
            _ => false,
        };
        self.plan.faults.iter().any(forgets)
    }

    /// A sentinel gets an address that nobody had before; clients are told.
    fn relocate_sentinel(&mut self, n: usize) {
        let machine = self.net.fresh_machine();
        let port = self.plan.shape.sentinel_address(n).port;
        self.net.relocate(Proc::Sentinel(n), machine, Some(port));
        let address = Address::new(self.net.ip(Proc::Sentinel(n)), port);
        for client in &mut self.clients {
            client.sentinels[n] = address.clone();
        }
    }

    /// Somebody moves a node. It keeps its name; where there are none, it gets the master of that
    /// moment. The master itself comes back as one at an address of which nobody was told: those
    /// who are left have to replace it.
    fn relocate_node(&mut self, n: usize) {
        let (proc, shape) = (Proc::Node(n), &self.plan.shape);
        let (named, port) = (shape.named, shape.node_port(n));
        let master = self.master_of(shape.group_of(n), &[n]);
        let was_master = self.is_told_master(n);
        if self.shell(proc).down > 1 || (!named && !was_master && master.is_none()) {
            return;
        }
        let machine = self.net.fresh_machine();
        self.place_node(n, machine, port);
        if !named {
            self.nodes[n].refit(Data::Same, Some(master.filter(|_| !was_master)));
            self.must_reset = true;
        }
    }

    /// Two replicas get each other's address.
    fn swap_nodes(&mut self, a: usize, b: usize) {
        let masters = match self.may_swap(a, b) {
            Ok(masters) => masters,
            Err(why) => return self.tell(|_| format!("nodes {a} and {b} stay: {why}")),
        };
        self.exchange([a, b]);
        for (n, master) in [a, b].into_iter().zip(masters) {
            self.nodes[n].refit(Data::Same, Some(Some(master)));
            self.swapped.insert(n);
        }
        self.must_reset = true;
    }

    /// Each of two nodes comes to live where the other one did.
    fn exchange(&mut self, [a, b]: [usize; 2]) {
        let places = [a, b].map(|n| (self.net.machine(Proc::Node(n)), self.nodes[n].address.port));
        // Both leave before one of them comes.
        for n in [a, b] {
            let machine = self.net.machine(Proc::Node(n));
            self.net.relocate(Proc::Node(n), machine, None);
        }
        for (n, (machine, port)) in [(a, places[1]), (b, places[0])] {
            self.place_node(n, machine, port);
        }
    }

    /// The masters of two groups get each other's address while they run.
    fn trade_places(&mut self, number: usize, groups: [usize; 2], gap_ms: Ms) {
        let master = |group: usize| {
            let mut nodes = self.plan.shape.nodes_of(group);
            nodes.find(|n| {
                let runs = self.net.running(Proc::Node(*n));
                runs && self.nodes[*n].following().is_none() && self.is_told_master(*n)
            })
        };
        let (Some(a), Some(b)) = (master(groups[0]), master(groups[1])) else { return };
        // Of one that has just started nobody knows yet whose it is.
        let is_known = |n: usize| {
            let since = self.nodes[n].started_at;
            since == 0 || self.net.now() - since > KNOWN_MS
        };
        if a == b || self.plan.shape.named || !is_known(a) || !is_known(b) {
            return;
        }
        self.traded.extend([a, b]);
        self.must_reset = true;
        self.trading.insert(number, [a, b]);
        if gap_ms == 0 {
            return self.end_trade_gap(number);
        }
        self.tell(|_| format!("the address of node {a} leads to node {b}"));
        self.change_weather();
        self.net.cut_all(Proc::Node(a));
        self.net.remind(gap_ms, Note::Trades(number));
    }

    /// Now both live at each other's address.
    pub(super) fn end_trade_gap(&mut self, number: usize) {
        let Some([a, b]) = self.trading.remove(&number) else { return };
        self.tell(|_| format!("nodes {a} and {b} get each other's address"));
        self.change_weather();
        self.exchange([a, b]);
        self.trades.insert(number, [a, b]);
    }

    /// The masters that two nodes will follow at each other's address, or why they stay: no
    /// sentinel could tell such a stranger from an old master that is back.
    fn may_swap(&mut self, a: usize, b: usize) -> Result<[Address; 2], &'static str> {
        let shape = &self.plan.shape;
        let masters = [a, b].map(|n| self.master_of(shape.group_of(n), &[a, b]));
        let [Some(master_a), Some(master_b)] = masters else {
            return Err("one has no other master");
        };
        let down = |n: usize| self.shells.get(&Proc::Node(n)).map_or(0, |shell| shell.down);
        if down(a) > 1 || down(b) > 1 {
            return Err("one is down for another reason");
        }
        if self.is_told_master(a) || self.is_told_master(b) {
            return Err("a sentinel takes one for the master, or may again");
        }
        // Who starts with a file that names the address would follow the stranger there.
        let named = |n: usize| {
            let address = &self.nodes[n].address;
            self.nodes.iter().any(|node| node.starts_behind() == Some(address))
        };
        match named(a) || named(b) {
            true => Err("the file of a node names one as its master"),
            false => Ok([master_a, master_b]),
        }
    }

    /// From now on a node's name means this machine.
    pub(super) fn name_node(&mut self, n: usize, machine: Machine) {
        let shape = &self.plan.shape;
        self.net.name(shape.node_name(n), machine);
        if shape.shows_ips {
            let at = Address::new(ip_of(machine), shape.node_port(n));
            self.net.shown.learn(at, shape.node_address(n));
        }
    }

    pub(super) fn place_node(&mut self, n: usize, machine: Machine, port: u16) {
        let proc = Proc::Node(n);
        self.net.relocate(proc, machine, Some(port));
        if self.plan.shape.named {
            self.name_node(n, machine);
            return;
        }
        let address = Address::new(self.net.ip(proc), port);
        let group = Shape::group_name(self.plan.shape.group_of(n));
        self.watch.checkers.node_is_at(&group, address.clone());
        self.nodes[n].address = address;
    }

    pub(super) fn flap(&mut self, number: usize) {
        let FaultKind::Partition { flap_ms, .. } = self.plan.faults[number].kind else { return };
        if !self.active.contains(&number) {
            return;
        }
        if !self.flapped.remove(&number) {
            self.flapped.insert(number);
        }
        self.net.remind(flap_ms, Note::Flaps(number));
        self.change_weather();
    }

    fn begin_order(&mut self, number: usize, n: usize, order: &Order) {
        let moved = !self.swapped.is_empty() || !self.traded.is_empty();
        if matches!(order, Order::Remove(_)) && moved {
            // A sentinel that no longer watches the one group cannot know that an address of the
            // other is that one's now: first comes the RESET that every move of nodes asks for.
            self.active.remove(&number);
            return;
        }
        let request = match order {
            Order::Failover(group) => Request::Failover(Shape::group_name(*group)),
            Order::Reset(group) => Request::Reset(Shape::group_name(*group)),
            Order::Remove(group) => Request::Remove(Shape::group_name(*group)),
            Order::Set(group, option, value) => set(*group, &[(option, *value)]),
            Order::Say(request) => request.clone(),
            Order::Poison(group, candidate, epoch) => {
                let master = self.told_master(*group, usize::MAX);
                Request::IsMasterDown {
                    host: master.host,
                    port: master.port.into(),
                    epoch: *epoch,
                    candidate: Some(self.hosts[*candidate].id().to_string()),
                }
            }
            Order::LateWord(group) => {
                let group = Shape::group_name(*group);
                let disk = self.hosts[n].disk.content();
                let known = disk.and_then(|state| state.groups.get(&group));
                let Some((id, epoch)) =
                    known.and_then(|known| Some((known.voted_for.clone()?, known.leader_epoch)))
                else {
                    self.active.remove(&number);
                    return;
                };
                Request::Hello(GiveUp { id, epoch: epoch.saturating_sub(1), group }.payload())
            }
            Order::Canvass { group, candidate, ahead } => {
                let master = self.told_master(*group, usize::MAX);
                let candidate = match candidate {
                    Some(candidate) => self.hosts[*candidate].id().clone(),
                    None => self.dice.run_id(),
                };
                let epoch = self.hosts[n].disk.content().map_or(0, |state| state.current_epoch);
                Request::IsMasterDown {
                    host: master.host,
                    port: master.port.into(),
                    epoch: (epoch as i64).saturating_add(*ahead),
                    candidate: Some(candidate.to_string()),
                }
            }
        };
        if self.order(n, request).is_none() {
            // Out of reach: nothing was done, and nothing is to be undone.
            self.active.remove(&number);
            return;
        }
        let checkers = &mut self.watch.checkers;
        if let Order::Reset(group) | Order::Remove(group) = order {
            checkers.shrinks(n, &Shape::group_name(*group));
        }
        if let Order::Remove(group) = order {
            checkers.removed(n, &Shape::group_name(*group));
        }
    }

    fn end_order(&mut self, n: usize, order: &Order) {
        let shape = self.plan.shape.clone();
        match order {
            Order::Failover(_)
            | Order::Reset(_)
            | Order::Say(_)
            | Order::Poison(..)
            | Order::LateWord(_)
            | Order::Canvass { .. } => return,
            Order::Remove(group) => {
                let master = self.told_master(*group, n);
                self.monitor_again(n, *group, master);
            }
            Order::Set(group, option, _) => {
                let value = match *option {
                    "quorum" => shape.quorum.into(),
                    "down-after-milliseconds" => shape.down_after_ms,
                    "failover-timeout" => shape.failover_timeout_ms,
                    _ => shape.parallel_syncs.into(),
                };
                self.errands.push_back((n, set(*group, &[(option, value)])));
            }
        }
        self.run_errands();
    }

    /// Network, disks, clocks and nodes as the active faults make them.
    fn change_weather(&mut self) {
        let mut weather = Weather::default();
        let machines = self.net.machines();
        for host in &mut self.hosts {
            (host.disk.slow_ms, host.disk.failing, host.wall_off_ms) = (0, false, 0);
        }
        let mut ailments: BTreeMap<usize, Ailment> = BTreeMap::new();
        for number in &self.active {
            match &self.plan.faults[*number].kind {
                FaultKind::Partition { from, both, .. } if !self.flapped.contains(number) => {
                    for a in from {
                        for b in (0..machines).filter(|b| !from.contains(b)) {
                            weather.blocked.insert((*a, b));
                            if *both {
                                weather.blocked.insert((b, *a));
                            }
                        }
                    }
                }
                FaultKind::Slow(a, b, ms) => {
                    let worst: &mut Ms = weather.slow.entry((*a.min(b), *a.max(b))).or_default();
                    *worst = (*worst).max(*ms);
                }
                FaultKind::Power(machine) => {
                    weather.dark.insert(*machine);
                }
                FaultKind::Flaky(one_in) => weather.reset_one_in = *one_in,
                FaultKind::Lossy(one_in) => weather.lose_one_in = *one_in,
                FaultKind::Echo(one_in) => weather.echo_one_in = *one_in,
                FaultKind::MuteName(n) => {
                    weather.mute_names.insert(self.plan.shape.node_name(*n));
                }
                FaultKind::FalseName(n, other) => {
                    let names = [n, other].map(|n| self.plan.shape.node_name(*n));
                    let [name, other] = names;
                    weather.false_names.insert(name, other);
                }
                FaultKind::SlowDisk(n, ms) => self.hosts[*n].disk.slow_ms = *ms,
                FaultKind::BadDisk(n) => self.hosts[*n].disk.failing = true,
                FaultKind::ClockStep(n, ms) => self.hosts[*n].wall_off_ms = *ms,
                FaultKind::Hang(n) => ailments.entry(*n).or_default().hung = true,
                FaultKind::SlowNode(n, ms) => ailments.entry(*n).or_default().slow_ms = *ms,
                FaultKind::Sick(n, error) => ailments.entry(*n).or_default().error = Some(error),
                FaultKind::WrongPassword(n) => ailments.entry(*n).or_default().locked = true,
                FaultKind::Boast(n, more) => ailments.entry(*n).or_default().boast = *more,
                FaultKind::Unlinked(n) => ailments.entry(*n).or_default().unlinked = true,
                FaultKind::Misroute(n, other) => {
                    let at = Proc::Sentinel(*n);
                    let port = self.plan.shape.sentinel_address(*n).port;
                    let address = Address::new(self.net.ip(at), port);
                    weather.forwards.insert(address, Proc::Sentinel(*other));
                }
                _ => {}
            }
        }
        for [a, b] in self.trading.values() {
            weather.forwards.insert(self.nodes[*a].address.clone(), Proc::Node(*b));
        }
        for (n, node) in self.nodes.iter_mut().enumerate() {
            node.suffer(&mut self.net, ailments.remove(&n).unwrap_or_default());
        }
        self.net.set_weather(weather);
    }

    /// Carries out the crash of a sentinel that met its ambush.
    pub(super) fn spring_ambush(&mut self, n: usize) {
        if !self.hosts[n].doomed() {
            return;
        }
        let fault = self.hosts[n].ambush.map(|(fault, _)| fault);
        let fault = fault.filter(|fault| self.active.contains(fault));
        let kind = fault.map(|fault| self.plan.faults[fault].kind.clone());
        match (fault, kind) {
            (Some(fault), Some(FaultKind::Stall(..))) => {
                self.ambushed.insert(fault);
                let now = self.net.now();
                self.hosts[n].spare(now);
                self.freeze(Proc::Sentinel(n));
                self.tell(|_| format!("sentinel {n} is stopped"));
            }
            (Some(fault), _) => {
                self.ambushed.insert(fault);
                self.put_down(Proc::Sentinel(n), false);
            }
            // The fault that set it is over: the process starts again at once.
            (None, _) => {
                self.kill(Proc::Sentinel(n), false);
                self.start(Proc::Sentinel(n));
            }
        }
    }
}
