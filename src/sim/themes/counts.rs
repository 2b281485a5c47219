//! Themes of elections that overlap: some sentinels know of one another or of votes, others do not,
//! and so they count differently. What is voted for is settled only if each keeps its word.

use super::super::dice::Dice;
use super::super::disk::Memory;
use super::super::faults::{Fault, FaultKind, Order};
use super::super::node::Data;
use super::super::plan::Shape;
use super::super::wire::{Machine, Ms, Proc};
use super::votes::fault;

/// A replica's link to its new master stands after so long, in ms.
const FOLLOWS_MS: Ms = 6_000;

/// Two of five are cut off, and vote in a later epoch than the one in which the three elect a new
/// master; which dies soon after they have heard of it, while the vote of the two still binds.
pub(super) fn later_vote(
    shape: &mut Shape,
    (from, until): (Ms, Ms),
    dice: &mut Dice,
) -> Vec<Fault> {
    shape.sentinels = 5;
    shape.quorum = 3;
    shape.late.clear();
    shape.groups = 2;
    shape.nodes_per_group = 3;
    shape.together = false;
    shape.down_after_ms = dice.within(700..=2_000);
    // Whoever is promoted is known before it is, so that it can die.
    shape.priorities = [(1, 10), (2, 100)].into();
    let from_both = [3, 4].into_iter().collect();
    let cut_at = from + shape.down_after_ms + dice.below((until - from) / 3);
    let dies_at = cut_at - dice.below(shape.down_after_ms);
    let elected = dies_at + shape.down_after_ms + dice.within(300..=1_000);
    let crash = |at, node| fault(at, 20_000, FaultKind::CrashNode(node, Data::Same, false));
    let order = |at, group| fault(at, 0, FaultKind::Order(3, Order::Failover(group)));
    let cut = FaultKind::Partition { from: from_both, both: true, flap_ms: 0 };
    let mut faults = vec![fault(cut_at, elected.saturating_sub(cut_at).max(200), cut)];
    // Epochs are one for all groups: an order for the other group takes the first.
    faults.push(order(cut_at + 5 + dice.below(20), 1));
    faults.push(order(cut_at + 50 + dice.below(100), 0));
    faults.push(crash(dies_at, 0));
    faults.push(crash(elected + dice.below(500), 1));
    faults
}

/// The others make another node the master, and then the first one again, while one sentinel is
/// dead. It comes back, and is to fail over before it has heard of that.
pub(super) fn there_and_back(
    shape: &mut Shape,
    (from, _): (Ms, Ms),
    dice: &mut Dice,
) -> Vec<Fault> {
    shape.sentinels = 3;
    shape.quorum = 2;
    shape.late.clear();
    shape.groups = 1;
    shape.nodes_per_group = 2;
    shape.priorities.clear();
    shape.priority = 100;
    shape.together = false;
    shape.down_after_ms = dice.within(4_000..=10_000);
    let back_ms = FOLLOWS_MS + dice.below(3_000);
    let away_ms = back_ms + dice.within(1_500..=4_000);
    let (slow_ms, slow_for_ms) = (dice.skewed(50..=800), 5_000);
    let order = |at, n| fault(from + at, 0, FaultKind::Order(n, Order::Failover(0)));
    let slow = |n: Machine| fault(from, away_ms + slow_for_ms, FaultKind::Slow(2, n, slow_ms));
    let mut faults: Vec<Fault> = [0, 1, 3, 4].map(slow).into();
    faults.push(fault(from, away_ms, FaultKind::CrashSentinel(2, Memory::Kept)));
    faults.push(order(dice.within(10..=200), 0));
    faults.push(order(back_ms, 0));
    let mut at = dice.below(200);
    while at < slow_for_ms {
        faults.push(order(away_ms + at, 2));
        at += slow_ms / 2;
    }
    faults
}

/// Two of three fail over again and again, and wait for a slow replica each time, while another
/// sentinel joins.
pub(super) fn latecomer(shape: &mut Shape, (from, until): (Ms, Ms), dice: &mut Dice) -> Vec<Fault> {
    shape.sentinels = 4;
    shape.quorum = 2;
    // It joins at any time.
    shape.late = vec![3];
    shape.groups = 1;
    shape.priorities.clear();
    shape.nodes_per_group = 3;
    shape.together = false;
    shape.down_after_ms = dice.within(5_000..=10_000);
    let all = until - from;
    let mut faults = vec![
        fault(from, all, FaultKind::Freeze(Proc::Sentinel(2))),
        fault(from, all, FaultKind::SlowNode(2, dice.within(1_500..=4_000))),
    ];
    let mut at = from;
    while at < until {
        faults.push(fault(at, 0, FaultKind::Order(dice.any(2), Order::Failover(0))));
        at += dice.within(500..=2_000);
    }
    faults
}
