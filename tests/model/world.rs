//! The world that the checker explores: sentinels that vote by the core's rules, their disks, and a
//! network that loses, doubles, delays and reorders.
//!
//! Times do not exist here: whatever may happen may happen now. So a promise that binds for a while
//! (a vote's tenure) binds for no time at all, and what holds here does not rest on clocks. Where a
//! rule does rest on time, the world says so: see [`World::hellos_in_time`].

use std::fmt;

use stateright::{Model, Property};
use watchfire::sentinel::election::needed;

use super::rules::{Newcomers, Rules};

/// Sentinels and epochs that [`Messages`] has room for.
const SENTINELS_MAX: usize = 5;
const EPOCHS_MAX: usize = 3;

pub(crate) type Epoch = u8;

/// A set of sentinels, one bit for each.
pub(crate) type Set = u8;

fn only(sentinel: usize) -> Set {
    1 << sentinel
}

/// What one sentinel tells others. Whoever hears a message learns that its sender voted so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A candidate asks for votes, and so tells that it has its own.
    Ask { by: usize, epoch: Epoch },
    /// A voter tells its vote.
    Vote { by: usize, to: usize, epoch: Epoch },
    /// A leader acts: `+elected-leader`, and the order to a replica.
    Lead { by: usize, epoch: Epoch },
}

/// A set of messages. What was sent once can be delivered never, once or often, at any time after:
/// the network only grows.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Messages(u128);

impl Messages {
    fn bit(message: Message) -> u128 {
        let vote = |by, to, epoch| {
            let pair = by * SENTINELS_MAX + to;
            pair * EPOCHS_MAX + usize::from(epoch) - 1
        };
        let votes = SENTINELS_MAX * SENTINELS_MAX * EPOCHS_MAX;
        let own = |by, epoch| vote(0, by, epoch);
        1 << match message {
            Message::Vote { by, to, epoch } => vote(by, to, epoch),
            Message::Ask { by, epoch } => votes + own(by, epoch),
            Message::Lead { by, epoch } => votes + SENTINELS_MAX * EPOCHS_MAX + own(by, epoch),
        }
    }

    fn add(&mut self, message: Message) {
        self.0 |= Self::bit(message);
    }

    fn join(&mut self, others: Messages) {
        self.0 |= others.0;
    }

    /// All but votes given to others stay.
    fn forget_votes(&mut self) {
        self.0 &= !((1 << (SENTINELS_MAX * SENTINELS_MAX * EPOCHS_MAX)) - 1);
    }

    pub(crate) fn has(self, message: Message) -> bool {
        self.0 & Self::bit(message) != 0
    }
}

/// What a sentinel remembers, and what its disk holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mind {
    pub(crate) current_epoch: Epoch,
    /// The last epoch in which it voted, and for whom; `leader_epoch` in the core.
    pub(crate) voted_epoch: Epoch,
    pub(crate) voted_for: Option<usize>,
    /// The others that it has met.
    pub(crate) peers: Set,
    /// A newcomer that takes no part yet; see [`Newcomers`].
    pub(crate) listening: bool,
}

/// A write under way, and what goes out once it is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Write {
    mind: Mind,
    then: Messages,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    memory: Mind,
    disk: Mind,
    /// Memory has changed since the last write was begun.
    dirty: bool,
    /// What waits for a write that is still to begin.
    waiting: Messages,
    /// Oldest first; at most one by the core's rule.
    writes: Vec<Write>,
    /// The last write failed.
    failing: bool,
    /// The epoch in which it stands, and whose votes it has heard, its own not counted.
    candidacy: Option<(Epoch, Set)>,
}

impl Node {
    /// A sentinel as it starts. The core also writes its state at the start; nothing but a further
    /// wait would come of that here.
    fn start(disk: Mind) -> Node {
        Node {
            memory: disk.clone(),
            disk,
            dirty: false,
            waiting: Messages::default(),
            writes: Vec::new(),
            failing: false,
            candidacy: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    nodes: Vec<Node>,
    /// Those that exist: a replaced one is gone, its successor not there before.
    alive: Set,
    net: Messages,
    crashes: u8,
    resets: u8,
    failures: u8,
    /// Those whose knowledge of the others came late or was reset.
    newcomers: Set,
}

/// What can happen. The letters A, B, C name the sentinels when it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Stand {
        who: usize,
    },
    HearAsk {
        who: usize,
        candidate: usize,
        epoch: Epoch,
    },
    HearVote {
        who: usize,
        voter: usize,
        epoch: Epoch,
    },
    HearHello {
        who: usize,
        of: usize,
    },
    Written {
        who: usize,
        write: usize,
    },
    WriteFails {
        who: usize,
        landed: bool,
    },
    /// Dies and starts again; `landed` is the write under way that reached the disk, if one did.
    Crash {
        who: usize,
        landed: Option<usize>,
    },
    Reset {
        who: usize,
    },
    /// A newcomer has listened long enough.
    TakePart {
        who: usize,
    },
    /// It lost its disk: another id lives at its address now.
    Replace {
        who: usize,
        by: usize,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |n: usize| char::from(b'A' + n as u8);
        match *self {
            Action::Stand { who } => write!(f, "{} stands for election", name(who)),
            Action::HearAsk { who, candidate, epoch } => {
                write!(f, "{} is asked by {} for its vote in {epoch}", name(who), name(candidate))
            }
            Action::HearVote { who, voter, epoch } => {
                write!(f, "{} hears of {}'s vote in {epoch}", name(who), name(voter))
            }
            Action::HearHello { who, of } => write!(f, "{} hears {}'s hello", name(who), name(of)),
            Action::Written { who, write: 0 } => write!(f, "{}'s write is done", name(who)),
            Action::Written { who, .. } => write!(f, "{}'s later write is done first", name(who)),
            Action::WriteFails { who, landed } => {
                let how = if landed { "though it reached the disk" } else { "and is lost" };
                write!(f, "{}'s write fails, {how}", name(who))
            }
            Action::Crash { who, landed } => {
                let what = if landed.is_some() { "the write" } else { "no write" };
                write!(f, "{} crashes, {what} under way lands, and starts again", name(who))
            }
            Action::Reset { who } => write!(f, "{} is RESET", name(who)),
            Action::TakePart { who } => write!(f, "{} has listened long enough", name(who)),
            Action::Replace { who, by } => {
                write!(f, "{} loses its disk and comes back as {}", name(who), name(by))
            }
        }
    }
}

/// One set of rules and bounds, to be explored to its end.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) quorum: u32,
    /// Whom each sentinel knows at the start.
    pub(crate) known: Vec<Set>,
    pub(crate) epochs: Epoch,
    pub(crate) crashes: u8,
    pub(crate) resets: u8,
    pub(crate) write_failures: u8,
    /// Writes take time. Where nothing crashes and no write fails, what waits for the disk is only
    /// late, and the network makes it late anyhow: such worlds do without, and are smaller.
    pub(crate) slow_disk: bool,
    /// Hellos spread epochs, too, as they do in truth; else sentinels only meet by them. The next
    /// candidate finds the epoch either way, and without this there is room for more faults.
    pub(crate) hello_epochs: bool,
    /// A newcomer that has listened for some hello periods has heard everybody who is there.
    pub(crate) hellos_in_time: bool,
    /// The last sentinel is not there at first: it replaces the one before it, at its address.
    pub(crate) replacement: bool,
}

impl World {
    /// Sentinels that know each other, with the core's rules; no faults yet.
    pub(crate) fn of(sentinels: usize, quorum: u32, epochs: Epoch) -> World {
        assert!(sentinels <= SENTINELS_MAX && usize::from(epochs) <= EPOCHS_MAX);
        let all = only(sentinels) - 1;
        World {
            rules: Rules::LEAST,
            quorum,
            known: (0..sentinels).map(|n| all & !only(n)).collect(),
            epochs,
            crashes: 0,
            resets: 0,
            write_failures: 0,
            slow_disk: true,
            hello_epochs: false,
            hellos_in_time: false,
            replacement: false,
        }
    }

    fn len(&self) -> usize {
        self.known.len()
    }

    fn all_epochs(&self) -> impl Iterator<Item = Epoch> + use<> {
        1..=self.epochs
    }

    /// A mind that knows these others and has never voted.
    fn fresh(&self, peers: Set) -> Mind {
        let listening = peers == 0 && self.rules.newcomers != Newcomers::TakePart;
        Mind { current_epoch: 0, voted_epoch: 0, voted_for: None, peers, listening }
    }

    /// Every vote that a message shows: who voted, for whom, in which epoch.
    fn votes_shown<'a>(
        &'a self,
        state: &'a State,
    ) -> impl Iterator<Item = (usize, usize, Epoch)> + 'a {
        let pairs = (0..self.len()).flat_map(|by| (0..self.len()).map(move |to| (by, to)));
        let votes = pairs.flat_map(|(by, to)| self.all_epochs().map(move |e| (by, to, e)));
        votes.filter(|&(by, to, epoch)| {
            let own = by == to
                && (state.net.has(Message::Ask { by, epoch })
                    || state.net.has(Message::Lead { by, epoch }));
            own || state.net.has(Message::Vote { by, to, epoch })
        })
    }

    fn leaders(&self, state: &State, epoch: Epoch) -> Set {
        let leads = |by: &usize| state.net.has(Message::Lead { by: *by, epoch });
        (0..self.len()).filter(leads).map(only).sum()
    }

    /// The epoch in which `who` would stand, if it may; see `consider_failover` in the core. The
    /// master is down for everybody, and nobody is unreachable for long.
    fn next_candidacy(&self, state: &State, who: usize) -> Option<Epoch> {
        let node = &state.nodes[who];
        let epoch = node.memory.current_epoch.max(node.memory.voted_epoch) + 1;
        let voters = node.memory.peers.count_ones() + 1;
        let may = !node.failing && !node.memory.listening && voters >= self.quorum;
        (may && epoch <= self.epochs).then_some(epoch)
    }

    /// Whether a newcomer's time of listening can be over.
    fn has_listened(&self, state: &State, who: usize) -> bool {
        let mind = &state.nodes[who].memory;
        let all = mind.peers == state.alive & !only(who);
        match self.rules.newcomers {
            Newcomers::TakePart => false,
            Newcomers::Listen => all || !self.hellos_in_time,
            Newcomers::UntilMet => mind.peers != 0,
        }
    }

    /// The epoch that a hello of this sentinel shows.
    fn hello_epoch(&self, node: &Node) -> Epoch {
        match self.rules.persist_before_speaking {
            _ if !self.hello_epochs => 0,
            true => node.disk.current_epoch,
            false => node.memory.current_epoch,
        }
    }

    fn acts_on(&self, state: &State, who: usize, actions: &mut Vec<Action>) {
        let node = &state.nodes[who];
        if self.next_candidacy(state, who).is_some() {
            actions.push(Action::Stand { who });
        }
        for other in (0..self.len()).filter(|other| *other != who) {
            for epoch in self.all_epochs() {
                if state.net.has(Message::Ask { by: other, epoch }) {
                    actions.push(Action::HearAsk { who, candidate: other, epoch });
                }
            }
            if let Some((epoch, votes)) = node.candidacy
                && votes & only(other) == 0
                && state.net.has(Message::Vote { by: other, to: who, epoch })
            {
                actions.push(Action::HearVote { who, voter: other, epoch });
            }
            let news = node.memory.peers & only(other) == 0
                || self.hello_epoch(&state.nodes[other]) > node.memory.current_epoch;
            if state.alive & only(other) != 0 && news {
                actions.push(Action::HearHello { who, of: other });
            }
        }
        for write in 0..node.writes.len() {
            actions.push(Action::Written { who, write });
        }
        if !node.writes.is_empty() && state.failures < self.write_failures {
            actions.extend([true, false].map(|landed| Action::WriteFails { who, landed }));
        }
        if state.crashes < self.crashes {
            let landed = std::iter::once(None).chain((0..node.writes.len()).map(Some));
            actions.extend(landed.map(|landed| Action::Crash { who, landed }));
        }
        if state.resets < self.resets {
            actions.push(Action::Reset { who });
        }
        if node.memory.listening && self.has_listened(state, who) {
            actions.push(Action::TakePart { who });
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let nodes = self.known.iter().map(|peers| Node::start(self.fresh(*peers))).collect();
        let all = only(self.len()) - 1;
        let spare = if self.replacement { only(self.len() - 1) } else { 0 };
        let strangers = (0..self.len()).filter(|n| self.known[*n] == 0).map(only).sum();
        vec![State {
            nodes,
            alive: all & !spare,
            net: Messages::default(),
            crashes: 0,
            resets: 0,
            failures: 0,
            newcomers: strangers,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for who in (0..self.len()).filter(|who| state.alive & only(*who) != 0) {
            self.acts_on(state, who, actions);
        }
        let by = self.len() - 1;
        if self.replacement && state.alive & only(by) == 0 {
            actions.push(Action::Replace { who: by - 1, by });
        }
    }

    fn next_state(&self, old: &State, action: Action) -> Option<State> {
        let mut state = old.clone();
        match action {
            Action::Stand { who } => {
                let epoch = self.next_candidacy(old, who)?;
                Turn::of(self, &mut state, who).stand(epoch);
            }
            Action::HearAsk { who, candidate, epoch } => {
                Turn::of(self, &mut state, who).consider_vote(candidate, epoch);
            }
            Action::HearVote { who, voter, .. } => {
                let turn = Turn::of(self, &mut state, who);
                if let Some((_, votes)) = &mut turn.node.candidacy {
                    *votes |= only(voter);
                }
                turn.end();
            }
            Action::HearHello { who, of } => {
                let epoch = self.hello_epoch(&old.nodes[of]);
                Turn::of(self, &mut state, who).hear_hello(of, epoch);
            }
            Action::Written { who, write } => Turn::of(self, &mut state, who).written(write),
            Action::WriteFails { who, landed } => {
                state.failures += 1;
                Turn::of(self, &mut state, who).write_failed(landed);
            }
            Action::Crash { who, landed } => {
                state.crashes += 1;
                let node = &mut state.nodes[who];
                let disk = landed.map_or(&node.disk, |write| &node.writes[write].mind);
                *node = Node::start(disk.clone());
            }
            Action::Reset { who } => {
                state.resets += 1;
                state.newcomers |= only(who);
                Turn::of(self, &mut state, who).reset();
            }
            Action::TakePart { who } => Turn::of(self, &mut state, who).take_part(),
            Action::Replace { who, by } => {
                state.alive = state.alive & !only(who) | only(by);
                state.newcomers |= only(by);
                state.nodes[by] = Node::start(self.fresh(0));
            }
        }
        (state != *old).then_some(state)
    }

    fn properties(&self) -> Vec<Property<World>> {
        let mut properties = vec![
            Property::always(ONE_LEADER, |world: &World, state: &State| {
                world.all_epochs().all(|epoch| world.leaders(state, epoch).count_ones() <= 1)
            }),
            Property::always(ONE_VOTE, |world: &World, state: &State| {
                let mut seen = [[None; EPOCHS_MAX + 1]; SENTINELS_MAX];
                world.votes_shown(state).all(|(by, to, epoch)| {
                    let first = seen[by][usize::from(epoch)].get_or_insert(to);
                    *first == to
                })
            }),
            Property::always(ON_DISK, |world: &World, state: &State| {
                world.votes_shown(state).all(|(by, to, epoch)| {
                    let disk = &state.nodes[by].disk;
                    let same = (disk.voted_epoch, disk.voted_for) == (epoch, Some(to));
                    disk.voted_epoch > epoch || same
                })
            }),
            Property::sometimes("somebody is elected", |world: &World, state: &State| {
                world.leaders(state, 1) != 0
            }),
        ];
        if self.epochs > 1 {
            properties.push(Property::sometimes(
                "a later epoch has its leader",
                |world: &World, state: &State| {
                    world.leaders(state, 1) != 0 && world.leaders(state, 2) != 0
                },
            ));
        }
        if self.crashes > 0 {
            properties.push(Property::sometimes(
                "after a crash, too",
                |world: &World, state: &State| {
                    state.crashes > 0 && world.leaders(state, world.epochs) != 0
                },
            ));
        }
        if self.resets > 0 || self.replacement || self.known.contains(&0) {
            properties.push(Property::sometimes(
                "a newcomer is elected",
                |world: &World, state: &State| {
                    world.all_epochs().any(|e| world.leaders(state, e) & state.newcomers != 0)
                },
            ));
        }
        properties
    }
}

pub(crate) const ONE_LEADER: &str = "an epoch has at most one leader";
pub(crate) const ONE_VOTE: &str = "a vote that was shown is never shown otherwise";
pub(crate) const ON_DISK: &str = "what a message shows is on its sender's disk";

/// One sentinel does one thing; mirrors the core, function by function.
struct Turn<'a> {
    world: &'a World,
    who: usize,
    node: &'a mut Node,
    net: &'a mut Messages,
}

impl<'a> Turn<'a> {
    fn of(world: &'a World, state: &'a mut State, who: usize) -> Turn<'a> {
        Turn { world, who, node: &mut state.nodes[who], net: &mut state.net }
    }

    /// `Group::start_failover`; an earlier attempt is given up.
    fn stand(mut self, epoch: Epoch) {
        self.adopt_epoch(epoch);
        self.cast_vote(self.who, epoch);
        self.node.candidacy = Some((epoch, 0));
        self.emit_durable(Message::Ask { by: self.who, epoch });
        self.end();
    }

    /// `Group::consider_vote`, and the reply. A reply that shows no vote is no message here.
    fn consider_vote(mut self, candidate: usize, epoch: Epoch) {
        if self.node.memory.peers & only(candidate) != 0 {
            self.adopt_epoch(epoch);
            let mind = &self.node.memory;
            if epoch > mind.voted_epoch && !self.node.failing && !mind.listening {
                self.cast_vote(candidate, epoch);
            }
        }
        let mind = &self.node.memory;
        if let Some(to) = mind.voted_for {
            let epoch = mind.voted_epoch;
            self.emit_durable(Message::Vote { by: self.who, to, epoch });
        }
        self.end();
    }

    /// `Sentinel::hear_hello`; a replacement takes the place of whom it replaces.
    fn hear_hello(mut self, of: usize, epoch: Epoch) {
        let mind = &mut self.node.memory;
        if mind.peers & only(of) == 0 {
            if self.world.replacement && of == self.world.len() - 1 {
                mind.peers &= !only(of - 1);
            }
            mind.peers |= only(of);
            self.node.dirty = true;
        }
        self.adopt_epoch(epoch);
        self.end();
    }

    /// `Group::reset`: votes and epochs stay.
    fn reset(self) {
        self.node.memory.peers = 0;
        self.node.memory.listening = self.world.rules.newcomers != Newcomers::TakePart;
        self.node.candidacy = None;
        self.node.dirty = true;
        self.end();
    }

    fn take_part(self) {
        let mind = &mut self.node.memory;
        mind.listening = false;
        if self.world.rules.no_vote_in_epochs_found && mind.current_epoch > mind.voted_epoch {
            (mind.voted_epoch, mind.voted_for) = (mind.current_epoch, None);
        }
        self.node.dirty = true;
        self.end();
    }

    fn adopt_epoch(&mut self, epoch: Epoch) {
        if epoch > self.node.memory.current_epoch {
            self.node.memory.current_epoch = epoch;
            self.node.dirty = true;
        }
    }

    fn cast_vote(&mut self, to: usize, epoch: Epoch) {
        let mind = &mut self.node.memory;
        assert!(epoch > mind.voted_epoch, "one vote per epoch");
        (mind.voted_epoch, mind.voted_for) = (epoch, Some(to));
        self.node.dirty = true;
    }

    /// `Outbox::emit_durable`.
    fn emit_durable(&mut self, message: Message) {
        let gated = self.world.rules.persist_before_speaking;
        let out = match self.node.writes.last_mut() {
            _ if gated && self.node.dirty => &mut self.node.waiting,
            Some(write) if gated => &mut write.then,
            _ => &mut *self.net,
        };
        out.add(message);
    }

    /// `Outbox::written`: lets go what waited for this write or for an earlier one.
    fn written(self, nth: usize) {
        for write in &mut self.node.writes[..=nth] {
            self.net.join(std::mem::take(&mut write.then));
        }
        self.node.disk = self.node.writes.remove(nth).mind;
        self.node.failing = false;
        self.end();
    }

    /// `Outbox::write_failed`: replies are answered without a vote, all else goes on waiting. It is
    /// not known whether the write reached the disk.
    fn write_failed(self, landed: bool) {
        let write = self.node.writes.remove(0);
        if landed {
            self.node.disk = write.mind;
        }
        self.node.waiting.join(write.then);
        self.node.waiting.forget_votes();
        self.node.dirty = true;
        self.node.failing = true;
        self.node.candidacy = None;
        self.end();
    }

    /// What the core does after each input: count the votes, begin the write that is due.
    fn end(mut self) {
        self.count_votes();
        if !self.world.slow_disk {
            self.node.disk = self.node.memory.clone();
            self.net.join(std::mem::take(&mut self.node.waiting));
            self.node.dirty = false;
        }
        let free = self.node.writes.is_empty() || !self.world.rules.one_write_in_flight;
        if self.node.dirty && free {
            let mind = self.node.memory.clone();
            let then = std::mem::take(&mut self.node.waiting);
            self.node.writes.push(Write { mind, then });
            self.node.dirty = false;
        }
    }

    /// `Group::tally` and `count_votes`: only votes of those known now count, and the own one only
    /// while it is still the last.
    fn count_votes(&mut self) {
        let Some((epoch, votes)) = self.node.candidacy else { return };
        let mind = &self.node.memory;
        let own = (mind.voted_epoch, mind.voted_for) == (epoch, Some(self.who));
        let votes = (votes & mind.peers).count_ones() + u32::from(own);
        if votes >= needed(mind.peers.count_ones() + 1, self.world.quorum) {
            self.node.candidacy = None;
            self.emit_durable(Message::Lead { by: self.who, epoch });
        }
    }
}
