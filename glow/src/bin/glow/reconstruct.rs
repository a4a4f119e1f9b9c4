//! `glow reconstruct`: images to noise and back.

use crate::pictures::picture;
use crate::saved::{Saved, image_files};
use candle_core::{DType, Tensor};
use clap::Args;
use flows_core::cli::{ModelArgs, check_out, check_png, plural, print, print_json};
use flows_core::plot::write_png;
use flows_core::{Result, Rng};
use serde_json::json;
use std::path::PathBuf;

/// Turn images into noise and back, and report the largest error
///
/// Writes each image beside its reconstruction. What the bijection loses by rounding should be far below the step from
/// one value of a colour to the next.
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
    /// What the noise within a value of a colour derives from
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The class of the images, for a model with classes
    #[arg(long, value_name = "C", allow_negative_numbers = true)]
    class: Option<u32>,
    /// The picture to write
    #[arg(long, value_name = "FILE.png", default_value = "reconstructions.png")]
    out: PathBuf,
}

pub fn run(args: ReconstructArgs) -> Result<()> {
    let output = args.model.output;
    check_png(&args.out)?;
    let saved = Saved::open(&args.model)?;
    let files = image_files(&args.images)?;
    check_out(&args.out, &files)?;
    let images = files.iter().map(|path| saved.image(path)).collect::<Result<Vec<_>>>()?;
    let images = Tensor::cat(&images, 0)?;
    let count = images.dim(0)?;
    let (glow, context) = (&saved.glow, saved.class(args.class, count)?);
    let x = glow.dequantize(&images, &mut Rng::seed(args.seed))?;
    let z = glow.latent(&x, context.as_ref())?;
    let back = glow.decode(&z, context.as_ref())?;
    let errors = (&x - &back)?.abs()?.flatten_from(1)?.max(1)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    // max would pass over a NaN.
    let worst = errors.iter().fold(0.0, |worst: f64, &e| if e > worst || e.is_nan() { e } else { worst });
    let pairs = Tensor::stack(&[glow.quantize(&x)?, glow.quantize(&back)?], 1)?.flatten(0, 1)?;
    write_png(&picture(&pairs, 2 * count.isqrt().max(1))?, &args.out)?;
    if output.json {
        let each: Vec<_> = files.iter().zip(&errors).map(|(path, e)| json!({ "image": path, "error": e })).collect();
        return print_json(&json!({
            "model": saved.path, "images": each, "largest_error": worst, "out": args.out,
        }));
    }
    let steps = worst * glow.config().bins();
    print(format_args!(
        "largest error  {worst:.2e} of the range of a colour, {steps:.2e} of the step between its values, over {}\n\
         written        {}, each image before its reconstruction",
        plural(count, "image"),
        args.out.display()
    ))
}
