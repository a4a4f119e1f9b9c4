//! Metrics as JSON lines.

use super::{Observer, StepEvent};
use crate::files::write_atomically;
use crate::{Error, Result};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// A file of metrics, one JSON object per line, each with a `step`.
///
/// As an [`Observer`] it writes a line every so many steps, and always for evaluated or
/// skipped steps. Non-finite numbers are `null`.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    every: u64,
    skipped: u64,
    damaged: usize,
}

impl Metrics {
    /// A new file at `path`, replacing any existing one, with a line every `every` steps.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: impl Into<PathBuf>, every: u64) -> Result<Self> {
        let path = path.into();
        let file = File::create(&path).map_err(|error| Error::unwritten(&path, error))?;
        Ok(Self { path, file, every: every.max(1), skipped: 0, damaged: 0 })
    }

    /// Reopens the file of a run that is resumed after `step`: lines of later steps are dropped, and so are unreadable
    /// lines, such as a last line cut short by a crash ([`Self::damaged`]).
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn resume(path: impl Into<PathBuf>, every: u64, step: u64) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Line {
            step: u64,
        }
        let path = path.into();
        // Bytes, since a damaged disk or a crash may have left some that are not UTF-8.
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::create(path, every),
            Err(error) => return Err(Error::file(&path, format!("cannot be read ({error})"))),
        };
        let (mut kept, mut damaged) = (Vec::new(), 0);
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Line>(line) {
                Ok(Line { step: at }) if at <= step => kept.extend_from_slice(&[line, b"\n"].concat()),
                Ok(_) => {}
                Err(_) => damaged += 1,
            }
        }
        write_atomically(&path, |file| file.write_all(&kept).map_err(|error| Error::unwritten(&path, error)))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|error| Error::unwritten(&path, error))?;
        Ok(Self { path, file, every: every.max(1), skipped: 0, damaged })
    }

    /// How many lines of a resumed run could not be read.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Appends a line; the record must be an object with a `step` for [`Self::resume`] to keep it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record)
            .map_err(|error| Error::Config(format!("a record of metrics cannot be written as JSON ({error})")))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| Error::unwritten(&self.path, error))
    }
}

impl Observer for Metrics {
    fn step(&mut self, event: &StepEvent) -> Result<ControlFlow<()>> {
        let left_out = std::mem::replace(&mut self.skipped, event.skipped) < event.skipped;
        if event.step.is_multiple_of(self.every) || event.validation.is_some() || left_out {
            self.write(event)?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resuming_drops_what_comes_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::create(&path, 1).unwrap();
        for step in 1..=5 {
            metrics.write(&serde_json::json!({ "step": step, "loss": f64::NAN })).unwrap();
        }
        let damaged = [&std::fs::read(&path).unwrap()[..], b"{\"step\":2,\"l\xffoss\":1}\n{\"step\":2,\"lo"].concat();
        std::fs::write(&path, damaged).unwrap();
        let mut metrics = Metrics::resume(&path, 1, 3).unwrap();
        assert_eq!(metrics.damaged(), 2);
        metrics.write(&serde_json::json!({ "step": 4 })).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [1, 2, 3, 4]);
        assert!(Metrics::create(folder.path().join("no/metrics.jsonl"), 1).is_err());
        assert!(Metrics::resume(folder.path().join("new.jsonl"), 1, 3).is_ok());
    }
}
