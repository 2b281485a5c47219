//! Which nodes are sent where outside of a promotion: replicas to their master, old masters back,
//! and who follow each other in a circle out of it.

use super::*;

#[test]
pub(super) fn a_returning_old_master_is_taken_back_after_all_have_confirmed() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    let follow = (at(MASTER), Command::Follow { master: at(REPLICA) });
    desk.pass(1_000);
    assert!(!desk.sent.contains(&follow), "maybe it is we who lag behind");
    desk.hello(3, 4, REPLICA, 4);
    desk.pass(2_000);
    assert!(desk.sent.contains(&follow), "{:?}", desk.sent);
    assert!(desk.has(EventKind::ConvertToSlave));
}

#[test]
pub(super) fn a_node_that_refuses_is_asked_again_after_a_pause() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    let follow = Command::Follow { master: at(REPLICA) };
    let asked =
        |desk: &Desk| desk.sent.iter().filter(|(to, c)| to.port == MASTER && *c == follow).count();
    desk.pass(12_000);
    assert_eq!(asked(&desk), 1, "{:?}", desk.sent);
    let mut replies = vec![Value::ok(); 5];
    replies.push(Value::error("EXECABORT Transaction discarded because of previous errors."));
    desk.reply_from(MASTER, follow.clone(), Value::Array(replies));
    desk.pass(900);
    assert_eq!(asked(&desk), 1, "no storm of transactions: {:?}", desk.sent);
    desk.pass(200);
    assert_eq!(asked(&desk), 2, "{:?}", desk.sent);
}

#[test]
pub(super) fn a_promoted_node_is_not_down_for_having_been_a_replica() {
    let mut desk = Desk::new(1, 2);
    desk.pass(60_000);
    desk.events.clear();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    desk.pass(5_000);
    let called_down =
        desk.events.iter().any(|e| e.0 == EventKind::Sdown && e.1.contains("master m"));
    assert!(!called_down, "{:?}", desk.events);
}

/// Both nodes restart from files that know nothing of the failover that made REPLICA the master;
/// the returned old master says `old`, the new one that it is a replica of the old one.
fn roles_fall_back(old: &str) -> Desk {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    desk.infos.insert(at(MASTER), old.into());
    desk.infos.remove(&at(OTHER_REPLICA));
    desk.infos.insert(at(REPLICA), replica_info(MASTER, 1, old.contains("master\r\n")));
    desk.pass(40_000);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.answer_question(26002, 1, "*", 0);
    desk.win();
    desk.pass(500);
    desk
}

#[test]
pub(super) fn the_node_that_our_demoted_master_follows_may_lead_the_group() {
    let desk = roles_fall_back("role:master\r\n");
    assert_eq!(desk.promotions(), [MASTER], "{:?}", desk.said);
}

#[test]
fn nodes_that_follow_each_other_get_a_master_however_long_their_links_are_down() {
    let line = replica_info(REPLICA, 1, false) + "master_link_down_since_seconds:600\r\n";
    let desk = roles_fall_back(&line);
    assert_eq!(desk.promotions(), [REPLICA], "{:?}", desk.said);
}

#[test]
fn a_master_that_says_slave_is_down_after_down_after_and_two_infos() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 500, true));
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    // Its next INFO tells within 10 s.
    desk.pass(19_500);
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.pass(12_500);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
}

#[test]
pub(super) fn a_circle_of_replicas_gets_its_master_back() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let old = replica_info(MASTER, 1, false) + "master_link_down_since_seconds:600\r\n";
    for port in [REPLICA, OTHER_REPLICA] {
        desk.infos.insert(at(port), old.clone());
    }
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 500, false));
    desk.pass(40_000);
    assert!(desk.has(EventKind::Sdown), "a master that says slave for long is down");
    desk.answer_question(26002, 1, "*", 0);
    desk.win();
    assert_eq!(desk.promotions(), [MASTER]);
    desk.infos.insert(at(MASTER), "role:master\r\n".into());
    desk.pass(3_000);
    let view = desk.sentinel.view().groups().next().expect("a group");
    assert_eq!((view.master, view.config_epoch, view.sdown), (at(MASTER), 1, false));
    assert!(!desk.has(EventKind::SwitchMaster), "the address is the same");
}

#[test]
fn replicas_are_sent_to_a_master_that_is_on_disk() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.disk_works = false;
    desk.pass(500);
    let follow = (at(OTHER_REPLICA), Command::Follow { master: at(REPLICA) });
    assert!(!desk.sent.contains(&follow));
    desk.write_ends();
    assert!(desk.sent.contains(&follow), "{:?}", desk.sent);
}

#[test]
pub(super) fn nobody_is_sent_to_a_master_that_is_down() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 400, false));
    desk.pass(60_000);
    assert!(!desk.sent.iter().any(|(_, c)| matches!(c, Command::Follow { .. })), "{:?}", desk.sent);
}

#[test]
pub(super) fn a_master_too_many_is_given_time_unless_all_have_confirmed() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    let follow = (at(MASTER), Command::Follow { master: at(REPLICA) });
    desk.pass(7_000);
    assert!(!desk.sent.contains(&follow), "{:?}", desk.events);
    desk.pass(3_000);
    assert!(desk.sent.contains(&follow));
}

#[test]
pub(super) fn replicas_are_repointed_one_after_the_other() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.infos.insert(at(MASTER), replica_info(OTHER_REPLICA, 400, false));
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(3_000);
    let follow = |(_, c): &&(Address, Command)| matches!(c, Command::Follow { .. });
    assert_eq!(desk.sent.iter().filter(follow).count(), 1, "{:?}", desk.sent);
}

#[test]
pub(super) fn nobody_is_sent_to_the_old_master_while_a_new_one_is_chosen() {
    let mut desk = Desk::new(1, 2);
    let follows = |port| format!("run_id:{}\r\n{}", id(9), replica_info(port, 400, false));
    desk.infos.insert(at(OTHER_REPLICA), follows(MASTER));
    desk.pass(12_000);
    desk.infos.insert(at(OTHER_REPLICA), follows(9_999));
    let has_seen = |desk: &Desk| {
        let node = desk.sentinel.groups["mymaster"].replicas.get(&at(OTHER_REPLICA)).unwrap();
        node.info.as_ref().is_some_and(|info| info.master == Some(at(9_999)))
    };
    while !has_seen(&desk) {
        desk.pass(100);
    }
    // It will have been wrong for long enough within this election.
    desk.pass(7_500);
    desk.ask(Request::Failover("mymaster".into()));
    // The votes are late.
    desk.sent.clear();
    while !desk.has(EventKind::AbortNotElected) {
        desk.pass(100);
        let strayed =
            desk.sent.iter().any(|(_, command)| matches!(command, Command::Follow { .. }));
        let during = !desk.has(EventKind::AbortNotElected);
        assert!(!(strayed && during), "{} ms: {:?}", desk.now_ms, desk.sent);
        assert!(desk.now_ms < 100_000, "{:?}", desk.events);
    }
    desk.pass(30_000);
    let order = (at(OTHER_REPLICA), Command::Follow { master: at(MASTER) });
    assert!(desk.sent.contains(&order), "it is put right afterwards: {:?}", desk.events);
}

/// The old master is back, and a newcomer that was told of it finds another one beside it.
fn two_masters() -> Desk {
    let mut desk = lone();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk
}

fn orders(desk: &Desk) -> Vec<u16> {
    let follow =
        |(to, c): &(Address, Command)| matches!(c, Command::Follow { .. }).then_some(to.port);
    desk.sent.iter().filter_map(follow).collect()
}

#[test]
pub(super) fn a_newcomer_that_may_not_listen_sends_nobody_anywhere() {
    let mut desk = two_masters();
    for link in [desk.link_to(MASTER), desk.link_to(REPLICA)] {
        let reason = "NOPERM this user has no permissions to access one of the channels".into();
        desk.input(Input::Link { link, event: LinkEvent::Unsubscribed { reason } });
    }
    desk.pass(60_000);
    assert_eq!(orders(&desk), [] as [u16; 0], "others may know better, unheard");
    let link = desk.link_to(MASTER);
    desk.input(Input::Link { link, event: LinkEvent::Subscribed });
    desk.pass(15_000);
    assert!(orders(&desk).contains(&REPLICA), "nobody else is there");
}

#[test]
fn a_newcomer_sends_nobody_anywhere_while_it_hears_whom_it_may_not_believe() {
    let key = |word: &str, signed_only| {
        let secret = crate::config::types::Secret::new(word);
        Some(crate::config::settings::HelloKey { secret, file: "secret".into(), signed_only })
    };
    for key in [key("ours", true), None] {
        let mut desk = two_masters();
        desk.sentinel.core.settings.hello_key = key;
        for counter in 0..30 {
            let plain = format!("127.0.0.1,26002,{},5,mymaster,127.0.0.1,{REPLICA},5", id(2));
            let theirs = crate::config::types::Secret::new("theirs");
            let signed = super::super::signed::sign(&theirs, counter, &plain);
            desk.ask(Request::Hello(signed));
            desk.pass(2_000);
        }
        assert_eq!(orders(&desk), [] as [u16; 0], "they know a newer configuration");
        desk.pass(15_000);
        assert!(orders(&desk).contains(&REPLICA), "they are gone");
    }
}

#[test]
fn who_knows_nobody_and_lost_its_ears_waits_for_longer() {
    let mut desk = lone();
    desk.pass(5_000);
    for link in [desk.link_to(MASTER), desk.link_to(REPLICA)] {
        let reason = "NOPERM".into();
        desk.input(Input::Link { link, event: LinkEvent::Unsubscribed { reason } });
    }
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    let seen = |desk: &Desk| {
        let node = desk.sentinel.groups["mymaster"].replicas.get(&at(REPLICA)).unwrap();
        node.role() == Some(info::Role::Master)
    };
    (0..100).find(|_| {
        desk.pass(200);
        seen(&desk)
    });
    desk.pass(6_000);
    assert_eq!(orders(&desk), [] as [u16; 0]);
    desk.pass(4_000);
    assert!(orders(&desk).contains(&REPLICA), "as Redis's sentinel, which asks nobody");
}
