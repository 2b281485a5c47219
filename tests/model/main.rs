//! Elections, durability and membership, explored to the end with `stateright`: a small model that
//! follows the core's rules and counts votes with the core's own arithmetic. Each rule that can be
//! taken out is taken out once, and its counterexample must appear.
//!
//! `cargo test --test model -- --nocapture --test-threads=1` prints sizes, times and
//! counterexamples.

mod rules;
mod voter;
mod world;

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use rules::{Newcomers, Rules};
use world::{Action, ON_DISK, ONE_LEADER, ONE_VOTE, World};

/// Prints what an exploration took.
fn tell(name: &str, checker: &impl Checker<World>, began: Instant) {
    println!(
        "{name}: {} states, {} generated, {} steps deep, {:.2} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
}

/// All that always holds does hold in every state that can be reached, and all that may happen does
/// happen.
#[track_caller]
fn holds(name: &str, world: World) {
    let began = Instant::now();
    let checker = world.checker().finish_when(HasDiscoveries::AllFailures).spawn_bfs().join();
    tell(name, &checker, began);
    assert!(checker.is_done(), "{name}: not explored to the end");
    checker.assert_properties();
}

/// Whether these steps can be taken one after the other, and end in a state that breaks `property`.
fn leads_to(world: &World, actions: &[Action], property: &'static str) -> bool {
    let mut state = world.init_states().remove(0);
    for action in actions {
        let mut possible = Vec::new();
        world.actions(&state, &mut possible);
        if !possible.contains(action) {
            return false;
        }
        let Some(next) = world.next_state(&state, *action) else { return false };
        state = next;
    }
    !(world.property(property).condition)(world, &state)
}

/// There is a short way to break `property`.
#[track_caller]
fn breaks(name: &str, world: World, property: &'static str) {
    let began = Instant::now();
    let sought = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let checker = world.clone().checker().finish_when(sought).spawn_bfs().join();
    tell(name, &checker, began);
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{name}: it holds"));
    print_shortened(name, &world, path.into_actions(), property);
}

/// There is a way to break `property`, too long to look at all shorter ones first.
#[track_caller]
fn breaks_far_out(name: &str, world: World, property: &'static str) {
    let began = Instant::now();
    let sought = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let checker = world.clone().checker().finish_when(sought).spawn_dfs().join();
    tell(name, &checker, began);
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{name}: it holds"));
    print_shortened(name, &world, path.into_actions(), property);
}

/// Prints the way without the steps that contribute nothing, and takes it once more.
#[track_caller]
fn print_shortened(name: &str, world: &World, mut way: Vec<Action>, property: &'static str) {
    let mut at = way.len();
    while at > 0 {
        at -= 1;
        let mut fewer = way.clone();
        fewer.remove(at);
        if leads_to(world, &fewer, property) {
            way = fewer;
            // A step before may have been needed by this one only, and so may one behind.
            at = way.len();
        }
    }
    assert!(leads_to(world, &way, property), "{name}: the way can be taken again");
    println!("{name}: not so: {property}");
    for (n, action) in way.iter().enumerate() {
        println!("  {}. {action}", n + 1);
    }
}

/// Three sentinels with quorum 2, where nothing fails yet.
fn three(epochs: u8) -> World {
    World::of(3, 2, epochs)
}

/// The third sentinel is new: it knows nobody, and nobody knows it.
fn latecomer() -> Vec<u8> {
    vec![0b010, 0b001, 0]
}

/// Quorum 1, below the majority: a sentinel that knows nobody needs no vote but its own.
fn quorum_one(newcomers: Newcomers) -> World {
    let rules = Rules { newcomers, ..Rules::LEAST };
    World { rules, slow_disk: false, known: vec![0; 3], ..World::of(3, 1, 2) }
}

#[test]
fn the_gated_rules_hold() {
    holds("2 epochs, 1 crash", World { crashes: 1, ..three(2) });
    holds("1 epoch, 3 crashes, 1 failed write", {
        World { crashes: 3, write_failures: 1, ..three(1) }
    });
    holds("1 epoch, 2 crashes, 2 failed writes", {
        World { crashes: 2, write_failures: 2, ..three(1) }
    });
    holds("2 epochs, 1 failed write", World { write_failures: 1, ..three(2) });
    holds("2 epochs, hellos tell of them", World { hello_epochs: true, ..three(2) });
}

#[test]
fn votes_spoken_before_durable_elect_two_leaders() {
    let rules = Rules { persist_before_speaking: false, ..Rules::LEAST };
    let world = World { rules, crashes: 1, ..three(1) };
    for property in [ON_DISK, ONE_VOTE, ONE_LEADER] {
        breaks("votes spoken before they are durable", world.clone(), property);
    }
}

#[test]
fn two_writes_in_flight_elect_two_leaders() {
    let rules = Rules { one_write_in_flight: false, ..Rules::LEAST };
    let world = World { rules, crashes: 1, known: latecomer(), ..three(1) };
    for property in [ON_DISK, ONE_VOTE] {
        breaks("two writes in flight", world.clone(), property);
    }
    breaks_far_out("two writes in flight", world, ONE_LEADER);
}

#[test]
fn members_come_and_are_reset_under_a_quorum_that_is_a_majority() {
    holds("a latecomer, 2 crashes", World { known: latecomer(), crashes: 2, ..three(1) });
    holds("a RESET, a crash", World { resets: 1, crashes: 1, ..three(1) });
    let quick = World { slow_disk: false, ..three(1) };
    holds("a latecomer, two RESETs", World { known: latecomer(), resets: 2, ..quick.clone() });
    holds("strangers at first, hellos tell epochs", {
        World { known: vec![0; 3], hello_epochs: true, ..quick }
    });
}

/// Quorum below the majority, and sentinels that have not met: each takes those it knows for all.
#[test]
fn strangers_elect_two_leaders_under_a_quorum_below_the_majority() {
    let core = quorum_one(Newcomers::TakePart);
    breaks("quorum 1, strangers", core.clone(), ONE_LEADER);
    let acquainted = World::of(3, 1, 1).known;
    let reset = World { known: acquainted, resets: 1, ..core };
    breaks("quorum 1, a RESET", reset, ONE_LEADER);
    for newcomers in [Newcomers::TakePart, Newcomers::UntilMet] {
        let rules = Rules { newcomers, ..Rules::LEAST };
        let known = vec![0b00110, 0b00101, 0b00011, 0b10000, 0b01000];
        let five = World { rules, slow_disk: false, known, ..World::of(5, 2, 1) };
        breaks("5 sentinels, quorum 2, three and two that have not met", five, ONE_LEADER);
    }
}

#[test]
fn newcomers_that_listen_first_are_safe_as_long_as_hellos_arrive() {
    let listen = quorum_one(Newcomers::Listen);
    breaks("quorum 1, newcomers listen, no hello arrives", listen.clone(), ONE_LEADER);
    let in_time = World { hellos_in_time: true, ..listen };
    holds("quorum 1, newcomers listen", in_time.clone());
    let reset = World { resets: 1, epochs: 1, ..in_time.clone() };
    holds("quorum 1, newcomers listen, a RESET", reset);
    let four = World { known: vec![0; 4], quorum: 2, epochs: 1, ..in_time };
    holds("4 sentinels, quorum 2, newcomers listen", four);
    let until_met = quorum_one(Newcomers::UntilMet);
    let until_met = World { resets: 1, epochs: 1, ..until_met };
    holds("quorum 1, newcomers wait until they meet one", until_met);
}

/// Three places, four ids: the third sentinel loses its disk, and with it the vote that it gave.
#[test]
fn a_sentinel_that_lost_its_disk_votes_again() {
    let known = vec![0b0110, 0b0101, 0b0011, 0];
    let core = World {
        known,
        replacement: true,
        hello_epochs: true,
        slow_disk: false,
        hellos_in_time: true,
        ..World::of(4, 2, 1)
    };
    breaks("a lost disk", core.clone(), ONE_LEADER);
    let listen = Rules { newcomers: Newcomers::Listen, ..Rules::LEAST };
    let world = World { rules: listen, ..core };
    breaks("a lost disk, newcomers listen", world.clone(), ONE_LEADER);
    let rules = Rules { no_vote_in_epochs_found: true, ..listen };
    holds("a lost disk, no vote in epochs found", World { rules, ..world });
}
