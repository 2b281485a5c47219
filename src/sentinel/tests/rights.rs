//! Wrong credentials, missing rights and renamed commands: named at once, and never a reason to
//! fail over a healthy node.

use super::*;

fn right(desk: &mut Desk, port: u16, command: &str, refused: Option<&str>) {
    let link = desk.link_to(port);
    let (command, refused) = (command.to_owned(), refused.map(str::to_owned));
    desk.input(Input::Link { link, event: LinkEvent::Right { command, refused } });
}

fn master_entry(desk: &mut Desk) -> Vec<(String, String)> {
    let entry = desk.ask(Request::Master("mymaster".into())).expect("an answer");
    let Value::Map(pairs) = entry else { panic!("no entry: {entry:?}") };
    let text = |value: &Value| value.text().unwrap_or_default().to_owned();
    pairs.iter().map(|(key, value)| (text(key), text(value))).collect()
}

fn field(entry: &[(String, String)], name: &str) -> Option<String> {
    entry.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

fn told(desk: &Desk, kind: EventKind) -> Vec<&str> {
    desk.events.iter().filter(|(k, _)| *k == kind).map(|(_, payload)| &payload[..]).collect()
}

#[test]
fn what_is_refused_is_told_by_name_once_and_shown_until_it_is_right() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    for _ in 0..2 {
        right(&mut desk, MASTER, "SLAVEOF", Some("NOPERM User watch has no permissions"));
        right(&mut desk, MASTER, "CONFIG", Some("ERR unknown command 'CONFIG', with args"));
        right(&mut desk, MASTER, "MULTI", None);
    }
    let whom = format!("master mymaster 127.0.0.1 {MASTER}");
    let expected = [format!("{whom} SLAVEOF NOPERM"), format!("{whom} CONFIG unknown-command")];
    assert_eq!(told(&desk, EventKind::ConfigError), expected);
    let said = |desk: &Desk, text| desk.said.iter().filter(|said| said.contains(text)).count();
    assert_eq!(said(&desk, "refuses SLAVEOF (NOPERM): the user of auth-user may not"), 1);
    assert_eq!(said(&desk, "refuses CONFIG (unknown-command): it does not know CONFIG"), 1);
    let entry = master_entry(&mut desk);
    let last = entry.last().expect("fields");
    assert_eq!(last.0, "config-errors", "own fields come last: {entry:?}");
    assert_eq!(last.1, "CONFIG unknown-command,SLAVEOF NOPERM");
    assert_eq!(field(&entry, "flags").as_deref(), Some("master"));

    right(&mut desk, MASTER, "SLAVEOF", None);
    right(&mut desk, MASTER, "CONFIG", None);
    let over = [format!("{whom} SLAVEOF"), format!("{whom} CONFIG")];
    assert_eq!(told(&desk, EventKind::ConfigErrorEnd), over);
    assert_eq!(field(&master_entry(&mut desk), "config-errors"), None);
}

#[test]
pub(super) fn who_refuses_a_command_of_the_promotion_is_passed_over() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let best = {
        let group = &desk.sentinel.groups["mymaster"];
        group.best_replica(&desk.sentinel.core, true).expect("a candidate").port
    };
    right(&mut desk, best, "CLIENT", Some("NOPERM no permissions to run 'client|kill'"));
    desk.master_dies();
    desk.win();
    desk.pass(500);
    let promoted = desk.promotions();
    assert!(promoted.len() == 1 && promoted[0] != best, "{promoted:?}: {:?}", desk.said);
}

#[test]
fn ping_by_another_name_is_no_silence() {
    for reply in [
        Value::error("ERR unknown command 'PING', with args beginning with: "),
        Value::error("ERR wrong number of arguments for 'ping' command"),
        Value::ok(),
        Value::Array(vec![]),
    ] {
        let mut desk = Desk::new(1, 2);
        desk.pass(2_000);
        // It was started anew, with another name for PING; INFO it answers as ever.
        desk.infos.remove(&at(MASTER));
        let ip = || "127.0.0.1".to_owned();
        let event = LinkEvent::Up { local_ip: ip(), remote_ip: ip() };
        desk.connection_ends(MASTER);
        desk.input(Input::Link { link: desk.link_to(MASTER), event });
        for _ in 0..200 {
            // Over whichever connection: AUTH is tried on a new one now and then.
            desk.reply_from(MASTER, Command::Info, Value::bulk("role:master\r\n"));
            desk.reply_from(MASTER, Command::Ping, reply.clone());
            desk.pass(100);
        }
        assert!(!desk.has(EventKind::Sdown), "{reply:?}: {:?}", desk.events);
        assert!(!desk.has(EventKind::TryFailover), "{reply:?}: {:?}", desk.events);
        let entry = master_entry(&mut desk);
        let flags = field(&entry, "flags").expect("flags");
        assert!(flags.starts_with("s_down,master"), "as Redis shows it: {flags}");
        assert!(field(&entry, "config-errors").is_some_and(|why| why.starts_with("PING ")));
        let asked = Request::IsMasterDown {
            host: "127.0.0.1".into(),
            port: i64::from(MASTER),
            epoch: 0,
            candidate: None,
        };
        let Some(Value::Array(opinion)) = desk.ask(asked) else { panic!("no opinion") };
        assert_eq!(opinion[0], Value::Integer(0), "to others it is not down");
        let info = desk.ask(Request::Info { running_scripts: 0, queued_scripts: 0 }).expect("INFO");
        assert!(info.text().is_some_and(|text| text.contains("status=sdown")), "{info:?}");
        // And once it is silent, that is noticed.
        desk.pass(1_500);
        assert!(desk.has(EventKind::Sdown), "{reply:?}");
    }
}

#[test]
fn another_sentinel_that_refuses_us_is_named() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let question = Command::IsMasterDown { master: at(MASTER), epoch: 0, candidate: None };
    desk.reply_from(26002, question, Value::error("NOPERM User s may not 'sentinel'"));
    right(&mut desk, 26003, "SENTINEL", Some("ERR unknown command 'SENTINEL'"));
    desk.reply_from(26003, Command::Ping, Value::error("NOAUTH Authentication required."));
    let events = told(&desk, EventKind::ConfigError);
    for (event, end) in events.iter().zip([
        format!("127.0.0.1 26002 @ mymaster 127.0.0.1 {MASTER} SENTINEL NOPERM"),
        format!("127.0.0.1 26003 @ mymaster 127.0.0.1 {MASTER} SENTINEL unknown-command"),
        format!("127.0.0.1 26003 @ mymaster 127.0.0.1 {MASTER} PING NOAUTH"),
    ]) {
        assert!(event.starts_with("sentinel ") && event.ends_with(&end), "{event}: {end}");
    }
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(desk.said.iter().any(|text| text.contains("set sentinel-pass")), "{:?}", desk.said);
}

#[test]
fn a_node_that_answers_rubbish_is_not_well() {
    // It did answer PING, or does not answer INFO either: no wrong name explains that.
    for reconnects in [false, true] {
        let mut desk = Desk::new(1, 2);
        desk.pass(2_000);
        desk.infos.remove(&at(MASTER));
        if reconnects {
            let ip = || "127.0.0.1".to_owned();
            let event = LinkEvent::Up { local_ip: ip(), remote_ip: ip() };
            desk.connection_ends(MASTER);
            desk.input(Input::Link { link: desk.link_to(MASTER), event });
        }
        for _ in 0..20 {
            desk.reply_from(MASTER, Command::Ping, Value::bulk("rubbish"));
            desk.pass(100);
        }
        assert!(desk.has(EventKind::Sdown), "{reconnects}: {:?}", desk.events);
    }
}

#[test]
fn who_ends_each_of_our_connections_lives_however_seldom_we_try() {
    // Attempts come up to 1.25 s apart, and down-after is 1 s.
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    let down = |desk: &mut Desk, reason: LostReason| {
        let link = desk.link_to(MASTER);
        desk.input(Input::Link { link, event: LinkEvent::Down { reason } });
    };
    for reason in [
        LostReason::Untrusted("it has expired".into()),
        LostReason::Rejected("DENIED Redis is running in protected mode".into()),
    ] {
        for _ in 0..10 {
            down(&mut desk, reason.clone());
            desk.pass(1_250);
        }
        assert!(!desk.has(EventKind::Sdown), "{reason}: {:?}", desk.events);
    }
    down(&mut desk, LostReason::Refused);
    desk.pass(1_250);
    assert!(desk.has(EventKind::Sdown), "nobody is there any more: {:?}", desk.events);
}

#[test]
fn a_wrong_password_is_called_wrong_and_who_cannot_be_asked_is_not_counted() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let wants_one = Value::error("NOAUTH Authentication required.");
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    right(&mut desk, MASTER, "AUTH", Some(wrong));
    desk.reply_from(MASTER, Command::Ping, wants_one.clone());
    right(&mut desk, 26002, "AUTH", Some(wrong));
    desk.reply_from(26002, Command::Ping, wants_one);
    let errors = field(&master_entry(&mut desk), "config-errors");
    assert_eq!(errors.as_deref(), Some("AUTH WRONGPASS,PING WRONGPASS"));
    let said = |text| desk.said.iter().any(|said| said.contains(text));
    assert!(said("(auth-pass or auth-user of this group is wrong)"), "{:?}", desk.said);
    assert!(said("(WRONGPASS): sentinel-pass or sentinel-user is wrong"), "{:?}", desk.said);

    right(&mut desk, 26003, "SENTINEL", Some("NOPERM User s may not"));
    let quorum = desk.ask(Request::CkQuorum("mymaster".into())).expect("an answer");
    assert_eq!(quorum.text().map(|text| text.starts_with("OK 2 ")), Some(true), "{quorum:?}");
}

#[test]
fn why_there_is_no_connection_is_said_once() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    for _ in 0..5 {
        for reason in [
            LostReason::Unresolved("Name or service not known".into()),
            LostReason::Rejected("ERR max number of clients reached".into()),
        ] {
            let link = desk.link_to(if matches!(reason, LostReason::Rejected(_)) {
                REPLICA
            } else {
                MASTER
            });
            desk.input(Input::Link { link, event: LinkEvent::Down { reason } });
        }
        desk.pass(100);
    }
    for text in ["Can't resolve hostname: Name or service not known", "max number of clients"] {
        let count = desk.said.iter().filter(|said| said.contains(text)).count();
        assert_eq!(count, 1, "{text}: {:?}", desk.said);
    }
}

#[test]
fn a_node_that_wants_a_password_is_named() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let error = Value::error("NOAUTH Authentication required.");
    desk.reply_from(MASTER, Command::Ping, error.clone());
    desk.reply_from(MASTER, Command::Ping, error);
    let told = desk.said.iter().filter(|text| text.contains("set auth-pass")).count();
    assert_eq!(told, 1, "{:?}", desk.said);
}

#[test]
fn a_node_that_refuses_us_lives_and_its_death_is_noticed_all_the_same() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    for (port, error) in [(MASTER, "WRONGPASS invalid"), (REPLICA, "NOPERM no permissions")] {
        desk.refusals.insert(at(port), error);
    }
    let first = |desk: &Desk| *desk.links.iter().find(|(_, to)| to.port == MASTER).expect("one").0;
    let before = first(&desk);
    desk.pass(150_000);
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    let told = desk.said.iter().filter(|text| text.contains("WRONGPASS (auth-pass")).count();
    assert_eq!(told, 3, "once a minute: {:?}", desk.said);
    assert_ne!(first(&desk), before, "AUTH is tried anew");
    let entry = desk.ask(Request::Master("mymaster".into())).expect("an answer");
    assert!(format!("{entry:?}").contains("s_down,master,disconnected"), "{entry:?}");

    desk.refusals.clear();
    desk.pass(20_000);
    let entry = desk.ask(Request::Master("mymaster".into())).expect("an answer");
    assert!(!format!("{entry:?}").contains("disconnected"), "{entry:?}");

    desk.refusals.insert(at(MASTER), "NOAUTH Authentication required.");
    desk.refusals.insert(at(REPLICA), "NOAUTH Authentication required.");
    desk.pass(20_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(1_300);
    assert!(desk.has(EventKind::Sdown), "silence is silence");
    desk.answer_question(26002, 1, "*", 0);
    desk.pass(200);
    desk.answer_question(26002, 1, &id(1).to_string(), 1);
    desk.pass(500);
    let promoted = desk.promotions();
    assert_eq!(promoted, [OTHER_REPLICA], "who refuses us is no candidate: {:?}", desk.said);
}

#[test]
fn a_connection_that_ends_with_a_refusal_is_a_sign_of_life() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    for _ in 0..10 {
        let link = *desk.links.iter().find(|(_, to)| to.port == MASTER).expect("one").0;
        let reason = LostReason::Rejected("WRONGPASS invalid username-password pair".into());
        desk.input(Input::Link { link, event: LinkEvent::Down { reason } });
        desk.pass(500);
    }
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.pass(4_000);
    assert!(desk.has(EventKind::Sdown), "until it says nothing more");
}

/// With ten thousand nodes the descriptors may run out: a failover of whatever cannot be connected
/// to would be the end of healthy masters.
#[test]
fn a_lack_of_our_own_is_no_silence() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    for _ in 0..10 {
        let link = desk.link_to(MASTER);
        let reason = LostReason::OwnLimit("Too many open files".into());
        desk.input(Input::Link { link, event: LinkEvent::Down { reason } });
        desk.pass(1_000);
    }
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    let named = "No connection from here: Too many open files (raise the limit of this sentinel";
    assert!(desk.said.iter().any(|said| said.contains(named)), "{:?}", desk.said);
    let told = |(kind, text): &(EventKind, String)| {
        *kind == EventKind::ConfigError && text.contains("own-limit")
    };
    assert!(desk.events.iter().any(told), "{:?}", desk.events);
    // Whoever was found dead before stays so.
    let down = |desk: &mut Desk, reason: LostReason| {
        let link = desk.link_to(MASTER);
        desk.input(Input::Link { link, event: LinkEvent::Down { reason } });
        desk.pass(1_250);
    };
    down(&mut desk, LostReason::Refused);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    down(&mut desk, LostReason::OwnLimit("Too many open files".into()));
    assert!(!desk.has(EventKind::SdownEnd), "{:?}", desk.events);
}

#[test]
fn a_certificate_that_is_not_accepted_is_a_sign_of_life_and_named() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    for _ in 0..10 {
        let link = *desk.links.iter().find(|(_, to)| to.port == MASTER).expect("one").0;
        let reason = LostReason::Untrusted("its certificate is not accepted".into());
        desk.input(Input::Link { link, event: LinkEvent::Down { reason } });
        desk.pass(500);
    }
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    let named = "TLS handshake failed: its certificate is not accepted; it lives, so";
    assert!(desk.said.iter().any(|said| said.contains(named)), "{:?}", desk.said);
    desk.pass(4_000);
    assert!(desk.has(EventKind::Sdown), "until it says nothing more");
}
