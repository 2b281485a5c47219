//! Effects on their way out, and the rule *durable before said aloud*: what shows a new epoch, vote
//! or configuration waits here until the state that it depends on is on disk.

use std::collections::{BTreeSet, VecDeque};

use super::effect::{Command, Effect};
use super::event::{Event, EventKind};
use super::mutant::{Guard, Guards};
use super::signed::inner;
use super::types::{GroupName, Instant, LinkId, Revision};
use crate::resp::Value;

/// Pause before a failed write of the state is tried again, in ms.
const RETRY_MS: u64 = 1000;

/// Effects that may wait for the disk; more are given up, each with the answer for a failed write.
const WAITING_MAX: usize = 16_384;

/// An effect that waits for the disk, and what to answer instead if the write fails.
struct Waiting {
    needs: u64,
    effect: Effect,
    otherwise: Option<Value>,
    /// It waits only so as not to overtake another.
    in_line: bool,
    /// It concerns this group, though it does not name it.
    of: Option<GroupName>,
}

/// True for an announcement (or a script that tells of it) of what is so already, and stays so if
/// this sentinel forgets it: the master of a new configuration, say. Epochs and votes are promises,
/// and so is what rests on the own vote.
fn is_fact(effect: &Effect) -> bool {
    use EventKind::{ElectedLeader, NewEpoch, VoteForLeader};
    let kind = match effect {
        Effect::Announce(event) => event.kind,
        Effect::RunScript { about, .. } => *about,
        _ => return false,
    };
    !matches!(kind, NewEpoch | VoteForLeader | ElectedLeader)
}

/// The queue between the core's decisions and whoever drains [`poll`](super::Sentinel::poll).
pub(super) struct Outbox {
    guards: Guards,
    ready: VecDeque<Effect>,
    waiting: VecDeque<Waiting>,
    /// The groups of which something durable has changed since the state was last handed out.
    changed: BTreeSet<GroupName>,
    /// Groups of which something may rest on what is not on disk.
    resting: BTreeSet<GroupName>,
    /// Somebody wants the file itself written, whatever has changed.
    whole: bool,
    /// The revision of the latest change; equal to `durable` when all is on disk.
    newest: u64,
    /// The latest revision that was handed out to be written.
    handed: u64,
    durable: u64,
    /// Since when a write has been in flight.
    in_flight: Option<Instant>,
    /// How long a write takes these days, in ms: the longest of late, slowly forgotten.
    write_ms: u64,
    /// Why the last write failed, and when to try again.
    failed: Option<(String, Instant)>,
}

impl Outbox {
    /// Nothing to say, and nothing to write.
    pub(super) fn new(guards: Guards) -> Outbox {
        Outbox {
            guards,
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            changed: BTreeSet::new(),
            resting: BTreeSet::new(),
            whole: false,
            newest: 0,
            handed: 0,
            durable: 0,
            in_flight: None,
            write_ms: 0,
            failed: None,
        }
    }

    /// The durable state of this group has changed: it will be written, together with what changes
    /// until then.
    pub(super) fn touch_group(&mut self, name: &GroupName) {
        self.mark(name);
        self.touch();
    }

    /// The durable state of this group is collected anew for the next write, whenever that is due.
    pub(super) fn mark(&mut self, name: &GroupName) {
        if !self.changed.contains(name) {
            self.changed.insert(name.clone());
        }
    }

    /// What is of no group has changed: it will be written like that.
    pub(super) fn touch(&mut self) {
        if self.newest == self.handed {
            self.newest += 1;
        }
    }

    /// The state is to be written into its file, changed or not.
    pub(super) fn touch_file(&mut self) {
        self.whole = true;
        self.touch();
    }

    /// The groups that have changed since the last time.
    pub(super) fn take_changed(&mut self) -> BTreeSet<GroupName> {
        std::mem::take(&mut self.changed)
    }

    /// What this group does next rests on what is decided now: it is to be looked at when something
    /// has come to the disk.
    pub(super) fn rests_on_disk(&mut self, name: &GroupName) {
        if !self.resting.contains(name) {
            self.resting.insert(name.clone());
        }
    }

    /// The groups that [`rests_on_disk`](Outbox::rests_on_disk) was told of since the last time.
    pub(super) fn take_resting(&mut self) -> BTreeSet<GroupName> {
        std::mem::take(&mut self.resting)
    }

    /// Whether [`touch_file`](Outbox::touch_file) was called since the last time.
    pub(super) fn take_whole(&mut self) -> bool {
        std::mem::take(&mut self.whole)
    }

    /// The revision that holds what was decided up to now.
    pub(super) fn newest(&self) -> Revision {
        Revision(self.newest)
    }

    /// True once this revision is on disk.
    pub(super) fn is_durable(&self, revision: Revision) -> bool {
        self.durable >= revision.0
    }

    /// Sends an effect out at once.
    pub(super) fn emit(&mut self, effect: Effect) {
        self.ready.push_back(effect);
    }

    /// Sends an effect out as soon as everything that was decided up to now is durable.
    pub(super) fn emit_durable(&mut self, effect: Effect) {
        self.emit_durable_or(effect, None);
    }

    /// The same; a reply becomes `otherwise` if the state cannot be written.
    pub(super) fn emit_durable_or(&mut self, effect: Effect, otherwise: Option<Value>) {
        // What is so is told while the disk fails, and in the order in which it came about.
        let told_anyway = self.failed.is_some() && is_fact(&effect);
        if self.newest > self.durable && !told_anyway {
            if self.waiting.len() >= WAITING_MAX {
                if let (Effect::Reply { id, .. }, Some(reply)) = (effect, otherwise) {
                    self.ready.push_back(Effect::Reply { id, reply });
                }
                return;
            }
            let needs = self.newest;
            let waiting = Waiting { needs, effect, otherwise, in_line: false, of: None };
            self.waiting.push_back(waiting);
        } else {
            self.ready.push_back(effect);
        }
    }

    /// The same as [`Outbox::emit_durable_or`] for a hello, a vote or a wish for one of this group.
    /// While the disk fails nobody waits for a vote: the answer holds an opinion, too, that grows
    /// old.
    pub(super) fn emit_durable_of(
        &mut self,
        group: &GroupName,
        effect: Effect,
        otherwise: Option<Value>,
    ) {
        if let (Effect::Reply { id, .. }, Some(reply)) = (&effect, &otherwise)
            && self.failed.is_some()
            && self.newest > self.durable
        {
            self.ready.push_back(Effect::Reply { id: *id, reply: reply.clone() });
            return;
        }
        let before = self.waiting.len();
        self.emit_durable_or(effect, otherwise);
        if self.waiting.len() > before
            && let Some(waiting) = self.waiting.back_mut()
        {
            waiting.of = Some(group.clone());
        }
    }

    /// Takes back hellos of a group that have not gone yet, since what they say is so no more.
    /// Gives the links for which they were.
    pub(super) fn recall_hellos(&mut self, group: &GroupName) -> Vec<LinkId> {
        let mut links = Vec::new();
        self.waiting.retain(|waiting| match &waiting.effect {
            Effect::Send { link, command: Command::Hello { payload } }
                if waiting.of.as_ref() == Some(group)
                    && inner(payload).split(',').nth(4) == Some(group) =>
            {
                links.push(*link);
                false
            }
            _ => true,
        });
        links
    }

    /// Like `emit`, but not ahead of something that waits: announcements keep their order, as long
    /// as the disk works.
    pub(super) fn emit_in_order(&mut self, effect: Effect) {
        match self.waiting.back() {
            Some(last) if self.failed.is_none() && self.waiting.len() < WAITING_MAX => {
                let needs = last.needs;
                let waiting = Waiting { needs, effect, otherwise: None, in_line: true, of: None };
                self.waiting.push_back(waiting);
            }
            _ => self.ready.push_back(effect),
        }
    }

    /// The revision to be written now, if one is due. The caller then writes the state as it is
    /// now.
    pub(super) fn begin_write(&mut self, now: Instant) -> Option<Revision> {
        let may_try = self.failed.as_ref().is_none_or(|(_, retry_at)| now >= *retry_at);
        let busy = self.in_flight.is_some()
            && (self.newest == self.handed || self.guards.hold(Guard::OneWriteAtATime));
        if busy || self.newest == self.durable || !may_try {
            return None;
        }
        self.in_flight = Some(now);
        self.handed = self.newest;
        Some(Revision(self.newest))
    }

    /// A write succeeded: lets go what waited for it. True if writing had failed before.
    pub(super) fn written(&mut self, revision: Revision, now: Instant) -> bool {
        let Some(since) = self.in_flight.filter(|_| revision.0 == self.handed) else {
            return false;
        };
        self.in_flight = None;
        self.write_ms = now.since(since).max(self.write_ms * 7 / 8);
        self.durable = revision.0;
        while self.waiting.front().is_some_and(|w| w.needs <= self.durable) {
            self.ready.extend(self.waiting.pop_front().map(|waiting| waiting.effect));
        }
        self.failed.take().is_some()
    }

    /// A write failed: answers those who wait for an answer, and asks for no votes any more. All
    /// else goes on waiting. True if this is news.
    pub(super) fn write_failed(
        &mut self,
        revision: Revision,
        reason: String,
        now: Instant,
    ) -> bool {
        if self.in_flight.is_none() || revision.0 != self.handed {
            return false;
        }
        self.in_flight = None;
        for waiting in std::mem::take(&mut self.waiting) {
            match (&waiting.effect, &waiting.otherwise) {
                (Effect::Reply { id, .. }, Some(reply)) => {
                    self.ready.push_back(Effect::Reply { id: *id, reply: reply.clone() });
                }
                (
                    Effect::Send { link, command: Command::IsMasterDown { master, epoch, .. } },
                    _,
                ) => {
                    // The election is given up; a vote asked for later would bind to nobody. What
                    // is left is the question for an opinion, which shows nothing.
                    let (link, master, epoch) = (*link, master.clone(), *epoch);
                    let command = Command::IsMasterDown { master, epoch, candidate: None };
                    self.ready.push_back(Effect::Send { link, command });
                }
                _ if waiting.in_line || is_fact(&waiting.effect) => {
                    self.ready.push_back(waiting.effect);
                }
                _ => self.waiting.push_back(waiting),
            }
        }
        let news = self.failed.as_ref().is_none_or(|(old, _)| *old != reason);
        self.failed = Some((reason, now.plus(RETRY_MS)));
        news
    }

    /// Forgets what is still to be said of a group that is not watched any more. Its votes are not
    /// told: what is written from now on does not hold them. True if nobody was told of the group
    /// yet.
    pub(super) fn forget(&mut self, group: &GroupName) -> bool {
        let all = self.ready.iter().chain(self.waiting.iter().map(|waiting| &waiting.effect));
        let watched = all.filter_map(|effect| match effect {
            Effect::Announce(Event { kind, group: Some(about), .. }) if about == group => {
                [EventKind::Monitor, EventKind::Unmonitor].contains(kind).then_some(*kind)
            }
            _ => None,
        });
        let is_untold = watched.into_iter().next() == Some(EventKind::Monitor);
        let of_group = |effect: &Effect| match effect {
            // That a sentinel moved or was replaced is told of one group and true of all.
            Effect::Announce(Event { kind, .. }) if !is_untold && kind.is_of_all_groups() => false,
            Effect::Announce(Event { group: about, .. }) | Effect::Say { group: about, .. } => {
                about.as_ref() == Some(group)
            }
            // Its event is of no group, and stays.
            Effect::RunScript { about: EventKind::NewEpoch, .. } => false,
            Effect::RunScript { group: about, .. } => about == group,
            Effect::Send { command: Command::Hello { payload }, .. } => {
                inner(payload).split(',').nth(4) == Some(group)
            }
            _ => false,
        };
        self.ready.retain(|effect| !of_group(effect));
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.of.as_ref() != Some(group) && !of_group(&waiting.effect) {
                self.waiting.push_back(waiting);
            } else if let (Effect::Reply { id, .. }, Some(reply)) =
                (waiting.effect, waiting.otherwise)
            {
                self.ready.push_back(Effect::Reply { id, reply });
            }
        }
        is_untold
    }

    /// Why the state cannot be written at present, if so. Such a sentinel takes no part in
    /// elections.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.as_ref().map(|(reason, _)| reason.as_str())
    }

    /// How long it takes to make something durable, in ms.
    pub(super) fn write_ms(&self) -> u64 {
        self.write_ms
    }

    /// When a failed write is due again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.failed.as_ref().filter(|_| self.in_flight.is_none()).map(|(_, at)| *at)
    }

    /// The next effect that may go.
    pub(super) fn pop(&mut self) -> Option<Effect> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentinel::types::RequestId;

    fn send(n: u64) -> Effect {
        Effect::Disconnect { link: LinkId(n) }
    }

    fn drain(out: &mut Outbox) -> Vec<Effect> {
        std::iter::from_fn(|| out.pop()).collect()
    }

    #[test]
    fn what_depends_on_a_change_waits_for_its_write() {
        let now = Instant::from_ms(0);
        let mut out = Outbox::new(Guards::new());
        out.touch();
        out.emit_durable(send(1));
        out.emit(send(2));
        assert_eq!(drain(&mut out), [send(2)]);
        let first = out.begin_write(now).expect("a write is due");
        assert_eq!(out.begin_write(now), None, "one write in flight");
        // A change while the write is in flight needs the next one.
        out.touch();
        out.emit_durable(send(3));
        out.written(first, now);
        assert_eq!(drain(&mut out), [send(1)]);
        let second = out.begin_write(now).expect("the second write is due");
        out.written(second, now);
        assert_eq!(drain(&mut out), [send(3)]);
        assert_eq!(out.begin_write(now), None, "all is durable");
    }

    #[test]
    fn a_failed_write_answers_with_the_fallback_and_is_tried_again() {
        let mut out = Outbox::new(Guards::new());
        out.touch();
        let reply = |text: &str| Effect::Reply { id: RequestId(1), reply: Value::bulk(text) };
        out.emit_durable_or(reply("voted"), Some(Value::bulk("no vote")));
        let revision = out.begin_write(Instant::from_ms(0)).expect("due");
        assert!(out.write_failed(revision, "disk full".into(), Instant::from_ms(10)));
        assert_eq!(drain(&mut out), [reply("no vote")]);
        assert_eq!(out.failure(), Some("disk full"));
        assert_eq!(out.begin_write(Instant::from_ms(500)), None);
        let revision = out.begin_write(Instant::from_ms(1010)).expect("due again");
        assert!(out.written(revision, Instant::from_ms(1010)));
        assert_eq!(out.failure(), None);
        assert_eq!(drain(&mut out), []);
    }

    #[test]
    fn nobody_waits_for_a_vote_while_the_disk_fails() {
        let mut out = Outbox::new(Guards::new());
        let reply = |text: &str| Effect::Reply { id: RequestId(1), reply: Value::bulk(text) };
        let name: GroupName = "g".into();
        out.touch();
        let revision = out.begin_write(Instant::from_ms(0)).expect("due");
        out.emit_durable_of(&name, reply("voted"), Some(Value::bulk("no vote")));
        assert_eq!(drain(&mut out), []);
        out.write_failed(revision, "disk full".into(), Instant::from_ms(10));
        assert_eq!(drain(&mut out), [reply("no vote")]);
        out.emit_durable_of(&name, reply("voted"), Some(Value::bulk("no vote")));
        assert_eq!(drain(&mut out), [reply("no vote")]);
    }

    #[test]
    fn facts_keep_their_order_while_the_disk_fails() {
        let event = |kind| Effect::Announce(Event { kind, group: None, payload: String::new() });
        let mut out = Outbox::new(Guards::new());
        out.touch();
        let revision = out.begin_write(Instant::from_ms(0)).expect("due");
        out.write_failed(revision, "disk full".into(), Instant::from_ms(10));
        out.touch();
        out.emit_durable(event(EventKind::SwitchMaster));
        out.emit_durable(event(EventKind::NewEpoch));
        out.emit_in_order(event(EventKind::Odown));
        assert_eq!(drain(&mut out), [event(EventKind::SwitchMaster), event(EventKind::Odown)]);
    }

    #[test]
    fn announcements_do_not_overtake_each_other() {
        let mut out = Outbox::new(Guards::new());
        out.touch();
        out.emit_durable(send(1));
        out.emit_in_order(send(2));
        assert_eq!(drain(&mut out), []);
        let revision = out.begin_write(Instant::from_ms(0)).expect("due");
        out.written(revision, Instant::from_ms(0));
        assert_eq!(drain(&mut out), [send(1), send(2)]);
    }
}
