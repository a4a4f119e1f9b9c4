//! A check in words.

use crate::cli::plural;
use crate::evaluate::{Calibration, Check, Coverage, Distance, Margin};
use std::path::Path;

/// The most lines of a list, which begins with what differs most.
const LINES: usize = 20;

/// The text for the user.
pub(super) fn report(check: &Check, name: &str, remedies: &[String], picture: Option<&Path>) -> String {
    let mut lines = vec![format!("{} of {name}, and as many draws", plural(check.rows, "row")), String::new()];
    lines.extend(margins(&check.margins));
    if check.dependence.is_none() {
        lines.push(String::new());
        lines.push("no correlations are compared: that takes 8 rows, and two columns that vary".into());
    }
    if let Some(found) = &check.dependence {
        lines.push(String::new());
        lines.push(format!(
            "largest differences of correlations, which equal distributions have above {:.3} in 5% of all cases, {}:",
            found.critical,
            p_value(found.p_value)
        ));
        for pair in &found.largest {
            let [a, b] = &pair.pair;
            lines.push(format!("  {a} and {b}: {:.3} in the data, {:.3} in the draws", pair.data, pair.drawn));
        }
        if found.left_out > 0 {
            lines.push(format!("  ({} not compared)", plural(found.left_out, "further column")));
        }
    }
    if let Some(found) = &check.classifier {
        lines.push(String::new());
        lines.push(format!(
            "classifier: {:.1}% ± {:.1}% told rightly of {} (50% is guessing), {}",
            100.0 * found.accuracy,
            100.0 * found.standard_error,
            plural(found.tested, "row"),
            p_value(found.p_value)
        ));
        let by: Vec<String> =
            found.columns.iter().take(3).map(|(name, gain)| format!("{name} {:.0}%", 100.0 * gain)).collect();
        if found.p_value < 0.05 {
            lines.push(format!("  it goes by {}", by.join(", ")));
        }
    }
    if let Some(of) = &check.transforms {
        lines.push(String::new());
        lines.push(format!("calibration of {of}:"));
        lines.extend(calibrations(&check.calibrations));
        if check.untransformed > 0 {
            let outside = plural(check.untransformed, "row");
            lines.push(format!("  ({outside} without: outside of the range of the flow)"));
        }
        if !check.intervals.is_empty() {
            lines.push(format!("  central intervals hold {}", intervals(&check.intervals)));
        }
    }
    lines.push(String::new());
    lines.push(check.verdict.summary.clone());
    let findings = &check.verdict.findings;
    lines.extend(findings.iter().take(LINES).map(|finding| format!("  {}", finding.text)));
    lines.extend((findings.len() > LINES).then(|| format!("  ({} more)", findings.len() - LINES)));
    lines.extend(remedies.iter().map(|remedy| format!("remedy: {remedy}")));
    lines.extend(picture.map(|picture| format!("picture: {}", picture.display())));
    lines.join("\n")
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") }
}

/// The cells of a table, in columns of equal width.
fn aligned<const N: usize>(rows: &[[String; N]]) -> impl Iterator<Item = String> {
    let width = |j: usize| rows.iter().map(|row| row[j].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = move |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect::<Vec<_>>().into_iter()
}

fn more(count: usize) -> Option<String> {
    (count > LINES).then(|| format!("  ({} more, which differ less)", count - LINES))
}

fn margins(margins: &[Margin]) -> Vec<String> {
    let mut order: Vec<&Margin> = margins.iter().collect();
    if margins.len() > LINES {
        order.sort_by(|a, b| a.p_value().total_cmp(&b.p_value()));
    }
    let mut rows = vec![["column", "distance", "exceeded in 5%", "p", ""].map(String::from)];
    for margin in order.iter().take(LINES) {
        let row = |kind: &str, found: Distance, note: String| {
            let p = if found.p_value < 0.001 { "< 0.001".into() } else { format!("{:.3}", found.p_value) };
            let mark = if found.p_value < 0.05 { " *" } else { "" };
            let distance = format!("{kind} {:.3}{mark}", found.distance);
            [margin.column.clone(), distance, format!("{:.3}", found.critical), p, note]
        };
        let moved = margin.wasserstein.map_or(String::new(), |w| format!("{w:.3} deviations to move"));
        rows.extend(margin.numbers.map(|found| row("KS", found, moved)));
        let most = margin.most_different.as_ref().map_or(String::new(), |most| {
            let [data, drawn] = [most.data, most.drawn].map(|share| 100.0 * share);
            format!("{}: {data:.1}% of the data, {drawn:.1}% of the draws", most.value)
        });
        rows.extend(margin.shares.map(|found| row("TV", found, most)));
    }
    aligned(&rows).chain(more(margins.len())).collect()
}

fn calibrations(calibrations: &[Calibration]) -> Vec<String> {
    let mut order: Vec<&Calibration> = calibrations.iter().collect();
    if calibrations.len() > LINES {
        order.sort_by(|a, b| a.uniform.p_value.total_cmp(&b.uniform.p_value));
    }
    let row = |found: &&Calibration| {
        let Distance { distance, critical, p_value } = found.uniform;
        let mark = if p_value < 0.05 { " *" } else { "" };
        let shape = found.shape.unwrap_or_default();
        [
            format!("  {}", found.column),
            format!("{distance:.3}{mark} from uniform"),
            format!("exceeded in 5%: {critical:.3}"),
            shape.to_string(),
        ]
    };
    let rows: Vec<[String; 4]> = order.iter().take(LINES).map(row).collect();
    aligned(&rows).chain(more(calibrations.len())).collect()
}

fn intervals(intervals: &[Coverage]) -> String {
    let one = |c: &Coverage| {
        let [found, nominal, error] = [c.found, c.nominal, c.standard_error].map(|share| 100.0 * share);
        format!("{found:.1}% (of {nominal:.0}% ± {error:.1}%)")
    };
    intervals.iter().map(one).collect::<Vec<_>>().join(", ")
}
