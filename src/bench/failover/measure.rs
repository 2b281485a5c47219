//! What is measured in a round, and how the rounds become rows of a report.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::fault::Fault;
use super::timeline::{Timeline, Told, ms};
use super::writer::Habit;
use crate::bench::report::{Cell, Row, Section};

/// A length of time, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Sdown,
    Odown,
    Elected,
    Promoted,
    SwitchedFirst,
    SwitchedAll,
    FirstWrite(Habit),
    OdownToWrite,
    Followed,
    Demoted,
    ElectedAfterThaw,
    Returned,
    Pause(Habit),
}

impl Measure {
    /// In the order of the report.
    const ORDER: [Measure; 15] = [
        Measure::Sdown,
        Measure::Odown,
        Measure::Elected,
        Measure::Promoted,
        Measure::SwitchedFirst,
        Measure::SwitchedAll,
        Measure::FirstWrite(Habit::Following),
        Measure::FirstWrite(Habit::Sticky),
        Measure::OdownToWrite,
        Measure::Followed,
        Measure::Demoted,
        Measure::ElectedAfterThaw,
        Measure::Returned,
        Measure::Pause(Habit::Following),
        Measure::Pause(Habit::Sticky),
    ];

    /// What a person reads. `several`: clients of both habits write.
    fn label(self, several: bool) -> String {
        let text = match self {
            Measure::Sdown => "one sentinel finds it down (+sdown)",
            Measure::Odown => "a quorum agrees (+odown)",
            Measure::Elected => "leader elected",
            Measure::Promoted => "a replica says that it is master",
            Measure::SwitchedFirst => "first sentinel announces it",
            Measure::SwitchedAll => "all sentinels have announced it",
            Measure::FirstWrite(_) => "first write on the new master",
            Measure::OdownToWrite => "+odown to first write",
            Measure::Followed => "all replicas follow it",
            Measure::Demoted => "old master is a replica",
            Measure::ElectedAfterThaw => "majority back, until a leader is elected",
            Measure::Returned => "old master back, until it is a replica",
            Measure::Pause(_) => "longest pause of writes",
        };
        match self {
            Measure::FirstWrite(habit) | Measure::Pause(habit) if several => {
                format!("{text}, {} client", habit.word())
            }
            _ => text.into(),
        }
    }

    /// Each that has come to pass, in ms from where this fault's times count.
    pub(super) fn all(
        timeline: &Timeline,
        fault: Fault,
        down_after: Duration,
    ) -> Vec<(Measure, f64)> {
        let Some(mut zero) = timeline.fault else { return Vec::new() };
        if fault.counts_from_down_after() {
            zero += down_after;
        }
        let between = |from: Instant, to: Instant| match to.checked_duration_since(from) {
            Some(time) => ms(time),
            None => -ms(from - to),
        };
        let point = |measure, at: Option<Instant>| at.map(|at| (measure, between(zero, at)));
        let length = |measure, time: Option<Duration>| time.map(|time| (measure, ms(time)));
        let odown = timeline.event("+odown");
        let to_write = odown.zip(timeline.wrote(0)).map(|(from, to)| between(from, to));
        let mut found = match fault {
            Fault::Election => {
                vec![length(Measure::ElectedAfterThaw, timeline.elected_after_thaw())]
            }
            // What happens to the old master, which is well, is no part of an order.
            Fault::Order | Fault::Coordinated => {
                vec![point(Measure::Demoted, timeline.demoted())]
            }
            _ => vec![
                point(Measure::Sdown, timeline.event("+sdown")),
                point(Measure::Odown, odown),
                to_write.map(|time| (Measure::OdownToWrite, time)),
            ],
        };
        if fault != Fault::Election {
            found.extend([
                point(Measure::Elected, timeline.event("+elected-leader")),
                point(Measure::Promoted, timeline.promoted()),
                point(Measure::SwitchedFirst, timeline.switched_first()),
                point(Measure::SwitchedAll, timeline.switched_all()),
                point(Measure::Followed, timeline.followed()),
            ]);
            for (client, habit) in fault.clients().iter().enumerate() {
                found.push(point(Measure::FirstWrite(*habit), timeline.wrote(client)));
            }
        }
        found.push(length(Measure::Returned, timeline.demoted_after_return()));
        found.into_iter().flatten().collect()
    }
}

/// What became of one client's writes.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Writes {
    pub(super) client: Habit,
    pub(super) acknowledged: u64,
    pub(super) lost: u64,
}

/// What was found in one round.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) measures: Vec<(Measure, f64)>,
    pub(super) writes: Vec<Writes>,
    pub(super) failed_over_again: bool,
    /// A sentinel called the new master down.
    pub(super) successor_called_down: bool,
    /// Everything that was seen since the fault.
    pub(super) told: Vec<Told>,
}

impl Outcome {
    pub(super) fn of(&self, wanted: Measure) -> Option<f64> {
        self.measures.iter().find(|(measure, _)| *measure == wanted).map(|(_, time)| *time)
    }

    /// By their names, for programs.
    pub(super) fn measures_by_name(
        &self,
        fault: Fault,
    ) -> serde_json::Map<String, serde_json::Value> {
        let several = fault.clients().len() > 1;
        let named = |(measure, time): &(Measure, f64)| (measure.label(several), (*time).into());
        self.measures.iter().map(named).collect()
    }

    /// One line for who waits.
    pub(super) fn summary(&self, fault: Fault) -> String {
        let shown = match fault {
            Fault::Election => [Measure::ElectedAfterThaw, Measure::Returned],
            _ => [Measure::FirstWrite(Habit::Sticky), Measure::SwitchedAll],
        };
        let shown = shown.map(|measure| {
            let time = self.of(measure).map_or("never".into(), |time| format!("{time:.0} ms"));
            format!("{} {time}", measure.label(false))
        });
        let lost: u64 = self.writes.iter().map(|writes| writes.lost).sum();
        let all: u64 = self.writes.iter().map(|writes| writes.acknowledged).sum();
        let again = if self.failed_over_again { ", failed over again" } else { "" };
        format!("{}, lost {lost} of {all}{again}", shown.join(", "))
    }
}

/// Each row that has something to show. `redis` and `watchfire` are the rounds of each.
pub(super) fn section(
    title: String,
    fault: Fault,
    redis: &[&Outcome],
    watchfire: &[&Outcome],
) -> Section {
    let several = fault.clients().len() > 1;
    let mut rows = Vec::new();
    for measure in Measure::ORDER {
        let cell = |outcomes: &[&Outcome]| {
            let times: Vec<f64> = outcomes.iter().filter_map(|round| round.of(measure)).collect();
            Cell::of(&times)
        };
        rows.push(Row {
            what: measure.label(several),
            unit: "ms",
            redis: cell(redis),
            watchfire: cell(watchfire),
        });
    }
    for habit in fault.clients() {
        let of = if several { format!(", {} client", habit.word()) } else { String::new() };
        let cell = |outcomes: &[&Outcome]| share_lost(outcomes, *habit);
        rows.push(Row {
            what: format!("acknowledged writes lost{of}"),
            unit: "",
            redis: cell(redis),
            watchfire: cell(watchfire),
        });
    }
    let mut rounds = |what: &str, is_so: fn(&Outcome) -> bool| {
        let cell = |outcomes: &[&Outcome]| {
            let part = outcomes.iter().filter(|round| is_so(round)).count() as u64;
            let whole = outcomes.len() as u64;
            (whole > 0).then_some(Cell::Share { part, whole })
        };
        rows.push(Row {
            what: what.into(),
            unit: "",
            redis: cell(redis),
            watchfire: cell(watchfire),
        });
    };
    rounds("rounds: healthy new master called down", |round| round.successor_called_down);
    rounds("rounds: failed over again", |round| round.failed_over_again);
    rows.retain(|row| row.redis.is_some() || row.watchfire.is_some());
    let rounds = redis.len().max(watchfire.len());
    Section { title, rounds, rows }
}

fn share_lost(outcomes: &[&Outcome], habit: Habit) -> Option<Cell> {
    let of_habit = outcomes.iter().flat_map(|round| &round.writes).filter(|w| w.client == habit);
    let (part, whole) = of_habit
        .fold((0, 0), |(lost, all), writes| (lost + writes.lost, all + writes.acknowledged));
    (whole > 0).then_some(Cell::Share { part, whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(first_write: f64, lost: u64) -> Outcome {
        Outcome {
            measures: vec![(Measure::FirstWrite(Habit::Sticky), first_write)],
            writes: vec![Writes { client: Habit::Sticky, acknowledged: 100, lost }],
            failed_over_again: lost > 0,
            successor_called_down: false,
            told: vec![],
        }
    }

    #[test]
    fn rounds_become_rows() {
        let (one, two) = (outcome(1200.0, 30), outcome(1300.0, 0));
        let found = section("t".into(), Fault::Kill, &[&one, &two], &[]);
        let rows: Vec<_> = found.rows.iter().map(|row| (row.what.as_str(), row.redis)).collect();
        let times = Cell::Spread { median: 1250.0, max: 1300.0, count: 2 };
        let share = |part, whole| Some(Cell::Share { part, whole });
        assert_eq!(
            rows,
            [
                ("first write on the new master", Some(times)),
                ("acknowledged writes lost", share(30, 200)),
                ("rounds: healthy new master called down", share(0, 2)),
                ("rounds: failed over again", share(1, 2)),
            ]
        );
        assert!(found.rows.iter().all(|row| row.watchfire.is_none()));
    }
}
