//! `flows eval`: how well a model fits data.

use crate::likelihood::{Likelihood, log_likelihoods};
use crate::saved::{DataArgs, Saved};
use clap::Args;
use flows_core::Result;
use flows_core::cli::{DeviceArgs, OutputArgs, count, print, print_json};
use serde_json::json;

/// Tell how well a model fits data: the log-likelihood of the rows
///
/// Prints the mean log-likelihood in nats with its standard error, and the bits a dimension. Without
/// --data it evaluates the test rows of the run that the model comes from.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  flows eval runs/two-moons
  flows eval runs/iris --data new.csv
  flows eval model.safetensors --data prices.csv --context year,region --json")]
pub struct EvalArgs {
    /// The folder of a run, a model.safetensors, or hf://owner/repo/path
    model: String,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: EvalArgs) -> Result<()> {
    let device = args.device.open()?;
    let saved = Saved::open(&args.model, &device)?;
    let (rows, name) = saved.rows(&args.data, &device)?;
    let values = log_likelihoods(&saved.flow, &rows, args.output.quiet)?;
    let result = Likelihood::of(&values, saved.flow.config().features);
    if args.output.json {
        return print_json(&json!({ "model": saved.path, "data": name, "result": result }));
    }
    let Likelihood { rows, log_likelihood, standard_error, bits_per_dimension } = result;
    print(format_args!(
        "log-likelihood  {log_likelihood:.4} ± {standard_error:.4} nats  ({bits_per_dimension:.4} bits a dimension, \
         {} rows of {name})",
        count(rows)
    ))
}
