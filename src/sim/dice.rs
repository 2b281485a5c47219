//! Chance for the world: everything random in a run is drawn here, and so from its seed.

use std::ops::RangeInclusive;

use crate::sentinel::types::{Chance, RunId};

/// A seeded source of draws. Each part of the world has its own, so that one more draw in one part
/// does not change what all others draw.
#[derive(Debug, Clone)]
pub(super) struct Dice(Chance);

impl Dice {
    /// The source called `name` of the run with this seed.
    pub(super) fn new(seed: u64, name: &str) -> Dice {
        let mut chance = Chance::new(seed);
        let mut salt = chance.below(u64::MAX);
        for byte in name.bytes() {
            salt = (salt ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Dice(Chance::new(salt))
    }

    /// Any number.
    pub(super) fn number(&mut self) -> u64 {
        self.0.below(u64::MAX)
    }

    /// From 0 up to, not including, `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// One of so many.
    pub(super) fn any(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// Another one of so many.
    pub(super) fn other(&mut self, count: usize, than: usize) -> usize {
        (than + 1 + self.any(count - 1)) % count
    }

    /// One of the range, each alike.
    pub(super) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// One of the range, each order of magnitude alike: mostly small, sometimes large.
    pub(super) fn skewed(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (mut low, high) = (*range.start(), *range.end());
        while low < high && low.saturating_mul(2) <= high && self.one_in(2) {
            low = (low * 2).max(1);
        }
        self.within(low..=low.saturating_mul(2).clamp(low, high))
    }

    /// True once in `n` draws.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// A fresh id.
    pub(super) fn run_id(&mut self) -> RunId {
        let mut bytes = [0; 20];
        for byte in &mut bytes {
            *byte = self.below(256) as u8;
        }
        RunId::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_and_name_only() {
        let draw = |seed, name| {
            let mut dice = Dice::new(seed, name);
            (dice.number(), dice.within(3..=9), dice.run_id())
        };
        assert_eq!(draw(1, "net"), draw(1, "net"));
        assert_ne!(draw(1, "net"), draw(2, "net"));
        assert_ne!(draw(1, "net"), draw(1, "plan"));
    }

    #[test]
    fn skewed_draws_stay_in_range_and_favour_the_small() {
        let mut dice = Dice::new(7, "skewed");
        let drawn: Vec<u64> = (0..2000).map(|_| dice.skewed(10..=1000)).collect();
        assert!(drawn.iter().all(|n| (10..=1000).contains(n)));
        let small = drawn.iter().filter(|n| **n < 100).count();
        assert!((1000..1990).contains(&small), "{small} of 2000 below 100");
    }
}
