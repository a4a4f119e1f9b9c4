//! `flows eval`: how well a model fits data.

use crate::saved::{DataArgs, Saved};
use clap::Args;
use flows_core::Result;
use flows_core::cli::{Likelihood, ModelArgs, log_likelihoods, print, print_json};
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
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: EvalArgs) -> Result<()> {
    let ModelArgs { output, .. } = args.model;
    let (saved, device) = Saved::of(&args.model)?;
    let (rows, name) = saved.rows(&args.data, &device)?;
    let values = log_likelihoods(&saved.flow, &rows, output.quiet)?;
    let result = Likelihood::of(&values, saved.flow.config().features);
    if output.json {
        return print_json(&json!({ "model": saved.path, "data": name, "result": result }));
    }
    print(format_args!("log-likelihood  {}", result.text(&format!(" of {name}"))))
}
