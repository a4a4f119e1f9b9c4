//! Tables as people have them: named columns of numbers or of words, with cells that may be missing.

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

    /// The names of the columns, if they have any.
    pub fn names(&self) -> Option<Vec<String>> {
        self.columns.iter().map(|column| column.name.clone()).collect()
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

    /// Whether a cell is missing.
    pub fn is_missing(&self, row: usize) -> bool {
        match self {
            Self::Numbers(values) => values[row].is_nan(),
            Self::Words { codes, .. } => codes[row].is_none(),
        }
    }
}
