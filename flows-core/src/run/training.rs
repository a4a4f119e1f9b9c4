//! One training run of a program.

use super::folder::Folder;
use super::losses::{loss_figure, loss_panels};
use super::{Loss, Losses, Program, Trained, Watch};
use crate::cli::{OutputArgs, RunArgs, count, plural, print, print_json, write_json};
use crate::train::{Checkpoint, Outcome, Ranks, Trainer};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// One training run and its folder, in which no other process trains while this value exists.
///
/// Dropping a new run before it was saved restores what was there before. With several ranks, methods that write or
/// print do nothing on ranks other than 0.
#[derive(Debug)]
pub struct Run {
    program: Program,
    folder: Folder,
    resumes: bool,
    /// Whether event files were requested.
    tensorboard: bool,
    output: OutputArgs,
    /// The settings that must not change when the run is resumed.
    kept: Map<String, Value>,
    ranks: Ranks,
}

impl Run {
    pub(super) fn new(
        program: Program,
        folder: Folder,
        args: &RunArgs,
        output: OutputArgs,
        kept: Map<String, Value>,
        ranks: &Ranks,
    ) -> Self {
        let (output, ranks) = (output.of(ranks), ranks.clone());
        Self { program, folder, resumes: args.resume, tensorboard: args.tensorboard, output, kept, ranks }
    }

    /// Whether this resumes an existing run.
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    /// The folder of the run.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// Writes a note to standard error, unless quiet.
    pub fn note(&self, text: impl Display) {
        self.output.note(text);
    }

    /// Notes the number of ranks, if there are several, and whether the `pieces` of a batch divide evenly among them.
    pub fn note_ranks(&self, pieces: usize) {
        let (ranks, threads) = (self.ranks.size(), plural(rayon::current_num_threads(), "thread"));
        if ranks == 1 {
            return;
        }
        let divided = match pieces {
            1 => format!(", which every rank computes: divide it by --pieces {ranks} if the model allows it"),
            _ if !pieces.is_multiple_of(ranks) => format!(", not a multiple of the ranks: try --pieces {ranks}"),
            _ => String::new(),
        };
        let pieces = plural(pieces, "piece");
        self.note(format_args!("ranks  {ranks} of {threads} each; a batch has {pieces}{divided}"));
    }

    /// Creates the folder, moves a run that is to be replaced aside, writes the settings, and returns `trainer` set up
    /// to save a model of `kind` with `config` to this run, and restored to the saved state if the run is resumed.
    ///
    /// Call this once everything else has been checked.
    ///
    /// # Errors
    /// Same as [`Trainer::resume`] and [`Ranks::check_same`], and when the folder cannot be written to.
    pub fn start(
        &mut self,
        trainer: Trainer,
        kind: &str,
        config: &impl Serialize,
        settings: &impl Serialize,
    ) -> Result<Trainer> {
        self.begin(settings)?;
        let checkpoint = self.checkpoint(kind, config)?;
        let saved = self.ranks.of_first(|| Ok(self.resumes && checkpoint.exists()))?;
        let mut trainer = trainer.with_checkpoint(checkpoint);
        if saved {
            trainer.resume()?;
        }
        self.ranks.check_same(trainer.parameters())?;
        self.note_resumed(trainer.step());
        Ok(trainer)
    }

    /// The first half of [`Self::start`], the folder and the settings, for a program that saves and resumes its
    /// training itself.
    ///
    /// # Errors
    /// When the folder cannot be written to, or another process has begun a run in it.
    pub fn begin(&mut self, settings: &impl Serialize) -> Result<()> {
        self.kept = self.program.kept(settings)?;
        let Self { ranks, folder, resumes, .. } = self;
        ranks.of_first(|| {
            if !*resumes {
                folder.make_room()?;
            }
            folder.write_settings(settings, *resumes)
        })
    }

    /// The checkpoint of the run, for a model of `kind` with `config`.
    ///
    /// # Errors
    /// When the folder cannot be created or the config does not serialise to JSON.
    pub fn checkpoint(&self, kind: &str, config: &impl Serialize) -> Result<Checkpoint> {
        let checkpoint = match self.ranks.is_first() {
            true => Checkpoint::new(self.path(), kind, config)?,
            false => Checkpoint::in_made(self.path().to_path_buf(), kind, config)?,
        };
        Ok(checkpoint.changeable(self.program.changeable).of_run(self.kept()).written_by(&self.ranks))
    }

    /// The settings that must not change when the run is resumed. A program that saves its training itself saves them
    /// as the part `run` of its training file, so that they survive an edited `config.toml`.
    pub fn kept(&self) -> Value {
        Value::Object(self.kept.clone())
    }

    /// Notes the step after which a resumed run continues.
    pub fn note_resumed(&self, done: u64) {
        if self.resumes {
            self.note(format_args!(
                "resuming after step {} of the run in {}",
                count(done as usize),
                self.path().display()
            ));
        }
    }

    /// The observer of the run, `done` of whose `steps` are done: metrics, event files, a progress bar, Ctrl-C. With
    /// several ranks all must observe each step, and all stop if one is asked to.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn watch<'a>(&self, done: u64, steps: u64) -> Result<Watch<'a>> {
        let board = self.tensorboard || self.folder.has_events();
        Watch::new(self.path(), (done, steps), board, self.output, &self.ranks)
    }

    /// The outcome of a trainer's run of `steps` steps, with what its losses measure.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the user interrupted it; the message says how to resume.
    pub fn trained(&self, outcome: Outcome, trainer: &Trainer, steps: u64, losses: Vec<Loss>) -> Result<Trained> {
        if outcome == Outcome::Interrupted {
            return Err(self.interrupted(trainer.step(), steps));
        }
        Ok(Trained {
            parameters: trainer.parameters().count(),
            steps: trainer.step(),
            early_stopped: outcome == Outcome::EarlyStopped,
            seconds: trainer.seconds(),
            validation: trainer.kept(),
            losses,
            out: self.path().to_path_buf(),
        })
    }

    /// The error with which a run ends that was interrupted, and saved, after `done` of its `steps` steps.
    pub fn interrupted(&self, done: u64, steps: u64) -> Error {
        let (path, [done, steps]) = (self.path().display(), [done, steps].map(|n| count(n as usize)));
        let program = self.program.name;
        let message =
            format!("the run is saved at step {done} of {steps}; resume it by: {program} train --out {path} --resume");
        Error::Interrupted(message)
    }

    /// Writes the results to `results.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_results(&self, results: &impl Serialize) -> Result<()> {
        if !self.ranks.is_first() {
            return Ok(());
        }
        write_json(&self.file("results.json"), results)
    }

    /// Plots the losses as `loss.png`, with `lines` at known values of the last loss.
    ///
    /// # Errors
    /// When the metrics cannot be read or the picture cannot be written.
    pub fn draw_losses(&self, losses: &[Loss], lines: &[(&str, f64)]) -> Result<()> {
        if !self.ranks.is_first() {
            return Ok(());
        }
        let run = (String::new(), Losses::read(&self.file("metrics.jsonl"))?, losses.to_vec());
        loss_figure(loss_panels(&[run], lines)).write(self.file("loss.png"))
    }

    /// Lets `draw` write a picture of this name in the folder.
    ///
    /// # Errors
    /// Any error from `draw`.
    pub fn draw(&self, name: &str, draw: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if self.ranks.is_first() { draw(&self.file(name)) } else { Ok(()) }
    }

    /// Prints the results: as JSON with `--json`, else the labelled lines of the summary.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn report(&self, results: &impl Serialize, summary: &[(&str, String)]) -> Result<()> {
        if !self.ranks.is_first() {
            return Ok(());
        }
        if self.output.json {
            return print_json(results);
        }
        let width = summary.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 2;
        let lines: Vec<String> = summary.iter().map(|(label, text)| format!("{label:width$}{text}")).collect();
        print(lines.join("\n"))
    }
}
