//! Tables as people have them: named columns of numbers or of words, with cells that may be missing.

use super::schema::is_row_number;
use super::table::{Table, numbers};
use super::text;
use super::words::Words;
use crate::{Error, Result};
use std::borrow::Cow;
#[cfg(feature = "cli")]
use std::{io::Write, path::Path};

/// A table of columns, each of numbers or of words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// The columns, all of the same length.
    pub columns: Vec<Column>,
    /// What was assumed in reading the table and may be wrong, in sentences for its owner.
    pub notes: Vec<String>,
    /// For a text file the line that each row begins on, counted from 1; else nothing.
    pub lines: Vec<u64>,
}

/// A column of a [`Frame`].
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The name, if the table has names; it may be empty.
    pub name: Option<String>,
    /// The cells.
    pub cells: Cells,
}

/// The cells of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cells {
    /// Numbers; a missing one is NaN.
    Numbers(Vec<f64>),
    /// Words, by their indices in a dictionary in the order in which they first occur.
    Words {
        /// The different words.
        words: Vec<String>,
        /// The index of each cell's word; none where it is missing.
        codes: Vec<Option<u32>>,
        /// How many of the cells are numbers.
        numbers: usize,
        /// The first cell that is not: its row, counted from 0, and its text.
        first_word: (usize, String),
    },
}

impl Frame {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.cells.len())
    }

    /// What messages call a row, counted from 0: the line of a text file, else the row's number from 1.
    pub fn row_name(&self, row: usize) -> u64 {
        self.lines.get(row).copied().unwrap_or(row as u64 + 1)
    }

    /// What messages call a column, counted from 0: by its number from 1, and its name.
    pub fn column_name(&self, index: usize) -> String {
        match self.columns.get(index).and_then(|column| column.name.as_deref()) {
            Some(name) if !name.is_empty() => format!("column {} (`{name}`)", index + 1),
            _ => format!("column {}", index + 1),
        }
    }

    /// Appends the rows of a table with the same columns, which messages call `of`; those with names may be in another
    /// order.
    pub(super) fn append(&mut self, mut other: Self, of: &str) -> Result<()> {
        let different = |what: String| {
            let remedy = "give all parts of a table the same columns, or name one of the files";
            Error::Data(format!("{of} {what}, unlike the file before it; {remedy}"))
        };
        let (width, got) = (self.columns.len(), other.columns.len());
        if width != got {
            return Err(different(format!("has {got} columns and not {width}")));
        }
        let mut first = true;
        for column in &mut self.columns {
            let same = |known: &Column| known.name == column.name;
            let at = if column.name.is_some() { other.columns.iter().position(same) } else { Some(0) };
            let at =
                at.ok_or_else(|| different(format!("has no column `{}`", column.name.as_deref().unwrap_or_default())))?;
            let Column { name, mut cells } = other.columns.remove(at);
            // Each file may number its rows from the beginning.
            if let (Cells::Numbers(before), Cells::Numbers(values)) = (&column.cells, &mut cells)
                && let (Some(&last), Some(&begin)) = (before.last(), values.first())
                && [before, &*values].iter().all(|values| is_row_number(values, name.as_deref(), first))
            {
                values.iter_mut().for_each(|value| *value += last + 1.0 - begin);
            }
            column.cells.append(cells);
            first = false;
        }
        self.lines.clear();
        Ok(())
    }

    /// A table of one row, from texts such as `year=1999` and `colour=red`.
    ///
    /// # Errors
    /// When a text has no `=`.
    pub fn of_assignments(texts: &[String]) -> Result<Self> {
        let column = |text: &String| {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                Error::Config(format!("`{text}` gives no column a value: write COLUMN=VALUE, such as year=1999"))
            })?;
            let mut words = Words::default();
            words.push(Some(value.trim()).filter(|value| !value.is_empty()));
            Ok(Column { name: Some(name.trim().into()), cells: words.cells() })
        };
        Ok(Self { columns: texts.iter().map(column).collect::<Result<_>>()?, ..Self::default() })
    }

    /// The numbers, if all cells are finite ones.
    ///
    /// # Errors
    /// When one is not; the message names it.
    pub fn numbers(&self) -> Result<Table> {
        numbers(self)
    }

    /// The rows of tables with the same columns, one after the other, after a column of this name with the number of the
    /// table, from 1.
    pub fn numbered(name: &str, tables: &[Self]) -> Self {
        let number = |(i, table): (usize, &Self)| vec![(i + 1) as f64; table.rows()];
        let numbers = tables.iter().enumerate().flat_map(number).collect();
        let mut columns = vec![Column { name: Some(name.into()), cells: Cells::Numbers(numbers) }];
        for (i, column) in tables.first().map_or(&[][..], |table| &table.columns).iter().enumerate() {
            let mut cells = column.cells.clone();
            tables[1..].iter().for_each(|table| cells.append(table.columns[i].cells.clone()));
            columns.push(Column { name: column.name.clone(), cells });
        }
        Self { columns, ..Self::default() }
    }

    /// Writes the table as text, a part of the file at this path.
    #[cfg(feature = "cli")]
    pub(crate) fn write_text(&self, path: &Path, out: impl Write) -> Result<()> {
        text::write_frame(path, out, self)
    }

    /// The table as the text of a `.csv` file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn to_csv(&self) -> Result<String> {
        let mut text = Vec::new();
        text::write_frame("the table".as_ref(), &mut text, self)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The names of the columns, if they have any.
    pub fn names(&self) -> Option<Vec<String>> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }
}

impl Column {
    /// A column of words.
    pub fn of_words(name: impl Into<String>, cells: &[String]) -> Self {
        let mut words = Words::with_capacity(cells.len());
        cells.iter().for_each(|cell| words.push(Some(cell)));
        let first_word = (0, cells.first().cloned().unwrap_or_default());
        Self { name: Some(name.into()), cells: words.among(0, first_word) }
    }
}

impl Cells {
    /// The number of cells.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Words { codes, .. } => codes.len(),
        }
    }

    /// Whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first word of a column whose other cells are nearly all numbers, most likely by a slip: its row, counted
    /// from 0, and its text.
    pub fn slip(&self) -> Option<&(usize, String)> {
        match self {
            Self::Words { codes, numbers, first_word, .. } => (10 * numbers >= 9 * codes.len()).then_some(first_word),
            Self::Numbers(_) => None,
        }
    }

    /// Appends the cells of another part of the column.
    fn append(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Numbers(values), Self::Numbers(others)) => values.extend(others),
            (_, other) => {
                let mut words = Words::default();
                let before = std::mem::replace(self, Self::Numbers(Vec::new()));
                for cells in [before, other] {
                    (0..cells.len()).for_each(|row| words.push(cells.text(row).as_deref()));
                }
                *self = words.cells();
            }
        }
    }

    /// These cells, and where one is missing, that of the same row of `other`.
    pub(super) fn or(&self, other: &Self) -> Self {
        if let (Self::Numbers(values), Self::Numbers(others)) = (self, other) {
            let pairs = values.iter().zip(others);
            return Self::Numbers(pairs.map(|(value, other)| if value.is_nan() { *other } else { *value }).collect());
        }
        let mut words = Words::with_capacity(self.len());
        (0..self.len()).for_each(|row| words.push(self.text(row).or_else(|| other.text(row)).as_deref()));
        words.cells()
    }

    /// A cell as text; none if it is missing.
    pub(super) fn text(&self, row: usize) -> Option<Cow<'_, str>> {
        match self {
            Self::Numbers(values) => (!values[row].is_nan()).then(|| values[row].to_string().into()),
            Self::Words { words, codes, .. } => codes[row].map(|code| words[code as usize].as_str().into()),
        }
    }

    /// The cells at these rows, a missing one for none.
    #[cfg(feature = "tables")]
    pub(super) fn select(&self, rows: impl Iterator<Item = Option<usize>>) -> Self {
        match self {
            Self::Numbers(values) => Self::Numbers(rows.map(|row| row.map_or(f64::NAN, |row| values[row])).collect()),
            Self::Words { words, codes, .. } => {
                let mut selected = Words::default();
                rows.for_each(|row| selected.push(row.and_then(|row| codes[row]).map(|code| &*words[code as usize])));
                selected.cells()
            }
        }
    }

    /// Whether a cell is missing.
    pub fn is_missing(&self, row: usize) -> bool {
        match self {
            Self::Numbers(values) => values[row].is_nan(),
            Self::Words { codes, .. } => codes[row].is_none(),
        }
    }
}
