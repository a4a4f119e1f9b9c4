//! Zip archives, as PyTorch and NumPy write them.
//!
//! See PKWARE's APPNOTE.TXT, sections 4.3.7 (local headers), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end) and
//! 4.5.3 (zip64).

use super::source::{Fault, Source};
use indexmap::IndexMap;
use std::fs::File;
use std::io::Read;

/// An archive with its central directory.
pub(crate) struct Archive {
    source: Source,
    /// The number of bytes that may still be taken from entries; in a malicious archive they may overlap.
    left: u64,
    entries: IndexMap<String, Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The offset of the entry's local header.
    header: u64,
    size: u64,
    /// The number of bytes in the archive.
    packed: u64,
    crc: u32,
    method: Method,
}

/// How an entry is compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Stored,
    Deflated,
    /// Encrypted, or compressed otherwise.
    Other,
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
    pub fn open(file: File) -> Result<Self, Fault> {
        Self::of(Source::file(file)?)
    }

    /// The archive in these bytes.
    pub fn of(source: Source) -> Result<Self, Fault> {
        let mut archive = Self { left: source.length(), source, entries: IndexMap::new() };
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
            let method = match (method, flags & 1) {
                (0, 0) if size == packed => Method::Stored,
                (8, 0) => Method::Deflated,
                _ => Method::Other,
            };
            let name = String::from_utf8_lossy(&header[46..46 + name]).into_owned();
            archive.entries.insert(name, Entry { header: offset, size, packed, crc, method });
            rest = &rest[end..];
        }
        Ok(archive)
    }

    /// The offset and the length of the central directory.
    fn directory(&self) -> Result<(u64, u64), Fault> {
        // Only a comment of at most 65,535 bytes may follow the end record.
        let size = self.source.length();
        let tail_start = size.saturating_sub(22 + 65_535);
        let tail = self.read_at(tail_start, size - tail_start)?;
        let ends = |at: &usize| {
            let comment = Fields(&tail[*at..]).u16(20).ok();
            tail[*at..].starts_with(b"PK\x05\x06") && comment.is_some_and(|comment| at + 22 + comment == tail.len())
        };
        let end = (0..tail.len().saturating_sub(21)).rev().find(ends);
        let end = end.ok_or("it is not a zip archive")?;
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

    /// The names of the entries, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The size of an entry in bytes, and the number of bytes that it takes in the archive.
    pub fn sizes(&self, name: &str) -> Option<(u64, u64)> {
        self.entries.get(name).map(|entry| (entry.size, entry.packed))
    }

    /// Whether the entries are no larger than the archive: those of a malicious one may overlap, or end beyond it.
    pub fn is_plausible(&self) -> bool {
        let total = self.entries.values().try_fold(0u64, |sum, entry| sum.checked_add(entry.packed));
        total.is_some_and(|total| total <= self.source.length())
    }

    /// Takes an entry of at most `most` bytes; all that are taken are together at most as large as the archive.
    pub fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>, Fault> {
        let Entry { packed, .. } = self.entry(name)?;
        self.left = self.left.checked_sub(packed).ok_or("the entries of the archive are larger than the file")?;
        let bytes = self.unpack(name, most)?;
        if self.is_intact(name, &bytes) {
            return Ok(bytes);
        }
        Err(format!("the entry `{name}` is damaged: its checksum is wrong").into())
    }

    /// The bytes of an entry of at most `most` bytes, whatever its checksum says.
    pub fn unpack(&self, name: &str, most: u64) -> Result<Vec<u8>, Fault> {
        let entry = self.entry(name)?;
        if entry.size > most {
            let message =
                format!("the entry `{name}` has {} bytes, more than the {most} that are plausible", entry.size);
            return Err(message.into());
        }
        let packed = self.packed(name, entry)?;
        let bytes = packed.read(0, entry.packed)?;
        if entry.method == Method::Deflated { inflate(name, &bytes, entry.size) } else { Ok(bytes) }
    }

    /// The place of an entry in the archive; none if it is compressed.
    pub fn stored(&self, name: &str) -> Result<Option<Source>, Fault> {
        let entry = self.entry(name)?;
        if entry.method == Method::Stored { self.packed(name, entry).map(Some) } else { Ok(None) }
    }

    /// Whether these bytes have the checksum of an entry; one of 0 marks a file that was written without checksums.
    pub fn is_intact(&self, name: &str, bytes: &[u8]) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.crc == 0 || entry.crc == crc32fast::hash(bytes))
    }

    /// An entry that can be unpacked.
    fn entry(&self, name: &str) -> Result<Entry, Fault> {
        let entry = *self.entries.get(name).ok_or_else(|| format!("the archive has no entry `{name}`"))?;
        if entry.method == Method::Other {
            return Err(
                format!("the entry `{name}` is encrypted, or compressed by a method that is not supported").into()
            );
        }
        Ok(entry)
    }

    /// The bytes of an entry as they are in the archive.
    fn packed(&self, name: &str, entry: Entry) -> Result<Source, Fault> {
        let local = self.read_at(entry.header, 30)?;
        if !local.starts_with(b"PK\x03\x04") {
            return Err(format!("the entry `{name}` is not where it should be").into());
        }
        let names = (Fields(&local).u16(26)? + Fields(&local).u16(28)?) as u64;
        let packed = self.source.slice(entry.header.saturating_add(30 + names), entry.packed);
        packed.map_err(|_| "the archive is truncated".into())
    }

    /// Reads `length` bytes from `start` on, after checking that the archive has them.
    fn read_at(&self, start: u64, length: u64) -> Result<Vec<u8>, Fault> {
        let part = self.source.slice(start, length).map_err(|_| "the archive is truncated")?;
        part.read(0, length)
    }
}

/// The `size` bytes that were deflated (RFC 1951).
fn inflate(name: &str, packed: &[u8], size: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let read = flate2::read::DeflateDecoder::new(packed).take(size.saturating_add(1)).read_to_end(&mut bytes);
    match read {
        Ok(read) if read as u64 == size => Ok(bytes),
        _ => Err(format!("the entry `{name}` is damaged: it cannot be unpacked to its size").into()),
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

/// A zip archive of uncompressed entries.
#[cfg(test)]
pub(crate) fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let (offset, crc) = (file.len() as u32, crc32fast::hash(bytes));
        // Flags, method, time and date; the sum; both sizes; the lengths of name and extra field.
        let mut header = [0; 8].to_vec();
        header.extend(crc.to_le_bytes());
        [bytes.len() as u32; 2].iter().for_each(|size| header.extend(size.to_le_bytes()));
        header.extend((name.len() as u16).to_le_bytes());
        header.extend([0; 2]);
        file.extend([b"PK\x03\x04\x14\0", &header[..], name.as_bytes(), bytes].concat());
        directory.extend([b"PK\x01\x02\x14\0\x14\0", &header[..], &[0; 10]].concat());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, length, count) = (file.len() as u32, directory.len() as u32, entries.len() as u16);
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    [count; 2].iter().for_each(|count| file.extend(count.to_le_bytes()));
    [length, start].iter().for_each(|number| file.extend(number.to_le_bytes()));
    file.extend([0; 2]);
    file
}
