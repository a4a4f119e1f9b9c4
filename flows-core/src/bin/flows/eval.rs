//! `flows eval`: the log-likelihood of data under a model.

use crate::config::RunConfig;
use clap::Args;
use flows_core::Result;
use flows_core::cli::{ModelArgs, log_likelihoods, print_or_json};
use flows_core::evaluate::Likelihood;
use flows_core::flows::TableModel;
use flows_core::run::{DataArgs, Saved};
use flows_core::train::Ranks;
use serde_json::json;

/// Evaluate how well a model fits data: the log-likelihood of the rows
///
/// Prints the mean log-likelihood in nats with its standard error, and the bits per dimension. Without
/// --data it evaluates the test rows of the model's run.
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

pub fn run(args: EvalArgs, ranks: &Ranks) -> Result<()> {
    let model = args.model.of(ranks)?;
    let output = model.output;
    let saved = Saved::open(&model, TableModel::load)?;
    let (rows, name) = args.data.rows::<RunConfig>(&saved)?;
    let values = log_likelihoods(&saved.model, &rows, ranks, output.quiet)?;
    if !ranks.is_first() {
        return Ok(());
    }
    let result = Likelihood::of(&values, saved.model.config().features());
    let value = json!({ "model": saved.path, "data": name, "result": result });
    print_or_json(output, &value, format_args!("log-likelihood  {}", result.text(&format!(" of {name}"))))
}
