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
