//! Themes of votes: who stands, who is asked for a vote, who forgets one.

use super::super::dice::Dice;
use super::super::disk::Memory;
use super::super::faults::{Fault, FaultKind, Order};
use super::super::node::Data;
use super::super::plan::Shape;
use super::super::wire::Ms;
use super::counts::{latecomer, later_vote, there_and_back};

/// What a theme makes of the world, and what goes wrong in it from one moment to another.
type Theme = fn(&mut Shape, (Ms, Ms), &mut Dice) -> Vec<Fault>;

/// One run in so many has a theme.
const ONE_IN: u64 = 3;

/// A theme has so long at least, in ms.
const LEAST_MS: Ms = 20_000;

const THEMES: &[Theme] =
    &[lone, canvass, newcomers, removals, clones, later_vote, there_and_back, latecomer];

/// Draws a theme, or none. Stock sentinels have none: it would ask too much of them, or take away
/// what safety rests on.
pub(in crate::sim) fn draw(shape: &mut Shape, dice: &mut Dice) -> Vec<Fault> {
    if !dice.one_in(ONE_IN) || !shape.stock.is_empty() {
        return Vec::new();
    }
    let theme = *dice.pick(THEMES);
    shape.faults_ms = shape.faults_ms.max(LEAST_MS);
    let (from, until) = (shape.warm_up_ms, shape.heal_at());
    let mut faults = theme(shape, (from, until), dice);
    faults.retain(|fault| fault.at < until);
    for fault in &mut faults {
        fault.for_ms = fault.for_ms.min(until - fault.at);
    }
    faults
}

pub(super) fn fault(at: Ms, for_ms: Ms, kind: FaultKind) -> Fault {
    Fault { at, for_ms, kind }
}

/// A sentinel alone needs nobody's vote.
fn lone(shape: &mut Shape, (from, until): (Ms, Ms), dice: &mut Dice) -> Vec<Fault> {
    shape.sentinels = 1;
    shape.quorum = 1;
    shape.late.clear();
    let at = from + dice.below((until - from) / 2);
    let slow_ms = dice.skewed(50..=3_000);
    vec![
        fault(from, until - from, FaultKind::SlowDisk(0, slow_ms)),
        fault(at, shape.down_after_ms + 5_000, FaultKind::CrashNode(0, Data::Same, false)),
    ]
}

/// Somebody asks for votes: late, for another one, or out of nowhere.
fn canvass(shape: &mut Shape, (from, until): (Ms, Ms), dice: &mut Dice) -> Vec<Fault> {
    let count = dice.within(5..=30);
    let ask = |dice: &mut Dice| {
        let n = dice.any(shape.sentinels);
        let order = Order::Canvass {
            group: dice.any(shape.groups),
            candidate: (!dice.one_in(6)).then(|| dice.other(shape.sentinels, n)),
            ahead: dice.within(0..=4) as i64 - 3,
        };
        let at = from + dice.below(until - from);
        fault(at, 0, FaultKind::Order(n, order))
    };
    let mut faults: Vec<Fault> = (0..count).map(|_| ask(dice)).collect();
    for _ in 0..dice.below(4) {
        // One after the other, with a word between them that frees nobody any more.
        let (n, group) = (dice.any(shape.sentinels), dice.any(shape.groups));
        let mut at = from + dice.below(until - from);
        let mut order = |order| {
            faults.push(fault(at, 0, FaultKind::Order(n, order)));
            at += 40;
        };
        for late in [false, true, false] {
            let candidate = Some(dice.other(shape.sentinels, n));
            order(match late {
                true => Order::LateWord(group),
                false => Order::Canvass { group, candidate, ahead: 1 },
            });
        }
    }
    faults
}

/// Sentinels lose their memory while there is an election, and are asked for their votes, or to
/// fail over, soon after.
fn newcomers(shape: &mut Shape, (from, until): (Ms, Ms), dice: &mut Dice) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut at = from + dice.below(3_000);
    while at < until {
        let (n, group) = (dice.any(shape.sentinels), dice.any(shape.groups));
        let away_ms = dice.skewed(20..=2_000);
        faults.push(fault(at, away_ms, FaultKind::CrashSentinel(n, Memory::Lost)));
        let back = at + away_ms;
        let failover = |at: Ms, n: usize| fault(at, 0, FaultKind::Order(n, Order::Failover(group)));
        faults.push(failover(back + dice.below(2_500), dice.any(shape.sentinels)));
        if dice.one_in(2) {
            faults.push(failover(back + dice.below(2_500), n));
        }
        for _ in 0..2 {
            let candidate = Some(dice.other(shape.sentinels, n));
            let order = Order::Canvass { group, candidate, ahead: dice.below(3) as i64 - 2 };
            let at = back + dice.within(2_000..=5_000);
            faults.push(fault(at, 0, FaultKind::Order(n, order)));
        }
        at += dice.within(5_000..=20_000);
    }
    faults
}

/// A group is removed from a sentinel that still has something to say of it.
fn removals(shape: &mut Shape, (from, until): (Ms, Ms), dice: &mut Dice) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut at = from + dice.below(3_000);
    while at < until {
        let (n, group) = (dice.any(shape.sentinels), dice.any(shape.groups));
        let slow_ms = dice.skewed(500..=5_000);
        faults.push(fault(at, 2 * slow_ms, FaultKind::SlowDisk(n, slow_ms)));
        let ordered = at + 1 + dice.below(100);
        faults.push(fault(ordered, 0, FaultKind::Order(n, Order::Failover(group))));
        let removed = ordered + dice.below(slow_ms);
        let away_ms = dice.within(1_000..=5_000);
        faults.push(fault(removed, away_ms, FaultKind::Order(n, Order::Remove(group))));
        at += dice.within(10_000..=30_000);
    }
    faults
}

/// A sentinel is set up with a copy of another one's files.
fn clones(shape: &mut Shape, (from, until): (Ms, Ms), dice: &mut Dice) -> Vec<Fault> {
    let n = dice.any(shape.sentinels);
    let of = dice.other(shape.sentinels, n);
    let at = from + dice.below(until - from);
    vec![fault(at, dice.skewed(20..=5_000), FaultKind::Clone(n, of))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_runs_have_a_theme_and_all_themes_are_drawn() {
        let mut kinds = std::collections::HashSet::new();
        let mut without = 0;
        for seed in 0..300 {
            let mut shape = Shape::default();
            let faults = draw(&mut shape, &mut Dice::new(seed, "theme"));
            without += u32::from(faults.is_empty());
            for fault in faults {
                assert!(fault.at + fault.for_ms <= shape.heal_at(), "{fault:?}");
                kinds.insert(std::mem::discriminant(&fault.kind));
            }
        }
        assert!((150..250).contains(&without), "{without} of 300 without a theme");
        assert_eq!(kinds.len(), 9, "{kinds:?}");
        let mut mixed = Shape { stock: vec![0], ..Shape::default() };
        assert!((0..100).all(|seed| draw(&mut mixed, &mut Dice::new(seed, "theme")).is_empty()));
    }
}
