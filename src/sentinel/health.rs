//! Is somebody there? One link's questions and the silence that they measure.

use super::core::{Core, Moment};
use super::effect::Command;
use super::mutant::Guard;
use super::rights::{Refusal, is_pong};
use super::types::{Instant, LinkId};
use crate::resp::Value;

/// A PING may go out early by this share of its period, in a step that is under way anyway.
const PING_SLACK: u64 = 8;
/// PINGs go out at multiples of this share of their period, so that those of a thousand groups go
/// together: to be woken for each would cost as much as to send it.
const PING_GRID: u64 = 50;
/// Shortest pause between PINGs, in ms.
const PING_PERIOD_MIN_MS: u64 = 10;
/// Within so long, in ms, the next attempt to connect has shown whether somebody lives: the longest
/// pause between two, and the longest wait for a connection.
pub(super) const NEXT_ATTEMPT_MS: u64 = 2_500;
/// Longest age at which a link that stays silent is opened anew, in ms, where the shortest one is
/// not longer.
const REOPEN_MAX_MS: u64 = 15_000;

/// The pause between PINGs that suits a `down-after`: a tenth of it, so that a node that hangs is
/// noticed at most that much later than `down-after` after its last sign of life.
fn ping_period_ms(core: &Core, down_after_ms: u64) -> u64 {
    (down_after_ms / 10).max(PING_PERIOD_MIN_MS).min(core.tune.ping_period_ms)
}

/// What is asked to hear whether somebody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Ping,
    /// A hello, which is to be published anyway: see [`Health::asked_by_hello`].
    Hello,
}

/// What questions over one link tell.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) link: LinkId,
    pub(super) up: bool,
    /// Commands sent and not answered.
    pub(super) pending: u32,
    /// Since when an acceptable answer has been owed (watched clock): since the oldest question
    /// without one, since the connection was lost, or since the link was first opened. `None`: all
    /// is well.
    pub(super) silent_since: Option<Instant>,
    /// Since when it has answered that we may not ask: it lives, and cannot be watched.
    pub(super) locked_out: Option<Instant>,
    /// It has answered PING as PING is answered over the present connection, be it with an error.
    pub(super) ponged: bool,
    /// Answers to PING in a row that no PING gives.
    pub(super) odd_pongs: u32,
    /// The question that is not answered yet: there is one at a time.
    asked: Option<Question>,
    next_ping: Instant,
    pub(super) last_ok: Instant,
    pub(super) last_reply: Instant,
    pub(super) opened_at: Instant,
    /// At which age it is opened anew, if that is more than the least one.
    reopen_after_ms: u64,
}

impl Health {
    /// The health of a link that was just opened: somebody who never answers is silent from now on.
    pub(super) fn new(core: &Core, link: LinkId) -> Health {
        let now = core.now();
        Health {
            link,
            up: false,
            pending: 0,
            silent_since: Some(core.watched()),
            locked_out: None,
            ponged: false,
            odd_pongs: 0,
            asked: None,
            next_ping: now,
            last_ok: now,
            last_reply: now,
            opened_at: now,
            reopen_after_ms: 0,
        }
    }

    /// Another connection took the place of the old one; the silence goes on.
    pub(super) fn relink(&mut self, core: &Core, link: LinkId) {
        self.link = link;
        self.lost(core.moment());
        self.opened_at = core.now();
    }

    pub(super) fn connected(&mut self, at: Moment) {
        self.up = true;
        self.ponged = false;
        self.odd_pongs = 0;
        self.pending = 0;
        self.asked = None;
        self.next_ping = at.now;
        self.opened_at = at.now;
    }

    pub(super) fn lost(&mut self, at: Moment) {
        self.up = false;
        self.pending = 0;
        self.asked = None;
        let since = self.silent_since.map_or(at.watched, |since| since.min(at.watched));
        self.silent_since = Some(since);
    }

    /// Counts and sends a command.
    pub(super) fn send(&mut self, core: &mut Core, command: Command) {
        self.pending += 1;
        core.send(self.link, command);
    }

    /// A reply of any kind came.
    pub(super) fn replied(&mut self, at: Moment) {
        self.pending = self.pending.saturating_sub(1);
        self.last_reply = at.now;
    }

    /// The answer to a PING. Only PONG, LOADING and MASTERDOWN end the silence: whoever answers
    /// something else is there, but not well (`refused`: we may not ask). True for a plain PONG.
    pub(super) fn pong(&mut self, at: Moment, reply: &Value, refused: bool) -> bool {
        self.asked = None;
        if !refused {
            // Whoever answers something else now lets us in.
            self.locked_out = None;
        }
        let text = match reply {
            Value::Simple(text) | Value::Error(text) => text.as_str(),
            _ => "",
        };
        let is_odd = Refusal::of_ping(reply) == Some(Refusal::Misnamed);
        self.odd_pongs = if is_odd { self.odd_pongs + 1 } else { 0 };
        self.ponged |= !is_odd && !text.starts_with("ERR ");
        if is_pong(text) {
            self.lives(at);
        }
        text.starts_with("PONG")
    }

    fn lives(&mut self, at: Moment) {
        self.silent_since = None;
        self.last_ok = at.now;
        self.reopen_after_ms = 0;
    }

    /// A hello goes out, and asks as well as a PING would, which can wait then; but only somebody
    /// who answered the last PING well. A node whose disk fails publishes, and says so to PING: a
    /// silence that began with a PING is ended by none but that.
    pub(super) fn asked_by_hello(&mut self, core: &Core, down_after_ms: u64) {
        let is_well = self.up && self.silent_since.is_none() && self.locked_out.is_none();
        if is_well && self.asked.is_none() {
            self.ask(core, Question::Hello, down_after_ms);
        }
    }

    /// The answer to a hello. Whoever refuses it is asked PING at once.
    pub(super) fn hello_answered(&mut self, at: Moment, published: bool) {
        if self.asked != Some(Question::Hello) {
            return;
        }
        self.asked = None;
        match published {
            true => self.lives(at),
            false => self.next_ping = at.now,
        }
    }

    fn ask(&mut self, core: &Core, question: Question, down_after_ms: u64) {
        self.asked = Some(question);
        let period_ms = ping_period_ms(core, down_after_ms);
        self.next_ping = core.now().plus(period_ms).on_grid(period_ms / PING_GRID);
        self.silent_since.get_or_insert(core.watched());
    }

    /// It answered that we may not ask it. That is a sign of life, and no more than that: its death
    /// is told from silence as ever, and `last_ok` stays what it was.
    pub(super) fn shut_out(&mut self, at: Moment) {
        self.locked_out.get_or_insert(at.now);
        // Who ends our connections is asked again only with the next one.
        self.silent_since = (!self.up).then_some(at.watched.plus(NEXT_ATTEMPT_MS));
    }

    /// For how long an acceptable answer has been owed, in ms of watched time.
    pub(super) fn silent_ms(&self, at: Moment) -> u64 {
        self.silent_since.map_or(0, |since| at.watched.since(since))
    }

    /// All that was silent starts afresh: this process did not run for a while.
    pub(super) fn restart_window(&mut self, core: &Core) {
        if self.silent_since.is_some() {
            self.silent_since = Some(core.watched());
        }
    }

    /// True if a PING would be due but for what is under way: once that is answered, a step must
    /// follow.
    pub(super) fn ping_is_late(&self, at: Moment) -> bool {
        self.up && at.now >= self.next_ping
    }

    /// Sends the PING that is due.
    pub(super) fn tend(&mut self, core: &mut Core, down_after_ms: u64) {
        if !self.up {
            return;
        }
        let period_ms = ping_period_ms(core, down_after_ms);
        // Asked in any case: who is not asked about this moment does not wake us then.
        let due = core.due_about(self.next_ping, period_ms / PING_SLACK);
        if due && self.asked.is_none() {
            self.ask(core, Question::Ping, down_after_ms);
            // The answer to this one causes no step.
            core.due(self.next_ping);
            self.send(core, Command::Ping);
        }
    }

    /// True if the connection looks half-open: it stands, and has been silent for half of
    /// `down-after`. A new one may fare better; attempts grow rarer, since a node that hangs keeps
    /// each. So may one on which AUTH is tried again, once somebody has put the password right.
    pub(super) fn wants_reopening(&mut self, core: &mut Core, down_after_ms: u64) -> bool {
        let half_open = self.silent_since.filter(|_| self.asked.is_some());
        if !self.up || (half_open.is_none() && self.locked_out.is_none()) {
            return false;
        }
        let least_ms = core.tune.min_link_reconnect_ms;
        let after_ms = self.reopen_after_ms.max(least_ms);
        let old_enough = core.due(self.opened_at.plus(after_ms));
        let silent = half_open.is_some_and(|at| core.due_watched(at.plus(down_after_ms / 2)));
        let wanted = old_enough
            && core.holds(Guard::HalfOpenReopened)
            && (silent || self.locked_out.is_some());
        if wanted {
            self.reopen_after_ms = (after_ms * 2).min(REOPEN_MAX_MS.max(least_ms));
        }
        wanted
    }
}
