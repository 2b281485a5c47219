//! Sentinels that are in time, and some that are not.

use super::super::Season;
use super::super::choice::tests::{Court, GROUP, NOW, address, id, master, replica};
use super::*;
use crate::resp::Value;
use crate::sentinel::{Command, Request};

const MASTER: &str = "master g 10.0.0.1 6379";

fn slave(n: usize) -> String {
    format!("slave 10.0.0.{n}:6379 10.0.0.{n} 6379 @ g 10.0.0.1 6379")
}

/// The master is up again, and all answer.
fn peace() -> Court {
    let mut court = Court::new();
    court.checkers.set_season(Season::Rough);
    court.announces(EventKind::AbortNotElected, MASTER);
    court.announces(EventKind::SdownEnd, MASTER);
    court.announces(EventKind::OdownEnd, MASTER);
    after(&mut court, 0);
    court
}

/// Time goes by; all nodes answer, and are as they were.
fn after(court: &mut Court, ms: Ms) {
    court.at += ms;
    let pong = Value::Simple("PONG".into());
    for n in 1..=3 {
        court.pongs(n);
    }
    for n in 1..3 {
        court.peers.entry(address(n)).or_default().answer(court.at, &Command::Ping, &pong);
    }
    court.tells(1, &master(1));
}

#[track_caller]
fn found(mut court: Court, rule: &str) {
    court.looks();
    court.finds(rule);
}

#[test]
fn finds_silence_that_is_not_noticed() {
    let rule = "silence is noticed in time";
    let silent = |ms: Ms| {
        let mut court = peace();
        let ear = court.ears[&address(2)].clone();
        after(&mut court, ms);
        court.ears.insert(address(2), ear);
        court
    };
    found(silent(4_000), "");
    found(silent(5_000), rule);
    let mut court = silent(5_000);
    court.announces(EventKind::Sdown, &slave(2));
    found(court, "");
    let mut court = silent(5_000);
    court.announces(EventKind::Slave, &slave(2));
    found(court, "");
    let mut court = silent(5_000);
    court.checkers.goes_on(0, NOW, NOW + 3_000);
    found(court, "");
    let mut court = silent(5_000);
    court.checkers.tuned(0, GROUP, court.at);
    found(court, "");
    let mut court = silent(5_000);
    let no = Value::error("NOPERM not you");
    court.ears.entry(address(2)).or_default().answer(court.at, &Command::Ping, &no);
    found(court, "");
}

#[test]
fn finds_a_sentinel_whose_silence_is_not_noticed() {
    let mut court = peace();
    let ear = court.peers[&address(1)].clone();
    after(&mut court, 5_000);
    court.peers.insert(address(1), ear);
    let payload = format!("sentinel {} 10.0.0.1 6379 @ g 10.0.0.1 6379", id(1));
    court.announces(EventKind::Sdown, &payload);
    court.looks();
    court.finds("");
    court.announces(EventKind::SdownEnd, &payload);
    found(court, "silence is noticed in time");
}

/// It is one of a group whose master is down for a quorum.
fn trouble() -> Court {
    let mut court = peace();
    court.starts();
    after(&mut court, 10_000);
    court.announces(EventKind::Odown, &format!("{MASTER} #quorum 2/2"));
    court
}

#[test]
fn finds_an_election_that_does_not_begin() {
    let rule = "whoever can be elected stands in time";
    let waits = |ms: Ms| {
        let mut court = trouble();
        after(&mut court, ms);
        court
    };
    found(waits(1_600), "");
    found(waits(1_800), rule);
    let mut court = waits(1_800);
    court.announces(EventKind::OdownEnd, MASTER);
    found(court, "");
    let mut court = waits(1_800);
    court.announces(EventKind::TryFailover, MASTER);
    found(court, "");
    let mut court = waits(1_800);
    court.announces(EventKind::VoteForLeader, &format!("{} 6", id(1)));
    found(court, "");
    let mut court = waits(1_800);
    court.peers.clear();
    for n in 1..3 {
        let payload = format!("sentinel {} 10.0.0.{n} 6379 @ g 10.0.0.1 6379", id(n));
        court.announces(EventKind::Sdown, &payload);
    }
    found(court, "");
}

#[test]
fn finds_an_election_that_is_not_repeated() {
    let gives_up = |times: u32, ms: Ms| {
        let mut court = trouble();
        for _ in 0..times {
            court.announces(EventKind::TryFailover, MASTER);
            court.announces(EventKind::AbortNotElected, MASTER);
        }
        after(&mut court, ms);
        court
    };
    let rule = "whoever can be elected stands in time";
    found(gives_up(1, 1_800), "");
    found(gives_up(1, 2_100), rule);
    found(gives_up(5, 4_800), "");
    found(gives_up(5, 5_100), rule);
    found(gives_up(50, 31_000), "");
    found(gives_up(50, 33_000), rule);
}

#[test]
fn finds_an_election_without_cause_or_end() {
    let stands = |ms: Ms| {
        let mut court = trouble();
        court.announces(EventKind::TryFailover, MASTER);
        after(&mut court, ms);
        court
    };
    found(stands(1_000), "");
    found(stands(7_000), "a failover comes to an end");
    let back = || {
        let mut court = stands(1_000);
        court.announces(EventKind::OdownEnd, MASTER);
        court.at += 1;
        court
    };
    found(back(), "an election ends with its cause");
    let mut court = back();
    court.announces(EventKind::ElectedLeader, MASTER);
    court.finds("an election ends with its cause");
    let mut court = back();
    court.waited_ms = 10;
    court.announces(EventKind::ElectedLeader, MASTER);
    court.finds("");
    let mut court = back();
    court.announces(EventKind::AbortNotElected, MASTER);
    found(court, "");
}

#[test]
fn finds_an_order_that_is_not_carried_out() {
    let mut court = peace();
    let order = Request::Failover(GROUP.into());
    court.answers(1, &order, &Value::error("INPROG"));
    court.looks();
    court.finds("");
    court.answers(2, &order, &Value::Simple("OK".into()));
    let mut begins = peace();
    begins.answers(2, &order, &Value::Simple("OK".into()));
    begins.announces(EventKind::TryFailover, MASTER);
    found(begins, "");
    found(court, "a failover that is ordered is tried");
}

#[test]
fn finds_a_node_that_is_not_put_right() {
    let rule = "nodes are put right in time";
    // Replica 2 says master, or follows 3; `failover-timeout` is 180 s.
    let strays = |info: &str, ms: Ms| {
        let mut court = peace();
        court.tells(2, info);
        after(&mut court, ms);
        court.tells(2, info);
        court
    };
    let follows = replica(2, 100, 500).replace("10.0.0.1", "10.0.0.3");
    found(strays(&master(2), 9_000), "");
    found(strays(&master(2), 10_000), rule);
    found(strays(&follows, 180_000), "");
    found(strays(&follows, 184_000), rule);
    let leads = |ms: Ms| {
        let mut court = strays(&follows, 10_000);
        court.announces(EventKind::PromotedSlave, MASTER);
        after(&mut court, ms);
        court.tells(2, &follows);
        court
    };
    found(leads(1_000), "");
    found(leads(2_000), rule);
    let excused = |change: fn(&mut Court)| {
        let mut court = leads(2_000);
        change(&mut court);
        found(court, "");
    };
    excused(|court| court.sends(2, 1));
    excused(|court| court.sends(3, 1));
    excused(|court| _ = court.checkers.prompt.failed.insert(0, court.at));
    excused(|court| {
        court.waited_ms = 10;
        court.announces(EventKind::Sdown, &slave(2));
    });
    excused(|court| court.announces(EventKind::Sdown, MASTER));
    excused(|court| court.checkers.prompt.leaves_alone(0, GROUP));
    excused(|court| court.tells(1, &replica(1, 100, 500)));
}
