//! `flows score`: how unusual each row is.

use crate::config::RunConfig;
use clap::Args;
use flows_core::Result;
use flows_core::cli::{ModelArgs, check_out, count, write_scores};
use flows_core::data::Schema;
use flows_core::flows::TableModel;
use flows_core::run::{DataArgs, Reference, Saved};
use flows_core::train::Ranks;
use serde_json::json;
use std::path::PathBuf;

/// Find unusual rows: the log-likelihood of each, with p-values among rows that the model was not trained on
///
/// The reference is the n rows of the run for validation and testing, at most 10,000, whose scores are kept with the run.
/// For each row of the data, in order and counted from 1, there are:
///
/// - The percentile: the percentage of reference rows that are less likely, those that are as likely counting half.
///
/// - The p-value (1 + reference rows that are not more likely) / (n + 1): of rows like the reference, at most 5% have one
///   of at most 0.05. It is never below 1 / (n + 1).
///
/// - The typicality: the same for the distance of the log-likelihood from its mean, since in many dimensions a row may be
///   far more likely than all others, and unlike any.
///
/// - The least likely column: in a mixed table, that which is least likely given those before it. For a flow, whose density
///   is no product, that whose exchange for cells of 16 reference rows makes the row most likely, on the average; it is
///   named for rows with a p-value of at most 0.05, of those that are read at once the 1,000 most unusual, and for at most
///   128 columns.
///
/// A row of a mixed table with a word or a step that no row of training had is impossible: its log-likelihood is minus
/// infinity, and its least likely column is that of the value.
///
/// Without --out the table goes to standard output as CSV. A large .csv file is read, scored and written some rows at a
/// time.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  flows score runs/sensors --data today.csv --out scores.csv
  flows score runs/sensors --data today.csv | tail -n +2 | sort -t, -g -k2 | head    (the most unusual)
  flows score model.safetensors --data today.npy --reference held_out.npy --out scores.npy")]
pub struct ScoreArgs {
    /// The file to write, .npy or .csv
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// Compare with these rows instead of those that the run has held out
    #[arg(long, value_name = "D", help_heading = "Data")]
    reference: Option<String>,
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
    let schema = saved.model.config().schema().cloned().map(Schema::with_unknown);
    let (blocks, name) = args.data.blocks::<RunConfig>(&saved, schema.as_ref())?;
    let context = args.data.context.clone();
    let reference = match (&args.reference, Reference::beside(&saved.path, &saved.model)?) {
        (Some(data), _) => {
            let rows = DataArgs { data: Some(data.clone()), context }.rows::<RunConfig>(&saved)?.0;
            Reference::of(&saved.model, &rows, ranks, output.quiet)?
        }
        (None, Some(known)) => known,
        (None, None) => {
            let data = args.data.of_run::<RunConfig>(&saved, "held-out rows", "--reference")?.0;
            Reference::held_out(&saved.model, &data, ranks)?
        }
    };
    let mut scores = blocks.map(|rows| reference.scores_of(&saved.model, &rows?, ranks, output.quiet));
    if !ranks.is_first() {
        return scores.try_for_each(|scores| scores.map(drop));
    }
    let n = reference.len();
    output.note(format_args!(
        "compared with {} held-out rows: no p-value is below {:.2e}",
        count(n),
        1.0 / (n as f64 + 1.0)
    ));
    let about = json!({ "model": saved.path, "data": name, "reference_rows": n });
    write_scores(scores, args.out.as_deref(), &name, about, output)
}
