//! Answers put before the checkers, true and not.

use super::super::choice::tests::{Court, GROUP, address, master, replica};
use super::*;

fn ok() -> Value {
    Value::Simple("OK".into())
}

fn set(option: &str, value: &str) -> Request {
    Request::Set { name: GROUP.into(), options: vec![option.into(), value.into()] }
}

#[test]
fn finds_a_change_that_is_answered_and_not_written() {
    let rule = "durable before answered";
    for (request, rule) in [
        (set("down-after-milliseconds", "1000"), ""),
        (set("down-after-milliseconds", "2000"), rule),
        (set("quorum", "3"), rule),
        (Request::Remove(GROUP.into()), rule),
    ] {
        let mut court = Court::new();
        court.answers(1, &request, &ok());
        court.finds(rule);
        let mut court = Court::new();
        court.answers(1, &request, &Value::error("ERR not saved"));
        court.finds("");
    }
}

#[test]
fn a_change_that_was_overtaken_by_another_may_not_be_seen_any_more() {
    let mut court = Court::new();
    let (first, last) = (set("quorum", "3"), set("quorum", "2"));
    court.hears(1, &first);
    court.hears(2, &last);
    court.replies(1, &first, &ok());
    assert_eq!(court.checkers.claims(), []);
    court.replies(2, &last, &ok());
    court.finds("");
    let options = vec!["quorum".to_owned(), "2".to_owned()];
    let claim = Claim::Tuned { sentinel: 0, group: GROUP.into(), options };
    assert_eq!(court.checkers.claims(), [claim], "SENTINEL MASTER is asked");
}

#[test]
fn finds_a_client_that_is_told_no_master() {
    let rule = "clients are told the master";
    let told_after = |change: fn(&mut Court), n: usize, rule: &str| {
        let mut court = Court::new();
        change(&mut court);
        let at = address(n);
        let reply = Value::Array(vec![Value::bulk(at.host), Value::bulk(at.port.to_string())]);
        court.answers(1, &Request::MasterAddress(GROUP.into()), &reply);
        court.finds(rule);
    };
    told_after(|_| {}, 1, "");
    told_after(|_| {}, 2, rule);
    // What is on its way to the disk may be told, once somebody has seen it.
    let unsettled = |court: &mut Court| court.settled = false;
    told_after(unsettled, 2, rule);
    let seen = |court: &mut Court| {
        court.settled = false;
        court.tells(2, &master(2));
    };
    told_after(seen, 2, "");
    let named = |court: &mut Court| {
        court.settled = false;
        court.checkers.orders.names(GROUP, &address(2));
    };
    told_after(named, 2, "");
    let followed = |court: &mut Court| {
        court.settled = false;
        court.tells(1, &replica(1, 100, 500).replace("10.0.0.1", "10.0.0.2"));
    };
    told_after(followed, 2, "");
}
