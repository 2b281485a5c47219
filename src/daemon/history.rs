//! The last events, for who comes late: numbered from 1 without a gap, with the time at which each
//! was announced. In memory only; its numbers begin anew with the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sentinel::{Event, Level};
use crate::wall_clock::unix_ms;

/// Events that are kept; of more the oldest go. A failover makes a few dozen.
pub const HISTORY_MAX: usize = 4096;
/// Bytes of payloads that are kept; the newest event is kept in any case.
const HISTORY_BYTES_MAX: usize = 4 << 20;

/// One event as it was announced.
#[derive(Debug, Clone)]
pub struct Past {
    /// Its number, one more than that of the event before.
    pub number: u64,
    /// When it was announced, Unix time in ms.
    pub at_ms: u64,
    /// What happened.
    pub event: Arc<Event>,
}

/// The last [`HISTORY_MAX`] events that were published, or fewer where they are long.
#[derive(Debug, Default)]
pub struct History {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Past>,
    /// Of all payloads.
    bytes: usize,
    last: u64,
}

impl History {
    /// Takes an event down, if it is one that subscribers hear.
    pub(crate) fn add(&self, event: &Arc<Event>) {
        if event.kind.level() == Level::Debug {
            return;
        }
        let at_ms = unix_ms();
        let mut kept = self.kept();
        kept.last += 1;
        let past = Past { number: kept.last, at_ms, event: event.clone() };
        kept.bytes += event.payload.len();
        kept.events.push_back(past);
        while kept.events.len() > HISTORY_MAX
            || (kept.bytes > HISTORY_BYTES_MAX && kept.events.len() > 1)
        {
            let oldest = kept.events.pop_front();
            kept.bytes -= oldest.map_or(0, |past| past.event.payload.len());
        }
    }

    /// Events in order: those after the one with number `since`, the first `count` of them; or, if
    /// no number is given, the last `count`.
    pub fn read(&self, since: Option<u64>, count: usize) -> Vec<Past> {
        let kept = self.kept();
        let length = kept.events.len();
        let skipped = match since {
            Some(number) => kept.events.partition_point(|past| past.number <= number),
            None => length.saturating_sub(count),
        };
        kept.events.iter().skip(skipped).take(count).cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whole after each change, whatever panics elsewhere.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentinel::EventKind;

    fn numbers(history: &History, since: Option<u64>, count: usize) -> Vec<u64> {
        history.read(since, count).iter().map(|past| past.number).collect()
    }

    #[test]
    fn the_last_events_are_kept_and_numbered_without_a_gap() {
        let history = History::default();
        assert!(history.read(None, 9).is_empty());
        let event = |kind| Arc::new(Event { kind, group: None, payload: String::new() });
        for _ in 0..HISTORY_MAX + 10 {
            history.add(&event(EventKind::Sdown));
            history.add(&event(EventKind::CmdLinkReconnection));
        }
        let last = HISTORY_MAX as u64 + 10;
        assert_eq!(numbers(&history, None, HISTORY_MAX).len(), HISTORY_MAX);
        assert_eq!(numbers(&history, None, 2), [last - 1, last]);
        assert_eq!(numbers(&history, Some(last - 3), 2), [last - 2, last - 1]);
        assert!(history.read(Some(last), 2).is_empty());
        assert!(history.read(Some(last + 7), 2).is_empty());
        assert_eq!(numbers(&history, Some(0), 1), [11], "older ones are gone, and that shows");
        assert_eq!(history.read(Some(0), usize::MAX).len(), HISTORY_MAX);
    }

    #[test]
    fn long_events_take_the_place_of_many() {
        let history = History::default();
        let payload = "x".repeat(HISTORY_BYTES_MAX / 4);
        for kind in [EventKind::Set; 9] {
            history.add(&Arc::new(Event { kind, group: None, payload: payload.clone() }));
        }
        assert_eq!(numbers(&history, None, 99), [6, 7, 8, 9]);
        let payload = "x".repeat(2 * HISTORY_BYTES_MAX);
        history.add(&Arc::new(Event { kind: EventKind::Set, group: None, payload }));
        assert_eq!(numbers(&history, None, 99), [10]);
    }
}
