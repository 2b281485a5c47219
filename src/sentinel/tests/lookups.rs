//! A master whose name no connection has explained: the last lookup shows who follows it, for as
//! long as it says so and nobody knows better.

use super::*;
use crate::sentinel::mutant::{Guard, without};
use crate::sentinel::timers::Subject;

/// What the name means, and what else it may be said to mean.
const TRUE: &str = "203.0.113.5";
const OTHER: &str = "203.0.113.6";

fn name() -> Address {
    Address::new("redis.example", MASTER)
}

/// A sentinel that starts while its master is down, and what the name of that was looked up to.
fn unmet(ips: &[&str]) -> Desk {
    let mut desk = Desk::with(1, 2, |own, group| {
        own.resolve_hostnames = true;
        group.master = name();
    });
    let group = desk.sentinel.groups.get_mut("mymaster").expect("the group");
    (group.master.resolved, group.master.local_ip, group.master.info) = (None, None, None);
    let link = desk.link_to(MASTER);
    desk.sentinel.core.note_meaning(link, &[]);
    desk.infos.remove(&name());
    desk.connection_ends(MASTER);
    if !ips.is_empty() {
        desk.is_looked_up(ips);
    }
    desk
}

impl Desk {
    fn is_looked_up(&mut self, ips: &[&str]) {
        let event = LinkEvent::Resolved { ips: ips.iter().map(|ip| (*ip).to_owned()).collect() };
        self.input(Input::Link { link: self.link_to(MASTER), event });
    }

    /// The master is back, and a connection tells where it lives.
    fn is_met_at(&mut self, ip: &str) {
        self.infos.insert(name(), format!("run_id:{}\r\nrole:master\r\n", id(9)));
        self.ips.insert(name().host, ip.to_owned());
        self.is_looked_up(&[ip]);
        self.connection_stands(MASTER, ip);
    }

    pub(super) fn connection_stands(&mut self, port: u16, ip: &str) {
        let event = LinkEvent::Up { local_ip: "127.0.0.1".into(), remote_ip: ip.to_owned() };
        self.input(Input::Link { link: self.link_to(port), event });
    }

    /// The process `run` at this port follows the master's port at this address.
    fn follows(&mut self, port: u16, run: u8, ip: &str, offset: u64) {
        let info = replica_info(MASTER, offset, true).replace("127.0.0.1", ip);
        self.infos.insert(at(port), format!("run_id:{}\r\n{info}", id(run)));
    }

    fn is_master(&mut self, port: u16, run: u8, more: &str) {
        self.infos.insert(at(port), format!("run_id:{}\r\nrole:master\r\n{more}", id(run)));
    }

    /// Whom an operator's failover promotes.
    fn promoted(&mut self) -> Vec<u16> {
        self.ask(Request::Failover("mymaster".into()));
        if self.has(EventKind::TryFailover) {
            self.win();
            self.pass(500);
        }
        self.promotions()
    }
}

#[test]
pub(super) fn who_follows_what_the_masters_name_means_is_ours_before_a_connection_stands() {
    // Seed 837858. Another leader may have promoted it already, or not.
    let whom = |looked_up, is_master: bool| {
        let mut desk = unmet(&[looked_up]);
        desk.follows(REPLICA, 72, TRUE, 500);
        desk.follows(OTHER_REPLICA, 73, TRUE, 400);
        desk.pass(12_000);
        if is_master {
            desk.is_master(REPLICA, 72, "");
            desk.pass(1_200);
        }
        desk.promoted()
    };
    for is_master in [false, true] {
        assert_eq!(whom(TRUE, is_master), [REPLICA], "{is_master}");
        assert_eq!(whom(OTHER, is_master), [] as [u16; 0], "{is_master}");
        let off = without(Guard::LookupShowsFollowers, || whom(TRUE, is_master));
        assert_eq!(off, [] as [u16; 0], "{is_master}");
    }
}

#[test]
fn what_a_lookup_said_is_forgotten_once_a_connection_tells_something_else() {
    // By a wrong lookup a stranger at a replica's address seemed to be ours.
    let mistaken = |is_master: bool| {
        let mut desk = unmet(&[TRUE]);
        desk.follows(REPLICA, 72, TRUE, 500);
        desk.follows(OTHER_REPLICA, 73, OTHER, 400);
        desk.pass(3_000);
        if is_master {
            // Its own sentinels have promoted it, and its replicas are none of ours.
            let replica = "slave0:ip=203.0.113.9,port=6379,state=online,offset=1,lag=0\r\n";
            desk.is_master(REPLICA, 72, replica);
        }
        desk.is_met_at(OTHER);
        desk
    };
    let mut desk = mistaken(false);
    desk.sent.clear();
    desk.pass(150_000);
    assert_eq!(desk.orders_to(REPLICA), [] as [&Command; 0]);
    for is_master in [false, true] {
        let mut desk = mistaken(is_master);
        desk.pass(3_000);
        desk.infos.remove(&name());
        desk.pass(2_000);
        assert_eq!(desk.promoted(), [OTHER_REPLICA], "{is_master}: {:?}", desk.said);
    }
}

#[test]
fn what_seemed_is_known_once_a_connection_tells_so() {
    // Seed 950683: by then it is a master already, as another leader has promoted it.
    for meant in [TRUE, OTHER] {
        let mut desk = unmet(&[TRUE]);
        desk.follows(REPLICA, 72, TRUE, 500);
        desk.follows(OTHER_REPLICA, 73, TRUE, 400);
        desk.pass(3_000);
        desk.is_master(REPLICA, 72, "");
        desk.infos.remove(&at(OTHER_REPLICA));
        desk.pass(1_500);
        desk.is_met_at(meant);
        desk.pass(100);
        desk.infos.remove(&name());
        let expected: &[u16] = if meant == TRUE { &[REPLICA] } else { &[] };
        assert_eq!(desk.promoted(), expected, "{meant}: {:?}", desk.said);
    }
}

#[test]
fn a_later_lookup_takes_the_place_of_the_last() {
    let mut desk = unmet(&[TRUE]);
    desk.follows(REPLICA, 72, TRUE, 500);
    desk.follows(OTHER_REPLICA, 73, OTHER, 400);
    desk.pass(3_000);
    desk.is_looked_up(&[OTHER]);
    desk.pass(12_000);
    assert_eq!(desk.promoted(), [OTHER_REPLICA], "{:?} {:?}", desk.said, desk.replies);
}

#[test]
fn what_another_group_knows_as_its_own_is_not_ours_by_a_lookup() {
    // By its address, by a connection, by a lookup, or by our own name: that is the same node.
    for (host, looked_up, ours) in [
        (TRUE, None, false),
        ("other.example", Some(false), false),
        ("other.example", Some(true), false),
        ("Redis.example", Some(true), true),
    ] {
        let mut desk = unmet(&[TRUE]);
        desk.ips.insert(host.into(), TRUE.into());
        let (port, quorum) = (MASTER.to_string(), "2".to_owned());
        let monitor = Request::Monitor { name: "other".into(), host: host.into(), port, quorum };
        desk.ask(monitor);
        if looked_up == Some(true) {
            let other = Address::new(host, MASTER);
            let link = *desk.links.iter().rfind(|(_, to)| **to == other).expect("a link").0;
            let group = desk.sentinel.groups.get_mut("other").expect("the group");
            group.master.resolved = None;
            desk.sentinel.touch(Subject::Group("other".into()));
            let event = LinkEvent::Resolved { ips: vec![OTHER.into(), TRUE.into()] };
            desk.input(Input::Link { link, event });
        }
        desk.follows(REPLICA, 72, TRUE, 500);
        desk.infos.remove(&at(OTHER_REPLICA));
        desk.pass(12_000);
        let promoted = desk.promoted();
        let expected: &[u16] = if ours { &[REPLICA] } else { &[] };
        assert_eq!(promoted, expected, "{host} {looked_up:?}: {:?}", desk.said);
        // In an automatic failover it is said whose it is.
        if !ours {
            desk.answer_question(26002, 1, "*", 0);
            desk.win();
            desk.pass(500);
            let why = "follows 203.0.113.5:7001, which is a node of other";
            assert!(desk.said.iter().any(|said| said.contains(why)), "{host}: {:?}", desk.said);
        }
    }
}

#[test]
fn who_follows_the_old_master_that_nobody_met_is_repointed() {
    for looked_up in [TRUE, OTHER] {
        let mut desk = unmet(&[looked_up]);
        desk.infos.remove(&at(OTHER_REPLICA));
        desk.connection_ends(OTHER_REPLICA);
        desk.pass(5_000);
        desk.is_master(REPLICA, 72, "");
        desk.hello(2, 5, REPLICA, 5);
        desk.pass(5_000);
        desk.is_looked_up(&[looked_up]);
        // It comes back, and follows whom its file names.
        desk.follows(OTHER_REPLICA, 73, TRUE, 400);
        desk.connection_stands(OTHER_REPLICA, "127.0.0.1");
        desk.sent.clear();
        desk.pass(200_000);
        let order = (at(OTHER_REPLICA), Command::Follow { master: at(REPLICA) });
        assert_eq!(desk.sent.contains(&order), looked_up == TRUE, "{looked_up}: {:?}", desk.said);
    }
}

#[test]
fn a_name_that_nobody_can_look_up_is_named() {
    let mut desk = unmet(&[]);
    desk.follows(REPLICA, 72, TRUE, 500);
    desk.follows(OTHER_REPLICA, 73, TRUE, 400);
    desk.pass(12_000);
    desk.answer_question(26002, 1, "*", 0);
    desk.win();
    desk.pass(500);
    assert_eq!(desk.promotions(), [] as [u16; 0]);
    let why = "follows 203.0.113.5:7001, which is no node of this group (though nobody can tell \
               yet what redis.example means)";
    assert!(desk.said.iter().any(|said| said.contains(why)), "{:?}", desk.said);
}

#[test]
fn a_replica_that_went_over_to_another_groups_name_is_left_alone() {
    let mut desk = Desk::with(1, 2, |own, _| own.resolve_hostnames = true);
    desk.follows(REPLICA, 72, "127.0.0.1", 500);
    desk.pass(12_000);
    desk.ips.insert("other.example".into(), TRUE.into());
    let (name, host, port) = ("other".to_owned(), "other.example".to_owned(), MASTER.to_string());
    desk.ask(Request::Monitor { name, host, port, quorum: "2".into() });
    desk.follows(REPLICA, 72, TRUE, 500);
    desk.sent.clear();
    desk.pass(150_000);
    assert_eq!(desk.orders_to(REPLICA), [] as [&Command; 0]);
    assert_eq!(desk.promoted(), [OTHER_REPLICA], "{:?}", desk.said);
}

#[test]
fn who_seemed_to_follow_and_leads_strangers_now_is_not_promoted() {
    let mut desk = unmet(&[TRUE]);
    desk.follows(REPLICA, 72, TRUE, 500);
    desk.follows(OTHER_REPLICA, 73, TRUE, 400);
    desk.pass(3_000);
    let stranger = "slave0:ip=203.0.113.9,port=6379,state=online,offset=1,lag=0\r\n";
    desk.is_master(REPLICA, 72, stranger);
    desk.pass(1_500);
    assert_eq!(desk.promoted(), [OTHER_REPLICA], "{:?}", desk.said);
}

#[test]
fn what_seemed_is_known_once_the_second_connection_tells_so() {
    // The first one led astray.
    let mut desk = unmet(&[TRUE]);
    desk.follows(REPLICA, 72, TRUE, 500);
    desk.infos.remove(&at(OTHER_REPLICA));
    desk.pass(3_000);
    desk.connection_stands(MASTER, OTHER);
    desk.is_master(REPLICA, 72, "");
    desk.pass(1_500);
    desk.connection_ends(MASTER);
    desk.is_met_at(TRUE);
    desk.infos.remove(&name());
    desk.pass(100);
    assert_eq!(desk.promoted(), [REPLICA], "{:?}", desk.said);
}

#[test]
fn a_master_that_follows_what_a_replicas_name_seems_to_mean_is_not_led_away() {
    // Our file is old: the replica, whose name no connection has explained, is the master now.
    for (looked_up, ours) in [(TRUE, true), (OTHER, false)] {
        let mut desk = Desk::with(1, 2, |own, _| own.resolve_hostnames = true);
        let hello = format!("127.0.0.1,26002,{},0,mymaster,127.0.0.1,{MASTER},0", id(2));
        desk.ask(Request::Hello(hello));
        let node = "slave0:ip=replica.example,port=7009,state=online,offset=1,lag=0\r\n";
        desk.infos.insert(at(MASTER), format!("role:master\r\n{node}"));
        desk.pass(11_000);
        let group = desk.sentinel.groups.get_mut("mymaster").expect("the group");
        let replica = Address::new("replica.example", 7009);
        group.replicas.get_mut(&replica).expect("found by INFO").resolved = None;
        let link = desk.link_to(7009);
        desk.input(Input::Link { link, event: LinkEvent::Down { reason: LostReason::Refused } });
        let event = LinkEvent::Resolved { ips: vec![looked_up.into()] };
        desk.input(Input::Link { link, event });
        let info = replica_info(7009, 500, true).replace("127.0.0.1", TRUE);
        desk.infos.insert(at(MASTER), info);
        desk.pass(40_000);
        assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
        desk.answer_question(26002, 1, "*", 0);
        desk.win();
        desk.pass(500);
        let is_led_away = desk.said.iter().any(|said| said.contains("SENTINEL MONITOR mymaster"));
        assert_eq!(is_led_away, !ours, "{looked_up}: {:?}", desk.said);
    }
}
