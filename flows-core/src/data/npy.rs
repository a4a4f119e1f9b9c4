//! The `.npy` format of NumPy, for tables of numbers.
//!
//! The header is read by a scanner that neither recurses nor allocates by what the file claims, so
//! that a damaged or hostile file is an error and nothing else.

use super::table::{not_finite, place};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, WithDType};
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
const REMEDY: &str = "write it anew with np.save";

struct Header {
    descr: String,
    fortran_order: bool,
    rows: u64,
    columns: u64,
}

/// The array in `file`, which is `length` bytes long, as (rows, columns).
pub(super) fn read(path: &Path, file: File, length: u64) -> Result<Tensor> {
    let mut file = BufReader::with_capacity(1 << 16, file);
    let header = read_header(path, &mut file)?;
    macro_rules! numbers {
        ($number:ty as $kept:ty, $from:ident) => {
            array(path, file, length, &header, |b| <$number>::$from(b) as $kept)
        };
    }
    // A byte has no order; NumPy writes `|`, and others may write `<` or `>`.
    match header.descr.strip_prefix(['|', '<', '>']).unwrap_or(&header.descr) {
        "i1" => return numbers!(i8 as f64, from_le_bytes),
        "u1" | "b1" => return numbers!(u8 as f64, from_le_bytes),
        _ => {}
    }
    match header.descr.as_str() {
        "<f4" => numbers!(f32 as f32, from_le_bytes),
        ">f4" => numbers!(f32 as f32, from_be_bytes),
        "<f8" => numbers!(f64 as f64, from_le_bytes),
        ">f8" => numbers!(f64 as f64, from_be_bytes),
        "<i2" => numbers!(i16 as f64, from_le_bytes),
        ">i2" => numbers!(i16 as f64, from_be_bytes),
        "<i4" => numbers!(i32 as f64, from_le_bytes),
        ">i4" => numbers!(i32 as f64, from_be_bytes),
        "<i8" => numbers!(i64 as f64, from_le_bytes),
        ">i8" => numbers!(i64 as f64, from_be_bytes),
        "<u2" => numbers!(u16 as f64, from_le_bytes),
        ">u2" => numbers!(u16 as f64, from_be_bytes),
        "<u4" => numbers!(u32 as f64, from_le_bytes),
        ">u4" => numbers!(u32 as f64, from_be_bytes),
        "<u8" => numbers!(u64 as f64, from_le_bytes),
        ">u8" => numbers!(u64 as f64, from_be_bytes),
        other => {
            let remedy = "save floats: np.save(path, array.astype(\"f4\"))";
            Err(Error::file(path, format_args!("holds `{other}`, which is not read; {remedy}")))
        }
    }
}

fn read_header(path: &Path, file: &mut impl Read) -> Result<Header> {
    let mut start = [0; 8];
    let got = read_up_to(path, file, &mut start)?;
    if got == 0 {
        return Err(Error::file(path, format_args!("is empty; {REMEDY}")));
    }
    if got < 8 || !start.starts_with(MAGIC) {
        return Err(Error::file(path, format_args!("is not a .npy file; {REMEDY}")));
    }
    let mut size = [0; 4];
    let width = match start[6] {
        1 => 2,
        2 | 3 => 4,
        v => return Err(Error::file(path, format_args!("is of .npy version {v}, only 1 to 3 are known; {REMEDY}"))),
    };
    let truncated = || Error::file(path, format_args!("is truncated in its header; fetch it again or {REMEDY}"));
    if read_up_to(path, file, &mut size[..width])? < width {
        return Err(truncated());
    }
    let size = u64::from(u32::from_le_bytes(size));
    let malformed = |what: &str| Error::file(path, format_args!("has a malformed header ({what}); {REMEDY}"));
    // NumPy itself refuses headers of more than 10,000 bytes.
    if size > 1 << 20 {
        return Err(malformed("it claims to be longer than 1 MiB"));
    }
    let mut text = vec![0; size as usize];
    if read_up_to(path, file, &mut text)? < text.len() {
        return Err(truncated());
    }
    let text = std::str::from_utf8(&text).map_err(|_| malformed("it is not text"))?;
    let entry = |key: &str| value_of(text, key).ok_or_else(|| malformed(&format!("it lacks `{key}`")));

    let descr = entry("descr")?;
    if descr.starts_with('[') {
        let remedy = "save one type: np.save(path, np.array(array.tolist()).astype(\"f4\"))";
        return Err(Error::file(path, format_args!("holds records of several fields; {remedy}")));
    }
    let descr = quoted(descr).ok_or_else(|| malformed("`descr` is not a string"))?;
    let fortran_order = match entry("fortran_order")? {
        v if v.starts_with("False") => false,
        v if v.starts_with("True") => true,
        _ => return Err(malformed("`fortran_order` is neither True nor False")),
    };
    let shape = entry("shape")?;
    let shape =
        shape.strip_prefix('(').and_then(|s| s.split_once(')')).ok_or_else(|| malformed("`shape` is no tuple"))?.0;
    // Python 2 wrote long integers with an L.
    let lengths = shape.split(',').map(|s| s.trim().trim_end_matches('L')).filter(|s| !s.is_empty());
    let lengths: Option<Vec<u64>> = lengths.map(|s| s.parse().ok()).collect();
    let (rows, columns) = match lengths.ok_or_else(|| malformed("`shape` is not made of whole numbers"))?[..] {
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
    Ok(Header { descr: descr.to_string(), fortran_order, rows, columns })
}

/// What follows `'key':` in the text of a Python dictionary.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = ['\'', '"'].iter().find_map(|quote| text.split_once(&format!("{quote}{key}{quote}")))?.1;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// The string in quotes that `text` starts with.
fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    Some(text[1..].split_once(quote)?.0)
}

/// Fills `buffer` as far as the file reaches, and says how far.
fn read_up_to(path: &Path, file: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::file(path, format_args!("cannot be read ({e}); fetch it again"))),
        }
    }
    Ok(got)
}

/// The numbers after the header, each of `N` bytes.
fn array<T: WithDType, const N: usize>(
    path: &Path,
    mut file: impl Read,
    length: u64,
    header: &Header,
    decode: impl Fn([u8; N]) -> T,
) -> Result<Tensor> {
    let (rows, columns) = (header.rows, header.columns);
    let truncated = |got: usize| {
        let message = format!("is truncated: {got} numbers of {rows} x {columns}; fetch it again or {REMEDY}");
        Error::file(path, message)
    };
    // Room for no more than the file can hold, whatever its header claims.
    let possible = (length / N as u64) as usize;
    let total = rows.checked_mul(columns).and_then(|n| usize::try_from(n).ok()).ok_or_else(|| truncated(possible))?;
    let mut values: Vec<T> = Vec::with_capacity(total.min(possible));
    let mut buffer = vec![0; N << 13];
    while values.len() < total {
        let wanted = (total - values.len()).saturating_mul(N).min(buffer.len());
        let got = read_up_to(path, &mut file, &mut buffer[..wanted])?;
        values.extend(buffer[..got].as_chunks::<N>().0.iter().map(|bytes| decode(*bytes)));
        if got < wanted {
            return Err(truncated(values.len()));
        }
    }
    let (rows, columns) = (rows as usize, columns as usize);
    if let Some(at) = values.iter().position(|v| !v.to_f64().is_finite()) {
        let (row, column) = if header.fortran_order { (at % rows, at / rows) } else { (at / columns, at % columns) };
        return Err(not_finite(&place(path, row as u64 + 1, column + 1, None), values[at].to_f64()));
    }
    if header.fortran_order {
        return Ok(Tensor::from_vec(values, (columns, rows), &Device::Cpu)?.t()?.contiguous()?);
    }
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

/// Writes `data`, of two dimensions in f32 or f64: version 1.0, little endian, C layout.
pub(super) fn write(path: &Path, file: &mut File, data: &Tensor) -> Result<()> {
    let (rows, columns) = data.dims2()?;
    let size = data.dtype().size_in_bytes();
    let mut header = format!("{{'descr': '<f{size}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // The numbers start at a multiple of 64; the last character of the header is a line's end.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header = format!("{header:<width$}\n", width = length - 1);
    let data = data.flatten_all()?;
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let mut write = |bytes: &[u8]| {
        out.write_all(bytes).map_err(|e| Error::file(path, format_args!("cannot be written ({e}); is the disk full?")))
    };
    write(MAGIC)?;
    write(&[1, 0])?;
    write(&(length as u16).to_le_bytes())?;
    write(header.as_bytes())?;
    if data.dtype() == DType::F32 {
        data.to_vec1::<f32>()?.iter().try_for_each(|v| write(&v.to_le_bytes()))?;
    } else {
        data.to_vec1::<f64>()?.iter().try_for_each(|v| write(&v.to_le_bytes()))?;
    }
    out.flush().map_err(|e| Error::file(path, format_args!("cannot be written ({e}); is the disk full?")))
}
