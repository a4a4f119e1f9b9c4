//! NumPy's `.npy` format.

mod fields;
mod header;

use crate::{Error, Result};
use candle_core::{DType, Tensor};
pub(super) use fields::frame;
#[cfg(feature = "tables")]
pub(super) use fields::half;
#[cfg(feature = "images")]
pub(super) use fields::{cells, size};
#[cfg(feature = "images")]
pub(super) use header::header;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes `data` (rows, columns) in f32 or f64.
pub(super) fn write(path: &Path, file: &mut File, data: &Tensor) -> Result<()> {
    let (rows, columns) = data.dims2()?;
    let data = data.flatten_all()?;
    let kind = if data.dtype() == DType::F32 { "<f4" } else { "<f8" };
    // Blanks and a newline align the numbers to 64 bytes.
    let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, {columns}, ), }}");
    let length = (text.len() + 11).next_multiple_of(64) - 11;
    let mut start = b"\x93NUMPY\x01\x00".to_vec();
    start.extend((length as u16 + 1).to_le_bytes());
    start.extend(format!("{text:length$}\n").as_bytes());
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|e| Error::unwritten(path, e));
    put(&start)?;
    match data.dtype() {
        DType::F32 => data.to_vec1::<f32>()?.iter().try_for_each(|v| put(&v.to_le_bytes()))?,
        _ => data.to_vec1::<f64>()?.iter().try_for_each(|v| put(&v.to_le_bytes()))?,
    }
    out.flush().map_err(|e| Error::unwritten(path, e))
}
