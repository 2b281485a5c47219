//! An address is no identity: which nodes are ours to put right, and which are somebody else's and
//! left alone.

use super::*;

/// A replica of this master, as the process `n` says it.
fn follower(n: u8, master: u16) -> String {
    format!("run_id:{}\r\n{}", id(n), replica_info(master, 500, true))
}

/// A master with a replica at this port.
fn master_of(replica: u16) -> String {
    format!("role:master\r\nslave0:ip=127.0.0.1,port={replica},state=online,offset=1,lag=0\r\n")
}

impl Desk {
    /// Watches another group, whose master lives at this port.
    fn watches_another_group(&mut self, port: u16) {
        let (name, host) = ("other".to_owned(), "127.0.0.1".to_owned());
        self.ask(Request::Monitor { name, host, port: port.to_string(), quorum: "2".into() });
    }

    /// Lets time pass in which whoever is wrong and ours is put right.
    pub(super) fn gives_time_for_repairs(&mut self) {
        self.sent.clear();
        for _ in 0..150 {
            self.pass(1_000);
        }
    }

    /// Whom the node at this port was told to follow.
    pub(super) fn orders_to(&self, port: u16) -> Vec<&Command> {
        let order = |(to, command): &'_ &(Address, Command)| {
            to.port == port && matches!(command, Command::Follow { .. })
        };
        self.sent.iter().filter(order).map(|(_, command)| command).collect()
    }
}

#[test]
fn a_replica_of_ours_that_somebody_sent_to_a_stranger_is_put_right() {
    // Whichever of its processes followed our master last.
    for lives in [1, 2] {
        let mut desk = Desk::new(1, 2);
        for life in 1..=lives {
            desk.infos.insert(at(REPLICA), follower(70 + life, MASTER));
            desk.pass(12_000);
        }
        desk.infos.insert(at(REPLICA), follower(70 + lives, 9_999));
        desk.gives_time_for_repairs();
        let order = Command::Follow { master: at(MASTER) };
        assert!(desk.orders_to(REPLICA).contains(&&order), "{lives}: {:?}", desk.said);
    }
}

#[test]
fn another_process_at_the_address_of_a_replica_that_follows_a_stranger_is_left_alone() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), follower(71, MASTER));
    desk.pass(12_000);
    desk.infos.insert(at(REPLICA), follower(72, 9_999));
    desk.gives_time_for_repairs();
    assert!(desk.orders_to(REPLICA).is_empty(), "{:?}", desk.sent);
    assert!(desk.said.iter().any(|text| text.contains(repair::LEFT_ALONE)), "{:?}", desk.said);
}

#[test]
fn a_replica_of_ours_that_now_follows_another_groups_master_is_left_alone() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), follower(71, MASTER));
    desk.watches_another_group(7100);
    desk.pass(12_000);
    desk.infos.insert(at(REPLICA), follower(71, 7100));
    desk.gives_time_for_repairs();
    assert!(desk.orders_to(REPLICA).is_empty(), "{:?}", desk.sent);
    // What is removed claims nobody any more.
    desk.ask(Request::Remove("other".into()));
    desk.gives_time_for_repairs();
    assert!(!desk.orders_to(REPLICA).is_empty(), "{:?}", desk.said);
}

#[test]
pub(super) fn who_follows_a_master_that_another_group_claims_is_left_alone_and_so_is_that() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 400, true));
    desk.watches_another_group(REPLICA);
    desk.gives_time_for_repairs();
    for port in [REPLICA, OTHER_REPLICA] {
        assert!(desk.orders_to(port).is_empty(), "{:?}", desk.sent);
    }
}

#[test]
pub(super) fn a_master_whose_replicas_are_all_strangers_is_left_alone() {
    for (replica, is_ours) in [(9_999, false), (OTHER_REPLICA, true)] {
        let mut desk = Desk::new(1, 2);
        desk.infos.insert(at(REPLICA), master_of(replica));
        desk.gives_time_for_repairs();
        assert_eq!(!desk.orders_to(REPLICA).is_empty(), is_ours, "{replica}: {:?}", desk.said);
        let known = format!("{:?}", desk.ask(Request::Replicas("mymaster".into())));
        assert!(!known.contains("9999"), "a stranger's replicas are not ours: {known}");
    }
}

#[test]
pub(super) fn what_a_node_said_on_an_earlier_connection_sends_nobody_anywhere() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.master_dies();
    // It is reached again, and says nothing yet: its address may be another node's by now.
    desk.infos.remove(&at(OTHER_REPLICA));
    desk.pass(1);
    desk.connection_ends(OTHER_REPLICA);
    desk.connection_stands(OTHER_REPLICA, "127.0.0.1");
    desk.win();
    desk.pass(500);
    assert_eq!(desk.promotions(), [REPLICA], "{:?}", desk.events);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(500);
    assert!(desk.has(EventKind::SwitchMaster), "{:?}", desk.events);
    assert_eq!(desk.orders_to(OTHER_REPLICA), [] as [&Command; 0]);
    desk.infos.insert(at(OTHER_REPLICA), replica_info(MASTER, 400, false));
    desk.pass(15_000);
    assert!(desk.orders_to(OTHER_REPLICA).contains(&&Command::Follow { master: at(REPLICA) }));
}

#[test]
pub(super) fn a_master_that_is_another_groups_is_refused() {
    // A stock sentinel elected a node whose address had been given to another group.
    let mut desk = Desk::new(1, 2);
    desk.watches_another_group(7100);
    desk.pass(12_000);
    for _ in 0..3 {
        desk.hello(2, 5, 7100, 5);
        desk.pass(2_000);
    }
    let master = |desk: &Desk| desk.sentinel.groups["mymaster"].master.address.port;
    assert_eq!(master(&desk), MASTER, "{:?}", desk.events);
    let told = desk.said.iter().filter(|text| text.contains("it is a node of other")).count();
    assert_eq!(told, 1, "{:?}", desk.said);
    // The next configuration that names a node of ours is adopted as ever.
    desk.hello(2, 6, REPLICA, 6);
    assert_eq!(master(&desk), REPLICA);
}

#[test]
fn a_replica_of_which_we_thought_ill_may_still_be_elected() {
    // Seed 7000704: a latecomer saw it follow a stranger only, and refused it for ever.
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), follower(71, 9_999));
    desk.gives_time_for_repairs();
    assert!(desk.said.iter().any(|text| text.contains(repair::LEFT_ALONE)), "{:?}", desk.said);
    desk.hello(2, 5, REPLICA, 5);
    assert_eq!(desk.sentinel.groups["mymaster"].master.address.port, REPLICA);
}

#[test]
fn two_groups_that_watch_the_same_nodes_both_follow_their_failover() {
    let mut desk = Desk::new(1, 2);
    desk.watches_another_group(MASTER);
    desk.infos.insert(at(MASTER), master_of(REPLICA));
    desk.pass(12_000);
    desk.hello(2, 5, REPLICA, 5);
    assert_eq!(desk.sentinel.groups["mymaster"].master.address.port, REPLICA);
}

/// What a node says of its history.
fn history(n: u8) -> String {
    format!("master_replid:{}\r\n", id(n))
}

#[test]
fn a_replica_that_knows_our_master_by_another_address_is_ours() {
    // By an alias, a forwarded port, an address inside: its data are our master's.
    let mut desk = Desk::new(1, 2);
    let follows = |replid: u8| format!("{}{}", follower(71, 9_999), history(replid));
    desk.infos.insert(at(MASTER), format!("role:master\r\n{}", history(5)));
    desk.infos.insert(at(REPLICA), follows(5));
    desk.infos.remove(&at(OTHER_REPLICA));
    desk.pass(12_000);
    assert!(!desk.said.iter().any(|text| text.contains(repair::LEFT_ALONE)), "{:?}", desk.said);
    desk.master_dies();
    desk.win();
    desk.pass(500);
    assert_eq!(desk.promotions(), [REPLICA], "{:?}", desk.said);

    // Somebody else's has another history.
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(MASTER), format!("role:master\r\n{}", history(5)));
    desk.infos.insert(at(REPLICA), follows(6));
    desk.infos.remove(&at(OTHER_REPLICA));
    desk.pass(12_000);
    desk.master_dies();
    desk.win();
    desk.pass(500);
    assert!(desk.promotions().is_empty(), "{:?}", desk.events);
}

#[test]
fn a_master_that_follows_a_stranger_lends_its_history_to_nobody() {
    let mut desk = Desk::new(1, 2);
    let follows = |n| format!("{}{}", follower(n, 9_999), history(5));
    desk.infos.insert(at(MASTER), follows(70));
    desk.infos.insert(at(REPLICA), follows(71));
    desk.pass(12_000);
    let group = &desk.sentinel.groups["mymaster"];
    let replica = group.replicas.get(&at(REPLICA)).unwrap();
    assert!(group.is_foreign(&desk.sentinel.core, replica), "{:?}", desk.said);
}

#[test]
fn whom_a_full_group_does_not_take_in_moves_nothing() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    for n in 0..group::MEMBERS_MAX + 8 {
        let id = format!("{n:040x}");
        let line =
            format!("10.0.{}.{},26379,{id},0,mymaster,127.0.0.1,{MASTER},0", n / 200, n % 200);
        desk.ask(Request::Hello(line));
    }
    desk.hello(9, 5, REPLICA, 5);
    assert_eq!(desk.sentinel.groups["mymaster"].master.address.port, MASTER);
}
