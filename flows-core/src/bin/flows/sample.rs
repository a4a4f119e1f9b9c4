//! `flows sample`: new rows.

use crate::csv::print_csv;
use crate::saved::Saved;
use candle_core::{DType, Device, Tensor};
use clap::Args;
use flows_core::cli::{DeviceArgs, OutputArgs, count, print, print_json, work_bar};
use flows_core::data::{Table, read_table, write_table};
use flows_core::distributions::Distribution;
use flows_core::flows::Flow;
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::PathBuf;

/// Rows that are drawn at once: memory is bounded, whatever the count.
const CHUNK: usize = 4096;

/// Draw new rows from a model
///
/// The same seed draws the same rows. A conditional model draws --count rows for each row of --context,
/// one row's draws after the other's. Without --out the rows go to standard output as CSV.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  flows sample runs/two-moons --count 5000 --out moons.npy
  flows sample runs/two-moons --count 3
  flows sample runs/prices --context regions.csv --count 100 --seed 7 --out prices.csv")]
pub struct SampleArgs {
    /// The folder of a run, a model.safetensors, or hf://owner/repo/path
    model: String,
    /// How many rows to draw, for each row of the context if there is one [default: 1000, or 1 a row of context]
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// The contexts to draw under, a .npy or .csv file with the context's columns alone
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// What the draws derive from
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// The file to write, .npy or .csv
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: SampleArgs) -> Result<()> {
    let device = args.device.open()?;
    let saved = Saved::open(&args.model, &device)?;
    let context = contexts(&saved.flow, &args)?;
    let data = draw(&saved.flow, context.as_ref(), &args)?;
    let (rows, _) = data.dims2()?;
    let columns = saved.columns();
    if let Some(out) = &args.out {
        write_table(out, &Table { columns, data })?;
        return match args.output.json {
            true => print_json(&json!({ "model": saved.path, "rows": rows, "seed": args.seed, "out": out })),
            false => print(format_args!("{} rows drawn in {}", count(rows), out.display())),
        };
    }
    let values = data.to_vec2::<f32>()?;
    if args.output.json {
        let result = json!({
            "model": saved.path, "rows": rows, "seed": args.seed, "columns": columns, "samples": values,
        });
        return print_json(&result);
    }
    print_csv(columns.as_deref(), &values)
}

/// The contexts, one row a draw, on the CPU.
fn contexts(flow: &Flow, args: &SampleArgs) -> Result<Option<Tensor>> {
    match (flow.config().context, &args.context) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::Config("the model has no context; leave out --context".into())),
        (Some(width), None) => {
            let message = format!("the model is conditional: give a file of {width} context columns by --context");
            Err(Error::Config(message))
        }
        (Some(width), Some(path)) => {
            let context = read_table(path)?.data.to_dtype(DType::F32)?;
            let (rows, got) = context.dims2()?;
            if got != width {
                let message = format!("has {got} columns, but the model's context has {width}; give these alone");
                return Err(Error::file(path, message));
            }
            let each = args.count.unwrap_or(1);
            Ok(Some(context.unsqueeze(1)?.repeat((1, each, 1))?.reshape((rows * each, width))?))
        }
    }
}

/// The draws, on the CPU.
fn draw(flow: &Flow, context: Option<&Tensor>, args: &SampleArgs) -> Result<Tensor> {
    let rows = context.map_or(Ok(args.count.unwrap_or(1000)), |c| c.dim(0))?;
    if rows == 0 {
        return Err(Error::Config("0 rows are wanted; give --count at least 1".into()));
    }
    let mut rng = Rng::seed(args.seed);
    let bar = work_bar(rows, "drawing", args.output.quiet || rows < 100 * CHUNK);
    let mut parts = Vec::new();
    for start in (0..rows).step_by(CHUNK) {
        let length = CHUNK.min(rows - start);
        let device = flow.parameters().device();
        let context = context.map(|c| c.narrow(0, start, length)?.contiguous()?.to_device(device)).transpose()?;
        let drawn = flow.sample(length, context.as_ref(), &mut rng)?;
        parts.push(drawn.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?);
        bar.inc(length as u64);
    }
    bar.finish_and_clear();
    Ok(Tensor::cat(&parts, 0)?)
}
