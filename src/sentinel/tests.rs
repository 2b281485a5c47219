//! One sentinel at a desk: the test plays nodes, peers, disk and clock. Whole worlds of sentinels
//! are `sim`'s; here stand the rules that one sentinel must keep, each shown by what it sends and
//! when.

mod given_up;
mod guards;
mod lessons;
mod links;
mod lookups;
mod operator;
mod promises;
mod rights;
mod scripts;
mod signed;
mod strangers;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::types::{Address, EPOCH_JUMP_MAX, EPOCH_MAX};
use super::*;
use crate::config::settings::{GroupSettings, LogLevel};
use crate::config::state::GroupState;

const MASTER: u16 = 7001;
const REPLICA: u16 = 7002;
const OTHER_REPLICA: u16 = 7003;
/// What a node answers while a script runs.
const BUSY: &str = "BUSY Redis is busy running a script.";

fn at(port: u16) -> Address {
    Address::new("127.0.0.1", port)
}

fn id(n: u8) -> RunId {
    RunId::from_bytes([n; 20])
}

/// A sentinel and what it has let out.
struct Desk {
    sentinel: Sentinel,
    now_ms: u64,
    links: BTreeMap<LinkId, Address>,
    /// How each of them was to be opened.
    targets: BTreeMap<LinkId, Target>,
    sent: Vec<(Address, Command)>,
    events: Vec<(EventKind, String)>,
    said: Vec<String>,
    /// The scripts that were to be run, each with the number of events before it.
    scripts: Vec<(usize, Vec<String>)>,
    replies: Vec<Value>,
    writes: Vec<(Revision, State)>,
    /// Answers every write at once.
    disk_works: bool,
    /// What each node answers to PING and INFO; absent: nothing.
    infos: BTreeMap<Address, String>,
    /// Nodes that answer with this error instead, as long as they live.
    refusals: BTreeMap<Address, &'static str>,
    /// What living nodes answer to PING alone, where it is no PONG.
    pings: BTreeMap<Address, &'static str>,
    /// What a host means to whoever connects now; 127.0.0.1 where nothing is said.
    ips: BTreeMap<String, String>,
    /// Links over which nothing is answered, though their connections stand.
    deaf: BTreeSet<LinkId>,
    /// What is published on a node comes back from it.
    echoes: bool,
    /// The level that the log was last told.
    loglevel: Option<LogLevel>,
    /// How many events were out each time that it wanted to crash.
    crashed: Vec<usize>,
}

impl Desk {
    /// Watches MASTER with two peers (ids 2 and 3, ports 26002 and 26003); our id is `me`.
    fn new(me: u8, quorum: u32) -> Desk {
        Desk::with(me, quorum, |_, _| {})
    }

    /// The same with other settings.
    fn with(
        me: u8,
        quorum: u32,
        change: impl FnOnce(&mut SentinelSettings, &mut GroupSettings),
    ) -> Desk {
        let mut own = SentinelSettings::default();
        let mut settings = GroupSettings::new(at(MASTER), quorum);
        settings.down_after_ms = 1000;
        settings.failover_timeout_ms = 60_000;
        change(&mut own, &mut settings);
        let mut group = GroupState::fresh(settings, None);
        group.replicas = vec![at(REPLICA), at(OTHER_REPLICA)];
        group.sentinels = BTreeMap::from([(id(2), at(26002)), (id(3), at(26003))]);
        let groups = BTreeMap::from([("mymaster".to_owned(), group)]);
        let (my_id, removed) = (id(me), BTreeMap::new());
        Desk::started(own, State { my_id, current_epoch: 0, groups, removed, live: None })
    }

    fn restored(state: State) -> Desk {
        Desk::started(SentinelSettings::default(), state)
    }

    fn started(settings: SentinelSettings, state: State) -> Desk {
        let masters = state.groups.values().map(|group| group.settings.master.clone());
        let masters: Vec<Address> = masters.chain([at(MASTER)]).collect();
        let clock = Clock { mono: Instant::from_ms(0), wall_ms: 0 };
        let mut desk = Desk {
            sentinel: Sentinel::new(clock, settings, state, 1),
            now_ms: 0,
            links: BTreeMap::new(),
            targets: BTreeMap::new(),
            sent: Vec::new(),
            events: Vec::new(),
            said: Vec::new(),
            scripts: Vec::new(),
            replies: Vec::new(),
            writes: Vec::new(),
            disk_works: true,
            infos: BTreeMap::new(),
            refusals: BTreeMap::new(),
            pings: BTreeMap::new(),
            ips: BTreeMap::new(),
            deaf: BTreeSet::new(),
            echoes: true,
            loglevel: None,
            crashed: Vec::new(),
        };
        for (port, offset) in [(REPLICA, 500), (OTHER_REPLICA, 400)] {
            desk.infos.insert(at(port), replica_info(MASTER, offset, true));
        }
        for master in masters {
            desk.infos.entry(master).or_insert_with(|| "role:master\r\n".into());
        }
        desk.input(Input::Wake);
        desk
    }

    fn clock(&self) -> Clock {
        Clock { mono: Instant::from_ms(self.now_ms), wall_ms: self.now_ms }
    }

    fn input(&mut self, input: Input) {
        self.sentinel.handle(self.clock(), input);
        while let Some(effect) = self.sentinel.poll() {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { revision, state } => {
                self.writes.push((revision, *state));
                if self.disk_works {
                    self.sentinel.handle(self.clock(), Input::Persisted { revision });
                }
            }
            Effect::Connect { link, target } => {
                self.links.insert(link, target.address.clone());
                let local_ip = "127.0.0.1".to_owned();
                let remote_ip = self.ips.get(&target.address.host).unwrap_or(&local_ip).clone();
                self.targets.insert(link, *target);
                let up = LinkEvent::Up { local_ip, remote_ip };
                self.sentinel.handle(self.clock(), Input::Link { link, event: up });
                let event = LinkEvent::Subscribed;
                self.sentinel.handle(self.clock(), Input::Link { link, event });
            }
            Effect::Disconnect { link } => {
                self.links.remove(&link);
                self.targets.remove(&link);
            }
            Effect::Send { link, command } => {
                let Some(to) = self.links.get(&link).cloned() else { return };
                self.serve(link, &to, &command);
                if !matches!(command, Command::Ping | Command::Info) {
                    self.sent.push((to, command));
                }
            }
            Effect::Reply { reply, .. } => self.replies.push(reply),
            Effect::Announce(event) => self.events.push((event.kind, event.payload)),
            Effect::Say { text, .. } => self.said.push(text),
            Effect::RunScript { script, args, .. } => {
                let argv = std::iter::once(script.display().to_string()).chain(args);
                self.scripts.push((self.events.len(), argv.collect()));
            }
            Effect::TimeScripts(_) => {}
            Effect::SetLogLevel(level) => self.loglevel = Some(level),
            Effect::Crash => self.crashed.push(self.events.len()),
        }
    }

    /// What a living node or peer answers at once.
    fn serve(&mut self, link: LinkId, to: &Address, command: &Command) {
        if self.deaf.contains(&link) {
            return;
        }
        let is_peer = to.port > 26000;
        let refusal = self.refusals.get(to).filter(|_| self.infos.contains_key(to));
        let refuses = refusal.is_some();
        let reply = match command {
            _ if refuses => Value::error(*refusal.expect("just seen")),
            Command::Ping if is_peer || self.infos.contains_key(to) => match self.pings.get(to) {
                Some(error) => Value::error(*error),
                None => Value::Simple("PONG".into()),
            },
            Command::Info => match self.infos.get(to) {
                Some(info) => Value::bulk(info),
                None => return,
            },
            Command::Hello { .. } if is_peer || self.infos.contains_key(to) => Value::Integer(1),
            _ => return,
        };
        let event = LinkEvent::Reply { command: command.clone(), reply };
        self.sentinel.handle(self.clock(), Input::Link { link, event });
        if let Command::Hello { payload } = command
            && !is_peer
            && !refuses
            && self.echoes
        {
            let event = LinkEvent::Hello { payload: payload.clone() };
            self.sentinel.handle(self.clock(), Input::Link { link, event });
        }
    }

    /// The write that was begun last is done.
    fn write_ends(&mut self) {
        let revision = self.writes.last().expect("a write").0;
        self.input(Input::Persisted { revision });
    }

    /// It failed.
    fn write_fails(&mut self) {
        let revision = self.writes.last().expect("a write").0;
        let reason = "No space left on device".into();
        self.input(Input::PersistFailed { revision, reason });
    }

    /// Lets time pass, waking the sentinel whenever it wants.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(next) = self.sentinel.deadline().filter(|at| at.as_ms() <= end) {
            self.now_ms = next.as_ms().max(self.now_ms);
            self.input(Input::Wake);
        }
        self.now_ms = end;
    }

    /// The one link that leads to this port.
    fn link_to(&self, port: u16) -> LinkId {
        let link = self.links.iter().find(|(_, to)| to.port == port).map(|(link, _)| *link);
        link.expect("a link")
    }

    fn reply_from(&mut self, port: u16, command: Command, reply: Value) {
        let event = LinkEvent::Reply { command, reply };
        self.input(Input::Link { link: self.link_to(port), event });
    }

    fn connection_ends(&mut self, port: u16) {
        let event = LinkEvent::Down { reason: LostReason::Closed };
        self.input(Input::Link { link: self.link_to(port), event });
    }

    /// The question last sent to that peer.
    fn question(&self, port: u16) -> Command {
        let to_peer = |(to, command): &&(Address, Command)| {
            to.port == port && matches!(command, Command::IsMasterDown { .. })
        };
        self.sent.iter().rfind(to_peer).expect("a question").1.clone()
    }

    fn answer_question(&mut self, port: u16, down: i64, leader: &str, epoch: i64) {
        let parts = vec![Value::Integer(down), Value::bulk(leader), Value::Integer(epoch)];
        self.reply_from(port, self.question(port), Value::Array(parts));
    }

    fn ask(&mut self, request: Request) -> Option<Value> {
        self.replies.clear();
        self.input(Input::Request { id: RequestId(1), request });
        self.replies.pop()
    }

    fn vote_for(&mut self, candidate: u8, epoch: i64) -> Option<Value> {
        let candidate = Some(id(candidate).to_string());
        let (host, port) = ("127.0.0.1".to_owned(), i64::from(MASTER));
        self.ask(Request::IsMasterDown { host, port, epoch, candidate })
    }

    fn hello(&mut self, from: u8, current: u64, master: u16, config: u64) {
        let port = 26000 + u16::from(from);
        let line =
            format!("127.0.0.1,{port},{},{current},mymaster,127.0.0.1,{master},{config}", id(from));
        self.ask(Request::Hello(line));
    }

    fn has(&self, kind: EventKind) -> bool {
        self.events.iter().any(|(k, _)| *k == kind)
    }

    fn promotions(&self) -> Vec<u16> {
        let promote = |(to, c): &(Address, Command)| (*c == Command::Promote).then_some(to.port);
        self.sent.iter().filter_map(promote).collect()
    }

    /// The master falls silent and one peer agrees.
    fn master_dies(&mut self) {
        self.infos.remove(&at(MASTER));
        self.pass(1200);
        assert!(self.has(EventKind::Sdown), "{:?}", self.events);
        self.answer_question(26002, 1, "*", 0);
        self.answer_question(26003, 0, "*", 0);
    }

    /// Both peers vote for us.
    fn win(&mut self) {
        let epoch = self.sentinel.view().current_epoch() as i64;
        let me = self.sentinel.view().my_id().to_string();
        self.answer_question(26002, 1, &me, epoch);
    }
}

fn replica_info(master: u16, offset: u64, linked: bool) -> String {
    let status = if linked { "up" } else { "down" };
    format!(
        "role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:{master}\r\n\
         master_link_status:{status}\r\nslave_repl_offset:{offset}\r\nslave_priority:100\r\n"
    )
}

fn opinion(down: i64, leader: u8, epoch: i64) -> Value {
    let leader = if leader == 0 { "*".to_owned() } else { id(leader).to_string() };
    Value::Array(vec![Value::Integer(down), Value::bulk(leader), Value::Integer(epoch)])
}

#[test]
fn a_whole_failover_goes_through_within_milliseconds() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    assert!(desk.has(EventKind::Odown) && desk.has(EventKind::TryFailover));
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA], "the larger offset wins");
    let decided_at = desk.now_ms;
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(100);
    let (_, switch) =
        desk.events.iter().find(|(kind, _)| *kind == EventKind::SwitchMaster).expect("a switch");
    assert_eq!(switch, "mymaster 127.0.0.1 7001 127.0.0.1 7002");
    assert!(desk.now_ms - decided_at <= 100);
    let follow = Command::Follow { master: at(REPLICA) };
    assert!(desk.sent.contains(&(at(OTHER_REPLICA), follow)), "{:?}", desk.sent);
    desk.infos.insert(at(OTHER_REPLICA), replica_info(REPLICA, 500, true));
    desk.pass(2_000);
    assert!(desk.has(EventKind::SlaveReconfDone) && desk.has(EventKind::FailoverEnd));
    let view = desk.sentinel.view().groups().next().expect("a group");
    assert_eq!((view.master, view.config_epoch), (at(REPLICA), 1));
}

#[test]
fn nothing_is_said_before_it_is_durable() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.disk_works = false;
    desk.sent.clear();
    assert_eq!(desk.vote_for(2, 5), None, "the vote waits for the disk");
    desk.pass(3_000);
    assert!(!desk.has(EventKind::VoteForLeader) && !desk.has(EventKind::NewEpoch));
    let hellos = desk.sent.iter().filter(|(_, c)| matches!(c, Command::Hello { .. })).count();
    assert_eq!(hellos, 0, "a hello would show the new epoch");
    let (revision, state) = desk.writes.last().cloned().expect("a write");
    assert_eq!(state.groups["mymaster"].leader_epoch, 5);
    desk.input(Input::Persisted { revision });
    assert_eq!(desk.replies, [opinion(0, 2, 5)]);
    assert!(desk.has(EventKind::VoteForLeader));
}

#[test]
fn a_vote_is_given_once_and_binds_for_a_while() {
    let mut desk = Desk::new(1, 2);
    assert_eq!(desk.vote_for(2, 5), Some(opinion(0, 2, 5)));
    assert_eq!(desk.vote_for(3, 5), Some(opinion(0, 2, 5)), "one vote per epoch");
    assert_eq!(desk.vote_for(3, 6), Some(opinion(0, 2, 5)), "bound to the first candidate");
    assert_eq!(desk.vote_for(2, 7), Some(opinion(0, 2, 7)), "who may try again");
    desk.pass(election::TENURE_MS + 1);
    assert_eq!(desk.vote_for(3, 8), Some(opinion(0, 3, 8)));
    assert_eq!(desk.vote_for(2, 4), Some(opinion(0, 3, 8)), "old epochs get the old vote");
    assert_eq!(desk.vote_for(9, 20), Some(opinion(0, 3, 8)), "no vote for a stranger");
}

#[test]
fn a_vote_outlives_a_crash_and_binds_afresh() {
    let mut desk = Desk::new(1, 2);
    desk.vote_for(2, 5);
    let (_, state) = desk.writes.last().cloned().expect("written");
    let mut desk = Desk::restored(state);
    assert_eq!(desk.vote_for(3, 5), Some(opinion(0, 2, 5)));
    assert_eq!(desk.vote_for(3, 6), Some(opinion(0, 2, 5)));
    assert_eq!(desk.sentinel.view().current_epoch(), 6);
}

#[test]
fn a_vote_that_cannot_be_written_is_not_given() {
    let mut desk = Desk::new(1, 2);
    desk.disk_works = false;
    desk.vote_for(2, 5);
    desk.write_fails();
    assert_eq!(desk.replies, [opinion(0, 0, 0)]);
    assert!(desk.said.iter().any(|text| text.contains("No space left")), "{:?}", desk.said);
    desk.infos.remove(&at(MASTER));
    desk.pass(1200);
    desk.answer_question(26002, 1, "*", 0);
    desk.pass(2000);
    assert!(desk.has(EventKind::Odown) && !desk.has(EventKind::TryFailover), "{:?}", desk.events);
}

#[test]
fn a_disk_that_fails_withholds_no_fact_and_ckquorum_tells_of_it() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.disk_works = false;
    desk.hello(2, 4, REPLICA, 4);
    assert!(!desk.has(EventKind::SwitchMaster), "as long as the write may succeed");
    desk.write_fails();
    assert!(desk.has(EventKind::SwitchMaster), "clients are told where the master is");
    assert!(!desk.has(EventKind::NewEpoch), "but nothing is promised");
    let told = desk.ask(Request::CkQuorum("mymaster".into()));
    assert!(matches!(told, Some(Value::Error(text)) if text.contains("cannot be written")));
}

#[test]
fn a_node_that_wants_a_password_is_named() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let error = Value::error("NOAUTH Authentication required.");
    desk.reply_from(MASTER, Command::Ping, error.clone());
    desk.reply_from(MASTER, Command::Ping, error);
    let told = desk.said.iter().filter(|text| text.contains("set auth-pass")).count();
    assert_eq!(told, 1, "{:?}", desk.said);
}

#[test]
fn a_node_that_refuses_us_lives_and_its_death_is_noticed_all_the_same() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    for (port, error) in [(MASTER, "WRONGPASS invalid"), (REPLICA, "NOPERM no permissions")] {
        desk.refusals.insert(at(port), error);
    }
    let first = |desk: &Desk| *desk.links.iter().find(|(_, to)| to.port == MASTER).expect("one").0;
    let before = first(&desk);
    desk.pass(150_000);
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    let told = desk.said.iter().filter(|text| text.contains("WRONGPASS (auth-pass")).count();
    assert_eq!(told, 3, "once a minute: {:?}", desk.said);
    assert_ne!(first(&desk), before, "AUTH is tried anew");
    let entry = desk.ask(Request::Master("mymaster".into())).expect("an answer");
    assert!(format!("{entry:?}").contains("s_down,master,disconnected"), "{entry:?}");

    desk.refusals.clear();
    desk.pass(20_000);
    let entry = desk.ask(Request::Master("mymaster".into())).expect("an answer");
    assert!(!format!("{entry:?}").contains("disconnected"), "{entry:?}");

    desk.refusals.insert(at(MASTER), "NOAUTH Authentication required.");
    desk.refusals.insert(at(REPLICA), "NOAUTH Authentication required.");
    desk.pass(20_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(1_300);
    assert!(desk.has(EventKind::Sdown), "silence is silence");
    desk.answer_question(26002, 1, "*", 0);
    desk.pass(200);
    desk.answer_question(26002, 1, &id(1).to_string(), 1);
    desk.pass(500);
    let promoted = desk.promotions();
    assert_eq!(promoted, [OTHER_REPLICA], "who refuses us is no candidate: {:?}", desk.said);
}

#[test]
fn a_connection_that_ends_with_a_refusal_is_a_sign_of_life() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    for _ in 0..10 {
        let link = *desk.links.iter().find(|(_, to)| to.port == MASTER).expect("one").0;
        let reason = LostReason::Rejected("WRONGPASS invalid username-password pair".into());
        desk.input(Input::Link { link, event: LinkEvent::Down { reason } });
        desk.pass(500);
    }
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.pass(4_000);
    assert!(desk.has(EventKind::Sdown), "until it says nothing more");
}

#[test]
fn a_certificate_that_is_not_accepted_is_a_sign_of_life_and_named() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    for _ in 0..10 {
        let link = *desk.links.iter().find(|(_, to)| to.port == MASTER).expect("one").0;
        let reason = LostReason::Untrusted("its certificate is not accepted".into());
        desk.input(Input::Link { link, event: LinkEvent::Down { reason } });
        desk.pass(500);
    }
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
    let named = "TLS handshake failed: its certificate is not accepted; it lives, so";
    assert!(desk.said.iter().any(|said| said.contains(named)), "{:?}", desk.said);
    desk.pass(4_000);
    assert!(desk.has(EventKind::Sdown), "until it says nothing more");
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
fn old_data_and_none_are_an_operators_decision() {
    let link = |since_s: i64, keys: &str| {
        let info = replica_info(MASTER, 7, false);
        format!("uptime_in_seconds:900\r\n{info}master_link_down_since_seconds:{since_s}\r\n{keys}")
    };
    let keys = "db0:keys=4,expires=0,avg_ttl=0\r\n";
    for (info, fit) in [
        (link(600, keys), false),
        (link(5, ""), true),
        (link(-1, ""), false),
        (link(-1, keys), true),
        (link(1_700_000_000, keys), true),
        (link(1_700_000_000, ""), false),
    ] {
        for forced in [false, true] {
            let mut desk = Desk::new(1, 2);
            desk.infos.remove(&at(OTHER_REPLICA));
            desk.infos.insert(at(REPLICA), info.clone());
            desk.pass(2_000);
            desk.infos.remove(&at(MASTER));
            desk.pass(1_500);
            if forced {
                let reply = desk.ask(Request::Failover("mymaster".into()));
                assert_eq!(reply, Some(Value::ok()));
            } else {
                desk.answer_question(26002, 1, "*", 0);
                desk.pass(200);
            }
            desk.answer_question(26002, 1, &id(1).to_string(), 1);
            desk.pass(300);
            assert_eq!(desk.promotions().len(), usize::from(fit || forced), "{info} {forced}");
            let hint = desk.said.iter().any(|text| text.contains("SENTINEL FAILOVER mymaster"));
            assert_eq!(hint, !fit && !forced, "{:?}", desk.said);
        }
    }
}

#[test]
fn absurd_epochs_are_refused() {
    let mut desk = Desk::new(1, 2);
    for epoch in [-1, i64::MAX, EPOCH_MAX as i64, EPOCH_JUMP_MAX as i64 + 1] {
        let reply = desk.vote_for(2, epoch);
        assert!(matches!(reply, Some(Value::Error(_))), "{epoch}: {reply:?}");
    }
    desk.ask(Request::Hello(format!(
        "127.0.0.1,26002,{},18446744073709551615,mymaster,127.0.0.1,7001,0",
        id(2)
    )));
    assert_eq!(desk.sentinel.view().current_epoch(), 0);
    assert!(desk.said.iter().any(|text| text.contains("current epoch")), "{:?}", desk.said);
}

#[test]
fn without_a_majority_nothing_starts_and_the_reason_is_said() {
    let mut desk = Desk::new(1, 1);
    desk.pass(2_000);
    let peers: Vec<LinkId> =
        desk.links.iter().filter(|(_, to)| to.port > 26000).map(|(link, _)| *link).collect();
    for link in peers {
        let event = LinkEvent::Down { reason: LostReason::Refused };
        desk.input(Input::Link { link, event });
    }
    desk.infos.remove(&at(MASTER));
    desk.pass(10_000);
    assert!(desk.has(EventKind::Odown), "quorum 1 of 3 agrees with itself");
    assert!(!desk.has(EventKind::TryFailover));
    let why = "only 1 of 3 sentinels can be reached, and 2 votes are needed";
    assert!(desk.said.iter().any(|text| text.contains(why)), "{:?}", desk.said);
    let told = desk.ask(Request::CkQuorum("mymaster".into()));
    assert!(matches!(told, Some(Value::Error(text)) if text.starts_with("NOQUORUM 1 usable")));
}

#[test]
fn a_lost_election_is_repeated_soon_and_in_a_new_epoch() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.master_dies();
    let other = id(3).to_string();
    desk.answer_question(26002, 1, &other, 1);
    desk.answer_question(26003, 1, &other, 1);
    assert!(desk.has(EventKind::AbortNotElected));
    desk.events.clear();
    desk.pass(1_000);
    assert!(desk.has(EventKind::TryFailover), "{:?}", desk.events);
    assert!(desk.promotions().is_empty());
    assert!(desk.sentinel.view().current_epoch() >= 2);
}

#[test]
fn a_vote_for_another_does_not_shorten_the_pause_after_lost_elections() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.master_dies();
    let refused_for = |desk: &mut Desk, ms: u64| {
        for _ in 0..ms / 100 {
            desk.pass(100);
            desk.answer_question(26002, 1, "*", 0);
            desk.answer_question(26003, 1, "*", 0);
        }
    };
    let lost =
        |desk: &Desk| desk.events.iter().filter(|e| e.0 == EventKind::AbortNotElected).count();
    refused_for(&mut desk, 60_000);
    let before = lost(&desk);
    assert!(before >= 8, "{before} elections lost");
    while lost(&desk) == before {
        refused_for(&mut desk, 100);
    }
    let epoch = desk.sentinel.view().current_epoch() as i64 + 1;
    assert_eq!(desk.vote_for(2, epoch), Some(opinion(1, 2, epoch)));
    desk.events.clear();
    refused_for(&mut desk, election::TENURE_MS + 500);
    assert!(!desk.has(EventKind::TryFailover), "{:?}", desk.events);
}

#[test]
fn a_newer_configuration_is_adopted_and_an_older_one_corrected() {
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
fn opinions_about_the_old_master_do_not_fail_the_new_one_over() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.remove(&at(MASTER));
    desk.pass(1200);
    let late = desk.question(26002);
    desk.hello(3, 4, REPLICA, 4);
    desk.reply_from(26002, late, opinion(1, 0, 0));
    desk.infos.remove(&at(REPLICA));
    desk.events.clear();
    desk.pass(1500);
    assert!(desk.has(EventKind::Sdown));
    assert!(!desk.has(EventKind::Odown), "{:?}", desk.events);
}

#[test]
fn a_returning_old_master_is_taken_back_after_all_have_confirmed() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    let follow = (at(MASTER), Command::Follow { master: at(REPLICA) });
    desk.pass(1_000);
    assert!(!desk.sent.contains(&follow), "maybe it is we who lag behind");
    desk.hello(3, 4, REPLICA, 4);
    desk.pass(2_000);
    assert!(desk.sent.contains(&follow), "{:?}", desk.sent);
    assert!(desk.has(EventKind::ConvertToSlave));
}

#[test]
fn a_node_that_refuses_is_asked_again_after_a_pause() {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    let follow = Command::Follow { master: at(REPLICA) };
    let asked =
        |desk: &Desk| desk.sent.iter().filter(|(to, c)| to.port == MASTER && *c == follow).count();
    desk.pass(12_000);
    assert_eq!(asked(&desk), 1, "{:?}", desk.sent);
    let mut replies = vec![Value::ok(); 5];
    replies.push(Value::error("EXECABORT Transaction discarded because of previous errors."));
    desk.reply_from(MASTER, follow.clone(), Value::Array(replies));
    desk.pass(900);
    assert_eq!(asked(&desk), 1, "no storm of transactions: {:?}", desk.sent);
    desk.pass(200);
    assert_eq!(asked(&desk), 2, "{:?}", desk.sent);
}

#[test]
fn a_promoted_node_is_not_down_for_having_been_a_replica() {
    let mut desk = Desk::new(1, 2);
    desk.pass(60_000);
    desk.events.clear();
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    desk.pass(5_000);
    let called_down =
        desk.events.iter().any(|e| e.0 == EventKind::Sdown && e.1.contains("master m"));
    assert!(!called_down, "{:?}", desk.events);
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
fn strangers_and_unknown_groups_move_no_epoch_and_get_an_answer_while_the_disk_fails() {
    let mut desk = Desk::new(1, 2);
    assert!(desk.vote_for(9, 500).is_some());
    desk.disk_works = false;
    desk.ask(Request::FlushConfig);
    let (host, port) = ("9.9.9.9".to_owned(), 1);
    let candidate = Some(id(2).to_string());
    let reply = desk.ask(Request::IsMasterDown { host, port, epoch: 7, candidate });
    assert_eq!(reply, Some(opinion(0, 0, 0)));
    assert_eq!(desk.sentinel.view().current_epoch(), 0);
}

#[test]
fn time_not_watched_counts_against_nobody() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    // The process is stopped; the world goes on.
    desk.now_ms += 30_000;
    desk.input(Input::Wake);
    assert!(desk.has(EventKind::Tilt));
    desk.pass(5_000);
    assert!(desk.has(EventKind::TiltEnd));
    assert!(!desk.has(EventKind::Sdown), "{:?}", desk.events);
}

#[test]
fn a_manual_failover_needs_a_majority_too() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    assert_eq!(desk.ask(Request::Failover("mymaster".into())), Some(Value::ok()));
    assert!(desk.promotions().is_empty());
    let again = desk.ask(Request::Failover("mymaster".into()));
    assert_eq!(again, Some(Value::error("INPROG Failover already in progress")));
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA]);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.pass(200);
    let demoted = (at(MASTER), Command::Follow { master: at(REPLICA) });
    assert!(desk.sent.contains(&demoted), "the old master is told at once: {:?}", desk.sent);
}

#[test]
fn replicas_that_must_not_be_promoted_are_not() {
    for (line, reason) in [
        ("slave_priority:0\r\n", "replica-priority is 0"),
        ("replica_announced:0\r\n", "send it CONFIG SET replica-announced yes"),
        ("master_link_down_since_seconds:600\r\n", "link to the master has been down"),
    ] {
        let mut desk = Desk::new(1, 2);
        for port in [REPLICA, OTHER_REPLICA] {
            let info = replica_info(MASTER, 1, false) + line;
            desk.infos.insert(at(port), info);
        }
        desk.pass(12_000);
        desk.master_dies();
        desk.win();
        desk.pass(1_000);
        assert!(desk.has(EventKind::AbortNoGoodSlave), "{line}: {:?}", desk.events);
        assert!(desk.promotions().is_empty());
        assert!(desk.said.iter().any(|text| text.contains(reason)), "{line}: {:?}", desk.said);
    }
}

/// Both nodes restart from files that know nothing of the failover that made REPLICA the master;
/// the returned old master says `old`, the new one that it is a replica of the old one.
fn roles_fall_back(old: &str) -> Desk {
    let mut desk = Desk::new(1, 2);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    desk.hello(2, 4, REPLICA, 4);
    desk.infos.insert(at(MASTER), old.into());
    desk.infos.remove(&at(OTHER_REPLICA));
    desk.infos.insert(at(REPLICA), replica_info(MASTER, 1, old.contains("master\r\n")));
    desk.pass(40_000);
    assert!(desk.has(EventKind::Sdown), "{:?}", desk.events);
    desk.answer_question(26002, 1, "*", 0);
    desk.win();
    desk.pass(500);
    desk
}

#[test]
fn the_node_that_our_demoted_master_follows_may_lead_the_group() {
    let desk = roles_fall_back("role:master\r\n");
    assert_eq!(desk.promotions(), [MASTER], "{:?}", desk.said);
}

#[test]
fn nodes_that_follow_each_other_get_a_master_however_long_their_links_are_down() {
    let line = replica_info(REPLICA, 1, false) + "master_link_down_since_seconds:600\r\n";
    let desk = roles_fall_back(&line);
    assert_eq!(desk.promotions(), [REPLICA], "{:?}", desk.said);
}

#[test]
fn a_circle_of_replicas_gets_its_master_back() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let old = replica_info(MASTER, 1, false) + "master_link_down_since_seconds:600\r\n";
    for port in [REPLICA, OTHER_REPLICA] {
        desk.infos.insert(at(port), old.clone());
    }
    desk.infos.insert(at(MASTER), replica_info(REPLICA, 500, false));
    desk.pass(40_000);
    assert!(desk.has(EventKind::Sdown), "a master that says slave for long is down");
    desk.answer_question(26002, 1, "*", 0);
    desk.win();
    assert_eq!(desk.promotions(), [MASTER]);
    desk.infos.insert(at(MASTER), "role:master\r\n".into());
    desk.pass(3_000);
    let view = desk.sentinel.view().groups().next().expect("a group");
    assert_eq!((view.master, view.config_epoch, view.sdown), (at(MASTER), 1, false));
    assert!(!desk.has(EventKind::SwitchMaster), "the address is the same");
}

#[test]
fn garbage_in_info_is_counted_and_forgets_nothing() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    desk.infos.insert(at(MASTER), "%$! no info at all".into());
    desk.pass(60_000);
    let view = desk.sentinel.view().groups().next().expect("a group");
    assert_eq!((view.replicas.len(), view.sdown), (2, false));
    assert!(desk.said.iter().any(|text| text.contains("no INFO")), "{:?}", desk.said);
}

#[test]
fn the_same_inputs_give_the_same_effects() {
    let run = || {
        let mut desk = Desk::new(1, 2);
        desk.pass(3_000);
        desk.master_dies();
        desk.pass(20_000);
        format!("{:?}{:?}{:?}", desk.sent, desk.events, desk.said)
    };
    assert_eq!(run(), run());
}

#[test]
fn entries_keep_the_order_that_clients_index() {
    let mut desk = Desk::new(1, 2);
    desk.pass(2_000);
    let fields = |value: Option<Value>| match value {
        Some(Value::Map(pairs)) => {
            pairs.iter().filter_map(|(k, _)| k.text().map(str::to_owned)).collect::<Vec<_>>()
        }
        other => panic!("no map: {other:?}"),
    };
    let first = |value: Option<Value>| match value {
        Some(Value::Array(items)) => items.into_iter().next(),
        other => panic!("no array: {other:?}"),
    };
    let master = fields(desk.ask(Request::Master("mymaster".into())));
    assert_eq!((master[1].as_str(), master[2].as_str(), master.len()), ("ip", "port", 20));
    let replica = fields(first(desk.ask(Request::Replicas("mymaster".into()))));
    assert_eq!((replica[19].as_str(), replica.len()), ("slave-repl-offset", 21));
    let peer = fields(first(desk.ask(Request::Sentinels("mymaster".into()))));
    assert_eq!((peer[13].as_str(), peer.len()), ("voted-leader-epoch", 14));
}

fn own_hello(port: u16) -> Request {
    Request::Hello(format!("127.0.0.1,{port},{},0,mymaster,127.0.0.1,{MASTER},0", id(1)))
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
    assert!(desk.has(EventKind::AbortNotElected), "{:?}", desk.events);
    let epoch = desk.sentinel.view().current_epoch() as i64;
    desk.answer_question(26002, 1, id(1).as_str(), epoch);
    assert!(!desk.has(EventKind::ElectedLeader), "that vote may be the other's");
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
fn a_replica_that_lost_its_master_before_comes_last_whatever_its_priority() {
    for (down_s, promoted) in [(8, OTHER_REPLICA), (2, REPLICA)] {
        let mut desk = Desk::new(1, 2);
        desk.pass(5_000);
        let info = replica_info(MASTER, 300, false)
            + &format!("slave_priority:1\r\nmaster_link_down_since_seconds:{down_s}\r\n");
        desk.infos.insert(at(REPLICA), info);
        let info = replica_info(MASTER, 400, false) + "master_link_down_since_seconds:1\r\n";
        desk.infos.insert(at(OTHER_REPLICA), info);
        desk.master_dies();
        desk.win();
        assert_eq!(desk.promotions(), [promoted], "{down_s} s");
    }
}

#[test]
fn a_promotion_seen_too_late_is_not_announced() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA]);
    desk.infos.insert(at(REPLICA), "role:master\r\n".into());
    // The process stands still for longer than its votes bind.
    desk.now_ms += 10_000;
    desk.pass(4_000);
    assert!(desk.has(EventKind::AbortSlaveTimeout), "{:?}", desk.events);
    assert!(!desk.has(EventKind::PromotedSlave), "others may have undone it");
}

#[test]
fn reset_does_not_make_replicas_of_a_dead_master_too_old() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    let info =
        |s: u64| replica_info(MASTER, 300, false) + &format!("master_link_down_since_seconds:{s}");
    desk.infos.remove(&at(MASTER));
    for port in [REPLICA, OTHER_REPLICA] {
        desk.infos.insert(at(port), info(40));
    }
    desk.pass(40_000);
    desk.hello(2, 0, MASTER, 0);
    desk.hello(3, 0, MASTER, 0);
    desk.ask(Request::Reset("mymaster".into()));
    desk.pass(1_200);
    desk.answer_question(26002, 1, "*", 0);
    desk.pass(100);
    desk.win();
    assert_eq!(desk.promotions().len(), 1, "{:?}", desk.said);
}

#[test]
fn a_promotion_waits_for_no_other_change_to_be_on_disk() {
    let mut desk = Desk::new(1, 2);
    desk.pass(5_000);
    desk.master_dies();
    desk.pass(100);
    desk.disk_works = false;
    let options = ["quorum".to_owned(), "2".to_owned()].to_vec();
    desk.ask(Request::Set { name: "mymaster".into(), options });
    desk.writes.last().expect("a write");
    desk.win();
    assert_eq!(desk.promotions(), [REPLICA]);
    assert!(!desk.has(EventKind::SelectedSlave), "told once what was decided before is on disk");
}
