//! What was measured, as samples of each program; they become a report.

use std::time::Duration;

use super::sentinel::Program;
use crate::bench::report::{Cell, Report, Row, Section};

/// One quantity, with what was measured of each program.
#[derive(Debug, Clone, PartialEq)]
struct Samples {
    section: String,
    what: String,
    unit: &'static str,
    redis: Vec<f64>,
    watchfire: Vec<f64>,
}

/// In the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<Samples>);

/// Where a trial puts what it finds.
pub(super) struct Sheet<'a> {
    pub(super) rows: &'a mut Rows,
    pub(super) program: Program,
    pub(super) section: String,
}

impl Sheet<'_> {
    /// Adds one sample.
    pub(super) fn put(&mut self, what: &str, unit: &'static str, sample: f64) {
        let rows = &mut self.rows.0;
        let is_it = |row: &Samples| row.section == self.section && row.what == what;
        let at = rows.iter().position(is_it).unwrap_or_else(|| {
            let (section, what) = (self.section.clone(), what.to_owned());
            rows.push(Samples { section, what, unit, redis: Vec::new(), watchfire: Vec::new() });
            rows.len() - 1
        });
        match self.program {
            Program::Redis => rows[at].redis.push(sample),
            Program::Watchfire => rows[at].watchfire.push(sample),
        }
    }

    /// Median, 99th percentile and maximum of many.
    pub(super) fn put_spread(&mut self, what: &str, unit: &'static str, mut samples: Vec<f64>) {
        samples.sort_by(f64::total_cmp);
        for (name, part) in [("median", 0.5), ("p99", 0.99), ("max", 1.0)] {
            if let Some(sample) = percentile(&samples, part) {
                self.put(&format!("{what}, {name}"), unit, sample);
            }
        }
    }
}

impl Rows {
    /// A section for each trial: medians and maxima over its rounds.
    pub(super) fn report(&self, rounds: usize) -> Report {
        let mut report = Report::default();
        for Samples { section, what, unit, redis, watchfire } in &self.0 {
            if report.sections.last().is_none_or(|last| last.title != *section) {
                report.sections.push(Section { title: section.clone(), rounds, rows: Vec::new() });
            }
            let (redis, watchfire) = (Cell::of(redis), Cell::of(watchfire));
            let row = Row { what: what.clone(), unit, redis, watchfire };
            if let Some(last) = report.sections.last_mut() {
                last.rows.push(row);
            }
        }
        report
    }
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The sample below or at which this part of all is, of sorted ones.
fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_both_programs_meet_in_one_row() {
        let mut rows = Rows::default();
        for (program, sample) in
            [(Program::Redis, 1249.4), (Program::Watchfire, 12.5), (Program::Watchfire, 0.5)]
        {
            let section = "wide".to_owned();
            Sheet { rows: &mut rows, program, section }.put("first write", "ms", sample);
        }
        let mut sheet =
            Sheet { rows: &mut rows, program: Program::Watchfire, section: "wide".into() };
        sheet.put_spread("moved", "", (1..=200).map(f64::from).collect());
        sheet.put_spread("nothing", "", Vec::new());
        let report = rows.report(2);
        let [section] = &report.sections[..] else { panic!("{report:?}") };
        let shown = section.rows.iter().map(|row| {
            let cell = |cell: Option<Cell>| cell.map_or("-".into(), |cell| cell.show());
            format!("{}: {} {}", row.what, cell(row.redis), cell(row.watchfire))
        });
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                "first write: 1249 6.50 / 12.5",
                "moved, median: - 100",
                "moved, p99: - 198",
                "moved, max: - 200",
            ]
        );
    }
}
