//! Ordered failovers beside a master that lives: writes are held until the replica has them all.

use super::*;
use crate::sentinel::hand_over::NO_HAND_OVER;

fn history(n: u8, offset: u64) -> String {
    format!("master_replid:{}\r\nmaster_repl_offset:{offset}\r\n", id(n))
}

fn master(offset: u64) -> String {
    let slaves = [REPLICA, OTHER_REPLICA].map(|port| {
        format!("slave{}:ip=127.0.0.1,port={port},state=online,offset=1,lag=0\r\n", port % 2)
    });
    format!("role:master\r\n{}{}", slaves.concat(), history(9, offset))
}

fn replica(offset: u64) -> String {
    replica_info(MASTER, offset, true) + &history(9, offset)
}

fn hold(desk: &Desk) -> Option<Command> {
    let holds = |(to, command): &&(Address, Command)| {
        to.port == MASTER && matches!(command, Command::HoldWrites { .. })
    };
    desk.sent.iter().rfind(holds).map(|(_, command)| command.clone())
}

/// The master holds writes from here on, which end at this offset.
fn holds(desk: &mut Desk, offset: u64) {
    let command = hold(desk).expect("the master is told to hold writes");
    let reply = Value::Array(vec![Value::ok(), Value::bulk(master(offset))]);
    desk.infos.insert(at(MASTER), master(offset));
    desk.reply_from(MASTER, command, reply);
}

/// What was sent to the master since it was told to hold writes.
fn sent_behind(desk: &Desk) -> Vec<Command> {
    let to_master = desk.sent.iter().filter(|(to, _)| to.port == MASTER);
    let behind = to_master
        .map(|(_, command)| command.clone())
        .skip_while(|c| Some(c) != hold(desk).as_ref());
    behind.skip(1).collect()
}

const PLAIN: fn(String) -> Request = Request::Failover;
const COORDINATED: fn(String) -> Request = Request::HandOver;
const BOTH: [fn(String) -> Request; 2] = [PLAIN, COORDINATED];

/// The master is at offset 500, the best replica at this one, and all is well.
fn calm(mut desk: Desk, offset: u64) -> Desk {
    desk.infos.insert(at(MASTER), master(500));
    desk.infos.insert(at(REPLICA), replica(offset));
    desk.infos.insert(at(OTHER_REPLICA), replica(400));
    desk.pass(15_000);
    desk
}

/// Master and replica are at offset 500; a failover is ordered, and both peers vote for us.
fn ordered(order: fn(String) -> Request) -> Desk {
    let mut desk = calm(Desk::new(1, 2), 500);
    assert_eq!(desk.ask(order("mymaster".into())), Some(Value::ok()));
    desk.win();
    desk
}

fn warned(desk: &Desk) -> bool {
    desk.said.iter().any(|said| said.starts_with(NO_HAND_OVER))
}

#[test]
pub(super) fn writes_are_held_until_the_replica_has_them_all() {
    for order in BOTH {
        let mut desk = ordered(order);
        let command = hold(&desk).expect("at once");
        let [pause, info] = &command.requests(&BTreeMap::new())[..] else { panic!("{command:?}") };
        assert_eq!(
            (pause.join(" "), info.join(" ")),
            ("CLIENT PAUSE 2000 WRITE".into(), "INFO".into())
        );
        desk.pass(10);
        assert!(desk.promotions().is_empty(), "nobody knows yet how much was written");
        holds(&mut desk, 600);
        desk.pass(40);
        assert!(desk.promotions().is_empty(), "it lacks the last writes");
        desk.infos.insert(at(REPLICA), replica(600));
        desk.pass(30);
        assert_eq!(desk.promotions(), [REPLICA]);
        desk.infos.insert(at(REPLICA), format!("role:master\r\n{}", history(8, 600)));
        desk.pass(60);
        assert!(desk.has(EventKind::SwitchMaster), "{:?}", desk.events);
        assert!(!warned(&desk), "{:?}", desk.said);
    }
}

#[test]
pub(super) fn nothing_waits_behind_held_writes_and_they_are_freed_behind_the_new_role() {
    let mut desk = ordered(PLAIN);
    // Hellos fall due while the replica is waited for.
    let news = format!("127.0.0.1,26002,{},7,mymaster,127.0.0.1,{MASTER},0", id(2));
    desk.ask(Request::Hello(news));
    desk.pass(400);
    holds(&mut desk, 500);
    desk.pass(40);
    desk.infos.insert(at(REPLICA), format!("role:master\r\n{}", history(8, 600)));
    desk.pass(60);
    let sent = sent_behind(&desk);
    let follow = Command::Follow { master: at(REPLICA) };
    assert_eq!(sent[..2], [follow, Command::FreeWrites], "{sent:?}");
    assert!(matches!(sent[2..], [Command::Hello { .. }, ..]), "{sent:?}");
}

#[test]
pub(super) fn nobody_is_promoted_once_too_little_of_the_pause_is_left() {
    let mut desk = ordered(COORDINATED);
    holds(&mut desk, 600);
    // Its answer has been on its way for long.
    desk.infos.remove(&at(REPLICA));
    desk.pass(450);
    desk.now_ms += 200;
    desk.reply_from(REPLICA, Command::Info, Value::bulk(replica(600)));
    assert!(desk.promotions().is_empty());
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
}

#[test]
fn a_replica_that_does_not_catch_up_ends_it() {
    let mut desk = ordered(COORDINATED);
    holds(&mut desk, 600);
    desk.pass(600);
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
    assert!(desk.promotions().is_empty());
    assert_eq!(sent_behind(&desk)[0], Command::FreeWrites);
    // Whoever wants a master in any case gets one, and is told what it costs.
    let mut desk = ordered(PLAIN);
    holds(&mut desk, 600);
    desk.pass(490);
    assert!(desk.promotions().is_empty());
    desk.pass(20);
    assert_eq!(desk.promotions(), [REPLICA]);
    assert!(warned(&desk) && sent_behind(&desk).is_empty(), "{:?}", desk.said);
}

#[test]
fn a_master_that_holds_no_writes_is_asked_itself_or_not_at_all() {
    for error in ["NOPERM no permissions", "ERR Unknown subcommand 'PAUSE'"] {
        let refused = |order| {
            let mut desk = ordered(order);
            let reply = Value::Array(vec![Value::error(error), Value::bulk(master(500))]);
            desk.reply_from(MASTER, hold(&desk).expect("asked"), reply);
            desk
        };
        let desk = refused(COORDINATED);
        assert_eq!((desk.promotions(), warned(&desk)), (vec![], false));
        assert!(matches!(sent_behind(&desk)[..], [Command::HandOver { .. }]));
        let desk = refused(PLAIN);
        assert_eq!((desk.promotions(), sent_behind(&desk)), (vec![REPLICA], vec![]));
        assert!(desk.said.iter().any(|said| said.contains(error)), "{:?}", desk.said);
    }
}

#[test]
fn a_master_that_does_not_say_how_much_is_written_is_not_handed_over() {
    // A script runs, or it cannot be asked for INFO any more.
    let busy = || Value::error(BUSY);
    let answers = [(busy(), false), (Value::Array(vec![Value::ok(), busy()]), true)];
    for (answer, held) in answers {
        let mut desk = ordered(COORDINATED);
        desk.reply_from(MASTER, hold(&desk).expect("asked"), answer.clone());
        desk.pass(100);
        assert!(desk.promotions().is_empty() && desk.has(EventKind::AbortSlaveTimeout) == held);
        assert_eq!(sent_behind(&desk).contains(&Command::FreeWrites), held);
        let mut desk = ordered(PLAIN);
        desk.reply_from(MASTER, hold(&desk).expect("asked"), answer);
        assert!(desk.promotions() == [REPLICA] && warned(&desk));
    }
}

#[test]
fn writes_are_not_held_for_a_replica_that_is_far_behind() {
    assert!(hold(&ordered(PLAIN)).is_some(), "this one is near");
    let mut desk = calm(Desk::new(1, 2), 450);
    desk.ask(PLAIN("mymaster".into()));
    desk.win();
    desk.pass(100);
    assert_eq!((hold(&desk), desk.promotions()), (None, vec![]));
    // What the master had 100 ms ago: that is not near yet.
    desk.infos.insert(at(MASTER), master(600));
    desk.infos.insert(at(REPLICA), replica(500));
    desk.pass(30);
    assert_eq!(hold(&desk), None);
    desk.infos.insert(at(REPLICA), replica(600));
    desk.pass(50);
    assert!(hold(&desk).is_some());
}

#[test]
fn a_master_whose_connection_was_just_ended_is_asked_over_the_next() {
    let mut desk = calm(Desk::new(1, 2), 500);
    desk.ask(PLAIN("mymaster".into()));
    desk.connection_ends(MASTER);
    desk.win();
    desk.pass(300);
    assert_eq!((hold(&desk), desk.promotions()), (None, vec![]));
    let ip = || "127.0.0.1".to_owned();
    let up = LinkEvent::Up { local_ip: ip(), remote_ip: ip() };
    desk.input(Input::Link { link: desk.link_to(MASTER), event: up });
    desk.pass(30);
    holds(&mut desk, 500);
    desk.pass(30);
    assert_eq!((desk.promotions(), warned(&desk)), (vec![REPLICA], false));
}

#[test]
fn a_master_that_is_down_holds_nothing() {
    let mut desk = Desk::new(1, 2);
    desk.pass(15_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(1_200);
    desk.ask(PLAIN("mymaster".into()));
    desk.win();
    desk.pass(10);
    assert_eq!((hold(&desk), desk.promotions()), (None, vec![REPLICA]));
}

#[test]
fn the_answer_to_an_earlier_order_counts_for_nothing() {
    let mut desk = ordered(PLAIN);
    let early = Command::HoldWrites { epoch: 0, ms: 2_000 };
    let reply = Value::Array(vec![Value::ok(), Value::bulk(master(500))]);
    desk.reply_from(MASTER, early, reply);
    desk.pass(30);
    assert!(desk.promotions().is_empty());
}

#[test]
fn votes_that_bind_for_a_short_time_leave_less_to_everything() {
    for order in [PLAIN, COORDINATED] {
        for failover_timeout_ms in [1_000, 1_500] {
            let desk = Desk::with(1, 2, |_, group| group.failover_timeout_ms = failover_timeout_ms);
            let mut desk = calm(desk, 500);
            desk.ask(order("mymaster".into()));
            desk.win();
            desk.pass(30);
            assert!(hold(&desk).is_some() && desk.promotions().is_empty(), "{:?}", desk.events);
        }
    }
}
