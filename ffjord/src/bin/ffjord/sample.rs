//! `ffjord sample`: new rows.

use crate::images;
use crate::saved::Saved;
use candle_core::{DType, Device};
use clap::Args;
use flows_core::cli::{ModelArgs, plural, print, print_json};
use flows_core::data::{Table, write_table};
use flows_core::distributions::draw;
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::PathBuf;

/// Draw new rows or images from a model
///
/// The same seed draws the same rows. Without --out rows go to standard output as CSV, and images to samples.png.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ffjord sample runs/pinwheel --count 5000 --out pinwheel.npy
  ffjord sample runs/pinwheel --count 3 --seed 7")]
pub struct SampleArgs {
    /// How many rows or images to draw, 1000 rows or 64 images unless given
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub count: Option<usize>,
    /// The standard deviation of the noise that images are made of: below 1 they are likelier and vary less
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// What the draws derive from
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
    /// The file to write, .npy or .csv; of images the picture, .png
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
}

pub fn run(args: SampleArgs) -> Result<()> {
    if images::is_model(&args.model)? {
        return images::sample(args);
    }
    if args.temperature.is_some() {
        return Err(Error::Config("--temperature is for images: leave it out".into()));
    }
    let output = args.model.output;
    let (saved, _) = Saved::open(&args.model)?;
    let config = saved.model.config();
    let count = args.count.unwrap_or(1000);
    let most = (1 << 30) / config.features;
    if !(1..=most).contains(&count) {
        return Err(Error::Config(format!("draw 1 to {} by --count", plural(most, "row"))));
    }
    let data = draw(&saved.model, count, None, &mut Rng::seed(args.seed))?;
    let data = data.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let table = Table { columns: config.columns.clone(), data };
    match (&args.out, output.json) {
        (Some(out), json) => {
            write_table(out, &table)?;
            let (rows, seed) = (count, args.seed);
            if json {
                return print_json(&json!({ "model": saved.path, "rows": rows, "seed": seed, "out": out }));
            }
            print(format_args!("{} drawn in {}", plural(rows, "row"), out.display()))
        }
        (None, true) => print_json(&json!({
            "model": saved.path, "rows": count, "seed": args.seed, "columns": table.columns,
            "samples": table.data.to_vec2::<f32>()?,
        })),
        (None, false) => print(table.to_csv()?.trim_end()),
    }
}
