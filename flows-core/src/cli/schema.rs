//! What the columns of a table hold, as text.

use super::{count, plural};
use crate::data::{ColumnKind, ColumnSchema, Frames, Schema, date, short};
use crate::{Error, Result};

/// A line for each column of tables, and their notes.
pub fn describe_table(frames: &Frames, schema: &Schema, notes: &[String]) -> String {
    let rest = frames.named().skip(1).map(|(part, frame)| format!(", {} to {part}", count(frame.rows())));
    let rest = rest.collect::<String>().replace("to validation", "to validate");
    let head = format!("{} of {}{rest}", plural(frames.train.rows(), "row"), plural(schema.columns.len(), "column"));
    let mut rows = vec![["column", "kind", "values", "missing", "range", "use"].map(String::from)];
    rows.extend(schema.columns.iter().enumerate().map(|(i, column)| row(i, column)));
    let widths = [0, 1, 2, 3, 4, 5].map(|j| rows.iter().map(|row| row[j].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_string()
    };
    let lines = rows.iter().map(line).chain(notes.iter().map(|note| format!("note: {note}")));
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
}

/// Checks that there is nothing to say of the data, if that is asked for by --strict.
///
/// # Errors
/// When there is.
pub fn check_strict(strict: bool, notes: &[String]) -> Result<()> {
    match strict && !notes.is_empty() {
        true => Err(Error::Data(format!("{} (an error by --strict)", notes.join("; ")))),
        false => Ok(()),
    }
}

fn row(index: usize, column: &ColumnSchema) -> [String; 6] {
    let name = column.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| format!("(column {})", index + 1));
    let distinct = match column.distinct {
        Schema::MOST_DISTINCT => format!("{} or more", Schema::MOST_DISTINCT),
        distinct => distinct.to_string(),
    };
    let range = match (column.range, &column.kind) {
        (Some(ends), ColumnKind::Date) => ends.map(date).join(" to "),
        (Some([least, greatest]), _) => format!("{} to {}", short(least), short(greatest)),
        (None, kind) => kind.values().join(", "),
    };
    let range =
        if range.chars().count() > 40 { format!("{}...", range.chars().take(37).collect::<String>()) } else { range };
    let usage = match (column.used, column.useless()) {
        (true, _) => usage(column),
        (false, Some(reason)) => format!("left out: {reason}"),
        (false, None) => "left out".into(),
    };
    [name, column.kind.name().into(), distinct, column.missing.to_string(), range, usage]
}

/// What a model has of the column.
fn usage(column: &ColumnSchema) -> String {
    let ColumnSchema { kind, step, frequent, .. } = column;
    match (kind, step) {
        (ColumnKind::Category(_) | ColumnKind::Binary(_), _) => "a probability for each value".into(),
        (_, Some(step)) => format!("probabilities of multiples of {}", short(*step)),
        (ColumnKind::Integer, None) => "probabilities of whole numbers".into(),
        (ColumnKind::Date, None) => "probabilities of days".into(),
        _ => match frequent {
            Some([value, _]) => format!("a density, with a probability at {}", short(*value)),
            None => "a density".into(),
        },
    }
}
