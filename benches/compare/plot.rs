//! The table as a picture: one line per row, which shows how far from its goal the middle half of the measurements
//! lies. The colours are readable on a light and on a dark background.

use std::fmt::Write;

use crate::report::{Line, Report, amount, wanted};
use crate::table::{Outcome, Verdict};

const WIDTH: f64 = 1080.0;
/// Where the axis begins and ends.
const LEFT: f64 = 500.0;
const RIGHT: f64 = 830.0;
const TOP: f64 = 74.0;
const STEP: f64 = 24.0;
/// Scores at the ends of the axis, which is logarithmic: a quarter and eight times the goal.
const LOW: f64 = 0.25;
const HIGH: f64 = 8.0;
const MARKS: [(f64, &str); 6] = [(0.25, "¼"), (0.5, "½"), (1.0, "goal"), (2.0, "2×"), (4.0, "4×"), (8.0, "8×")];

const TEXT: &str = "#7d8590";
const GRID: &str = "#7d8590";
const MET: &str = "#2da44e";
const MISSED: &str = "#d1603d";
const STRETCH: &str = "#8957e5";

/// The picture as SVG.
pub fn svg(report: &Report, subtitle: &str) -> String {
    let height = TOP + STEP * report.rows.len() as f64 + 46.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n"
    );
    text(
        &mut out,
        12.0,
        22.0,
        "font-size=\"15\" font-weight=\"600\"",
        "fwlb beside its peers: each row against its goal",
    );
    text(&mut out, 12.0, 40.0, "", subtitle);
    let bottom = TOP + STEP * report.rows.len() as f64;
    for (score, label) in MARKS {
        let x = position(score);
        let (width, dash) = if score == 1.0 { (1.6, "") } else { (0.6, " stroke-dasharray=\"2 3\"") };
        push(
            &mut out,
            format_args!(
                "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"{GRID}\" stroke-width=\"{width}\"{dash}/>",
                TOP - 8.0
            ),
        );
        text(&mut out, x, TOP - 13.0, "text-anchor=\"middle\" font-size=\"11\"", label);
    }
    for (number, line) in report.rows.iter().enumerate() {
        row(&mut out, TOP + STEP * (number as f64 + 0.5), line);
    }
    let legend = "Dot: median. Bar: middle half of the rounds. Right of the line is better; the axis is logarithmic. \
                  Diamond: what we would like to reach.";
    text(&mut out, 12.0, bottom + 24.0, "font-size=\"11\"", legend);
    out.push_str("</svg>\n");
    out
}

fn row(out: &mut String, y: f64, line: &Line) {
    let baseline = y + 4.0;
    let label = format!("{} · {} · {}", line.row.what, line.row.against, line.row.placement);
    text(out, LEFT - 14.0, baseline, "text-anchor=\"end\" font-size=\"11\"", &label);
    let Outcome::Measured { value, .. } = &line.outcome else {
        text(out, position(1.0) + 8.0, baseline, "font-size=\"11\" font-style=\"italic\"", "not measured");
        return;
    };
    let goal = &line.row.goal;
    let [first, median, last] = [value.q1, value.median, value.q3].map(|value| position(goal.score(value)));
    let colour = match line.verdict {
        Verdict::Met | Verdict::Stretch => MET,
        Verdict::Missed | Verdict::Skipped => MISSED,
        Verdict::Shown => TEXT,
    };
    push(
        out,
        format_args!(
            "<line x1=\"{first:.1}\" y1=\"{y:.1}\" x2=\"{last:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"7\" \
             stroke-opacity=\"0.4\" stroke-linecap=\"round\"/>\n\
             <circle cx=\"{median:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"/>"
        ),
    );
    if let Some(stretch) = goal.stretch {
        let x = position(goal.score(stretch));
        push(
            out,
            format_args!(
                "<path d=\"M{x:.1} {:.1} l3.5 4.5 l-3.5 4.5 l-3.5 -4.5 z\" fill=\"none\" stroke=\"{STRETCH}\" stroke-width=\"1.2\"/>",
                y - 4.5
            ),
        );
    }
    let beside = if line.verdict == Verdict::Shown { wanted(goal) } else { format!("goal {}", wanted(goal)) };
    let numbers = format!("{}   ({beside})", amount(value.median, goal.unit));
    text(out, RIGHT + 14.0, baseline, "font-size=\"11\"", &numbers);
}

/// The position of a score; one beyond the axis is drawn at its end.
fn position(score: f64) -> f64 {
    let score = if score.is_nan() { LOW } else { score.clamp(LOW, HIGH) };
    LEFT + (RIGHT - LEFT) * (score / LOW).log2() / (HIGH / LOW).log2()
}

fn text(out: &mut String, x: f64, y: f64, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    push(out, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>"));
}

fn push(out: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "{words}");
}
