//! Faults that belong together: what has to happen at once, or one after the other, to make the
//! choice of a new master a hard one. Chance alone seldom puts them together.

use super::super::ambush::Moment;
use super::super::dice::Dice;
use super::super::disk::Memory;
use super::super::faults::{Fault, FaultKind, Targets};
use super::super::node::Data;
use super::super::wire::{Ms, Proc};

/// When it begins, after the theme itself, and for how long it lasts, in ms.
type Part = (Ms, Ms, FaultKind);

/// The group that a theme is about.
struct Cast {
    /// Its master, if that is still the first one.
    master: usize,
    /// One of its replicas.
    replica: usize,
    /// Its other replicas.
    others: Vec<usize>,
}

/// Faults that belong together.
type Theme = fn(&Targets, &Cast, &mut Dice) -> Vec<Part>;

/// One run in so many has a theme.
const ONE_IN: u64 = 3;

/// The master of a theme is away for so long at least, in ms, beyond `down-after`.
const AWAY_MS: Ms = 8_000;

const THEMES: &[Theme] =
    &[lagging, lagging, empty, second_master, slow, hung, refusing, stalled, stalled, stalled];
/// Where nodes have names; the more of them, since few runs have.
const NAME_THEMES: &[Theme] = &[renamed, renamed, renamed, renamed, renamed];

/// The link of the replica breaks long before the master dies.
fn lagging(t: &Targets, cast: &Cast, dice: &mut Dice) -> Vec<Part> {
    let dies_at = dice.within(5..=14) * t.down_after_ms + dice.below(5_000);
    let mut parts = vec![(0, dies_at + AWAY_MS, FaultKind::Unlinked(cast.replica))];
    parts.push(death(t, cast, dice, dies_at));
    parts.extend(absence(t, cast, dice, dies_at));
    parts
}

/// The replica comes back without data when the master is gone, or about to go.
fn empty(t: &Targets, cast: &Cast, dice: &mut Dice) -> Vec<Part> {
    let away_ms = dice.within(200..=3_000);
    let dies_at = dice.within(1..=away_ms + 500);
    let crash = FaultKind::CrashNode(cast.replica, Data::Empty, false);
    let mut parts = vec![(0, away_ms, crash), death(t, cast, dice, dies_at)];
    parts.extend(absence(t, cast, dice, dies_at));
    parts
}

/// The replica comes back as a master of its own shortly before the real one dies.
fn second_master(t: &Targets, cast: &Cast, dice: &mut Dice) -> Vec<Part> {
    let away_ms = dice.within(200..=2_000);
    let dies_at = away_ms + dice.below(3_000);
    let data = *dice.pick(&[Data::Same, Data::Old, Data::Empty]);
    let crash = FaultKind::CrashNode(cast.replica, data, true);
    vec![(0, away_ms, crash), death(t, cast, dice, dies_at)]
}

/// The replica gets round to requests late when the master dies.
fn slow(t: &Targets, cast: &Cast, dice: &mut Dice) -> Vec<Part> {
    let dies_at = dice.below(10_000);
    let slow = FaultKind::SlowNode(cast.replica, dice.within(300..=5_000));
    let mut parts = vec![(0, dies_at + t.down_after_ms + AWAY_MS, slow)];
    parts.push(death(t, cast, dice, dies_at));
    parts.extend(absence(t, cast, dice, dies_at));
    parts
}

/// The replica hangs about when it is to be promoted.
fn hung(t: &Targets, cast: &Cast, dice: &mut Dice) -> Vec<Part> {
    let hangs_at = (t.down_after_ms + 200).saturating_sub(dice.skewed(1..=1_000));
    let hang = (hangs_at, dice.within(2_000..=AWAY_MS), FaultKind::Hang(cast.replica));
    let mut parts = vec![death(t, cast, dice, 0), hang];
    parts.extend(absence(t, cast, dice, 0));
    parts
}

/// The replica answers, but not well, or dies with the master.
fn refusing(t: &Targets, cast: &Cast, dice: &mut Dice) -> Vec<Part> {
    let kind = match dice.one_in(2) {
        true => FaultKind::CrashNode(cast.replica, Data::Same, false),
        false => FaultKind::Sick(cast.replica, "MISCONF Redis cannot save"),
    };
    let dies_at = dice.skewed(20..=2 * t.down_after_ms);
    vec![(dice.below(dies_at), t.down_after_ms + AWAY_MS, kind), death(t, cast, dice, dies_at)]
}

/// Whoever is elected stands still, some time before or after it has promoted.
fn stalled(t: &Targets, cast: &Cast, dice: &mut Dice) -> Vec<Part> {
    let moment = *dice.pick(&[Moment::Lead, Moment::Promote]);
    let for_ms = t.down_after_ms + dice.within(1_500..=5_500);
    let stalls = (0..t.sentinels).map(|n| (0, for_ms, FaultKind::Stall(n, moment)));
    stalls.chain([death(t, cast, dice, 0)]).collect()
}

/// The replica's name means another node when its connections break, and then the master dies.
fn renamed(t: &Targets, cast: &Cast, dice: &mut Dice) -> Vec<Part> {
    let dies_at = dice.within(500..=8_000);
    let for_ms = dies_at + t.down_after_ms + AWAY_MS;
    let meant = cast.others.first().copied().unwrap_or(cast.master);
    let cut = |n: usize| (20, 20, FaultKind::Cut(Proc::Sentinel(n), Proc::Node(cast.replica)));
    let name = FaultKind::FalseName(cast.replica, meant);
    let parts = vec![(0, for_ms, name), death(t, cast, dice, dies_at)];
    parts.into_iter().chain((0..t.sentinels).map(cut)).collect()
}

/// The master dies.
fn death(t: &Targets, cast: &Cast, dice: &mut Dice, at: Ms) -> Part {
    let for_ms = t.down_after_ms + AWAY_MS + dice.below(AWAY_MS);
    (at, for_ms, FaultKind::CrashNode(cast.master, Data::Same, false))
}

/// Mostly the other replicas die with it, so that one is left.
fn absence(t: &Targets, cast: &Cast, dice: &mut Dice, at: Ms) -> Vec<Part> {
    if dice.one_in(3) {
        return Vec::new();
    }
    let crash =
        |n: &usize| (at, t.down_after_ms + AWAY_MS, FaultKind::CrashNode(*n, Data::Same, false));
    cast.others.iter().map(crash).collect()
}

/// The theme of a run, if it has one, to come on top of these faults, which begin between two
/// moments. It may last longer than they do.
pub(in crate::sim) fn draw(
    targets: &Targets,
    faults: &[Fault],
    from: Ms,
    until: Ms,
    dice: &mut Dice,
) -> Vec<Fault> {
    // An old state that is put back can repeat a vote, as is known: a leader that stands still
    // would bring that about again and again.
    let old = |fault: &Fault| matches!(fault.kind, FaultKind::CrashSentinel(_, Memory::Old));
    if !dice.one_in(ONE_IN) || faults.iter().any(old) {
        return Vec::new();
    }
    let group = dice.below(targets.groups as u64) as usize;
    let size = targets.nodes / targets.groups;
    let master = group * size;
    let mut others: Vec<usize> = (master + 1..master + size).collect();
    let replica = others.remove(dice.below(others.len() as u64) as usize);
    let cast = Cast { master, replica, others };
    // Early, while the first master is still one.
    let begin = from + dice.below((until - from) / 4 + 1);
    let names: &[Theme] = if targets.named { NAME_THEMES } else { &[] };
    let theme = *dice.pick(&[THEMES, names].concat());
    let parts = theme(targets, &cast, dice).into_iter();
    parts.map(|(at, for_ms, kind)| Fault { at: begin + at, for_ms, kind }).collect()
}
