//! The folder of a training run.

use super::settings::{overlay, parse_settings, read_settings, write_settings};
use super::{Interrupt, Losses, OutputArgs, ProgressBar, RunArgs, count, loss_figure, loss_panel};
use crate::files::{in_folder, write_atomically};
use crate::train::{Checkpoint, Metrics, Observer, Outcome, TensorBoard, Trainer};
use crate::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use toml::Table;

/// The metrics of a run have at most about so many lines.
const LINES: u64 = 10_000;

/// What a run writes, event files aside.
const FILES: [&str; 9] = [
    "config.toml",
    "metrics.jsonl",
    "results.json",
    "model.safetensors",
    "training.safetensors",
    "loss.png",
    "density.png",
    "particles.png",
    "samples.png",
];

/// Settings that a run keeps when it is resumed: they decide the data and its parts.
const KEPT: [&str; 9] = ["data", "seed", "samples", "proportions", "most", "rows", "images", "standardize", "context"];

/// What the names of event files begin with.
const EVENTS: &str = "events.out.tfevents.";

/// Where the run that is being replaced is until the new one has been saved.
const REPLACED: &str = ".replaced";
/// The same until all of it is there.
const MOVING: &str = ".replacing";

/// The folder that holds one training run: `config.toml`, `metrics.jsonl`, `model.safetensors`,
/// `training.safetensors`, `results.json`, pictures, event files.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    resume: bool,
    /// The file of settings that go over those of a run that is resumed.
    over: Option<PathBuf>,
}

impl RunFolder {
    /// The folder `path` for a run that is new, resumed or replaces another; nothing is written yet.
    ///
    /// # Errors
    /// When a new run would meet one that is there, or there is none to resume.
    pub fn new(path: impl Into<PathBuf>, args: &RunArgs) -> Result<Self> {
        let over = args.config.clone().filter(|_| args.resume);
        let folder = Self { path: path.into(), resume: args.resume, over };
        let shown = folder.path.display();
        if folder.path.exists() && !folder.path.is_dir() {
            return Err(Error::file(&folder.path, "is a file, not a folder; choose another --out"));
        }
        if args.resume && !folder.config().exists() {
            return Err(Error::Config(format!("{shown} holds no run to resume; check --out, or leave out --resume")));
        }
        if !args.resume
            && !args.overwrite
            && (!folder.files().is_empty() || [MOVING, REPLACED].iter().any(|name| folder.path.join(name).exists()))
        {
            return Err(Error::Config(format!(
                "{shown} holds a run already; go on with it by --resume, replace it by --overwrite, or choose another \
                 folder by --out"
            )));
        }
        Ok(folder)
    }

    /// The folder of the run on `data` that is to be resumed, and its settings under the flags of `args`.
    ///
    /// # Errors
    /// As [`Self::new`], and when the settings are not of this type.
    pub fn resumed<T: DeserializeOwned>(args: &RunArgs, data: &str) -> Result<(Self, T)> {
        let folder = Self::new(args.place(data), args)?;
        let mut settings = folder.settings()?;
        args.override_with(&mut settings, Table::new());
        // Those of the run were read once before.
        let of = folder.over.clone().unwrap_or_else(|| folder.config());
        let settings = parse_settings(settings).map_err(|e| Error::file(of, e))?;
        Ok((folder, settings))
    }

    /// The files of the run that is there.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let ours = |name: &str| FILES.contains(&name) || name.starts_with(EVENTS);
        entries.filter(|e| ours(&e.file_name().to_string_lossy())).map(|e| e.path()).collect()
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of settings.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// When the run was saved last.
    fn saved(&self) -> Option<SystemTime> {
        fs::metadata(self.path.join("training.safetensors")).and_then(|file| file.modified()).ok()
    }

    /// The file of metrics.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The settings of the run that is there, under those of `--config` if it is resumed with them.
    ///
    /// # Errors
    /// When a file is missing or not TOML, or that of `--config` has other data or another seed.
    pub fn settings(&self) -> Result<Table> {
        let mut settings = read_settings(&self.config())?;
        let Some(path) = &self.over else { return Ok(settings) };
        let of_run = KEPT.map(|name| settings.get(name).cloned());
        overlay(&mut settings, read_settings(path)?);
        for (name, of_run) in KEPT.iter().zip(&of_run) {
            if settings.get(*name) != of_run.as_ref() {
                let message = format!("has another `{name}` than the run: leave it out, or start a new run");
                return Err(Error::file(path, message));
            }
        }
        Ok(settings)
    }

    /// Makes the folder, sets a run that is to be replaced aside, and writes the settings.
    ///
    /// To be called once all else is known to be in order. What it gives is to be kept until the run
    /// ends.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn begin(&self, settings: &impl Serialize) -> Result<Replaced> {
        let config = in_folder(&self.path, "config.toml")?;
        let before = self.resume.then(|| fs::read(&config).ok().map(|text| (text, self.saved()))).flatten();
        let replaced = Replaced { folder: self.clone(), before };
        if !self.resume {
            replaced.settle();
            let (moving, files) = (self.path.join(MOVING), self.files());
            for path in &files {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                fs::rename(path, in_folder(&moving, &name)?).map_err(|e| Error::unwritten(path, e))?;
            }
            if !files.is_empty() {
                fs::rename(&moving, self.path.join(REPLACED)).map_err(|e| Error::unwritten(&moving, e))?;
            }
        }
        write_settings(&config, settings)?;
        Ok(replaced)
    }

    /// The trainer of a model of `kind` with `config`, which saves the run here, and how many steps are done: if the run
    /// is resumed those that it was saved after. Settings named in `changeable` may differ from those of the run
    /// ([`Checkpoint::changeable`]).
    ///
    /// # Errors
    /// As [`Trainer::resume`], and when the config cannot be written.
    pub fn trainer(
        &self,
        trainer: Trainer,
        kind: &str,
        config: &impl Serialize,
        changeable: &'static [&'static str],
    ) -> Result<(Trainer, u64)> {
        let checkpoint = Checkpoint::new(&self.path, kind, config)?.changeable(changeable);
        let saved = self.resume && checkpoint.exists();
        let mut trainer = trainer.with_checkpoint(checkpoint);
        let done = if saved { trainer.resume()? } else { 0 };
        Ok((trainer, done))
    }

    /// Says after how many steps a resumed run goes on.
    pub fn note_resumed(&self, done: u64, output: OutputArgs) {
        if self.resume {
            let path = self.path.display();
            output.note(format_args!("going on after step {} of the run in {path}", count(done as usize)));
        }
    }

    /// Who watches the run of `steps` steps, of which `done` are done: the metrics, the event files if
    /// they are wanted, a progress bar if there is to be one, and Ctrl-C.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn observers(
        &self,
        (done, steps): (u64, u64),
        args: &RunArgs,
        bar: Option<ProgressBar>,
        interrupt: &Interrupt,
    ) -> Result<Vec<Box<dyn Observer>>> {
        let every = steps.div_ceil(LINES);
        let metrics = match done {
            0 => Metrics::create(self.metrics(), every)?,
            done => Metrics::resume(self.metrics(), every, done)?,
        };
        let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(metrics)];
        let is_event = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(EVENTS));
        if args.tensorboard || self.files().iter().any(is_event) {
            observers.push(Box::new(match done {
                0 => TensorBoard::create(&self.path, every)?,
                done => TensorBoard::resume(&self.path, every, done)?,
            }));
        }
        if let Some(bar) = bar {
            observers.push(Box::new(bar));
        }
        observers.push(Box::new(interrupt.observer()));
        Ok(observers)
    }

    /// Passes if the run of `steps` steps was not interrupted.
    ///
    /// # Errors
    /// When it was; the message says how `program` goes on with it.
    pub fn finished(&self, program: &str, outcome: Outcome, (done, steps): (u64, u64)) -> Result<()> {
        if outcome != Outcome::Interrupted {
            return Ok(());
        }
        let (path, [done, steps]) = (self.path.display(), [done, steps].map(|n| count(n as usize)));
        Err(Error::Interrupted(format!(
            "the run is saved at step {done} of {steps}; go on by: {program} train --out {path} --resume"
        )))
    }

    /// Draws the loss curve of the run as `loss.png`, as [`loss_panel`].
    ///
    /// # Errors
    /// When the metrics cannot be read or the picture cannot be written.
    pub fn draw_losses(&self, lines: &[(&str, f64)], unit: &str) -> Result<()> {
        let losses = [(String::new(), Losses::read(&self.metrics())?)];
        loss_figure(vec![loss_panel(&losses, lines, unit)]).write(self.path.join("loss.png"))
    }
}

/// The run that another replaces: gone when this is dropped if the other has been saved, else back
/// in its place. So are the settings of a run that is resumed with others.
#[derive(Debug)]
#[must_use]
pub struct Replaced {
    folder: RunFolder,
    /// The settings of a run that is resumed, and when it was saved.
    before: Option<(Vec<u8>, Option<SystemTime>)>,
}

impl Replaced {
    fn settle(&self) {
        // A run of which only a part could be set aside.
        self.put_back(MOVING);
        let aside = self.folder.path.join(REPLACED);
        if !aside.exists() {
            return;
        }
        if self.folder.path.join("model.safetensors").exists() {
            fs::remove_dir_all(&aside).ok();
            return;
        }
        for path in self.folder.files() {
            fs::remove_file(path).ok();
        }
        self.put_back(REPLACED);
    }

    /// Files that were set aside take their place again.
    fn put_back(&self, name: &str) {
        let aside = self.folder.path.join(name);
        for entry in fs::read_dir(&aside).into_iter().flatten().flatten() {
            fs::rename(entry.path(), self.folder.path.join(entry.file_name())).ok();
        }
        // Only if everything is back: a folder that is not empty stays.
        fs::remove_dir(&aside).ok();
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        self.settle();
        if let Some((settings, _)) = self.before.take().filter(|(_, saved)| *saved == self.folder.saved()) {
            let config = self.folder.config();
            write_atomically(&config, |file| file.write_all(&settings).map_err(|e| Error::unwritten(&config, e))).ok();
        }
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
        let settings = Table::from_iter([("seed".to_string(), 1.into())]);
        drop(RunFolder::new(&path, &new).unwrap().begin(&settings).unwrap());
        assert!(RunFolder::new(&path, &new).unwrap_err().to_string().contains("--overwrite"));
        fs::write(path.join("model.safetensors"), "old").unwrap();
        fs::write(path.join("notes.txt"), "mine").unwrap();
        let resumed = RunFolder::new(&path, &resume).unwrap();
        assert_eq!(resumed.settings().unwrap(), settings);
        let over = folder.path().join("over.toml");
        let changed = RunArgs { config: Some(over.clone()), ..resume };
        fs::write(&over, "batch = 3\nseed = 1").unwrap();
        assert_eq!(RunFolder::new(&path, &changed).unwrap().settings().unwrap()["batch"], 3.into());
        fs::write(&over, "seed = 2").unwrap();
        assert!(RunFolder::new(&path, &changed).unwrap().settings().unwrap_err().to_string().contains("`seed`"));
        // A run that is resumed with other settings and not saved keeps its own.
        let other = Table::from_iter([("seed".to_string(), 2.into())]);
        drop(resumed.begin(&other).unwrap());
        assert_eq!(resumed.settings().unwrap(), settings);
        let run = resumed.begin(&settings).unwrap();
        fs::write(path.join("training.safetensors"), "saved").unwrap();
        drop(run);
        assert!(path.join("model.safetensors").exists());
        // A run that ends without having been saved gives its place back to the one before it.
        let model = || fs::read_to_string(path.join("model.safetensors")).ok();
        for saved in [false, true] {
            fs::write(path.join("loss.png"), "old").unwrap();
            let run = RunFolder::new(&path, &overwrite).unwrap().begin(&other).unwrap();
            assert!(model().is_none() && path.join("notes.txt").exists());
            if saved {
                fs::write(path.join("model.safetensors"), "new").unwrap();
            }
            drop(run);
            assert_eq!(model().unwrap(), if saved { "new" } else { "old" });
            assert_eq!(path.join("loss.png").exists(), !saved);
            assert_eq!(resumed.settings().unwrap() == settings, !saved);
            assert!(!path.join(REPLACED).exists());
        }
        // One that could be set aside in part alone comes back whole.
        fs::create_dir(path.join(MOVING)).unwrap();
        fs::rename(path.join("model.safetensors"), path.join(MOVING).join("model.safetensors")).unwrap();
        drop(RunFolder::new(&path, &overwrite).unwrap().begin(&other).unwrap());
        assert_eq!(model().unwrap(), "new");
        assert!(![MOVING, REPLACED].iter().any(|name| path.join(name).exists()));
        assert!(RunFolder::new(path.join("notes.txt"), &new).unwrap_err().to_string().contains("is a file"));
    }
}
