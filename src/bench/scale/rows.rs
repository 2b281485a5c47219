//! What was found, side by side.

use std::time::Duration;

use super::sentinel::Program;

/// One quantity, with what was measured of each program.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) section: String,
    pub(super) what: String,
    pub(super) unit: &'static str,
    pub(super) redis: Vec<f64>,
    pub(super) watchfire: Vec<f64>,
}

/// In the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<Row>);

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
        let is_it = |row: &Row| row.section == self.section && row.what == what;
        let at = rows.iter().position(is_it).unwrap_or_else(|| {
            let (section, what) = (self.section.clone(), what.to_owned());
            rows.push(Row { section, what, unit, redis: Vec::new(), watchfire: Vec::new() });
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
    /// A Markdown table for each section: medians, and the maximum where there are several samples.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for row in &self.0 {
            if row.section != section {
                section = &row.section;
                text += &format!(
                    "\n### {section}\n\n| what | {} | {} |\n|---|---|---|\n",
                    Program::Redis.name(),
                    Program::Watchfire.name()
                );
            }
            let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
            let (redis, watchfire) = (cell(&row.redis), cell(&row.watchfire));
            text += &format!("| {}{unit} | {redis} | {watchfire} |\n", row.what);
        }
        text
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

fn cell(samples: &[f64]) -> String {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (percentile(&sorted, 0.5), sorted.last()) {
        (Some(median), Some(max)) if sorted.len() > 1 => {
            format!("{} / {}", number(median), number(*max))
        }
        (Some(median), _) => number(median),
        (None, _) => "-".into(),
    }
}

/// Three digits.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 9.995 && value.fract() != 0.0 => 2,
        small if small < 99.95 && value.fract() != 0.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_both_programs_meet_in_one_row() {
        let mut rows = Rows::default();
        for (program, sample) in
            [(Program::Redis, 1249.4), (Program::Watchfire, 12.34), (Program::Watchfire, 0.5)]
        {
            let section = "wide".to_owned();
            Sheet { rows: &mut rows, program, section }.put("first write", "ms", sample);
        }
        let mut sheet =
            Sheet { rows: &mut rows, program: Program::Watchfire, section: "wide".into() };
        sheet.put_spread("moved", "", (1..=200).map(f64::from).collect());
        sheet.put_spread("nothing", "", Vec::new());
        let expected = "
### wide

| what | redis-sentinel | watchfire |
|---|---|---|
| first write, ms | 1249 | 0.50 / 12.3 |
| moved, median | - | 100 |
| moved, p99 | - | 198 |
| moved, max | - | 200 |
";
        assert_eq!(rows.table(), expected);
    }
}
