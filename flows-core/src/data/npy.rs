//! NumPy's `.npy` format: the header, and tables of numbers.

use super::table::{not_finite, place};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, WithDType};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The number of leading bytes of a file that are searched for its header.
const LIMIT: usize = 1 << 16;
const REMEDY: &str = "write it again with np.save";

/// The header of an array.
pub(super) struct Header {
    /// The type of the numbers, such as `<f4`: byte order, kind and size.
    pub(super) dtype: String,
    /// Whether the first index varies fastest.
    pub(super) fortran: bool,
    pub(super) shape: Vec<usize>,
}

impl Header {
    /// The number of elements; [`header`] has checked that the product does not overflow.
    pub(super) fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Reads the header of `file`, leaving it at the first number, and returns it with its length in bytes.
pub(super) fn header(path: &Path, file: &mut File) -> Result<(Header, u64)> {
    let mut start = Vec::new();
    Read::by_ref(file).take(LIMIT as u64).read_to_end(&mut start).map_err(|e| unreadable(path, &e))?;
    let text = header_text(path, &start)?;
    let header = parse(path, &start[text.clone()])?;
    file.seek(SeekFrom::Start(text.end as u64)).map_err(|e| unreadable(path, &e))?;
    Ok((header, text.end as u64))
}

/// Reads the array in `file`, which is `length` bytes long, as (rows, columns).
pub(super) fn read(path: &Path, mut file: File, length: u64) -> Result<Tensor> {
    let (header, start) = header(path, &mut file)?;
    let (rows, columns) = match header.shape[..] {
        [rows] => (rows, 1),
        [rows, columns] => (rows, columns),
        ref other => {
            let remedy = "save a table with one row per example: np.save(path, array.reshape(len(array), -1))";
            return Err(Error::file(path, format_args!("has {} dimensions; {remedy}", other.len())));
        }
    };
    if rows == 0 || columns == 0 {
        let what = if rows == 0 { "rows" } else { "columns" };
        return Err(Error::file(path, format_args!("has no {what}; save at least one")));
    }
    let (order, kind) = header.dtype.split_at_checked(1).unwrap_or_default();
    let big_endian = match order {
        "<" | "|" => false,
        ">" => true,
        _ => cfg!(target_endian = "big"),
    };
    let array = Array { path, file, bytes: length.saturating_sub(start), size: (rows, columns), header: &header };
    match kind {
        "f4" => array.read(big_endian, f32::from_le_bytes),
        "f8" => array.read(big_endian, f64::from_le_bytes),
        "b1" => array.read(big_endian, |[v]| f64::from(u8::from(v != 0))),
        "i1" => array.read(big_endian, |v| f64::from(i8::from_le_bytes(v))),
        "i2" => array.read(big_endian, |v| f64::from(i16::from_le_bytes(v))),
        "i4" => array.read(big_endian, |v| f64::from(i32::from_le_bytes(v))),
        "i8" => array.read(big_endian, |v| i64::from_le_bytes(v) as f64),
        "u1" => array.read(big_endian, |v| f64::from(u8::from_le_bytes(v))),
        "u2" => array.read(big_endian, |v| f64::from(u16::from_le_bytes(v))),
        "u4" => array.read(big_endian, |v| f64::from(u32::from_le_bytes(v))),
        "u8" => array.read(big_endian, |v| u64::from_le_bytes(v) as f64),
        _ => {
            let remedy = "save floats: np.save(path, array.astype(\"f4\"))";
            Err(Error::file(path, format_args!("holds `{}`, which is not supported; {remedy}", header.dtype)))
        }
    }
}

/// The range of the header's text in `start`, the first [`LIMIT`] bytes of a file.
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

/// Reads the text of a header: a Python dictionary such as
/// `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(path: &Path, text: &[u8]) -> Result<Header> {
    let text = std::str::from_utf8(text).map_err(|_| malformed(path, "it is not UTF-8"))?;
    let mut scanner = Scanner(text);
    let (mut dtype, mut fortran, mut shape) = (None, None, None);
    let unexpected = |scanner: &Scanner| {
        let rest: String = scanner.0.trim().chars().take(20).collect();
        malformed(path, &format!("`{}` is unexpected", rest.escape_debug()))
    };
    if !scanner.takes('{') {
        return Err(unexpected(&scanner));
    }
    while !scanner.takes('}') {
        let Some(key) = scanner.quoted().filter(|_| scanner.takes(':')) else { return Err(unexpected(&scanner)) };
        match key {
            "descr" => match scanner.quoted() {
                Some(kind) => dtype = Some(kind.to_string()),
                None if scanner.takes('[') => return Err(records(path)),
                None => return Err(unexpected(&scanner)),
            },
            "fortran_order" => match scanner.word() {
                "True" => fortran = Some(true),
                "False" => fortran = Some(false),
                _ => return Err(malformed(path, "`fortran_order` is neither True nor False")),
            },
            "shape" => shape = Some(parse_shape(path, &mut scanner)?),
            _ => return Err(malformed(path, &format!("it has an unknown key `{}`", key.escape_debug()))),
        }
        if !scanner.takes(',') && !scanner.0.trim_start().starts_with('}') {
            return Err(unexpected(&scanner));
        }
    }
    if !scanner.0.trim().is_empty() {
        return Err(unexpected(&scanner));
    }
    let missing = |key: &str| malformed(path, &format!("`{key}` is missing"));
    Ok(Header {
        dtype: dtype.ok_or_else(|| missing("descr"))?,
        fortran: fortran.ok_or_else(|| missing("fortran_order"))?,
        shape: shape.ok_or_else(|| missing("shape"))?,
    })
}

/// Reads a tuple of lengths whose product does not overflow.
fn parse_shape(path: &Path, scanner: &mut Scanner) -> Result<Vec<usize>> {
    let (mut shape, mut product) = (Vec::new(), 1usize);
    if !scanner.takes('(') {
        return Err(malformed(path, "`shape` is not a tuple"));
    }
    while !scanner.takes(')') {
        let word = scanner.word();
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed(path, &format!("`{word}` in `shape` is not an integer")));
        }
        // A length of 0 must not hide an overflow of the others.
        let length = word.parse::<usize>().ok();
        product = length.and_then(|n| product.checked_mul(n.max(1))).ok_or_else(|| {
            let message = "is truncated: its header claims more numbers than a file can hold";
            Error::file(path, format_args!("{message}; fetch it again or {REMEDY}"))
        })?;
        shape.extend(length);
        if !scanner.takes(',') && !scanner.0.trim_start().starts_with(')') {
            return Err(malformed(path, "`shape` is not a tuple of integers"));
        }
    }
    Ok(shape)
}

/// The rest of a header that has not been parsed yet.
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    /// Skips blanks and consumes `mark` if it comes next; returns whether it did.
    fn takes(&mut self, mark: char) -> bool {
        let rest = self.0.trim_start().strip_prefix(mark);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Consumes a quoted string, if one comes next.
    fn quoted(&mut self) -> Option<&'a str> {
        let start = self.0.trim_start();
        let quote = start.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (text, rest) = start[1..].split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    /// Consumes the letters and digits that come next.
    fn word(&mut self) -> &'a str {
        let start = self.0.trim_start();
        let (word, rest) = start.split_at(start.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(start.len()));
        self.0 = rest;
        word
    }
}

/// The numbers after a header.
struct Array<'a> {
    path: &'a Path,
    file: File,
    /// The number of bytes left in the file.
    bytes: u64,
    /// Rows and columns.
    size: (usize, usize),
    header: &'a Header,
}

impl Array<'_> {
    /// Reads numbers of N bytes, each converted by `convert` from its little-endian bytes.
    fn read<const N: usize, V: WithDType>(self, big_endian: bool, convert: impl Fn([u8; N]) -> V) -> Result<Tensor> {
        let Self { path, file, bytes, size: (rows, columns), header } = self;
        let possible = bytes / N as u64;
        if possible < header.count() as u64 {
            let message = format!("is truncated: {possible} numbers of {rows} x {columns}; fetch it again or {REMEDY}");
            return Err(Error::file(path, message));
        }
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut values = Vec::with_capacity(rows * columns);
        let mut number = [0; N];
        for _ in 0..rows * columns {
            file.read_exact(&mut number).map_err(|e| unreadable(path, &e))?;
            if big_endian {
                number.reverse();
            }
            values.push(convert(number));
        }
        if let Some(at) = values.iter().position(|v| !v.to_f64().is_finite()) {
            let (row, column) = if header.fortran { (at % rows, at / rows) } else { (at / columns, at % columns) };
            return Err(not_finite(&place(path, row as u64 + 1, column + 1), values[at].to_f64()));
        }
        if header.fortran {
            return Ok(Tensor::from_vec(values, (columns, rows), &Device::Cpu)?.t()?.contiguous()?);
        }
        Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
    }
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
