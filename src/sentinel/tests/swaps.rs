//! The masters of two groups change places: each group notices that the process at its master's
//! address is somebody else's.

use super::*;

/// The master of the other group, and its replica.
const THEIRS: u16 = 7101;
const THEIR_REPLICA: u16 = 7102;
/// Run ids of our master, of the other one, and of replicas; histories of both.
const OUR_ID: u8 = 70;
const THEIR_ID: u8 = 80;
const OUR_DATA: u8 = 5;
const THEIR_DATA: u8 = 6;

/// What the process `n` says as a master with these data and replicas.
fn master(n: u8, data: u8, replicas: &[u16]) -> String {
    let lines = replicas.iter().enumerate().map(|(i, port)| {
        format!("slave{i}:ip=127.0.0.1,port={port},state=online,offset=1,lag=0\r\n")
    });
    let (id, replid) = (id(n), id(data));
    let slaves: String = lines.collect();
    format!("run_id:{id}\r\nrole:master\r\nmaster_replid:{replid}\r\n{slaves}")
}

/// The same after a restart: a new history goes on from that one.
fn restarted(n: u8, data: u8) -> String {
    format!("{}master_replid2:{}\r\n", master(n, n + 1, &[]), id(data))
}

/// What the process `n` says as a replica of the master at this port, with these data.
fn replica(n: u8, port: u16, data: u8) -> String {
    format!("run_id:{}\r\nmaster_replid:{}\r\n{}", id(n), id(data), replica_info(port, 500, true))
}

/// Watches two groups, both well, for long enough to know them.
fn two_groups() -> Desk {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(MASTER), master(OUR_ID, OUR_DATA, &[REPLICA]));
    desk.infos.insert(at(REPLICA), replica(72, MASTER, OUR_DATA));
    desk.infos.insert(at(OTHER_REPLICA), replica(73, MASTER, OUR_DATA));
    desk.infos.insert(at(THEIRS), master(THEIR_ID, THEIR_DATA, &[THEIR_REPLICA]));
    desk.infos.insert(at(THEIR_REPLICA), replica(82, THEIRS, THEIR_DATA));
    desk.monitor("other", THEIRS);
    desk.pass(25_000);
    desk
}

impl Desk {
    fn monitor(&mut self, name: &str, port: u16) {
        let (name, host, port) = (name.to_owned(), "127.0.0.1".to_owned(), port.to_string());
        self.ask(Request::Monitor { name, host, port, quorum: "2".into() });
    }

    /// From now on this is what is said at this port, over a new connection.
    fn moves_in(&mut self, port: u16, info: String) {
        self.connection_ends(port);
        self.infos.insert(at(port), info);
        self.connection_stands(port, "127.0.0.1");
        self.pass(10);
    }

    /// Both masters change places; the replicas follow the addresses that they always did.
    fn swap(&mut self) {
        self.connection_ends(MASTER);
        self.connection_ends(THEIRS);
        self.moves_in(MASTER, master(THEIR_ID, THEIR_DATA, &[REPLICA]));
        self.moves_in(THEIRS, master(OUR_ID, OUR_DATA, &[THEIR_REPLICA]));
    }

    fn swap_back(&mut self) {
        self.connection_ends(MASTER);
        self.connection_ends(THEIRS);
        self.moves_in(MASTER, master(OUR_ID, OUR_DATA, &[REPLICA]));
        self.moves_in(THEIRS, master(THEIR_ID, THEIR_DATA, &[THEIR_REPLICA]));
    }

    fn is_down(&self, group: &str) -> bool {
        self.sentinel.groups[group].master.sdown_since.is_some()
    }

    fn master_port(&self, group: &str) -> u16 {
        self.sentinel.groups[group].master.address.port
    }

    /// Both peers agree that our master is down, and elect us.
    fn agreed_and_elected(&mut self) {
        self.answer_question(26002, 1, "*", 0);
        self.answer_question(26003, 1, "*", 0);
        self.win();
        self.pass(500);
    }

    fn strangers_told(&self) -> Vec<&String> {
        self.said.iter().filter(|text| text.contains("is not the master of")).collect()
    }
}

#[test]
pub(super) fn masters_that_change_places_are_down_for_both_groups_which_is_said_once() {
    let mut desk = two_groups();
    assert!(!desk.is_down("mymaster") && !desk.is_down("other"), "{:?}", desk.events);
    desk.swap();
    assert!(desk.is_down("mymaster") && desk.is_down("other"), "{:?}", desk.said);
    desk.pass(30_000);
    let told = desk.strangers_told();
    assert_eq!(told.len(), 2, "{:?}", desk.said);
    for (text, names) in told.iter().zip([["mymaster", "other"], ["other", "mymaster"]]) {
        assert!(names.iter().all(|name| text.contains(name)), "{text}");
    }
    assert_eq!(desk.promotions(), [] as [u16; 0]);
    for port in [MASTER, REPLICA, OTHER_REPLICA, THEIRS, THEIR_REPLICA] {
        assert!(desk.orders_to(port).is_empty(), "{port}: {:?}", desk.sent);
    }
}

#[test]
pub(super) fn masters_that_change_places_one_after_the_other_are_noticed() {
    let mut desk = two_groups();
    // For some time one process answers at both addresses.
    desk.moves_in(MASTER, master(THEIR_ID, THEIR_DATA, &[REPLICA]));
    desk.pass(30_000);
    assert!(!desk.is_down("mymaster") && !desk.is_down("other"), "{:?}", desk.said);
    let told = desk.said.iter().filter(|text| text.contains("leads to the master of other"));
    assert_eq!(told.count(), 1, "{:?}", desk.said);
    desk.moves_in(THEIRS, master(OUR_ID, OUR_DATA, &[THEIR_REPLICA]));
    desk.pass(1_500);
    assert!(desk.is_down("mymaster") && desk.is_down("other"), "{:?}", desk.said);
    // And the way back.
    desk.moves_in(MASTER, master(OUR_ID, OUR_DATA, &[REPLICA]));
    assert!(!desk.is_down("mymaster") && desk.is_down("other"), "{:?}", desk.said);
    desk.pass(30_000);
    desk.moves_in(THEIRS, master(THEIR_ID, THEIR_DATA, &[THEIR_REPLICA]));
    desk.pass(1_500);
    assert!(!desk.is_down("mymaster") && !desk.is_down("other"), "{:?}", desk.said);
    for port in [MASTER, REPLICA, OTHER_REPLICA, THEIRS, THEIR_REPLICA] {
        assert!(desk.orders_to(port).is_empty(), "{port}: {:?}", desk.sent);
    }
}

#[test]
fn where_one_master_had_two_places_and_dies_no_copy_of_its_data_is_promoted_for_the_other_group() {
    let mut desk = two_groups();
    desk.moves_in(MASTER, master(THEIR_ID, THEIR_DATA, &[REPLICA]));
    desk.infos.insert(at(REPLICA), replica(72, MASTER, THEIR_DATA));
    let ours = replica(73, MASTER, OUR_DATA).replace("status:up", "status:down");
    desk.infos.insert(at(OTHER_REPLICA), ours);
    desk.pass(30_000);
    for port in [MASTER, THEIRS] {
        desk.infos.remove(&at(port));
        desk.connection_ends(port);
    }
    desk.pass(2_000);
    assert!(desk.is_down("mymaster"), "{:?}", desk.said);
    desk.agreed_and_elected();
    assert_eq!(desk.promotions(), [OTHER_REPLICA], "{:?}", desk.said);
}

#[test]
fn both_groups_are_well_again_when_their_masters_are_back() {
    let mut desk = two_groups();
    desk.swap();
    desk.pass(5_000);
    desk.swap_back();
    desk.pass(1_000);
    assert!(!desk.is_down("mymaster") && !desk.is_down("other"), "{:?}", desk.events);
    let ended = desk.events.iter().filter(|(kind, _)| *kind == EventKind::SdownEnd).count();
    assert_eq!(ended, 2, "{:?}", desk.events);
    // And a second time.
    desk.swap();
    assert!(desk.is_down("mymaster") && desk.is_down("other"), "{:?}", desk.said);
}

#[test]
fn a_replica_that_still_holds_our_data_is_promoted_and_the_stranger_is_left_alone() {
    let mut desk = two_groups();
    // One has copied the stranger's data already, and is the better one by its offset.
    desk.swap();
    let ours = format!("{}{}", replica_info(MASTER, 1, false), "run_id:");
    let ours = format!("{ours}{}\r\nmaster_replid:{}\r\n", id(73), id(OUR_DATA));
    desk.infos.insert(at(REPLICA), replica(72, MASTER, THEIR_DATA));
    desk.infos.insert(at(OTHER_REPLICA), ours);
    desk.agreed_and_elected();
    assert_eq!(desk.promotions(), [OTHER_REPLICA], "{:?}", desk.said);
    let promoted = format!("{}master_replid2:{}\r\n", master(73, 9, &[]), id(OUR_DATA));
    desk.infos.insert(at(OTHER_REPLICA), promoted);
    desk.pass(1_000);
    assert_eq!(desk.master_port("mymaster"), OTHER_REPLICA, "{:?}", desk.events);
    desk.sent.clear();
    desk.pass(100_000);
    // Whoever follows the stranger is put right; the stranger itself goes on as it is.
    assert!(!desk.orders_to(REPLICA).is_empty(), "{:?}", desk.said);
    assert!(desk.orders_to(MASTER).is_empty(), "{:?}", desk.sent);
    assert!(desk.said.iter().any(|text| text.contains(repair::LEFT_ALONE)), "{:?}", desk.said);
    // Our old master comes back to its place: it is taken back.
    desk.moves_in(MASTER, master(OUR_ID, OUR_DATA, &[]));
    desk.pass(20_000);
    let order = Command::Follow { master: at(OTHER_REPLICA) };
    assert!(desk.orders_to(MASTER).contains(&&order), "{:?}", desk.said);
}

#[test]
pub(super) fn nobody_who_has_copied_the_strangers_data_is_promoted() {
    let mut desk = two_groups();
    desk.swap();
    for (port, n) in [(REPLICA, 72), (OTHER_REPLICA, 73)] {
        desk.infos.insert(at(port), replica(n, MASTER, THEIR_DATA));
    }
    desk.agreed_and_elected();
    assert!(desk.promotions().is_empty(), "{:?}", desk.events);
    let why = desk.said.iter().filter(|text| text.contains("holds the data of other"));
    assert_ne!(why.count(), 0, "{:?}", desk.said);
    // Nor once the stranger is gone, and nobody is there.
    desk.infos.remove(&at(MASTER));
    desk.infos.remove(&at(THEIRS));
    desk.connection_ends(MASTER);
    desk.connection_ends(THEIRS);
    for (port, n) in [(REPLICA, 72), (OTHER_REPLICA, 73)] {
        let info = replica(n, MASTER, THEIR_DATA).replace("status:up", "status:down");
        desk.infos.insert(at(port), info);
    }
    desk.pass(60_000);
    desk.agreed_and_elected();
    assert!(desk.promotions().is_empty(), "{:?}", desk.events);
}

#[test]
fn a_group_without_replicas_stays_down_and_shows_it() {
    let mut desk = two_groups();
    desk.monitor("third", 7201);
    desk.infos.insert(at(7201), master(90, 7, &[]));
    desk.pass(25_000);
    desk.moves_in(THEIRS, master(90, 7, &[]));
    desk.moves_in(7201, master(THEIR_ID, THEIR_DATA, &[]));
    desk.pass(30_000);
    assert!(desk.is_down("third") && desk.is_down("other"), "{:?}", desk.said);
    let entry = format!("{:?}", desk.ask(Request::Master("third".into())));
    assert!(entry.contains("s_down"), "{entry}");
    desk.moves_in(7201, master(90, 7, &[]));
    desk.pass(2_000);
    assert!(!desk.is_down("third"), "{:?}", desk.events);
}

#[test]
fn masters_that_move_on_in_a_ring_are_all_noticed() {
    let mut desk = two_groups();
    desk.monitor("third", 7201);
    desk.infos.insert(at(7201), master(90, 7, &[]));
    desk.pass(25_000);
    for port in [MASTER, THEIRS, 7201] {
        desk.connection_ends(port);
    }
    desk.moves_in(MASTER, master(THEIR_ID, THEIR_DATA, &[]));
    desk.moves_in(THEIRS, master(90, 7, &[]));
    desk.moves_in(7201, master(OUR_ID, OUR_DATA, &[]));
    for group in ["mymaster", "other", "third"] {
        assert!(desk.is_down(group), "{group}: {:?}", desk.said);
    }
    assert_eq!(desk.strangers_told().len(), 3, "{:?}", desk.said);
}

#[test]
fn a_master_that_moves_to_our_masters_place_is_noticed_where_its_own_is_empty() {
    // It is noticed as soon as its group has lost it.
    for lost_first in [true, false] {
        let mut desk = two_groups();
        if lost_first {
            desk.infos.remove(&at(THEIRS));
            desk.connection_ends(THEIRS);
        }
        desk.moves_in(MASTER, master(THEIR_ID, THEIR_DATA, &[]));
        assert_eq!(desk.is_down("mymaster"), lost_first, "{:?}", desk.said);
        if !lost_first {
            desk.infos.remove(&at(THEIRS));
            desk.connection_ends(THEIRS);
        }
        desk.pass(2_000);
        assert!(desk.is_down("mymaster"), "{:?}", desk.said);
    }
}

#[test]
fn masters_that_change_places_and_restart_are_told_by_their_history() {
    let mut desk = two_groups();
    desk.connection_ends(MASTER);
    desk.connection_ends(THEIRS);
    desk.moves_in(MASTER, restarted(100, THEIR_DATA));
    desk.moves_in(THEIRS, restarted(110, OUR_DATA));
    assert!(desk.is_down("mymaster") && desk.is_down("other"), "{:?}", desk.said);

    // One that restarts in its own place is ours, with its history and without.
    for again in [restarted(100, OUR_DATA), master(100, 101, &[])] {
        let mut desk = two_groups();
        desk.moves_in(MASTER, again);
        desk.pass(25_000);
        assert!(!desk.is_down("mymaster"), "{:?}", desk.said);
    }
}

#[test]
fn a_master_that_starts_from_a_copy_of_another_groups_data_is_ours() {
    // While the other group's master lives, this is how data are copied.
    let mut desk = two_groups();
    desk.moves_in(MASTER, restarted(100, THEIR_DATA));
    desk.pass(60_000);
    assert!(!desk.is_down("mymaster"), "{:?}", desk.said);
    // What was taken in stays ours, whatever becomes of the other group.
    desk.infos.remove(&at(THEIRS));
    desk.connection_ends(THEIRS);
    desk.pass(60_000);
    assert!(!desk.is_down("mymaster"), "{:?}", desk.said);
}

#[test]
fn groups_that_watch_the_same_nodes_by_several_addresses_are_no_strangers() {
    const ALIAS: u16 = 7301;
    let mut desk = two_groups();
    desk.infos.insert(at(ALIAS), master(OUR_ID, OUR_DATA, &[REPLICA]));
    desk.monitor("again", ALIAS);
    desk.pass(25_000);
    // It restarts, and is seen by one of its addresses first, then by one only.
    desk.connection_ends(ALIAS);
    desk.connection_ends(MASTER);
    desk.moves_in(ALIAS, master(100, 101, &[]));
    desk.moves_in(MASTER, master(100, 101, &[]));
    desk.pass(25_000);
    desk.connection_ends(ALIAS);
    desk.pass(500);
    assert!(!desk.is_down("mymaster") && !desk.is_down("again"), "{:?}", desk.said);
    assert!(desk.strangers_told().is_empty(), "{:?}", desk.said);
}

#[test]
fn a_node_that_followed_our_master_first_is_ours_wherever_it_comes_from() {
    // Another group's replica was made ours, has our data, and takes our dead master's address.
    let mut desk = two_groups();
    desk.infos.remove(&at(THEIR_REPLICA));
    desk.connection_ends(THEIR_REPLICA);
    let moved = format!("{}master_replid2:{}\r\n", master(82, 99, &[]), id(OUR_DATA));
    desk.moves_in(MASTER, moved);
    desk.pass(30_000);
    assert!(!desk.is_down("mymaster"), "{:?}", desk.said);
}

#[test]
fn another_groups_master_at_a_replicas_address_is_not_made_our_replica() {
    let mut desk = two_groups();
    desk.connection_ends(THEIRS);
    desk.infos.remove(&at(THEIRS));
    desk.moves_in(REPLICA, master(THEIR_ID, THEIR_DATA, &[]));
    desk.sent.clear();
    desk.pass(100_000);
    assert!(desk.orders_to(REPLICA).is_empty(), "{:?}", desk.sent);
    let told = desk.said.iter().filter(|text| text.contains("is a process of other"));
    assert_eq!(told.count(), 1, "{:?}", desk.said);
}

#[test]
fn who_is_told_to_watch_a_strangers_place_believes_what_it_sees() {
    let mut desk = two_groups();
    desk.swap();
    for (group, port) in [("mymaster", THEIRS), ("other", MASTER)] {
        desk.ask(Request::Remove(group.into()));
        desk.monitor(group, port);
    }
    desk.pass(25_000);
    assert!(!desk.is_down("mymaster") && !desk.is_down("other"), "{:?}", desk.said);
}

#[test]
fn a_sentinel_that_starts_after_a_swap_believes_what_it_sees() {
    let desk = two_groups();
    let state = desk.writes.last().expect("a write").1.clone();
    let infos = desk.infos.clone();
    let mut desk = Desk::restored(state);
    desk.infos = infos;
    desk.infos.insert(at(MASTER), master(THEIR_ID, THEIR_DATA, &[REPLICA]));
    desk.infos.insert(at(THEIRS), master(OUR_ID, OUR_DATA, &[THEIR_REPLICA]));
    desk.pass(30_000);
    assert!(!desk.is_down("mymaster") && !desk.is_down("other"), "{:?}", desk.said);
}

#[test]
fn a_sentinel_that_starts_after_both_failovers_makes_no_replica_of_another_groups_master() {
    // Each old master lives in the other's place; each group has promoted a replica.
    let mut desk = two_groups();
    desk.hello(2, 5, REPLICA, 5);
    desk.ask(Request::Remove("other".into()));
    desk.pass(1_000);
    let state = desk.writes.last().expect("a write").1.clone();
    let promoted = |n, data| format!("{}master_replid2:{}\r\n", master(n, n, &[]), id(data));
    let mut desk = Desk::restored(state);
    desk.infos.insert(at(REPLICA), promoted(72, OUR_DATA));
    desk.infos.insert(at(THEIR_REPLICA), promoted(82, THEIR_DATA));
    desk.infos.insert(at(MASTER), master(THEIR_ID, THEIR_DATA, &[]));
    desk.monitor("other", THEIR_REPLICA);
    desk.gives_time_for_repairs();
    assert!(desk.orders_to(MASTER).is_empty(), "{:?}", desk.said);
    assert!(desk.said.iter().any(|text| text.contains(repair::LEFT_ALONE)), "{:?}", desk.said);
}

#[test]
fn whoever_started_between_a_swap_and_its_end_believes_the_others_after_a_while() {
    let mut desk = two_groups();
    // It met them in each other's places.
    let state = desk.writes.last().expect("a write").1.clone();
    let infos = desk.infos.clone();
    desk = Desk::restored(state);
    desk.infos = infos;
    desk.infos.insert(at(MASTER), master(THEIR_ID, THEIR_DATA, &[REPLICA]));
    desk.infos.insert(at(THEIRS), master(OUR_ID, OUR_DATA, &[THEIR_REPLICA]));
    desk.pass(25_000);
    desk.swap_back();
    assert!(desk.is_down("mymaster"), "{:?}", desk.said);
    for second in 1..60 {
        desk.answer_question(26002, 0, "*", 0);
        desk.answer_question(26003, i64::from(second < 45), "*", 0);
        desk.pass(1_000);
        if second == 44 {
            assert!(desk.is_down("mymaster"), "not a majority: {:?}", desk.said);
        }
    }
    assert!(!desk.is_down("mymaster"), "{:?}", desk.said);
    desk.pass(60_000);
    assert!(!desk.is_down("mymaster"), "{:?}", desk.said);
}

#[test]
fn a_stranger_is_left_alone_when_its_group_has_promoted_a_replica_and_when_it_restarts() {
    let mut desk = two_groups();
    desk.swap();
    desk.infos.insert(at(OTHER_REPLICA), replica(73, MASTER, OUR_DATA));
    desk.agreed_and_elected();
    assert_eq!(desk.promotions().len(), 1, "{:?}", desk.said);
    let new_master = desk.promotions()[0];
    let promoted = format!("{}master_replid2:{}\r\n", master(72, 9, &[]), id(OUR_DATA));
    desk.infos.insert(at(new_master), promoted);
    desk.pass(1_000);
    let promoted = format!("{}master_replid2:{}\r\n", master(82, 19, &[]), id(THEIR_DATA));
    desk.infos.insert(at(THEIR_REPLICA), promoted);
    desk.ask(Request::Hello(format!(
        "127.0.0.1,26002,{},9,other,127.0.0.1,{THEIR_REPLICA},9",
        id(2)
    )));
    assert_eq!(desk.master_port("other"), THEIR_REPLICA);
    desk.gives_time_for_repairs();
    desk.moves_in(MASTER, restarted(120, THEIR_DATA));
    desk.moves_in(THEIRS, restarted(130, OUR_DATA));
    for _ in 0..100 {
        desk.pass(1_000);
    }
    for port in [MASTER, THEIRS] {
        assert!(desk.orders_to(port).is_empty(), "{port}: {:?}", desk.said);
    }
}

#[test]
fn replicas_that_a_master_still_shows_from_elsewhere_are_not_taken_in_but_its_own_are() {
    let mut desk = two_groups();
    // A master that is back from the other one's place shows connections that are dead.
    let back = master(OUR_ID, OUR_DATA, &[REPLICA, THEIR_REPLICA]);
    desk.infos.insert(at(MASTER), back);
    desk.pass(15_000);
    let known = format!("{:?}", desk.ask(Request::Replicas("mymaster".into())));
    assert!(!known.contains(&THEIR_REPLICA.to_string()), "{known}");
    // A sentinel that meets it so cannot know, and takes it in for both groups.
    let state = desk.writes.last().expect("a write").1.clone();
    let infos = desk.infos.clone();
    let mut groups = state.groups;
    groups.get_mut("other").expect("watched").replicas.clear();
    desk = Desk::restored(State { groups, ..state });
    desk.infos = infos;
    desk.pass(25_000);
    let known = format!("{:?}", desk.ask(Request::Replicas("other".into())));
    assert!(known.contains(&THEIR_REPLICA.to_string()), "{known}");
}

#[test]
fn the_replicas_of_a_stranger_are_not_taken_in() {
    let mut desk = two_groups();
    desk.connection_ends(THEIRS);
    desk.moves_in(MASTER, master(THEIR_ID, THEIR_DATA, &[REPLICA, THEIR_REPLICA]));
    desk.pass(5_000);
    let known = format!("{:?}", desk.ask(Request::Replicas("mymaster".into())));
    assert!(!known.contains(&THEIR_REPLICA.to_string()), "{known}");
}

#[test]
fn who_lived_at_a_stale_address_of_another_group_for_a_moment_is_no_stranger() {
    let mut desk = two_groups();
    // Our master starts anew, and gets an address that the other group still has for its own.
    desk.moves_in(THEIRS, master(75, 7, &[REPLICA]));
    desk.pass(1_000);
    desk.connection_ends(MASTER);
    desk.moves_in(THEIRS, master(THEIR_ID, THEIR_DATA, &[THEIR_REPLICA]));
    desk.moves_in(MASTER, master(75, 7, &[REPLICA]));
    desk.pass(20_000);
    assert!(!desk.is_down("mymaster"), "{:?}", desk.said);
    assert!(desk.strangers_told().is_empty());
}
