//! The folder of a training run.

use super::settings::{read_settings, write_settings};
use super::{Interrupt, OutputArgs, ProgressBar, RunArgs};
use crate::files::in_folder;
use crate::train::{Metrics, Observer, TensorBoard};
use crate::{Error, Result};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The metrics of a run have at most about so many lines.
const LINES: u64 = 10_000;

/// What a run always writes; event files and pictures aside.
const FILES: [&str; 5] = ["config.toml", "metrics.jsonl", "results.json", "model.safetensors", "training.safetensors"];

/// The folder that holds one training run: `config.toml`, `metrics.jsonl`, `model.safetensors`,
/// `training.safetensors`, `results.json` and pictures.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    resume: bool,
}

impl RunFolder {
    /// The folder `path` for a run that is new, resumed or replaces another; nothing is written yet.
    ///
    /// # Errors
    /// When a new run would meet one that is there, or there is none to resume.
    pub fn new(path: impl Into<PathBuf>, args: &RunArgs) -> Result<Self> {
        let folder = Self { path: path.into(), resume: args.resume };
        let shown = folder.path.display();
        if folder.path.exists() && !folder.path.is_dir() {
            return Err(Error::file(&folder.path, "is a file, not a folder; choose another --out"));
        }
        if args.resume && !folder.config().exists() {
            return Err(Error::Config(format!("{shown} holds no run to resume; check --out, or leave out --resume")));
        }
        let holds = FILES.iter().any(|name| folder.path.join(name).exists());
        if holds && !args.resume && !args.overwrite {
            return Err(Error::Config(format!(
                "{shown} holds a run already; go on with it by --resume, replace it by --overwrite, or choose another \
                 folder by --out"
            )));
        }
        Ok(folder)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of settings.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The file of metrics.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The settings of the run that is there.
    ///
    /// # Errors
    /// When the file is missing or not TOML.
    pub fn settings(&self) -> Result<toml::Table> {
        read_settings(&self.config())
    }

    /// Makes the folder, removes a run that is to be replaced, and writes the settings.
    ///
    /// To be called once all else is known to be in order.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn begin(&self, settings: &impl Serialize) -> Result<()> {
        let config = in_folder(&self.path, "config.toml")?;
        if !self.resume {
            let cannot =
                |path: &Path, e| Error::file(path, format_args!("cannot be removed ({e}); choose another --out"));
            for entry in fs::read_dir(&self.path).map_err(|e| cannot(&self.path, e))?.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if FILES.contains(&&*name) || name.starts_with("events.out.tfevents.") {
                    fs::remove_file(entry.path()).map_err(|e| cannot(&entry.path(), e))?;
                }
            }
        }
        write_settings(&config, settings)
    }

    /// Who watches the run of `steps` steps, of which `done` are done: the metrics, the event files if
    /// they are wanted, the progress bar, and Ctrl-C.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn observers(
        &self,
        (done, steps): (u64, u64),
        args: &RunArgs,
        output: OutputArgs,
        interrupt: &Interrupt,
    ) -> Result<Vec<Box<dyn Observer>>> {
        let every = steps.div_ceil(LINES);
        let metrics = match done {
            0 => Metrics::create(self.metrics(), every)?,
            done => Metrics::resume(self.metrics(), every, done)?,
        };
        let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(metrics)];
        if args.tensorboard {
            observers.push(Box::new(match done {
                0 => TensorBoard::create(&self.path, every)?,
                done => TensorBoard::resume(&self.path, every, done)?,
            }));
        }
        if !output.quiet {
            observers.push(Box::new(ProgressBar::new(steps, done)));
        }
        observers.push(Box::new(interrupt.observer()));
        Ok(observers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let (new, resume) = (RunArgs::default(), RunArgs { resume: true, ..Default::default() });
        let overwrite = RunArgs { overwrite: true, ..Default::default() };
        assert!(RunFolder::new(&path, &resume).unwrap_err().to_string().contains("no run to resume"));
        let settings = toml::Table::from_iter([("seed".to_string(), 1.into())]);
        RunFolder::new(&path, &new).unwrap().begin(&settings).unwrap();
        assert!(RunFolder::new(&path, &new).unwrap_err().to_string().contains("--overwrite"));
        fs::write(path.join("model.safetensors"), "old").unwrap();
        fs::write(path.join("notes.txt"), "mine").unwrap();
        let resumed = RunFolder::new(&path, &resume).unwrap();
        assert_eq!(resumed.settings().unwrap(), settings);
        resumed.begin(&settings).unwrap();
        assert!(path.join("model.safetensors").exists());
        RunFolder::new(&path, &overwrite).unwrap().begin(&settings).unwrap();
        assert!(!path.join("model.safetensors").exists() && path.join("notes.txt").exists());
        assert!(RunFolder::new(path.join("notes.txt"), &new).unwrap_err().to_string().contains("is a file"));
    }
}
