//! One stock sentinel at a desk: the test plays nodes and peers.

use std::collections::BTreeMap;

use super::Stock;
use crate::config::settings::{GroupSettings, SentinelSettings};
use crate::config::state::{GroupState, State};
use crate::resp::Value;
use crate::sentinel::types::{Address, RunId};
use crate::sentinel::{
    Clock, Command, Effect, EventKind, Input, Instant, LinkEvent, LinkId, LostReason, Request,
    RequestId,
};

const MASTER: u16 = 7001;
const REPLICA: u16 = 7002;
const OTHER_REPLICA: u16 = 7003;
const FAILOVER_TIMEOUT_MS: u64 = 20_000;

fn at(port: u16) -> Address {
    Address::new("127.0.0.1", port)
}

fn id(n: u8) -> RunId {
    RunId::from_bytes([n; 20])
}

fn replica_info(master: u16, offset: u64) -> String {
    format!(
        "run_id:{}\r\nrole:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:{master}\r\n\
         master_link_status:up\r\nslave_repl_offset:{offset}\r\nslave_priority:100\r\n",
        id(77)
    )
}

/// A sentinel with id 1, peers 2 and 3 at ports 26002 and 26003, and what it has let out.
struct Desk {
    stock: Stock,
    now_ms: u64,
    links: BTreeMap<LinkId, Address>,
    sent: Vec<(Address, Command)>,
    events: Vec<(EventKind, String)>,
    replies: Vec<Value>,
    disk: Option<State>,
    /// What each node answers to INFO; absent: it is dead.
    infos: BTreeMap<u16, String>,
    /// What each node answers to PING.
    pong: Value,
    /// What both peers answer when asked: down, leader, epoch. Absent: they are dead.
    peers: Option<(i64, Option<RunId>, i64)>,
}

impl Desk {
    fn new() -> Desk {
        let mut settings = GroupSettings::new(at(MASTER), 2);
        settings.down_after_ms = 2_000;
        settings.failover_timeout_ms = FAILOVER_TIMEOUT_MS;
        let mut group = GroupState::fresh(settings, None);
        group.sentinels = BTreeMap::from([(id(2), at(26002)), (id(3), at(26003))]);
        let groups = BTreeMap::from([("mymaster".to_owned(), group)]);
        let mut desk = Desk::restored(State {
            my_id: id(1),
            current_epoch: 0,
            groups: groups.into(),
            removed: Default::default(),
            live: None,
        });
        desk.pass(5_000);
        assert!(desk.has(EventKind::Slave), "INFO names the replicas");
        desk
    }

    fn restored(state: State) -> Desk {
        let master = "role:master\r\nslave0:ip=127.0.0.1,port=7002,state=online\r\n\
            slave1:ip=127.0.0.1,port=7003,state=online\r\n";
        let clock = Clock { mono: Instant::from_ms(0), wall_ms: 0 };
        Desk {
            stock: Stock::new(clock, SentinelSettings::default(), state, 1),
            now_ms: 0,
            links: BTreeMap::new(),
            sent: Vec::new(),
            events: Vec::new(),
            replies: Vec::new(),
            disk: None,
            infos: BTreeMap::from([
                (MASTER, master.into()),
                (REPLICA, replica_info(MASTER, 500)),
                (OTHER_REPLICA, replica_info(MASTER, 400)),
            ]),
            pong: Value::Simple("PONG".into()),
            peers: Some((0, None, 0)),
        }
    }

    fn input(&mut self, input: Input) {
        let clock = Clock { mono: Instant::from_ms(self.now_ms), wall_ms: self.now_ms };
        self.stock.handle(clock, input);
        let mut effects = Vec::new();
        while let Some(effect) = self.stock.poll() {
            effects.push(effect);
        }
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { state, .. } => self.disk = Some(*state),
            Effect::Connect { link, target } => {
                let alive =
                    target.address.port > 26000 || self.infos.contains_key(&target.address.port);
                self.links.insert(link, target.address);
                let ip = || "127.0.0.1".to_owned();
                if alive {
                    let event = LinkEvent::Up { local_ip: ip(), remote_ip: ip() };
                    self.input(Input::Link { link, event });
                    self.input(Input::Link { link, event: LinkEvent::Subscribed });
                }
            }
            Effect::Disconnect { link } => drop(self.links.remove(&link)),
            Effect::Send { link, command } => {
                let Some(to) = self.links.get(&link).cloned() else { return };
                if !matches!(command, Command::Ping | Command::Info) {
                    self.sent.push((to.clone(), command.clone()));
                }
                if let Some(reply) = self.reply(&to, &command) {
                    let event = LinkEvent::Reply { command: command.clone(), reply };
                    self.input(Input::Link { link, event });
                }
                if let Command::Hello { payload } = command
                    && to.port < 26000
                    && self.infos.contains_key(&to.port)
                {
                    self.input(Input::Link { link, event: LinkEvent::Hello { payload } });
                }
            }
            Effect::Reply { reply, .. } => self.replies.push(reply),
            Effect::Announce(event) => self.events.push((event.kind, event.payload)),
            Effect::Say { .. }
            | Effect::Show { .. }
            | Effect::RunScript { .. }
            | Effect::TimeScripts(_) => {}
            Effect::SetLogLevel(_) | Effect::Crash => {}
        }
    }

    fn reply(&self, to: &Address, command: &Command) -> Option<Value> {
        if to.port > 26000 {
            let (down, leader, epoch) = self.peers.as_ref()?;
            return Some(match command {
                Command::IsMasterDown { .. } => Value::Array(vec![
                    Value::Integer(*down),
                    Value::bulk(leader.as_ref().map_or("*", RunId::as_str)),
                    Value::Integer(*epoch),
                ]),
                Command::Hello { .. } => Value::Integer(1),
                _ => Value::Simple("PONG".into()),
            });
        }
        let info = self.infos.get(&to.port)?;
        Some(match command {
            Command::Ping => self.pong.clone(),
            Command::Info => Value::bulk(info),
            _ => Value::Integer(1),
        })
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(next) = self.stock.deadline().filter(|at| at.as_ms() <= end) {
            self.now_ms = next.as_ms();
            self.input(Input::Wake);
        }
        self.now_ms = end;
    }

    /// Passes until that event, at most so long. How long it took.
    fn pass_until(&mut self, kind: EventKind, most_ms: u64) -> u64 {
        let begin = self.now_ms;
        while !self.has(kind) && self.now_ms < begin + most_ms {
            self.pass(10);
        }
        assert!(self.has(kind), "{} is missing: {:?}", kind.name(), self.events);
        self.now_ms - begin
    }

    fn kill(&mut self, port: u16) {
        self.infos.remove(&port);
        let link = *self.links.iter().find(|(_, to)| to.port == port).expect("a link").0;
        let event = LinkEvent::Down { reason: LostReason::Closed };
        self.input(Input::Link { link, event });
    }

    fn ask(&mut self, request: Request) -> Value {
        self.input(Input::Request { id: RequestId(1), request });
        self.replies.pop().expect("a reply")
    }

    fn vote_for(&mut self, candidate: u8, epoch: i64) -> Value {
        let (host, port) = ("127.0.0.1".to_owned(), i64::from(MASTER));
        let candidate = Some(id(candidate).to_string());
        self.ask(Request::IsMasterDown { host, port, epoch, candidate })
    }

    fn hello(&mut self, from: u8, port: u16, current: &str, master: u16, config: &str) {
        let id = id(from);
        let line = format!("127.0.0.1,{port},{id},{current},mymaster,127.0.0.1,{master},{config}");
        self.ask(Request::Hello(line));
    }

    fn has(&self, kind: EventKind) -> bool {
        self.events.iter().any(|(k, _)| *k == kind)
    }

    fn sent_to(&self, port: u16, command: &Command) -> usize {
        self.sent.iter().filter(|(to, c)| to.port == port && c == command).count()
    }

    fn shown_master(&mut self) -> Value {
        self.ask(Request::MasterAddress("mymaster".into()))
    }

    fn entry(&mut self) -> BTreeMap<String, String> {
        let Value::Map(fields) = self.ask(Request::Master("mymaster".into())) else {
            panic!("no entry");
        };
        let text = |value: &Value| value.text().expect("a bulk").to_owned();
        fields.iter().map(|(field, value)| (text(field), text(value))).collect()
    }

    fn peers_vote_for_us(&mut self) {
        self.peers = Some((1, Some(id(1)), 1));
    }
}

fn shown(port: u16) -> Value {
    Value::Array(vec![Value::bulk("127.0.0.1"), Value::bulk(port.to_string())])
}

fn opinion(down: i64, leader: Option<u8>, epoch: i64) -> Value {
    let leader = leader.map_or("*".to_owned(), |n| id(n).to_string());
    Value::Array(vec![Value::Integer(down), Value::bulk(leader), Value::Integer(epoch)])
}

#[test]
fn a_failover_in_redis_own_order() {
    let mut desk = Desk::new();
    desk.peers_vote_for_us();
    desk.events.clear();
    desk.kill(MASTER);
    let down = desk.pass_until(EventKind::Sdown, 2_300);
    assert!(down > 2_000, "{down}");
    desk.pass_until(EventKind::StateWaitPromotion, 500);
    assert_eq!(desk.sent_to(REPLICA, &Command::Promote), 1, "the larger offset wins");
    assert_eq!(desk.entry()["failover-state"], "wait_promotion");
    assert_eq!(desk.entry()["flags"], "s_down,o_down,master,disconnected,failover_in_progress");
    assert_eq!(desk.shown_master(), shown(MASTER));
    desk.infos.insert(REPLICA, "role:master\r\n".into());
    desk.pass_until(EventKind::StateReconfSlaves, 1_300);
    assert_eq!(desk.shown_master(), shown(REPLICA), "shown before it is announced");
    let disk = desk.disk.as_ref().expect("a file").groups["mymaster"].clone();
    assert_eq!((disk.settings.master, disk.config_epoch), (at(REPLICA), 1));
    assert!(disk.replicas.contains(&at(MASTER)) && !disk.replicas.contains(&at(REPLICA)));
    desk.pass(3_000);
    assert!(!desk.has(EventKind::SwitchMaster), "a replica is not done");
    let follow = Command::Follow { master: at(REPLICA) };
    assert_eq!(desk.sent_to(OTHER_REPLICA, &follow), 1);
    desk.infos.insert(OTHER_REPLICA, replica_info(REPLICA, 500));
    desk.pass_until(EventKind::SwitchMaster, 1_300);
    let kinds: Vec<EventKind> = desk.events.iter().map(|(kind, _)| *kind).collect();
    use EventKind::*;
    let expected = [
        Sdown,
        Odown,
        NewEpoch,
        TryFailover,
        VoteForLeader,
        ElectedLeader,
        StateSelectSlave,
        SelectedSlave,
        StateSendSlaveofNoone,
        StateWaitPromotion,
        RoleMismatch,
        PromotedSlave,
        StateReconfSlaves,
        SlaveReconfSent,
        SlaveReconfInprog,
        SlaveReconfDone,
        FailoverEnd,
        SwitchMaster,
        Slave,
        Slave,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(desk.events[17].1, "mymaster 127.0.0.1 7001 127.0.0.1 7002");
}

#[test]
fn one_vote_in_an_epoch_and_then_a_long_silence() {
    let mut desk = Desk::new();
    assert_eq!(desk.vote_for(2, 7), opinion(0, Some(2), 7));
    assert_eq!(desk.disk.as_ref().map(|state| state.groups["mymaster"].leader_epoch), Some(7));
    assert_eq!(desk.vote_for(3, 7), opinion(0, Some(2), 7));
    assert_eq!(desk.vote_for(3, 6), opinion(0, Some(2), 7));
    desk.peers = Some((1, None, 0));
    desk.kill(MASTER);
    desk.pass(2 * FAILOVER_TIMEOUT_MS - 200);
    assert!(desk.has(EventKind::Odown) && !desk.has(EventKind::TryFailover));
    desk.pass_until(EventKind::TryFailover, 1_400);
    assert_eq!(desk.vote_for(3, 8), opinion(1, Some(1), 8), "its own candidate now");
}

#[test]
fn a_restart_forgets_for_whom_it_voted_but_not_that() {
    let mut desk = Desk::new();
    desk.vote_for(2, 7);
    let mut desk = Desk::restored(desk.disk.take().expect("a file"));
    assert_eq!(desk.stock.current_epoch(), 7);
    assert_eq!(desk.vote_for(3, 7), opinion(0, None, 7));
    assert_eq!(desk.vote_for(3, 8), opinion(0, Some(3), 8));
}

#[test]
fn without_votes_the_attempt_ends_and_is_not_repeated_soon() {
    let mut desk = Desk::new();
    desk.peers = Some((1, None, 0));
    desk.kill(MASTER);
    desk.pass_until(EventKind::TryFailover, 3_000);
    let lasted = desk.pass_until(EventKind::AbortNotElected, 11_300);
    assert!(lasted > 9_900, "{lasted}");
    desk.events.clear();
    let pause = desk.pass_until(EventKind::TryFailover, 2 * FAILOVER_TIMEOUT_MS);
    assert!(pause > 2 * FAILOVER_TIMEOUT_MS - 12_000, "{pause}");
}

#[test]
fn an_opinion_outlives_the_switch() {
    let mut desk = Desk::new();
    desk.peers = Some((1, None, 0));
    desk.kill(MASTER);
    desk.pass_until(EventKind::TryFailover, 3_000);
    // Somebody else wins; the peers fall silent at once.
    desk.hello(2, 26002, "1", REPLICA, "1");
    desk.peers = None;
    assert!(desk.has(EventKind::ConfigUpdateFrom) && desk.has(EventKind::SwitchMaster));
    assert_eq!(desk.shown_master(), shown(REPLICA));
    assert!(desk.stock.groups["mymaster"].peers.values().all(|peer| peer.says_down));
    desk.events.clear();
    desk.kill(REPLICA);
    desk.pass_until(EventKind::Odown, 3_500);
    assert!(desk.events.iter().any(|(_, text)| text.ends_with("7002 #quorum 3/2")));
    // And outlives it by five seconds only.
    desk.pass_until(EventKind::OdownEnd, 5_300);
}

#[test]
fn an_epoch_of_minus_one_ends_all_elections() {
    let mut desk = Desk::new();
    assert_eq!(desk.vote_for(9, -1), opinion(0, Some(9), -1));
    assert_eq!(desk.stock.current_epoch(), u64::MAX);
    // The peers are poisoned too: their old vote is newer than all that will come.
    desk.peers = Some((1, Some(id(9)), -1));
    desk.kill(MASTER);
    desk.pass_until(EventKind::TryFailover, 2 * FAILOVER_TIMEOUT_MS + 2_000);
    assert_eq!(desk.stock.current_epoch(), 0);
    desk.pass_until(EventKind::AbortNotElected, 11_300);
    assert!(!desk.has(EventKind::ElectedLeader));
    let mut desk = Desk::new();
    desk.hello(2, 26002, "-1", MASTER, "-1");
    assert_eq!(desk.stock.current_epoch(), u64::MAX);
    assert_eq!(desk.stock.groups["mymaster"].config_epoch, u64::MAX);
}

#[test]
fn a_candidate_asks_in_the_newest_epoch_although_it_stands_in_an_older_one() {
    let mut desk = Desk::new();
    desk.peers = Some((1, None, 0));
    desk.kill(MASTER);
    desk.pass_until(EventKind::TryFailover, 3_000);
    desk.hello(2, 26002, "5", MASTER, "0");
    // The votes of epoch 5 make it the leader of epoch 1, without a vote of its own in 5.
    desk.peers = Some((1, Some(id(1)), 5));
    desk.pass_until(EventKind::ElectedLeader, 1_300);
    let candidate = Some(id(1));
    let question = Command::IsMasterDown { master: at(MASTER), epoch: 5, candidate };
    assert!(desk.sent_to(26002, &question) > 0);
    let group = &desk.stock.groups["mymaster"];
    assert_eq!((group.failover.epoch, group.leader_epoch), (1, 1));
}

#[test]
fn hellos_make_and_move_and_unmake_peers() {
    let mut desk = Desk::new();
    desk.hello(4, 26004, "0", MASTER, "0");
    assert!(desk.has(EventKind::Sentinel));
    assert_eq!(desk.entry()["num-other-sentinels"], "3");
    desk.hello(4, 26005, "3", MASTER, "0");
    assert!(desk.has(EventKind::SentinelAddressSwitch) && desk.has(EventKind::NewEpoch));
    desk.hello(5, 26005, "0", MASTER, "0");
    assert!(desk.has(EventKind::SentinelInvalidAddr));
    assert_eq!(desk.entry()["num-other-sentinels"], "3");
    desk.hello(1, 26379, "0", MASTER, "0");
    assert_eq!(desk.entry()["num-other-sentinels"], "3", "we do not meet ourselves");
    desk.hello(2, 26002, "3", OTHER_REPLICA, "0");
    assert_eq!(desk.shown_master(), shown(MASTER), "an equal config epoch changes nothing");
}

#[test]
fn a_manual_failover_asks_nobody() {
    let mut desk = Desk::new();
    desk.peers = None;
    assert_eq!(desk.ask(Request::Failover("mymaster".into())), Value::ok());
    let again = desk.ask(Request::Failover("mymaster".into()));
    assert_eq!(again, Value::error("INPROG Failover already in progress"));
    desk.pass_until(EventKind::StateWaitPromotion, 500);
    let asked = |(_, command): &(_, Command)| matches!(command, Command::IsMasterDown { .. });
    assert!(!desk.sent.iter().any(asked));
}

#[test]
fn an_aborted_failover_leaves_its_promotion_behind_and_repairs_it_late() {
    let mut desk = Desk::new();
    desk.ask(Request::Failover("mymaster".into()));
    desk.pass_until(EventKind::AbortSlaveTimeout, FAILOVER_TIMEOUT_MS + 1_000);
    assert_eq!(desk.sent_to(REPLICA, &Command::Promote), 1);
    desk.infos.insert(REPLICA, "role:master\r\n".into());
    let until = desk.pass_until(EventKind::ConvertToSlave, 30_000);
    assert!(until > 8_000, "{until}");
    assert_eq!(desk.sent_to(REPLICA, &Command::Follow { master: at(MASTER) }), 1);
}

#[test]
fn a_stuck_replica_blocks_the_only_slot_until_the_timeout() {
    let mut desk = Desk::new();
    desk.ask(Request::Failover("mymaster".into()));
    desk.pass_until(EventKind::StateWaitPromotion, 500);
    desk.infos.insert(REPLICA, "role:master\r\n".into());
    desk.pass_until(EventKind::SlaveReconfSent, 2_000);
    let until = desk.pass_until(EventKind::SwitchMaster, FAILOVER_TIMEOUT_MS + 1_000);
    assert!(until > FAILOVER_TIMEOUT_MS - 1_000, "{until}");
    assert!(!desk.has(EventKind::SlaveReconfSentTimeout), "no slot was free to look");
    assert!(desk.has(EventKind::FailoverEndForTimeout));
}

#[test]
fn a_leader_whose_new_master_is_down_is_stuck() {
    let mut desk = Desk::new();
    desk.ask(Request::Failover("mymaster".into()));
    desk.pass_until(EventKind::StateWaitPromotion, 500);
    desk.infos.insert(REPLICA, "role:master\r\n".into());
    desk.pass_until(EventKind::StateReconfSlaves, 2_000);
    desk.kill(REPLICA);
    desk.pass(2_500);
    desk.infos.insert(OTHER_REPLICA, replica_info(REPLICA, 500));
    desk.pass(10 * FAILOVER_TIMEOUT_MS);
    assert!(!desk.has(EventKind::FailoverEnd));
    assert_eq!(desk.shown_master(), shown(REPLICA));
    assert_eq!(desk.entry()["failover-state"], "reconf_slaves");
}

#[test]
fn a_wrong_password_is_silence() {
    let mut desk = Desk::new();
    desk.pong = Value::Error("NOAUTH Authentication required.".into());
    desk.pass_until(EventKind::Sdown, 3_500);
}

#[test]
fn a_master_that_says_slave_is_down_after_twenty_seconds_more() {
    let mut desk = Desk::new();
    desk.infos.insert(MASTER, replica_info(REPLICA, 1));
    desk.pass_until(EventKind::RoleMismatch, 10_300);
    let until = desk.pass_until(EventKind::Sdown, 22_300);
    assert!(until > 21_900, "{until}");
}

#[test]
fn a_late_timer_begins_tilt() {
    let mut desk = Desk::new();
    desk.now_ms += 2_500;
    desk.input(Input::Wake);
    assert!(desk.has(EventKind::Tilt));
    desk.kill(MASTER);
    desk.pass(29_000);
    assert!(!desk.has(EventKind::Sdown));
    assert_eq!(desk.vote_for(2, 3), opinion(0, Some(2), 3), "it votes all the same");
    desk.pass_until(EventKind::TiltEnd, 1_200);
    desk.pass_until(EventKind::Sdown, 200);
}

#[test]
fn operators_change_groups() {
    let mut desk = Desk::new();
    let set = |options: &[&str]| Request::Set {
        name: "mymaster".into(),
        options: options.iter().map(|&word| word.to_owned()).collect(),
    };
    let reply = desk.ask(set(&["quorum", "3", "parallel-syncs", "x"]));
    assert_eq!(reply, Value::error("ERR Invalid argument 'x' for SENTINEL SET 'parallel-syncs'"));
    assert_eq!(desk.entry()["quorum"], "3", "what came before is kept");
    assert_eq!(desk.ask(Request::Reset("my*".into())), Value::Integer(1));
    assert_eq!(desk.entry()["num-slaves"], "0");
    let on_disk = |desk: &Desk| desk.disk.as_ref().map(|s| s.groups["mymaster"].replicas.len());
    assert_eq!(on_disk(&desk), Some(2), "RESET is not written");
    let monitor = Request::Monitor {
        name: "other".into(),
        host: "127.0.0.1".into(),
        port: "7009".into(),
        quorum: "1".into(),
    };
    assert_eq!(desk.ask(monitor.clone()), Value::ok());
    assert_eq!(desk.ask(monitor), Value::error("ERR Duplicate master name."));
    assert_eq!(desk.disk.as_ref().map(|state| state.groups.len()), Some(2));
    assert_eq!(desk.ask(Request::Remove("mymaster".into())), Value::ok());
    assert_eq!(desk.shown_master(), Value::NullArray);
    assert!(matches!(desk.ask(Request::CkQuorum("other".into())), Value::Simple(_)));
}

#[test]
fn a_silent_link_is_given_up_after_fifteen_seconds() {
    let mut desk = Desk::new();
    desk.pass(15_000);
    let link = |desk: &Desk| *desk.links.iter().find(|(_, to)| to.port == MASTER).expect("one").0;
    let before = link(&desk);
    desk.infos.remove(&MASTER);
    desk.pass(4_000);
    assert_ne!(link(&desk), before);
}
