//! A report as an SVG picture: two bars for each row, on a logarithmic axis, since a thousandfold
//! difference is what there is to show. Readable in light and in dark mode. Pure.

use std::fmt::Write as _;

use super::report::{Cell, Report, Row, Section};

const WIDTH: f64 = 920.0;
/// Where the bars begin: labels stand to the left of it.
const LEFT: f64 = 330.0;
/// Where the longest bar ends: its numbers stand to the right of it.
const RIGHT: f64 = 770.0;
const HEAD: f64 = 46.0;
const TITLE: f64 = 34.0;
const ROW: f64 = 34.0;
const AXIS: f64 = 26.0;
const BAR: f64 = 11.0;
/// What is too small for the axis is still to be seen.
const SMALLEST: f64 = 1.5;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:14px}\
.quiet{fill:#59636e}.grid{stroke:#d1d9e0}.redis{fill:#c4513c;stroke:#c4513c}\
.watchfire{fill:#0f7f6c;stroke:#0f7f6c}.bar{stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}.grid{stroke:#3d444d}\
.redis{fill:#f08a76;stroke:#f08a76}.watchfire{fill:#4fd1b5;stroke:#4fd1b5}}";

impl Report {
    /// The picture. Bars are medians, the thin lines go up to the maximum.
    pub(super) fn chart(&self) -> String {
        let sections: Vec<&Section> = self.sections.iter().filter(|s| !s.rows.is_empty()).collect();
        let height = |section: &Section| TITLE + ROW * section.rows.len() as f64 + AXIS;
        let total: f64 = HEAD + sections.iter().map(|section| height(section)).sum::<f64>();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" \
             viewBox=\"0 0 {WIDTH} {total}\">\n\
             <title>redis-sentinel and watchfire side by side</title>\n<style>{STYLE}</style>\n"
        );
        legend(&mut svg);
        let mut y = HEAD;
        for section in sections {
            draw(&mut svg, section, &Axis::of(self), y);
            y += height(section);
        }
        svg + "</svg>\n"
    }
}

fn legend(svg: &mut String) {
    let _ = writeln!(
        svg,
        "<rect class=\"bar redis\" x=\"{LEFT}\" y=\"12\" width=\"{BAR}\" height=\"{BAR}\"/>\
         <text x=\"{}\" y=\"22\">redis-sentinel</text>\
         <rect class=\"bar watchfire\" x=\"{}\" y=\"12\" width=\"{BAR}\" height=\"{BAR}\"/>\
         <text x=\"{}\" y=\"22\">watchfire</text>\
         <text class=\"quiet\" x=\"{}\" y=\"22\">median, line to the maximum; logarithmic</text>",
        LEFT + 16.0,
        LEFT + 120.0,
        LEFT + 136.0,
        LEFT + 216.0,
    );
}

fn draw(svg: &mut String, section: &Section, axis: &Axis, top: f64) {
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"16\" y=\"{}\">{}</text>",
        top + 22.0,
        escape(&section.title)
    );
    let first = top + TITLE;
    let last = first + ROW * section.rows.len() as f64;
    for power in axis.low..=axis.high {
        let (x, shown) = (axis.at(10_f64.powi(power)), 10_f64.powi(power));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{first}\" y2=\"{last}\"/>\
             <text class=\"quiet\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{}\">{shown}</text>",
            last + 14.0
        );
    }
    for (at, row) in section.rows.iter().enumerate() {
        let y = first + ROW * at as f64 + 4.0;
        let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
        let _ = writeln!(
            svg,
            "<text text-anchor=\"end\" x=\"{}\" y=\"{}\">{}{unit}</text>",
            LEFT - 10.0,
            y + BAR + 4.0,
            escape(&row.what)
        );
        for (class, cell, y) in
            [("redis", row.redis, y), ("watchfire", row.watchfire, y + BAR + 2.0)]
        {
            if let Some(cell) = cell {
                bar(svg, class, &cell, axis, y);
            }
        }
    }
}

fn bar(svg: &mut String, class: &str, cell: &Cell, axis: &Axis, y: f64) {
    let mut end = LEFT;
    if let Cell::Spread { median, max, .. } = *cell {
        let (to, middle) = (axis.at(median), y + BAR / 2.0);
        end = axis.at(max);
        let _ = write!(
            svg,
            "<rect class=\"bar {class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\"/>\
             <line class=\"{class}\" x1=\"{to:.1}\" x2=\"{end:.1}\" y1=\"{middle}\" \
             y2=\"{middle}\"/>",
            to - LEFT
        );
    }
    let (x, y, shown) = (end + 6.0, y + BAR - 1.0, cell.show());
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\">{shown}</text>");
}

/// Powers of ten that hold all numbers of a report.
struct Axis {
    low: i32,
    high: i32,
}

impl Axis {
    fn of(report: &Report) -> Axis {
        let rows = report.sections.iter().flat_map(|section| &section.rows);
        let cells = rows.flat_map(|row: &Row| [row.redis, row.watchfire]).flatten();
        let numbers = cells.flat_map(|cell| match cell {
            Cell::Spread { median, max, .. } => vec![median, max],
            Cell::Share { .. } => vec![],
        });
        // Nothing below a tenth is worth an axis.
        let powers: Vec<f64> =
            numbers.filter(|n| *n > 0.0).map(|n| n.log10().clamp(-1.0, 9.0)).collect();
        let low = powers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = powers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if powers.is_empty() {
            return Axis { low: 0, high: 1 };
        }
        let low = low.floor() as i32;
        Axis { low, high: (high.ceil() as i32).max(low + 1) }
    }

    /// Where a number stands. What is too small for the axis stands at its beginning.
    fn at(&self, number: f64) -> f64 {
        let power = if number > 0.0 { number.log10() } else { f64::NEG_INFINITY };
        let share = (power - f64::from(self.low)) / f64::from(self.high - self.low);
        let x = LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT);
        if share > 0.0 || number == 10_f64.powi(self.low) { x } else { LEFT + SMALLEST }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let spread = |median, max| Some(Cell::Spread { median, max, count: 10 });
        let rows = vec![
            Row {
                what: "write < read & so on".into(),
                unit: "ms",
                redis: spread(1000.0, 1200.0),
                watchfire: spread(10.0, 20.0),
            },
            Row {
                what: "lost".into(),
                unit: "",
                redis: Some(Cell::Share { part: 17, whole: 20 }),
                watchfire: None,
            },
        ];
        Report { sections: vec![Section { title: "kill -9".into(), rounds: 1, rows }] }
    }

    #[test]
    fn bars_are_as_long_as_the_logarithm_of_their_numbers() {
        let chart = report().chart();
        assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
        // From 10 to 10,000, which is three steps; the bar of 10 has no length but is to be seen.
        let step = (RIGHT - LEFT) / 3.0;
        assert!(chart.contains(&format!("width=\"{:.1}\" height", 2.0 * step)), "{chart}");
        assert!(chart.contains("width=\"0.0\"") || chart.contains("width=\"1.5\""), "{chart}");
        assert!(chart.contains("write &lt; read &amp; so on, ms<"), "{chart}");
        assert!(chart.contains(">17 of 20 (85.0 %)<"), "{chart}");
        assert!(chart.contains("prefers-color-scheme:dark"));
        assert_eq!(chart.matches("<rect ").count(), 4, "two in the legend, two bars: {chart}");
    }

    #[test]
    fn the_axis_holds_what_there_is() {
        let axis = Axis::of(&report());
        assert_eq!((axis.low, axis.high), (1, 4));
        let close = |x: f64, expected: f64| assert!((x - expected).abs() < 0.01, "{x}, {expected}");
        close(axis.at(10_000.0), RIGHT);
        close(axis.at(10.0), LEFT);
        close(axis.at(0.0), LEFT + SMALLEST);
        close(axis.at(-5.0), LEFT + SMALLEST);
        let nothing = Axis::of(&Report::default());
        assert_eq!((nothing.low, nothing.high), (0, 1));
    }
}
