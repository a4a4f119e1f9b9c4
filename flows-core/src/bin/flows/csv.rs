//! Tables on standard output.

use flows_core::{Result, cli};
use std::fmt::Debug;

/// Prints rows as CSV, number for number as `write_table` writes them to a file.
pub fn print_csv(columns: Option<&[String]>, rows: &[Vec<impl Debug>]) -> Result<()> {
    let line = |row: &Vec<_>| row.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(",");
    let header = columns.map(|names| names.join(","));
    cli::print(header.into_iter().chain(rows.iter().map(line)).collect::<Vec<_>>().join("\n"))
}
