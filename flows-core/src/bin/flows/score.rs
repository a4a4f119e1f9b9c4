//! `flows score`: how unusual each row is.

use crate::config::RunConfig;
use crate::saved::{DataArgs, columns, rows};
use candle_core::{Device, Tensor};
use clap::Args;
use flows_core::Result;
use flows_core::cli::{ModelArgs, check_out, log_likelihoods, plural, print, print_json};
use flows_core::data::{Table, write_table};
use flows_core::flows::TableModel;
use flows_core::run::Saved;
use flows_core::train::Ranks;
use serde_json::json;
use std::path::PathBuf;

/// Find unusual rows: the log-likelihood of each, and its percentile among the training rows
///
/// A row's percentile is the percentage of the training rows that the model finds less likely
/// than the row: 50 is ordinary, 0 is less likely than any training row. Without --out
/// the table goes to standard output as CSV, one line per row of the data, in order and counted from 1.
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
            columns(&saved.model).of(&data, &data.train, "the training data")?
        }
    };
    let scores = log_likelihoods(&saved.model, &scored, ranks, output.quiet)?;
    let mut known = log_likelihoods(&saved.model, &reference, ranks, output.quiet)?;
    if !ranks.is_first() {
        return Ok(());
    }
    known.sort_unstable_by(f64::total_cmp);
    let percentile = |score: &f64| 100.0 * known.partition_point(|k| k < score) as f64 / known.len() as f64;
    let percentiles: Vec<f64> = scores.iter().map(percentile).collect();
    let lines = scores.iter().zip(&percentiles).enumerate().map(|(i, (s, p))| vec![(i + 1) as f64, *s, *p]);
    let columns = Some(["row", "log_likelihood", "percentile"].map(String::from).to_vec());
    let table = Table { columns, data: Tensor::new(lines.collect::<Vec<_>>(), &Device::Cpu)? };
    if let Some(out) = &args.out {
        write_table(out, &table)?;
    }
    if output.json {
        let mut result = json!({ "model": saved.path, "data": name, "rows": scores.len(), "out": args.out });
        if args.out.is_none() {
            result["log_likelihood"] = json!(scores);
            result["percentile"] = json!(percentiles);
        }
        return print_json(&result);
    }
    match &args.out {
        Some(out) => print(format_args!("{} of {name} scored in {}", plural(scores.len(), "row"), out.display())),
        None => print(table.to_csv()?.trim_end()),
    }
}
