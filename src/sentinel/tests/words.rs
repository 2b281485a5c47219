//! What stories with Redis's sentinels see too rarely to compare it: payloads of rare events, the
//! marks of a failover in entries, and quirks of Redis that are not ours.

use super::*;

impl Desk {
    /// The payloads of one kind of event, in order.
    fn payloads(&self, kind: EventKind) -> Vec<&str> {
        let of_kind = self.events.iter().filter(|(k, _)| *k == kind);
        of_kind.map(|(_, payload)| payload.as_str()).collect()
    }
}

/// As events describe a replica of this master.
fn replica(port: u16, master: u16) -> String {
    format!("slave 127.0.0.1:{port} 127.0.0.1 {port} @ mymaster 127.0.0.1 {master}")
}

#[test]
fn a_sentinel_that_moves_or_loses_its_address_is_told() {
    let mut desk = Desk::new(1, 2);
    let (name, host) = ("other".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "2".into() });
    let hello = |n: u8, port: u16, group: &str, master: u16| {
        Request::Hello(format!("127.0.0.1,{port},{},0,{group},127.0.0.1,{master},0", id(n)))
    };
    desk.ask(hello(2, 26_002, "other", 7100));
    desk.ask(hello(2, 26_012, "mymaster", MASTER));
    let (two, seven) = (id(2), id(7));
    assert_eq!(
        desk.payloads(EventKind::SentinelAddressSwitch),
        [format!("master mymaster 127.0.0.1 {MASTER} ip 127.0.0.1 port 26012 for {two}")]
    );
    let details = format!("sentinel {two} 127.0.0.1 26012 @ mymaster 127.0.0.1 {MASTER}");
    assert_eq!(
        desk.payloads(EventKind::SentinelAddressUpdate),
        [format!("{details} 1 additional matching instances")]
    );
    desk.ask(hello(7, 26_012, "mymaster", MASTER));
    assert_eq!(desk.payloads(EventKind::SentinelInvalidAddr), [details]);
    let details = format!("sentinel {seven} 127.0.0.1 26012 @ mymaster 127.0.0.1 {MASTER}");
    // It counts in every group in which it took another one's place.
    assert!(desk.payloads(EventKind::Sentinel).contains(&details.as_str()), "{:?}", desk.events);
}

#[test]
fn replicas_that_do_not_follow_are_told() {
    let mut desk = Desk::with(1, 2, |_, group| group.failover_timeout_ms = 15_000);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 400, true));
    desk.pass(20_000);
    let stuck = replica(OTHER_REPLICA, REPLICA);
    assert!(desk.payloads(EventKind::SlaveReconfSent).contains(&stuck.as_str()));
    assert_eq!(desk.payloads(EventKind::SlaveReconfSentTimeout), [stuck]);
    let master = format!("master mymaster 127.0.0.1 {REPLICA}");
    for kind in [EventKind::FailoverEndForTimeout, EventKind::FailoverEnd] {
        assert_eq!(desk.payloads(kind), [master.as_str()]);
    }
}

#[test]
fn roles_and_repairs_are_told() {
    let mut desk = Desk::with(1, 2, |_, group| group.failover_timeout_ms = 5_000);
    desk.pass(2_000);
    desk.infos.insert(at(OTHER_REPLICA), "role:master\r\n".into());
    desk.pass(40_000);
    let other = replica(OTHER_REPLICA, MASTER);
    assert_eq!(
        desk.payloads(EventKind::RoleMismatch),
        [format!("{other} new reported role is master")]
    );
    assert_eq!(desk.payloads(EventKind::ConvertToSlave).first(), Some(&other.as_str()));
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 400, true));
    desk.pass(60_000);
    assert_eq!(
        desk.payloads(EventKind::RoleChange),
        [format!("{other} new reported role is slave")]
    );
    assert_eq!(desk.payloads(EventKind::FixSlaveConfig).first(), Some(&other.as_str()));
}

#[test]
fn a_node_that_was_started_anew_is_told() {
    let mut desk = Desk::new(1, 2);
    for run in [4, 5] {
        desk.infos.insert(at(MASTER), format!("run_id:{}\r\nrole:master\r\n", id(run)));
        desk.pass(15_000);
    }
    assert_eq!(desk.payloads(EventKind::Reboot), [format!("master mymaster 127.0.0.1 {MASTER}")]);
}

#[test]
fn a_stall_is_told_at_both_ends() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.now_ms += 10_000;
    desk.pass(5_000);
    assert_eq!(desk.payloads(EventKind::Tilt), ["#tilt mode entered"]);
    assert_eq!(desk.payloads(EventKind::TiltEnd), ["#tilt mode exited"]);
}

#[test]
fn connections_that_end_are_told_with_their_reason() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.connection_ends(REPLICA);
    let link = desk.link_to(OTHER_REPLICA);
    let event = LinkEvent::Unsubscribed { reason: "connection reset".into() };
    desk.input(Input::Link { link, event });
    let told = desk.payloads(EventKind::CmdLinkReconnection);
    let head = format!("{} #", replica(REPLICA, MASTER));
    assert!(told.len() == 1 && told[0].starts_with(&head) && told[0] != head, "{told:?}");
    let told = desk.payloads(EventKind::PubsubLinkReconnection);
    assert_eq!(told, [format!("{} #connection reset", replica(OTHER_REPLICA, MASTER))]);
}

/// The fields of an entry, in order.
fn pairs(entry: &Value) -> Vec<(&str, &str)> {
    let Value::Map(pairs) = entry else { panic!("no map: {entry:?}") };
    pairs.iter().filter_map(|(name, value)| Some((name.text()?, value.text()?))).collect()
}

fn field<'a>(entry: &'a Value, name: &str) -> &'a str {
    let pairs = pairs(entry);
    pairs.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| *value)
}

impl Desk {
    fn master(&mut self) -> Value {
        self.ask(Request::Master("mymaster".into())).expect("an answer")
    }

    fn replica(&mut self, port: u16) -> Value {
        let Some(Value::Array(all)) = self.ask(Request::Replicas("mymaster".into())) else {
            panic!("no replicas: {:?}", self.replies);
        };
        let port = port.to_string();
        all.into_iter().find(|entry| field(entry, "port") == port).expect("that replica")
    }
}

#[test]
fn entries_tell_how_a_failover_goes() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.master_dies();
    let entry = desk.master();
    let names: Vec<&str> = pairs(&entry).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "link-refcount",
        "failover-state",
        "last-ping-sent",
        "last-ok-ping-reply",
        "last-ping-reply",
        "s-down-time",
        "o-down-time",
        "down-after-milliseconds",
    ];
    assert_eq!(names[6..14], expected, "where Redis has them");
    assert_eq!(field(&entry, "flags"), "s_down,o_down,master,failover_in_progress");
    assert_eq!(field(&entry, "failover-state"), "wait_start");
    desk.win();
    desk.pass(300);
    assert_eq!(desk.promotions(), [REPLICA]);
    assert_eq!(field(&desk.master(), "failover-state"), "wait_promotion");
    assert_eq!(field(&desk.replica(REPLICA), "flags"), "slave,promoted");
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(100);
    let entry = desk.master();
    assert_eq!((field(&entry, "port"), field(&entry, "flags")), ("7002", "master"));
    assert_eq!(field(&entry, "failover-state"), "", "the switch has come with the promotion");

    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    // One replica does not answer at once, so the choice takes a moment.
    desk.infos.remove(&at(OTHER_REPLICA));
    desk.ask(Request::Failover("mymaster".into()));
    desk.pass(10);
    desk.win();
    let entry = desk.master();
    assert_eq!(field(&entry, "flags"), "master,failover_in_progress,force_failover");
    assert_eq!(field(&entry, "failover-state"), "select_slave");
}

#[test]
fn a_replica_that_is_sent_to_its_new_master_is_marked_until_it_follows() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.win();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 400, true));
    desk.pass(1_500);
    assert_eq!(field(&desk.replica(OTHER_REPLICA), "flags"), "slave,reconf_sent");
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 0, false));
    desk.pass(1_500);
    assert_eq!(field(&desk.replica(OTHER_REPLICA), "flags"), "slave,reconf_inprog");
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 400, true));
    desk.pass(1_500);
    assert_eq!(field(&desk.replica(OTHER_REPLICA), "flags"), "slave");
}

#[test]
fn a_node_that_hangs_is_asked_once() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(REPLICA));
    for _ in 0..60 {
        desk.pass(1_000);
        let pending: u32 = field(&desk.replica(REPLICA), "link-pending-commands").parse().unwrap();
        assert!(pending <= 3, "a PING, an INFO and a hello, not {pending}");
    }
}

#[test]
fn a_hidden_replica_is_not_promoted() {
    let mut desk = Desk::new(1, 2);
    let hidden = replica_info(MASTER, 500, true) + "replica_announced:0\r\n";
    desk.infos.insert(at(REPLICA), hidden.clone());
    desk.pass(12_000);
    desk.ask(Request::Failover("mymaster".into()));
    desk.pass(10);
    desk.win();
    desk.pass(1_000);
    assert_eq!(desk.promotions(), [OTHER_REPLICA], "though it has less data");

    let mut desk = Desk::new(1, 2);
    for port in [REPLICA, OTHER_REPLICA] {
        desk.infos.insert(at(port), hidden.clone());
    }
    desk.pass(12_000);
    let refused = Value::error("NOGOODSLAVE No suitable replica to promote");
    assert_eq!(desk.ask(Request::Failover("mymaster".into())), Some(refused));
}

#[test]
fn who_stays_after_a_reset_is_not_announced_again() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.events.clear();
    desk.ask(Request::Reset("*".into()));
    desk.pass(12_000);
    assert!(desk.has(EventKind::ResetMaster), "{:?}", desk.events);
    for kind in [EventKind::Slave, EventKind::Sentinel] {
        assert!(!desk.has(kind), "{:?}", desk.events);
    }
}

#[test]
fn what_a_reset_forgets_is_off_the_disk() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.connection_ends(26_003);
    desk.connection_ends(OTHER_REPLICA);
    desk.ask(Request::Reset("my*".into()));
    let (_, state) = desk.writes.last().expect("a write");
    let group = &state.groups["mymaster"];
    assert_eq!(group.sentinels.keys().collect::<Vec<_>>(), [&id(2)]);
    assert_eq!(group.replicas, [at(REPLICA)]);
}

#[test]
fn several_groups_are_told_by_name() {
    let mut desk = Desk::new(1, 2);
    let (name, host) = ("a".to_owned(), "127.0.0.1".to_owned());
    desk.ask(Request::Monitor { name, host, port: "7100".into(), quorum: "2".into() });
    let names = Value::Array(vec![Value::bulk("a"), Value::bulk("mymaster")]);
    let role = Value::Array(vec![Value::bulk("sentinel"), names]);
    assert_eq!(desk.ask(Request::Role), Some(role));
}

#[test]
fn a_group_takes_in_so_many_sentinels_and_no_more() {
    let mut desk = Desk::new(1, 2);
    for n in 0..1_100u16 {
        let [a, b] = n.to_be_bytes();
        let mut bytes = [9; 20];
        (bytes[0], bytes[1]) = (a, b);
        let (id, port) = (RunId::from_bytes(bytes), 30_000 + n);
        let line = format!("127.0.0.1,{port},{id},0,mymaster,127.0.0.1,{MASTER},0");
        desk.ask(Request::Hello(line));
    }
    assert_eq!(field(&desk.master(), "num-other-sentinels"), "1024");
}

#[test]
fn a_group_takes_in_so_many_replicas_and_no_more() {
    let mut desk = Desk::new(1, 2);
    let slave = |n: u16| {
        format!("slave{n}:ip=127.0.0.1,port={},state=online,offset=1,lag=0\r\n", 30_000 + n)
    };
    let slaves: String = (0..1_100).map(slave).collect();
    desk.infos.insert(at(MASTER), format!("role:master\r\n{slaves}"));
    desk.pass(12_000);
    assert_eq!(field(&desk.master(), "num-slaves"), "1024");
}

#[test]
fn a_replica_that_has_said_nothing_yet_has_the_defaults_of_redis() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let (_, mut state) = desk.writes.pop().expect("a state");
    let group = state.groups.get_mut("mymaster").expect("the group");
    // Nobody answers there.
    group.replicas.push(at(7_999));
    let mut desk = Desk::restored(state);
    let entry = desk.replica(7_999);
    assert_eq!(field(&entry, "slave-priority"), "100");
    assert_eq!(field(&entry, "replica-announced"), "1");
    assert_eq!(field(&entry, "master-host"), "?");
    let info = desk.infos[&at(REPLICA)].replace("priority:100", "priority:7");
    desk.infos.insert(at(REPLICA), info);
    desk.pass(12_000);
    assert_eq!(field(&desk.replica(REPLICA), "slave-priority"), "7", "by its own word");
}
