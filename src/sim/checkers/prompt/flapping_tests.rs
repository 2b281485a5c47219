//! One that flaps, and rests or does not.

use super::super::super::choice::tests::{Court, GROUP, NOW};
use super::*;
use crate::resp::Value;
use crate::sentinel::Request;

/// Its master is down, another one takes its place, so often; then it stands, so much later.
fn stands(times: u32, after_ms: Ms, ordered: bool) -> Court {
    let mut court = Court::new();
    let kinds = (0..times).map(|_| EventKind::SwitchMaster);
    for kind in kinds.chain([EventKind::TryFailover]) {
        if kind == EventKind::TryFailover {
            court.at += after_ms;
            if ordered {
                let order = Request::Failover(GROUP.into());
                court.answers(2, &order, &Value::Simple("OK".into()));
            }
        }
        let event = Event { kind, group: Some(GROUP.into()), payload: String::new() };
        court.speaks(|checkers, speaker, _| checkers.weigh_flapping(speaker, &event));
    }
    court
}

#[test]
fn finds_one_that_flaps_and_does_not_rest() {
    let rule = "who flaps rests";
    stands(2, 0, false).finds("");
    stands(3, 0, false).finds(rule);
    stands(3, 58_000, false).finds(rule);
    stands(3, 60_000, false).finds("");
    stands(10, 58_000, false).finds(rule);
    stands(10, 60_000, false).finds("");
    stands(3, 0, true).finds("");
}

#[test]
fn who_flaps_may_wait() {
    let until = |times| {
        let court = stands(times, 100_000, false);
        court.checkers.prompt.flapping.until(&(0, GROUP.to_owned()), 60_000) - NOW - 1
    };
    assert_eq!([3, 4].map(until), [60_000, 60_000]);
}
