//! The bytes of a pickle, read in pieces.

use super::Fault;
use crate::files::source::Source;

/// How many bytes are read at a time.
const PIECE: u64 = 1 << 16;

/// How long a line may be.
const LINE: usize = 1 << 12;

/// A position in a file, and the bytes that have been read from there on.
pub(super) struct Input<'a> {
    pub(super) source: &'a Source,
    /// Where the next piece begins.
    next: u64,
    piece: Vec<u8>,
    /// How many bytes of the piece have been taken.
    taken: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(source: &'a Source, start: u64) -> Self {
        Self { source, next: start, piece: Vec::new(), taken: 0 }
    }

    /// The position of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.next - (self.piece.len() - self.taken) as u64
    }

    /// Reads until at least `length` bytes are there, or all that remain.
    fn fill(&mut self, length: usize) -> Result<(), Fault> {
        if self.piece.len() - self.taken < length && self.next < self.source.length() {
            let start = self.position();
            let left = self.source.length() - start;
            self.piece = self.source.read(start, left.min(PIECE.max(length as u64)))?;
            self.taken = 0;
            self.next = start + self.piece.len() as u64;
        }
        Ok(())
    }

    /// The next bytes, of which there must be few.
    pub(super) fn take(&mut self, length: usize) -> Result<&[u8], Fault> {
        self.fill(length)?;
        let taken = self.piece.get(self.taken..self.taken + length).ok_or(TRUNCATED)?;
        self.taken += length;
        Ok(taken)
    }

    /// Passes over bytes without reading them.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), Fault> {
        if length <= (self.piece.len() - self.taken) as u64 {
            self.taken += length as usize;
            return Ok(());
        }
        let end = self.position().checked_add(length).filter(|end| *end <= self.source.length()).ok_or(TRUNCATED)?;
        (self.piece, self.taken, self.next) = (Vec::new(), 0, end);
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    /// A little-endian number of N bytes.
    pub(super) fn number<const N: usize>(&mut self) -> Result<u64, Fault> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// The text up to the end of the line.
    pub(super) fn line(&mut self) -> Result<String, Fault> {
        self.fill(LINE)?;
        let rest = &self.piece[self.taken..];
        let end = rest.iter().take(LINE).position(|byte| *byte == b'\n');
        let end = end.ok_or(if rest.len() < LINE { TRUNCATED } else { "a line is too long" })?;
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| "a line is not UTF-8")?;
        let line = line.trim_end_matches('\r').to_string();
        self.taken += end + 1;
        Ok(line)
    }
}

const TRUNCATED: &str = "it is truncated";
