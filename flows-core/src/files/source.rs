//! Bytes that are read only when they are asked for.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

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

/// A range of bytes in a file or in memory; clones and slices share them.
#[derive(Clone)]
pub(crate) struct Source {
    bytes: Arc<Bytes>,
    start: u64,
    length: u64,
}

enum Bytes {
    File(Mutex<File>),
    Memory(Vec<u8>),
}

impl Source {
    /// All bytes of a file.
    pub fn file(mut file: File) -> Result<Self, Fault> {
        let length = file.seek(SeekFrom::End(0))?;
        Ok(Self { bytes: Arc::new(Bytes::File(Mutex::new(file))), start: 0, length })
    }

    pub fn memory(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self { bytes: Arc::new(Bytes::Memory(bytes)), start: 0, length }
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// The range of `length` bytes from `start` on.
    pub fn slice(&self, start: u64, length: u64) -> Result<Self, Fault> {
        match start.checked_add(length) {
            Some(end) if end <= self.length => {
                Ok(Self { bytes: self.bytes.clone(), start: self.start + start, length })
            }
            _ => Err("it is truncated".into()),
        }
    }

    /// Reads `length` bytes from `start` on, after checking that there are as many.
    pub fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, Fault> {
        let Self { bytes, start, length } = self.slice(start, length)?;
        let size = usize::try_from(length).map_err(|_| "it is too large for this machine")?;
        match &*bytes {
            Bytes::File(file) => {
                let mut bytes = vec![0; size];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
            // The range lies within the vector, whose length fits `usize`.
            Bytes::Memory(bytes) => Ok(bytes[start as usize..start as usize + size].to_vec()),
        }
    }
}
