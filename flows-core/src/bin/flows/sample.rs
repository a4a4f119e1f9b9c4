//! `flows sample`: new rows.

use crate::saved::{Saved, whole};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use flows_core::cli::{ModelArgs, check_out, in_order, plural, print, print_json, work_bar};
use flows_core::data::{Source, Table, read_table, write_table};
use flows_core::distributions::draw;
use flows_core::flows::Flow;
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::PathBuf;

/// Rows that are drawn at once: bounds the memory beside that of the rows themselves.
const CHUNK: usize = 4096;

/// The most numbers that one command draws or is given as contexts: 4 GiB.
const MOST: usize = 1 << 30;

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
    /// How many rows to draw, for each row of the context if there is one [default: 1000, or 1 a row of context]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    count: Option<usize>,
    /// The contexts to draw under, a .npy or .csv file with the context's columns alone
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// What the draws derive from
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The file to write, .npy or .csv
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: SampleArgs) -> Result<()> {
    let ModelArgs { output, .. } = args.model;
    if let Some(out) = &args.out {
        check_out(out, &args.context)?;
    }
    let (saved, _) = Saved::of(&args.model)?;
    let context = contexts(&saved.flow, &args)?;
    let data = samples(&saved.flow, context.as_ref(), &args)?;
    let (rows, _) = data.dims2()?;
    let columns = saved.flow.config().columns.clone();
    if let Some(out) = &args.out {
        write_table(out, &Table { columns, data })?;
        return match output.json {
            true => print_json(&json!({ "model": saved.path, "rows": rows, "seed": args.seed, "out": out })),
            false => print(format_args!("{} drawn in {}", plural(rows, "row"), out.display())),
        };
    }
    if output.json {
        let samples = data.to_vec2::<f32>()?;
        let result = json!({
            "model": saved.path, "rows": rows, "seed": args.seed, "columns": columns, "samples": samples,
        });
        return print_json(&result);
    }
    print(Table { columns, data }.to_csv()?.trim_end())
}

/// The contexts, one row a draw, on the CPU.
fn contexts(flow: &Flow, args: &SampleArgs) -> Result<Option<Tensor>> {
    let config = flow.config();
    match (config.context, &args.context) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::Config("the model has no context; leave out --context".into())),
        (Some(width), None) => {
            let message = format!("the model is conditional: give a file of {width} context columns by --context");
            Err(Error::Config(message))
        }
        (Some(width), Some(path)) => {
            let data = whole(read_table(path)?)?;
            let data = data.to(DType::F32, &Device::Cpu).map_err(Source::Table(path.clone()).named())?;
            let (rows, got) = data.test.x.dims2()?;
            if got != width {
                let message = format!("has {got} columns, but the model's context has {width}; give these alone");
                return Err(Error::file(path, message));
            }
            let (names, wanted) = (data.columns.as_deref(), config.context_columns.as_deref());
            let context = in_order(&data.test.x, names, wanted, &path.display().to_string())?;
            let each = args.count.unwrap_or(1);
            check_size(rows.saturating_mul(each), width)?;
            Ok(Some(context.unsqueeze(1)?.repeat((1, each, 1))?.reshape((rows * each, width))?))
        }
    }
}

/// Passes if so many rows can be had.
fn check_size(rows: usize, width: usize) -> Result<()> {
    match rows.checked_mul(width) {
        Some(1..=MOST) => Ok(()),
        Some(0) => Err(Error::Config("0 rows are wanted; give --count at least 1".into())),
        _ => Err(Error::Config(format!(
            "that is too much for one command: draw at most {} in all, more with other --seed",
            plural(MOST / width, "row")
        ))),
    }
}

/// The draws, on the CPU.
fn samples(flow: &Flow, context: Option<&Tensor>, args: &SampleArgs) -> Result<Tensor> {
    let rows = context.map_or(Ok(args.count.unwrap_or(1000)), |c| c.dim(0))?;
    check_size(rows, flow.config().features)?;
    let mut rng = Rng::seed(args.seed);
    let bar = work_bar(rows, "drawing", args.model.output.quiet || rows < 100 * CHUNK);
    let mut parts = Vec::new();
    for start in (0..rows).step_by(CHUNK) {
        let length = CHUNK.min(rows - start);
        let device = flow.parameters().device();
        let context = context.map(|c| c.narrow(0, start, length)?.contiguous()?.to_device(device)).transpose()?;
        let drawn = draw(flow, length, context.as_ref(), &mut rng)?;
        parts.push(drawn.to_device(&Device::Cpu)?.to_dtype(DType::F32)?);
        bar.inc(length as u64);
    }
    bar.finish_and_clear();
    Ok(Tensor::cat(&parts, 0)?)
}
