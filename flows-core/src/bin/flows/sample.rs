//! `flows sample`: new rows.

use crate::saved::columns;
use candle_core::{DType, Device, Tensor};
use clap::Args;
use flows_core::cli::{ModelArgs, check_draws, check_out, draw_rows, write_rows};
use flows_core::data::{Dataset, Source, Table, read_table};
use flows_core::flows::Flow;
use flows_core::run::Saved;
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::PathBuf;

/// Draw new rows from a model
///
/// The same seed draws the same rows. A conditional model draws --count rows for each row of --context,
/// in order. Without --out the rows go to standard output as CSV.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  flows sample runs/two-moons --count 5000 --out moons.npy
  flows sample runs/two-moons --count 3
  flows sample runs/prices --context regions.csv --count 100 --seed 7 --out prices.csv")]
pub struct SampleArgs {
    /// Number of rows to draw, for each row of the context if there is one [default: 1000, or 1 per row of context]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    count: Option<usize>,
    /// The contexts, a .npy or .csv file with only the columns of the context
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
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
        check_out(out, &args.context)?;
    }
    let saved = Saved::open(&args.model, Flow::load)?;
    let context = contexts(&saved.model, &args)?;
    let (flow, config) = (&saved.model, saved.model.config());
    let rows = context.as_ref().map_or(Ok(args.count.unwrap_or(1000)), |c| c.dim(0))?;
    check_draws(rows, config.features, "row")?;
    let (rng, quiet) = (&mut Rng::seed(args.seed), args.model.output.quiet);
    let data = draw_rows(flow, rows, context.as_ref(), &saved.device, rng, quiet)?;
    let table = Table { columns: config.columns.clone(), data };
    write_rows(&table, args.out.as_deref(), json!({ "model": saved.path, "seed": args.seed }), args.model.output)
}

/// The contexts, one row per draw, on the CPU.
fn contexts(flow: &Flow, args: &SampleArgs) -> Result<Option<Tensor>> {
    let (width, path) = match (flow.config().context, &args.context) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(Error::Config("the model has no context; omit --context".into())),
        (Some(width), None) => {
            let message = format!("the model is conditional: give a file of {width} context columns by --context");
            return Err(Error::Config(message));
        }
        (Some(width), Some(path)) => (width, path),
    };
    let data = Dataset::whole(read_table(path)?)?;
    let data = data.to(DType::F32, &Device::Cpu).map_err(Source::Table(path.clone()).named())?;
    let (rows, got) = data.test.x.dims2()?;
    if got != width {
        let message = format!("has {got} columns, but the model's context has {width}; give these alone");
        return Err(Error::file(path, message));
    }
    let source = path.display().to_string();
    let context = columns(flow).context_of(&data.test.x, data.columns.as_deref(), &source)?;
    let each = args.count.unwrap_or(1);
    check_draws(rows.saturating_mul(each), width, "row")?;
    Ok(Some(context.unsqueeze(1)?.repeat((1, each, 1))?.reshape((rows * each, width))?))
}
