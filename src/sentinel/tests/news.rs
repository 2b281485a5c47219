//! Whether a node that is wrong may be put right at once: the other sentinels are asked for whom
//! they voted last, and the master whether it is one.

use super::*;

/// REPLICA was elected in epoch 4, as both peers say; the old master was down and is back at this
/// moment, over a connection that has just been made.
fn old_master_returns() -> Desk {
    old_master_returns_to(Desk::new(1, 2))
}

fn old_master_returns_to(mut desk: Desk) -> Desk {
    let info = |n: u8| format!("run_id:{}\r\nrole:master\r\n", id(n));
    desk.infos.insert(at(MASTER), info(0xa));
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(1_500);
    desk.infos.insert(at(REPLICA), info(0xb));
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 400, true));
    for n in [2, 3] {
        desk.hello(n, 4, REPLICA, 4);
    }
    desk.pass(12_000);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.infos.insert(at(MASTER), info(0xc));
    desk.sent.clear();
    let link = desk.link_to(MASTER);
    desk.input(Input::Link { link, event: LinkEvent::Down { reason: LostReason::Refused } });
    let up = LinkEvent::Up { local_ip: "127.0.0.1".into(), remote_ip: "127.0.0.1".into() };
    desk.input(Input::Link { link, event: up });
    desk
}

fn ask(asker: u8) -> Command {
    Command::AskVote { master: at(REPLICA), asker: id(asker) }
}

/// The peers that were asked for their last vote.
fn asked(desk: &Desk) -> Vec<u16> {
    desk.sent.iter().filter(|(_, c)| *c == ask(1)).map(|(to, _)| to.port).collect()
}

fn sent_away(desk: &Desk) -> bool {
    desk.sent.contains(&(at(MASTER), Command::Follow { master: at(REPLICA) }))
}

/// It tells its last vote.
fn tell(desk: &mut Desk, port: u16, epoch: i64) {
    desk.reply_from(port, ask(1), opinion(0, 7, epoch));
}

#[test]
fn a_returning_old_master_is_demoted_as_soon_as_all_have_answered() {
    let mut desk = old_master_returns();
    let back = desk.now_ms;
    desk.pass(1);
    assert_eq!(asked(&desk), [26002, 26003]);
    assert!(!sent_away(&desk));
    tell(&mut desk, 26002, 4);
    assert!(!sent_away(&desk), "a majority, but not all");
    tell(&mut desk, 26003, 3);
    assert!(sent_away(&desk) && desk.now_ms == back + 1, "{:?}", desk.sent);
    assert!(desk.has(EventKind::ConvertToSlave));
}

#[test]
pub(super) fn whoever_can_be_reached_and_knows_of_another_election_delays_it() {
    // A vote in a later epoch; none at all, or another master; an error.
    let cannot_tell = Value::error("NOPERM this user has no permissions");
    for answer in [opinion(0, 7, 5), opinion(0, 0, 0), cannot_tell] {
        let mut desk = old_master_returns();
        desk.pass(1);
        tell(&mut desk, 26002, 4);
        desk.reply_from(26003, ask(1), answer.clone());
        desk.pass(1_900);
        assert!(!sent_away(&desk), "{answer:?}: {:?}", desk.sent);
        assert!(asked(&desk).len() > 2, "asked again: {:?}", desk.sent);
        desk.pass(300);
        assert!(sent_away(&desk), "a majority says so, and news have had their time");
    }
    // Who cannot be reached is not waited for.
    let mut desk = old_master_returns();
    desk.connection_ends(26003);
    desk.pass(1);
    tell(&mut desk, 26002, 4);
    assert!(sent_away(&desk), "{:?}", desk.sent);
}

#[test]
fn without_a_majority_nobody_is_sent_anywhere_at_once() {
    let mut desk = old_master_returns();
    for port in [26002, 26003] {
        desk.connection_ends(port);
    }
    desk.pass(7_500);
    assert!(!sent_away(&desk), "{:?}", desk.sent);
    desk.pass(1_500);
    assert!(sent_away(&desk), "as in Redis");
}

#[test]
pub(super) fn what_was_said_before_the_node_was_seen_does_not_count() {
    let mut desk = old_master_returns();
    desk.pass(1);
    tell(&mut desk, 26002, 4);
    // It restarts once more before the other one answers.
    desk.connection_ends(MASTER);
    desk.infos.remove(&at(MASTER));
    desk.pass(100);
    desk.infos.insert(at(MASTER), format!("run_id:{}\r\nrole:master\r\n", id(0xd)));
    let up = LinkEvent::Up { local_ip: "127.0.0.1".into(), remote_ip: "127.0.0.1".into() };
    let link = desk.link_to(MASTER);
    desk.input(Input::Link { link, event: up });
    tell(&mut desk, 26003, 4);
    desk.pass(1);
    assert!(!sent_away(&desk), "{:?}", desk.sent);
    for port in [26002, 26003] {
        tell(&mut desk, port, 4);
    }
    assert!(sent_away(&desk), "{:?}", desk.sent);
}

#[test]
pub(super) fn the_master_must_say_again_that_it_is_one() {
    let mut desk = old_master_returns();
    let link = desk.link_to(REPLICA);
    desk.deaf.insert(link);
    desk.pass(1);
    for port in [26002, 26003] {
        tell(&mut desk, port, 4);
    }
    assert!(!sent_away(&desk), "it may just have handed its role over: {:?}", desk.sent);
    desk.deaf.clear();
    let reply = Value::bulk(format!("run_id:{}\r\nrole:master\r\n", id(0xb)));
    desk.reply_from(REPLICA, Command::Info, reply);
    assert!(sent_away(&desk), "{:?}", desk.sent);
}

#[test]
fn a_replica_of_a_wrong_master_is_put_right_as_soon() {
    let mut desk = old_master_returns();
    for port in [26002, 26003] {
        desk.pass(1);
        tell(&mut desk, port, 4);
    }
    assert!(sent_away(&desk));
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 400, true));
    desk.pass(12_000);
    desk.infos.insert(at(OTHER_REPLICA), replica_info(MASTER, 400, true));
    desk.sent.clear();
    let follow = (at(OTHER_REPLICA), Command::Follow { master: at(REPLICA) });
    while asked(&desk).is_empty() {
        desk.pass(10);
        assert!(!desk.sent.contains(&follow) && desk.now_ms < 60_000);
    }
    for port in [26002, 26003] {
        tell(&mut desk, port, 4);
    }
    assert!(desk.sent.contains(&follow), "{:?}", desk.sent);
}

#[test]
fn whoever_is_asked_tells_its_last_vote_and_votes_for_nobody() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let last_vote = |desk: &mut Desk, port: u16| {
        let (host, port) = ("127.0.0.1".to_owned(), i64::from(port));
        let candidate = Some(id(3).to_string());
        desk.ask(Request::IsMasterDown { host, port, epoch: 0, candidate })
    };
    assert_eq!(last_vote(&mut desk, MASTER), Some(opinion(0, 0, 0)));
    desk.vote_for(2, 5);
    assert_eq!(last_vote(&mut desk, MASTER), Some(opinion(0, 2, 5)));
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 9, REPLICA, 9);
    assert_eq!(last_vote(&mut desk, MASTER), Some(opinion(0, 0, 0)), "of nobody's master");
    // It will give no vote in the epoch of a configuration that it has, nor in an earlier one.
    assert_eq!(last_vote(&mut desk, REPLICA), Some(opinion(0, 0, 9)));
}
