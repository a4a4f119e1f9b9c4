//! Output of the scores of rows.

use super::{OutputArgs, plural, print, print_json};
use crate::Result;
use crate::data::{Cells, Column, Frame, is_array, write_frame};
use crate::files::write_atomically;
use crate::run::RowScore;
use serde_json::{Value, json};
use std::path::Path;

/// A table with a line for each row, of which the first has this number.
fn frame(scores: &[RowScore], first: usize) -> Frame {
    let numbers = |name: &str, of: &dyn Fn(&RowScore) -> f64| Column {
        name: Some(name.into()),
        cells: Cells::Numbers(scores.iter().map(of).collect()),
    };
    let rows = Cells::Numbers((first..first + scores.len()).map(|row| row as f64).collect());
    let columns: Vec<String> = scores.iter().map(|score| score.least_likely.clone()).collect();
    let columns = vec![
        Column { name: Some("row".into()), cells: rows },
        numbers("log_likelihood", &|score| score.log_likelihood),
        numbers("percentile", &|score| score.percentile),
        numbers("p_value", &|score| score.p_value),
        numbers("typicality", &|score| score.typicality),
        Column::of_words("least_likely", &columns),
    ];
    Frame { columns, ..Frame::default() }
}

/// Writes the scores of rows, some at a time, to the file `out` as they come, or prints them as CSV; with `--json` prints
/// them as JSON, merged into the object `about`. Messages call the rows `name`.
///
/// # Errors
/// Any error of the scores, and when they cannot be written.
pub fn write_scores(
    scores: impl Iterator<Item = Result<Vec<RowScore>>>,
    out: Option<&Path>,
    name: &str,
    mut about: Value,
    output: OutputArgs,
) -> Result<()> {
    let is_array = out.map(is_array).transpose()?.unwrap_or_default();
    let mut rows = 0;
    // Only the first part has a header.
    let mut part = |some: Vec<RowScore>| {
        let mut frame = frame(&some, rows + 1);
        frame.columns.iter_mut().filter(|_| rows > 0).for_each(|column| column.name = None);
        rows += some.len();
        frame
    };
    match (out, output.json) {
        (Some(out), _) if is_array => {
            let all = scores.collect::<Result<Vec<_>>>()?.concat();
            rows = all.len();
            let mut frame = frame(&all, 1);
            // An array has no words.
            frame.columns.truncate(5);
            write_frame(out, &frame)?;
        }
        (Some(out), _) => write_atomically(out, |file| {
            scores.into_iter().try_for_each(|some| part(some?).write_text(out, &mut *file))
        })?,
        (None, false) => {
            for some in scores {
                print(part(some?).to_csv()?.trim_end())?;
            }
            return Ok(());
        }
        (None, true) => {
            let all = scores.collect::<Result<Vec<_>>>()?.concat();
            let numbers = |of: fn(&RowScore) -> f64| json!(all.iter().map(of).collect::<Vec<_>>());
            about["log_likelihood"] = numbers(|score| score.log_likelihood);
            about["percentile"] = numbers(|score| score.percentile);
            about["p_value"] = numbers(|score| score.p_value);
            about["typicality"] = numbers(|score| score.typicality);
            let column = |score: &RowScore| Some(score.least_likely.clone()).filter(|name| !name.is_empty());
            about["least_likely"] = json!(all.iter().map(column).collect::<Vec<_>>());
            rows = all.len();
        }
    }
    about["rows"] = json!(rows);
    about["out"] = json!(out);
    match (out, output.json) {
        (Some(out), false) => print(format_args!("{} of {name} scored in {}", plural(rows, "row"), out.display())),
        _ => print_json(&about),
    }
}
