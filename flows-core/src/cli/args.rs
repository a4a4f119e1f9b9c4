//! Arguments that have the same meaning in every program.

use super::note;
use crate::train::Ranks;
use clap::Args;
use serde::Serialize;
use std::fmt::Display;
use std::path::PathBuf;

/// What a program prints.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print the results as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Show no progress and no notes on standard error, only errors: by default training shows a progress bar there, or
    /// a line every ten seconds if it is not a terminal
    #[arg(long, short)]
    pub quiet: bool,
}

impl OutputArgs {
    /// These arguments for one of several ranks: all but rank 0 are quiet.
    #[must_use]
    pub fn of(self, ranks: &Ranks) -> Self {
        Self { quiet: self.quiet || !ranks.is_first(), ..self }
    }

    /// Writes a note to standard error, unless quiet.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            note(text);
        }
    }
}

/// The arguments of every subcommand that trains: see [`Program::open`](crate::run::Program::open).
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Training run")]
pub struct RunArgs {
    /// Start from this complete configuration
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Settings that override those of the preset or of the resumed run: any subset of the config.toml that a run
    /// writes
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Settings that override both.
    #[command(flatten)]
    pub settings: RunFlags,
    /// The folder of the run: model, settings, metrics and pictures
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Resume the run in the folder exactly where it was last saved, with its settings unless overridden by --config,
    /// --steps, --batch, --pieces or --lr
    #[arg(long, conflicts_with_all = ["overwrite", "preset", "seed"])]
    pub resume: bool,
    /// Replace the run in the folder
    #[arg(long)]
    pub overwrite: bool,
    /// Also write event files for TensorBoard to the folder; a resumed run that did so continues to
    #[arg(long)]
    pub tensorboard: bool,
}

/// The settings of a run that every program has flags for, laid out as in `config.toml`; integers are i64, as in
/// TOML.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[command(next_help_heading = "Training run")]
pub struct RunFlags {
    /// The flags under `train`.
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    pub train: TrainFlags,
    /// Pieces that a batch is cut into, to be shared among threads or ranks; the last digits of the result depend on
    /// the pieces, but not on the number of threads or ranks
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    pub pieces: Option<i64>,
    /// Examples per step
    #[arg(long, value_name = "B", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    pub batch: Option<i64>,
    /// Seed of all random numbers: the same seed gives the same run
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(0..))]
    pub seed: Option<i64>,
}

/// The flags for the settings under `train`.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TrainFlags {
    /// Steps of the optimiser
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    pub steps: Option<i64>,
    /// The flags under `train.optimizer`.
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    pub optimizer: OptimizerFlags,
}

/// The flags for the settings under `train.optimizer`.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct OptimizerFlags {
    /// Learning rate before the schedule
    #[arg(long, value_name = "L", allow_negative_numbers = true, value_parser = positive)]
    pub lr: Option<f64>,
}

/// Whether an option, or a group of options, was not given, so that it is omitted from the settings.
pub fn unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| *n > 0.0 && n.is_finite());
    number.ok_or_else(|| "give a positive number, such as 1e-3".into())
}
