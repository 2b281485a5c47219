//! A running quorum of redis-sentinels becomes one of Watchfire, one by one on the very same files,
//! and goes back, under load and with kills on the way: no failover that nobody caused, no
//! subscription lost, no id, epoch or file either.

use crate::fleet::{Fleet, GROUPS};
use crate::support::sentinel::Program;

#[test]
fn three_sentinels_are_replaced_one_by_one_and_back() {
    let mut fleet = Fleet::start(3);
    for at in [0, 1, 2] {
        fleet.replace(at, Program::Watchfire);
        fleet.prove_its_vote(at, GROUPS[at].0);
    }
    fleet.kill_a_master("orders");
    for at in [2, 0, 1] {
        fleet.replace(at, Program::Redis);
        fleet.prove_its_vote(at, GROUPS[at].0);
    }
    fleet.end();
}

#[test]
fn five_sentinels_are_replaced_one_by_one_and_back() {
    let mut fleet = Fleet::start(5);
    for at in 0..5 {
        fleet.replace(at, Program::Watchfire);
        if at == 2 {
            fleet.prove_its_vote(at, "orders");
        }
    }
    fleet.kill_a_master("sessions");
    for at in 0..5 {
        fleet.replace(at, Program::Redis);
        if at == 2 {
            fleet.prove_its_vote(at, "cache");
        }
    }
    fleet.end();
}
