//! `glow reconstruct`: images to noise and back.

use crate::saved::encode;
use candle_core::{DType, Tensor};
use clap::Args;
use flows_core::cli::{ModelArgs, check_extension, check_out, plural, print_or_json};
use flows_core::data::images::image_files;
use flows_core::plot::{image_grid, write_png};
use flows_core::run::Saved;
use flows_core::{Result, Rng};
use glow::{Glow, class_context};
use serde_json::json;
use std::path::PathBuf;

/// Turn images into noise and back, and report the largest error
///
/// Writes each image beside its reconstruction. The rounding error of the bijection should be far below the distance
/// between adjacent channel values.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  glow reconstruct runs/faces photo.png
  glow reconstruct runs/faces photos/ --out pairs.png --json")]
pub struct ReconstructArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Image files, folders of them, or .txt files that list them
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Seed of the dequantization noise
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The class of the images by its name, or its number from 0, for a model with classes
    #[arg(long, value_name = "C")]
    class: Option<String>,
    /// The picture to write
    #[arg(long, value_name = "FILE.png", default_value = "reconstructions.png")]
    out: PathBuf,
}

pub fn run(args: ReconstructArgs) -> Result<()> {
    let output = args.model.output;
    check_extension(&args.out, "png", "pictures")?;
    let saved = Saved::open(&args.model, Glow::load)?;
    let files = image_files(&args.images)?;
    check_out(&args.out, &files)?;
    let class = args.class.as_deref();
    let (x, z) = encode(&saved, &files, class, &mut Rng::seed(args.seed), output.quiet)?;
    let (glow, count) = (&saved.model, files.len());
    let back = glow.detached().decode_all(&z, class_context(glow, class, count)?.as_ref())?;
    let errors = (&x - &back)?.abs()?.flatten_from(1)?.max(1)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    // max would ignore a NaN.
    let worst = errors.iter().fold(0.0, |worst: f64, &e| if e > worst || e.is_nan() { e } else { worst });
    let pairs = Tensor::stack(&[glow.quantize(&x)?, glow.quantize(&back)?], 1)?.flatten(0, 1)?;
    write_png(&image_grid(&pairs, 2 * count.isqrt().max(1))?, &args.out)?;
    let each: Vec<_> = files.iter().zip(&errors).map(|(path, e)| json!({ "image": path, "error": e })).collect();
    let value = json!({ "model": saved.path, "images": each, "largest_error": worst, "out": args.out });
    let steps = worst * glow.config().bins();
    let text = format!(
        "largest error  {worst:.2e} of the range of a colour, {steps:.2e} of the step between its values, over {}\n\
         written        {}, each image before its reconstruction",
        plural(count, "image"),
        args.out.display()
    );
    print_or_json(output, &value, text)
}
