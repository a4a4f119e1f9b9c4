//! `glow interpolate`: interpolates between images in latent space.

use crate::saved::encode;
use candle_core::Tensor;
use clap::Args;
use flows_core::cli::{ModelArgs, check_out, plural, print_or_json};
use flows_core::latent::{arc, circle};
use flows_core::plot::{image_grid, write_gif, write_png};
use flows_core::run::{Saved, check_temperature};
use flows_core::{Error, Result, Rng};
use glow::{Glow, class_context};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The duration of a frame.
const FRAME: Duration = Duration::from_millis(80);

/// Interpolate between images in latent space
///
/// With two images, the path is the arc between their latents. Without images, it is a circle through random latents,
/// --rows times, whose points are as likely as samples. --out names a strip (.png) or an animation (.gif).
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  glow interpolate runs/faces one.png another.png --out strip.png
  glow interpolate runs/digits --rows 6 --out paths.png
  glow interpolate runs/digits --frames 60 --out walk.gif")]
pub struct InterpolateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Two image files; without them the path is random
    #[arg(num_args = 2, value_names = ["FROM", "TO"])]
    images: Vec<PathBuf>,
    /// Number of images, including the first and the last
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true)]
    frames: usize,
    /// Number of random paths, one per row
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "images", allow_negative_numbers = true)]
    rows: usize,
    /// The standard deviation of the latents of a random path
    #[arg(long, value_name = "T", default_value_t = 0.8, conflicts_with = "images", allow_negative_numbers = true)]
    temperature: f64,
    /// The class of the images by its name, or its number from 0, for a model with classes
    #[arg(long, value_name = "C")]
    class: Option<String>,
    /// Seed of random paths
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The strip (.png) or the animation (.gif) to write
    #[arg(long, value_name = "FILE", default_value = "interpolation.png")]
    out: PathBuf,
}

pub fn run(args: InterpolateArgs) -> Result<()> {
    let output = args.model.output;
    check_temperature(args.temperature)?;
    if !(2..=10_000).contains(&args.frames) || !(1..=1000).contains(&args.rows) {
        return Err(Error::Config("give 2 to 10,000 --frames, and 1 to 1000 --rows".into()));
    }
    let extension = args.out.extension().map(|e| e.to_string_lossy().to_lowercase());
    let animated = match extension.as_deref() {
        Some("gif") => true,
        Some("png") => false,
        _ => return Err(Error::file(&args.out, "has neither the extension .png nor .gif; choose one of these")),
    };
    check_out(&args.out, &args.images)?;
    let saved = Saved::open(&args.model, Glow::load)?;
    let path = noise(&saved, &args, animated)?;
    let context = class_context(&saved.model, args.class.as_deref(), path.dim(0)?)?;
    let images = saved.model.quantize(&saved.model.detached().decode_all(&path, context.as_ref())?)?;
    if animated {
        animate(&images, args.rows, args.frames, &args.out)?;
    } else {
        write_png(&image_grid(&images, args.frames)?, &args.out)?;
    }
    let value = json!({ "model": saved.path, "frames": args.frames, "rows": args.rows, "out": args.out });
    print_or_json(output, &value, format_args!("{} in {}", plural(args.frames, "frame"), args.out.display()))
}

/// The latents of all frames, row by row.
fn noise(saved: &Saved<Glow>, args: &InterpolateArgs, animated: bool) -> Result<Tensor> {
    let mut rng = Rng::seed(args.seed);
    if let [_, _] = &args.images[..] {
        let (_, z) = encode(saved, &args.images, args.class.as_deref(), &mut rng, args.model.output.quiet)?;
        return Ok(Tensor::cat(&arc(&z.narrow(0, 0, 1)?, &z.narrow(0, 1, 1)?, args.frames)?, 0)?);
    }
    let (dims, parameters) = (saved.model.config().dims(), saved.model.parameters());
    let mut draw = || {
        let noise = |rng: &mut Rng| args.temperature * rng.normal();
        rng.tensor((1, dims), parameters.dtype(), parameters.device(), noise)
    };
    // An animation ends where it begins.
    let turns = if animated { 1.0 } else { 0.5 };
    let mut row = || circle([&draw()?, &draw()?], turns, args.frames);
    let rows = (0..args.rows).map(|_| row()).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&rows.concat(), 0)?)
}

/// Writes an endless animation of all rows.
fn animate(images: &Tensor, rows: usize, frames: usize, out: &Path) -> Result<()> {
    let page = |i: usize| {
        let now = (0..rows).map(|row| Ok(images.narrow(0, row * frames + i, 1)?)).collect::<Result<Vec<_>>>()?;
        Ok((image_grid(&Tensor::cat(&now, 0)?, rows.isqrt().max(1))?, FRAME))
    };
    write_gif((0..frames).map(page), out)
}
