//! Another sentinel with our id: it was started from a copy of our files, or we from a copy of its.
//!
//! A vote for that id would elect us both, so whoever hears its own id from elsewhere stands back
//! and, where that goes on, takes a new one. But anybody may say such a hello who may publish on a
//! node. So the address is asked for its id: another one there, or nobody, ends the matter, ours
//! settles it, and where no answer comes we stand back for a while, and then for a while we do not.
//! Where there is a hello secret only who has it is believed at all, and each word once.

use super::Sentinel;
use super::core::Core;
use super::effect::Command;
use super::event::{EventKind, Level};
use super::input::{LinkEvent, LostReason};
use super::mutant::Guard;
use super::node::HELLO_PERIOD_MS;
use super::signed;
use super::timers::Subject;
use super::types::{Address, Instant, LinkId, RunId};
use crate::config::rules::valid_host;
use crate::resp::Value;

/// Who was first heard with our id longer ago than this, in ms, is heard for the first time again.
const GONE_MS: u64 = 10 * HELLO_PERIOD_MS;
/// Who speaks with our id for so long, in ms, is there.
const SURE_MS: u64 = 3 * HELLO_PERIOD_MS;
/// How long an answer is waited for from the address that it gave, in ms: an attempt to connect and
/// a little more.
const ANSWER_MS: u64 = 1_500;
/// After an answer that showed a forgery nobody is asked for so long at least, in ms, and for so
/// many times as long as it took: while an answer is waited for we take no part in elections.
const QUIET_MS: u64 = 1_000;
const QUIET_TIMES: u64 = 20;
/// Where nobody answered, nobody else is believed without an answer for so long, in ms.
const UNBELIEVED_MS: u64 = 60_000;
/// How the log says that we are known by another id from now on; the old one is to be forgotten.
pub(crate) const NEW_ID: &str = "I take a new id";

/// Somebody who speaks with our id.
#[derive(Debug)]
pub(super) struct Double {
    pub(super) address: Address,
    first: Instant,
    /// How it is asked, as long as it may answer.
    asked: Option<Question>,
}

/// Over which link the address is asked, and a word that nobody else has: if that comes back to us
/// we live there ourselves, behind another name or a forwarded port.
#[derive(Debug)]
struct Question {
    link: LinkId,
    word: RunId,
}

/// What came of the question at its address.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Our id.
    Ours,
    /// Somebody else lives there, or nobody.
    Forged(&'static str),
    /// It cannot be known.
    Unsure(&'static str),
}

/// What was heard of doubles.
#[derive(Debug, Default)]
pub(super) struct Doubles {
    pub(super) now: Option<Double>,
    /// Until when nobody is asked: one who proved to be none cost some time just now.
    quiet_until: Option<Instant>,
    /// Until when nobody is believed who does not answer.
    wary_until: Option<Instant>,
    /// The highest counter of a signed hello with our id that was not ours.
    counter: u64,
    /// How many hellos with our id were not believed.
    ignored: u64,
}

/// It is no sentinel, or one of Redis before 6.2: none of ours, which all know the question.
fn knows_no_ids(error: &str) -> bool {
    error.to_ascii_lowercase().starts_with("err unknown")
}

impl Core {
    /// True if somebody else was heard with our id lately: a vote for it may be meant for him.
    pub(super) fn may_be_double(&self) -> bool {
        let double = self.doubles.now.as_ref();
        double.is_some_and(|double| self.now().since(double.first) < GONE_MS)
    }

    /// True while it is not known yet whether to believe that: an election waits.
    pub(super) fn asks_double(&self) -> bool {
        self.may_be_double() && self.doubles.now.as_ref().is_some_and(|d| d.asked.is_some())
    }
}

impl Sentinel {
    /// Our own hellos come back to us. One from where we are not is another sentinel's. `counter`:
    /// of a signed one.
    pub(super) fn hear_own_id(&mut self, sender: &Address, counter: Option<u64>) {
        if !self.core.knows_own_address() {
            // No connection has told it yet: this may be a last word of ours from before a restart.
            return;
        }
        if self.core.is_own_address(sender) {
            return self.clear_own_address(sender);
        }
        if self.core.was_own_address(sender) {
            return;
        }
        if let Some(why) = self.why_no_double(sender, counter) {
            return self.ignore_double(sender, why);
        }
        let now = self.core.now();
        if self.core.may_be_double()
            && let Some(double) = &self.core.doubles.now
        {
            // A last word of ours from before we moved is heard once, somebody else again and
            // again. Of two who speak with our id one is enough.
            let sure = double.address == *sender && now.since(double.first) >= SURE_MS;
            if sure && double.asked.is_none() {
                self.take_new_id(sender);
            }
            return;
        }
        self.part_with_double();
        let (link, word) = (self.core.connect_double(sender), self.core.fresh_id());
        let asked = Some(Question { link, word });
        self.core.doubles.now = Some(Double { address: sender.clone(), first: now, asked });
        self.touch(Subject::Peers);
    }

    /// A sentence if this is none of a sentinel with our id, or must not be believed.
    fn why_no_double(&mut self, sender: &Address, counter: Option<u64>) -> Option<&'static str> {
        let (now, wall_ms) = (self.core.now(), self.core.clock.wall_ms);
        if !valid_host(&sender.host, self.core.settings.resolve_hostnames) {
            return Some("that is no address");
        }
        let doubles = &mut self.core.doubles;
        match counter {
            None if self.core.settings.hello_key.is_some() => {
                return Some("nobody signed it, though who has our files has our secret");
            }
            Some(counter) => {
                let stale = wall_ms.abs_diff(counter) > signed::NEWCOMER_CLOCK_MS;
                if stale || counter <= doubles.counter {
                    return Some("it was said before");
                }
                doubles.counter = counter;
            }
            None => {}
        }
        let is_quiet = doubles.quiet_until.is_some_and(|until| now < until);
        is_quiet.then_some("the last such hello was forged")
    }

    fn ignore_double(&mut self, sender: &Address, why: &str) {
        self.core.doubles.ignored += 1;
        let count = self.core.doubles.ignored;
        if count.is_power_of_two() {
            let text = format!(
                "Ignored a hello with my own id from {sender}, which is not the address that I \
                 say: {why} ({count} ignored so far)"
            );
            self.core.say(Level::Warning, None, text);
        }
    }

    /// What becomes of the question at the address that is said to have our id.
    pub(super) fn take_double_event(&mut self, link: LinkId, event: &LinkEvent) {
        let answer = match event {
            LinkEvent::Up { .. } => return self.ask_double(link),
            LinkEvent::Reply { command: Command::AskId { .. }, reply } => {
                let reply = match reply {
                    Value::Array(replies) => replies.last().unwrap_or(reply),
                    reply => reply,
                };
                match (reply, reply.text().and_then(RunId::parse)) {
                    (_, Some(id)) if id == self.core.my_id => Answer::Ours,
                    // Whoever does not let us ask may be anybody.
                    (Value::Error(error), _) if !knows_no_ids(error) => {
                        Answer::Unsure("it does not say who it is")
                    }
                    _ => Answer::Forged("whoever lives there has another id"),
                }
            }
            LinkEvent::Down { reason: LostReason::Refused } => Answer::Forged("nobody lives there"),
            _ => return,
        };
        self.double_answered(answer);
    }

    fn ask_double(&mut self, link: LinkId) {
        let Some(Double { asked: Some(question), .. }) = &self.core.doubles.now else { return };
        let word = Some(question.word.clone());
        self.core.send(link, Command::AskId { word });
    }

    /// A vote is asked for with this candidate: perhaps by ourselves.
    pub(super) fn hear_candidate(&mut self, candidate: &str) {
        let double = self.core.doubles.now.as_ref();
        let question = double.and_then(|double| double.asked.as_ref());
        if question.is_some_and(|question| question.word.as_str() == candidate) {
            self.double_answered(Answer::Forged("I live there myself"));
        }
    }

    /// Looks whether an answer is waited for in vain; within the step of the peers.
    pub(super) fn await_double(&mut self) {
        let Some(Double { first, asked: Some(_), .. }) = self.core.doubles.now else { return };
        if self.core.due(first.plus(ANSWER_MS)) {
            self.double_answered(Answer::Unsure("nobody answers there"));
        }
    }

    fn double_answered(&mut self, answer: Answer) {
        let now = self.core.now();
        let asked = self.core.doubles.now.take_if(|double| double.asked.is_some());
        let Some(Double { address, first, asked: Some(question) }) = asked else { return };
        self.core.disconnect(question.link);
        let (believed, why) = match answer {
            Answer::Ours => (true, ""),
            Answer::Unsure(why) => {
                let wary_until = &mut self.core.doubles.wary_until;
                let wary = wary_until.is_some_and(|until| now < until);
                if !wary {
                    *wary_until = Some(now.plus(GONE_MS + UNBELIEVED_MS));
                }
                (!wary, why)
            }
            Answer::Forged(why) => (false, why),
        };
        if !believed {
            let quiet_ms = QUIET_MS.max(QUIET_TIMES * now.since(first));
            self.core.doubles.quiet_until = Some(now.plus(quiet_ms));
        }
        match believed {
            true => self.core.doubles.now = Some(Double { address, first, asked: None }),
            false => self.ignore_double(&address, why),
        }
        // An election waits for this.
        for (name, group) in self.groups.iter_mut().filter(|(_, group)| group.failover.is_some()) {
            if believed {
                let why = "another sentinel may share the id that was elected".to_owned();
                group.abort(&mut self.core, EventKind::AbortNotElected, why);
            }
            self.timers.set(Subject::Group(name.clone()), Some(now));
        }
    }

    /// It goes by a new id from now on, and so does the other one, if it is one of ours. Of the old
    /// one neither knows what it has promised.
    fn take_new_id(&mut self, other: &Address) {
        self.part_with_double();
        if !self.core.holds(Guard::OneIdPerSentinel) {
            return;
        }
        let id = self.core.fresh_id();
        let text = format!(
            "Another sentinel, at {other}, has my id {}: one of us was started from a copy of the \
             other's files. {NEW_ID}, {id}",
            self.core.my_id
        );
        self.core.say(Level::Warning, None, text);
        self.core.my_id = id;
        self.core.out.touch();
        for (name, group) in &mut self.groups {
            group.hasten_hellos(&self.core);
            self.timers.set(Subject::Group(name.clone()), Some(self.core.now()));
        }
    }

    fn part_with_double(&mut self) {
        if let Some(Double { asked: Some(question), .. }) = self.core.doubles.now.take() {
            self.core.disconnect(question.link);
        }
    }

    /// Where we live nobody else does: whom our files show there is gone, a former self perhaps.
    fn clear_own_address(&mut self, own: &Address) {
        if let Some((name, id)) = self.holder_of(own, &self.core.my_id) {
            // Where nobody else is left, alone we are no majority: others may come, as at the
            // beginning.
            for name in self.replace_peer(&name, &id) {
                let group = self.groups.get_mut(&name).filter(|group| group.peers.is_empty());
                group.into_iter().for_each(|group| _ = group.listening.get_or_insert(None));
            }
            self.core.out.touch();
        }
    }
}
