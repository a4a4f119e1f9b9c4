//! NumPy's `.npy` format: its header, and tables of numbers in it.

use super::table::{not_finite, place};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, WithDType};
use npyz::{AutoSerialize, Deserialize, NpyFile, NpyHeader, Order, WriteOptions, WriterBuilder};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom};
use std::path::Path;

/// The longest beginning of a file that is searched for its header.
const LIMIT: usize = 1 << 16;
const REMEDY: &str = "write it anew with np.save";

/// The header of `file`, which is read up to the numbers behind it, and its length in bytes.
pub(super) fn header(path: &Path, file: &mut File) -> Result<(NpyHeader, u64)> {
    let mut start = Vec::new();
    file.by_ref().take(LIMIT as u64).read_to_end(&mut start).map_err(|e| unreadable(path, &e))?;
    let text = header_text(path, &start)?;
    check(path, &start[text.clone()])?;
    let header = NpyHeader::from_reader(&start[..text.end]).map_err(|e| {
        let message = e.to_string().replace('\'', "`");
        // A syntax error goes on with a picture of the place.
        malformed(path, message.split(" -->").next().unwrap_or_default().trim_end_matches([' ', ':']))
    })?;
    file.seek(SeekFrom::Start(text.end as u64)).map_err(|e| unreadable(path, &e))?;
    Ok((header, text.end as u64))
}

/// The array in `file`, which is `length` bytes long, as (rows, columns).
pub(super) fn read(path: &Path, mut file: File, length: u64) -> Result<Tensor> {
    let (header, start) = header(path, &mut file)?;
    let npyz::DType::Plain(number) = header.dtype() else {
        return Err(records(path));
    };
    let (rows, columns) = match *header.shape() {
        [rows] => (rows, 1),
        [rows, columns] => (rows, columns),
        ref other => {
            let remedy = "save a table of one row an example: np.save(path, array.reshape(len(array), -1))";
            return Err(Error::file(path, format_args!("has {} dimensions; {remedy}", other.len())));
        }
    };
    if rows == 0 || columns == 0 {
        let what = if rows == 0 { "rows" } else { "columns" };
        return Err(Error::file(path, format_args!("has no {what}; save at least one")));
    }
    let npy = NpyFile::with_header(header, BufReader::with_capacity(1 << 16, file));
    let bytes = length.saturating_sub(start);
    let size = (rows as usize, columns as usize);
    match number.to_string().trim_start_matches(['<', '>', '|']) {
        "f4" => array(path, npy, bytes, size, |v: f32| v),
        "f8" => array(path, npy, bytes, size, |v: f64| v),
        "b1" => array(path, npy, bytes, size, |v: bool| f64::from(v)),
        "i1" => array(path, npy, bytes, size, |v: i8| v as f64),
        "i2" => array(path, npy, bytes, size, |v: i16| v as f64),
        "i4" => array(path, npy, bytes, size, |v: i32| v as f64),
        "i8" => array(path, npy, bytes, size, |v: i64| v as f64),
        "u1" => array(path, npy, bytes, size, |v: u8| v as f64),
        "u2" => array(path, npy, bytes, size, |v: u16| v as f64),
        "u4" => array(path, npy, bytes, size, |v: u32| v as f64),
        "u8" => array(path, npy, bytes, size, |v: u64| v as f64),
        _ => {
            let remedy = "save floats: np.save(path, array.astype(\"f4\"))";
            Err(Error::file(path, format_args!("holds `{number}`, which is not read; {remedy}")))
        }
    }
}

/// Where the text of the header lies in `start`, the first [`LIMIT`] bytes of a file.
fn header_text(path: &Path, start: &[u8]) -> Result<std::ops::Range<usize>> {
    if start.is_empty() {
        return Err(Error::file(path, format_args!("is empty; {REMEDY}")));
    }
    if !start.starts_with(b"\x93NUMPY") {
        return Err(Error::file(path, format_args!("is not a .npy file; {REMEDY}")));
    }
    let text = match *start {
        [_, _, _, _, _, _, 1, _, a, b, ..] => 10..10 + u16::from_le_bytes([a, b]) as usize,
        [_, _, _, _, _, _, 2 | 3, _, a, b, c, d, ..] => {
            12..(u32::from_le_bytes([a, b, c, d]) as usize).saturating_add(12)
        }
        [_, _, _, _, _, _, v, ..] if !(1..=3).contains(&v) => {
            return Err(Error::file(path, format_args!("is of .npy version {v}, only 1 to 3 are known; {REMEDY}")));
        }
        _ => 0..usize::MAX,
    };
    match text.end {
        end if end <= start.len() => Ok(text),
        _ if start.len() < LIMIT => {
            Err(Error::file(path, format_args!("is truncated in its header; fetch it again or {REMEDY}")))
        }
        _ => Err(malformed(path, "it claims to be longer than 64 KiB")),
    }
}

/// Refuses a header on which npyz would overflow the stack, take time exponential in the nesting, or
/// overflow the product of the shape. That of an array has two brackets, names and whole numbers.
fn check(path: &Path, text: &[u8]) -> Result<()> {
    if text.iter().filter(|b| b"([{".contains(b)).count() > 3 {
        return Err(records(path));
    }
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    if let Some(b) = text.iter().find(|b| !word(b) && !b" \n'\"()[]{}:,<>|=".contains(b)) {
        return Err(malformed(path, &format!("`{}` has no place in it", b.escape_ascii())));
    }
    let mut product = 1u64;
    for number in text.split(|b| !word(b)).filter(|w| w.first().is_some_and(u8::is_ascii_digit)) {
        if !number.iter().all(u8::is_ascii_digit) {
            return Err(malformed(path, &format!("`{}` is no whole number", number.escape_ascii())));
        }
        // A length of 0 does not keep the others from overflowing in the strides.
        let length = std::str::from_utf8(number).ok().and_then(|n| n.parse::<u64>().ok());
        product = length.and_then(|n| product.checked_mul(n.max(1))).ok_or_else(|| {
            let message = "is truncated: its header claims more numbers than a file can hold";
            Error::file(path, format_args!("{message}; fetch it again or {REMEDY}"))
        })?;
    }
    Ok(())
}

/// The numbers after the header, where the file is `bytes` longer.
fn array<T: Deserialize, V: WithDType>(
    path: &Path,
    npy: NpyFile<BufReader<File>>,
    bytes: u64,
    (rows, columns): (usize, usize),
    convert: impl Fn(T) -> V,
) -> Result<Tensor> {
    let possible = bytes / size_of::<T>() as u64;
    if possible < npy.len() {
        let message = format!("is truncated: {possible} numbers of {rows} x {columns}; fetch it again or {REMEDY}");
        return Err(Error::file(path, message));
    }
    let fortran = npy.order() == Order::Fortran;
    let mut values = Vec::with_capacity(rows * columns);
    for value in npy.data::<T>().map_err(|e| malformed(path, &e.to_string()))? {
        values.push(convert(value.map_err(|e| unreadable(path, &e))?));
    }
    if let Some(at) = values.iter().position(|v| !v.to_f64().is_finite()) {
        let (row, column) = if fortran { (at % rows, at / rows) } else { (at / columns, at % columns) };
        return Err(not_finite(&place(path, row as u64 + 1, column + 1, None), values[at].to_f64()));
    }
    if fortran {
        return Ok(Tensor::from_vec(values, (columns, rows), &Device::Cpu)?.t()?.contiguous()?);
    }
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::file(path, format_args!("cannot be read ({error}); fetch it again"))
}

fn malformed(path: &Path, what: &str) -> Error {
    Error::file(path, format_args!("has a malformed header ({what}); {REMEDY}"))
}

fn records(path: &Path) -> Error {
    let remedy = "save one type: np.save(path, np.array(array.tolist()).astype(\"f4\"))";
    Error::file(path, format_args!("holds records of several fields; {remedy}"))
}

/// Writes `data`, of two dimensions in f32 or f64.
pub(super) fn write(path: &Path, file: &mut File, data: &Tensor) -> Result<()> {
    let (rows, columns) = data.dims2()?;
    let shape = [rows as u64, columns as u64];
    let data = data.flatten_all()?;
    let written = match data.dtype() {
        DType::F32 => write_all(file, &shape, data.to_vec1::<f32>()?),
        _ => write_all(file, &shape, data.to_vec1::<f64>()?),
    };
    written.map_err(|e| Error::unwritten(path, e))
}

fn write_all<T: AutoSerialize>(file: &mut File, shape: &[u64], values: Vec<T>) -> io::Result<()> {
    let out = BufWriter::with_capacity(1 << 16, file);
    let mut npy = WriteOptions::new().default_dtype().shape(shape).writer(out).begin_nd()?;
    npy.extend(values)?;
    npy.finish()
}
