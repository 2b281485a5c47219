//! Events and answers put before the ledger, good and bad.

use super::super::*;
use crate::config::settings::GroupSettings;
use crate::config::state::GroupState;
use crate::sentinel::{RequestId, Revision};
use crate::sim::dice::Dice;
use crate::sim::wire::Ms;

const AGREE: &str = "who listens knows what who asks is told";
const WRITTEN: &str = "who listens knows what is on disk";
const ONCE: &str = "each change is told once";
const SWITCHES: &str = "a switch leads from master to master";
const STAGES: &str = "a failover is told from beginning to end";
const NEWER: &str = "a newer configuration ends older failovers";
const OPINION: &str = "opinions are announced";

const MASTER: &str = "master g 10.0.0.1 6379";
const REPLICA: &str = "slave 10.0.0.2:6379 10.0.0.2 6379 @ g 10.0.0.1 6379";
const SWITCH: &str = "g 10.0.0.1 6379 10.0.0.2 6379";

fn address(n: usize) -> Address {
    Address::new(format!("10.0.0.{n}"), 6379)
}

fn id(n: u64) -> RunId {
    Dice::new(n, "id").run_id()
}

fn peer() -> String {
    format!("sentinel {} 10.0.0.9 26379 @ g 10.0.0.1 6379", id(1))
}

/// Somebody who reads what one sentinel says. It watches node 1 with the replicas 2 and 3, and
/// knows one other sentinel.
struct Reader {
    checkers: Checkers,
    disk: State,
    at: Ms,
    waited_ms: Ms,
}

impl Reader {
    fn new() -> Reader {
        let nodes = (1..=3).map(address).collect();
        let checkers = Checkers::new(BTreeMap::from([("g".into(), nodes)]), 2);
        let mut group = GroupState::fresh(GroupSettings::new(address(1), 2), None);
        group.replicas = [2, 3].map(address).into();
        group.sentinels = BTreeMap::from([(id(1), Address::new("10.0.0.9", 26379))]);
        let groups = BTreeMap::from([("g".into(), group)]);
        let disk = State {
            my_id: id(0),
            current_epoch: 5,
            groups: groups.into(),
            removed: Default::default(),
            live: None,
        };
        let mut reader = Reader { checkers, disk, at: 1_000, waited_ms: 0 };
        reader.speaks(|checkers, speaker| checkers.open_book(speaker));
        reader.announces(EventKind::Monitor, "master g 10.0.0.1 6379 quorum 2");
        // Each failover below is of this epoch.
        reader.announces(EventKind::VoteForLeader, &format!("{} 5", id(0)));
        reader.settles();
        reader
    }

    fn speaks(&mut self, how: impl FnOnce(&mut Checkers, &Speaker)) {
        let (at, waited_ms, id) = (self.at, self.waited_ms, id(0));
        let speaker = Speaker { at, since: at, waited_ms, number: 0, id: &id, disk: &self.disk };
        how(&mut self.checkers, &speaker);
    }

    fn says(&mut self, effect: Effect, question: Option<&Request>) {
        let said = Said { effect: &effect, to: None, receiver: None, question };
        self.speaks(|checkers, speaker| {
            if let Some((rule, how)) = checkers.write_book(speaker, &said) {
                checkers.broken(speaker, rule, how);
            }
        });
    }

    fn announces(&mut self, kind: EventKind, payload: &str) {
        let own = matches!(kind, EventKind::NewEpoch | EventKind::Tilt | EventKind::TiltEnd);
        let group = (!own).then(|| "g".into());
        let event = Event { kind, group, payload: payload.into() };
        self.says(Effect::Announce(event), None);
    }

    fn answers(&mut self, question: Request, reply: Value) {
        self.says(Effect::Reply { id: RequestId(1), reply }, Some(&question));
    }

    fn writes(&mut self) {
        let state = Box::new(self.disk.clone());
        self.says(Effect::Persist { revision: Revision(1), state, whole: false }, None);
    }

    /// All is on disk, and nothing more is said.
    fn settles(&mut self) {
        for _ in 0..2 {
            self.speaks(|checkers, speaker| checkers.read_book(speaker, false, true));
        }
    }

    fn disk_fails(&mut self) {
        self.speaks(|checkers, speaker| checkers.read_book(speaker, true, false));
    }

    fn group(&mut self) -> &mut GroupState {
        self.disk.groups.get_mut("g").expect("it is watched")
    }

    /// The disk holds the configuration that is announced next.
    fn master_is_2(&mut self) {
        let group = self.group();
        group.settings.master = address(2);
        group.replicas = [1, 3].map(address).into();
    }

    /// What is said after a switch to node 2.
    fn replicas_again(&mut self) {
        for n in [1, 3] {
            let replica = format!("slave 10.0.0.{n}:6379 10.0.0.{n} 6379 @ g 10.0.0.2 6379");
            self.announces(EventKind::Slave, &replica);
        }
    }

    /// SENTINEL MASTER, with one field other than it should be.
    fn master(&mut self, but: (&str, &str)) {
        let fields = [
            ("ip", "10.0.0.1"),
            ("port", "6379"),
            ("flags", "master"),
            ("config-epoch", "0"),
            ("num-slaves", "2"),
            ("num-other-sentinels", "1"),
            ("quorum", "2"),
            ("down-after-milliseconds", "30000"),
            ("failover-timeout", "180000"),
            ("parallel-syncs", "1"),
        ];
        let fields = fields.map(|(name, value)| (name, if name == but.0 { but.1 } else { value }));
        self.answers(Request::Master("g".into()), entry(&fields));
    }

    /// SENTINEL REPLICAS, of these nodes, with these flags.
    fn replicas(&mut self, nodes: &[(usize, &str)]) {
        let entries = nodes.iter().map(|(n, flags)| {
            let at = address(*n);
            let name = at.to_string();
            entry(&[("name", &name), ("ip", &at.host), ("port", "6379"), ("flags", flags)])
        });
        let reply = Value::Array(entries.collect());
        self.answers(Request::Replicas("g".into()), reply);
    }

    fn sentinels(&mut self, entries: &[[(&str, &str); 4]]) {
        let reply = Value::Array(entries.iter().map(|fields| entry(fields)).collect());
        self.answers(Request::Sentinels("g".into()), reply);
    }

    fn opinion(&mut self, down: i64) {
        let question = Request::IsMasterDown {
            host: "10.0.0.1".into(),
            port: 6379,
            epoch: 5,
            candidate: None,
        };
        let items = vec![Value::Integer(down), Value::bulk("*"), Value::Integer(0)];
        self.answers(question, Value::Array(items));
    }

    #[track_caller]
    fn finds(&self, rule: &str) {
        let found = self.checkers.violation().map(|broken| broken.what.clone());
        match &found {
            None => assert_eq!(rule, "", "nothing is found"),
            Some(what) => assert!(!rule.is_empty() && what.starts_with(rule), "{what}"),
        }
    }
}

fn entry(fields: &[(&str, &str)]) -> Value {
    Value::Map(fields.iter().map(|(n, v)| (Value::bulk(*n), Value::bulk(*v))).collect())
}

/// What is found once all of this is announced, and is on disk as it was before.
#[track_caller]
fn found(events: &[(EventKind, &str)], rule: &str) {
    let mut reader = Reader::new();
    for (kind, payload) in events {
        reader.announces(*kind, payload);
    }
    reader.settles();
    reader.finds(rule);
}

#[test]
fn who_is_down_is_told_once() {
    use EventKind::{Odown, OdownEnd, Sdown, SdownEnd};
    for whom in [MASTER, REPLICA, &peer()] {
        found(&[(Sdown, whom), (SdownEnd, whom), (Sdown, whom)], "");
        found(&[(Sdown, whom), (Sdown, whom)], ONCE);
        found(&[(SdownEnd, whom)], ONCE);
    }
    found(&[(Sdown, MASTER), (Odown, MASTER), (SdownEnd, MASTER), (OdownEnd, MASTER)], "");
    found(&[(Odown, MASTER)], ONCE);
    found(&[(OdownEnd, MASTER)], ONCE);
    found(&[(Sdown, "slave 10.0.0.7:6379 10.0.0.7 6379 @ g 10.0.0.1 6379")], ONCE);
}

#[test]
fn who_is_met_is_told_once_and_written() {
    use EventKind::{Sentinel, SentinelInvalidAddr, Slave};
    found(&[(Slave, REPLICA)], ONCE);
    found(&[(Sentinel, &peer())], ONCE);
    found(&[(Slave, "slave 10.0.0.7:6379 10.0.0.7 6379 @ g 10.0.0.1 6379")], WRITTEN);
    found(&[(SentinelInvalidAddr, &peer())], WRITTEN);
    found(&[(SentinelInvalidAddr, &peer()), (SentinelInvalidAddr, &peer())], ONCE);
    found(&[(SentinelInvalidAddr, &peer()), (Sentinel, &peer())], "");
    let mut reader = Reader::new();
    reader.group().replicas.push(address(7));
    reader.writes();
    reader.settles();
    reader.finds(WRITTEN);
}

#[test]
fn a_sentinel_that_moved_is_told_and_written() {
    let moved = format!("{MASTER} ip 10.0.0.8 port 26379 for {}", id(1));
    found(&[(EventKind::SentinelAddressSwitch, &moved)], WRITTEN);
    let mut reader = Reader::new();
    reader.announces(EventKind::SentinelAddressSwitch, &moved);
    reader.group().sentinels.insert(id(1), Address::new("10.0.0.8", 26379));
    reader.settles();
    reader.finds("");
    reader.announces(EventKind::SentinelAddressSwitch, &moved);
    reader.finds(ONCE);
}

#[test]
fn epochs_are_told_as_they_are_written() {
    let epoch = |reader: &mut Reader, epoch: &str| {
        let event = Event { kind: EventKind::NewEpoch, group: None, payload: epoch.into() };
        reader.says(Effect::Announce(event), None);
    };
    let mut reader = Reader::new();
    epoch(&mut reader, "6");
    reader.disk.current_epoch = 6;
    reader.settles();
    reader.finds("");
    epoch(&mut reader, "6");
    reader.finds(ONCE);
    let mut reader = Reader::new();
    reader.disk.current_epoch = 6;
    reader.writes();
    reader.settles();
    reader.finds(WRITTEN);
}

#[test]
fn groups_are_told_as_they_are_written() {
    found(&[(EventKind::Unmonitor, MASTER)], WRITTEN);
    found(&[(EventKind::Monitor, MASTER)], ONCE);
    found(&[(EventKind::Unmonitor, MASTER), (EventKind::Slave, REPLICA)], ONCE);
}

#[test]
fn an_order_may_be_answered_before_its_group_is_told() {
    let mut reader = Reader::new();
    reader.announces(EventKind::Unmonitor, MASTER);
    reader.answers(Request::Failover("g".into()), Value::ok());
    reader.announces(EventKind::Monitor, MASTER);
    reader.announces(EventKind::TryFailover, MASTER);
    assert!(reader.checkers.ledger.page(0, "g").is_some_and(|page| page.forced));
    assert!(!reader.checkers.ledger.is_ordered(0, "g"));
    // One that waited for the disk, and had its cause, leaves the order to the next.
    reader.announces(EventKind::AbortNotElected, MASTER);
    reader.announces(EventKind::Sdown, MASTER);
    reader.announces(EventKind::Odown, &format!("{MASTER} #quorum 2/2"));
    reader.answers(Request::Failover("g".into()), Value::ok());
    reader.announces(EventKind::TryFailover, MASTER);
    assert!(!reader.checkers.ledger.is_untried(0, "g"));
    assert!(reader.checkers.ledger.is_ordered(0, "g"));
    // REMOVE takes it back.
    reader.answers(Request::Failover("g".into()), Value::ok());
    let input = Input::Request { id: RequestId(2), request: Request::Remove("g".into()) };
    reader.speaks(|checkers, speaker| checkers.hears(speaker, None, &input, (false, true)));
    assert!(!reader.checkers.ledger.is_ordered(0, "g"));
}

#[test]
fn a_replica_that_is_down_stays_so_through_a_switch_that_is_told_in_pieces() {
    let mut reader = Reader::new();
    reader.announces(EventKind::ResetMaster, MASTER);
    reader.announces(EventKind::Sdown, REPLICA);
    reader.announces(EventKind::ConfigUpdateFrom, &peer());
    reader.announces(EventKind::SwitchMaster, "g 10.0.0.1 6379 10.0.0.3 6379");
    (reader.at, reader.waited_ms) = (reader.at + 800, Ms::MAX);
    reader.announces(EventKind::Slave, &REPLICA.replace("10.0.0.1", "10.0.0.3"));
    assert!(reader.checkers.ledger.is_down(0, &address(2)));
}

#[test]
fn a_sentinel_that_is_met_again_is_not_down_even_at_a_switch() {
    let mut reader = Reader::new();
    reader.announces(EventKind::Sdown, &peer());
    reader.announces(EventKind::ResetMaster, MASTER);
    reader.announces(EventKind::Sdown, &peer());
    reader.announces(EventKind::ConfigUpdateFrom, &peer());
    reader.announces(EventKind::SwitchMaster, SWITCH);
    reader.announces(EventKind::Sentinel, &peer().replace("10.0.0.1", "10.0.0.2"));
    assert!(!reader.checkers.ledger.page(0, "g").expect("it is watched").is_silent(&id(1)));
}

#[test]
fn settings_are_told_as_they_are_written() {
    found(&[(EventKind::Set, &format!("{MASTER} quorum 3"))], WRITTEN);
    let mut reader = Reader::new();
    reader.announces(EventKind::Set, &format!("{MASTER} quorum 3"));
    reader.group().settings.quorum = 3;
    reader.settles();
    reader.finds("");
}

#[test]
fn what_is_set_is_told_before_it_is_answered() {
    let options = || ["quorum", "3"].map(str::to_owned).into();
    let set = || Request::Set { name: "g".into(), options: options() };
    let mut reader = Reader::new();
    reader.answers(set(), Value::ok());
    reader.finds(AGREE);
    let mut reader = Reader::new();
    reader.announces(EventKind::Set, &format!("{MASTER} quorum 3"));
    reader.answers(set(), Value::ok());
    reader.finds("");
}

#[test]
fn a_switch_leads_from_the_master_that_was_to_the_one_that_is() {
    let switched = |payload: &str| {
        let mut reader = Reader::new();
        reader.announces(EventKind::ConfigUpdateFrom, &peer());
        reader.master_is_2();
        reader.announces(EventKind::SwitchMaster, payload);
        reader
    };
    let mut reader = switched(SWITCH);
    reader.replicas_again();
    reader.settles();
    reader.finds("");
    reader.announces(EventKind::SwitchMaster, SWITCH);
    reader.finds(SWITCHES);
    switched("g 10.0.0.2 6379 10.0.0.1 6379").finds(SWITCHES);
    switched("g 10.0.0.1 6379 10.0.0.1 6379").finds(SWITCHES);
    switched("g 10.0.0.1 6379 10.0.0.7 6379").finds(SWITCHES);
    let mut third = switched("g 10.0.0.1 6379 10.0.0.3 6379");
    third.settles();
    third.finds(WRITTEN);
}

#[test]
fn a_master_of_a_moment_may_be_forgotten_by_a_reset_that_is_written_with_it() {
    for (resets, rule) in [(true, ""), (false, SWITCHES)] {
        let mut reader = Reader::new();
        if resets {
            let request = Request::Reset("g".into());
            let input = Input::Request { id: RequestId(1), request };
            reader.speaks(|checkers, speaker| checkers.hears_order(speaker, &input));
        }
        reader.disk.groups.get_mut("g").expect("the group").replicas = vec![address(3)];
        reader.announces(EventKind::ConfigUpdateFrom, &peer());
        reader.announces(EventKind::SwitchMaster, SWITCH);
        reader.finds(rule);
    }
}

#[test]
fn that_somebody_moved_whose_group_is_being_removed_may_be_all_that_is_told_of_it() {
    for (removes, rule) in [(true, ""), (false, ONCE)] {
        let mut reader = Reader::new();
        if removes {
            let input = Input::Request { id: RequestId(1), request: Request::Remove("g".into()) };
            reader.speaks(|checkers, speaker| checkers.hears_order(speaker, &input));
        }
        let moved = format!("{MASTER} ip 10.0.0.77 port 26379 for {}", id(7));
        reader.announces(EventKind::SentinelAddressSwitch, &moved);
        reader.finds(rule);
        if removes {
            let payload = format!("sentinel {} 10.0.0.77 26379 @ g 10.0.0.1 6379", id(7));
            reader.announces(EventKind::SentinelInvalidAddr, &payload);
            reader.finds("");
        }
    }
}

#[test]
fn what_was_set_stays_so_until_it_is_set_again() {
    let quorum = |reader: &mut Reader, quorum| {
        reader.disk.groups.get_mut("g").expect("the group").settings.quorum = quorum;
        let state = Box::new(reader.disk.clone());
        reader.says(Effect::Persist { revision: Revision(9), state, whole: false }, None);
        reader.settles();
    };
    let mut reader = Reader::new();
    reader.announces(EventKind::Set, "master g 10.0.0.1 6379 quorum 1");
    quorum(&mut reader, 1);
    reader.finds("");
    quorum(&mut reader, 2);
    reader.finds(WRITTEN);
}

#[test]
fn a_switch_has_a_reason_and_a_reason_a_switch() {
    let mut reader = Reader::new();
    reader.master_is_2();
    reader.announces(EventKind::SwitchMaster, SWITCH);
    reader.finds(SWITCHES);
    found(&[(EventKind::ConfigUpdateFrom, &peer())], WRITTEN);
    let mut reader = Reader::new();
    reader.master_is_2();
    reader.announces(EventKind::Sdown, "master g 10.0.0.2 6379");
    reader.finds(SWITCHES);
}

#[test]
fn replicas_are_told_again_after_a_switch() {
    let mut reader = Reader::new();
    reader.announces(EventKind::Sdown, "slave 10.0.0.3:6379 10.0.0.3 6379 @ g 10.0.0.1 6379");
    reader.announces(EventKind::Sdown, MASTER);
    reader.announces(EventKind::ConfigUpdateFrom, &peer());
    reader.master_is_2();
    reader.announces(EventKind::SwitchMaster, SWITCH);
    reader.settles();
    reader.finds(WRITTEN);
    let mut reader = Reader::new();
    reader.announces(EventKind::Sdown, "slave 10.0.0.3:6379 10.0.0.3 6379 @ g 10.0.0.1 6379");
    reader.announces(EventKind::Sdown, MASTER);
    reader.announces(EventKind::ConfigUpdateFrom, &peer());
    reader.master_is_2();
    reader.announces(EventKind::SwitchMaster, SWITCH);
    reader.replicas_again();
    reader.settles();
    // The old master is not down as a replica yet, and the other one still is.
    reader.replicas(&[(1, "slave"), (3, "s_down,slave")]);
    reader.finds("");
}

#[test]
fn a_failover_is_told_from_beginning_to_end() {
    use EventKind::*;
    let promoted = [
        (TryFailover, MASTER),
        (ElectedLeader, MASTER),
        (StateSelectSlave, MASTER),
        (SelectedSlave, REPLICA),
        (StateSendSlaveofNoone, REPLICA),
        (StateWaitPromotion, REPLICA),
        (PromotedSlave, REPLICA),
        (StateReconfSlaves, MASTER),
    ];
    for left_out in 0..promoted.len() {
        let mut reader = Reader::new();
        for (n, (kind, payload)) in promoted.iter().enumerate() {
            if n != left_out {
                reader.announces(*kind, payload);
            }
        }
        reader.master_is_2();
        reader.announces(SwitchMaster, SWITCH);
        reader.announces(FailoverEnd, "master g 10.0.0.2 6379");
        reader.finds(STAGES);
    }
    for (config, rule) in [(4, ""), (5, NEWER)] {
        let mut reader = Reader::new();
        reader.announces(TryFailover, MASTER);
        reader.group().config_epoch = config;
        reader.settles();
        reader.finds(rule);
    }
    found(&[(TryFailover, MASTER), (AbortNotElected, MASTER), (TryFailover, MASTER)], "");
    found(&[(TryFailover, MASTER), (TryFailover, MASTER)], STAGES);
    found(&[(AbortNotElected, MASTER)], STAGES);
    found(&[(FailoverEnd, MASTER)], STAGES);

    let mut reader = Reader::new();
    promoted.iter().for_each(|(kind, payload)| reader.announces(*kind, payload));
    reader.master_is_2();
    reader.announces(SwitchMaster, SWITCH);
    reader.replicas_again();
    reader.settles();
    reader.at += 170_000;
    reader.master(("ip", "10.0.0.2"));
    reader.finds("");
    reader.at += 20_000;
    reader.master(("ip", "10.0.0.2"));
    reader.finds(AGREE);
}

#[test]
fn a_failing_disk_holds_back_promises_and_not_facts() {
    use EventKind::{AbortNotElected, ElectedLeader, TryFailover};
    let mut reader = Reader::new();
    reader.announces(TryFailover, MASTER);
    reader.disk_fails();
    reader.announces(AbortNotElected, MASTER);
    reader.announces(ElectedLeader, MASTER);
    reader.settles();
    reader.announces(TryFailover, MASTER);
    reader.announces(ElectedLeader, MASTER);
    reader.finds("");
}

#[test]
fn answers_agree_with_events() {
    Reader::new().finds("");
    let fields = [
        ("ip", "10.0.0.2"),
        ("flags", "s_down,master"),
        ("flags", "o_down,master"),
        ("flags", "master,failover_in_progress"),
        ("config-epoch", "1"),
        ("num-slaves", "1"),
        ("num-other-sentinels", "0"),
        ("quorum", "3"),
        ("parallel-syncs", "2"),
    ];
    for but in fields {
        let mut reader = Reader::new();
        reader.master(("", ""));
        reader.finds("");
        reader.master(but);
        reader.finds(AGREE);
    }
    let mut reader = Reader::new();
    reader.replicas(&[(2, "slave"), (3, "slave,disconnected")]);
    reader.finds("");
    let wrong: [&[(usize, &str)]; 3] = [
        &[(2, "slave")],
        &[(2, "slave"), (3, "slave"), (4, "slave")],
        &[(2, "slave"), (3, "s_down,slave")],
    ];
    for nodes in wrong {
        let mut reader = Reader::new();
        reader.replicas(nodes);
        reader.finds(AGREE);
    }
    let mut reader = Reader::new();
    let (id, flags) = (id(1), ("flags", "sentinel"));
    let name = ("name", id.as_str());
    reader.sentinels(&[[name, ("ip", "10.0.0.9"), ("port", "26379"), flags]]);
    reader.finds("");
    reader.sentinels(&[[name, ("ip", "10.0.0.8"), ("port", "26379"), flags]]);
    reader.finds(AGREE);
    let mut reader = Reader::new();
    reader.sentinels(&[]);
    reader.finds(AGREE);
    let mut reader = Reader::new();
    let reply = Value::Array(vec![Value::bulk("10.0.0.2"), Value::bulk("6379")]);
    reader.answers(Request::MasterAddress("g".into()), reply);
    reader.finds(AGREE);
}

#[test]
fn nothing_is_compared_while_something_waits() {
    let mut reader = Reader::new();
    reader.writes();
    reader.master(("ip", "10.0.0.2"));
    reader.opinion(1);
    reader.finds("");
    let mut reader = Reader::new();
    reader.waited_ms = Ms::MAX;
    reader.disk.current_epoch = 6;
    reader.writes();
    reader.settles();
    reader.finds("");
}

#[test]
fn opinions_are_what_was_announced() {
    let mut reader = Reader::new();
    reader.opinion(0);
    reader.announces(EventKind::Sdown, MASTER);
    reader.opinion(1);
    reader.announces(EventKind::Tilt, "#tilt mode entered");
    reader.finds("");
    let mut reader = Reader::new();
    reader.opinion(1);
    reader.finds(OPINION);
    let mut reader = Reader::new();
    reader.announces(EventKind::Sdown, MASTER);
    reader.opinion(0);
    reader.finds(OPINION);
}

#[test]
fn whom_reset_forgets_is_not_told() {
    use EventKind::{ResetMaster, Sdown, Slave};
    let mut reader = Reader::new();
    reader.announces(Sdown, REPLICA);
    reader.announces(ResetMaster, MASTER);
    reader.replicas(&[(2, "slave"), (3, "slave")]);
    reader.group().replicas.pop();
    reader.settles();
    reader.finds("");
    // It is found, and may be forgotten once more.
    reader.announces(Slave, "slave 10.0.0.3:6379 10.0.0.3 6379 @ g 10.0.0.1 6379");
    reader.writes();
    reader.settles();
    reader.finds("");
    reader.at += 100_000;
    reader.writes();
    reader.settles();
    reader.group().replicas.clear();
    reader.writes();
    reader.settles();
    reader.finds(WRITTEN);
}
