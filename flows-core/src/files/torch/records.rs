//! The records of a zip archive of PyTorch.

use super::Fault;
use crate::files::source::Source;
use crate::files::zip::Archive;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The largest size of a compressed pickle in bytes.
const PICKLE: u64 = 1 << 26;

pub(super) struct Records {
    archive: Archive,
    /// The folder of everything, with its slash.
    folder: String,
    unpacked: Mutex<Unpacked>,
}

/// The records that were compressed, each of which is unpacked once.
struct Unpacked {
    /// How many more bytes may be unpacked.
    left: u64,
    /// By name.
    records: HashMap<String, Source>,
}

impl Records {
    /// The records of an archive, of which at most `most` bytes are unpacked, and its pickle.
    pub(super) fn open(archive: Source, most: u64) -> Result<(Self, Source), Fault> {
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
        let mut left = most;
        let check = |bytes: &[u8]| if archive.is_intact(&pickle, bytes) { Ok(()) } else { Err(damaged(&pickle)) };
        let source = match archive.stored(&pickle)? {
            Some(source) => {
                // What is larger holds arrays, which are only read when they are asked for.
                if source.length() <= PICKLE {
                    check(&source.read(0, source.length())?)?;
                }
                source
            }
            None => {
                let bytes = archive.unpack(&pickle, PICKLE.min(most))?;
                check(&bytes)?;
                left = left.saturating_sub(bytes.len() as u64);
                Source::memory(bytes)
            }
        };
        let unpacked = Mutex::new(Unpacked { left, records: HashMap::new() });
        Ok((Self { archive, folder, unpacked }, source))
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
        if let Some(record) = self.archive.stored(&name)? {
            let bytes = record.read(start, length)?;
            let is_damaged = length == record.length() && !self.archive.is_intact(&name, &bytes);
            return if is_damaged { Err(damaged(&name)) } else { Ok(bytes) };
        }
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = unpacked.records.get(&name) {
            return record.read(start, length);
        }
        let (most, size) = (unpacked.left, self.archive.sizes(&name).map_or(0, |(size, _)| size));
        // What turns out to be damaged counts too; what is too large is not unpacked.
        unpacked.left = most.checked_sub(size).unwrap_or(most);
        let bytes = self.archive.unpack(&name, most)?;
        if !self.archive.is_intact(&name, &bytes) {
            return Err(damaged(&name));
        }
        let record = Source::memory(bytes);
        let part = record.read(start, length);
        unpacked.records.insert(name, record);
        part
    }
}

fn damaged(name: &str) -> Fault {
    Fault(format!("the record `{name}` is damaged: its checksum is wrong"))
}
