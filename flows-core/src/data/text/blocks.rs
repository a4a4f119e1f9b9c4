//! A text file of a table in blocks of rows, of which one is in memory at a time.

use super::records::Records;
use super::{Dialect, Frame, Survey, decode};
use crate::data::format::open;
use crate::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The rows of a table in a text file, some at a time.
#[derive(Debug)]
pub(crate) struct Blocks {
    path: PathBuf,
    file: File,
    /// The bytes of a block, about.
    size: usize,
    /// What was read and is not yet given, and whether it is all.
    rest: Vec<u8>,
    is_last: bool,
    /// After the first block: what stands before the first row, and how it is read.
    known: Option<(Vec<u8>, Dialect, Option<Vec<String>>)>,
    /// The lines before the rest.
    lines: u64,
}

impl Blocks {
    /// The blocks of a file; none if it has to be read whole: since it is smaller than one, compressed, or not in UTF-8.
    pub(crate) fn open(path: &Path, size: usize) -> Result<Option<Self>> {
        let mut file = open(path)?;
        let cannot =
            |e: std::io::Error| Error::file(path, format_args!("cannot be read ({e}); check that you may read it"));
        if file.metadata().map_err(cannot)?.len() <= size as u64 {
            return Ok(None);
        }
        let mut rest = Vec::new();
        file.by_ref().take(4096.min(size as u64)).read_to_end(&mut rest).map_err(cannot)?;
        let cut = (0..4).find_map(|cut| std::str::from_utf8(&rest[..rest.len().saturating_sub(cut)]).ok());
        if cut.is_none_or(|text| text.contains('\0') || text.starts_with("\u{feff}")) {
            return Ok(None);
        }
        let (is_last, known, lines) = (false, None, 0);
        Ok(Some(Self { path: path.to_path_buf(), file, size, rest, is_last, known, lines }))
    }

    /// The bytes of the next rows, which end with a line; none after the last.
    fn bytes(&mut self) -> Result<Option<Vec<u8>>> {
        let mut wanted = self.size;
        loop {
            if !self.is_last && self.rest.len() < wanted {
                let more = (wanted - self.rest.len()) as u64;
                let before = self.rest.len();
                self.file.by_ref().take(more).read_to_end(&mut self.rest).map_err(|e| {
                    Error::file(&self.path, format_args!("cannot be read ({e}); check that you may read it"))
                })?;
                self.is_last = self.rest.len() < before + more as usize;
            }
            if self.is_last {
                let all = std::mem::take(&mut self.rest);
                return Ok((!all.iter().all(u8::is_ascii_whitespace)).then_some(all));
            }
            if let Some(cut) = self.cut() {
                let after = self.rest.split_off(cut);
                return Ok(Some(std::mem::replace(&mut self.rest, after)));
            }
            wanted *= 2;
        }
    }

    /// Behind the last row that is whole; the first block has one besides that of the names.
    fn cut(&self) -> Option<usize> {
        // Separators, quotes and line breaks are ASCII, and other bytes may be cut within a character.
        let text: String = self.rest.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect();
        let (start, separator, least) = match &self.known {
            Some((_, dialect, _)) => (0, dialect.separator, 1),
            None => {
                let dialect = Dialect::of(&text);
                (dialect.start, dialect.separator, 2)
            }
        };
        Records::new(&text[start..], separator).last_end(least).map(|end| start + end)
    }

    fn frame(&mut self, bytes: Vec<u8>) -> Result<Frame> {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let Some((head, dialect, names)) = &self.known else {
            let (text, note) = decode::decode(bytes);
            let dialect = Dialect::of(&text);
            let mut frame = Survey::of(&self.path, &text, &dialect)?.read(&text, &dialect)?;
            let first = frame.lines.first().map_or(0, |line| *line as usize - 1);
            let head = text.split_inclusive('\n').take(first).collect::<String>().into_bytes();
            self.known = Some((head, dialect.clone(), frame.names()));
            self.lines = lines;
            frame.notes.extend(note);
            frame.notes.extend(dialect.note());
            return Ok(frame);
        };
        let (text, _) = decode::decode([&head[..], &bytes].concat());
        // Rows are named by their lines in the file.
        let before = self.lines - head.iter().filter(|byte| **byte == b'\n').count() as u64;
        let dialect = Dialect { lines: dialect.lines + before, ..dialect.clone() };
        let frame = Survey::of(&self.path, &text, &dialect)?.read(&text, &dialect)?;
        self.lines += lines;
        if frame.names() != *names {
            let line = before + 1;
            let message = format!("the rows from line {line} on are not read as those before: give the columns names");
            return Err(Error::file(&self.path, message));
        }
        Ok(frame)
    }
}

impl Iterator for Blocks {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        let bytes = self.bytes().transpose()?;
        let frame = bytes.and_then(|bytes| self.frame(bytes));
        if frame.is_err() {
            (self.is_last, self.rest) = (true, Vec::new());
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::read_frame;

    #[test]
    fn blocks_are_the_whole() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        let row = |i: usize| {
            format!(
                "{},{},\"w{}\n, {}\"\n",
                i,
                if i.is_multiple_of(9) { String::new() } else { format!("{}.5", i) },
                i % 5,
                i % 3
            )
        };
        let rows: String = (0..200).map(row).collect();
        for head in ["a,b,c\n", "# a table\n# of rows\n\"a\",b,c\n"] {
            std::fs::write(&path, format!("{head}{rows}")).unwrap();
            let whole = read_frame(&path)?;
            assert!(Blocks::open(&path, 1 << 20)?.is_none());
            for size in [200, 1000, 2500] {
                let (mut at, mut count) = (0, 0);
                for block in Blocks::open(&path, size)?.unwrap() {
                    let block = block?;
                    assert_eq!(block.names(), whole.names());
                    for row in 0..block.rows() {
                        for (part, column) in block.columns.iter().zip(&whole.columns) {
                            assert_eq!(part.cells.text(row), column.cells.text(at + row), "{size}, row {}", at + row);
                        }
                        assert_eq!(block.lines[row], whole.lines[at + row], "{size}, row {}", at + row);
                    }
                    at += block.rows();
                    count += 1;
                }
                assert!(at == 200 && count > 1, "{at} rows in {count} blocks of {size}");
            }
        }
        // Quotes within cells, line breaks of two bytes, words beyond ASCII, no names.
        let row = |i: usize| match i % 3 {
            0 => format!("{i},5\" pipe,\"ü,\r\n{i}\"\r\n"),
            1 => format!("{i},\"5\"\" pipe\",\"\"\r\n"),
            _ => format!("{i},pipé,6\"\r\n"),
        };
        std::fs::write(&path, (0..200).map(row).collect::<String>()).unwrap();
        let whole = read_frame(&path)?;
        for size in [200, 333, 1000] {
            let blocks = Blocks::open(&path, size)?.unwrap().collect::<Result<Vec<_>>>()?;
            assert!(blocks.len() > 1 && whole.rows() == 200);
            let lines: Vec<u64> = blocks.iter().flat_map(|block| block.lines.clone()).collect();
            assert_eq!(lines, whole.lines, "{size}");
            for (j, column) in whole.columns.iter().enumerate() {
                let text = |block: &Frame| -> Vec<String> {
                    (0..block.rows()).map(|row| format!("{:?}", block.columns[j].cells.text(row))).collect()
                };
                let parts: Vec<String> = blocks.iter().flat_map(text).collect();
                assert_eq!(
                    parts,
                    (0..200).map(|row| format!("{:?}", column.cells.text(row))).collect::<Vec<_>>(),
                    "{size}"
                );
            }
        }
        std::fs::write(&path, format!("a,b,c\n{rows}1,2\n")).unwrap();
        let last = Blocks::open(&path, 1000)?.unwrap().last().unwrap();
        assert!(last.unwrap_err().to_string().contains("row 402 has 2 cells"));
        Ok(())
    }
}
