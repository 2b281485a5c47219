//! What settings promise of links: with which password, name and address others are called, and as
//! whom this sentinel shows itself; and that a silent one is opened anew.

use super::*;
use crate::config::types::Secret;

/// User and password with which this port is called.
fn credentials(desk: &Desk, port: u16) -> (Option<String>, Option<Secret>) {
    let target = &desk.targets[&desk.link_to(port)];
    (target.user.clone(), target.password.clone())
}

fn given(user: &str, password: &str) -> (Option<String>, Option<Secret>) {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (some(user), some(password).map(Secret::new))
}

#[test]
fn sentinels_are_called_with_the_password_that_they_share_or_with_the_one_for_them() {
    let desk = Desk::with(1, 2, |own, _| own.requirepass = Some(Secret::new("shared")));
    assert_eq!(credentials(&desk, 26002), given("", "shared"));
    assert_eq!(credentials(&desk, MASTER), given("", ""), "it is no node's business");
    let desk = Desk::with(1, 2, |own, _| {
        own.requirepass = Some(Secret::new("shared"));
        own.sentinel_user = Some("watcher".into());
        own.sentinel_pass = Some(Secret::new("special"));
    });
    assert_eq!(credentials(&desk, 26003), given("watcher", "special"));
}

#[test]
fn a_sentinel_that_moves_is_called_with_the_password_too() {
    let mut desk = Desk::with(1, 2, |own, _| own.requirepass = Some(Secret::new("shared")));
    desk.pass(2_000);
    let moved = format!("127.0.0.1,26012,{},0,mymaster,127.0.0.1,{MASTER},0", id(2));
    desk.ask(Request::Hello(moved));
    assert_eq!(credentials(&desk, 26012), given("", "shared"));
    assert!(!desk.links.values().any(|to| to.port == 26002), "{:?}", desk.links);
    let before = desk.sent.len();
    desk.pass(3_000);
    let said = desk.sent[before..].iter().filter(|(to, _)| to.port == 26012).count();
    assert!(said > 0, "it hears from us at its new address: {:?}", desk.sent);
}

#[test]
fn nodes_are_called_with_the_user_the_password_and_the_command_names_of_their_group() {
    let desk = Desk::with(1, 2, |_, group| {
        group.auth_user = Some("watcher".into());
        group.auth_pass = Some(Secret::new("s3cret"));
        group.rename_commands.insert("CONFIG".into(), "hidden".into());
    });
    for port in [MASTER, REPLICA, OTHER_REPLICA] {
        assert_eq!(credentials(&desk, port), given("watcher", "s3cret"));
        let names = &desk.targets[&desk.link_to(port)].rename_commands;
        assert_eq!(names.get("CONFIG").map(String::as_str), Some("hidden"));
    }
    let of_peers = &desk.targets[&desk.link_to(26002)].rename_commands;
    assert!(of_peers.is_empty(), "sentinels keep their names");
}

#[test]
fn all_nodes_are_called_anew_when_an_operator_changes_how() {
    for line in ["auth-pass new", "auth-user new", "rename-command CONFIG new"] {
        let mut desk = Desk::new(1, 2);
        desk.pass(2_000);
        let before: Vec<LinkId> = desk.links.keys().copied().collect();
        let options = line.split(' ').map(str::to_owned).collect();
        let reply = desk.ask(Request::Set { name: "mymaster".into(), options });
        assert_eq!(reply, Some(Value::ok()));
        for port in [MASTER, REPLICA, OTHER_REPLICA] {
            let link = desk.link_to(port);
            assert!(!before.contains(&link), "{line}: {port}");
            let target = &desk.targets[&link];
            let new = match line.split(' ').next() {
                Some("auth-pass") => target.password == Some(Secret::new("new")),
                Some("auth-user") => target.user.as_deref() == Some("new"),
                _ => target.rename_commands.values().eq(["new"]),
            };
            assert!(new, "{line}: {target:?}");
        }
        assert!(before.contains(&desk.link_to(26002)), "sentinels have nothing to do with it");
        assert_eq!(desk.links.len(), 5, "the old ones are closed: {:?}", desk.links);
    }
}

#[test]
fn a_quorum_changed_by_an_operator_disturbs_no_link() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let before = desk.links.clone();
    let options = ["quorum", "3"].map(str::to_owned).to_vec();
    desk.ask(Request::Set { name: "mymaster".into(), options });
    assert_eq!(desk.links, before);
}

/// The sender of each hello that went out.
fn senders(desk: &Desk) -> Vec<(u16, String)> {
    let sender = |(to, command): &(Address, Command)| match command {
        Command::Hello { payload } => {
            let fields: Vec<&str> = payload.split(',').take(2).collect();
            Some((to.port, fields.join(",")))
        }
        _ => None,
    };
    desk.sent.iter().filter_map(sender).collect()
}

#[test]
fn hellos_give_the_address_that_is_to_be_announced() {
    let port = crate::config::settings::SENTINEL_PORT;
    for (ip, announced_port, expected) in [
        (None, None, format!("127.0.0.1,{port}")),
        (Some("203.0.113.7"), None, format!("203.0.113.7,{port}")),
        (None, Some(26_400), "127.0.0.1,26400".to_owned()),
        (Some("203.0.113.7"), Some(26_400), "203.0.113.7,26400".to_owned()),
        (None, Some(0), format!("127.0.0.1,{port}")),
    ] {
        let mut desk = Desk::with(1, 2, |own, _| {
            own.announce_ip = ip.map(str::to_owned);
            own.announce_port = announced_port;
        });
        desk.pass(3_000);
        let senders = senders(&desk);
        for port in [MASTER, REPLICA, OTHER_REPLICA, 26_002, 26_003] {
            assert!(senders.iter().any(|(to, _)| *to == port), "nothing for {port}");
        }
        assert!(senders.iter().all(|(_, sender)| *sender == expected), "{senders:?}");
    }
}

#[test]
fn a_hello_of_ours_from_the_announced_address_is_nobody_elses() {
    let mut desk = Desk::with(1, 2, |own, _| {
        own.announce_ip = Some("203.0.113.7".into());
        own.announce_port = Some(26_400);
    });
    for _ in 0..5 {
        let line = format!("203.0.113.7,26400,{},0,mymaster,127.0.0.1,{MASTER},0", id(1));
        desk.ask(Request::Hello(line));
        desk.pass(2_000);
    }
    assert_eq!(desk.sentinel.view().my_id(), &id(1));
}

/// A group whose master has a name, which means 127.0.0.1.
fn named(announced: bool) -> Desk {
    Desk::with(1, 2, |own, group| {
        own.resolve_hostnames = true;
        own.announce_hostnames = announced;
        group.master.host = "redis.example".into();
    })
}

fn master_of(desk: &mut Desk) -> String {
    let Some(Value::Array(parts)) = desk.ask(Request::MasterAddress("mymaster".into())) else {
        panic!("no master: {:?}", desk.replies);
    };
    parts[0].text().expect("a host").to_owned()
}

#[test]
fn names_are_shown_only_where_they_are_to_be_announced() {
    for (announced, shown) in [(false, "127.0.0.1"), (true, "redis.example")] {
        let mut desk = named(announced);
        desk.pass(3_000);
        assert_eq!(master_of(&mut desk), shown);
        let names_master = |(_, command): &(Address, Command)| match command {
            Command::Hello { payload } => payload.split(',').nth(5).map(str::to_owned),
            _ => None,
        };
        let told: Vec<String> = desk.sent.iter().filter_map(names_master).collect();
        assert!(!told.is_empty() && told.iter().all(|host| host == shown), "{told:?}");
    }
}

#[test]
fn a_master_with_a_name_is_meant_by_its_address_and_by_its_name_in_any_case() {
    for host in ["127.0.0.1", "redis.example", "REDIS.Example"] {
        let mut desk = named(false);
        for port in [REPLICA, OTHER_REPLICA] {
            let info = replica_info(MASTER, 400, true);
            let info = info.replace("master_host:127.0.0.1", &format!("master_host:{host}"));
            desk.infos.insert(at(port), info);
        }
        desk.pass(90_000);
        let orders = desk.sent.iter().filter(|(_, c)| matches!(c, Command::Follow { .. })).count();
        assert_eq!(orders, 0, "{host}: its replicas follow it already");
        assert!(!desk.said.iter().any(|text| text.contains(LEFT_ALONE)), "{:?}", desk.said);
        desk.infos.remove(&Address::new("redis.example", MASTER));
        desk.pass(1_500);
        let (host, port) = (host.to_owned(), i64::from(MASTER));
        let question = Request::IsMasterDown { host, port, epoch: 0, candidate: None };
        assert_eq!(desk.ask(question), Some(opinion(1, 0, 0)));
    }
}

#[test]
fn a_name_that_seems_to_mean_another_node_by_now_is_asked_for_again() {
    let run_id = format!("run_id:{}\r\n", id(9));
    let demoted = replica_info(REPLICA, 500, true);
    // The master is somebody's replica, or one of our replicas under another address.
    for info in [demoted, format!("role:master\r\n{run_id}")] {
        let mut desk = named(false);
        desk.infos.insert(at(REPLICA), replica_info(MASTER, 500, true) + &run_id);
        desk.infos.insert(Address::new("redis.example", MASTER), info.clone());
        let before = desk.link_to(MASTER);
        desk.pass(1_000);
        assert_eq!(master_of(&mut desk), "127.0.0.1");
        desk.ips.insert("redis.example".into(), "127.0.0.9".into());
        desk.pass(16_000);
        assert_ne!(desk.link_to(MASTER), before, "{info}");
        assert_eq!(master_of(&mut desk), "127.0.0.9");
    }
    let mut desk = named(false);
    let before = desk.link_to(MASTER);
    desk.pass(4_000);
    assert_eq!(desk.link_to(MASTER), before, "with which all is well");
}

#[test]
pub(super) fn a_master_that_is_known_by_name_and_by_address_is_not_sent_to_itself() {
    // A hello named the address before any connection had told what the name means.
    for (run_ids, far) in [(true, false), (false, false), (true, true)] {
        let mut desk = named(false);
        let name = Address::new("redis.example", MASTER);
        let runs = |n: u8| match run_ids {
            true => format!("role:master\r\nrun_id:{}\r\n", id(n)),
            false => "role:master\r\n".into(),
        };
        if far {
            // It has another address, too: only its run id tells.
            desk.ips.insert("redis.example".into(), "203.0.113.5".into());
        }
        let group = desk.sentinel.groups.get_mut("mymaster").expect("the group");
        group.master.resolved = None;
        desk.infos.remove(&name);
        desk.infos.insert(at(MASTER), runs(8));
        desk.hello(2, 5, MASTER, 5);
        let link = *desk.links.iter().find(|(_, to)| **to == name).expect("a link").0;
        let remote_ip = desk.ips.get(&name.host).map_or("127.0.0.1", String::as_str).to_owned();
        let event = LinkEvent::Up { local_ip: "127.0.0.1".into(), remote_ip };
        desk.input(Input::Link { link, event });
        for life in [8, 9] {
            for at in [&name, &at(MASTER)] {
                desk.infos.insert(at.clone(), runs(life));
            }
            desk.pass(60_000);
        }
        assert_eq!(master_of(&mut desk), "127.0.0.1");
        let orders = |port: u16| {
            let order = |(to, c): &&(Address, Command)| {
                to.port == port && matches!(c, Command::Follow { .. })
            };
            desk.sent.iter().filter(order).count()
        };
        assert_eq!(orders(MASTER), 0, "{run_ids} {far}: {:?}", desk.events);
        desk.ask(Request::Reset("mymaster".into()));
        desk.pass(10_000);
        let shown = format!("{:?}", desk.ask(Request::Replicas("mymaster".into())));
        assert!(!shown.contains("redis.example"), "{shown}");
    }
}

#[test]
fn what_a_name_means_is_known_before_a_connection_stands() {
    // The master is down when the sentinel starts; others, who met it before, show its address.
    let mut desk = named(false);
    let group = desk.sentinel.groups.get_mut("mymaster").expect("the group");
    (group.master.resolved, group.master.local_ip) = (None, None);
    let name = Address::new("redis.example", MASTER);
    let link = *desk.links.iter().find(|(_, to)| **to == name).expect("a link").0;
    desk.input(Input::Link { link, event: LinkEvent::Down { reason: LostReason::Refused } });
    desk.infos.remove(&name);
    let asks = |desk: &mut Desk| {
        let (host, port) = ("203.0.113.5".to_owned(), i64::from(MASTER));
        desk.ask(Request::IsMasterDown { host, port, epoch: 0, candidate: None })
    };
    desk.pass(1_500);
    assert_eq!(asks(&mut desk), Some(opinion(0, 0, 0)), "nobody told what the name means");
    let ips = vec!["2001:db8::5".to_owned(), "203.0.113.5".to_owned()];
    desk.input(Input::Link { link, event: LinkEvent::Resolved { ips } });
    assert_eq!(asks(&mut desk), Some(opinion(1, 0, 0)));
    assert_eq!(master_of(&mut desk), "redis.example", "until a connection stands");
    // A later lookup takes its place.
    let ips = vec!["203.0.113.6".to_owned()];
    desk.input(Input::Link { link, event: LinkEvent::Resolved { ips } });
    assert_eq!(asks(&mut desk), Some(opinion(0, 0, 0)));
}

#[test]
fn hellos_carry_the_port_that_others_reach() {
    for (port, tls_port, links, announced, hello) in [
        (26001, 0, false, None, Some(26001)),
        (26001, 26101, false, None, Some(26001)),
        (26001, 26101, true, None, Some(26101)),
        (0, 26101, false, None, Some(26101)),
        (0, 26101, true, Some(5), Some(5)),
        (0, 0, true, None, None),
    ] {
        let mut desk = Desk::with(1, 2, |settings, _| {
            settings.port = port;
            (settings.transport.tls.port, settings.transport.tls.links) = (tls_port, links);
            settings.announce_port = announced;
        });
        desk.pass(3_000);
        let said = desk.sent.iter().find_map(|(_, command)| match command {
            Command::Hello { payload } => hello::Hello::parse(payload).ok(),
            _ => None,
        });
        assert_eq!(said.map(|said| said.sender.port), hello, "{port} {tls_port} {links}");
    }
}

#[test]
pub(super) fn a_silent_connection_is_opened_anew() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let link = |desk: &Desk| desk.links.iter().find(|(_, to)| **to == at(MASTER)).map(|l| *l.0);
    let before = link(&desk);
    desk.infos.remove(&at(MASTER));
    desk.pass(3_000);
    assert_ne!(link(&desk), before);
}

/// Nobody listens on the master's port: attempts to connect end so at these times from now, in ms.
/// Returns the moment at which it is called down, if it is.
fn refused(desk: &mut Desk, at_ms: &[u64]) -> Option<u64> {
    let (begin, link) = (desk.now_ms, desk.link_to(MASTER));
    desk.infos.remove(&at(MASTER));
    for ms in at_ms {
        desk.pass(begin + ms - desk.now_ms);
        desk.input(Input::Link { link, event: LinkEvent::Down { reason: LostReason::Refused } });
        if desk.has(EventKind::Sdown) {
            return Some(desk.now_ms - begin);
        }
    }
    None
}

fn impatient() -> Desk {
    let mut desk = Desk::with(1, 2, |_, group| {
        (group.down_after_ms, group.refused_after_ms) = (30_000, 200);
    });
    desk.pass(5_000);
    desk.connection_ends(MASTER);
    desk
}

#[test]
pub(super) fn whose_port_is_closed_for_refused_after_is_down_without_waiting_for_down_after() {
    let mut desk = impatient();
    assert_eq!(refused(&mut desk, &[10, 30, 70, 150, 310]), Some(310));
    let said = "127.0.0.1:7001 has refused all connections for 300 ms: its process is gone";
    assert_eq!(desk.said, [said]);
    // It is agreed upon as ever.
    assert!(!desk.has(EventKind::Odown));
    desk.answer_question(26002, 1, "*", 0);
    assert!(desk.has(EventKind::Odown));
    assert_eq!(desk.vote_for(2, 5), Some(opinion(1, 1, 1)), "others are told, too");

    let mut desk = Desk::with(1, 2, |_, group| group.down_after_ms = 30_000);
    desk.pass(5_000);
    desk.connection_ends(MASTER);
    let every_second: Vec<u64> = (0..29).map(|s| s * 1_000).collect();
    assert_eq!(refused(&mut desk, &every_second), None, "nobody asked for it");
    desk.pass(2_100);
    assert!(desk.has(EventKind::Sdown), "silence it is all the same");
    assert_eq!(desk.said, [""; 0]);
}

#[test]
pub(super) fn whatever_is_no_refusal_ends_the_count() {
    let up = || LinkEvent::Up { local_ip: "127.0.0.1".into(), remote_ip: "127.0.0.1".into() };
    let down = |reason| LinkEvent::Down { reason };
    for between in [
        down(LostReason::TimedOut),
        down(LostReason::Closed),
        down(LostReason::Unresolved("no answer".into())),
        down(LostReason::Rejected("NOAUTH".into())),
        down(LostReason::Other("No route to host".into())),
        up(),
    ] {
        let mut desk = impatient();
        let link = desk.link_to(MASTER);
        assert_eq!(refused(&mut desk, &[10, 150]), None);
        desk.input(Input::Link { link, event: between.clone() });
        assert_eq!(refused(&mut desk, &[10, 150]), None, "{between:?}");
        assert_eq!(refused(&mut desk, &[80]), Some(80), "a count of its own: {between:?}");
        desk.input(Input::Link { link, event: between.clone() });
        assert!(desk.has(EventKind::SdownEnd), "{between:?}");
    }
}

#[test]
fn a_refusal_of_long_ago_says_nothing_and_time_not_watched_does_not_count() {
    // Where no attempt ends, nobody knows; whoever was refused before is silent, no more.
    let mut desk = impatient();
    assert_eq!(refused(&mut desk, &[10, 250]), Some(250));
    desk.pass(2_400);
    assert!(!desk.has(EventKind::SdownEnd), "the next attempt may take so long");
    desk.pass(200);
    assert!(desk.has(EventKind::SdownEnd), "{:?}", desk.events);

    // A process that stood still made no attempts meanwhile.
    for stall_ms in [1_500, 10_000] {
        let mut desk = impatient();
        assert_eq!(refused(&mut desk, &[10, 150]), None);
        desk.now_ms += stall_ms;
        desk.input(Input::Wake);
        assert_eq!(refused(&mut desk, &[1]), None, "after {stall_ms} ms");
    }
}

#[test]
fn replicas_are_called_down_by_refusals_and_sentinels_are_not() {
    let mut desk = impatient();
    for port in [REPLICA, 26002] {
        let link = desk.link_to(port);
        for _ in 0..10 {
            let event = LinkEvent::Down { reason: LostReason::Refused };
            desk.input(Input::Link { link, event });
            desk.pass(30);
        }
    }
    let down = desk.events.iter().filter(|(kind, _)| *kind == EventKind::Sdown);
    let down: Vec<_> = down.map(|(_, payload)| payload.split(' ').next()).collect();
    assert_eq!(down, [Some("slave")]);
    let set = |ms: &str| Request::Set {
        name: "mymaster".into(),
        options: vec!["refused-after".into(), ms.into()],
    };
    assert_eq!(desk.ask(set("0")), Some(Value::ok()));
    assert!(desk.has(EventKind::SdownEnd), "off again: {:?}", desk.events);
    let wrong = "ERR Invalid argument '-1' for SENTINEL SET 'refused-after'";
    assert_eq!(desk.ask(set("-1")), Some(Value::error(wrong)));
    let shown = |desk: &mut Desk| {
        let entry = desk.ask(Request::Master("mymaster".into()));
        let Some(Value::Map(fields)) = entry else { panic!("{entry:?}") };
        let (name, value) = fields.last().expect("fields");
        (name.text() == Some("refused-after")).then(|| value.text().unwrap_or("").to_owned())
    };
    assert_eq!(shown(&mut desk), None);
    desk.ask(set("250"));
    assert_eq!(shown(&mut desk).as_deref(), Some("250"));
    let written = &desk.writes.last().expect("written").1;
    assert_eq!(written.groups["mymaster"].settings.refused_after_ms, 250);
}
