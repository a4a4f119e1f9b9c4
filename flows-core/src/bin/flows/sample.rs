//! `flows sample`: new rows.

use clap::Args;
use flows_core::cli::{ModelArgs, check_out, write_frame_rows, write_rows};
use flows_core::data::Table;
use flows_core::flows::{TableConfig, TableModel};
use flows_core::run::{ContextArgs, Saved};
use flows_core::{Result, Rng};
use serde_json::json;
use std::path::PathBuf;

/// Draw new rows from a model
///
/// The same seed draws the same rows. A conditional model draws --count rows for each row of --context, in order, or
/// for the one context that --given names. Without --out the rows go to standard output as CSV.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  flows sample runs/two-moons --count 5000 --out moons.npy
  flows sample runs/two-moons --count 3
  flows sample runs/prices --given year=2020,region=3 --count 100
  flows sample runs/prices --context regions.csv --count 100 --seed 7 --out prices.csv")]
pub struct SampleArgs {
    /// Number of rows to draw, for each row of the context if there is one [default: 1000, or 1 per row of context]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    count: Option<usize>,
    #[command(flatten)]
    context: ContextArgs,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The file to write, .npy or .csv
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: SampleArgs) -> Result<()> {
    if let Some(out) = &args.out {
        check_out(out, &args.context.context)?;
    }
    let saved = Saved::open(&args.model, TableModel::load)?;
    let (rng, config) = (&mut Rng::seed(args.seed), saved.model.config());
    let data = args.context.draw(&saved, args.count, rng, args.model.output.quiet)?;
    let (out, about) = (args.out.as_deref(), json!({ "model": saved.path, "seed": args.seed }));
    match config {
        TableConfig::Mixed(mixed) => write_frame_rows(&mixed.decode(&data)?, out, about, args.model.output),
        TableConfig::Flow(_) => {
            let table = Table { columns: config.columns().map(<[String]>::to_vec), data };
            write_rows(&table, out, about, args.model.output)
        }
    }
}
