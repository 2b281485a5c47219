//! What a host notices about the core that it carries.

use super::super::plan::{Plan, Shape};
use super::super::story::Telling;
use super::super::world::World;
use super::*;

#[test]
fn finds_a_core_that_asks_to_be_woken_at_once() {
    let mut world = World::new(&Plan::scripted(1, Shape::default(), vec![]), Telling::Silent, None);
    let (host, watch) = (&mut world.hosts[0], &mut world.watch);
    let mut wakes = |at: Ms, times: u32| {
        (0..times).for_each(|_| host.count_spins(at, watch));
        watch.checkers.violation().map(|broken| broken.rule().to_owned())
    };
    // Twice as often, but in two milliseconds.
    assert_eq!(wakes(1, SPIN_MAX - 1), None);
    assert_eq!(wakes(2, SPIN_MAX - 1), None);
    assert_eq!(wakes(2, 1).as_deref(), Some("no circles"));
}
