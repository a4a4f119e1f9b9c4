//! Tables as text: comma-separated files and their relatives.

mod blocks;
mod decode;
mod dialect;
mod numbers;
mod records;

pub(crate) use blocks::Blocks;

use super::frame::{Cells, Column, Frame};
use super::words::Words;
use crate::{Error, Result};
use ::csv::{self, WriterBuilder};
use candle_core::{DType, Tensor};
use dialect::Dialect;
use numbers::{Numbers, is_missing, is_missing_number};
use records::Records;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Debug;
use std::io::Write;
use std::path::Path;

/// The table in the bytes of a text file.
pub(super) fn read(path: &Path, bytes: Vec<u8>) -> Result<Frame> {
    let (text, note) = decode::decode(bytes);
    let dialect = Dialect::of(&text);
    let survey = Survey::of(path, &text, &dialect)?;
    let mut frame = survey.read(&text, &dialect)?;
    frame.notes.extend(note);
    frame.notes.extend(dialect.note());
    Ok(frame)
}

impl Dialect {
    fn records<'a>(&self, text: &'a str) -> Records<'a> {
        Records::new(&text[self.start..], self.separator)
    }

    /// What was assumed of the numbers, where it may be wrong.
    fn note(&self) -> Option<String> {
        match self.numbers {
            Numbers { decimal_comma: true, .. } => Some("commas were read as decimal points".into()),
            Numbers { thousands: Some(_), .. } => Some("commas were read as marks of thousands: 1,234 is 1234".into()),
            _ => None,
        }
    }
}

/// What a first pass over the rows finds.
struct Survey {
    names: Option<Vec<String>>,
    /// Whether the first row holds the names.
    has_header: bool,
    /// Whether each column is one of numbers.
    numeric: Vec<bool>,
    /// How many numbers each column has, and its first cell that is not a number: row and text.
    counts: Vec<usize>,
    first_words: Vec<Option<(usize, String)>>,
    rows: usize,
    notes: Vec<String>,
}

/// How a row of more or fewer cells than the others is to be read.
fn fit(cells: &mut Vec<Cow<'_, str>>, width: usize) -> bool {
    // A separator at the end of a row opens a cell with nothing in it.
    if cells.len() == width + 1 && cells.last().is_some_and(|last| last.is_empty()) {
        cells.pop();
    }
    cells.len() == width
}

impl Survey {
    fn of(path: &Path, text: &str, dialect: &Dialect) -> Result<Self> {
        let mut cells = Vec::new();
        let mut records = dialect.records(text);
        if records.next(&mut cells).is_none() {
            let names = dialect.commented_names.is_some();
            let what = if names { "has a header but no rows" } else { "is empty" };
            return Err(Error::file(path, format_args!("{what}; a table needs at least one row")));
        }
        let mut first: Vec<String> = cells.iter().map(|cell| cell.to_string()).collect();
        // Rows that end with a separator, as the first one may: their last cell is no column.
        let mut second = Vec::new();
        let has_more = records.clone().next(&mut second).is_some();
        if first.last().is_some_and(|last| last.is_empty())
            && first.len() > 1
            && last_is_empty(records.clone(), first.len())
        {
            first.pop();
        }
        let mut width = first.len();
        // R writes names of rows without a name of their own.
        let words = first.iter().all(|cell| dialect.numbers.parse(cell).is_none());
        if words && has_more && second.len() == width + 1 && second.last().is_some_and(|last| !last.is_empty()) {
            first.insert(0, String::new());
            width += 1;
        }
        let mut survey = Self {
            names: None,
            has_header: false,
            numeric: vec![true; width],
            counts: vec![0; width],
            first_words: vec![None; width],
            rows: 0,
            notes: Vec::new(),
        };
        let mut counts = vec![0usize; width];
        let mut whole = vec![true; width];
        while let Some(line) = records.next(&mut cells) {
            if !fit(&mut cells, width) {
                if cells.first().is_some_and(|cell| cell.starts_with('#')) {
                    continue;
                }
                return Err(ragged(path, dialect.lines + line, cells.len(), width));
            }
            for (j, cell) in cells.iter().enumerate() {
                if is_missing_number(cell) {
                    continue;
                }
                match dialect.numbers.parse(cell) {
                    Some(value) => {
                        counts[j] += 1;
                        whole[j] &= value.fract() == 0.0;
                    }
                    None => {
                        survey.numeric[j] = false;
                        survey.first_words[j].get_or_insert_with(|| (survey.rows, cell.to_string()));
                    }
                }
            }
            survey.rows += 1;
        }
        let header = Header { first: &first, numeric: &survey.numeric, whole: &whole, counts: &counts };
        let is_header = header.is_one(dialect.numbers, survey.rows);
        let is_numbered = header.is_numbered(dialect.numbers);
        survey.has_header = is_header;
        survey.names = if is_header { Some(first.clone()) } else { dialect.commented_names.clone() };
        if survey.has_header {
            if is_numbered {
                survey.notes.push("the first row was read as names, since it numbers the columns".into());
            }
        } else {
            // The first row is one of data.
            for word in survey.first_words.iter_mut().flatten() {
                word.0 += 1;
            }
            for (j, cell) in first.iter().enumerate() {
                let number = is_missing_number(cell) || dialect.numbers.parse(cell).is_some();
                if number {
                    counts[j] += usize::from(!is_missing_number(cell));
                } else {
                    survey.numeric[j] = false;
                    survey.first_words[j] = Some((0, cell.clone()));
                }
            }
            survey.rows += 1;
        }
        if survey.rows == 0 {
            return Err(Error::file(path, "has a header but no rows; a table needs at least one row"));
        }
        if let Some(names) = &mut survey.names {
            survey.notes.extend(distinct(names));
        }
        survey.counts = counts;
        Ok(survey)
    }

    fn read(self, text: &str, dialect: &Dialect) -> Result<Frame> {
        let width = self.numeric.len();
        let mut columns: Vec<Builder> = self.numeric.iter().map(|&numeric| Builder::new(numeric, self.rows)).collect();
        let (mut records, mut cells, mut lines) = (dialect.records(text), Vec::new(), Vec::with_capacity(self.rows));
        let mut header = self.has_header;
        while let Some(line) = records.next(&mut cells) {
            if std::mem::take(&mut header) || !fit(&mut cells, width) {
                continue;
            }
            for (column, cell) in columns.iter_mut().zip(&cells) {
                column.push(cell, dialect.numbers);
            }
            lines.push(dialect.lines + line);
        }
        let names = self.names.map_or_else(|| vec![None; width], |names| names.into_iter().map(Some).collect());
        let words = self.counts.into_iter().zip(self.first_words);
        let columns = names.into_iter().zip(columns).zip(words).map(|((name, column), (numbers, first_word))| Column {
            name,
            cells: column.finish(numbers, first_word.unwrap_or_default()),
        });
        Ok(Frame { columns: columns.collect(), notes: self.notes, lines })
    }
}

/// Whether the last of `width` cells has nothing in it, in every row.
fn last_is_empty(mut records: Records<'_>, width: usize) -> bool {
    let mut cells = Vec::new();
    while records.next(&mut cells).is_some() {
        if cells.len() == width && cells.last().is_some_and(|last| !last.is_empty()) {
            return false;
        }
    }
    true
}

fn ragged(path: &Path, line: u64, got: usize, width: usize) -> Error {
    let s = if got == 1 { "" } else { "s" };
    let first = format!("the first row has {width}; complete or remove it");
    Error::Data(format!("{}: row {line} has {got} cell{s}, {first}", path.display()))
}

/// What tells whether the first row holds names.
struct Header<'a> {
    first: &'a [String],
    /// Of the rows below it: whether columns are of numbers, and of whole ones, and how many numbers they have.
    numeric: &'a [bool],
    whole: &'a [bool],
    counts: &'a [usize],
}

impl Header<'_> {
    fn is_one(&self, numbers: Numbers, rows: usize) -> bool {
        let is_number = |cell: &str| numbers.parse(cell).is_some();
        let numeric = |j: usize| self.numeric[j] && (self.counts[j] > 0 || rows == 0);
        // A word above numbers is a name, and so are words alone.
        let named = self.first.iter().enumerate().any(|(j, cell)| numeric(j) && !cell.is_empty() && !is_number(cell));
        let words = self.first.iter().all(|cell| !is_number(cell)) && self.first.iter().any(|cell| !cell.is_empty());
        named || words || self.is_numbered(numbers)
    }

    /// Whether the row counts three columns or more, as pandas does where they have no names, above numbers none of
    /// which are whole.
    fn is_numbered(&self, numbers: Numbers) -> bool {
        let skip = usize::from(self.first.len() > 1 && self.first[0].is_empty());
        let counted = |(j, cell): (usize, &String)| numbers.parse(cell) == Some(j as f64) && !cell.contains('.');
        let fractional = (skip..self.first.len()).all(|j| self.numeric[j] && !self.whole[j]);
        self.first.len() >= skip + 3 && self.first[skip..].iter().enumerate().all(counted) && fractional
    }
}

/// Makes names that occur several times distinct; says so.
fn distinct(names: &mut [String]) -> Option<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut repeated = None;
    for i in 0..names.len() {
        let name = names[i].clone();
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            let mut number = *count - 1;
            while names.contains(&format!("{name}.{number}")) {
                number += 1;
            }
            names[i] = format!("{name}.{number}");
            repeated
                .get_or_insert_with(|| format!("several columns are named `{name}`: the second became `{}`", names[i]));
        }
    }
    repeated
}

/// The cells of a column, as they are read.
enum Builder {
    Numbers(Vec<f64>),
    Words(Words),
}

impl Builder {
    fn new(numeric: bool, rows: usize) -> Self {
        match numeric {
            true => Self::Numbers(Vec::with_capacity(rows)),
            false => Self::Words(Words::with_capacity(rows)),
        }
    }

    fn push(&mut self, cell: &str, numbers: Numbers) {
        match self {
            Self::Numbers(values) => {
                let value = if is_missing_number(cell) { None } else { numbers.parse(cell) };
                values.push(value.unwrap_or(f64::NAN));
            }
            Self::Words(words) => words.push((!is_missing(cell)).then_some(cell)),
        }
    }

    fn finish(self, numbers: usize, first_word: (usize, String)) -> Cells {
        match self {
            Self::Numbers(values) => Cells::Numbers(values),
            Self::Words(words) => words.among(numbers, first_word),
        }
    }
}

/// The shortest text that parses to the same number.
fn shortest(number: &impl Debug) -> String {
    let text = format!("{number:?}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

/// Writes the cells of a frame, empty where they are missing, with a header if the columns have names. Errors name
/// `path`.
pub(super) fn write_frame(path: &Path, out: impl Write, frame: &Frame) -> Result<()> {
    let cannot = |e: csv::Error| Error::unwritten(path, e);
    let mut out = writer(path, out);
    if let Some(names) = frame.names() {
        out.write_record(names).map_err(cannot)?;
    }
    for row in 0..frame.rows() {
        let cells = frame.columns.iter().map(|column| match &column.cells {
            Cells::Numbers(values) if !values[row].is_nan() => shortest(&values[row]).into(),
            cells => cells.text(row).unwrap_or_default(),
        });
        out.write_record(cells.map(|cell| cell.into_owned())).map_err(cannot)?;
    }
    out.flush().map_err(|e| cannot(e.into()))
}

fn writer<W: Write>(path: &Path, out: W) -> csv::Writer<W> {
    let is_tabbed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
    WriterBuilder::new().delimiter(if is_tabbed { b'\t' } else { b',' }).from_writer(out)
}

/// Writes `data` (rows, columns) in f32 or f64, with a header if there are names and every number in
/// the fewest digits that parse to it. Errors name `path`.
pub(super) fn write(path: &Path, out: impl Write, columns: Option<&[String]>, data: &Tensor) -> Result<()> {
    let cannot = |e: csv::Error| Error::unwritten(path, e);
    let mut out = writer(path, out);
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
