//! The records of a zip archive of PyTorch.

use super::Fault;
use crate::files::source::Source;
use crate::files::zip::Archive;
use std::sync::{Mutex, PoisonError};

/// The largest size of a compressed pickle in bytes.
const PICKLE: u64 = 1 << 26;

/// The largest size that `packed` compressed bytes may have: weights hardly shrink, unless they are all zeros.
pub(super) fn plausible(packed: u64) -> u64 {
    packed.saturating_mul(64).saturating_add(1 << 24)
}

pub(super) struct Records {
    archive: Archive,
    /// The folder of everything, with its slash.
    folder: String,
    /// Whether the file was written with checksums.
    has_checksums: bool,
    /// The record that was last uncompressed, by its name.
    unpacked: Mutex<Option<(String, Source)>>,
}

impl Records {
    /// The records of an archive, and its pickle.
    pub(super) fn open(archive: Source) -> Result<(Self, Source), Fault> {
        let archive = Archive::of(archive).map_err(|fault| {
            Fault(format!("it is truncated or damaged: the directory at its end cannot be read, {fault}"))
        })?;
        let ends = |end: &str| archive.names().find(|name| name.ends_with(end)).map(String::from);
        if ends("/constants.pkl").is_some() && archive.names().any(|name| name.contains("/code/")) {
            return Err("it is a TorchScript archive, which is a program".into());
        }
        if !archive.is_plausible() {
            return Err("the entries of the archive are larger than the file".into());
        }
        let is_pickle = |name: &&str| *name == "data.pkl" || name.ends_with("/data.pkl");
        let pickle = archive.names().filter(is_pickle).min().map(String::from);
        let pickle = pickle.ok_or("the archive has no `data.pkl`")?;
        let folder = pickle.trim_end_matches("data.pkl").to_string();
        let order = format!("{folder}byteorder");
        if archive.names().any(|name| name == order) && archive.unpack(&order, 16)? != b"little" {
            return Err("its numbers are big-endian: save it on another machine".into());
        }
        // PyTorch can write without checksums (`set_crc32_options`): then they are wrong, that of the pickle too.
        let (source, has_checksums) = match archive.stored(&pickle)? {
            Some(source) if source.length() <= PICKLE => {
                let bytes = source.read(0, source.length())?;
                (source, archive.is_intact(&pickle, &bytes))
            }
            Some(source) => (source, false),
            None => {
                let bytes = archive.unpack(&pickle, PICKLE)?;
                let is_intact = archive.is_intact(&pickle, &bytes);
                (Source::memory(bytes), is_intact)
            }
        };
        Ok((Self { archive, folder, has_checksums, unpacked: Mutex::new(None) }, source))
    }

    fn name(&self, key: &str) -> String {
        format!("{}data/{key}", self.folder)
    }

    /// The size of a record in bytes, if there is one of this key.
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        self.archive.sizes(&self.name(key)).map(|(size, _)| size)
    }

    /// The size of all entries in bytes.
    pub(super) fn total(&self) -> u64 {
        self.archive
            .names()
            .filter_map(|name| self.archive.sizes(name))
            .fold(0, |sum, (size, _)| sum.saturating_add(size))
    }

    /// Reads `length` bytes of a record from `start` on; a whole record is compared with its checksum.
    pub(super) fn read(&self, key: &str, start: u64, length: u64) -> Result<Vec<u8>, Fault> {
        let name = self.name(key);
        let damaged = || Fault(format!("the record `{name}` is damaged: its checksum is wrong"));
        let is_intact = |bytes: &[u8]| !self.has_checksums || self.archive.is_intact(&name, bytes);
        if let Some(record) = self.archive.stored(&name)? {
            let bytes = record.read(start, length)?;
            let is_whole = length == record.length();
            return if is_whole && !is_intact(&bytes) { Err(damaged()) } else { Ok(bytes) };
        }
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, record)) = unpacked.as_ref().filter(|(last, _)| *last == name) {
            return record.read(start, length);
        }
        // The last one makes room first.
        *unpacked = None;
        let packed = self.archive.sizes(&name).map_or(0, |(_, packed)| packed);
        let bytes = self.archive.unpack(&name, plausible(packed))?;
        if !is_intact(&bytes) {
            return Err(damaged());
        }
        let record = Source::memory(bytes);
        let part = record.read(start, length);
        *unpacked = Some((name, record));
        part
    }
}
