//! Tables of numbers as text, separated by commas, semicolons or tabs.

use super::table::{Table, not_finite, place};
use crate::{Error, Result};
use ::csv::{self, ByteRecord, ReaderBuilder, Trim, WriterBuilder};
use candle_core::{DType, Device, Tensor};
use std::fmt::Debug;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Reads the table in `file`.
pub(super) fn read(path: &Path, file: File) -> Result<Table> {
    let mut file = BufReader::with_capacity(1 << 16, file);
    let unreadable =
        |e: &dyn std::fmt::Display| Error::file(path, format_args!("cannot be read ({e}); check the file"));
    let delimiter = separator(&mut file).map_err(|e| unreadable(&e))?;
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).delimiter(delimiter).from_reader(file);
    let mut record = ByteRecord::new();
    let (mut columns, mut width, mut values) = (None::<Vec<String>>, 0, Vec::<f64>::new());
    while reader.read_byte_record(&mut record).map_err(|e| unreadable(&e))? {
        let line = || line_of(path, &record);
        if width == 0 {
            width = record.len();
            if record.iter().all(|cell| number(cell).is_none()) {
                columns = Some(names(&record));
                continue;
            }
        }
        if record.len() != width {
            let (got, s) = (record.len(), if record.len() == 1 { "" } else { "s" });
            let first = format!("the first row has {width}; complete or remove it");
            return Err(Error::Data(format!("{}: row {} has {got} cell{s}, {first}", path.display(), line())));
        }
        for (i, cell) in record.iter().enumerate() {
            let place = || place(path, line(), i + 1, columns.as_ref().map(|c| c[i].as_str()));
            match number(cell) {
                Some(value) if value.is_finite() => values.push(value),
                Some(value) => return Err(not_finite(&place(), value)),
                None => return Err(not_a_number(&place(), cell, columns.is_none() && values.len() < width)),
            }
        }
    }
    if values.is_empty() {
        let what = if columns.is_some() { "has a header but no rows" } else { "is empty" };
        return Err(Error::file(path, format_args!("{what}; a table needs at least one row of numbers")));
    }
    let data = Tensor::from_vec(values, ((), width), &Device::Cpu)?;
    Ok(Table { columns, data })
}

/// Detects the separator from the first line and rewinds the file.
fn separator(file: &mut (impl BufRead + Seek)) -> std::io::Result<u8> {
    let (mut quoted, mut found) = (false, b',');
    'search: loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        for &byte in buffer {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => break 'search,
                b'\t' if !quoted => {
                    found = b'\t';
                    break 'search;
                }
                // A comma may be the decimal comma of a table separated by semicolons.
                b';' if !quoted => found = b';',
                _ => {}
            }
        }
        let read = buffer.len();
        file.consume(read);
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(found)
}

/// The line of the file where `record` begins; its own position is before any preceding blank lines.
fn line_of(path: &Path, record: &ByteRecord) -> u64 {
    let Some(position) = record.position() else { return 0 };
    let mut blanks = 0;
    if let Ok(mut file) = File::open(path).map(BufReader::new)
        && file.seek(SeekFrom::Start(position.byte())).is_ok()
    {
        let skipped = file.bytes().map_while(|b| b.ok().filter(|b| matches!(b, b'\r' | b'\n')));
        blanks = skipped.filter(|b| *b == b'\n').count() as u64;
    }
    position.line() + blanks
}

fn number(cell: &[u8]) -> Option<f64> {
    std::str::from_utf8(cell).ok()?.parse().ok()
}

/// The names in a header, which `np.savetxt` prefixes with `#`.
fn names(record: &ByteRecord) -> Vec<String> {
    let mut names: Vec<String> = record.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
    if let Some(rest) = names.first().and_then(|first| first.strip_prefix('#')) {
        names[0] = rest.trim_start().to_string();
    }
    names
}

fn not_a_number(place: &str, cell: &[u8], first: bool) -> Error {
    let text: String = String::from_utf8_lossy(cell).chars().take(40).collect();
    Error::Data(if text.is_empty() {
        format!("{place} is empty; remove such rows or fill them in")
    } else if text.contains(',') && number(text.replace(',', ".").as_bytes()).is_some() {
        format!("{place}: `{text}` is not a number; write a decimal point instead of a comma")
    } else if first {
        format!("{place}: `{text}` is not a number; if this row is a header, no column name may be a number")
    } else {
        format!("{place}: `{text}` is not a number; encode words as numbers or remove the column")
    })
}

/// The shortest text that parses to the same number.
fn shortest(number: &impl Debug) -> String {
    let text = format!("{number:?}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

/// Writes `data` (rows, columns) in f32 or f64, with a header if there are names and every number in
/// the fewest digits that parse to it. Errors name `path`.
pub(super) fn write(path: &Path, out: impl Write, columns: Option<&[String]>, data: &Tensor) -> Result<()> {
    let cannot = |e: csv::Error| Error::unwritten(path, e);
    let mut out = WriterBuilder::new().from_writer(out);
    if let Some(columns) = columns {
        out.write_record(columns).map_err(cannot)?;
    }
    if data.dtype() == DType::F32 {
        data.to_vec2::<f32>()?.iter().try_for_each(|row| out.write_record(row.iter().map(shortest))).map_err(cannot)?;
    } else {
        data.to_vec2::<f64>()?.iter().try_for_each(|row| out.write_record(row.iter().map(shortest))).map_err(cannot)?;
    }
    out.flush().map_err(|e| cannot(e.into()))
}
