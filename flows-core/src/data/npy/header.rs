//! The header of an array.

use crate::{Error, Result};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The number of leading bytes of a file that are searched for its header.
const LIMIT: usize = 1 << 16;
pub(super) const REMEDY: &str = "write it again with np.save";

/// The header of an array.
pub(in crate::data) struct Header {
    /// The type of the numbers, such as `<f4`: byte order, kind and size.
    pub(in crate::data) dtype: String,
    /// The fields, if it is an array of records.
    pub(super) fields: Vec<Field>,
    /// Whether the first index varies fastest.
    pub(in crate::data) fortran: bool,
    pub(in crate::data) shape: Vec<usize>,
}

/// A field of records.
pub(super) struct Field {
    /// None for the numbers of an array without records.
    pub(super) name: Option<String>,
    pub(super) dtype: String,
    /// How many values of this type it has.
    pub(super) count: usize,
}

#[cfg(feature = "images")]
impl Header {
    /// The number of elements; [`header`] has checked that the product does not overflow.
    pub(in crate::data) fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Reads the header of `file`, leaving it at the first number, and returns it with its length in bytes.
pub(in crate::data) fn header<F: Read + Seek>(path: &Path, file: &mut F) -> Result<(Header, u64)> {
    let mut start = Vec::new();
    file.by_ref().take(LIMIT as u64).read_to_end(&mut start).map_err(|e| unreadable(path, &e))?;
    let text = header_text(path, &start)?;
    let header = parse(path, &start[text.clone()])?;
    file.seek(SeekFrom::Start(text.end as u64)).map_err(|e| unreadable(path, &e))?;
    Ok((header, text.end as u64))
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
    let (mut dtype, mut fields, mut fortran, mut shape) = (None, Vec::new(), None, None);
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
                None if scanner.takes('[') => {
                    fields = parse_fields(path, &mut scanner)?;
                    dtype = Some("records".into());
                }
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
        fields,
        fortran: fortran.ok_or_else(|| missing("fortran_order"))?,
        shape: shape.ok_or_else(|| missing("shape"))?,
    })
}

/// Reads the rest of a list of fields, such as `('mass', '<f8'), ('place', '<f4', (3,))]`.
fn parse_fields(path: &Path, scanner: &mut Scanner) -> Result<Vec<Field>> {
    let nested = || {
        let remedy = "save a plain one: np.save(path, np.column_stack([array[name] for name in names]))";
        Error::file(path, format_args!("holds records within records, or with titles; {remedy}"))
    };
    let mut fields = Vec::new();
    while !scanner.takes(']') {
        let name = scanner.takes('(').then(|| scanner.quoted()).flatten().filter(|_| scanner.takes(','));
        let (name, dtype) = name.zip(scanner.quoted()).ok_or_else(nested)?;
        let shape = if scanner.takes(',') { parse_shape(path, scanner)? } else { Vec::new() };
        if !scanner.takes(')') {
            return Err(nested());
        }
        let count = shape.iter().product();
        fields.push(Field { name: Some(name.into()), dtype: dtype.into(), count });
        if !scanner.takes(',') && !scanner.0.trim_start().starts_with(']') {
            return Err(nested());
        }
    }
    if fields.is_empty() {
        return Err(malformed(path, "its records have no fields"));
    }
    Ok(fields)
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

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::file(path, format_args!("cannot be read ({error}); fetch it again"))
}

fn malformed(path: &Path, what: &str) -> Error {
    Error::file(path, format_args!("has a malformed header ({what}); {REMEDY}"))
}
