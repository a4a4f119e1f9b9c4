//! `ffjord sample`: new rows or images.

use crate::images::noise;
use crate::kind::Kind;
use clap::Args;
use ffjord::{ContinuousFlow, ImageModel};
use flows_core::cli::{ModelArgs, check_draws, check_extension, draw_rows, plural, print_or_json, write_rows};
use flows_core::data::Table;
use flows_core::plot::{image_grid, write_png};
use flows_core::run::{Saved, check_temperature};
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::PathBuf;

/// Draw new rows or images from a model
///
/// The same seed draws the same samples. Without --out, rows are printed as CSV and images are written to samples.png.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ffjord sample runs/pinwheel --count 5000 --out pinwheel.npy
  ffjord sample runs/pinwheel --count 3 --seed 7
  ffjord sample runs/digits --temperature 0.8 --out digits.png")]
pub struct SampleArgs {
    /// Number of samples [default: 1000 rows or 64 images]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub count: Option<usize>,
    /// The standard deviation of the noise of images: below 1 they are less varied and often cleaner [default: 1]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
    /// The file to write: .npy or .csv for rows, .png for a picture of the images
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
}

pub fn run(args: SampleArgs) -> Result<()> {
    if Kind::of(&args.model)? == Kind::Images { of_images(args) } else { of_rows(args) }
}

fn of_rows(args: SampleArgs) -> Result<()> {
    if args.temperature.is_some() {
        return Err(Error::Config("--temperature is for images: omit it".into()));
    }
    let saved = Saved::open(&args.model, ContinuousFlow::load)?;
    let config = saved.model.config();
    let count = args.count.unwrap_or(1000);
    check_draws(count, config.features, "row")?;
    let (rng, quiet) = (&mut Rng::seed(args.seed), args.model.output.quiet);
    let data = draw_rows(&saved.model, count, None, &saved.device, rng, quiet)?;
    let table = Table { columns: config.columns.clone(), data };
    write_rows(&table, args.out.as_deref(), json!({ "model": saved.path, "seed": args.seed }), args.model.output)
}

fn of_images(args: SampleArgs) -> Result<()> {
    let count = args.count.unwrap_or(64);
    if !(1..=100_000).contains(&count) {
        return Err(Error::Config("give --count from 1 to 100,000".into()));
    }
    let out = args.out.unwrap_or_else(|| PathBuf::from("samples.png"));
    check_extension(&out, "png", "pictures")?;
    let temperature = args.temperature.unwrap_or(1.0);
    check_temperature(temperature)?;
    let saved = Saved::open(&args.model, ImageModel::load)?;
    check_draws(count, saved.model.config().dims(), "image")?;
    let noise = (noise(&saved.model, count, &mut Rng::seed(args.seed))? * temperature)?;
    let images = saved.model.quantize(&saved.model.detached().decode(&noise)?)?;
    write_png(&image_grid(&images, count.isqrt())?, &out)?;
    let value = json!({
        "model": saved.path, "images": count, "temperature": temperature, "seed": args.seed, "out": out,
    });
    let text = format!("{} drawn in {}", plural(count, "image"), out.display());
    print_or_json(args.model.output, &value, text)
}
