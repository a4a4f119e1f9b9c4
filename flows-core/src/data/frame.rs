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

    /// The rows of tables with the same columns, one table after the other; `names` are what messages call the tables. Those
    /// whose columns have names may have them in another order.
    ///
    /// # Errors
    /// When there is no table, or the columns of two are different.
    pub(super) fn concatenated(tables: Vec<Self>, names: &[String]) -> Result<Self> {
        let mut tables = tables.into_iter();
        let first = tables.next().ok_or_else(|| Error::Data("no table is named".into()))?;
        if tables.len() == 0 {
            return Ok(first);
        }
        let mut columns: Vec<(Option<String>, Vec<Cells>)> =
            first.columns.into_iter().map(|column| (column.name, vec![column.cells])).collect();
        for (mut table, of) in tables.zip(&names[1..]) {
            let different = |what: String| {
                let remedy = "give all parts of a table the same columns, or name one of the files";
                Error::Data(format!("{of} {what}, unlike the file before it; {remedy}"))
            };
            let (width, got) = (columns.len(), table.columns.len());
            if width != got {
                return Err(different(format!("has {got} columns and not {width}")));
            }
            for (name, parts) in &mut columns {
                let same = |known: &Column| known.name == *name;
                let at = if name.is_some() { table.columns.iter().position(same) } else { Some(0) };
                let lacking = || different(format!("has no column `{}`", name.as_deref().unwrap_or_default()));
                parts.push(table.columns.remove(at.ok_or_else(lacking)?).cells);
            }
        }
        let whole = |(i, (name, parts)): (usize, (Option<String>, Vec<Cells>))| {
            let lengths: Vec<usize> = parts.iter().map(Cells::len).collect();
            let mut cells = Cells::concatenated(&parts.iter().collect::<Vec<_>>());
            if let Cells::Numbers(values) = &mut cells {
                count_on(values, &lengths, name.as_deref(), i == 0);
            }
            Column { name, cells }
        };
        Ok(Self { columns: columns.into_iter().enumerate().map(whole).collect(), ..Self::default() })
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
            let parts: Vec<&Cells> = tables.iter().map(|table| &table.columns[i].cells).collect();
            columns.push(Column { name: column.name.clone(), cells: Cells::concatenated(&parts) });
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

/// Goes on counting where each of several parts, of these lengths, numbers its rows from the beginning; `first` tells whether
/// the column is the first of its table.
fn count_on(values: &mut [f64], lengths: &[usize], name: Option<&str>, first: bool) {
    let (mut at, mut consecutive) = (0, true);
    for &length in lengths {
        let (before, part) = values[..at + length].split_at_mut(at);
        // Of consecutive numbers the first ten tell as much as all.
        let numbered = |values: &[f64]| is_row_number(values, name, first);
        if let (Some(&last), Some(&begin)) = (before.last(), part.first())
            && consecutive
            && numbered(&before[..at.min(10)])
            && numbered(part)
        {
            part.iter_mut().for_each(|value| *value += last + 1.0 - begin);
        }
        consecutive &= values[at.saturating_sub(1)..at + length].windows(2).all(|pair| pair[1] == pair[0] + 1.0);
        at += length;
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

    /// The cells of all parts of a column; they are words if those of a part are.
    fn concatenated(parts: &[&Self]) -> Self {
        let rows = parts.iter().map(|part| part.len()).sum();
        let numbers = parts.iter().map(|part| match part {
            Self::Numbers(values) => Some(values.as_slice()),
            Self::Words { .. } => None,
        });
        if let Some(numbers) = numbers.collect::<Option<Vec<&[f64]>>>() {
            return Self::Numbers(numbers.concat());
        }
        let mut words = Words::with_capacity(rows);
        for part in parts {
            (0..part.len()).for_each(|row| words.push(part.text(row).as_deref()));
        }
        words.cells()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_columns_follow_each_other() -> Result<()> {
        let numbers = |from: usize, count: usize| (from..from + count).map(|i| i as f64).collect::<Vec<_>>();
        let table = |id: Vec<f64>, last: Cells| Frame {
            columns: vec![
                Column { name: Some("id".into()), cells: Cells::Numbers(id) },
                Column { name: Some("k".into()), cells: last },
            ],
            ..Frame::default()
        };
        let words =
            |cells: &[&str]| Column::of_words("", &cells.iter().map(|cell| cell.to_string()).collect::<Vec<_>>());
        let mut swapped = table(numbers(1, 12), Cells::Numbers(vec![0.5; 12]));
        swapped.columns.reverse();
        let parts = vec![
            table(numbers(1, 10), Cells::Numbers([vec![f64::NAN], numbers(0, 9)].concat())),
            table(numbers(0, 11), words(&["b"; 11]).cells),
            swapped,
            // Too few to be numbers of rows, after which none are.
            table(numbers(1, 3), Cells::Numbers(vec![2.0; 3])),
            table(numbers(1, 10), Cells::Numbers(vec![2.0; 10])),
        ];
        let names = ["a", "b", "c", "d", "e"].map(String::from);
        let whole = Frame::concatenated(parts, &names)?;
        let ids = [numbers(1, 33), numbers(1, 3), numbers(1, 10)].concat();
        assert_eq!(whole.columns[0].cells, Cells::Numbers(ids));
        let texts: Vec<_> = [0, 1, 9, 10, 21, 33, 45].map(|row| whole.columns[1].cells.text(row)).into();
        let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
        assert_eq!(texts, [None, Some("0"), Some("8"), Some("b"), Some("0.5"), Some("2"), Some("2")]);
        let Cells::Words { numbers, first_word, .. } = &whole.columns[1].cells else { panic!("{whole:?}") };
        assert_eq!((*numbers, first_word), (34, &(10, "b".to_string())));
        assert!(Frame::concatenated(Vec::new(), &[]).is_err());
        Ok(())
    }
}
