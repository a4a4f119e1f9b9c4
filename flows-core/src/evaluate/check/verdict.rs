//! What a check says, in words.

use super::Check;
use crate::text::{count, plural};
use serde::Serialize;

/// What a check says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether no test finds a difference. Of models that are right, 95% or more pass.
    pub good: bool,
    /// The differences that are found.
    pub findings: Vec<Finding>,
    /// A sentence on all.
    pub summary: String,
}

/// A difference between data and model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What differs: `margin`, `dependence`, `classifier`, `calibration` or `range`.
    pub of: &'static str,
    /// The columns.
    pub columns: Vec<String>,
    /// By how much.
    pub text: String,
}

/// The share of right models that any test may flag, for each of the four kinds of tests.
const LEVEL: f64 = 0.05 / 4.0;

impl Verdict {
    /// The differences whose p-values are below the level, divided by the number of tests of their kind.
    pub(super) fn of(check: &Check) -> Self {
        let mut findings = Vec::new();
        let level = LEVEL / check.margins.len().max(1) as f64;
        for margin in check.margins.iter().filter(|margin| margin.p_value() <= level) {
            let by_numbers = margin.numbers.map_or(1.0, |found| found.p_value);
            let text = match (&margin.most_different, margin.numbers) {
                (Some(most), _) if margin.shares.is_some_and(|shares| shares.p_value < by_numbers) => {
                    let [data, drawn] = [most.data, most.drawn].map(|share| 100.0 * share);
                    format!("`{}`: {} in {data:.1}% of the data, {drawn:.1}% of the draws", margin.column, most.value)
                }
                (_, found) => {
                    let found = found.map_or(0.0, |found| found.distance);
                    let moved = margin.wasserstein.map_or(String::new(), |w| format!(", {w:.2} deviations to move"));
                    format!("`{}`: distribution functions {found:.3} apart{moved}", margin.column)
                }
            };
            findings.push(Finding { of: "margin", columns: vec![margin.column.clone()], text });
        }
        if let Some(dependence) = check.dependence.as_ref().filter(|found| found.p_value <= LEVEL) {
            for pair in dependence.largest.iter().filter(|pair| (pair.data - pair.drawn).abs() > dependence.critical) {
                let [a, b] = &pair.pair;
                let text = format!(
                    "correlation of `{a}` and `{b}`: {:.2} in the data, {:.2} in the draws",
                    pair.data, pair.drawn
                );
                findings.push(Finding { of: "dependence", columns: pair.pair.to_vec(), text });
            }
        }
        if let Some(found) = check.classifier.as_ref().filter(|found| found.p_value <= LEVEL) {
            let columns: Vec<String> =
                found.columns.iter().filter(|(_, share)| *share > 0.2).map(|(name, _)| name.clone()).collect();
            let by = if columns.is_empty() { String::new() } else { format!(", mostly by `{}`", columns.join("`, `")) };
            let text = format!("a classifier tells {:.1}% of data and draws apart{by}", 100.0 * found.accuracy);
            findings.push(Finding { of: "classifier", columns, text });
        }
        let level = LEVEL / check.calibrations.len().max(1) as f64;
        for found in check.calibrations.iter().filter(|found| found.uniform.p_value <= level) {
            let shape = found.shape.map_or(String::new(), |shape| format!(": {shape}"));
            let distance = found.uniform.distance;
            let text = format!("transforms of `{}` are {distance:.3} from uniform{shape}", found.column);
            findings.push(Finding { of: "calibration", columns: vec![found.column.clone()], text });
        }
        if check.untransformed > 0 {
            let (outside, all) = (plural(check.untransformed, "row"), count(check.rows));
            let text = format!("{outside} of {all} outside of the range of the flow, which never draws such");
            findings.push(Finding { of: "range", columns: Vec::new(), text });
        }
        Self { good: findings.is_empty(), summary: summary(check, &findings), findings }
    }
}

fn summary(check: &Check, findings: &[Finding]) -> String {
    let rows = plural(check.rows, "row");
    let power = match check.rows {
        0..200 => format!("; {rows} show only large ones"),
        _ => format!(" in {rows}"),
    };
    let Some(classifier) = &check.classifier else {
        return format!("{} rows are too few to tell", count(check.rows));
    };
    // Of what the classifier surely tells: the lower end of a one-sided interval of 95%.
    let size = match classifier.accuracy - 1.645 * classifier.standard_error {
        ..0.53 => "small",
        ..0.6 => "moderate",
        _ => "large",
    };
    match findings.len() {
        0 => format!("good: no difference between data and draws is found{power}"),
        n => format!("{} found: the differences are {size}", plural(n, "difference")),
    }
}
