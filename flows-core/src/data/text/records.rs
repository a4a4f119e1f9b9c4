//! The rows of a text file, cut into cells.
//!
//! Not by the crate `csv`: it takes a quote behind a blank as part of the cell, and has no separator of several blanks.

use std::borrow::Cow;

/// What stands between the cells of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separator {
    Byte(u8),
    /// One or more spaces and tabs.
    Blanks,
}

impl Separator {
    fn is(self, byte: u8) -> bool {
        match self {
            Self::Byte(separator) => byte == separator,
            Self::Blanks => matches!(byte, b' ' | b'\t'),
        }
    }

    /// Whether blanks around cells mean nothing.
    fn trims(self, byte: u8) -> bool {
        matches!(byte, b' ' | b'\t') && self != Self::Byte(byte)
    }
}

/// Goes through the rows of a text.
#[derive(Clone)]
pub(super) struct Records<'a> {
    text: &'a str,
    separator: Separator,
    position: usize,
    /// The line at the position, counted from 1.
    line: u64,
    /// Whether a quote may open a cell: not where one would never close.
    quotes: bool,
}

impl<'a> Records<'a> {
    pub(super) fn new(text: &'a str, separator: Separator) -> Self {
        Self { text, separator, position: 0, line: 1, quotes: true }
    }

    /// Cuts the next row that is not blank into `cells`, and gives the line that it begins on.
    pub(super) fn next(&mut self, cells: &mut Vec<Cow<'a, str>>) -> Option<u64> {
        cells.clear();
        while self.position < self.text.len() {
            let line = self.line;
            if self.end_of_line() {
                continue;
            }
            self.skip_blanks();
            if self.position == self.text.len() || self.end_of_line() {
                continue;
            }
            loop {
                let cell = self.cell();
                cells.push(cell);
                match self.byte() {
                    Some(byte) if self.separator.is(byte) => {
                        self.position += 1;
                        self.skip_blanks();
                        // Blanks at the end of a line separate nothing.
                        if self.separator == Separator::Blanks && matches!(self.byte(), None | Some(b'\r' | b'\n')) {
                            self.end_of_line();
                            return Some(line);
                        }
                    }
                    _ => {
                        self.end_of_line();
                        return Some(line);
                    }
                }
            }
        }
        None
    }

    /// Behind the line feed of the last row that ends with one, before any quote that is not closed in this text; none of
    /// fewer than `least` such rows.
    pub(super) fn last_end(mut self, least: usize) -> Option<usize> {
        let (mut cells, mut rows, mut end) = (Vec::new(), 0, None);
        while self.next(&mut cells).is_some() && self.quotes {
            if self.text.as_bytes()[self.position - 1] == b'\n' {
                (rows, end) = (rows + 1, Some(self.position));
            }
        }
        end.filter(|_| rows >= least)
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn skip_blanks(&mut self) {
        let blank = |byte| match self.separator {
            Separator::Blanks => matches!(byte, b' ' | b'\t'),
            separator => separator.trims(byte),
        };
        self.position += self.text.as_bytes()[self.position..].iter().take_while(|&&byte| blank(byte)).count();
    }

    /// Takes a line break, if there is one here.
    fn end_of_line(&mut self) -> bool {
        let length = match &self.text.as_bytes()[self.position..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => return false,
        };
        self.position += length;
        self.line += 1;
        true
    }

    /// The cell that begins here; leaves the position at the separator or the line's end behind it.
    fn cell(&mut self) -> Cow<'a, str> {
        if self.quotes && self.byte() == Some(b'"') {
            match self.quoted() {
                Some(cell) => return cell,
                None => self.quotes = false,
            }
        }
        let rest = &self.text[self.position..];
        let ends = |byte: u8| self.separator.is(byte) || matches!(byte, b'\r' | b'\n');
        let length = rest.bytes().position(ends).unwrap_or(rest.len());
        self.position += length;
        Cow::Borrowed(rest[..length].trim_matches([' ', '\t']))
    }

    /// The cell in quotes that begins here, with what stands between them and the separator; none if they are never
    /// closed.
    fn quoted(&mut self) -> Option<Cow<'a, str>> {
        let start = self.position + 1;
        let (mut at, mut lines, mut doubled) = (start, 0, false);
        let bytes = self.text.as_bytes();
        loop {
            match *bytes.get(at)? {
                b'"' if bytes.get(at + 1) == Some(&b'"') => {
                    doubled = true;
                    at += 1;
                }
                b'"' => break,
                b'\n' => lines += 1,
                b'\r' if bytes.get(at + 1) != Some(&b'\n') => lines += 1,
                _ => {}
            }
            at += 1;
        }
        let inner = &self.text[start..at];
        self.position = at + 1;
        self.line += lines;
        let rest = &self.text[self.position..];
        let ends = |byte: u8| self.separator.is(byte) || matches!(byte, b'\r' | b'\n');
        let length = rest.bytes().position(ends).unwrap_or(rest.len());
        self.position += length;
        let inner = if doubled { Cow::Owned(inner.replace("\"\"", "\"")) } else { Cow::Borrowed(inner) };
        Some(match rest[..length].trim_matches([' ', '\t']) {
            "" => match inner {
                Cow::Borrowed(inner) => Cow::Borrowed(inner.trim_matches([' ', '\t'])),
                Cow::Owned(inner) => Cow::Owned(inner.trim_matches([' ', '\t']).to_string()),
            },
            behind => Cow::Owned(format!("\"{inner}\"{behind}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, separator: Separator) -> Vec<(u64, Vec<String>)> {
        let (mut records, mut cells, mut rows) = (Records::new(text, separator), Vec::new(), Vec::new());
        while let Some(line) = records.next(&mut cells) {
            rows.push((line, cells.iter().map(|cell| cell.to_string()).collect()));
        }
        rows
    }

    #[test]
    fn rows_are_cut_at_separators_outside_of_quotes() {
        let row = |line: u64, cells: &[&str]| (line, cells.iter().map(|cell| cell.to_string()).collect::<Vec<_>>());
        let comma = Separator::Byte(b',');
        assert_eq!(
            rows("a, \"b, \"\"c\"\"\" ,d\r\n\r\n1,,2\r3", comma),
            [row(1, &["a", "b, \"c\"", "d"]), row(3, &["1", "", "2"]), row(4, &["3"]),]
        );
        assert_eq!(rows("\"x\ny\",1\n2,3,\n", comma), [row(1, &["x\ny", "1"]), row(3, &["2", "3", ""])]);
        // A quote that is never closed is a character like any other.
        assert_eq!(rows("\"a,b\nc,d", comma), [row(1, &["\"a", "b"]), row(2, &["c", "d"])]);
        assert_eq!(rows("  1 \t 2  \n\n 3 4\n", Separator::Blanks), [row(1, &["1", "2"]), row(3, &["3", "4"])]);
        assert_eq!(rows("1\t\t2\n", Separator::Byte(b'\t')), [row(1, &["1", "", "2"])]);
        assert!(rows(" \n\r\n\t", comma).is_empty());
        let end = |text, least| Records::new(text, comma).last_end(least);
        assert_eq!([end("5\" a,\n\"b\n\",1\r\nc,\"d\n", 1), end("a,\"\"\"\n,b", 1)], [Some(14), None]);
        assert_eq!([end("a\nb\nc", 2), end("a\nb", 2), end("", 1)], [Some(4), None, None]);
    }
}
