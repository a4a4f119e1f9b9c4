//! Cells as the readers of columns find them.

use crate::data::Cells;
use crate::data::words::Words;

/// The most columns that a column of lists becomes.
const MOST: usize = 10_000;

/// The values of a column, in the order of the file.
#[derive(Default)]
pub(super) struct Builder {
    numbers: Vec<f64>,
    words: Option<Words>,
    /// Where the list of each row begins, if it is a column of lists.
    starts: Option<Vec<usize>>,
    /// Whether a text is none.
    bytes: bool,
}

/// What a column turns out to hold.
pub(super) enum Values {
    /// A value for each row.
    Single(Cells),
    /// Lists of one length: the first of each, the second of each, and so on.
    Lists(Vec<Cells>),
    /// Lists of different lengths.
    Ragged,
    /// Bytes that are no text.
    Bytes,
}

impl Builder {
    /// Announces a value of a column, of lists or not; `row` tells whether a row begins with it.
    pub(super) fn begin(&mut self, lists: bool, row: bool) {
        if lists && row {
            let at = self.len();
            self.starts.get_or_insert_default().push(at);
        }
    }

    /// Appends a number.
    pub(super) fn number(&mut self, value: Option<f64>) {
        self.numbers.push(value.unwrap_or(f64::NAN));
    }

    /// Appends a word.
    pub(super) fn text(&mut self, word: Option<&str>) {
        self.words.get_or_insert_default().push(word);
    }

    /// Appends a word in UTF-8.
    pub(super) fn bytes(&mut self, word: Option<&[u8]>) {
        let text = word.map(str::from_utf8).transpose();
        self.bytes |= text.is_err();
        self.text(text.ok().flatten().filter(|_| !self.bytes));
    }

    fn len(&self) -> usize {
        self.words.as_ref().map_or(self.numbers.len(), Words::len)
    }

    /// The cells of `rows` rows; none if there are more or fewer.
    pub(super) fn finish(self, rows: usize) -> Option<Values> {
        let len = self.len();
        let Self { numbers, words, starts, bytes } = self;
        let cells = words.map_or(Cells::Numbers(numbers), Words::cells);
        if bytes {
            return Some(Values::Bytes);
        }
        let Some(mut starts) = starts else { return (len == rows).then_some(Values::Single(cells)) };
        if starts.len() != rows {
            return None;
        }
        starts.push(len);
        let lengths = || starts.windows(2).map(|pair| pair[1] - pair[0]);
        let width = lengths().max().unwrap_or(0);
        // A list that is missing counts as one value.
        let fits = |(&start, length)| length == width || (length == 1 && cells.is_missing(start));
        if width > MOST || !starts.iter().zip(lengths()).all(fits) {
            return Some(Values::Ragged);
        }
        let place = |row: usize, i: usize| (starts[row + 1] - starts[row] == width).then(|| starts[row] + i);
        Some(Values::Lists((0..width).map(|i| cells.select((0..rows).map(|row| place(row, i)))).collect()))
    }
}
