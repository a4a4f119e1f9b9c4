//! `flows sample`: new rows.

use candle_core::{DType, Device, Tensor};
use clap::Args;
use flows_core::cli::{Columns, ModelArgs, check_draws, check_out, draw_rows, write_frame_rows, write_rows};
use flows_core::data::{Dataset, Frame, Table, read_frame};
use flows_core::flows::{TableConfig, TableModel};
use flows_core::run::Saved;
use flows_core::{Error, Result, Rng};
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
    /// The contexts, a .npy or .csv file with only the columns of the context
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// One context, as the names of its columns with their values
    #[arg(long, value_name = "COLUMN=VALUE", value_delimiter = ',', conflicts_with = "context")]
    given: Vec<String>,
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
    let saved = Saved::open(&args.model, TableModel::load)?;
    let (flow, config) = (&saved.model, saved.model.config());
    let context = contexts(flow, &args)?;
    let rows = context.as_ref().map_or(Ok(args.count.unwrap_or(1000)), |c| c.dim(0))?;
    check_draws(rows, config.features(), "row")?;
    let (rng, quiet) = (&mut Rng::seed(args.seed), args.model.output.quiet);
    let data = draw_rows(flow, rows, context.as_ref(), &saved.device, rng, quiet)?;
    let (out, about) = (args.out.as_deref(), json!({ "model": saved.path, "seed": args.seed }));
    match config {
        TableConfig::Mixed(mixed) => write_frame_rows(&mixed.decode(&data)?, out, about, args.model.output),
        TableConfig::Flow(_) => {
            let table = Table { columns: config.columns().map(<[String]>::to_vec), data };
            write_rows(&table, out, about, args.model.output)
        }
    }
}

/// The contexts, one row per draw, on the CPU.
fn contexts(model: &TableModel, args: &SampleArgs) -> Result<Option<Tensor>> {
    let (config, columns) = (model.config(), Columns::from(model.config()));
    let (frame, name) = match (columns.context, &args.context) {
        (0, None) if args.given.is_empty() => return Ok(None),
        (0, _) => return Err(Error::Config("the model has no context; omit --context and --given".into())),
        (_, Some(path)) => (read_frame(path)?, path.display().to_string()),
        (_, None) if !args.given.is_empty() => (Frame::of_assignments(&args.given)?, "--given".to_string()),
        (width, None) => {
            let names = columns.context_names.map_or(String::new(), |names| format!(" (`{}`)", names.join("`, `")));
            return Err(Error::Config(format!(
                "the model is conditional: give a file of its {width} context columns{names} by --context, or one context \
                 by --given COLUMN=VALUE"
            )));
        }
    };
    let named = |error| match error {
        Error::Data(message) => Error::Data(format!("{name}: {message}")),
        error => error,
    };
    let each = args.count.unwrap_or(1);
    if let TableConfig::Mixed(mixed) = config {
        return repeated(&mixed.contexts(&frame).map_err(named)?, each).map(Some);
    }
    let data = Dataset::whole(frame.numbers().map_err(named)?)?.to(DType::F32, &Device::Cpu).map_err(named)?;
    let (got, width) = (data.test.features(), columns.context);
    if got != width {
        return Err(Error::Data(format!(
            "{name} has {got} columns, but the model's context has {width}; give these alone"
        )));
    }
    repeated(&columns.context_of(&data.test.x, data.columns.as_deref(), &name)?, each).map(Some)
}

/// Each row so many times.
fn repeated(rows: &Tensor, each: usize) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    check_draws(count.saturating_mul(each), width, "row")?;
    Ok(rows.unsqueeze(1)?.repeat((1, each, 1))?.reshape((count * each, width))?)
}
