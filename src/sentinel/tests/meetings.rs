//! What other sentinels are believed: their configurations, their ids and addresses; and who and
//! what is forgotten.

use super::*;

#[test]
pub(super) fn a_newer_configuration_is_adopted_and_an_older_one_corrected() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.hello(2, 4, REPLICA, 4);
    let kinds: Vec<EventKind> = desk.events.iter().map(|(kind, _)| *kind).collect();
    let (update, switch) = (EventKind::ConfigUpdateFrom, EventKind::SwitchMaster);
    assert!(kinds.windows(2).any(|pair| pair == [update, switch]), "{kinds:?}");
    desk.events.clear();
    desk.sent.clear();
    desk.hello(3, 3, OTHER_REPLICA, 3);
    assert!(!desk.has(switch));
    let told =
        |(to, c): &(Address, Command)| to.port == 26003 && matches!(c, Command::Hello { .. });
    assert!(desk.sent.iter().any(told), "the one that lags behind is told at once");
}

#[test]
fn a_configuration_of_an_epoch_to_come_breaks_no_later_failover() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.hello(2, 1, MASTER, 1000);
    assert_eq!(desk.ask(Request::Failover("mymaster".into())), Some(Value::ok()));
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(500);
    let view = desk.sentinel.view().groups().next().expect("a group");
    assert_eq!((view.master, view.config_epoch), (at(REPLICA), 1001));
}

#[test]
fn an_id_that_another_has_too_is_given_up() {
    let mut desk = Desk::new(1, 2);
    desk.pass(3_000);
    desk.ask(own_hello(crate::config::settings::SENTINEL_PORT));
    assert_eq!(desk.sentinel.view().my_id(), &id(1), "our own words come back");
    desk.vote_for(2, 5);
    desk.ask(own_hello(26_009));
    assert_eq!(desk.sentinel.view().my_id(), &id(1), "a late word of ours, perhaps");
    desk.pass(7_000);
    desk.ask(own_hello(26_009));
    let renamed = desk.sentinel.view().my_id().clone();
    assert_ne!(renamed, id(1));
    assert!(desk.said.iter().any(|text| text.contains("127.0.0.1:26009, has my id")));
    desk.ask(own_hello(26_009));
    assert_eq!(desk.sentinel.view().my_id(), &renamed, "it is a stranger's by now");
    assert_eq!(desk.writes.last().map(|(_, state)| &state.my_id), Some(&renamed));
    assert_eq!(desk.vote_for(3, 5), Some(opinion(0, 2, 5)), "what was promised binds");
}

#[test]
fn a_leader_whose_id_another_has_too_gives_up() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    desk.ask(own_hello(26_009));
    let epoch = desk.sentinel.view().current_epoch() as i64;
    desk.answer_question(26002, 1, id(1).as_str(), epoch);
    assert!(!desk.has(EventKind::ElectedLeader), "that vote may be the other's");
    desk.pass(1_600);
    assert!(desk.has(EventKind::AbortNotElected), "nobody says otherwise: {:?}", desk.events);
    assert!(!desk.has(EventKind::ElectedLeader));
}

/// A forged hello is one word; whoever lives where it comes from is asked.
#[test]
fn a_forged_hello_with_our_id_keeps_us_from_no_election() {
    let strangers = [Value::bulk(id(9).as_str()), Value::error("ERR unknown command 'SENTINEL'")];
    for stranger in strangers {
        let mut desk = Desk::new(1, 2);
        desk.ids.insert(26_009, stranger);
        for _ in 0..4 {
            desk.pass(2_000);
            desk.ask(own_hello(26_009));
        }
        desk.master_dies();
        desk.ask(own_hello(26_009));
        desk.win();
        desk.infos.insert(at(REPLICA), "role:master\r\n".into());
        desk.pass(500);
        assert!(desk.has(EventKind::SwitchMaster), "{:?}", desk.said);
        assert_eq!(desk.sentinel.view().my_id(), &id(1));
        let ignored = "Ignored a hello with my own id from 127.0.0.1:26009";
        assert_eq!(desk.said.iter().filter(|said| said.contains(ignored)).count(), 3, "1, 2, 4");
        assert!(!desk.links.values().any(|to| to.port == 26_009), "it is left in peace");
    }
}

#[test]
fn an_election_goes_on_where_the_double_proves_to_be_none() {
    let reply = Value::bulk(id(9).as_str());
    let other = LinkEvent::Reply { command: Command::AskId { word: Some(id(9)) }, reply };
    for none in [other, LinkEvent::Down { reason: LostReason::Refused }] {
        let mut desk = Desk::new(1, 2);
        desk.pass(5_000);
        desk.master_dies();
        desk.ask(own_hello(26_009));
        desk.win();
        assert!(!desk.has(EventKind::ElectedLeader), "it is asked first");
        let link = desk.link_to(26_009);
        desk.input(Input::Link { link, event: none });
        assert!(desk.has(EventKind::ElectedLeader), "{:?}", desk.said);
    }
}

#[test]
fn who_does_not_answer_for_our_id_holds_us_up_once_in_a_while() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.ask(own_hello(26_009));
    desk.pass(20_500);
    for silent in 26_010..26_015 {
        desk.ask(own_hello(silent));
        desk.pass(2_000);
    }
    desk.master_dies();
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.said);
    desk.ask(own_hello(26_015));
    desk.win();
    desk.pass(1_600);
    assert!(desk.has(EventKind::ElectedLeader), "{:?}", desk.said);
}

#[test]
fn a_double_that_says_so_itself_is_believed_at_any_time() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.ask(own_hello(26_009));
    desk.pass(20_500);
    desk.ids.insert(26_010, Value::bulk(id(1).as_str()));
    desk.ask(own_hello(26_010));
    desk.master_dies();
    assert!(!desk.has(EventKind::TryFailover), "{:?}", desk.events);
    desk.pass(6_000);
    desk.ask(own_hello(26_010));
    assert_ne!(desk.sentinel.view().my_id(), &id(1));
}

fn sentinels(desk: &Desk) -> BTreeMap<RunId, Address> {
    desk.writes.last().expect("a write").1.groups["mymaster"].sentinels.clone()
}

#[test]
fn an_address_has_one_sentinel_at_a_time() {
    let mut desk = Desk::new(1, 2);
    desk.pass(3_000);
    let moved = format!("127.0.0.1,26003,{},0,mymaster,127.0.0.1,{MASTER},0", id(2));
    desk.ask(Request::Hello(moved));
    assert_eq!(sentinels(&desk), BTreeMap::from([(id(2), at(26003))]));
    let (_, mut state) = desk.writes.last().cloned().expect("a write");
    let ours = crate::config::settings::SENTINEL_PORT;
    let group = state.groups.get_mut("mymaster").expect("the group");
    group.sentinels.insert(id(7), at(ours));
    let mut desk = Desk::restored(state);
    desk.pass(3_000);
    desk.ask(own_hello(ours));
    assert_eq!(sentinels(&desk), BTreeMap::from([(id(2), at(26003))]), "and this one is ours");
}

#[test]
fn in_a_dispute_the_nodes_decide() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(MASTER), replica_info(OTHER_REPLICA, 500, true));
    desk.pass(12_000);
    desk.hello(2, 0, REPLICA, 0);
    assert!(!desk.has(EventKind::SwitchMaster), "our master follows another");
    desk.hello(2, 0, OTHER_REPLICA, 0);
    let view = desk.sentinel.view().groups().next().expect("a group");
    assert_eq!((view.master, view.config_epoch), (at(OTHER_REPLICA), 0));
}

#[test]
fn a_dispute_that_the_nodes_do_not_decide_is_said_once() {
    let mut desk = Desk::new(1, 2);
    desk.pass(3_000);
    for _ in 0..20 {
        desk.hello(2, 0, REPLICA, 0);
        desk.hello(3, 0, MASTER, 0);
        desk.pass(2_000);
    }
    let said = desk.said.iter().filter(|text| text.contains("one of us was told wrong")).count();
    assert_eq!(said, 1, "{:?}", desk.said);
    assert!(!desk.has(EventKind::SwitchMaster));
}

#[test]
pub(super) fn whoever_hears_its_own_id_from_elsewhere_takes_another() {
    let mut desk = Desk::new(1, 2);
    for _ in 0..3 {
        desk.pass(4_000);
        desk.ask(own_hello(26_009));
    }
    assert_ne!(desk.sentinel.view().my_id(), &id(1));
}

#[test]
pub(super) fn whoever_may_share_its_id_does_not_stand() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.ask(own_hello(26_009));
    desk.master_dies();
    assert!(!desk.has(EventKind::TryFailover), "a vote for us elects both: {:?}", desk.events);
    let refused = desk.ask(Request::Failover("mymaster".into()));
    let why = "127.0.0.1:26009 speaks with my id";
    assert!(matches!(&refused, Some(Value::Error(text)) if text.contains(why)), "{refused:?}");
}

#[test]
fn one_sentinel_lives_at_an_address() {
    let mut desk = Desk::new(1, 2);
    let line = format!("127.0.0.1,26002,{},0,mymaster,127.0.0.1,{MASTER},0", id(7));
    desk.ask(Request::Hello(line));
    assert!(desk.has(EventKind::SentinelInvalidAddr));
    let Some(Value::Array(known)) = desk.ask(Request::Sentinels("mymaster".into())) else {
        panic!("no sentinels: {:?}", desk.replies);
    };
    assert_eq!(known.len(), 2);
}

#[test]
pub(super) fn who_shows_no_sign_of_life_after_a_reset_is_forgotten() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Reset("*".into()));
    desk.pass(2_000);
    desk.hello(2, 0, MASTER, 0);
    desk.pass(10_000);
    let Some(Value::Array(known)) = desk.ask(Request::Sentinels("mymaster".into())) else {
        panic!("no sentinels: {:?}", desk.replies);
    };
    assert_eq!(known.len(), 1);
}

#[test]
pub(super) fn a_removed_group_falls_silent_and_stays_removed() {
    let mut settings = GroupSettings::new(at(MASTER), 1);
    settings.down_after_ms = 1_000;
    let group = GroupState::fresh(settings.clone(), Some(settings));
    let groups = ByName::from([("mymaster".to_owned(), group)]);
    let state =
        State { my_id: id(1), current_epoch: 0, groups, removed: Default::default(), live: None };
    let mut desk = Desk::restored(state);
    desk.pass(2_000);
    desk.disk_works = false;
    desk.hello(2, 4, REPLICA, 4);
    desk.sent.clear();
    desk.events.clear();
    desk.ask(Request::Remove("mymaster".into()));
    desk.disk_works = true;
    desk.write_ends();
    assert!(!desk.has(EventKind::SwitchMaster), "{:?}", desk.events);
    let (_, state) = desk.writes.last().expect("a write");
    assert!(state.groups.is_empty() && state.removed.contains_key("mymaster"));
}

#[test]
fn who_moves_replaces_whoever_was_there_in_all_groups() {
    let mut desk = Desk::new(1, 2);
    let (name, host) = ("other".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "2".into() });
    for port in [26_002, 26_003] {
        let line = format!("127.0.0.1,{port},{},0,other,127.0.0.1,7100,0", id(2));
        desk.ask(Request::Hello(line));
    }
    let Some(Value::Array(known)) = desk.ask(Request::Sentinels("mymaster".into())) else {
        panic!("no sentinels: {:?}", desk.replies);
    };
    assert_eq!(known.len(), 1);
}

#[test]
fn who_says_to_live_at_our_address_is_told_of() {
    let mut desk = Desk::new(1, 2);
    desk.pass(3_000);
    let ours = crate::config::settings::SENTINEL_PORT;
    let line = format!("127.0.0.1,{ours},{},0,mymaster,127.0.0.1,{MASTER},0", id(7));
    desk.ask(Request::Hello(line));
    let told = "another sentinel says that it lives at our own address";
    assert!(desk.said.iter().any(|said| said.contains(told)), "{:?}", desk.said);
    assert!(!desk.has(EventKind::Sentinel));
}

#[test]
fn our_own_address_by_another_name_is_no_double() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.ask(own_hello(26_009));
    // What is asked there comes in here.
    let word = desk.sent.iter().find_map(|(_, command)| match command {
        Command::AskId { word } => word.as_ref().map(RunId::to_string),
        _ => None,
    });
    assert!(word.as_deref().is_some_and(|word| word != id(1).as_str()), "{:?}", desk.sent);
    let (host, port, candidate) = ("0.0.0.0".to_owned(), 1, word);
    let answer = desk.ask(Request::IsMasterDown { host, port, epoch: 0, candidate });
    assert_eq!(answer, Some(opinion(0, 0, 0)));
    let said = "from 127.0.0.1:26009, which is not the address that I say: I live there";
    assert!(desk.said.iter().any(|text| text.contains(said)), "{:?}", desk.said);
    desk.master_dies();
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.events);
}

#[test]
fn slow_answers_of_others_buy_little_time() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    let mut standing_back_ms = 0;
    for round in 0..300 {
        let port = 26_010 + round % 2;
        desk.ask(own_hello(port));
        let asked = desk.links.values().any(|to| to.port == port);
        for _ in 0..13 {
            desk.pass(100);
            standing_back_ms += if desk.sentinel.core.may_be_double() { 100 } else { 0 };
        }
        if asked {
            let word = Command::AskId { word: Some(id(9)) };
            desk.reply_from(port, word, Value::bulk(id(9).as_str()));
        }
    }
    assert!(standing_back_ms <= 30_000, "{standing_back_ms} of 390,000 ms");
    assert_eq!(desk.sentinel.view().my_id(), &id(1));
}

#[test]
pub(super) fn whoever_answers_in_a_peers_place_counts_for_nothing() {
    // The port of one peer leads to the other, or back to us.
    for other in [2, 1] {
        let mut desk = Desk::new(1, 2);
        desk.ids.insert(26_003, Value::bulk(id(other).as_str()));
        desk.connection_ends(26_003);
        desk.connection_stands(26_003, "127.0.0.1");
        desk.infos.remove(&at(MASTER));
        desk.pass(1_200);
        desk.answer_question(26_003, 1, "*", 0);
        assert!(!desk.has(EventKind::Odown), "{:?}", desk.events);
        let silent = format!("sentinel {} 127.0.0.1 26003 @ mymaster", id(3));
        let told = desk
            .events
            .iter()
            .any(|(kind, payload)| *kind == EventKind::Sdown && payload.starts_with(&silent));
        assert!(told, "{:?}", desk.events);
        assert!(desk.said.iter().any(|text| text.contains("is forwarded wrongly")));
        let quorum = desk.ask(Request::CkQuorum("mymaster".into()));
        assert!(matches!(&quorum, Some(Value::Simple(text)) if text.starts_with("OK 2 ")));
        // It is put right.
        desk.ids.insert(26_003, Value::bulk(id(3).as_str()));
        desk.connection_ends(26_003);
        desk.connection_stands(26_003, "127.0.0.1");
        desk.pass(1_200);
        desk.answer_question(26_003, 1, "*", 0);
        assert!(desk.has(EventKind::Odown), "{:?}", desk.events);
        assert!(desk.said.iter().any(|text| text.ends_with("itself again")), "{:?}", desk.said);
    }
}

#[test]
fn whoever_does_not_say_who_it_is_is_believed() {
    for answer in ["ERR Unknown sentinel subcommand 'MYID'", "NOPERM this user has no permissions"]
    {
        let mut desk = Desk::new(1, 2);
        desk.ids.insert(26_003, Value::error(answer));
        desk.connection_ends(26_003);
        desk.connection_stands(26_003, "127.0.0.1");
        desk.infos.remove(&at(MASTER));
        desk.pass(1_200);
        desk.answer_question(26_003, 1, "*", 0);
        assert!(desk.has(EventKind::Odown), "{:?}", desk.events);
        // A right that is missing is told, by name.
        let told = desk.events.iter().any(|(kind, payload)| {
            *kind == EventKind::ConfigError && payload.ends_with(" SENTINEL|MYID NOPERM")
        });
        assert_eq!(told, answer.starts_with("NOPERM"), "{:?}", desk.events);
    }
}

#[test]
fn our_own_question_gets_no_vote_of_ours() {
    let mut desk = Desk::new(1, 2);
    desk.pass(3_000);
    desk.master_dies();
    let epoch = desk.sentinel.view().current_epoch() as i64;
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.events);
    // What goes out to a peer comes in here: its port is forwarded to us.
    assert_eq!(
        desk.vote_for(1, epoch),
        Some(opinion(1, 0, 0)),
        "it would be counted as the peer's"
    );
}

#[test]
fn ckquorum_tells_of_a_double() {
    let mut desk = Desk::new(1, 2);
    desk.pass(3_000);
    desk.ask(own_hello(26_009));
    let told = desk.ask(Request::CkQuorum("mymaster".into()));
    assert!(
        matches!(&told, Some(Value::Error(text)) if text.contains("speaks with its id")),
        "{told:?}"
    );
}
