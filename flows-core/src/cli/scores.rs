//! Output of the scores of rows.

use super::{OutputArgs, plural, print, print_json};
use crate::Result;
use crate::data::{Cells, Column, Frame, write_frame};
use serde_json::{Value, json};
use std::path::Path;

/// The scores of rows, in order.
#[derive(Clone, Debug)]
pub struct Scores {
    /// The log-likelihood of each row.
    pub log_likelihood: Vec<f64>,
    /// Its percentile among the reference rows.
    pub percentile: Vec<f64>,
    /// The column that is the least likely one of the row, if the model has a term for each.
    pub least_likely: Option<Vec<String>>,
}

impl Scores {
    /// A table with a line for each row, counted from 1.
    pub fn frame(&self) -> Frame {
        let rows = (1..=self.log_likelihood.len()).map(|row| row as f64).collect();
        let numbers =
            [("row", rows), ("log_likelihood", self.log_likelihood.clone()), ("percentile", self.percentile.clone())];
        let column = |(name, values)| Column { name: Some(String::from(name)), cells: Cells::Numbers(values) };
        let mut columns: Vec<Column> = numbers.map(column).into();
        columns.extend(self.least_likely.iter().map(|names| Column::of_words("least_likely", names)));
        Frame { columns, ..Frame::default() }
    }

    /// Writes the table to the file `out`, or prints it as CSV; with `--json` prints the scores as JSON, merged into the
    /// object `about`. Messages call the rows `name`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, out: Option<&Path>, name: &str, mut about: Value, output: OutputArgs) -> Result<()> {
        let rows = self.log_likelihood.len();
        about["rows"] = json!(rows);
        about["out"] = json!(out);
        if let Some(out) = out {
            let mut frame = self.frame();
            // An array has no words.
            if out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
                frame.columns.truncate(3);
            }
            write_frame(out, &frame)?;
        }
        match (out, output.json) {
            (Some(_), true) => print_json(&about),
            (Some(out), false) => print(format_args!("{} of {name} scored in {}", plural(rows, "row"), out.display())),
            (None, true) => {
                about["log_likelihood"] = json!(self.log_likelihood);
                about["percentile"] = json!(self.percentile);
                about["least_likely"] = json!(self.least_likely);
                print_json(&about)
            }
            (None, false) => print(self.frame().to_csv()?.trim_end()),
        }
    }
}
