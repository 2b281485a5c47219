//! Scripts: which events `notification-script` is told of, and when a new master is told to
//! `client-reconfig-script`. Neither is told anything sooner than subscribers are.

use super::*;

const TELL: &str = "/scripts/tell";
const MOVE: &str = "/scripts/move";

/// A sentinel whose group has both scripts.
fn desk() -> Desk {
    Desk::with(1, 2, |_, group| {
        group.notification_script = Some(TELL.into());
        group.client_reconfig_script = Some(MOVE.into());
    })
}

impl Desk {
    /// What this script was told, each time with the number of events before it.
    fn told(&self, script: &str) -> Vec<(usize, String)> {
        let calls = self.scripts.iter().filter(|(_, argv)| argv[0] == script);
        calls.map(|(events, argv)| (*events, argv[1..].join(" "))).collect()
    }

    fn moves(&self) -> Vec<String> {
        self.told(MOVE).into_iter().map(|(_, args)| args).collect()
    }

    /// The place of an event that happened once, counted from 1.
    fn place(&self, kind: EventKind) -> usize {
        self.events.iter().position(|(k, _)| *k == kind).expect("it happened") + 1
    }

    /// What the notification script must have been told by now, if this group is all there is.
    fn due(&self) -> Vec<(usize, String)> {
        let told = |(at, (kind, payload)): (usize, &(EventKind, String))| {
            let is_due = kind.level() == Level::Warning && !kind.name().ends_with("tilt");
            is_due.then(|| (at + 1, format!("{} {payload}", kind.name())))
        };
        self.events.iter().enumerate().filter_map(told).collect()
    }

    fn leads_a_failover(&mut self) {
        self.pass(5_000);
        self.master_dies();
        self.win();
        self.infos.insert(at(REPLICA), "role:master\r\n".into());
        self.pass(100);
    }
}

#[test]
fn the_notification_script_is_told_each_warning_right_behind_its_event() {
    let mut desk = desk();
    desk.leads_a_failover();
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 500, true));
    desk.pass(2_000);
    desk.hello(2, 9, REPLICA, 1);
    desk.ask(Request::Reset("*".into()));
    desk.connection_ends(OTHER_REPLICA);
    desk.pass(20_000);
    assert_eq!(desk.told(TELL), desk.due());
    let told = |name: &str| desk.told(TELL).iter().any(|(_, args)| args.starts_with(name));
    for name in [
        "+monitor master mymaster 127.0.0.1 7001 quorum 2",
        "+new-epoch 1",
        "+vote-for-leader ",
        "+try-failover ",
        "+promoted-slave ",
        "+switch-master mymaster 127.0.0.1 7001 127.0.0.1 7002",
        "+failover-end ",
        "+new-epoch 9",
        "+reset-master ",
        "+sdown slave ",
    ] {
        assert!(told(name), "{name}: {:?}", desk.told(TELL));
    }
    assert!(!told("+slave") && !told("+slave-reconf"), "{:?}", desk.told(TELL));
}

#[test]
fn a_sentinel_that_does_not_watch_its_clock_tells_no_script() {
    let mut desk = desk();
    desk.pass(2_000);
    desk.now_ms += 60_000;
    desk.input(Input::Wake);
    desk.pass(5_000);
    assert!(desk.has(EventKind::Tilt) && desk.has(EventKind::TiltEnd), "{:?}", desk.events);
    assert_eq!(desk.told(TELL), desk.due());
    assert!(desk.told(TELL).iter().all(|(_, args)| !args.contains("tilt")));
}

#[test]
fn the_leader_tells_its_clients_once_the_promotion_is_durable() {
    let mut desk = desk();
    desk.pass(5_000);
    desk.master_dies();
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.disk_works = false;
    desk.pass(100);
    let (_, state) = desk.writes.last().expect("a write");
    assert_eq!(state.groups["mymaster"].settings.master, at(REPLICA));
    assert!(desk.moves().is_empty() && !desk.has(EventKind::PromotedSlave), "{:?}", desk.events);
    desk.write_ends();
    assert_eq!(desk.moves(), ["mymaster leader start 127.0.0.1 7001 127.0.0.1 7002"]);
    assert_eq!(desk.told(MOVE)[0].0, desk.place(EventKind::StateReconfSlaves));
    assert_eq!(desk.told(MOVE)[0].0 + 1, desk.place(EventKind::SwitchMaster));
    desk.disk_works = true;
    desk.pass(30_000);
    assert_eq!(desk.moves().len(), 1);
}

#[test]
fn an_observer_tells_its_clients_behind_the_switch() {
    let mut desk = desk();
    desk.pass(5_000);
    desk.disk_works = false;
    desk.hello(2, 4, REPLICA, 4);
    desk.pass(1_000);
    assert!(desk.moves().is_empty() && !desk.has(EventKind::SwitchMaster));
    desk.disk_works = true;
    desk.write_ends();
    desk.pass(1_000);
    assert_eq!(desk.moves(), ["mymaster observer start 127.0.0.1 7001 127.0.0.1 7002"]);
    assert!(desk.told(MOVE)[0].0 >= desk.place(EventKind::SwitchMaster));
    // The same again, and a higher epoch without another master, is nothing new.
    desk.hello(2, 4, REPLICA, 4);
    desk.hello(3, 7, REPLICA, 7);
    desk.pass(5_000);
    assert_eq!(desk.moves().len(), 1);
    assert_eq!(desk.told(TELL), desk.due());
}

#[test]
fn while_the_disk_fails_scripts_are_told_what_subscribers_are() {
    let mut desk = desk();
    desk.pass(2_000);
    desk.disk_works = false;
    desk.hello(2, 4, REPLICA, 4);
    desk.write_fails();
    assert_eq!(desk.moves(), ["mymaster observer start 127.0.0.1 7001 127.0.0.1 7002"]);
    assert_eq!(desk.told(TELL), desk.due());
    assert!(desk.told(TELL).iter().all(|(_, args)| !args.starts_with("+new-epoch")));
    // Another change, while it is known that writing fails.
    desk.hello(2, 6, OTHER_REPLICA, 6);
    assert_eq!(desk.moves().len(), 2);
    assert_eq!(desk.told(TELL), desk.due());
    desk.disk_works = true;
    desk.pass(2_000);
    assert_eq!(desk.told(TELL).len(), desk.due().len());
    assert!(desk.told(TELL).iter().any(|(_, args)| args == "+new-epoch 6"));
}

#[test]
fn names_are_told_where_names_are_announced() {
    for (announced, shown) in [(true, "redis.example"), (false, "127.0.0.1")] {
        let mut desk = Desk::with(1, 2, |own, group| {
            own.resolve_hostnames = true;
            own.announce_hostnames = announced;
            group.master = Address::new("redis.example", MASTER);
            group.client_reconfig_script = Some(MOVE.into());
        });
        desk.pass(3_000);
        desk.hello(2, 4, REPLICA, 4);
        let expected = format!("mymaster observer start {shown} 7001 127.0.0.1 7002");
        assert_eq!(desk.moves(), [expected]);
    }
}

#[test]
fn a_script_that_is_set_is_told_so_itself_and_one_that_is_taken_away_is_not() {
    let mut desk = Desk::with(1, 2, |own, _| own.deny_scripts_reconfig = false);
    desk.pass(1_000);
    let set = |option: &str, value: &str| {
        let words = ["quorum", "3", option, value, "parallel-syncs", "2"];
        Request::Set { name: "mymaster".into(), options: words.map(str::to_owned).to_vec() }
    };
    desk.ask(set("notification-script", TELL));
    let told: Vec<String> = desk.told(TELL).into_iter().map(|(_, args)| args).collect();
    let details = "+set master mymaster 127.0.0.1 7001";
    let expected = ["notification-script /scripts/tell", "parallel-syncs 2"];
    assert_eq!(told, expected.map(|rest| format!("{details} {rest}")));
    desk.scripts.clear();
    desk.ask(set("notification-script", ""));
    let told: Vec<String> = desk.told(TELL).into_iter().map(|(_, args)| args).collect();
    assert_eq!(told, [format!("{details} quorum 3")]);
    desk.ask(set("client-reconfig-script", MOVE));
    desk.hello(2, 4, REPLICA, 4);
    assert_eq!(desk.moves().len(), 1);
    desk.ask(set("client-reconfig-script", ""));
    desk.hello(2, 5, OTHER_REPLICA, 5);
    assert_eq!(desk.moves().len(), 1);
}

#[test]
fn the_last_thing_told_of_a_group_is_that_it_is_removed() {
    let mut desk = desk();
    desk.pass(1_000);
    desk.ask(Request::Remove("mymaster".into()));
    let last = desk.told(TELL).pop().expect("told").1;
    assert_eq!(last, "-monitor master mymaster 127.0.0.1 7001");
    let calls = desk.scripts.len();
    let (host, port, quorum) = ("127.0.0.1".into(), MASTER.to_string(), "2".into());
    desk.ask(Request::Monitor { name: "mymaster".into(), host, port, quorum });
    desk.pass(5_000);
    assert!(desk.has(EventKind::Monitor) && desk.scripts.len() == calls, "it has no script now");
}

#[test]
fn what_waits_for_the_disk_is_not_told_of_a_group_that_is_removed() {
    let mut desk = desk();
    desk.pass(1_000);
    desk.scripts.clear();
    desk.disk_works = false;
    desk.hello(2, 4, REPLICA, 4);
    desk.ask(Request::Remove("mymaster".into()));
    desk.write_ends();
    desk.disk_works = true;
    desk.write_ends();
    desk.pass(1_000);
    assert!(!desk.has(EventKind::SwitchMaster) && desk.has(EventKind::Unmonitor));
    let told: Vec<&str> =
        desk.scripts.iter().filter_map(|(_, argv)| argv[1].split(' ').next()).collect();
    assert_eq!(told, ["+new-epoch", "-monitor"], "{:?}", desk.scripts);
}
