//! Signed hellos: who has no secret moves nothing in a quorum that shares one.

use super::super::signed::sign;
use super::*;
use crate::config::settings::HelloKey;
use crate::config::types::Secret;

fn secret() -> Secret {
    Secret::new("between us")
}

fn desk(signed_only: bool) -> Desk {
    let mut desk = Desk::with(1, 2, |own, _| {
        own.hello_key = Some(HelloKey { secret: secret(), file: "secret".into(), signed_only });
    });
    desk.pass(2_500);
    desk
}

/// A hello of the sentinel `from`, which names `master` with this configuration epoch.
fn line(from: u8, port: u16, master: u16, config: u64) -> String {
    format!("127.0.0.1,{port},{},{config},mymaster,127.0.0.1,{master},{config}", id(from))
}

fn hear(desk: &mut Desk, payload: String) {
    desk.ask(Request::Hello(payload));
}

fn hear_signed(desk: &mut Desk, counter: u64, line: &str) {
    hear(desk, sign(&secret(), counter, line));
}

fn master_port(desk: &Desk) -> u16 {
    desk.sentinel.groups["mymaster"].master.address.port
}

fn hellos(desk: &Desk) -> (usize, usize) {
    let said = desk.sent.iter().filter_map(|(_, command)| match command {
        Command::Hello { payload } => Some(payload.starts_with("signed,")),
        _ => None,
    });
    let (signed, plain): (Vec<bool>, Vec<bool>) = said.partition(|signed| *signed);
    (plain.len(), signed.len())
}

#[test]
fn an_unsigned_hello_moves_nothing_where_all_are_signed() {
    let mut desk = desk(true);
    for n in 0..5 {
        hear(&mut desk, line(9, 26009, REPLICA, 5 + n));
        hear(&mut desk, sign(&Secret::new("a guess"), 5, &line(9, 26009, REPLICA, 5)));
        hear(&mut desk, format!("signed,{},3,{}", "0".repeat(64), line(9, 26009, REPLICA, 5)));
    }
    assert_eq!((master_port(&desk), desk.sentinel.view().current_epoch()), (MASTER, 0));
    assert!(!desk.has(EventKind::Sentinel) && !desk.has(EventKind::NewEpoch));
    let said = |text| desk.said.iter().filter(|said| said.contains(text)).count();
    assert_eq!(said("that nobody signed"), 3, "1, 2, 4 of 5: {:?}", desk.said);
    assert!(said("another secret than ours, in the name of 09090909") > 0, "{:?}", desk.said);
    assert!(!desk.said.iter().any(|text| text.contains("between us")));

    let now = desk.now_ms;
    hear_signed(&mut desk, now, &line(2, 26002, REPLICA, 5));
    assert_eq!(master_port(&desk), REPLICA, "the others have the secret");
    let (plain, signed) = hellos(&desk);
    assert!(plain == 0 && signed > 0, "{plain} plain, {signed} signed");
}

#[test]
fn both_kinds_are_said_and_heard_while_not_all_have_the_secret() {
    let mut desk = desk(false);
    let (plain, signed) = hellos(&desk);
    assert!(plain == signed && plain > 0, "{plain} plain, {signed} signed");
    hear(&mut desk, line(2, 26002, REPLICA, 5));
    assert_eq!(master_port(&desk), REPLICA);
    let now = desk.now_ms;
    hear_signed(&mut desk, now, &line(3, 26003, OTHER_REPLICA, 6));
    assert_eq!(master_port(&desk), OTHER_REPLICA);
}

#[test]
fn what_was_signed_long_ago_counts_for_nothing() {
    let mut desk = desk(true);
    let now = desk.now_ms;
    hear_signed(&mut desk, now, &line(2, 26002, MASTER, 0));
    for counter in [now - 1, now] {
        hear_signed(&mut desk, counter, &line(2, 26002, REPLICA, 5));
        assert_eq!(master_port(&desk), MASTER, "it has said that, or something since");
    }
    // A sentinel that is gone is brought back by nobody.
    desk.pass(900_000);
    hear_signed(&mut desk, now, &line(9, 26009, MASTER, 0));
    assert!(!desk.has(EventKind::Sentinel), "{:?}", desk.events);
    let now = desk.now_ms;
    hear_signed(&mut desk, now, &line(9, 26009, MASTER, 0));
    assert!(desk.has(EventKind::Sentinel), "{:?}", desk.said);
}

#[test]
fn whoever_has_no_secret_takes_no_notice_of_signatures() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_500);
    let now = desk.now_ms;
    hear_signed(&mut desk, now, &line(2, 26002, REPLICA, 5));
    assert_eq!(master_port(&desk), MASTER);
    assert!(!desk.said.iter().any(|text| text.contains("Ignored")), "{:?}", desk.said);
}

#[test]
fn that_an_election_is_given_up_is_signed_too() {
    let mut desk = desk(true);
    desk.master_dies();
    let epoch = desk.sentinel.view().current_epoch();
    assert!(epoch > 0, "{:?}", desk.events);
    desk.sent.clear();
    let now = desk.now_ms;
    hear_signed(&mut desk, now, &line(2, 26002, REPLICA, epoch + 1));
    let plain = desk.sent.iter().any(|(_, command)| matches!(command, Command::GiveUp(_)));
    let text = format!("gives-up,{},{epoch},mymaster", id(1));
    let signed = desk
        .sent
        .iter()
        .filter(|(_, c)| matches!(c, Command::Hello { payload } if payload.ends_with(&text)));
    assert!(!plain && signed.count() == 2, "{:?}", desk.sent);
}

#[test]
fn after_a_start_old_words_of_known_sentinels_count_for_nothing_either() {
    let mut desk = desk(true);
    desk.pass(900_000);
    hear_signed(&mut desk, 1_000, &line(2, 26002, REPLICA, 5));
    assert_eq!(master_port(&desk), MASTER, "{:?}", desk.said);
    let now = desk.now_ms;
    hear_signed(&mut desk, now, &line(2, 26002, REPLICA, 5));
    assert_eq!(master_port(&desk), REPLICA, "{:?}", desk.said);
}

#[test]
fn whoever_has_another_secret_is_neither_counted_nor_voted_for() {
    let mut desk = desk(true);
    for _ in 0..8 {
        desk.pass(2_000);
        let now = desk.now_ms;
        hear_signed(&mut desk, now, &line(2, 26002, MASTER, 0));
    }
    let quorum = desk.ask(Request::CkQuorum("mymaster".into())).expect("an answer");
    assert_eq!(quorum.text().map(|text| text.starts_with("OK 2 ")), Some(true), "{quorum:?}");
    let voted = |reply: Option<Value>| match reply {
        Some(Value::Array(parts)) => parts[1].text().map(str::to_owned),
        other => panic!("{other:?}"),
    };
    assert_eq!(voted(desk.vote_for(3, 1)).as_deref(), Some("*"), "it is not heard");
    assert_eq!(voted(desk.vote_for(2, 1)), Some(id(2).to_string()));
    // Alone with its secret nobody stands.
    desk.pass(20_000);
    let ordered = desk.ask(Request::Failover("mymaster".into()));
    assert!(matches!(ordered, Some(Value::Error(ref text)) if text.starts_with("NOQUORUM")));
}

#[test]
fn our_own_old_words_hold_us_up_no_more_than_those_of_others() {
    let mut desk = desk(true);
    let now = desk.now_ms;
    let ours = line(1, 26_009, MASTER, 0);
    hear(&mut desk, ours.clone());
    hear_signed(&mut desk, now, &ours);
    desk.pass(20_500);
    for _ in 0..5 {
        // The same word, or one that never was.
        hear_signed(&mut desk, now, &ours);
        hear(&mut desk, ours.clone());
        desk.pass(2_000);
    }
    let now = desk.now_ms;
    hear_signed(&mut desk, now, &line(2, 26002, MASTER, 0));
    hear_signed(&mut desk, now, &line(3, 26003, MASTER, 0));
    desk.master_dies();
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.said);
    assert_eq!(desk.sentinel.view().my_id(), &id(1));
    let ignored = "Ignored a hello with my own id from 127.0.0.1:26009";
    assert!(desk.said.iter().any(|said| said.contains(ignored)), "{:?}", desk.said);
}
