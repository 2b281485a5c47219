//! A run told as a story, and its fingerprint.
//!
//! A run costs nothing for stories nobody reads: lines are made only when asked for. After a
//! failure the run is simply played again with the story on, since the seed decides everything.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use super::wire::Ms;
use crate::sentinel::Effect;
use crate::sentinel::types::RunId;

/// So many characters of an id are told, as [`RunId::short`] has them.
const SHORT: usize = 8;
/// Lines kept for the report of a failure.
const TAIL_MAX: usize = 80;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// Nothing.
    Silent,
    /// The last lines are kept.
    Tail,
    /// All lines are kept.
    All,
    /// Every line is printed as it happens.
    Print,
}

/// One line of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in virtual ms.
    pub at_ms: u64,
    /// Whose line: `sentinel 0`, `node 2`, `world`.
    pub who: String,
    /// What it did, said or decided.
    pub what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at_ms as f64 / 1_000.0;
        write!(f, "{at:>9.3} s  {:<11} {}", self.who, self.what)
    }
}

/// The story of one run.
pub(super) struct Story {
    telling: Telling,
    tail: VecDeque<Line>,
    /// Who has, or had, which id.
    ids: BTreeMap<String, String>,
    /// Why it could not be printed.
    pub(super) unwritten: Option<String>,
}

impl Story {
    pub(super) fn new(telling: Telling) -> Story {
        Story { telling, tail: VecDeque::new(), ids: BTreeMap::new(), unwritten: None }
    }

    /// From now on this id is told with its owner's name.
    pub(super) fn introduce(&mut self, id: &RunId, who: &dyn fmt::Display) {
        if self.is_heard() {
            self.ids.insert(id.to_string(), who.to_string());
        }
    }

    /// The same text with the owner of each id in place of most of its digits, or after an id that
    /// is short already.
    pub(super) fn named(&self, text: &str) -> String {
        let mut named = String::new();
        for piece in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let id = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            match self.owner(id) {
                Some(who) => {
                    named.push_str(&id[..SHORT]);
                    named = named + "(" + who + ")" + &piece[id.len()..];
                }
                None => named.push_str(piece),
            }
        }
        named
    }

    fn owner(&self, id: &str) -> Option<&String> {
        match id.len() {
            SHORT => {
                let (whole, who) = self.ids.range(id.to_owned()..).next()?;
                whole.starts_with(id).then_some(who)
            }
            _ => self.ids.get(id),
        }
    }

    /// True if it is worth while to make a line.
    pub(super) fn is_heard(&self) -> bool {
        self.telling != Telling::Silent
    }

    /// Tells one line, which is made only if somebody listens.
    pub(super) fn tell(&mut self, at: Ms, who: &dyn fmt::Display, what: impl FnOnce() -> String) {
        if self.telling == Telling::Silent {
            return;
        }
        let line = Line { at_ms: at, who: who.to_string(), what: self.named(&what()) };
        if self.telling == Telling::Print
            && let Err(error) = writeln!(io::stdout(), "{line}")
        {
            // That breaks no rule of a sentinel: the run goes on without a listener. That nobody
            // wants to read on is no error at all.
            self.telling = Telling::Silent;
            self.unwritten = (error.kind() != io::ErrorKind::BrokenPipe).then(|| error.to_string());
        }
        if self.telling != Telling::All && self.tail.len() == TAIL_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// The lines that were kept, oldest first.
    pub(super) fn into_lines(self) -> Vec<Line> {
        self.tail.into()
    }
}

/// A hash of everything that is written to it: the same on every machine, however the writing is
/// cut into pieces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fingerprint {
    hash: u64,
    /// The last bytes, not yet eight of them, and how many.
    word: u64,
    filled: u32,
}

impl Fingerprint {
    pub(super) fn new() -> Fingerprint {
        Fingerprint { hash: 0xcbf2_9ce4_8422_2325, word: 0, filled: 0 }
    }

    /// Adds what was seen.
    pub(super) fn add(&mut self, at: Ms, what: fmt::Arguments<'_>) {
        // Writing to a fingerprint cannot fail.
        let _ = write!(self, "{at} {what};");
    }

    /// Adds three numbers: for what is seen too often to be written out.
    pub(super) fn count(&mut self, at: Ms, who: u64, what: u64) {
        for number in [at, who, what] {
            self.mix(number);
        }
    }

    /// Adds an effect: what of it can differ between two runs.
    pub(super) fn effect(&mut self, at: Ms, who: u64, effect: &Effect) {
        let Effect::Persist { revision, state, .. } = effect else {
            return self.add(at, format_args!("{who} {effect:?}"));
        };
        self.count(at, who, revision.0);
        self.mix(state.current_epoch);
        for (name, group) in state.groups.iter() {
            self.bytes(name.as_bytes());
            self.bytes(group.settings.master.host.as_bytes());
            self.count(group.settings.master.port.into(), group.config_epoch, group.leader_epoch);
            self.bytes(group.voted_for.as_ref().map_or("-", RunId::short).as_bytes());
            self.count(group.sentinels.len() as u64, group.replicas.len() as u64, 0);
        }
    }

    /// Adds many bytes at once.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.word |= u64::from(*byte) << (8 * self.filled);
            self.filled += 1;
            if self.filled == 8 {
                let word = std::mem::take(&mut self.word);
                self.filled = 0;
                self.mix(word);
            }
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    pub(super) fn value(mut self) -> u64 {
        self.mix(self.word);
        self.hash
    }
}

impl fmt::Write for Fingerprint {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_lines_and_silence_makes_none() {
        let mut story = Story::new(Telling::Tail);
        for n in 0..=TAIL_MAX {
            story.tell(n as Ms, &"x", || n.to_string());
        }
        let tail = story.into_lines();
        assert_eq!(tail.len(), TAIL_MAX);
        assert!(tail[0].to_string().ends_with(" 1"), "{}", tail[0]);
        Story::new(Telling::Silent).tell(0, &"x", || unreachable!("nobody listens"));
    }

    #[test]
    fn an_id_is_told_with_its_owner() {
        let id = RunId::from_bytes([0xab; 20]);
        let mut story = Story::new(Telling::All);
        story.introduce(&id, &"sentinel 4");
        story.tell(7, &"sentinel 0", || format!("+vote-for-leader {id} 1"));
        let told = story.into_lines();
        assert_eq!(told[0].what, "+vote-for-leader abababab(sentinel 4) 1");
    }

    #[test]
    fn an_id_that_is_short_gets_its_owner_too_and_nothing_else_does() {
        let mut story = Story::new(Telling::Tail);
        for (byte, who) in [(0x7e, "sentinel 2"), (0xab, "sentinel 0")] {
            story.introduce(&RunId::from_bytes([byte; 20]), &who);
        }
        let id = RunId::from_bytes([0x7e; 20]);
        for (text, named) in [
            (format!("votes for {} (once)", id.short()), "votes for 7e7e7e7e(sentinel 2) (once)"),
            (format!("(\"{id}\")"), "(\"7e7e7e7e(sentinel 2)\")"),
            ("abababab".into(), "abababab(sentinel 0)"),
            ("epoch 7e7e7e7, 7e7e7e7f, ffffffff".into(), "epoch 7e7e7e7, 7e7e7e7f, ffffffff"),
        ] {
            assert_eq!(story.named(&text), named);
        }
    }

    #[test]
    fn a_fingerprint_does_not_depend_on_how_text_is_cut() {
        let of = |pieces: &[&str]| {
            let mut print = Fingerprint::new();
            pieces.iter().for_each(|piece| print.bytes(piece.as_bytes()));
            print.value()
        };
        assert_eq!(of(&["a sentinel spoke"]), of(&["a sen", "tinel", " spoke"]));
        assert_ne!(of(&["a sentinel spoke"]), of(&["a sentinel spok"]));
    }

    #[test]
    fn a_fingerprint_tells_order_and_time() {
        let of = |steps: &[(Ms, &str)]| {
            let mut print = Fingerprint::new();
            steps.iter().for_each(|(at, what)| print.add(*at, format_args!("{what}")));
            print.value()
        };
        assert_eq!(of(&[(1, "a"), (2, "b")]), of(&[(1, "a"), (2, "b")]));
        assert_ne!(of(&[(1, "a"), (2, "b")]), of(&[(2, "a"), (1, "b")]));
        assert_ne!(of(&[(1, "a"), (2, "b")]), of(&[(1, "b"), (2, "a")]));
    }
}
