//! Output of tables.

use super::{OutputArgs, count, plural, print, print_json, work_bar};
use crate::data::{Cells, Dataset, Frame, Table, write_frame, write_table};
use crate::distributions::{Distribution, draw};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use std::path::Path;

/// A description of a data set for the user: its columns and the number of rows of each part.
pub fn describe_rows(data: &Dataset) -> String {
    let context = data.train.context_width().map_or(String::new(), |width| format!(" given {width}"));
    let columns = plural(data.train.features(), "column");
    let [train, validation, test] = [&data.train, &data.validation, &data.test].map(|part| part.len());
    let train = plural(train, "row");
    format!("{columns}{context}; {train} to train on, {} to validate, {} to test", count(validation), count(test))
}

/// Rows drawn at once: bounds the memory needed besides that of the rows themselves.
const CHUNK: usize = 4096;

/// The largest number of values that one command draws: a GiB of f32, and twice as much while they are concatenated.
const MOST: usize = 1 << 28;

/// Checks the number of draws of one command, each of `width` numbers; the message calls them `noun`.
///
/// # Errors
/// When it is 0, or so large that the draws take gigabytes.
pub fn check_draws(draws: usize, width: usize, noun: &str) -> Result<()> {
    match draws.checked_mul(width) {
        Some(0) => Err(Error::Config("--count is 0, but must be at least 1".into())),
        Some(1..=MOST) => Ok(()),
        _ => Err(Error::Config(format!(
            "too many for one command: lower --count to draw at most {} in all, and draw more with another --seed",
            plural((MOST / width).max(1), noun)
        ))),
    }
}

/// Draws rows from a model on this device, with a bar if there are many, unless `quiet`. `context` has one row per
/// drawn row; it and the result are on the CPU, the result in f32, or in f64 if the model draws so.
///
/// # Errors
/// Same as [`draw`].
pub fn draw_rows(
    model: &dyn Distribution,
    rows: usize,
    context: Option<&Tensor>,
    device: &Device,
    rng: &mut Rng,
    quiet: bool,
) -> Result<Tensor> {
    let bar = work_bar(rows, "drawing", quiet || rows < 100 * CHUNK);
    let mut parts = Vec::new();
    for start in (0..rows).step_by(CHUNK) {
        let length = CHUNK.min(rows - start);
        let context = context.map(|c| c.narrow(0, start, length)?.contiguous()?.to_device(device)).transpose()?;
        let drawn = draw(model, length, context.as_ref(), rng)?;
        let dtype = if drawn.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        parts.push(drawn.to_device(&Device::Cpu)?.to_dtype(dtype)?);
        bar.inc(length as u64);
    }
    bar.finish_and_clear();
    Ok(Tensor::cat(&parts, 0)?)
}

/// Writes drawn rows to the file `out`, or prints them as CSV; with `--json` prints them as JSON, merged into the
/// object `about`.
///
/// # Errors
/// When they cannot be written.
pub fn write_rows(table: &Table, out: Option<&Path>, mut about: Value, output: OutputArgs) -> Result<()> {
    about["rows"] = json!(table.data.dims2()?.0);
    match (out, output.json) {
        (Some(out), _) => {
            write_table(out, table)?;
            print_written(about, out, output)
        }
        (None, true) => {
            about["columns"] = json!(table.columns);
            about["samples"] = json!(table.data.to_vec2::<f32>()?);
            print_json(&about)
        }
        (None, false) => print(table.to_csv()?.trim_end()),
    }
}

/// As [`write_rows`], for rows of numbers and words.
///
/// # Errors
/// When they cannot be written.
pub fn write_frame_rows(frame: &Frame, out: Option<&Path>, mut about: Value, output: OutputArgs) -> Result<()> {
    about["rows"] = json!(frame.rows());
    match (out, output.json) {
        (Some(out), _) => {
            write_frame(out, frame)?;
            print_written(about, out, output)
        }
        (None, true) => {
            let cell = |cells: &Cells, row: usize| match cells {
                Cells::Numbers(values) => json!(Some(values[row]).filter(|value| !value.is_nan())),
                Cells::Words { words, codes, .. } => json!(codes[row].map(|code| &words[code as usize])),
            };
            let row = |row| frame.columns.iter().map(|column| cell(&column.cells, row)).collect::<Vec<_>>();
            about["columns"] = json!(frame.names());
            about["samples"] = json!((0..frame.rows()).map(row).collect::<Vec<_>>());
            print_json(&about)
        }
        (None, false) => print(frame.to_csv()?.trim_end()),
    }
}

fn print_written(mut about: Value, out: &Path, output: OutputArgs) -> Result<()> {
    about["out"] = json!(out);
    match output.json {
        true => print_json(&about),
        false => {
            let rows = about["rows"].as_u64().unwrap_or(0) as usize;
            print(format_args!("{} drawn in {}", plural(rows, "row"), out.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_that_take_gigabytes_are_refused() {
        assert!(check_draws(1, 1, "row").is_ok() && check_draws(MOST / 3, 3, "row").is_ok());
        for (draws, width) in [(MOST / 3 + 1, 3), (usize::MAX, 2), (usize::MAX, usize::MAX)] {
            let error = check_draws(draws, width, "image").unwrap_err().to_string();
            assert!(error.contains("image") && error.contains("--count") && error.contains("--seed"), "{error}");
        }
        assert!(check_draws(0, 2, "row").unwrap_err().to_string().contains("at least 1"));
        assert!(check_draws(2, MOST, "image").unwrap_err().to_string().contains("at most 1 image"));
    }
}
