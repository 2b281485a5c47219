//! The real core as a voter, through every short sequence of what can happen to it: the same
//! promises as the model's, kept by the code that ships.

use std::collections::BTreeMap;
use std::time::Instant as Watch;

use watchfire::config::settings::{GroupSettings, SentinelSettings};
use watchfire::config::state::{GroupState, State};
use watchfire::config::types::{Address, RunId};
use watchfire::resp::Value;
use watchfire::sentinel::{
    Clock, Effect, Epoch, Input, Instant, Request, RequestId, Revision, Sentinel,
};

const GROUP: &str = "mymaster";
/// Inputs in a row.
const LENGTH: u32 = 5;
/// Longer than a vote binds, so that no time binds the voter.
const STEP_MS: u64 = 6_000;

#[derive(Clone, Copy, Debug)]
enum Event {
    Asked { by: u8, epoch: Epoch },
    Written,
    WriteFails { landed: bool },
    Crash { landed: bool },
}

const EVENTS: [Event; 9] = [
    Event::Asked { by: 1, epoch: 1 },
    Event::Asked { by: 2, epoch: 1 },
    Event::Asked { by: 1, epoch: 2 },
    Event::Asked { by: 2, epoch: 2 },
    Event::Written,
    Event::WriteFails { landed: true },
    Event::WriteFails { landed: false },
    Event::Crash { landed: true },
    Event::Crash { landed: false },
];

fn id(n: u8) -> RunId {
    RunId::from_bytes([n; 20])
}

fn master() -> Address {
    Address::new("10.0.1.1", 6379)
}

/// A voter, its disk, and what it has told.
struct Lab {
    now: u64,
    voter: Sentinel,
    disk: State,
    writing: Option<(Revision, State)>,
    /// For whom it has voted in each epoch, by its own words.
    told: BTreeMap<i64, String>,
}

impl Lab {
    fn new() -> Lab {
        let mut settings = GroupSettings::new(master(), 2);
        settings.failover_timeout_ms = 1;
        settings.down_after_ms = 1_000_000;
        let mut group = GroupState::fresh(settings, None);
        group.sentinels =
            (1..3).map(|n| (id(n), Address::new(format!("10.0.0.{n}"), 26379))).collect();
        let disk = State {
            my_id: id(9),
            current_epoch: 0,
            groups: [(GROUP, group)].into(),
            removed: Default::default(),
            live: None,
        };
        let voter = Lab::start(0, &disk);
        let mut lab = Lab { now: 0, voter, disk, writing: None, told: BTreeMap::new() };
        lab.drain();
        lab.happen(Event::Written);
        lab
    }

    fn start(now: u64, disk: &State) -> Sentinel {
        Sentinel::new(clock(now), SentinelSettings::default(), disk.clone(), 1)
    }

    fn happen(&mut self, event: Event) {
        self.now += STEP_MS;
        let input = match event {
            Event::Asked { by, epoch } => {
                let Address { host, port } = master();
                let candidate = Some(id(by).as_str().to_owned());
                let (port, epoch) = (i64::from(port), epoch as i64);
                let request = Request::IsMasterDown { host, port, epoch, candidate };
                Input::Request { id: RequestId(self.now), request }
            }
            Event::Written => {
                let Some((revision, state)) = self.writing.take() else { return };
                self.disk = state;
                Input::Persisted { revision }
            }
            Event::WriteFails { landed } => {
                let Some((revision, state)) = self.writing.take() else { return };
                if landed {
                    self.disk = state;
                }
                Input::PersistFailed { revision, reason: "disk full".into() }
            }
            Event::Crash { landed } => {
                let write = self.writing.take().filter(|_| landed);
                self.disk = write.map_or_else(|| self.disk.clone(), |(_, state)| state);
                self.voter = Lab::start(self.now, &self.disk);
                Input::Wake
            }
        };
        self.voter.handle(clock(self.now), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.voter.poll() {
            match effect {
                Effect::Persist { revision, state, .. } => {
                    assert!(self.writing.is_none(), "one write is in flight at a time");
                    self.writing = Some((revision, *state));
                }
                Effect::Reply { reply: Value::Array(parts), .. } => self.told_vote(&parts),
                _ => {}
            }
        }
    }

    fn told_vote(&mut self, parts: &[Value]) {
        let [_, leader, Value::Integer(epoch)] = parts else { panic!("an opinion: {parts:?}") };
        let leader = leader.text().expect("an id or *").to_owned();
        if leader == "*" {
            return;
        }
        let group = &self.disk.groups[GROUP];
        let same = group.voted_for.as_ref().is_some_and(|id| id.as_str() == leader)
            && group.leader_epoch == *epoch as Epoch;
        assert!(same || group.leader_epoch > *epoch as Epoch, "told before it was on disk");
        let first = self.told.entry(*epoch).or_insert_with(|| leader.clone());
        assert_eq!(*first, leader, "two votes in epoch {epoch}");
    }
}

fn clock(ms: u64) -> Clock {
    Clock { mono: Instant::from_ms(ms), wall_ms: 1_700_000_000_000 + ms }
}

#[test]
fn the_core_keeps_its_votes_through_every_short_sequence() {
    let began = Watch::now();
    let base = EVENTS.len();
    let sequences = base.pow(LENGTH);
    let (mut votes, mut both_epochs, mut otherwise) = (0, 0, 0);
    for number in 0..sequences {
        let events = (0..LENGTH).map(|at| EVENTS[number / base.pow(at) % base]);
        let told = std::panic::catch_unwind(|| {
            let mut lab = Lab::new();
            events.clone().for_each(|event| lab.happen(event));
            lab.told.into_values().collect::<Vec<_>>()
        });
        let told = told.unwrap_or_else(|_| panic!("after {:?}", events.collect::<Vec<_>>()));
        votes += told.len();
        both_epochs += usize::from(told.len() == 2);
        otherwise += usize::from(told.len() == 2 && told[0] != told[1]);
    }
    println!(
        "the core as a voter: {sequences} sequences of {LENGTH}, {votes} votes told, in both \
         epochs {both_epochs} times, {otherwise} of these for another candidate, {:.2} s",
        began.elapsed().as_secs_f64()
    );
    assert!(otherwise > 0, "the voter was never free to vote otherwise in the next epoch");
}
