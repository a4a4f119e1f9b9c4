//! Metrics as lines of JSON.

use super::{Observer, StepEvent};
use crate::files::write_atomically;
use crate::{Error, Result};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// A file of metrics, one JSON object a line, each with a `step`.
///
/// As an [`Observer`] it writes one line a step, or every so many; steps with an evaluation and
/// steps that were left out always get theirs. Numbers that are not finite are `null`.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    every: u64,
    skipped: u64,
}

impl Metrics {
    /// A new file at `path`, in place of any that is there; a line every `every` steps.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: impl Into<PathBuf>, every: u64) -> Result<Self> {
        let path = path.into();
        let file = File::create(&path).map_err(|error| Error::unwritten(&path, error))?;
        Ok(Self { path, file, every: every.max(1), skipped: 0 })
    }

    /// The file of a run that is resumed after `step`: lines of later steps, and a last line that a
    /// crash cut short, are dropped.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn resume(path: impl Into<PathBuf>, every: u64, step: u64) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Line {
            step: u64,
        }
        let path = path.into();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::create(path, every),
            Err(error) => return Err(Error::file(&path, format!("cannot be read ({error})"))),
        };
        let keep = text.lines().filter(|line| serde_json::from_str::<Line>(line).is_ok_and(|line| line.step <= step));
        write_atomically(&path, |file| {
            let written = keep.into_iter().try_for_each(|line| writeln!(file, "{line}"));
            written.map_err(|error| Error::unwritten(&path, error))
        })?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|error| Error::unwritten(&path, error))?;
        Ok(Self { path, file, every: every.max(1), skipped: 0 })
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
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "{\"step\":2,\"lo").unwrap();
        let mut metrics = Metrics::resume(&path, 1, 3).unwrap();
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
