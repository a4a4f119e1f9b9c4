//! The columns of an array.

use super::header::{Field, REMEDY, header, unreadable};
use crate::data::date::{date_of_day, date_of_second};
use crate::data::words::Words;
use crate::data::{Cells, Column, Frame};
use crate::{Error, Result};
use std::io::{Read, Seek};
use std::path::Path;

/// Reads the array in `file`, which is `length` bytes long: each column of a matrix, or each field of records. Tells
/// also whether all its numbers are of single precision.
pub(in crate::data) fn frame(path: &Path, mut file: impl Read + Seek, length: u64) -> Result<(Frame, bool)> {
    let (header, start) = header(path, &mut file)?;
    let (rows, columns) = match header.shape[..] {
        [rows] => (rows, 1),
        [rows, columns] if header.fields.is_empty() => (rows, columns),
        ref other => {
            let remedy = match other.len() {
                0 => "save a table: np.save(path, np.atleast_1d(array))",
                _ => "save a table with one row per example: np.save(path, array.reshape(len(array), -1))",
            };
            return Err(Error::file(path, format_args!("has {} dimensions; {remedy}", other.len())));
        }
    };
    if rows == 0 || columns == 0 {
        let what = if rows == 0 { "rows" } else { "columns" };
        return Err(Error::file(path, format_args!("has no {what}; save at least one")));
    }
    let fields = match header.fields.is_empty() {
        true => vec![Field { name: None, dtype: header.dtype.clone(), count: columns }],
        false => header.fields,
    };
    let types = fields.iter().map(|field| {
        let of = Type::of(&field.dtype).filter(Type::is_supported);
        of.ok_or_else(|| unsupported(path, &field.dtype))
    });
    let types = types.collect::<Result<Vec<Type>>>()?;
    let stride = fields.iter().zip(&types).try_fold(0usize, |sum, (field, of)| sum.checked_add(field.bytes(of)?));
    let size = stride.and_then(|stride| stride.checked_mul(rows)).filter(|&size| size as u64 <= length - start);
    let Some((stride, size)) = stride.zip(size) else {
        let possible = (length - start) / types[0].size.max(1) as u64;
        let message = format!("is truncated: {possible} numbers of {rows} x {columns}; fetch it again or {REMEDY}");
        return Err(Error::file(path, message));
    };
    let mut bytes = vec![0; size];
    file.read_exact(&mut bytes).map_err(|e| unreadable(path, &e))?;
    let single = types.iter().all(|of| (of.kind, of.size) == ('f', 4));
    let (mut found, mut offset) = (Vec::new(), 0);
    for (field, of) in fields.iter().zip(types) {
        for i in 0..field.count {
            let (start, step) = match header.fortran && field.name.is_none() {
                true => (i * rows * of.size, of.size),
                false => (offset + i * of.size, stride),
            };
            // Padding between aligned fields.
            if of.kind == 'V' {
                continue;
            }
            let cells = (0..rows).map(|row| &bytes[start + row * step..][..of.size]);
            let cells = of.cells(cells).ok_or_else(|| unsupported(path, &field.dtype))?;
            let name = field.name.as_ref().map(|name| match field.count {
                1 => name.clone(),
                _ => format!("{name}.{i}"),
            });
            found.push(Column { name, cells });
        }
        offset += field.count * of.size;
    }
    Ok((Frame { columns: found, ..Frame::default() }, single))
}

/// The cells of an array of this type; none if the type is not supported.
#[cfg(feature = "images")]
pub(in crate::data) fn cells(dtype: &str, bytes: &[u8]) -> Option<Cells> {
    let of = Type::of(dtype).filter(|of| of.size > 0)?;
    of.cells(bytes.chunks_exact(of.size))
}

/// The number of bytes of a value of this type; none if the type is not supported.
#[cfg(feature = "images")]
pub(in crate::data) fn size(dtype: &str) -> Option<usize> {
    Type::of(dtype).filter(|of| of.size > 0 && of.kind != 'V' && of.is_supported()).map(|of| of.size)
}

fn unsupported(path: &Path, dtype: &str) -> Error {
    let remedy = match dtype.trim_start_matches(['<', '>', '=', '|']).chars().next() {
        Some('c') => "save real and imaginary parts: np.save(path, np.column_stack([array.real, array.imag]))",
        _ => "save floats: np.save(path, array.astype(\"f8\"))",
    };
    Error::file(path, format_args!("holds `{dtype}`, which is not supported; {remedy}"))
}

impl Field {
    /// The number of bytes of a value of the field.
    fn bytes(&self, of: &Type) -> Option<usize> {
        self.count.checked_mul(of.size)
    }
}

/// A type of values, such as `<f4` or `<M8[ns]`.
struct Type<'a> {
    big_endian: bool,
    kind: char,
    /// The number of bytes of a value.
    size: usize,
    /// Of dates, such as `ns`.
    unit: &'a str,
}

impl<'a> Type<'a> {
    fn of(dtype: &'a str) -> Option<Self> {
        let (order, rest) = dtype.split_at_checked(1)?;
        let (kind, rest) = rest.split_at_checked(1)?;
        let (size, unit) = rest.split_once('[').unwrap_or((rest, ""));
        let (kind, size) = (kind.chars().next()?, size.parse::<usize>().ok()?);
        let size = if kind == 'U' { size.checked_mul(4)? } else { size };
        let big_endian = order == ">" || (order == "=" && cfg!(target_endian = "big"));
        Some(Self { big_endian, kind, size, unit: unit.trim_end_matches(']') })
    }

    fn is_supported(&self) -> bool {
        self.kind == 'V' || self.cells(std::iter::empty()).is_some()
    }

    /// The cells that these bytes are; none if the type is not supported.
    fn cells<'b>(&self, bytes: impl ExactSizeIterator<Item = &'b [u8]>) -> Option<Cells> {
        Some(match (self.kind, self.size) {
            ('f', 2) => self.numbers(bytes, |v| half(u16::from_le_bytes(v))),
            ('f', 4) => self.numbers(bytes, |v| f32::from_le_bytes(v).into()),
            ('f', 8) => self.numbers(bytes, f64::from_le_bytes),
            ('b', 1) => self.numbers(bytes, |[v]| u8::from(v != 0).into()),
            ('i', 1) => self.numbers(bytes, |v| i8::from_le_bytes(v).into()),
            ('i', 2) => self.numbers(bytes, |v| i16::from_le_bytes(v).into()),
            ('i', 4) => self.numbers(bytes, |v| i32::from_le_bytes(v).into()),
            ('i', 8) => self.numbers(bytes, |v| i64::from_le_bytes(v) as f64),
            ('u', 1) => self.numbers(bytes, |v| u8::from_le_bytes(v).into()),
            ('u', 2) => self.numbers(bytes, |v| u16::from_le_bytes(v).into()),
            ('u', 4) => self.numbers(bytes, |v| u32::from_le_bytes(v).into()),
            ('u', 8) => self.numbers(bytes, |v| u64::from_le_bytes(v) as f64),
            // A duration in its own unit.
            ('m', 8) => self.numbers(bytes, |v| known(i64::from_le_bytes(v)).map_or(f64::NAN, |v| v as f64)),
            ('M', 8) => {
                self.in_unit(0)?;
                self.words(bytes, |v| self.in_unit(known(i64::from_le_bytes(self.little(v)))?))
            }
            ('U', _) => self.words(bytes, |v| {
                let character = |v: &[u8]| char::from_u32(u32::from_le_bytes(self.little(v))).unwrap_or('\u{fffd}');
                Some(v.chunks_exact(4).map(character).collect::<String>().trim_end_matches('\0').to_string())
            }),
            ('S', _) => self.words(bytes, |v| Some(String::from_utf8_lossy(v).trim_end_matches('\0').to_string())),
            _ => return None,
        })
    }

    /// A value's bytes with the lowest first.
    fn little<const N: usize>(&self, bytes: &[u8]) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(bytes);
        if self.big_endian {
            value.reverse();
        }
        value
    }

    fn numbers<'b, const N: usize>(
        &self,
        bytes: impl Iterator<Item = &'b [u8]>,
        convert: impl Fn([u8; N]) -> f64,
    ) -> Cells {
        Cells::Numbers(bytes.map(|bytes| convert(self.little(bytes))).collect())
    }

    fn words<'b>(
        &self,
        bytes: impl ExactSizeIterator<Item = &'b [u8]>,
        convert: impl Fn(&[u8]) -> Option<String>,
    ) -> Cells {
        let mut words = Words::with_capacity(bytes.len());
        bytes.for_each(|bytes| words.push(convert(bytes).as_deref()));
        words.cells()
    }

    /// The date that is this many of the type's units after the beginning of 1970.
    fn in_unit(&self, count: i64) -> Option<String> {
        let seconds = |unit: i64| date_of_second(count.saturating_mul(unit), 0);
        let parts = |per_second: i64| {
            let nanoseconds = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
            date_of_second(count.div_euclid(per_second), nanoseconds as u32)
        };
        Some(match self.unit {
            "Y" => format!("{:04}-01-01", count.saturating_add(1970)),
            "M" => format!("{:04}-{:02}-01", count.div_euclid(12) + 1970, count.rem_euclid(12) + 1),
            "W" => date_of_day(count.saturating_mul(7)),
            "D" => date_of_day(count),
            "h" => seconds(3600),
            "m" => seconds(60),
            "s" => seconds(1),
            "ms" => parts(1000),
            "us" => parts(1_000_000),
            "ns" => parts(1_000_000_000),
            _ => return None,
        })
    }
}

/// A date or a duration, unless it is missing.
fn known(count: i64) -> Option<i64> {
    (count != i64::MIN).then_some(count)
}

/// The number of IEEE 754's half precision in these bits.
pub(in crate::data) fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match (exponent, bits & 1023) {
        (0, _) => fraction * 2f64.powi(-24),
        (31, 0) => f64::INFINITY,
        (31, _) => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}
