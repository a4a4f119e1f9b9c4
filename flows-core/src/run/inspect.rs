//! What the columns of a table hold.

use super::margins_figure;
use crate::cli::{OutputArgs, check_out, check_strict, describe_table, print_or_json};
use crate::data::{Kinds, Schema, Source};
use crate::{Error, Result};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Show how a table is read, what its columns hold, and what training would do with them
///
/// The kinds of columns are number, whole number, category, yes or no, date, text, constant and row number. Constants,
/// numbers of rows and text that hardly repeats are left out. Real numbers have a density; values that repeat have
/// probabilities. Flags such as those of `train` say otherwise.
#[derive(Args)]
pub struct InspectArgs {
    /// A table or a folder of tables, as to train on
    #[arg(value_name = "DATA")]
    table: String,
    /// The columns to use, by name or by index from 0, separated by commas [default: all but constants and numbers of
    /// rows]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Data")]
    columns: Vec<String>,
    /// Columns to leave out, by name or by index from 0, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Data")]
    drop: Vec<String>,
    #[command(flatten)]
    kinds: Kinds,
    /// A picture of each column, .png or .svg
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End with an error if there is anything to note
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl InspectArgs {
    /// Prints it, and draws the picture that is asked for.
    ///
    /// # Errors
    /// When the table cannot be read, something cannot be written, or there are notes and `--strict` is given.
    pub fn show(&self) -> Result<()> {
        let source: Source = self.table.parse()?;
        let frames = source.frames()?;
        let frames = frames.ok_or_else(|| Error::Config(format!("{source} is a density, not a table: give a file")))?;
        let schema = Schema::with_kinds(&frames, &self.kinds)?;
        let schema = match self.columns.is_empty() && self.drop.is_empty() {
            true => schema,
            false => schema.select(&self.columns, &self.drop)?,
        };
        let is_mixed = schema.is_mixed();
        let schema = schema.coded(is_mixed);
        let notes = schema.notes(&frames)?;
        if let Some(out) = &self.out {
            check_out(out, [&self.table])?;
            margins_figure(&frames.train, &schema).write(out)?;
        }
        let rows = frames.train.rows();
        let value = json!({ "table": self.table, "rows": rows, "schema": schema, "notes": notes, "out": self.out });
        print_or_json(self.output, &value, describe_table(&frames, &schema, &notes))?;
        check_strict(self.strict, &notes)
    }
}
