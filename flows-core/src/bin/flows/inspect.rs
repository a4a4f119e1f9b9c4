//! `flows inspect`: what the columns of a table hold.

use clap::Args;
use flows_core::Result;
use flows_core::cli::{OutputArgs, describe_table, print_or_json};
use flows_core::data::{Schema, read_frame};
use serde_json::json;
use std::path::PathBuf;

/// Show how a table is read, what its columns hold, and what `flows train` would do with them
///
/// The kinds of columns are number, whole number, category, yes or no, date, text, constant and row number. A flow
/// models numbers: constants and numbers of rows are left out, and columns of words have to be left out by --drop.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  flows inspect prices.csv
  flows inspect prices.csv --json")]
pub struct InspectArgs {
    /// The table: .csv, .tsv or .txt, also compressed by gzip, or .npy
    #[arg(value_name = "FILE")]
    table: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: &InspectArgs) -> Result<()> {
    let frame = read_frame(&args.table)?;
    let schema = Schema::of(&frame);
    let notes = schema.notes(&frame);
    let value = json!({ "table": args.table, "rows": frame.rows(), "schema": schema, "notes": notes });
    print_or_json(args.output, &value, describe_table(&frame, &schema))
}
