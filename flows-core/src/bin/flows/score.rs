//! `flows score`: how unusual each row is.

use crate::config::RunConfig;
use crate::saved::{DataArgs, rows};
use clap::Args;
use flows_core::Result;
use flows_core::cli::{Columns, ModelArgs, Scores, check_out, log_likelihoods};
use flows_core::evaluate::percentiles;
use flows_core::flows::{TableConfig, TableDensity, TableModel};
use flows_core::run::Saved;
use flows_core::train::Ranks;
use serde_json::json;
use std::path::PathBuf;

/// Find unusual rows: the log-likelihood of each, and its percentile among the training rows
///
/// A row's percentile is the percentage of the training rows that the model finds less likely than the row, those that
/// are as likely counting half: 50 is ordinary, 0 is less likely than any training row. A model of mixed columns also
/// names the column that is the least likely one of its row given those before it, among the training rows. Without
/// --out the table goes to standard output as CSV, one line per row of the data, in order and counted from 1.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  flows score runs/sensors --data today.csv --out scores.csv
  flows score runs/sensors --data today.csv | tail -n +2 | sort -t, -g -k2 | head    (the most unusual)
  flows score model.safetensors --data today.npy --reference train.npy --out scores.npy")]
pub struct ScoreArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Compute percentiles among these rows instead of the training rows of the run
    #[arg(long, value_name = "D", help_heading = "Data")]
    reference: Option<String>,
    /// The file to write, .npy or .csv
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: ScoreArgs, ranks: &Ranks) -> Result<()> {
    let model = args.model.of(ranks)?;
    let output = model.output;
    if let Some(out) = &args.out {
        check_out(out, args.data.data.iter().chain(&args.reference))?;
    }
    let saved = Saved::open(&model, TableModel::load)?;
    let (scored, name) = rows(&saved, &args.data)?;
    let reference = match &args.reference {
        Some(data) => rows(&saved, &DataArgs { data: Some(data.clone()), context: args.data.context.clone() })?.0,
        None => {
            let load = |mut run: RunConfig| run.load(&saved.device);
            let data = saved.of_run("training rows", "--reference", load)?;
            Columns::from(saved.model.config()).of(&data, &data.train, "the training data")?
        }
    };
    let scores = log_likelihoods(&saved.model, &scored, ranks, output.quiet)?;
    let known = log_likelihoods(&saved.model, &reference, ranks, output.quiet)?;
    if !ranks.is_first() {
        return Ok(());
    }
    let least_likely = match (saved.model.config(), saved.model.detached()) {
        (TableConfig::Mixed(config), TableDensity::Mixed(density)) => {
            Some(config.least_likely(density, &scored, &reference)?)
        }
        _ => None,
    };
    let scores = Scores { percentile: percentiles(&scores, known), log_likelihood: scores, least_likely };
    scores.write(args.out.as_deref(), &name, json!({ "model": saved.path, "data": name }), output)
}
