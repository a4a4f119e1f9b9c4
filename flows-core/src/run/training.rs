//! One run of a program.

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

/// One training run: its folder, which no other process trains in while this lives, and what is written there.
///
/// A new run that is dropped before it was saved leaves what was there before. Of several ranks rank 0 alone writes:
/// what writes and speaks here does nothing on the others.
#[derive(Debug)]
pub struct Run {
    program: Program,
    folder: Folder,
    resumes: bool,
    /// Whether event files are asked for.
    tensorboard: bool,
    output: OutputArgs,
    /// The settings that a resumed run keeps.
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

    /// Whether the run goes on with one that was there.
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// A remark on standard error, unless the user asked for quiet.
    pub fn note(&self, text: impl Display) {
        self.output.note(text);
    }

    /// A remark on the ranks, if there are several, and on how well so many `pieces` of a batch divide among them.
    pub fn note_ranks(&self, pieces: usize) {
        let (ranks, threads) = (self.ranks.size(), plural(rayon::current_num_threads(), "thread"));
        if ranks == 1 {
            return;
        }
        let divided = match pieces {
            1 => format!(", which all ranks work on: divide it by --pieces {ranks} if the model allows it"),
            _ if !pieces.is_multiple_of(ranks) => format!(", not a multiple of the ranks: try --pieces {ranks}"),
            _ => String::new(),
        };
        let pieces = plural(pieces, "piece");
        self.note(format_args!("ranks  {ranks} of {threads}; a batch has {pieces}{divided}"));
    }

    /// Makes the folder, sets a run that is to be replaced aside, writes the settings, and gives the trainer of a model
    /// of `kind` with `config`: one that saves the run here, and has gone back to where it was saved if it is resumed.
    ///
    /// To be called once all else is known to be in order.
    ///
    /// # Errors
    /// Same as [`Trainer::resume`], when the folder cannot be written to, and as [`Ranks::check_same`].
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

    /// The first half of [`Self::start`], for a program that saves and resumes what it trains by itself: the folder and
    /// the settings.
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

    /// Where the run is saved, for a model of `kind` with `config`.
    ///
    /// # Errors
    /// When the folder cannot be made or the config is no JSON.
    pub fn checkpoint(&self, kind: &str, config: &impl Serialize) -> Result<Checkpoint> {
        let checkpoint = match self.ranks.is_first() {
            true => Checkpoint::new(self.path(), kind, config)?,
            false => Checkpoint::in_made(self.path().to_path_buf(), kind, config)?,
        };
        Ok(checkpoint.changeable(self.program.changeable).of_run(self.kept()).written_by(&self.ranks))
    }

    /// The settings that the run keeps when it is resumed. A program that saves what it trains by itself saves them as
    /// the part `run` of its training file, by which they are known if someone edits `config.toml`.
    pub fn kept(&self) -> Value {
        Value::Object(self.kept.clone())
    }

    /// Says after how many steps a resumed run goes on.
    pub fn note_resumed(&self, done: u64) {
        if self.resumes {
            self.note(format_args!(
                "going on after step {} of the run in {}",
                count(done as usize),
                self.path().display()
            ));
        }
    }

    /// Who watches the steps of the run, of which `done` are done of `steps`: metrics, event files, a progress bar,
    /// Ctrl-C. On several ranks all watch, and end where one asks.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn watch<'a>(&self, done: u64, steps: u64) -> Result<Watch<'a>> {
        let board = self.tensorboard || self.folder.has_events();
        Watch::new(self.path(), (done, steps), board, self.output, &self.ranks)
    }

    /// What a trainer has come to at the end of `steps` steps, with what its losses were.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the user has interrupted it; the message says how to go on.
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

    /// The error with which an interrupted run of `steps` steps ends once it is saved, after `done` of them.
    pub fn interrupted(&self, done: u64, steps: u64) -> Error {
        let (path, [done, steps]) = (self.path().display(), [done, steps].map(|n| count(n as usize)));
        let program = self.program.name;
        let message =
            format!("the run is saved at step {done} of {steps}; go on by: {program} train --out {path} --resume");
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

    /// Draws the losses as `loss.png`, with lines at known values of the last of them.
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

    /// Prints the results: JSON if the user asked for it, else the lines of the summary, each with its label.
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
