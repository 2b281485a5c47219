//! What is demanded of a whole world, kept and broken.

use std::ops::Range;

use super::super::checkers::Claim;
use super::super::faults::{Fault, Order};
use super::super::net::Weather;
use super::super::node::Data;
use super::super::run;
use super::*;
use crate::resp::Value;
use crate::sentinel::{Guard, without};

const SEED: u64 = 1;

/// A world that has lived until then, and in which nothing fails.
fn lived(until: Ms) -> World {
    let plan = Plan::scripted(SEED, Shape::default(), Vec::new());
    let mut world = World::new(&plan, Telling::Silent, None);
    world.begin();
    live(&mut world, until);
    world
}

fn live(world: &mut World, until: Ms) {
    while let Some(happening) = world.net.next(until) {
        match happening {
            Happening::To(proc, news) => world.deliver(proc, news),
            Happening::Reminder(Note::Sentinels) => world.start_sentinels(),
            Happening::Reminder(_) => {}
        }
    }
}

#[track_caller]
fn finds(world: &World, rule: &str) {
    let found = world.watch.checkers.violation().map_or("", |broken| broken.rule());
    assert_eq!(found, rule, "{:?}", world.watch.checkers.violation());
}

/// What is found in the data of a world after this was done to it.
#[track_caller]
fn data_after(change: impl FnOnce(&mut World), rule: &str) {
    let mut world = lived(15_000);
    change(&mut world);
    world.check_data(10_000);
    finds(&world, rule);
}

#[test]
fn finds_clients_that_find_no_master_and_writes_that_are_lost() {
    data_after(|_| {}, "");
    let astray = |world: &mut World| {
        world.clients[0].sentinels.fill(Address::new("10.0.0.99", 26_379));
        // Whoever has found the master asks nobody.
        world.net.cut_between(Proc::Client(0), Proc::Node(0));
        live(world, 30_000);
        world.check_data(20_000);
    };
    data_after(astray, "clients find the master");
    data_after(|world| world.nodes[0].refit(Data::Empty, None), "confirmed writes stay");
}

#[test]
fn finds_replicas_that_hold_what_their_master_does_not() {
    let mut world = lived(15_000);
    assert_eq!(world.what_is_wrong(), None);
    world.nodes[0].refit(Data::Empty, None);
    let wrong = world.what_is_wrong();
    assert_eq!(wrong.as_deref(), Some("node 1 holds what node 0 does not"));
}

/// What keeps a world from being well so many ms after this was done to it.
#[track_caller]
fn is_wrong(change: impl FnOnce(&mut World), ms: Ms, wrong: &str) {
    let mut world = lived(15_000);
    assert_eq!(world.what_is_wrong(), None);
    change(&mut world);
    if ms > 0 {
        live(&mut world, 15_000 + ms);
    }
    let found = world.what_is_wrong().unwrap_or_default();
    assert!(found.contains(wrong), "{found:?} is not {wrong:?}");
}

fn follows(world: &mut World, node: usize, master: usize) {
    let master = world.nodes[master].address.clone();
    world.nodes[node].follow(&mut world.net, master);
}

/// Sentinel 0 is asked; its answer may wait for its disk.
fn asks(world: &mut World, request: Request) {
    world.hosts[0].ask(&mut world.net, &mut world.watch, request);
}

/// Sentinel 0 begins anew with this node as the master.
fn watches(world: &mut World, node: usize, quorum: u32) {
    let Address { host, port } = world.nodes[node].address.clone();
    let (name, port, quorum) = (Shape::group_name(0), port.to_string(), quorum.to_string());
    asks(world, Request::Remove(name.clone()));
    asks(world, Request::Monitor { name, host, port, quorum });
}

#[test]
fn finds_each_thing_that_keeps_a_world_from_being_well() {
    is_wrong(|world| follows(world, 0, 1), 0, "no node of g0 is a master");
    let promote = |world: &mut World| drop(world.nodes[1].become_master(&mut world.net));
    is_wrong(promote, 0, "nodes 0 and 1 of g0 are masters");
    is_wrong(|world| follows(world, 2, 1), 0, "node 2 follows");
    let begins_anew = |world: &mut World| {
        follows(world, 2, 1);
        follows(world, 2, 0);
    };
    is_wrong(begins_anew, 0, "not in sync");
    is_wrong(|world| world.shell(Proc::Sentinel(0)).frozen = 1, 0, "sentinel 0, g0: is frozen");
    is_wrong(|world| watches(world, 1, 2), 0, "has not written what it decided");
    is_wrong(|world| watches(world, 1, 2), 100, "sentinel 0, g0: the master is");
    is_wrong(|world| watches(world, 0, 1), 100, "quorum is 1, not 2");
    let meets = |world: &mut World| {
        let Address { host, port } = world.nodes[0].address.clone();
        let hello = format!("10.9.9.9,26379,{},0,g0,{host},{port},0", "c".repeat(40));
        asks(world, Request::Hello(hello));
    };
    is_wrong(meets, 100, "names the sentinels");
    let cut = |world: &mut World| world.net.cut_between(Proc::Sentinel(0), Proc::Node(0));
    is_wrong(cut, 5, "flags is");
    let cut = |world: &mut World| world.net.cut_between(Proc::Sentinel(0), Proc::Node(1));
    is_wrong(cut, 5, "says slave,disconnected of");
    let options = vec!["down-after-milliseconds".to_owned(), "1234".to_owned()];
    let set = Request::Set { name: Shape::group_name(0), options };
    is_wrong(|world| asks(world, set), 100, "down-after-milliseconds is 1234, not");
    // For a moment only: a failover that was ordered takes some milliseconds.
    let wrong_after = |ms: Ms| {
        let mut world = lived(15_000);
        asks(&mut world, Request::Failover(Shape::group_name(0)));
        live(&mut world, 15_000 + ms);
        world.what_is_wrong().unwrap_or_default()
    };
    let wrong: Vec<String> = (1..20).map(wrong_after).collect();
    let is_state = |wrong: &String| wrong.contains("a failover is in state");
    assert!(wrong.iter().any(is_state), "{wrong:?}");
}

/// `SENTINEL SIMULATE-FAILURE`: whoever ends by it begins anew, and knows of no such wish.
#[test]
fn a_simulated_failure_is_a_crash() {
    let mut world = lived(15_000);
    let is_asked_for = |world: &mut World| {
        let info = world.hosts[0].ask(
            &mut world.net,
            &mut world.watch,
            Request::Info { running_scripts: 0, queued_scripts: 0 },
        );
        let info = info.expect("an answer");
        info.text().is_some_and(|text| text.contains("sentinel_simulate_failure_flags:1\r\n"))
    };
    asks(&mut world, Request::SimulateFailure(vec!["crash-after-election".to_owned()]));
    assert!(is_asked_for(&mut world));
    asks(&mut world, Request::Failover(Shape::group_name(0)));
    live(&mut world, 16_000);
    assert!(!is_asked_for(&mut world));
}

#[test]
fn finds_a_promotion_that_is_told_and_not_true() {
    let mut world = lived(15_000);
    let says = |world: &mut World, node: usize, since: Ms| {
        let master = world.nodes[node].address.clone();
        world.verify(&Claim::Promoted { sentinel: 0, master, since });
    };
    let now = world.net.now();
    says(&mut world, 0, now);
    finds(&world, "");
    // It was true a moment before it was seen.
    let master = world.nodes[1].address.clone();
    let (net, nodes) = (&mut world.net, &mut world.nodes);
    nodes[0].follow(net, master);
    says(&mut world, 0, now + 4_000);
    finds(&world, "");
    says(&mut world, 0, now + 6_000);
    finds(&world, "what is announced is true");
    let mut world = lived(15_000);
    says(&mut world, 1, now);
    finds(&world, "what is announced is true");
}

#[test]
fn finds_a_world_that_goes_round_in_circles() {
    for (happenings, rule) in [(HAPPENINGS_MAX / 2, ""), (HAPPENINGS_MAX, "no circles")] {
        let mut plan = Plan::scripted(SEED, Shape::default(), Vec::new());
        plan.heals = false;
        let mut world = World::new(&plan, Telling::Silent, None);
        (0..happenings).for_each(|_| world.net.remind(100, Note::Operator));
        world.run();
        let outcome = world.outcome(None);
        assert_eq!(outcome.violation.as_ref().map_or("", |broken| broken.rule()), rule);
    }
}

/// All is well whenever somebody looks, but in between the master is another one each time.
#[test]
fn finds_a_world_that_changes_to_and_fro() {
    let shape = Shape {
        nodes_per_group: 2,
        copy_ms: 1,
        loading_ms: 1,
        patience_ms: 3_000,
        silence_ms: 5_000,
        failover_timeout_ms: 2_000,
        // As long as all has to stay well before no failover may begin any more.
        down_after_ms: 10_000,
        faults_ms: 1_000,
        ..Shape::default()
    };
    let first_look = shape.heal_at() + Dice::new(SEED, "world").below(5_000) + 1;
    let end = first_look + shape.bound_ms() + SETTLE_MS + shape.down_after_ms;
    let kind = FaultKind::Order(0, Order::Failover(0));
    let orders = (first_look + 1..end).step_by(4_000);
    let orders = orders.map(|at| Fault { at, for_ms: 1, kind: kind.clone() }).collect();
    for (faults, found) in
        [(Vec::new(), ""), (orders, "all stays well: it changes to and fro, now None")]
    {
        let plan = Plan::scripted(SEED, shape.clone(), faults);
        let mut world = World::new(&plan, Telling::Silent, None);
        world.run();
        let broken = world.outcome(None).violation;
        assert_eq!(broken.map_or(String::new(), |broken| broken.what), found);
    }
}

/// What a run breaks in which sentinel 0 stands still for 10 s, and node 2 hangs from then to then.
fn frozen_while_a_replica_hangs(
    down_after_ms: Ms,
    hangs: Range<Ms>,
    guard: Option<Guard>,
) -> String {
    let shape = Shape { down_after_ms, ..Shape::default() };
    let (at, for_ms) = (hangs.start, hangs.end - hangs.start);
    let faults = vec![
        Fault { at, for_ms, kind: FaultKind::Hang(2) },
        Fault { at: 20_000, for_ms: 10_000, kind: FaultKind::Freeze(Proc::Sentinel(0)) },
    ];
    let plan = Plan::scripted(SEED, shape, faults);
    let lived = || run(&plan, Telling::Silent);
    let outcome = guard.map_or_else(lived, |guard| without(guard, lived));
    outcome.violation.map_or(String::new(), |broken| broken.rule().to_owned())
}

/// Seeds seldom tell the two guards apart: somebody must be silent when the sentinel stops.
#[test]
fn finds_time_that_counts_though_nobody_watched_and_what_is_decided_before_news_can_come() {
    let rule = "time not watched counts against nobody";
    let before = |guard| frozen_while_a_replica_hangs(5_000, 19_000..32_000, guard);
    assert_eq!(before(None), "");
    assert_eq!(before(Some(Guard::Tilt)), "");
    assert_eq!(before(Some(Guard::StallForgiven)), rule);
    let rule = "nothing is decided right after a stall";
    let at_its_end = |guard| frozen_while_a_replica_hangs(1_000, 29_900..40_000, guard);
    assert_eq!(at_its_end(None), "");
    assert_eq!(at_its_end(Some(Guard::Tilt)), rule);
    assert_eq!(at_its_end(Some(Guard::StallForgiven)), rule);
}

/// What is found after some failovers were ordered of a healthy group in which many clients write
/// all the time.
fn after_orders() -> String {
    const CLIENTS: usize = 50;
    const ORDERS: u64 = 9;
    let plan = Plan::scripted(SEED, Shape::default(), Vec::new());
    let mut world = World::new(&plan, Telling::Silent, None);
    let sentinels = world.clients[0].sentinels.clone();
    for n in 1..CLIENTS {
        let dice = Dice::new(SEED, &format!("client {n}"));
        world.clients.push(Client::new(n, "g0".into(), sentinels.clone(), dice));
        world.net.add(Proc::Client(n), 20 + n, None);
        world.shells.insert(Proc::Client(n), Shell::default());
    }
    world.begin();
    live(&mut world, 15_000);
    world.watch.checkers.set_season(Season::Rough);
    // What a sentinel asks is answered before the last writes have reached the replicas.
    let nodes: Vec<_> = (0..world.nodes.len()).map(|n| world.net.machine(Proc::Node(n))).collect();
    let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (*a, *b)));
    let slow = pairs.filter(|(a, b)| a < b).map(|pair| (pair, 15)).collect();
    world.net.set_weather(Weather { slow, ..Weather::default() });
    for n in 0..ORDERS {
        let asked = world.order(n as usize % 3, Request::Failover("g0".into()));
        assert_eq!(asked, Some(Some(Value::ok())));
        live(&mut world, 15_000 + 7_000 * (n + 1));
    }
    world.check_data(10_000);
    match world.watch.checkers.violation() {
        Some(broken) => broken.rule().to_owned(),
        None => {
            assert!(world.watch.switches >= ORDERS, "{} switches", world.watch.switches);
            String::new()
        }
    }
}

#[test]
fn ordered_failovers_of_a_healthy_group_lose_nothing() {
    assert_eq!(after_orders(), "");
    for guard in [Guard::WritesHeld, Guard::CaughtUp] {
        assert_eq!(without(guard, after_orders), "what is handed over is whole", "{guard:?}");
    }
}

#[test]
fn finds_a_setting_that_is_not_shown() {
    for (value, rule) in [("2", ""), ("3", "what is set is shown")] {
        let mut world = lived(15_000);
        world.ask_back(0, "g0", &["quorum".to_owned(), value.to_owned()]);
        finds(&world, rule);
    }
}

#[test]
fn finds_masters_that_are_dead_and_not_replaced() {
    for (unfit, rule) in [(1..=1, ""), (1..=2, "dead masters are replaced")] {
        let shape = Shape {
            priorities: unfit.map(|n| (n, 0)).collect(),
            faults_ms: 1_000,
            ..Shape::default()
        };
        let plan = Plan { trial: true, ..Plan::scripted(SEED, shape, Vec::new()) };
        let mut world = World::new(&plan, Telling::Silent, None);
        world.run();
        finds(&world, rule);
        assert_eq!(world.outcome(None).replaced_ms.is_some(), rule.is_empty());
    }
}
