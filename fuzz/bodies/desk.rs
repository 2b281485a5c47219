//! One sentinel at a desk: what it wants done is written down and judged by rules that must hold
//! whatever comes in. The body of a target decides what comes in.

use std::collections::{BTreeMap, BTreeSet};

use watchfire::config::fuzz as config;
use watchfire::config::load::Loaded;
use watchfire::config::settings::SentinelSettings;
use watchfire::config::state::{GroupState, State};
use watchfire::config::types::EPOCH_MAX;
use watchfire::resp::Value;
use watchfire::sentinel::hello::Hello;
use watchfire::sentinel::{
    Clock, Command, Effect, Epoch, Input, Instant, Level, LinkEvent, LinkId, Request, RequestId,
    Revision, Sentinel,
};

use super::config::{rewritten, survives_its_file};
use super::wire::survives;

/// Questions that may wait for an answer; the oldest is forgotten, as if its link had broken.
const ASKED_MAX: usize = 64;
/// How long a failed write waits before it is tried again, in ms, and a little more.
const RETRY_MS: u64 = 1_100;

/// Where the state is kept.
pub(crate) enum File {
    /// In our own file, beside a YAML file.
    Own,
    /// In a `sentinel.conf`: how it was read, and its text now.
    Conf(Box<Loaded>, String),
}

/// The sentinel, and what is known of it.
pub(crate) struct Desk {
    pub(crate) sentinel: Sentinel,
    pub(crate) now_ms: u64,
    pub(crate) links: BTreeSet<LinkId>,
    /// Commands without an answer.
    pub(crate) asked: Vec<(LinkId, Command)>,
    pub(crate) in_flight: Option<(Revision, State)>,
    /// The state on disk.
    pub(crate) durable: State,
    settings: SentinelSettings,
    file: File,
    last_link: LinkId,
    last_request: u64,
    /// Requests without a reply; true: a vote may be in it.
    open: BTreeMap<RequestId, bool>,
    /// The latest state that was handed out to be written.
    latest: State,
    /// The votes that others were told of. Kept while there is one group, which is never removed.
    shown_votes: BTreeMap<Epoch, String>,
    /// A group was removed, and all that it had promised with it.
    removed: bool,
}

impl Desk {
    /// A sentinel that starts with this state.
    pub(crate) fn new(settings: SentinelSettings, state: State, file: File, seed: u64) -> Desk {
        let clock = Clock { mono: Instant::from_ms(1_000), wall_ms: 1_000 };
        let mut desk = Desk {
            sentinel: Sentinel::new(clock, settings.clone(), state.clone(), seed),
            now_ms: 1_000,
            links: BTreeSet::new(),
            asked: Vec::new(),
            in_flight: None,
            durable: state.clone(),
            settings,
            file,
            last_link: LinkId(0),
            last_request: 0,
            open: BTreeMap::new(),
            latest: state,
            shown_votes: BTreeMap::new(),
            removed: false,
        };
        desk.input(Input::Wake);
        desk
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock { mono: Instant::from_ms(self.now_ms), wall_ms: self.now_ms }
    }

    /// Something happens; everything that follows at once is judged.
    pub(crate) fn input(&mut self, input: Input) {
        self.sentinel.handle(self.clock(), input);
        while let Some(effect) = self.sentinel.poll() {
            self.judge(effect);
        }
        let next = self.sentinel.deadline();
        assert!(next.is_none_or(|at| at.as_ms() > self.now_ms), "what is due was not done");
    }

    pub(crate) fn link(&mut self, link: LinkId, event: LinkEvent) {
        self.input(Input::Link { link, event });
    }

    pub(crate) fn ask(&mut self, request: Request) -> RequestId {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let vote = matches!(&request, Request::IsMasterDown { candidate: Some(_), .. });
        if let Request::Remove(name) = &request {
            self.removed |= self.latest.groups.remove(name).is_some();
        }
        self.open.insert(id, vote);
        self.input(Input::Request { id, request });
        id
    }

    /// Lets time pass: the sentinel is woken when it wants to be, if it does not want it too often.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        for _ in 0..20 {
            let Some(at) = self.sentinel.deadline().map(Instant::as_ms).filter(|at| *at <= end)
            else {
                break;
            };
            self.now_ms = at.max(self.now_ms);
            self.input(Input::Wake);
        }
        self.now_ms = end;
        self.input(Input::Wake);
    }

    /// The disk answers for the write in flight, if there is one.
    pub(crate) fn disk(&mut self, works: bool) {
        let Some((revision, state)) = self.in_flight.take() else { return };
        if works {
            self.durable = state;
            return self.input(Input::Persisted { revision });
        }
        let reason = "No space left on device".to_owned();
        self.input(Input::PersistFailed { revision, reason });
    }

    /// The process dies and is started again, in this very moment; `written`: the write in flight
    /// had reached the disk.
    pub(crate) fn crash(&mut self, written: bool, seed: u64) {
        if let Some((_, state)) = self.in_flight.take().filter(|_| written) {
            self.durable = state;
        }
        self.check_file();
        self.latest = self.durable.clone();
        self.links.clear();
        self.asked.clear();
        self.open.clear();
        self.last_link = LinkId(0);
        let (settings, state) = (self.settings.clone(), self.durable.clone());
        self.sentinel = Sentinel::new(self.clock(), settings, state, seed);
        self.input(Input::Wake);
    }

    /// What is on disk can be read again, as it was.
    pub(crate) fn check_file(&mut self) {
        match &mut self.file {
            File::Own => survives_its_file(&self.durable),
            File::Conf(loaded, text) => *text = rewritten(loaded, text, &self.durable),
        }
    }

    /// Once the disk works, everybody has his answer, and the next one gets his at once.
    pub(crate) fn end(mut self) {
        // One for the write in flight, one for what has changed since; the first may fail.
        for _ in 0..3 {
            self.disk(true);
            self.pass(RETRY_MS);
        }
        self.disk(true);
        assert!(self.open.is_empty(), "not answered: {:?}", self.open);
        let names: Vec<String> = self.latest.groups.keys().map(|name| name.to_string()).collect();
        for name in names.into_iter().chain(["no such group".into()]) {
            let id = self.ask(Request::Master(name));
            assert!(!self.open.contains_key(&id), "answered at once");
        }
        self.check_file();
        let views: Vec<_> = self.sentinel.view().groups().collect();
        assert_eq!(views.len(), self.durable.groups.len());
    }

    fn judge(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { revision, state, .. } => {
                assert!(self.in_flight.is_none(), "two writes in flight");
                self.judge_state(&state);
                self.latest = (*state).clone();
                self.in_flight = Some((revision, *state));
            }
            Effect::Connect { link, target } => {
                assert!(link > self.last_link, "a link's name is used twice");
                assert!(!target.address.host.is_empty() && target.address.port > 0);
                self.last_link = link;
                self.links.insert(link);
            }
            Effect::Disconnect { link } => {
                assert!(self.links.remove(&link), "closed and not open");
                self.asked.retain(|(other, _)| *other != link);
            }
            Effect::Send { link, command } => {
                // A command that waited for the disk may find its link closed.
                self.judge_command(&command);
                let requests = command.requests(&BTreeMap::new());
                assert!(requests.iter().flatten().all(|word| !word.contains(['\r', '\n'])));
                if self.links.contains(&link) {
                    self.asked.push((link, command));
                    if self.asked.len() > ASKED_MAX {
                        self.asked.remove(0);
                    }
                }
            }
            Effect::Reply { id, reply } => {
                let vote = self.open.remove(&id).expect("a reply that nobody waits for");
                survives(&reply);
                if vote {
                    self.judge_vote(&reply);
                }
            }
            Effect::Announce(event) => {
                assert!(!event.payload.is_empty(), "{}", event.kind.name());
            }
            Effect::Say { text, .. } => assert!(!text.is_empty()),
            Effect::RunScript { about, script, args, .. } => {
                assert!(about.level() == Level::Warning && !script.as_os_str().is_empty());
                assert!([2, 7].contains(&args.len()), "{args:?}");
            }
            Effect::Show { .. } | Effect::TimeScripts(_) => {}
            // A crash that is not carried out is as if nobody had asked for it.
            Effect::SetLogLevel(_) | Effect::Crash => {}
        }
    }

    /// Epochs never go down, and no vote is changed.
    fn judge_state(&self, state: &State) {
        let (old, new) = (self.latest.current_epoch, state.current_epoch);
        assert!((old..=EPOCH_MAX).contains(&new), "epoch {new} after {old}");
        for (name, new) in state.groups.iter() {
            let highest = new.config_epoch.max(new.leader_epoch);
            assert!(state.current_epoch >= highest, "an epoch that is still to come");
            assert!(!new.replicas.contains(&new.settings.master), "its own replica");
            let Some(old) = self.latest.groups.get(name) else { continue };
            assert!(new.config_epoch >= old.config_epoch, "configurations go on");
            assert!(new.leader_epoch >= old.leader_epoch, "votes go on");
            if new.leader_epoch == old.leader_epoch {
                assert_eq!(new.voted_for, old.voted_for, "two votes in one epoch");
            }
        }
    }

    /// What other sentinels are told is on disk.
    fn judge_command(&self, command: &Command) {
        match command {
            Command::Hello { payload } => {
                let hello = Hello::parse(payload);
                let hello = hello.unwrap_or_else(|why| panic!("{why}: {payload}"));
                assert!(hello.current_epoch <= self.durable.current_epoch, "{payload}");
                if let Some(group) = self.durable.groups.get(&hello.group) {
                    assert!(hello.config_epoch <= group.config_epoch || self.removed, "{payload}");
                }
            }
            Command::IsMasterDown { epoch, candidate: Some(candidate), .. } => {
                assert_eq!(*candidate, self.durable.my_id);
                let voted = self.holds_vote(*epoch, candidate.as_str());
                assert!(voted || self.removed, "it stands, and its own vote is not on disk");
            }
            _ => {}
        }
    }

    fn judge_vote(&mut self, reply: &Value) {
        let Value::Array(items) = reply else { return };
        let [_, leader, Value::Integer(epoch)] = &items[..] else { panic!("{reply:?}") };
        let (Some(leader), Ok(epoch)) = (leader.text(), Epoch::try_from(*epoch)) else {
            panic!("{reply:?}")
        };
        if leader == "*" || self.removed {
            return;
        }
        assert!(self.holds_vote(epoch, leader), "a vote that is not on disk: {reply:?}");
        if self.durable.groups.len() == 1 && self.latest.groups.len() == 1 {
            let told = self.shown_votes.entry(epoch).or_insert_with(|| leader.to_owned());
            assert_eq!(told, leader, "two votes in epoch {epoch}");
        }
    }

    /// The disk holds this vote, or a later one, which keeps it as safe.
    fn holds_vote(&self, epoch: Epoch, leader: &str) -> bool {
        let holds = |group: &GroupState| {
            let same = group.voted_for.as_ref().is_some_and(|id| id.as_str() == leader);
            group.leader_epoch > epoch || (group.leader_epoch == epoch && same)
        };
        self.durable.groups.values().any(holds)
    }
}

/// A `sentinel.conf` without any group, as it was read.
pub(crate) fn conf(text: &str) -> Loaded {
    config::sentinel_conf(text).expect("a sentinel.conf").expect("without errors")
}
