//! What an operator sets, asks and orders: `SENTINEL CONFIG`, `INFO-CACHE`, `SIMULATE-FAILURE`,
//! `DEBUG`, and a `FAILOVER` in which the master hands over.

use super::*;
use crate::config::types::Secret;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(|word| if word == "''" { "" } else { word }.to_owned()).collect()
}

impl Desk {
    fn config_set(&mut self, line: &str) -> Option<Value> {
        self.ask(Request::ConfigSet(words(line)))
    }

    fn config(&mut self, name: &str) -> String {
        let reply = self.ask(Request::ConfigGet(words(name)));
        let Some(Value::Map(pairs)) = reply else { panic!("{reply:?}") };
        assert_eq!(pairs.len(), 1, "{pairs:?}");
        pairs[0].1.text().expect("a text").to_owned()
    }

    /// Settled among two peers, with a master that shows its replicas.
    fn settled() -> Desk {
        let mut desk = Desk::new(1, 2);
        let slave = |n: usize, port: u16| {
            format!("slave{n}:ip=127.0.0.1,port={port},state=online,offset=1,lag=0\r\n")
        };
        let info = format!("role:master\r\n{}{}", slave(0, REPLICA), slave(1, OTHER_REPLICA));
        desk.infos.insert(at(MASTER), info);
        desk.pass(15_000);
        desk
    }

    /// What the last hello to that port said of where we are.
    fn said_to_live_at(&self, port: u16) -> Option<String> {
        self.sent.iter().rev().find_map(|(to, command)| match command {
            Command::Hello { payload } if to.port == port => {
                Some(payload.split(',').take(2).collect::<Vec<_>>().join(":"))
            }
            _ => None,
        })
    }
}

#[test]
fn what_config_set_changes_is_on_disk_before_it_is_answered_and_there_after_a_restart() {
    let mut desk = Desk::settled();
    assert_eq!(desk.writes.last().expect("written").1.live, None);
    desk.disk_works = false;
    let line = "loglevel debug announce-port 26999 sentinel-user joe sentinel-pass s3cret";
    assert_eq!(desk.config_set(line), None, "not before it is written");
    assert_eq!(desk.loglevel, Some(LogLevel::Debug), "in force at once");
    desk.write_ends();
    assert_eq!(desk.replies, [Value::ok()]);
    let state = desk.writes.last().expect("written").1.clone();
    let live = state.live.clone().expect("set");
    assert_eq!((live.settings.announce_port, live.declared.announce_port), (Some(26999), None));
    assert!(!format!("{state:?}").contains("s3cret"));

    let mut desk = Desk::restored(state.clone());
    assert_eq!(desk.loglevel, Some(LogLevel::Debug));
    for (name, value) in
        [("loglevel", "debug"), ("announce-port", "26999"), ("sentinel-pass", "s3cret")]
    {
        assert_eq!(desk.config(name), value);
    }
    desk.pass(3_000);
    assert_eq!(desk.writes.last().expect("written").1.live, state.live);
    desk.config_set("loglevel notice announce-port 0 sentinel-user '' sentinel-pass ''");
    assert_eq!(desk.writes.last().expect("written").1.live, None, "as configured again");
}

#[test]
fn what_cannot_be_saved_is_told_and_a_bad_line_changes_nothing() {
    let mut desk = Desk::settled();
    let error = "ERR Invalid value 'x' to SENTINEL CONFIG SET 'announce-port'";
    assert_eq!(desk.config_set("loglevel debug announce-port x"), Some(Value::error(error)));
    assert_eq!(desk.loglevel, None);
    desk.disk_works = false;
    assert_eq!(desk.config_set("announce-port 7"), None);
    desk.write_fails();
    let error = "ERR Failed to save config file. Check server logs.";
    assert_eq!(desk.replies, [Value::error(error)]);
    assert_eq!(desk.config("announce-port"), "7", "as in Redis it is in force");
}

#[test]
fn another_password_is_used_at_once_and_nobody_counts_as_down_for_it() {
    let mut desk = Desk::settled();
    let before = [26002, 26003].map(|port| desk.link_to(port));
    assert_eq!(desk.config_set("sentinel-user joe sentinel-pass geheim"), Some(Value::ok()));
    let links = [26002, 26003].map(|port| desk.link_to(port));
    assert!(links.iter().all(|link| !before.contains(link)), "opened anew");
    for link in links {
        let target = &desk.targets[&link];
        assert_eq!(target.user.as_deref(), Some("joe"));
        assert_eq!(target.password, Some(Secret::new("geheim")));
    }
    desk.pass(10_000);
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    // The same once more changes nothing.
    desk.config_set("sentinel-user joe sentinel-pass geheim loglevel notice");
    assert_eq!([26002, 26003].map(|port| desk.link_to(port)), links);
    // Nodes have passwords of their own.
    assert_eq!(desk.targets[&desk.link_to(MASTER)].password, None);
}

#[test]
fn another_address_is_said_at_once_and_our_own_last_words_do_not_frighten_us() {
    let mut desk = Desk::settled();
    assert_eq!(desk.said_to_live_at(MASTER).as_deref(), Some("127.0.0.1:26379"));
    let late = format!("127.0.0.1,26379,{},0,mymaster,127.0.0.1,{MASTER},0", id(1));
    desk.config_set("announce-ip 192.0.2.1 announce-port 7");
    for port in [MASTER, REPLICA, 26002] {
        assert_eq!(desk.said_to_live_at(port).as_deref(), Some("192.0.2.1:7"), "{port}");
    }
    desk.ask(Request::Hello(late));
    desk.master_dies();
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.said);
    assert_eq!(desk.config_set("announce-ip ''"), Some(Value::ok()));
    assert_eq!(desk.said_to_live_at(REPLICA).as_deref(), Some("127.0.0.1:7"), "unset");
}

#[test]
fn names_are_not_forbidden_while_somebody_is_known_by_one() {
    let mut desk = Desk::with(1, 2, |own, group| {
        own.resolve_hostnames = true;
        group.master = Address::new("db.example", MASTER);
    });
    desk.ips.insert("db.example".into(), "192.0.2.7".into());
    let reply = desk.config_set("announce-port 9 resolve-hostnames no");
    let Some(Value::Error(error)) = reply else { panic!("{reply:?}") };
    let begins = "ERR Invalid value 'no' to SENTINEL CONFIG SET 'resolve-hostnames'";
    assert!(error.starts_with(begins) && error.contains("db.example of mymaster"), "{error}");
    assert_eq!(desk.config("announce-port"), "0", "nothing else is changed either");
    desk.ask(Request::Remove("mymaster".into()));
    assert_eq!(desk.config_set("resolve-hostnames no"), Some(Value::ok()));
    let monitor = Request::Monitor {
        name: "again".into(),
        host: "db.example".into(),
        port: "1".into(),
        quorum: "1".into(),
    };
    let refused = "ERR Invalid IP address or hostname specified";
    assert_eq!(desk.ask(monitor), Some(Value::error(refused)));
}

#[test]
fn announced_names_are_shown_at_once() {
    let mut desk = Desk::with(1, 2, |own, group| {
        own.resolve_hostnames = true;
        group.master = Address::new("db.example", MASTER);
    });
    desk.pass(100);
    let shown = |desk: &mut Desk| {
        let reply = desk.ask(Request::MasterAddress("mymaster".into()));
        let Some(Value::Array(parts)) = reply else { panic!("{reply:?}") };
        parts[0].text().map(str::to_owned)
    };
    assert_eq!(shown(&mut desk).as_deref(), Some("127.0.0.1"));
    desk.config_set("announce-hostnames yes");
    assert_eq!(shown(&mut desk).as_deref(), Some("db.example"));
}

#[test]
fn info_cache_shows_what_each_node_said_last_and_how_long_ago() {
    let mut desk = Desk::settled();
    desk.infos.remove(&at(OTHER_REPLICA));
    let monitor = Request::Monitor {
        name: "dead".into(),
        host: "127.0.0.1".into(),
        port: "9".into(),
        quorum: "1".into(),
    };
    desk.ask(monitor);
    desk.pass(700);
    let names = words("nobody dead mymaster dead");
    let Some(Value::Array(parts)) = desk.ask(Request::InfoCache(names)) else { panic!("no array") };
    let [dead, of_dead, mymaster, of_mymaster] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!([dead.text(), mymaster.text()], [Some("dead"), Some("mymaster")]);
    let never = Value::Array(vec![Value::Integer(0), Value::Null]);
    assert_eq!(*of_dead, Value::Array(vec![never]));
    let Value::Array(nodes) = of_mymaster else { panic!("{of_mymaster:?}") };
    let expected = [MASTER, REPLICA, OTHER_REPLICA];
    assert_eq!(nodes.len(), expected.len());
    for (node, port) in nodes.iter().zip(expected) {
        let Value::Array(pair) = node else { panic!("{node:?}") };
        let [Value::Integer(age), text] = &pair[..] else { panic!("{pair:?}") };
        assert!((0..11_000).contains(age), "{age}");
        if let Some(info) = desk.infos.get(&at(port)) {
            assert_eq!(text.text(), Some(info.as_str()));
        }
    }
    assert_eq!(desk.ask(Request::InfoCache(words("nobody"))), Some(Value::Array(vec![])));
}

#[test]
fn a_simulated_crash_comes_right_after_what_it_waits_for() {
    for (flag, bit, moment) in [
        ("crash-after-election", 1, EventKind::ElectedLeader),
        ("CRASH-after-promotion", 2, EventKind::PromotedSlave),
    ] {
        let mut desk = Desk::settled();
        assert_eq!(desk.ask(Request::SimulateFailure(words(flag))), Some(Value::ok()));
        let shows = |desk: &mut Desk, bits: u8| {
            let info = desk
                .ask(Request::Info { running_scripts: 0, queued_scripts: 0 })
                .expect("an answer");
            let line = format!("sentinel_simulate_failure_flags:{bits}\r\n");
            assert!(info.text().is_some_and(|text| text.contains(&line)), "{info:?}");
        };
        shows(&mut desk, bit);
        desk.master_dies();
        desk.win();
        desk.infos.insert(at(REPLICA), "role:master\r\n".into());
        desk.pass(100);
        let [events] = desk.crashed[..] else { panic!("{flag}: {:?}", desk.crashed) };
        assert_eq!(desk.events[events - 1].0, moment, "{flag}");
        if moment == EventKind::PromotedSlave {
            let written = |(_, state): &(Revision, State)| {
                let group = &state.groups["mymaster"];
                (group.config_epoch, group.settings.master.port) == (1, REPLICA)
            };
            assert!(desk.writes.iter().any(written), "the new master is on disk");
        }
        let unknown = Value::error("ERR Unknown failure simulation specified");
        let reply = desk.ask(Request::SimulateFailure(words(&format!("{flag} explode"))));
        assert_eq!(reply, Some(unknown));
        shows(&mut desk, 0);
    }
    let mut desk = Desk::settled();
    let help = ["crash-after-election", "crash-after-promotion"].map(Value::bulk);
    let reply = desk.ask(Request::SimulateFailure(words("help")));
    assert_eq!(reply, Some(Value::Array(help.into())));
    desk.ask(Request::SimulateFailure(words("crash-after-election crash-after-promotion")));
    desk.ask(Request::SimulateFailure(words("help")));
    desk.master_dies();
    desk.win();
    desk.pass(100);
    assert!(desk.crashed.is_empty(), "asked for help, the last wish is forgotten");
}

/// How many commands of a kind go to that port within some time.
fn count(desk: &mut Desk, port: u16, ms: u64, kind: fn(&Command) -> bool) -> usize {
    let before = desk.sent.len();
    desk.pass(ms);
    desk.sent[before..].iter().filter(|(to, command)| to.port == port && kind(command)).count()
}

#[test]
fn info_is_asked_for_every_10_s_and_every_second_in_trouble() {
    let mut desk = Desk::settled();
    let infos = |desk: &mut Desk, ms: u64| {
        let told = |desk: &Desk| {
            desk.sentinel.groups["mymaster"].replicas.get(&at(REPLICA)).unwrap().infos
        };
        let before = told(desk);
        desk.pass(ms);
        told(desk) - before
    };
    let calm = infos(&mut desk, 100_000);
    assert!((9..=11).contains(&calm), "{calm}");
    desk.infos.remove(&at(MASTER));
    desk.pass(5_000);
    let trouble = infos(&mut desk, 20_000);
    assert!((18..=22).contains(&trouble), "{trouble}");
}

#[test]
fn the_times_of_debug_are_those_in_force() {
    let mut desk = Desk::settled();
    let debug = |desk: &mut Desk, line: &str| {
        assert_eq!(desk.ask(Request::Debug(words(line))), Some(Value::ok()), "{line}");
    };
    let is_hello: fn(&Command) -> bool = |command| matches!(command, Command::Hello { .. });
    assert!((9..=11).contains(&count(&mut desk, MASTER, 20_000, is_hello)));
    debug(&mut desk, "publish-period 500");
    assert!((38..=43).contains(&count(&mut desk, MASTER, 20_000, is_hello)));
    debug(&mut desk, "Publish-Period 60000");
    assert!(count(&mut desk, REPLICA, 50_000, is_hello) <= 1);
    // Its own subscription does not look dead for that.
    let links = desk.links.clone();
    desk.pass(200_000);
    assert_eq!(desk.links, links);
    debug(&mut desk, "publish-period 2000");

    let age = |desk: &mut Desk| {
        let master = desk.ask(Request::Master("mymaster".into())).expect("an answer");
        let Value::Map(pairs) = master else { panic!("{master:?}") };
        let field = pairs.iter().find(|(name, _)| name.text() == Some("info-refresh"));
        field.and_then(|(_, ms)| ms.text()?.parse::<u64>().ok()).expect("a number")
    };
    debug(&mut desk, "info-period 300");
    for _ in 0..20 {
        desk.pass(170);
        assert!(age(&mut desk) <= 300);
    }
    debug(&mut desk, "info-period 10000 default-down-after 77 default-failover-timeout 88");
    let monitor = Request::Monitor {
        name: "other".into(),
        host: "127.0.0.1".into(),
        port: "9".into(),
        quorum: "1".into(),
    };
    desk.ask(monitor);
    let settings = &desk.writes.last().expect("written").1.groups["other"].settings;
    assert_eq!((settings.down_after_ms, settings.failover_timeout_ms), (77, 88));
    desk.ask(Request::Remove("other".into()));

    debug(&mut desk, "tilt-trigger 600 tilt-period 300");
    let at_rest = desk.now_ms;
    desk.now_ms += 1_900;
    desk.input(Input::Wake);
    assert!(desk.has(EventKind::Tilt), "{:?}", desk.events);
    desk.pass(310);
    assert!(desk.has(EventKind::TiltEnd) && desk.now_ms - at_rest < 2_300, "{:?}", desk.events);

    debug(&mut desk, "ask-period 200 election-timeout 400 slave-reconf-timeout 5 ping-period 20");
    let asks: fn(&Command) -> bool = |command| matches!(command, Command::IsMasterDown { .. });
    desk.infos.remove(&at(MASTER));
    desk.pass(1_100);
    assert!(desk.has(EventKind::Sdown), "pinged every 20 ms");
    desk.answer_question(26002, 0, "*", 0);
    desk.pass(210);
    desk.answer_question(26002, 0, "*", 0);
    assert_eq!(count(&mut desk, 26002, 100, asks), 0);
    assert_eq!(count(&mut desk, 26002, 60, asks), 1, "asked again after 200 ms");
    desk.answer_question(26002, 1, "*", 0);
    assert!(desk.has(EventKind::TryFailover));
    desk.pass(390);
    assert!(!desk.has(EventKind::AbortNotElected));
    desk.pass(20);
    assert!(desk.has(EventKind::AbortNotElected), "{:?}", desk.events);
}

fn hand_over(desk: &Desk) -> Vec<(u16, Address, u64)> {
    let found = desk.sent.iter().filter_map(|(to, command)| match command {
        Command::HandOver { to: replica, timeout_ms } => {
            Some((to.port, replica.clone(), *timeout_ms))
        }
        _ => None,
    });
    found.collect()
}

/// Ordered, and elected by both peers.
fn order(desk: &mut Desk) {
    assert_eq!(desk.ask(Request::HandOver("mymaster".into())), Some(Value::ok()));
    desk.win();
    desk.pass(10);
}

#[test]
fn a_master_that_may_not_be_told_to_hold_writes_hands_its_role_over_itself() {
    let mut desk = Desk::settled();
    order(&mut desk);
    assert_eq!(hand_over(&desk), [(MASTER, at(REPLICA), 3_000)]);
    let command = Command::HandOver { to: at(REPLICA), timeout_ms: 3_000 };
    assert_eq!(
        command.requests(&BTreeMap::new()),
        [words("FAILOVER TO 127.0.0.1 7002 TIMEOUT 3000")]
    );
    desk.reply_from(MASTER, command, Value::ok());
    desk.pass(200);
    assert!(desk.promotions().is_empty() && !desk.has(EventKind::PromotedSlave));
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 600, true));
    desk.pass(200);
    assert!(desk.promotions().is_empty());
    let kinds: Vec<EventKind> = desk.events.iter().map(|(kind, _)| *kind).collect();
    let order = [
        EventKind::TryFailover,
        EventKind::ElectedLeader,
        EventKind::SelectedSlave,
        EventKind::StateWaitPromotion,
        EventKind::PromotedSlave,
        EventKind::SwitchMaster,
    ];
    let mut rest = kinds.iter();
    assert!(order.iter().all(|kind| rest.any(|k| k == kind)), "{kinds:?}");
    for port in [MASTER, REPLICA] {
        assert!(desk.sent.contains(&(at(port), Command::HandedOver)), "{port}");
    }
    let follow = Command::Follow { master: at(REPLICA) };
    assert!(!desk.sent.contains(&(at(MASTER), follow.clone())), "it follows by itself");
    assert!(desk.sent.contains(&(at(OTHER_REPLICA), follow)));
}

#[test]
fn where_the_master_cannot_hand_over_either_it_is_given_up() {
    // A version that knows no FAILOVER, or a user that may not send it.
    for error in ["ERR unknown command 'FAILOVER'", "NOPERM no permissions"] {
        let mut desk = Desk::settled();
        order(&mut desk);
        let [(_, to, timeout_ms)] = &hand_over(&desk)[..] else { panic!("not asked") };
        let command = Command::HandOver { to: to.clone(), timeout_ms: *timeout_ms };
        desk.reply_from(MASTER, command, Value::error(error));
        assert!(desk.promotions().is_empty() && desk.has(EventKind::AbortSlaveTimeout));
        for why in [error, "CLIENT PAUSE"] {
            assert!(desk.said.iter().any(|said| said.contains(why)), "{:?}", desk.said);
        }
    }
    // A master that does not list the replica.
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    order(&mut desk);
    assert_eq!((desk.promotions(), hand_over(&desk).len()), (vec![], 0));
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
    // One that is down has nothing to hand over.
    let mut desk = Desk::settled();
    desk.infos.remove(&at(MASTER));
    desk.pass(1_200);
    order(&mut desk);
    assert_eq!((desk.promotions(), hand_over(&desk).len()), (vec![REPLICA], 0));
}

#[test]
fn a_hand_over_that_comes_to_nothing_promotes_nobody() {
    let mut desk = Desk::settled();
    order(&mut desk);
    desk.pass(6_000);
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
    assert!(desk.promotions().is_empty() && !desk.has(EventKind::SwitchMaster));
    // What it answers by now is no answer to anything.
    let command = Command::HandOver { to: at(REPLICA), timeout_ms: 3_000 };
    desk.reply_from(MASTER, command, Value::error("ERR too late"));
    assert!(desk.promotions().is_empty());
}
