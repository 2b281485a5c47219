//! The queue of what will happen: in order of time, and of what was scheduled first.

use std::collections::{BTreeMap, VecDeque};

use super::wire::Ms;

/// So many ms of the near future have a slot each; a power of two.
const SLOTS: usize = 4_096;

/// No thing: the end of a list.
const NONE: u32 = u32::MAX;

/// A thing in the wheel, and the one after it in its slot or in the list of free places.
struct Place<T> {
    what: Option<T>,
    next: u32,
}

/// A wheel of slots for the near future, where nearly everything lies, and a map for the rest.
pub(super) struct Queue<T> {
    now: Ms,
    /// The first and the last place of each slot; where a slot is not filled they mean nothing.
    slots: Vec<(u32, u32)>,
    /// One bit for each slot that holds something.
    filled: Vec<u64>,
    /// What all slots hold, close together: few things wait at a time.
    places: Vec<Place<T>>,
    free: u32,
    far: BTreeMap<Ms, VecDeque<T>>,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue {
            now: 0,
            slots: vec![(NONE, NONE); SLOTS],
            filled: vec![0; SLOTS / 64],
            places: Vec::new(),
            free: NONE,
            far: BTreeMap::new(),
        }
    }

    pub(super) fn now(&self) -> Ms {
        self.now
    }

    /// Schedules for `at`, which does not lie in the past.
    pub(super) fn push(&mut self, at: Ms, what: T) {
        match at - self.now < SLOTS as u64 {
            true => self.slot(at, what),
            false => self.far.entry(at).or_default().push_back(what),
        }
    }

    fn slot(&mut self, at: Ms, what: T) {
        let place = Place { what: Some(what), next: NONE };
        let new = match self.free {
            NONE => {
                self.places.push(place);
                self.places.len() as u32 - 1
            }
            free => {
                self.free = std::mem::replace(&mut self.places[free as usize], place).next;
                free
            }
        };
        let slot = at as usize % SLOTS;
        let (word, bit) = (slot / 64, 1 << (slot % 64));
        let ends = &mut self.slots[slot];
        if self.filled[word] & bit == 0 {
            self.filled[word] |= bit;
            ends.0 = new;
        } else {
            self.places[ends.1 as usize].next = new;
        }
        ends.1 = new;
    }

    /// The next thing, with time set to its moment; `None`, and time as it was, if that lies beyond
    /// `until`.
    pub(super) fn pop(&mut self, until: Ms) -> Option<T> {
        let next = self.next_at()?;
        if next > until {
            return None;
        }
        if next != self.now {
            self.now = next;
            while let Some(near) = self.far.first_entry().filter(|e| *e.key() - next < SLOTS as u64)
            {
                let (at, all) = near.remove_entry();
                all.into_iter().for_each(|what| self.slot(at, what));
            }
        }
        let slot = next as usize % SLOTS;
        let first = self.slots[slot].0;
        let place = &mut self.places[first as usize];
        let what = place.what.take();
        let after = std::mem::replace(&mut place.next, self.free);
        self.free = first;
        self.slots[slot].0 = after;
        if after == NONE {
            self.filled[slot / 64] &= !(1 << (slot % 64));
        }
        what
    }

    fn next_at(&self) -> Option<Ms> {
        let first = self.now as usize % SLOTS;
        let words = SLOTS / 64;
        for step in 0..=words {
            let word = (first / 64 + step) % words;
            let mut bits = self.filled[word];
            if step == 0 {
                bits &= u64::MAX << (first % 64);
            } else if step == words {
                bits &= !(u64::MAX << (first % 64));
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                return Some(self.now + ((slot + SLOTS - first) % SLOTS) as u64);
            }
        }
        self.far.first_key_value().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_order_of_time_and_then_of_scheduling() {
        let mut queue = Queue::new();
        let mut expected: Vec<(Ms, u32)> = Vec::new();
        let mut chance = crate::sentinel::types::Chance::new(7);
        let mut number = 0;
        let mut seen = Vec::new();
        for _ in 0..4_000 {
            for _ in 0..chance.below(3) {
                let far = chance.below(3) == 0;
                let at = queue.now() + chance.below(if far { 60_000 } else { 50 });
                queue.push(at, (at, number));
                expected.push((at, number));
                number += 1;
            }
            seen.extend(queue.pop(Ms::MAX));
        }
        seen.extend(std::iter::from_fn(|| queue.pop(Ms::MAX)));
        expected.sort();
        let times: Vec<Ms> = seen.iter().map(|(at, _)| *at).collect();
        assert!(times.is_sorted());
        for pair in seen.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            assert!(pair[0].1 < pair[1].1, "{pair:?}");
        }
        seen.sort();
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_lies_beyond_the_limit_stays() {
        let mut queue = Queue::new();
        queue.push(10, 'a');
        queue.push(90_000, 'b');
        assert_eq!(queue.pop(9), None);
        assert_eq!((queue.pop(10), queue.now()), (Some('a'), 10));
        assert_eq!((queue.pop(89_999), queue.now()), (None, 10));
        assert_eq!((queue.pop(90_000), queue.now()), (Some('b'), 90_000));
        assert_eq!(queue.pop(Ms::MAX), None);
    }
}
