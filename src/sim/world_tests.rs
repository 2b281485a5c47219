//! What is demanded of a whole world, kept and broken.

use std::ops::Range;

use super::super::checkers::Claim;
use super::super::faults::{Fault, Order};
use super::super::node::Data;
use super::super::run;
use super::*;
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
