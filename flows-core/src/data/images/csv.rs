//! Images in CSV files, a row for each, as data sets on Kaggle are.

use super::array::Array;
use crate::data::{Cells, Frame, read_frame};
use crate::{Error, Result};
use std::path::Path;

/// Whether a file is one of comma-separated values by its name.
pub(super) fn is_csv(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.ends_with(".csv") || name.ends_with(".csv.gz")
}

/// Reads the pixels of square images, (N, H W), and their classes, (N), if a column is named after them or comes before a
/// square number of others; or says why there are none.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn read(path: &Path) -> Result<Result<(Array, Option<Array>)>> {
    Ok(arrays(path, &read_frame(path)?))
}

fn arrays(path: &Path, frame: &Frame) -> Result<(Array, Option<Array>)> {
    let is_square = |count: usize| count > 1 && count.isqrt().pow(2) == count;
    let is_label = |name: &Option<String>| {
        let name = name.as_deref().unwrap_or_default().to_lowercase();
        matches!(name.as_str(), "label" | "labels" | "class" | "digit" | "target" | "y")
    };
    let columns = &frame.columns;
    let first = (!is_square(columns.len()) && is_square(columns.len().saturating_sub(1))).then_some(0);
    let label = columns.iter().position(|column| is_label(&column.name)).or(first);
    let mut pixels: Vec<&[f64]> = Vec::new();
    let mut classes = None;
    for (i, column) in columns.iter().enumerate() {
        match &column.cells {
            Cells::Numbers(values) if Some(i) == label => classes = Some(values),
            Cells::Numbers(values) => pixels.push(values),
            Cells::Words { .. } => {
                let name = column.name.clone().unwrap_or_else(|| (i + 1).to_string());
                let message =
                    format!("column `{name}` holds words; keep a column of class numbers and those of the pixels");
                return Err(Error::file(path, message));
            }
        }
    }
    if !is_square(pixels.len()) {
        let message =
            format!("has {} columns of pixels, which make no square images; save them as an array", pixels.len());
        return Err(Error::file(path, message));
    }
    let (rows, path) = (frame.rows(), path.to_path_buf());
    let colours = (0..rows).flat_map(|row| pixels.iter().flat_map(move |column| (column[row] as f32).to_le_bytes()));
    let array =
        |dtype: &str, shape, bytes| Array { path: path.clone(), dtype: dtype.into(), shape, fortran: false, bytes };
    let labels = |classes: &Vec<f64>| array("<f8", vec![rows], classes.iter().flat_map(|v| v.to_le_bytes()).collect());
    Ok((array("<f4", vec![rows, pixels.len()], colours.collect()), classes.map(labels)))
}
