//! The arguments of `ffjord train`.

use clap::Args;
use ffjord::TrainingCost;
use ffjord::run::{images, tables};
use flows_core::cli::{DeviceArgs, FitFlags, OutputArgs, RunArgs, SkipArgs, plural, unset};
use flows_core::nn::Parameters;
use flows_core::run::Loss;
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  ffjord train
  ffjord train --data eight-gaussians --out runs/eight
  ffjord train --data prices.csv --steps 3000 --out runs/prices
  ffjord train --preset digits
  ffjord train --data mnist/ --preset mnist-small --out runs/mnist
  ffjord train --data photos/ --preset digits --size 16,16 --grey --out runs/photos
  ffjord train --out runs/prices --resume";

/// The presets with their descriptions.
fn presets() -> String {
    let (rows, images) = (tables::PRESETS.lines(14), images::PRESETS.lines(14));
    format!(
        "Presets; the default is the one named after the density, else `toy`, and `table` for tables:\n{rows}\n\
         Presets for images; the default is `digits`:\n{images}\n"
    )
}

/// Train a continuous flow on data
///
/// Reports the log-likelihood of the test rows, with the exact divergence, and writes to the folder --out: the model,
/// the settings (config.toml), the metrics (metrics.jsonl), the loss curve (loss.png), the results (results.json), and
/// density.png for data in the plane or particles.png for particles. At every evaluation a line reports how often the
/// field was evaluated, forward and backward, and how large the solver's steps were. Ctrl-C saves and ends; --resume
/// continues from where a run was last saved, and gives the same model as an uninterrupted run; with --config it may
/// change the solver, for example to allow more steps (`flow.solver.max_steps`). `mpirun -n 4 ffjord train --pieces 4`
/// divides every batch among four processes; each piece has its own solves.
///
/// Data is standardized within the model. Of 10 rows of a table, 8 are for training, 1 is for choosing the best
/// weights, and 1 is for testing. A row of particles holds the positions of all, particle by particle; the density is
/// one of configurations with centre 0.
///
/// For images it reports the bits per dimension of the test images, with an estimate of the divergence, and writes
/// samples.png, which is redrawn at each evaluation. Without a test part, one image in ten is held out. digits are
/// synthetic; uci-digits are 1,797 handwritten digits of 8 x 8 pixels: the test set of Optical Recognition of
/// Handwritten Digits by E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
/// https://doi.org/10.24432/C50P49, CC BY 4.0.
#[derive(Args)]
#[command(after_long_help = presets() + EXAMPLES)]
pub struct TrainArgs {
    #[command(flatten)]
    pub settings: Flags,
    #[command(flatten)]
    pub skip: SkipArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The flags for settings, laid out like the settings.
#[derive(Args, Serialize)]
pub struct Flags {
    /// pinwheel, eight-gaussians, two-moons, circles, rings, two-spirals, checkerboard or swiss-roll; a table as
    /// .csv or .npy; a folder of train, validation and test; hf://; or images: digits, uci-digits, a folder of
    /// images or of train, val and test, an IDX or .parquet file, .npy or .npz arrays of images, or hf://
    /// [default: pinwheel, or digits with a preset for images]
    #[arg(long, value_name = "D", conflicts_with = "resume", help_heading = "Data")]
    pub data: Option<String>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    pub fit: FitFlags,
}

/// A description of the model and its training for the user; `size` is the batch size.
pub fn describe(
    flows: usize,
    method: impl std::fmt::Display,
    parameters: &Parameters,
    steps: u64,
    size: String,
) -> String {
    let (flows, parameters) = (plural(flows, "continuous flow"), plural(parameters.count(), "parameter"));
    format!("model  {flows}, {method}: {parameters}, {} of {size}", plural(steps as usize, "step"))
}

/// The losses of a run: flow matching for the first `matching` steps, then the negative log-likelihood in this unit,
/// which is also that of all evaluations.
pub fn losses(matching: u64, unit: &str) -> Vec<Loss> {
    let matching = (matching > 0).then(|| Loss::until(matching, "squared error of flow matching"));
    matching.into_iter().chain([Loss::all(unit)]).collect()
}

/// The line of a summary on the cost of the solver.
pub fn solver_line(cost: TrainingCost) -> (&'static str, String) {
    ("solver", format!("{cost}, means per step of maximum likelihood"))
}

/// The pictures of all kinds of runs, since a run may replace one of another kind.
pub const PICTURES: [&str; 3] = ["density.png", "particles.png", "samples.png"];

/// Settings of the model that a resumed run may change, since no weights depend on them.
pub const CHANGEABLE: [&str; 8] = [
    "flow.solver",
    "flow.evaluation",
    "flow.row_steps",
    "flow.divergence",
    "flow.penalty",
    "flow.steer",
    "flow.gradient",
    "flow.matching",
];
