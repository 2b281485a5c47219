//! One sentinel at a desk: the test plays nodes, peers, disk and clock. Whole worlds of sentinels
//! are `sim`'s; in the files below stand the rules that one sentinel must keep, by theme, each
//! shown by what it sends and when.

mod contract;
mod elections;
mod flaps;
mod given_up;
mod guards;
mod hand_overs;
mod lessons;
mod links;
mod lookups;
mod meetings;
mod news;
mod operator;
mod promises;
mod promotions;
mod repairs;
mod rights;
mod scripts;
mod signed;
mod silence;
mod strangers;
mod swaps;
mod votes;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::types::{Address, EPOCH_JUMP_MAX, EPOCH_MAX, EPOCH_STRIDE_MAX, EPOCH_STRIDES_MAX};
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
    /// What they answer to a hello alone, where it is not published.
    unpublished: BTreeMap<Address, &'static str>,
    /// How often each was asked PING.
    pinged: BTreeMap<Address, u32>,
    /// What is answered on these ports to `SENTINEL MYID`.
    ids: BTreeMap<u16, Value>,
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
        let groups = ByName::from([("mymaster".to_owned(), group)]);
        let (my_id, removed) = (id(me), ByName::new());
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
            unpublished: BTreeMap::new(),
            pinged: BTreeMap::new(),
            ids: BTreeMap::new(),
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
            Effect::Persist { revision, state, .. } => {
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
                match command {
                    Command::Ping => *self.pinged.entry(to).or_default() += 1,
                    Command::Info => {}
                    command => self.sent.push((to, command)),
                }
            }
            Effect::Reply { reply, .. } => self.replies.push(reply),
            Effect::Announce(event) => self.events.push((event.kind, event.payload)),
            Effect::Say { text, .. } => self.said.push(text),
            Effect::RunScript { script, args, .. } => {
                let argv = std::iter::once(script.display().to_string()).chain(args);
                self.scripts.push((self.events.len(), argv.collect()));
            }
            Effect::Show { .. } | Effect::TimeScripts(_) => {}
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
            Command::AskId { .. } => match self.ids.get(&to.port) {
                Some(id) => id.clone(),
                None => return,
            },
            Command::Hello { .. } if is_peer || self.infos.contains_key(to) => {
                match self.unpublished.get(to) {
                    Some(error) => Value::error(*error),
                    None => Value::Integer(1),
                }
            }
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

fn own_hello(port: u16) -> Request {
    Request::Hello(format!("127.0.0.1,{port},{},0,mymaster,127.0.0.1,{MASTER},0", id(1)))
}

/// A sentinel that watches MASTER and knows no other one yet.
fn lone() -> Desk {
    let mut settings = GroupSettings::new(at(MASTER), 1);
    settings.down_after_ms = 1_000;
    let mut group = GroupState::fresh(settings, None);
    group.replicas = vec![at(REPLICA)];
    let groups = ByName::from([("mymaster".to_owned(), group)]);
    Desk::restored(State {
        my_id: id(1),
        current_epoch: 0,
        groups,
        removed: Default::default(),
        live: None,
    })
}
