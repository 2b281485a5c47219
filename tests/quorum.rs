//! The golden table of quorum arithmetic, `tests/golden/quorum.txt`, against the core: the pure
//! functions, and a sentinel that really hears so many opinions and votes.

use std::collections::BTreeMap;

use watchfire::config::settings::{GroupSettings, SentinelSettings};
use watchfire::config::state::{GroupState, State};
use watchfire::config::types::{Address, RunId};
use watchfire::resp::Value;
use watchfire::sentinel::election::{majority, needed};
use watchfire::sentinel::{
    Clock, Command, Effect, EventKind, Input, Instant, LinkEvent, LinkId, LostReason, Request,
    RequestId, Sentinel, TargetKind,
};

const TABLE: &str = include_str!("golden/quorum.txt");
const GROUP: &str = "mymaster";
const DOWN_AFTER_MS: u64 = 1_000;
/// Until then the master answers.
const MASTER_DIES_MS: u64 = 3_000;
/// Time enough for an election.
const END_MS: u64 = 10_000;

struct Row {
    sentinels: u32,
    gone: u32,
    quorum: u32,
    down: u32,
    votes: u32,
    majority: u32,
    needed: u32,
    odown: bool,
    elected: bool,
    ckquorum: String,
}

fn read(line: &str) -> Row {
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let [given, expected, ckquorum] = parts[..] else { panic!("three parts: {line}") };
    let given: Vec<u32> = given.split_whitespace().map(|n| n.parse().expect("a number")).collect();
    let [sentinels, gone, quorum, down, votes] = given[..] else { panic!("five numbers: {line}") };
    let expected: Vec<&str> = expected.split_whitespace().collect();
    let [majority, needed, odown, elected] = expected[..] else { panic!("four values: {line}") };
    let reachable = sentinels - gone;
    assert!((1..=reachable).contains(&down) && (1..=reachable).contains(&votes), "{line}");
    Row {
        sentinels,
        gone,
        quorum,
        down,
        votes,
        majority: majority.parse().expect("a number"),
        needed: needed.parse().expect("a number"),
        odown: odown == "yes",
        elected: elected == "yes",
        ckquorum: ckquorum.to_owned(),
    }
}

fn rows() -> impl Iterator<Item = (&'static str, Row)> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| (line, read(line)))
}

fn address(n: u32) -> Address {
    Address::new(format!("10.0.0.{n}"), 26379)
}

fn master() -> Address {
    Address::new("10.0.1.1", 6379)
}

fn id(n: u32) -> RunId {
    RunId::from_bytes([n as u8; 20])
}

/// Sentinel number 0 of a row, whose peers say what the row says.
struct Lab {
    row: Row,
    sentinel: Sentinel,
    now: u64,
    links: BTreeMap<LinkId, Address>,
    inputs: Vec<Input>,
    odown: bool,
    elected: bool,
    replies: Vec<Value>,
}

impl Lab {
    fn new(row: Row) -> Lab {
        let mut settings = GroupSettings::new(master(), row.quorum);
        settings.down_after_ms = DOWN_AFTER_MS;
        let mut group = GroupState::fresh(settings, None);
        group.sentinels = (1..row.sentinels).map(|n| (id(n), address(n))).collect();
        let state = State {
            my_id: id(0),
            current_epoch: 0,
            groups: [(GROUP, group)].into(),
            removed: Default::default(),
            live: None,
        };
        let sentinel = Sentinel::new(clock(0), SentinelSettings::default(), state, 1);
        Lab {
            row,
            sentinel,
            now: 0,
            links: BTreeMap::new(),
            inputs: vec![Input::Wake],
            odown: false,
            elected: false,
            replies: Vec::new(),
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.now < end {
            while let Some(input) = (!self.inputs.is_empty()).then(|| self.inputs.remove(0)) {
                self.sentinel.handle(clock(self.now), input);
                while let Some(effect) = self.sentinel.poll() {
                    self.act(effect);
                }
            }
            let deadline = self.sentinel.deadline().map_or(end, Instant::as_ms);
            self.now = deadline.clamp(self.now + 1, end);
            self.inputs.push(Input::Wake);
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { revision, .. } => self.inputs.push(Input::Persisted { revision }),
            Effect::Connect { link, target } => {
                let event = match self.reaches(&target.address) {
                    true => {
                        let ip = |text: &str| text.to_owned();
                        LinkEvent::Up {
                            local_ip: ip("10.0.0.100"),
                            remote_ip: target.address.host.clone(),
                        }
                    }
                    false => LinkEvent::Down { reason: LostReason::Refused },
                };
                let subscribes = target.kind == TargetKind::Node && self.reaches(&target.address);
                self.links.insert(link, target.address);
                self.inputs.push(Input::Link { link, event });
                if subscribes {
                    self.inputs.push(Input::Link { link, event: LinkEvent::Subscribed });
                }
            }
            Effect::Send { link, command } => {
                let to = self.links[&link].clone();
                if let Some(reply) = self.answer(&to, &command) {
                    let event = LinkEvent::Reply { command, reply };
                    self.inputs.push(Input::Link { link, event });
                }
            }
            Effect::Announce(event) => match event.kind {
                EventKind::Odown => self.odown = true,
                EventKind::ElectedLeader => self.elected = true,
                _ => {}
            },
            Effect::Reply { reply, .. } => self.replies.push(reply),
            Effect::Disconnect { .. } | Effect::Say { .. } => {}
            Effect::Show { .. } | Effect::RunScript { .. } | Effect::TimeScripts(_) => {}
            Effect::SetLogLevel(_) | Effect::Crash => {}
        }
    }

    fn number(&self, of: &Address) -> Option<u32> {
        (1..self.row.sentinels).find(|n| address(*n) == *of)
    }

    /// The peers with the highest numbers are gone; the master never is: it hangs.
    fn reaches(&self, whom: &Address) -> bool {
        self.number(whom).is_none_or(|n| n < self.row.sentinels - self.row.gone)
    }

    fn answer(&self, who: &Address, command: &Command) -> Option<Value> {
        let alive = *who != master() || self.now < MASTER_DIES_MS;
        match command {
            _ if !alive => None,
            Command::Ping => Some(Value::Simple("PONG".into())),
            Command::Info => Some(Value::bulk("# Replication\r\nrole:master\r\n")),
            Command::Hello { .. } => Some(Value::Integer(1)),
            Command::IsMasterDown { epoch, candidate, .. } => {
                let n = self.number(who)?;
                let down = Value::Integer(i64::from(n < self.row.down));
                let vote = candidate.as_ref().filter(|_| n < self.row.votes);
                Some(Value::Array(match vote {
                    Some(id) => {
                        vec![down, Value::bulk(id.as_str()), Value::Integer(*epoch as i64)]
                    }
                    None => vec![down, Value::bulk("*"), Value::Integer(0)],
                }))
            }
            _ => None,
        }
    }
}

fn clock(ms: u64) -> Clock {
    Clock { mono: Instant::from_ms(ms), wall_ms: 1_700_000_000_000 + ms }
}

#[test]
fn votes_are_counted_as_the_table_says() {
    for (line, row) in rows() {
        assert_eq!(majority(row.sentinels), row.majority, "majority: {line}");
        assert_eq!(needed(row.sentinels, row.quorum), row.needed, "needed: {line}");
    }
}

#[test]
fn a_sentinel_does_what_the_table_says() {
    for (line, row) in rows() {
        let mut lab = Lab::new(row);
        lab.run_until(MASTER_DIES_MS);
        let request = Request::CkQuorum(GROUP.into());
        lab.inputs.push(Input::Request { id: RequestId(1), request });
        lab.run_until(END_MS);
        let said = match lab.replies.first() {
            Some(Value::Simple(text) | Value::Error(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(said, lab.row.ckquorum, "{line}");
        assert_eq!(lab.odown, lab.row.odown, "odown: {line}");
        assert_eq!(lab.elected, lab.row.elected, "elected: {line}");
    }
}

#[test]
fn the_table_covers_every_verdict() {
    let all: Vec<Row> = rows().map(|(_, row)| row).collect();
    assert!(all.len() >= 40, "{} rows", all.len());
    for odown in [false, true] {
        for elected in [false, true] {
            let found = all.iter().any(|row| (row.odown, row.elected) == (odown, elected));
            assert_eq!(found, odown || !elected, "odown {odown}, elected {elected}");
        }
    }
    for part in ["OK", "quorum for this master", "authorize a failover", "master. Not enough"] {
        assert!(all.iter().any(|row| row.ckquorum.contains(part)), "{part}");
    }
}
