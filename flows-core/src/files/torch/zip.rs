//! Zip archives of uncompressed entries, as PyTorch writes them.
//!
//! See PKWARE's APPNOTE.TXT, sections 4.3.7 (local headers), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end) and
//! 4.5.3 (zip64).

use super::Fault;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// An archive with its central directory.
pub struct Archive {
    file: File,
    size: u64,
    /// The number of bytes that may still be read from entries; in a malicious archive they may overlap.
    left: u64,
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The offset of the entry's local header.
    header: u64,
    size: u64,
    crc: u32,
    stored: bool,
}

/// Little-endian numbers in a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], Fault> {
        let bytes = at.checked_add(N).and_then(|end| self.0.get(at..end));
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| "a header of the archive is truncated".into())
    }

    fn u16(&self, at: usize) -> Result<usize, Fault> {
        Ok(u16::from_le_bytes(self.bytes(at)?).into())
    }

    fn u32(&self, at: usize) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.bytes(at)?))
    }

    fn u64(&self, at: usize) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.bytes(at)?))
    }
}

impl Archive {
    /// Opens the archive in a file.
    pub fn open(mut file: File) -> Result<Self, Fault> {
        let size = file.seek(SeekFrom::End(0))?;
        let mut archive = Self { file, size, left: size, entries: HashMap::new() };
        let (start, length) = archive.directory()?;
        let directory = archive.read_at(start, length)?;
        let mut rest = &directory[..];
        while rest.starts_with(b"PK\x01\x02") {
            let fields = Fields(rest);
            let (name, extra, comment) = (fields.u16(28)?, fields.u16(30)?, fields.u16(32)?);
            let end = 46 + name + extra + comment;
            let cut = || Fault::from("the directory of the archive is truncated");
            let header = rest.get(..end).ok_or_else(cut)?;
            let (crc, method, flags) = (fields.u32(16)?, fields.u16(10)?, fields.u16(8)?);
            let numbers = [fields.u32(24)?, fields.u32(20)?, fields.u32(42)?];
            let [size, packed, offset] = wide(numbers, &header[46 + name..46 + name + extra])?;
            // The lowest flag marks an encrypted entry.
            let stored = method == 0 && size == packed && flags & 1 == 0;
            let name = String::from_utf8_lossy(&header[46..46 + name]).into_owned();
            archive.entries.insert(name, Entry { header: offset, size, crc, stored });
            rest = &rest[end..];
        }
        Ok(archive)
    }

    /// The offset and the length of the central directory.
    fn directory(&mut self) -> Result<(u64, u64), Fault> {
        // Only a comment of at most 65,535 bytes may follow the end record.
        let tail_start = self.size.saturating_sub(22 + 65_535);
        let tail = self.read_at(tail_start, self.size - tail_start)?;
        let ends = |at: &usize| {
            let comment = Fields(&tail[*at..]).u16(20).ok();
            tail[*at..].starts_with(b"PK\x05\x06") && comment.is_some_and(|comment| at + 22 + comment == tail.len())
        };
        let end = (0..tail.len().saturating_sub(21)).rev().find(ends);
        let end = end.ok_or("it is not a zip archive, the format of PyTorch since version 1.6")?;
        let fields = Fields(&tail[end..]);
        let (length, start) = (fields.u32(12)?, fields.u32(16)?);
        let locator = end.checked_sub(20).map(|at| &tail[at..end]).filter(|locator| locator.starts_with(b"PK\x06\x07"));
        let Some(locator) = locator else { return Ok((start.into(), length.into())) };
        let wide = self.read_at(Fields(locator).u64(8)?, 56)?;
        if !wide.starts_with(b"PK\x06\x06") {
            return Err("the directory of the archive is not where it should be".into());
        }
        Ok((Fields(&wide).u64(48)?, Fields(&wide).u64(40)?))
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Reads an entry of at most `most` bytes.
    pub fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>, Fault> {
        let Entry { header, size, crc, stored } =
            *self.entries.get(name).ok_or_else(|| format!("the archive has no entry `{name}`"))?;
        if !stored {
            return Err(format!("the entry `{name}` is compressed or encrypted, which PyTorch's are not").into());
        }
        if size > most {
            return Err(format!("the entry `{name}` has {size} bytes, more than the {most} that are plausible").into());
        }
        self.left = self.left.checked_sub(size).ok_or("the entries of the archive are larger than the file")?;
        let local = self.read_at(header, 30)?;
        if !local.starts_with(b"PK\x03\x04") {
            return Err(format!("the entry `{name}` is not where it should be").into());
        }
        let names = (Fields(&local).u16(26)? + Fields(&local).u16(28)?) as u64;
        let bytes = self.read_at(header.saturating_add(30 + names), size)?;
        // A checksum of 0 marks a file that was written without checksums.
        if crc != 0 && crc32(&bytes) != crc {
            return Err(format!("the entry `{name}` is damaged: its checksum is wrong").into());
        }
        Ok(bytes)
    }

    /// Reads `length` bytes from `start` on, after checking that the file has them.
    fn read_at(&mut self, start: u64, length: u64) -> Result<Vec<u8>, Fault> {
        if start.checked_add(length).is_none_or(|end| end > self.size) {
            return Err("the archive is truncated".into());
        }
        self.file.seek(SeekFrom::Start(start))?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| "the archive is too large for this machine")?];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Size, compressed size and offset; those that do not fit 32 bits are in the extra field of zip64.
fn wide(numbers: [u32; 3], mut extra: &[u8]) -> Result<[u64; 3], Fault> {
    let mut wide = numbers.map(u64::from);
    while extra.len() >= 4 {
        let (id, size) = (Fields(extra).u16(0)?, Fields(extra).u16(2)?);
        let field = Fields(extra.get(4..4 + size).ok_or("an extra field of the archive is truncated")?);
        if id == 1 {
            let large = wide.iter_mut().filter(|number| **number == u64::from(u32::MAX));
            for (i, number) in large.enumerate() {
                *number = field.u64(8 * i)?;
            }
        }
        extra = &extra[4 + size..];
    }
    Ok(wide)
}

/// The checksum of zip archives (ISO 3309).
pub fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut sum, mut bit) = (byte as u32, 0);
            while bit < 8 {
                sum = if sum & 1 == 1 { 0xEDB8_8320 ^ (sum >> 1) } else { sum >> 1 };
                bit += 1;
            }
            table[byte] = sum;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| TABLE[((sum ^ u32::from(*byte)) & 255) as usize] ^ (sum >> 8))
}
