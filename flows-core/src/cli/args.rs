//! Arguments that mean the same in every program.

use super::note;
use crate::train::Ranks;
use clap::Args;
use serde::Serialize;
use std::fmt::Display;
use std::path::PathBuf;

/// How a program speaks.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print the results as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Show no progress and no remarks on standard error: by default training has a bar there, or a line every ten
    /// seconds where that is no terminal; errors are always shown
    #[arg(long, short)]
    pub quiet: bool,
}

impl OutputArgs {
    /// The same for a rank: rank 0 speaks for all.
    #[must_use]
    pub fn of(self, ranks: &Ranks) -> Self {
        Self { quiet: self.quiet || !ranks.is_first(), ..self }
    }

    /// A remark on standard error, unless the user asked for quiet.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            note(text);
        }
    }
}

/// What every subcommand that trains takes: see [`Program::open`](crate::run::Program::open).
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Training run")]
pub struct RunArgs {
    /// Start from this complete configuration
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Settings that go over those of the preset, or of the run that is resumed; any part of what a run writes to
    /// config.toml
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Settings that go over both.
    #[command(flatten)]
    pub settings: RunFlags,
    /// The folder of the run: model, settings, metrics and pictures
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in the folder, exactly where it was saved last, with its settings or what --config, --steps,
    /// --batch, --pieces and --lr make of them
    #[arg(long, conflicts_with_all = ["overwrite", "preset", "seed"])]
    pub resume: bool,
    /// Replace the run in the folder
    #[arg(long)]
    pub overwrite: bool,
    /// Write event files for TensorBoard to the folder as well; a resumed run that did goes on to
    #[arg(long)]
    pub tensorboard: bool,
}

/// The settings of a run that every program has a flag for, laid out as in `config.toml`; whole numbers are of the
/// type that TOML has.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[command(next_help_heading = "Training run")]
pub struct RunFlags {
    /// How it is trained.
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    pub train: TrainFlags,
    /// Pieces that a batch is cut into, for as many threads or ranks; decides the last digits, whatever their number
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    pub pieces: Option<i64>,
    /// Examples a step
    #[arg(long, value_name = "B", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    pub batch: Option<i64>,
    /// What all randomness derives from: the same seed gives the same run
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(0..))]
    pub seed: Option<i64>,
}

/// `train` in the settings.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TrainFlags {
    /// Steps of the optimiser
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    pub steps: Option<i64>,
    /// `train.optimizer`.
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    pub optimizer: OptimizerFlags,
}

/// `train.optimizer` in the settings.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct OptimizerFlags {
    /// Learning rate, before its schedule
    #[arg(long, value_name = "L", allow_negative_numbers = true, value_parser = positive)]
    pub lr: Option<f64>,
}

/// Whether an option, or a group of them, was left out: such are no settings.
pub fn unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| *n > 0.0 && n.is_finite());
    number.ok_or_else(|| "give a positive number, such as 1e-3".into())
}
