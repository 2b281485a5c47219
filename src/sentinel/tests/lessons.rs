//! What drawn runs of the simulator taught. Each of these failed once; the seeds were those of the
//! world as it was drawn then.

use super::*;

/// The master says that it follows a node that nobody has told us of, and that works.
fn led_away(config_epoch: u64) -> Desk {
    let mut desk = Desk::new(1, 2);
    if config_epoch > 0 {
        desk.hello(2, config_epoch, MASTER, config_epoch);
    }
    desk.infos.insert(at(MASTER), replica_info(7999, 500, true));
    for port in [REPLICA, OTHER_REPLICA] {
        desk.infos.remove(&at(port));
    }
    desk.pass(40_000);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.answer_question(26002, 1, "*", 0);
    desk.win();
    desk.pass(500);
    desk
}

#[test]
pub(super) fn a_master_that_nobody_elected_and_that_follows_a_stranger_stays_a_replica() {
    let desk = led_away(0);
    assert!(desk.promotions().is_empty(), "{:?}", desk.said);
    let remedy = "SENTINEL MONITOR mymaster 127.0.0.1 7999 2";
    assert!(desk.said.iter().any(|text| text.contains(remedy)), "{:?}", desk.said);
}

#[test]
fn a_master_that_was_elected_is_made_a_master_again_whomever_it_follows() {
    assert_eq!(led_away(4).promotions(), [MASTER]);
}

#[test]
fn a_master_of_priority_0_that_became_a_replica_is_not_made_a_master_again() {
    for (priority, promotions) in [(0, vec![]), (100, vec![MASTER])] {
        let mut desk = Desk::new(1, 2);
        let info = replica_info(REPLICA, 500, false);
        let info = info.replace("slave_priority:100", &format!("slave_priority:{priority}"));
        desk.infos.insert(at(MASTER), info);
        for port in [REPLICA, OTHER_REPLICA] {
            desk.infos.remove(&at(port));
        }
        desk.pass(40_000);
        desk.answer_question(26002, 1, "*", 0);
        desk.win();
        desk.pass(500);
        assert_eq!(desk.promotions(), promotions, "{:?}", desk.said);
    }
}

#[test]
fn who_answers_something_else_than_a_refusal_lets_us_in() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let locked = |desk: &mut Desk| {
        let entry = desk.ask(Request::Replicas("mymaster".into())).expect("an answer");
        let Value::Array(entries) = entry else { panic!("no replicas: {entry:?}") };
        format!("{:?}", entries[0]).contains("disconnected")
    };
    let refusal = Value::error("NOAUTH Authentication required.");
    desk.reply_from(REPLICA, Command::Ping, refusal);
    assert!(locked(&mut desk));
    desk.reply_from(REPLICA, Command::Ping, Value::error("MISCONF cannot save"));
    assert!(!locked(&mut desk));
}

#[test]
fn a_node_that_is_well_again_is_asked_at_once_what_it_is() {
    // Seeds 100193990 and 9304: a RESET forgot a node that died before it was asked again.
    for (error, after_ms) in [("NOAUTH Authentication required.", 20_000), (BUSY, 500)] {
        let mut desk = Desk::new(1, 2);
        desk.pass(2_000);
        desk.refusals.insert(at(REPLICA), error);
        desk.pass(after_ms);
        desk.ask(Request::Reset("mymaster".into()));
        desk.pass(100);
        desk.refusals.clear();
        desk.pass(3_000);
        desk.infos.remove(&at(REPLICA));
        desk.pass(10_000);
        let entry = desk.ask(Request::Replicas("mymaster".into())).expect("an answer");
        assert!(format!("{entry:?}").contains(&REPLICA.to_string()), "{error}: {entry:?}");
    }
}

#[test]
fn what_a_peer_said_of_the_master_is_shown_as_long_as_it_counts() {
    // Seed 5012: it was shown for ever once the master was back.
    let mut desk = Desk::new(1, 3);
    desk.pass(2_000);
    let info = desk.infos.remove(&at(MASTER)).expect("it lives");
    while !desk.has(EventKind::Sdown) {
        desk.pass(20);
    }
    desk.answer_question(26002, 1, "*", 0);
    desk.answer_question(26003, 0, "*", 0);
    let shows = |desk: &mut Desk| {
        let entry = desk.ask(Request::Sentinels("mymaster".into())).expect("an answer");
        format!("{entry:?}").contains("master_down")
    };
    assert!(shows(&mut desk));
    desk.infos.insert(at(MASTER), info);
    while !desk.has(EventKind::SdownEnd) {
        desk.pass(20);
    }
    // The last question, asked before that, is answered, too.
    desk.answer_question(26002, 1, "*", 0);
    desk.answer_question(26003, 0, "*", 0);
    desk.pass(8_000);
    assert!(!shows(&mut desk), "{:?}", desk.events);
}

#[test]
fn something_is_due_every_second_so_that_each_stall_is_noticed() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    for link in desk.links.keys().copied().collect::<Vec<_>>() {
        let reason = LostReason::Closed;
        desk.input(Input::Link { link, event: LinkEvent::Down { reason } });
    }
    desk.pass(60_000);
    let due = desk.sentinel.deadline().expect("something is due");
    assert!(due.as_ms() <= desk.now_ms + 1_000, "{due:?} at {}", desk.now_ms);
    desk.now_ms += 3_500;
    desk.input(Input::Wake);
    assert!(desk.has(EventKind::Tilt), "{:?}", desk.events);
}

#[test]
fn who_is_left_alone_in_a_group_is_no_majority_at_once() {
    let mut desk = Desk::new(1, 2);
    let (name, host) = ("other".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "1".into() });
    let line = format!("127.0.0.1,26002,{},0,other,127.0.0.1,7100,0", id(2));
    desk.ask(Request::Hello(line));
    desk.pass(5_000);
    let quorum = |desk: &mut Desk| desk.ask(Request::CkQuorum("other".into()));
    assert!(matches!(quorum(&mut desk), Some(Value::Simple(_))), "two of two");
    desk.connection_ends(26002);
    desk.ask(Request::Reset("other".into()));
    assert!(matches!(quorum(&mut desk), Some(Value::Error(_))), "{:?}", desk.said);
}

#[test]
pub(super) fn a_hello_that_waited_for_the_disk_does_not_go_once_another_master_is_known() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_500);
    desk.disk_works = false;
    desk.ask(Request::FlushConfig);
    desk.pass(3_000);
    desk.hello(2, 4, REPLICA, 4);
    assert!(desk.has(EventKind::SwitchMaster) || !desk.writes.is_empty());
    let before = desk.sent.len();
    desk.disk_works = true;
    desk.write_ends();
    desk.pass(3_000);
    let stale = format!(",mymaster,127.0.0.1,{MASTER},");
    let said = desk.sent[before..].iter().filter_map(|(_, command)| match command {
        Command::Hello { payload } => Some(payload.as_str()),
        _ => None,
    });
    let said: Vec<&str> = said.collect();
    assert!(said.iter().all(|line| !line.contains(&stale)), "{said:?}");
    for port in [MASTER, REPLICA, OTHER_REPLICA, 26002, 26003] {
        let hello = |(to, command): &(Address, Command)| {
            to.port == port && matches!(command, Command::Hello { .. })
        };
        assert!(desk.sent[before..].iter().any(hello), "{port} hears what is so now");
    }
}

#[test]
fn an_order_to_a_process_that_died_is_neither_done_nor_in_the_way() {
    let mut desk = Desk::new(1, 2);
    let runs = |n: u8, info: String| format!("{info}run_id:{}\r\n", id(n));
    desk.infos.insert(at(MASTER), runs(8, "role:master\r\n".into()));
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 400, true));
    desk.pass(3_000);
    let orders = |desk: &Desk| {
        let order = (at(MASTER), Command::Follow { master: at(REPLICA) });
        desk.sent.iter().filter(|sent| **sent == order).count()
    };
    assert_eq!(orders(&desk), 1, "{:?}", desk.sent);
    desk.infos.insert(at(MASTER), runs(8, replica_info(REPLICA, 400, false)));
    desk.pass(2_000);
    assert!(desk.has(EventKind::SlaveReconfInprog), "{:?}", desk.events);
    // It comes back behind the replica that its file names.
    desk.infos.insert(at(MASTER), runs(9, replica_info(OTHER_REPLICA, 400, true)));
    desk.pass(2_000);
    let done = (EventKind::SlaveReconfDone, at(MASTER).to_string());
    let is_done = |(kind, payload): &(EventKind, String)| {
        *kind == done.0 && payload.contains(&format!("slave {} ", done.1))
    };
    assert!(!desk.events.iter().any(is_done), "{:?}", desk.events);
    assert!(orders(&desk) > 1, "{:?}", desk.sent);
}

#[test]
fn who_moved_says_anew_what_somebody_else_may_have_said_in_its_place() {
    let mut desk = Desk::new(1, 3);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(1_200);
    desk.answer_question(26002, 1, "*", 0);
    // A copy of sentinel 2 lived there; now it has an id of its own.
    for (of, port) in [(2, 26004), (5, 26002)] {
        let line = format!("127.0.0.1,{port},{},0,mymaster,127.0.0.1,{MASTER},0", id(of));
        desk.ask(Request::Hello(line));
    }
    desk.pass(200);
    desk.answer_question(26002, 1, "*", 0);
    assert!(!desk.has(EventKind::Odown), "one process counts once: {:?}", desk.events);
    desk.answer_question(26003, 1, "*", 0);
    assert!(desk.has(EventKind::Odown), "{:?}", desk.events);
}

#[test]
fn of_a_group_that_is_removed_before_it_was_told_nobody_hears() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.disk_works = false;
    let (name, host) = ("other".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "1".into() });
    desk.ask(Request::Remove("other".into()));
    desk.disk_works = true;
    desk.write_ends();
    desk.pass(2_000);
    let told = desk.events.iter().filter(|(_, payload)| payload.contains("other"));
    assert_eq!(told.count(), 0, "{:?}", desk.events);
}

#[test]
fn that_a_sentinel_moved_is_told_though_the_group_is_removed_of_which_it_would_be() {
    // Seed 301341: others of its groups were left with the address of before.
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let (name, host) = ("other".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "1".into() });
    let hello = |port: u16| format!("127.0.0.1,{port},{},0,other,127.0.0.1,7100,0", id(2));
    desk.ask(Request::Hello(hello(26002)));
    desk.pass(200);
    desk.disk_works = false;
    // Something that waits for the disk, and all that comes after it with it.
    desk.vote_for(3, 5);
    desk.ask(Request::Hello(hello(26012)));
    desk.ask(Request::Remove("other".into()));
    assert!(!desk.has(EventKind::SentinelAddressSwitch));
    desk.disk_works = true;
    desk.write_ends();
    desk.pass(2_000);
    assert!(desk.has(EventKind::SentinelAddressSwitch), "{:?}", desk.events);
}

/// 50076009.
#[test]
fn who_moved_is_not_down_for_the_silence_of_its_old_address() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    // Any answer but PONG, LOADING and MASTERDOWN is silence.
    let falls_silent = |desk: &mut Desk, port| {
        desk.infos.insert(at(port), String::new());
        desk.refusals.insert(at(port), "ERR unwell");
    };
    falls_silent(&mut desk, 26002);
    desk.pass(1_500);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    let moved = format!("127.0.0.1,26012,{},0,mymaster,127.0.0.1,{MASTER},0", id(2));
    desk.ask(Request::Hello(moved));
    desk.pass(500);
    assert!(desk.has(EventKind::SdownEnd), "{:?}", desk.events);
    let before = desk.events.len();
    falls_silent(&mut desk, 26012);
    desk.pass(1_500);
    assert!(desk.events[before..].iter().any(|(kind, _)| *kind == EventKind::Sdown));
}

#[test]
fn a_sentinel_that_is_replaced_counts_in_all_groups() {
    // Seed 200439336: groups of which its successor had not spoken yet counted one voter less, and
    // two of four were a majority.
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let (name, host) = ("other".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "2".into() });
    let hello = |from: u8, port: u16, group: &str, master: u16| {
        format!("127.0.0.1,{port},{},0,{group},127.0.0.1,{master},0", id(from))
    };
    for from in [2, 3] {
        desk.ask(Request::Hello(hello(from, 26000 + u16::from(from), "other", 7100)));
    }
    desk.ask(Request::Hello(hello(9, 26002, "mymaster", MASTER)));
    for group in ["mymaster", "other"] {
        let entry = desk.ask(Request::Sentinels(group.into())).expect("an answer");
        let known = format!("{entry:?}");
        let Value::Array(entries) = entry else { panic!("no sentinels: {known}") };
        assert_eq!(entries.len(), 2, "{group}: {known}");
        assert!(known.contains(id(9).as_str()) && !known.contains(id(2).as_str()), "{known}");
    }
}

#[test]
fn a_peer_that_takes_its_word_back_counts_no_more() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    while !desk.has(EventKind::Sdown) {
        desk.pass(20);
    }
    desk.answer_question(26002, 1, "*", 0);
    desk.answer_question(26003, 0, "*", 0);
    assert!(desk.has(EventKind::Odown));
    desk.pass(1_100);
    desk.answer_question(26002, 0, "*", 0);
    desk.pass(200);
    assert!(desk.has(EventKind::OdownEnd), "{:?}", desk.events);
}

#[test]
fn of_equal_replicas_the_one_with_the_smaller_run_id_is_promoted() {
    for (replica, other, promoted) in [(1, 2, REPLICA), (2, 1, OTHER_REPLICA)] {
        let mut desk = Desk::new(1, 2);
        for (port, n) in [(REPLICA, replica), (OTHER_REPLICA, other)] {
            let info = format!("run_id:{}\r\n{}", id(n), replica_info(MASTER, 500, true));
            desk.infos.insert(at(port), info);
        }
        desk.pass(12_000);
        desk.ask(Request::Failover("mymaster".into()));
        desk.win();
        desk.pass(1_500);
        assert_eq!(desk.promotions(), [promoted], "{:?}", desk.said);
    }
}

#[test]
fn a_short_stall_counts_against_nobody_either() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(300);
    desk.now_ms += 1_500;
    desk.input(Input::Wake);
    desk.pass(300);
    assert!(!desk.has(EventKind::Sdown) && !desk.has(EventKind::Tilt), "{:?}", desk.events);
    desk.pass(1_200);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
}

#[test]
fn elections_lost_under_an_older_configuration_lengthen_no_pause() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let tries = |desk: &Desk| {
        desk.events.iter().filter(|(kind, _)| *kind == EventKind::TryFailover).count()
    };
    // It stands until it has lost so often.
    let loses = |desk: &mut Desk, times: usize| {
        let until = tries(desk) + times;
        for _ in 0..4_000 {
            desk.pass(20);
            for port in [26002, 26003] {
                desk.answer_question(port, 1, id(3).as_str(), 1 << 20);
            }
            if tries(desk) == until {
                return;
            }
        }
        panic!("it stands {} times: {:?}", tries(desk), desk.said);
    };
    desk.infos.remove(&at(MASTER));
    while !desk.has(EventKind::Sdown) {
        desk.pass(20);
    }
    loses(&mut desk, 7);
    let epoch = desk.sentinel.view().current_epoch();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, epoch + 1, REPLICA, epoch + 1);
    desk.pass(3_000);
    desk.infos.remove(&at(REPLICA));
    let before = tries(&desk);
    while tries(&desk) == before {
        desk.pass(20);
        if desk.events.iter().filter(|(kind, _)| *kind == EventKind::Sdown).count() > 1 {
            loses(&mut desk, 1);
        }
    }
    let first = desk.now_ms;
    loses(&mut desk, 1);
    assert!(desk.now_ms - first < 2_000, "{} ms", desk.now_ms - first);
}

#[test]
fn a_hello_of_a_former_life_is_nobody_elses() {
    // Seed 240004467: it came before any connection had told where we live.
    for (knows, votes) in [(true, false), (false, true)] {
        let mut desk = Desk::new(1, 2);
        desk.pass(5_000);
        if !knows {
            desk.sentinel.core.local_ips.clear();
        }
        desk.ask(own_hello(26_009));
        let vote = format!("{:?}", desk.vote_for(2, 5));
        assert_eq!(vote.contains(id(2).as_str()), votes, "{vote}");
    }
}

#[test]
fn a_leader_puts_right_at_once_who_followed_an_older_master_only() {
    let mut desk = Desk::new(1, 2);
    let runs = |info: String| format!("run_id:{}\r\n{info}", id(9));
    desk.infos.insert(at(OTHER_REPLICA), runs(replica_info(MASTER, 400, true)));
    desk.pass(12_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(OTHER_REPLICA), runs("role:master\r\n".into()));
    desk.pass(1_000);
    let order = (at(OTHER_REPLICA), Command::Follow { master: at(REPLICA) });
    assert!(desk.sent.contains(&order), "{:?}", desk.sent);
}

#[test]
pub(super) fn a_leader_that_still_repoints_gives_time_to_whom_a_later_one_may_have_promoted() {
    let mut desk = Desk::new(1, 2);
    let runs = |info: String| format!("run_id:{}\r\n{info}", id(9));
    desk.infos.insert(at(OTHER_REPLICA), runs(replica_info(MASTER, 400, true)));
    desk.pass(12_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA]);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    // The old master never follows, so there is always something left to repoint.
    desk.infos.insert(at(OTHER_REPLICA), runs(replica_info(REPLICA, 400, true)));
    desk.pass(3_000);
    let order = (at(OTHER_REPLICA), Command::Follow { master: at(REPLICA) });
    let orders = |desk: &Desk| desk.sent.iter().filter(|sent| **sent == order).count();
    let before = orders(&desk);
    desk.infos.insert(at(OTHER_REPLICA), runs("role:master\r\n".into()));
    desk.pass(3_000);
    assert_eq!(orders(&desk), before, "news of its promotion may be on the way");
    desk.pass(12_000);
    assert!(orders(&desk) > before, "but not for ever");
}

#[test]
fn who_did_not_lead_gives_nodes_their_time_anew_with_each_configuration() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(OTHER_REPLICA), replica_info(MASTER, 400, false));
    desk.pass(20_000);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 400, true));
    desk.hello(2, 4, REPLICA, 4);
    let order = (at(OTHER_REPLICA), Command::Follow { master: at(REPLICA) });
    desk.pass(6_000);
    assert!(!desk.sent.contains(&order), "that is the leader's work at first: {:?}", desk.sent);
    desk.pass(14_000);
    assert!(desk.sent.contains(&order), "{:?}", desk.sent);
}

#[test]
fn whom_a_newcomer_met_while_it_listened_is_written_once_it_takes_part() {
    let mut group = GroupState::fresh(GroupSettings::new(at(MASTER), 2), None);
    group.replicas = vec![at(REPLICA), at(OTHER_REPLICA)];
    let groups = ByName::from([("mymaster".to_owned(), group)]);
    let mut desk = Desk::restored(State {
        my_id: id(1),
        current_epoch: 0,
        groups,
        removed: Default::default(),
        live: None,
    });
    desk.pass(500);
    desk.hello(2, 0, MASTER, 0);
    desk.pass(500);
    let known = |desk: &Desk| desk.writes.last().expect("a write").1.groups["mymaster"].clone();
    assert!(known(&desk).sentinels.is_empty(), "who crashes now has to listen again");
    desk.pass(3_000);
    assert_eq!(known(&desk).sentinels.len(), 1, "{:?}", desk.writes.last());
}

#[test]
fn what_the_file_declares_is_known_of_a_group_that_was_removed_and_is_watched_again() {
    let declared = GroupSettings::new(at(MASTER), 2);
    let group = GroupState::fresh(declared.clone(), Some(declared.clone()));
    let groups = ByName::from([("mymaster".to_owned(), group)]);
    let mut desk = Desk::restored(State {
        my_id: id(1),
        current_epoch: 0,
        groups,
        removed: Default::default(),
        live: None,
    });
    desk.pass(500);
    desk.ask(Request::Remove("mymaster".into()));
    let (name, host) = ("mymaster".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "2".into() });
    desk.pass(500);
    let (_, state) = desk.writes.last().cloned().expect("a write");
    assert_eq!(state.groups["mymaster"].declared.as_ref(), Some(&declared));
    // So at the next start the file, which says what it said before, is no news.
    let file = BTreeMap::from([("mymaster".to_owned(), declared)]);
    let (state, notes) = reconcile(file, Some(state), id(9));
    assert_eq!(state.groups["mymaster"].settings.master, at(7100), "{notes:?}");
}

#[test]
fn a_hello_that_was_under_way_on_a_lost_connection_holds_up_no_other() {
    for port in [MASTER, 26002] {
        let mut desk = Desk::new(1, 2);
        desk.pass(5_000);
        let hellos = |desk: &Desk| {
            let sent = desk.sent.iter().filter(|(to, _)| to.port == port);
            sent.filter(|(_, command)| matches!(command, Command::Hello { .. })).count()
        };
        desk.deaf.insert(desk.link_to(port));
        let before = hellos(&desk);
        while hellos(&desk) == before {
            desk.pass(100);
        }
        desk.connection_ends(port);
        desk.deaf.clear();
        let (local_ip, remote_ip) = ("127.0.0.1".to_owned(), "127.0.0.1".to_owned());
        let event = LinkEvent::Up { local_ip, remote_ip };
        desk.input(Input::Link { link: desk.link_to(port), event });
        let before = hellos(&desk);
        desk.pass(5_000);
        assert!(hellos(&desk) > before, "{port}: {:?}", desk.sent);
    }
}

#[test]
fn a_replica_that_dies_on_its_way_to_a_new_master_holds_up_the_others_no_longer() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(200);
    let sent = |desk: &Desk| {
        let order = (Command::Follow { master: at(REPLICA) },);
        let to = desk.sent.iter().filter(|(_, command)| *command == order.0).map(|(to, _)| to.port);
        to.collect::<BTreeSet<u16>>()
    };
    let first: Vec<u16> = sent(&desk).into_iter().collect();
    assert_eq!(first.len(), 1, "one at a time: {first:?}");
    desk.infos.remove(&at(first[0]));
    desk.pass(4_000);
    assert_eq!(sent(&desk).len(), 2, "{:?}", desk.events);
}

#[test]
fn a_vote_that_was_given_at_an_address_is_not_the_next_ones_there_too() {
    let mut desk = Desk::new(1, 3);
    desk.pass(5_000);
    desk.ask(Request::Failover("mymaster".into()));
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.events);
    desk.win();
    // A copy of sentinel 2 lived there; now it has an id of its own.
    for (of, port) in [(2, 26004), (5, 26002)] {
        let line = format!("127.0.0.1,{port},{},0,mymaster,127.0.0.1,{MASTER},0", id(of));
        desk.ask(Request::Hello(line));
    }
    desk.pass(200);
    desk.win();
    assert!(!desk.has(EventKind::ElectedLeader), "one process votes once: {:?}", desk.events);
    let me = id(1).to_string();
    desk.answer_question(26003, 0, &me, 1);
    assert!(desk.has(EventKind::ElectedLeader), "{:?}", desk.said);
}

#[test]
fn a_newcomer_that_hears_nothing_any_more_begins_to_listen_anew() {
    let mut group = GroupState::fresh(GroupSettings::new(at(MASTER), 2), None);
    group.replicas = vec![at(REPLICA), at(OTHER_REPLICA)];
    let groups = ByName::from([("mymaster".to_owned(), group)]);
    let mut desk = Desk::restored(State {
        my_id: id(1),
        current_epoch: 0,
        groups,
        removed: Default::default(),
        live: None,
    });
    let links = |desk: &Desk| {
        let of_nodes = desk.links.iter().filter(|(_, to)| to.port < 26000);
        of_nodes.map(|(link, _)| *link).collect::<Vec<LinkId>>()
    };
    desk.hello(2, 0, MASTER, 0);
    desk.pass(1_500);
    for link in links(&desk) {
        let event = LinkEvent::Unsubscribed { reason: "closed".into() };
        desk.input(Input::Link { link, event });
    }
    desk.pass(4_000);
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 0, 0)), "it has not listened for long");
    for link in links(&desk) {
        desk.input(Input::Link { link, event: LinkEvent::Subscribed });
    }
    desk.pass(1_500);
    assert_eq!(desk.vote_for(2, 6), Some(opinion(0, 0, 0)), "it has just begun");
    desk.pass(2_000);
    assert_eq!(desk.vote_for(2, 7), Some(opinion(0, 2, 7)));
}

#[test]
fn half_open_connections_are_noticed_as_soon_after_many_as_after_the_first() {
    let mut desk = Desk::new(1, 2);
    desk.pass(20_000);
    for _ in 0..12 {
        let before = desk.link_to(MASTER);
        desk.deaf.insert(before);
        for _ in 0..100 {
            desk.pass(20);
            if desk.link_to(MASTER) != before {
                break;
            }
        }
        assert!(!desk.has(EventKind::Sdown), "it lives: {:?}", desk.events);
        desk.pass(1_500);
    }
}

#[test]
fn what_a_node_refused_before_is_not_held_against_its_promotion() {
    let mut desk = Desk::new(1, 2);
    let ours = |master: u16| format!("run_id:{}\r\n{}", id(7), replica_info(master, 500, true));
    desk.infos.insert(at(REPLICA), ours(MASTER));
    desk.pass(12_000);
    desk.infos.insert(at(REPLICA), ours(OTHER_REPLICA));
    let follow = Command::Follow { master: at(MASTER) };
    for _ in 0..90 {
        desk.pass(1_000);
        if desk.sent.contains(&(at(REPLICA), follow.clone())) {
            break;
        }
    }
    let refusal = Value::Array(vec![Value::error("LOADING Redis is loading the dataset")]);
    desk.reply_from(REPLICA, follow, refusal);
    desk.infos.insert(at(REPLICA), ours(MASTER));
    desk.pass(500);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.infos.insert(at(REPLICA), format!("role:master\r\nrun_id:{}\r\n", id(7)));
    desk.pass(2_000);
    assert_eq!(desk.promotions(), [REPLICA]);
    assert!(desk.has(EventKind::SwitchMaster), "{:?} {:?}", desk.events, desk.said);
}
