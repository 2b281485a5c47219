//! What ends a silence: PONG, and where all is well a hello that was published, too.

use super::*;

const SLOW_MS: u64 = 30_000;

/// A desk in peace whose nodes are asked once a second.
fn calm() -> Desk {
    let mut desk = Desk::with(1, 2, |_, group| group.down_after_ms = SLOW_MS);
    desk.pass(15_000);
    desk
}

/// How often the master is asked PING, and told a hello, in 20 s.
fn asked(desk: &mut Desk) -> (u32, usize) {
    let hellos = |desk: &Desk| {
        let is_hello = |(to, command): &&(Address, Command)| {
            to.port == MASTER && matches!(command, Command::Hello { .. })
        };
        desk.sent.iter().filter(is_hello).count()
    };
    let before = (desk.pinged[&at(MASTER)], hellos(desk));
    desk.pass(20_000);
    (desk.pinged[&at(MASTER)] - before.0, hellos(desk) - before.1)
}

#[test]
fn a_hello_takes_the_place_of_every_other_ping() {
    let (pings, hellos) = asked(&mut calm());
    assert!((9..=11).contains(&pings) && (9..=11).contains(&hellos), "{pings} {hellos}");
}

#[test]
fn whoever_refuses_hellos_is_asked_by_ping_alone_and_lives() {
    for error in ["NOPERM this user has no permissions to run 'publish'", "ERR no such channel"] {
        let mut desk = Desk::with(1, 2, |_, group| group.down_after_ms = 300);
        desk.pass(5_000);
        desk.unpublished.insert(at(MASTER), error);
        desk.pass(20_000);
        assert!(!desk.has(EventKind::Sdown), "{error}: {:?}", desk.events);
        let mut desk = calm();
        desk.unpublished.insert(at(MASTER), error);
        desk.pass(2_000);
        let (pings, _) = asked(&mut desk);
        assert!(pings >= 19, "{error}: {pings}");
    }
}

#[test]
fn a_master_that_publishes_and_cannot_write_is_down() {
    let mut desk = calm();
    desk.pings.insert(at(MASTER), "MISCONF Redis is configured to save RDB snapshots");
    desk.pass(SLOW_MS);
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.pass(2_100);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.pings.clear();
    desk.pass(1_100);
    assert!(desk.has(EventKind::SdownEnd), "{:?}", desk.events);
}

#[test]
fn a_silence_counts_from_the_first_question_without_an_answer_be_it_a_hello() {
    for ms in (0..2_000).step_by(100) {
        let mut desk = calm();
        desk.pass(ms);
        desk.infos.remove(&at(MASTER));
        desk.pass(SLOW_MS);
        assert!(!desk.has(EventKind::Sdown), "after {ms} ms: {:?}", desk.events);
        desk.pass(1_010);
        assert!(desk.has(EventKind::Sdown), "after {ms} ms: {:?}", desk.events);
    }
}

#[test]
fn a_restart_and_trouble_are_told_by_ping() {
    let mut desk = calm();
    // It loads its data: that is over as soon as PING says so.
    desk.pings.insert(at(MASTER), "LOADING Redis is loading the dataset in memory");
    desk.pass(2_000);
    let (pings, hellos) = asked(&mut desk);
    assert!(pings >= 19 && hellos >= 9, "{pings} {hellos}");
    desk.pings.clear();
    // A replica that has nobody to follow is to be put right.
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(11_000);
    let (pings, _) = asked(&mut desk);
    assert!(pings >= 19, "{pings}");
}

#[test]
fn who_hears_all_that_was_said_before_it_decides_calls_nobody_silent() {
    for heard in [false, true] {
        let mut desk = Desk::new(1, 2);
        desk.pass(5_000);
        let info = desk.infos.remove(&at(MASTER)).expect("a master");
        while desk.sentinel.groups["mymaster"].master.health.silent_ms(desk.sentinel.core.moment())
            < 980
        {
            desk.pass(1);
        }
        // Late, but not so late that it shows.
        desk.now_ms += 40;
        if heard {
            desk.infos.insert(at(MASTER), info);
            let link = desk.link_to(MASTER);
            let reply = Value::Simple("PONG".into());
            let event = LinkEvent::Reply { command: Command::Ping, reply };
            desk.sentinel.hear(desk.clock(), Input::Link { link, event });
        }
        desk.input(Input::Wake);
        assert_eq!(desk.has(EventKind::Sdown), !heard, "{:?}", desk.events);
    }
}

#[test]
fn what_is_heard_after_a_stall_decides_nothing_either() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    let info = desk.infos.remove(&at(REPLICA)).expect("a replica");
    desk.pass(20);
    desk.win();
    assert!(desk.has(EventKind::StateSelectSlave), "{:?}", desk.events);
    assert!(desk.promotions().is_empty(), "it waits for the silent replica");
    desk.now_ms += 8_000;
    let event = LinkEvent::Reply { command: Command::Info, reply: Value::bulk(info) };
    let input = Input::Link { link: desk.link_to(REPLICA), event };
    // Heard twice, and late once.
    desk.sentinel.hear(desk.clock(), input.clone());
    let unwatched_ms = desk.sentinel.core.unwatched_ms;
    desk.sentinel.hear(desk.clock(), input);
    assert_eq!(desk.sentinel.core.unwatched_ms, unwatched_ms);
    desk.input(Input::Wake);
    assert!(desk.has(EventKind::Tilt), "{:?}", desk.events);
    desk.pass(5_000);
    assert!(desk.promotions().is_empty());
}
