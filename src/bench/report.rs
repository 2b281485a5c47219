//! What a benchmark found, side by side: a table to read, lines of JSON for programs, and a chart
//! (see `chart`) for the documentation. Pure: text comes out.

use serde::Serialize;

/// Everything that a run found, in the order in which it is shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) sections: Vec<Section>,
}

/// Rows that belong together, such as the stages after one kind of fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Section {
    pub(super) title: String,
    /// How often it was measured; a row with fewer numbers says so.
    pub(super) rounds: usize,
    pub(super) rows: Vec<Row>,
}

/// One quantity, as each program has it. `None`: not measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) what: String,
    /// Behind each number: `ms`. Empty for plain numbers and shares.
    pub(super) unit: &'static str,
    pub(super) redis: Option<Cell>,
    pub(super) watchfire: Option<Cell>,
}

/// What was found for one program.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cell {
    /// Of a quantity that was measured `count` times.
    Spread { median: f64, max: f64, count: usize },
    /// `part` of `whole`, such as lost writes of all that were acknowledged.
    Share { part: u64, whole: u64 },
}

impl Cell {
    /// Median and maximum; `None` of nothing.
    pub(super) fn of(values: &[f64]) -> Option<Cell> {
        let max = values.iter().copied().reduce(f64::max)?;
        Some(Cell::Spread { median: median(values)?, max, count: values.len() })
    }

    /// The number that stands for the cell in comparisons.
    pub(super) fn level(&self) -> f64 {
        match *self {
            Cell::Spread { median, .. } => median,
            Cell::Share { whole: 0, .. } => 0.0,
            Cell::Share { part, whole } => part as f64 / whole as f64,
        }
    }

    /// `1249 / 1606`, one number if it was measured once, or `17 of 20 (85 %)`.
    pub(super) fn show(&self) -> String {
        match *self {
            Cell::Spread { median, count: 1, .. } => number(median),
            Cell::Spread { median, max, .. } => format!("{} / {}", number(median), number(max)),
            Cell::Share { part: 0, whole } => format!("0 of {whole}"),
            Cell::Share { part, whole } => {
                format!("{part} of {whole} ({} %)", number(100.0 * self.level()))
            }
        }
    }
}

impl Row {
    /// How many times Redis's number is Watchfire's; `None` where that says nothing.
    fn ratio(&self) -> Option<f64> {
        let (redis, watchfire) = (self.redis?.level(), self.watchfire?.level());
        (redis > 0.0 && watchfire > 0.0).then(|| redis / watchfire)
    }

    /// The row's cells of the table. A quantity that was measured less often than in each of the
    /// `rounds` says so.
    fn columns(&self, rounds: usize) -> [String; 4] {
        let show = |cell: Option<Cell>| match cell {
            Some(cell @ Cell::Spread { count, .. }) if count < rounds => {
                format!("{} ({count} of {rounds})", cell.show())
            }
            Some(cell) => cell.show(),
            None => "-".into(),
        };
        let unit = if self.unit.is_empty() { String::new() } else { format!(", {}", self.unit) };
        let ratio = self.ratio().map_or("-".into(), |ratio| format!("{} ×", number(ratio)));
        [format!("{}{unit}", self.what), show(self.redis), show(self.watchfire), ratio]
    }
}

impl Report {
    /// A Markdown table for each section, its columns aligned for those who read it as it is.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for section in self.sections.iter().filter(|section| !section.rows.is_empty()) {
            let heads = ["median / max", "redis-sentinel", "watchfire", "ratio"].map(String::from);
            let rows: Vec<[String; 4]> =
                section.rows.iter().map(|row| row.columns(section.rounds)).collect();
            let width = |at: usize| {
                let cells = rows.iter().chain([&heads]).map(|row| row[at].chars().count());
                cells.max().unwrap_or_default()
            };
            let widths = [width(0), width(1), width(2), width(3)];
            let line = |row: &[String; 4]| {
                let [what, numbers @ ..] = row;
                let mut line = format!("| {what:<0$} |", widths[0]);
                for (cell, width) in numbers.iter().zip(&widths[1..]) {
                    line += &format!(" {cell:>width$} |");
                }
                line + "\n"
            };
            text += &format!("### {}\n\n{}", section.title, line(&heads));
            let [first, rest @ ..] = widths.map(|width| "-".repeat(width + 1));
            text += &format!("|{first}-|{}:|\n", rest.join(":|"));
            text.extend(rows.iter().map(line));
            text.push('\n');
        }
        text
    }

    /// One line of JSON for each row.
    pub(super) fn json_lines(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            section: &'a str,
            #[serde(flatten)]
            row: &'a Row,
            ratio: Option<f64>,
        }
        let mut text = String::new();
        for section in &self.sections {
            for row in &section.rows {
                let line = Line { section: &section.title, row, ratio: row.ratio() };
                text += &serde_json::to_string(&line)?;
                text.push('\n');
            }
        }
        Ok(text)
    }
}

/// The middle one; of an even number, the mean of the two in the middle. `None` of nothing.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

/// Three digits are enough to compare: `1249`, `12.3`, `0.57`.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 0.005 => 0,
        small if small < 9.995 => 2,
        small if small < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if text == "-0" { "0".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |what: &str, unit, redis, watchfire| Row {
            what: what.into(),
            unit,
            redis: Some(redis),
            watchfire,
        };
        let spread = |median, max| Cell::Spread { median, max, count: 10 };
        let fast = row("first write", "ms", spread(1249.4, 1606.0), Some(spread(12.34, 31.0)));
        let share = Cell::Share { part: 17, whole: 20 };
        let sound = row("failed over again", "", share, Some(Cell::Share { part: 0, whole: 20 }));
        let alone = row("pause", "ms", Cell::Spread { median: 9.0, max: 9.5, count: 3 }, None);
        let title = "kill -9".to_owned();
        Report { sections: vec![Section { title, rounds: 10, rows: vec![fast, sound, alone] }] }
    }

    #[test]
    fn the_table_is_markdown_with_aligned_columns() {
        let table = report().table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "### kill -9",
                "",
                "| median / max      |        redis-sentinel |   watchfire | ratio |",
                "|-------------------|----------------------:|------------:|------:|",
                "| first write, ms   |           1249 / 1606 | 12.3 / 31.0 | 101 × |",
                "| failed over again |     17 of 20 (85.0 %) |     0 of 20 |     - |",
                "| pause, ms         | 9.00 / 9.50 (3 of 10) |           - |     - |",
                "",
            ]
        );
    }

    #[test]
    fn each_row_is_a_line_of_json() {
        let text = report().json_lines().expect("can be written");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["section"], "kill -9");
        assert_eq!(lines[0]["redis"]["spread"]["median"], 1249.4);
        assert_eq!(lines[0]["watchfire"]["spread"]["count"], 10);
        assert_eq!(lines[1]["redis"]["share"]["part"], 17);
        assert!(lines[2]["watchfire"].is_null() && lines[2]["ratio"].is_null());
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(Cell::of(&[]), None);
        let cell = Cell::Spread { median: -1.5, max: -1.0, count: 2 };
        assert_eq!(Cell::of(&[-1.0, -2.0]), Some(cell));
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, shown) in [
            (0.0, "0"),
            (-0.001, "0"),
            (0.571, "0.57"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (1249.4, "1249"),
            (-344.2, "-344"),
        ] {
            assert_eq!(number(value), shown);
        }
    }
}
