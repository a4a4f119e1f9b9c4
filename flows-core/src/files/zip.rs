//! Zip archives, as PyTorch and NumPy write them.
//!
//! See PKWARE's APPNOTE.TXT, sections 4.3.7 (local headers), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end) and
//! 4.5.3 (zip64).

use indexmap::IndexMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// What is wrong with a file, without its path.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self(message.into())
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An archive with its central directory.
pub(crate) struct Archive {
    file: File,
    size: u64,
    /// The number of bytes that may still be read from entries; in a malicious archive they may overlap.
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
    pub fn open(mut file: File) -> Result<Self, Fault> {
        let size = file.seek(SeekFrom::End(0))?;
        let mut archive = Self { file, size, left: size, entries: IndexMap::new() };
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
    fn directory(&mut self) -> Result<(u64, u64), Fault> {
        // Only a comment of at most 65,535 bytes may follow the end record.
        let tail_start = self.size.saturating_sub(22 + 65_535);
        let tail = self.read_at(tail_start, self.size - tail_start)?;
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

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The names of the entries, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Reads an entry of at most `most` bytes.
    pub fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>, Fault> {
        let Entry { header, size, packed, crc, method } =
            *self.entries.get(name).ok_or_else(|| format!("the archive has no entry `{name}`"))?;
        if method == Method::Other {
            return Err(
                format!("the entry `{name}` is encrypted, or compressed by a method that is not supported").into()
            );
        }
        if size > most {
            return Err(format!("the entry `{name}` has {size} bytes, more than the {most} that are plausible").into());
        }
        self.left = self.left.checked_sub(packed).ok_or("the entries of the archive are larger than the file")?;
        let local = self.read_at(header, 30)?;
        if !local.starts_with(b"PK\x03\x04") {
            return Err(format!("the entry `{name}` is not where it should be").into());
        }
        let names = (Fields(&local).u16(26)? + Fields(&local).u16(28)?) as u64;
        let bytes = self.read_at(header.saturating_add(30 + names), packed)?;
        let bytes = if method == Method::Deflated { inflate(name, &bytes, size)? } else { bytes };
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

/// The `size` bytes that were deflated (RFC 1951).
#[cfg(any(feature = "images", feature = "tables"))]
fn inflate(name: &str, packed: &[u8], size: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let read = flate2::read::DeflateDecoder::new(packed).take(size.saturating_add(1)).read_to_end(&mut bytes);
    match read {
        Ok(read) if read as u64 == size => Ok(bytes),
        _ => Err(format!("the entry `{name}` is damaged: it cannot be unpacked to its size").into()),
    }
}

#[cfg(not(any(feature = "images", feature = "tables")))]
fn inflate(name: &str, _: &[u8], _: u64) -> Result<Vec<u8>, Fault> {
    Err(format!("the entry `{name}` is compressed, which needs the feature `tables` of flows-core").into())
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
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
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

/// A zip archive of uncompressed entries.
#[cfg(test)]
pub(crate) fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let (offset, crc) = (file.len() as u32, crc32(bytes));
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
