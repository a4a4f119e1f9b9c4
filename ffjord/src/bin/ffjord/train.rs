//! The arguments of `ffjord train`.

use clap::Args;
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

/// The presets, each with what it is for.
fn presets() -> String {
    let (rows, images) = (tables::PRESETS.lines(12), images::PRESETS.lines(12));
    format!(
        "Presets; unless given that of the density's name, else `toy`, and for tables `table`:\n{rows}\n\
         For images, `digits` unless given:\n{images}\n"
    )
}

/// Train a continuous flow on data
///
/// Ends with the log-likelihood of the test rows, by the exact divergence, and leaves in the folder --out: the model,
/// the settings (config.toml), the metrics (metrics.jsonl), the loss curve (loss.png), the results (results.json),
/// for data in the plane density.png, and for particles particles.png. At every evaluation a line tells how often the
/// field was evaluated, forward and backward, and how large the solver's steps were. Ctrl-C saves and ends; --resume
/// goes on where a run was saved last, and gives the model that an uninterrupted run would have given; with --config it
/// can have another solver from there on, such as one of more steps (`flow.solver.max_steps`). `mpirun -n 4 ffjord train
/// --pieces 4` divides every batch among four processes, each piece with solves of its own.
///
/// Data is standardized within the model. Of a table 8 rows in 10 are trained on, 1 chooses the best weights, and 1
/// is tested on. A row of particles has the positions of all, particle by particle; the density is one of
/// configurations whose centre is 0.
///
/// A model of images ends with the bits a colour of the test images takes, by an estimate of the divergence, and leaves
/// samples.png, drawn anew at each evaluation. One image in ten is held out to test on where the data has no such part.
/// digits are drawn by the program; uci-digits are 1,797 digits of 8 x 8 written by hand: the test set of Optical
/// Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
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

/// The flags that are settings, laid out as these are.
#[derive(Args, Serialize)]
pub struct Flags {
    /// pinwheel, eight-gaussians, two-moons, circles, rings, two-spirals, checkerboard or swiss-roll; a .npy or .csv
    /// file; a folder with train.npy, validation.npy and test.npy; hf://; or images: digits, uci-digits, a folder of
    /// images, an IDX or .parquet file, a .npy file of unsigned bytes, a folder with train... and test..., or hf://
    /// [default: pinwheel, and digits with a preset for images]
    #[arg(long, value_name = "D", conflicts_with = "resume", help_heading = "Data")]
    pub data: Option<String>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "unset")]
    pub fit: FitFlags,
}

/// What is trained, for people: `size` says how much data a step sees.
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

/// What the losses are of a run whose first `matching` steps are of flow matching, and the others of likelihood in
/// this unit, as are all evaluations.
pub fn losses(matching: u64, unit: &str) -> Vec<Loss> {
    let matching = (matching > 0).then(|| Loss::until(matching, "squared error of flow matching"));
    matching.into_iter().chain([Loss::all(unit)]).collect()
}

/// The pictures of runs, which one of another kind replaces as well.
pub const PICTURES: [&str; 3] = ["density.png", "particles.png", "samples.png"];

/// Settings of a model that may change when a run goes on: its weights are of the field and the times alone.
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
