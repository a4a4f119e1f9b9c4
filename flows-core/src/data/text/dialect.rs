//! How a text file writes a table: found from its first rows.

use super::numbers::{Numbers, is_missing_number};
use super::records::{Records, Separator};
use std::borrow::Cow;

/// Rows that are looked at.
const SAMPLE: usize = 200;

/// How a text file writes a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dialect {
    pub(super) separator: Separator,
    pub(super) numbers: Numbers,
    /// The bytes before the first row: comments, and a line that names the separator.
    pub(super) start: usize,
    /// The lines before the first row.
    pub(super) lines: u64,
    /// The names of the columns, if a comment before the first row gives them.
    pub(super) commented_names: Option<Vec<String>>,
}

impl Dialect {
    pub(super) fn of(text: &str) -> Self {
        let Preamble { start, lines, comments, separator } = Preamble::of(text);
        let body = &text[start..];
        let separator = separator.unwrap_or_else(|| most_regular(body));
        let sample = sample(body, separator);
        let byte = if let Separator::Byte(byte) = separator { byte } else { b' ' };
        let numbers = Numbers::of(sample.iter().flatten().map(|cell| &**cell), byte);
        let width = common_width(&sample).0;
        let names = |comment: &&str| {
            let mut cells = Vec::new();
            Records::new(comment, separator).next(&mut cells)?;
            (cells.len() == width).then(|| cells.into_iter().map(Cow::into_owned).collect())
        };
        let commented_names = comments.iter().rev().find_map(names);
        Self { separator, numbers, start, lines, commented_names }
    }
}

/// What stands before the rows.
struct Preamble<'a> {
    start: usize,
    lines: u64,
    comments: Vec<&'a str>,
    separator: Option<Separator>,
}

impl<'a> Preamble<'a> {
    fn of(text: &'a str) -> Self {
        let mut preamble = Self { start: 0, lines: 0, comments: Vec::new(), separator: None };
        loop {
            let rest = &text[preamble.start..];
            let length = rest.find(['\r', '\n']).unwrap_or(rest.len());
            let line = rest[..length].trim();
            // Spreadsheets take the separator from such a line.
            let named = line.strip_prefix("sep=").filter(|_| preamble.lines == 0).map(|mark| mark.as_bytes());
            match (line.strip_prefix('#'), named) {
                (Some(comment), _) => preamble.comments.push(comment.trim()),
                (None, Some(&[byte])) => preamble.separator = Some(Separator::Byte(byte)),
                (None, Some([])) if rest[..length].ends_with('\t') => preamble.separator = Some(Separator::Byte(b'\t')),
                _ if line.is_empty() && length < rest.len() => {}
                _ => return preamble,
            }
            let break_length = if rest[length..].starts_with("\r\n") { 2 } else { usize::from(length < rest.len()) };
            preamble.start += length + break_length;
            preamble.lines += 1;
            if length == rest.len() {
                return preamble;
            }
        }
    }
}

/// The first rows.
fn sample(body: &str, separator: Separator) -> Vec<Vec<Cow<'_, str>>> {
    let (mut records, mut rows, mut cells) = (Records::new(body, separator), Vec::new(), Vec::new());
    while rows.len() < SAMPLE && records.next(&mut cells).is_some() {
        rows.push(std::mem::take(&mut cells));
    }
    rows
}

/// The number of cells that most rows have, and the share of these rows.
fn common_width(rows: &[Vec<Cow<'_, str>>]) -> (usize, f64) {
    let mut widths: Vec<usize> = rows.iter().map(Vec::len).collect();
    widths.sort_unstable();
    let runs = widths.chunk_by(|a, b| a == b);
    let most = runs.max_by_key(|run| run.len()).unwrap_or_default();
    (most.first().copied().unwrap_or(0), most.len() as f64 / rows.len().max(1) as f64)
}

/// The separator by which rows have the same number of cells, and more than one; among several the one by which most
/// cells are numbers.
fn most_regular(body: &str) -> Separator {
    const CANDIDATES: [Separator; 5] = [
        Separator::Byte(b'\t'),
        Separator::Byte(b';'),
        Separator::Byte(b'|'),
        Separator::Byte(b','),
        Separator::Blanks,
    ];
    let score = |separator: Separator| {
        let rows = sample(body, separator);
        let (width, share) = common_width(&rows);
        let byte = if let Separator::Byte(byte) = separator { byte } else { b' ' };
        let cells = || rows.iter().flatten().map(|cell| &**cell);
        let numbers = Numbers::of(cells(), byte);
        let numeric = cells().filter(|cell| is_missing_number(cell) || numbers.parse(cell).is_some()).count();
        (width > 1).then(|| (share, numeric as f64 / cells().count().max(1) as f64))
    };
    let mut best = (Separator::Byte(b','), (0.0, 0.0));
    for separator in CANDIDATES {
        if let Some(score) = score(separator)
            && score > best.1
        {
            best = (separator, score);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_are_told_apart() {
        let byte = Separator::Byte;
        let cases = [
            ("a,b\n1,2\n", byte(b',')),
            ("a;b\n1,5;2,5\n3,5;1,0\n", byte(b';')),
            ("1,5;2,5\n3,5;1,0\n", byte(b';')),
            ("a\tb c\n1\t2\n", byte(b'\t')),
            ("a|b\n1|2\n", byte(b'|')),
            ("1.0 2.0\n3.0 4.0\n", Separator::Blanks),
            ("city,price\nNew York,5\nBonn,6\n", byte(b',')),
            ("x\n1\n2\n", byte(b',')),
            ("sep=|\na|b,c\n1|2\n", byte(b'|')),
        ];
        for (text, separator) in cases {
            assert_eq!(Dialect::of(text).separator, separator, "{text:?}");
        }
        let dialect = Dialect::of("# run 7\n# units m,s\r\n# a, b\n1,2\n");
        assert_eq!((dialect.lines, dialect.start), (3, 28));
        assert_eq!(dialect.commented_names, Some(vec!["a".to_string(), "b".into()]));
        assert_eq!(Dialect::of("# a b\n1 2\n").commented_names, Some(vec!["a".to_string(), "b".into()]));
        assert_eq!(Dialect::of("").start, 0);
        assert_eq!(Dialect::of("#").start, 1);
    }
}
