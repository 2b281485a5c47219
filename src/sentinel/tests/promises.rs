//! What the documents promise and one sentinel alone keeps, where no guard stands for it: each of
//! these fails if one line of the core is left out.

use super::*;

const LOADING: &str = "LOADING Redis is loading the dataset in memory";
const MASTERDOWN: &str = "MASTERDOWN Link with MASTER is down";

fn runs(n: u8, info: &str) -> String {
    format!("{info}run_id:{}\r\n", id(n))
}

fn failover() -> Request {
    Request::Failover("mymaster".into())
}

/// How often this has been announced.
fn times(desk: &Desk, kind: EventKind) -> usize {
    desk.events.iter().filter(|(k, _)| *k == kind).count()
}

/// How often a node has been told to follow that one.
fn orders(desk: &Desk, node: u16, master: u16) -> usize {
    let order = (at(node), Command::Follow { master: at(master) });
    desk.sent.iter().filter(|sent| **sent == order).count()
}

fn items(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        other => panic!("no array: {other:?}"),
    }
}

fn field(entry: &Value, name: &str) -> String {
    let Value::Map(pairs) = entry else { panic!("no entry: {entry:?}") };
    let pair = pairs.iter().find(|(key, _)| key.text() == Some(name)).expect("the field");
    pair.1.text().expect("a text").to_owned()
}

// Who is promoted.

#[test]
fn a_failover_of_a_living_master_loses_no_data() {
    // Empty, or of long ago: once it is master, the one that works would copy that.
    for since_s in [-1, 600] {
        let mut desk = Desk::new(1, 2);
        let line = format!("master_link_down_since_seconds:{since_s}\r\n");
        for port in [REPLICA, OTHER_REPLICA] {
            desk.infos.insert(at(port), replica_info(MASTER, 7, false) + &line);
        }
        desk.pass(12_000);
        let refused = Value::error("NOGOODSLAVE No suitable replica to promote");
        assert_eq!(desk.ask(failover()), Some(refused));
        desk.pass(2_000);
        assert!(!desk.has(EventKind::TryFailover) && desk.promotions().is_empty());
    }
}

#[test]
fn a_replica_that_grows_old_during_a_failover_of_a_living_master_is_not_promoted() {
    let mut desk = Desk::new(1, 2);
    desk.pass(12_000);
    assert_eq!(desk.ask(failover()), Some(Value::ok()));
    let line = "master_link_down_since_seconds:-1\r\n";
    for port in [REPLICA, OTHER_REPLICA] {
        desk.infos.insert(at(port), replica_info(MASTER, 0, false) + line);
    }
    desk.pass(10);
    desk.win();
    desk.pass(1_500);
    assert!(desk.has(EventKind::AbortNoGoodSlave), "{:?}", desk.events);
    assert!(desk.promotions().is_empty());
}

#[test]
fn a_failover_that_nobody_could_be_promoted_in_is_refused_at_once() {
    let mut desk = Desk::new(1, 2);
    for port in [REPLICA, OTHER_REPLICA] {
        let info = replica_info(MASTER, 7, true);
        let info = info.replace("slave_priority:100", "slave_priority:0");
        desk.infos.insert(at(port), info);
    }
    desk.pass(12_000);
    let refused = Value::error("NOGOODSLAVE No suitable replica to promote");
    assert_eq!(desk.ask(failover()), Some(refused));
    assert_eq!(desk.sentinel.view().current_epoch(), 0, "no election was begun");
}

#[test]
fn what_the_master_said_before_it_was_the_master_makes_it_no_candidate() {
    let mut desk = Desk::new(1, 2);
    let info = replica_info(MASTER, 7, true).replace("slave_priority:100", "slave_priority:0");
    desk.infos.insert(at(OTHER_REPLICA), info);
    desk.pass(12_000);
    // Others have promoted it, and it has not told us anything since.
    desk.infos.remove(&at(REPLICA));
    desk.hello(2, 5, REPLICA, 5);
    assert!(desk.has(EventKind::SwitchMaster), "{:?}", desk.events);
    let refused = Value::error("NOGOODSLAVE No suitable replica to promote");
    assert_eq!(desk.ask(failover()), Some(refused));
}

#[test]
fn offsets_beyond_4_gib_rank_right() {
    // As 32 bits the first would be 1, or none.
    for (offset, other, promoted) in [
        ((1 << 32) + 1, 400, REPLICA),
        (400, (1 << 32) + 1, OTHER_REPLICA),
        (5 << 40, (5 << 40) + 1, OTHER_REPLICA),
    ] {
        let mut desk = Desk::new(1, 2);
        desk.infos.insert(at(REPLICA), replica_info(MASTER, offset, true));
        desk.infos.insert(at(OTHER_REPLICA), replica_info(MASTER, other, true));
        desk.pass(5_000);
        desk.master_dies();
        desk.win();
        assert_eq!(desk.promotions(), [promoted], "{offset} and {other}");
    }
}

#[test]
fn replicas_that_serve_no_stale_data_get_a_master_all_the_same() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.infos.remove(&at(MASTER));
    // replica-serve-stale-data no: each of them answers so as soon as its link has broken.
    for (port, offset) in [(REPLICA, 500), (OTHER_REPLICA, 400)] {
        let line = "master_link_down_since_seconds:3\r\n";
        desk.infos.insert(at(port), replica_info(MASTER, offset, false) + line);
        desk.pings.insert(at(port), MASTERDOWN);
    }
    desk.pass(4_000);
    desk.answer_question(26002, 1, "*", 0);
    desk.pass(100);
    desk.win();
    desk.pass(300);
    assert_eq!(desk.promotions(), [REPLICA], "{:?}", desk.said);
}

#[test]
fn a_node_that_loads_its_data_is_not_down() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.pings.insert(at(MASTER), LOADING);
    desk.pings.insert(at(REPLICA), LOADING);
    desk.pass(30_000);
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
}

#[test]
fn a_replica_that_has_just_locked_us_out_is_passed_over() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    // It would refuse the order, too; and it has answered well a moment ago.
    desk.pings.insert(at(REPLICA), "NOPERM this user has no permissions to run 'ping'");
    desk.master_dies();
    desk.win();
    desk.pass(300);
    assert_eq!(desk.promotions(), [OTHER_REPLICA], "{:?}", desk.said);
}

#[test]
fn a_promotion_that_is_refused_is_given_up_at_once() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA]);
    let mut replies = vec![Value::ok(); 5];
    replies.push(Value::error("EXECABORT Transaction discarded because of previous errors."));
    desk.reply_from(REPLICA, Command::Promote, Value::Array(replies));
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
    let why = "127.0.0.1:7002 refused: EXECABORT";
    assert!(desk.said.iter().any(|text| text.contains(why)), "{:?}", desk.said);
}

// Who is down, and what is done about it.

#[test]
fn a_script_that_holds_a_node_up_is_killed_once_the_node_is_down() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let kills = |desk: &Desk| {
        let kill = (at(MASTER), Command::ScriptKill);
        desk.sent.iter().filter(|sent| **sent == kill).count()
    };
    desk.pings.insert(at(MASTER), BUSY);
    desk.pass(900);
    assert!(!desk.has(EventKind::Sdown));
    assert_eq!(kills(&desk), 0, "a script may take its time");
    desk.pass(3_000);
    assert!(desk.has(EventKind::Sdown));
    assert_eq!(kills(&desk), 1, "{:?}", desk.sent);
    desk.pings.clear();
    desk.pass(1_000);
    assert!(desk.has(EventKind::SdownEnd));
    desk.pings.insert(at(MASTER), BUSY);
    desk.pass(3_000);
    assert_eq!(kills(&desk), 2, "another script, another order");
    // Seed 300049402: it counted as told for ever where another became the master meanwhile.
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    desk.pings.clear();
    desk.pass(3_000);
    let shown = format!("{:?}", desk.ask(Request::Replicas("mymaster".into())));
    assert!(shown.contains(&MASTER.to_string()) && !shown.contains("script_kill_sent"), "{shown}");
}

/// The master restarts and loads its data, with this `master-reboot-down-after-period`.
fn reboots(period_ms: u64) -> Desk {
    let mut desk = Desk::with(1, 2, |_, group| group.master_reboot_down_after_ms = period_ms);
    desk.infos.insert(at(MASTER), runs(8, "role:master\r\n"));
    desk.pass(12_000);
    desk.infos.insert(at(MASTER), runs(9, "role:master\r\n"));
    desk.pings.insert(at(MASTER), LOADING);
    while !desk.has(EventKind::Reboot) {
        desk.pass(50);
    }
    desk
}

#[test]
fn a_master_that_has_not_come_back_in_time_from_a_restart_is_down_until_it_is_back() {
    let mut desk = reboots(3_000);
    desk.pass(2_800);
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.pass(400);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.pings.clear();
    desk.pass(500);
    assert!(desk.has(EventKind::SdownEnd), "{:?}", desk.events);
    let mut desk = reboots(0);
    desk.pass(30_000);
    assert!(!desk.has(EventKind::Sdown), "nobody asked for it");
}

#[test]
fn a_master_that_comes_back_in_time_from_a_restart_never_was_down() {
    let mut desk = reboots(3_000);
    desk.pass(1_000);
    desk.pings.clear();
    desk.pass(10_000);
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
}

#[test]
fn a_subscription_on_which_nothing_comes_back_is_opened_anew() {
    for echoes in [true, false] {
        let mut desk = Desk::new(1, 2);
        desk.pass(2_000);
        desk.echoes = echoes;
        let before = [MASTER, REPLICA].map(|port| desk.link_to(port));
        desk.pass(12_000);
        let after = [MASTER, REPLICA].map(|port| desk.link_to(port));
        assert_eq!(before == after, echoes, "{:?}", desk.links);
    }
}

#[test]
fn every_node_and_sentinel_hears_from_us_every_2_s() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    let before = desk.sent.len();
    desk.pass(20_000);
    for port in [MASTER, REPLICA, OTHER_REPLICA, 26_002, 26_003] {
        let hello = |sent: &&(Address, Command)| {
            sent.0.port == port && matches!(sent.1, Command::Hello { .. })
        };
        let hellos = desk.sent[before..].iter().filter(hello).count();
        assert!((9..=12).contains(&hellos), "{hellos} for {port}");
    }
}

// Links of what is watched no more.

#[test]
fn a_removed_group_leaves_no_link_open() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    assert_eq!(desk.links.len(), 5, "{:?}", desk.links);
    desk.ask(Request::Remove("mymaster".into()));
    assert!(desk.links.is_empty(), "{:?}", desk.links);
}

#[test]
fn a_removed_group_leaves_sentinels_their_link_that_others_share() {
    let mut desk = Desk::new(1, 2);
    let (name, host) = ("other".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "1".into() });
    desk.ask(Request::Hello(format!("127.0.0.1,26002,{},0,other,127.0.0.1,7100,0", id(2))));
    desk.ask(Request::Remove("mymaster".into()));
    let left: Vec<u16> = desk.links.values().map(|to| to.port).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&26_002) && left.contains(&7_100), "{left:?}");
}

#[test]
fn who_is_forgotten_by_a_reset_is_called_no_more() {
    // At once who is not connected, and after some time who has not shown itself.
    for connected in [false, true] {
        let mut desk = Desk::new(1, 2);
        desk.pass(2_000);
        match connected {
            true => drop(desk.infos.remove(&at(REPLICA))),
            false => [REPLICA, 26_002].map(|port| desk.connection_ends(port)).into_iter().collect(),
        }
        desk.ask(Request::Reset("mymaster".into()));
        for _ in 0..5 {
            desk.hello(3, 0, MASTER, 0);
            desk.pass(2_000);
        }
        let mut left: Vec<u16> = desk.links.values().map(|to| to.port).collect();
        left.sort_unstable();
        assert_eq!(left, [MASTER, OTHER_REPLICA, 26_003], "{connected}");
    }
}

#[test]
fn whoever_answers_a_reset_in_the_same_millisecond_is_not_forgotten() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let before = desk.links.clone();
    desk.ask(Request::Reset("mymaster".into()));
    for _ in 0..5 {
        desk.hello(2, 0, MASTER, 0);
        desk.hello(3, 0, MASTER, 0);
        desk.pass(2_000);
    }
    assert_eq!(desk.links, before);
    assert_eq!(items(desk.ask(Request::Replicas("mymaster".into()))).len(), 2);
}

// After a switch.

#[test]
pub(super) fn a_replica_that_copies_the_data_holds_up_the_next_one_whoever_sent_it() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 400, false));
    desk.infos.insert(at(OTHER_REPLICA), replica_info(MASTER, 400, false));
    desk.hello(2, 4, REPLICA, 4);
    desk.pass(20_000);
    assert_eq!(orders(&desk, OTHER_REPLICA, REPLICA), 0, "{:?}", desk.sent);
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 400, true));
    desk.pass(1_500);
    assert_eq!(orders(&desk, OTHER_REPLICA, REPLICA), 1, "{:?}", desk.sent);
}

#[test]
fn a_replica_is_reconfigured_once_its_link_works() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(failover());
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 400, true));
    desk.pass(1_000);
    assert_eq!(orders(&desk, MASTER, REPLICA), 1, "{:?}", desk.sent);
    let done = times(&desk, EventKind::SlaveReconfDone);
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 0, false));
    desk.pass(3_000);
    assert!(desk.has(EventKind::SlaveReconfInprog) && !desk.has(EventKind::FailoverEnd));
    assert_eq!(times(&desk, EventKind::SlaveReconfDone), done, "{:?}", desk.events);
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 400, true));
    desk.pass(1_000);
    assert_eq!(times(&desk, EventKind::SlaveReconfDone), done + 1, "{:?}", desk.events);
    assert!(desk.has(EventKind::FailoverEnd));
}

#[test]
fn a_switch_is_told_and_looked_into_at_once() {
    let mut desk = Desk::new(1, 2);
    desk.pass(3_000);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    let before = desk.sent.len();
    desk.hello(2, 4, REPLICA, 4);
    let news = format!(",4,mymaster,127.0.0.1,{REPLICA},4");
    for port in [MASTER, REPLICA, OTHER_REPLICA, 26_002, 26_003] {
        let hello = |sent: &&(Address, Command)| {
            sent.0.port == port
                && matches!(&sent.1, Command::Hello { payload } if payload.ends_with(&news))
        };
        assert_eq!(desk.sent[before..].iter().filter(hello).count(), 1, "to {port}");
    }
    let entry = desk.ask(Request::Master("mymaster".into())).expect("an entry");
    assert_eq!(field(&entry, "port"), REPLICA.to_string());
    assert_eq!(field(&entry, "info-refresh"), "0", "it was asked under the new configuration");
    assert_eq!(field(&entry, "role-reported"), "master");
}

#[test]
fn a_new_configuration_lets_nobody_wait_for_the_last_election() {
    let mut desk = Desk::new(1, 2);
    desk.pass(3_000);
    // Whoever has our vote gets the time to act, and has made use of it.
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 2, 5)));
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 5, REPLICA, 5);
    desk.pass(200);
    desk.infos.remove(&at(REPLICA));
    desk.pass(1_300);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.answer_question(26002, 1, "*", 0);
    desk.pass(100);
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.said);
}

// Epochs.

#[test]
fn a_newer_epoch_is_taken_over_from_whoever_says_hello() {
    let mut desk = Desk::new(1, 2);
    desk.hello(2, 7, MASTER, 0);
    assert_eq!(desk.sentinel.view().current_epoch(), 7);
    assert_eq!(desk.writes.last().map(|(_, state)| state.current_epoch), Some(7));
    assert_eq!(times(&desk, EventKind::NewEpoch), 1);
    desk.hello(3, 6, MASTER, 0);
    assert_eq!(desk.sentinel.view().current_epoch(), 7, "an older one changes nothing");
    desk.pass(3_000);
    desk.ask(failover());
    assert_eq!(desk.sentinel.view().current_epoch(), 8, "an election has an epoch of its own");
}

#[test]
fn a_newer_epoch_is_taken_over_from_whoever_asks_for_a_vote_even_in_vain() {
    let mut desk = Desk::new(1, 2);
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 2, 5)));
    assert_eq!(desk.vote_for(3, 9), Some(opinion(0, 2, 5)));
    assert_eq!(desk.sentinel.view().current_epoch(), 9);
    assert_eq!(desk.writes.last().map(|(_, state)| state.current_epoch), Some(9));
}

// What clients are shown.

#[test]
fn a_replica_that_hides_is_not_shown_to_clients() {
    let mut desk = Desk::new(1, 2);
    let hidden = replica_info(MASTER, 500, true) + "replica_announced:0\r\n";
    desk.infos.insert(at(REPLICA), hidden);
    desk.pass(12_000);
    let shown = items(desk.ask(Request::Replicas("mymaster".into())));
    let ports: Vec<String> = shown.iter().map(|entry| field(entry, "port")).collect();
    assert_eq!(ports, [OTHER_REPLICA.to_string()]);
}

#[test]
fn info_tells_whether_a_master_is_down_for_us_or_for_the_quorum() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let status = |desk: &mut Desk| {
        let info =
            desk.ask(Request::Info { running_scripts: 0, queued_scripts: 0 }).expect("an answer");
        let text = info.text().expect("a text").to_owned();
        text.split("status=").nth(1).and_then(|rest| rest.split(',').next().map(str::to_owned))
    };
    assert_eq!(status(&mut desk).as_deref(), Some("ok"));
    desk.infos.remove(&at(MASTER));
    desk.pass(1_200);
    assert_eq!(status(&mut desk).as_deref(), Some("sdown"));
    desk.answer_question(26002, 1, "*", 0);
    assert_eq!(status(&mut desk).as_deref(), Some("odown"));
}
