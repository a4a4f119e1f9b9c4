//! `glow sample`: new images.

use crate::pictures::{grid, picture};
use crate::saved::Saved;
use clap::Args;
use flows_core::cli::{ModelArgs, check_png, check_temperature, count, plural, print, print_json, work_bar};
use flows_core::files::in_folder;
use flows_core::plot::write_png;
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Images that are drawn at once.
const CHUNK: usize = 64;

/// The most images that one command draws.
const MOST: usize = 100_000;

/// Draw new images from a model
///
/// The same seed draws the same images. --temperature is the standard deviation of the noise: below 1 images are less
/// varied and often cleaner. --out names a picture of all images side by side (.png), or a folder for one file each. A
/// model with classes draws one a column, or --class alone.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  glow sample runs/digits --out digits.png
  glow sample runs/faces --count 16 --temperature 0.7 --seed 3 --out faces.png
  glow sample runs/faces --count 1000 --out faces/")]
pub struct SampleArgs {
    /// How many images to draw
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true)]
    count: usize,
    /// The standard deviation of the noise
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw images of this class alone, counted from 0
    #[arg(long, value_name = "C", allow_negative_numbers = true)]
    class: Option<u32>,
    /// Images in a row of the picture
    #[arg(long, value_name = "N")]
    columns: Option<usize>,
    /// What the draws derive from
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The picture to write, or the folder for single images
    #[arg(long, value_name = "PATH", default_value = "samples.png")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
}

/// Whether images go into one picture: else `out` is a folder.
pub fn one_picture(out: &Path) -> Result<bool> {
    let folder = out.is_dir() || out.extension().is_none();
    if !folder {
        check_png(out)?;
    }
    Ok(!folder)
}

pub fn run(args: SampleArgs) -> Result<()> {
    let output = args.model.output;
    check_temperature(args.temperature)?;
    if !(1..=MOST).contains(&args.count) || args.columns.is_some_and(|columns| !(1..=MOST).contains(&columns)) {
        return Err(Error::Config(format!("give --count and --columns from 1 to {}", count(MOST))));
    }
    let saved = Saved::open(&args.model)?;
    let (glow, mut rng) = (&saved.glow, Rng::seed(args.seed));
    let by_class = glow.config().classes.is_some() && args.class.is_none();
    if by_class && args.columns.is_some() {
        let message = "a model with classes draws one a column: leave out --columns, or name a --class";
        return Err(Error::Config(message.into()));
    }
    let columns = args.columns.unwrap_or(args.count.isqrt().max(1));
    let one_picture = one_picture(&args.out)?;
    let written = if one_picture && by_class {
        write_png(&grid(glow, args.temperature, args.count, columns, &mut rng)?, &args.out)?;
        1
    } else if one_picture {
        let context = saved.class(args.class, args.count)?;
        let x = glow.sample_at(args.temperature, args.count, context.as_ref(), &mut rng)?;
        write_png(&picture(&glow.quantize(&x)?, columns)?, &args.out)?;
        1
    } else {
        let bar = work_bar(args.count, "drawing", output.quiet);
        for start in (0..args.count).step_by(CHUNK) {
            let count = CHUNK.min(args.count - start);
            let x = glow.sample_at(args.temperature, count, saved.class(args.class, count)?.as_ref(), &mut rng)?;
            let images = glow.quantize(&x)?;
            for i in 0..count {
                let path = in_folder(&args.out, &format!("{:06}.png", start + i))?;
                save_single(&images.narrow(0, i, 1)?, &path)?;
            }
            bar.inc(count as u64);
        }
        bar.finish_and_clear();
        args.count
    };
    if output.json {
        return print_json(&json!({
            "model": saved.path, "images": args.count, "files": written, "temperature": args.temperature,
            "seed": args.seed, "out": args.out,
        }));
    }
    print(format_args!("{} drawn in {}", plural(args.count, "image"), args.out.display()))
}

/// Writes one image, (1, C, H, W) in [0, 1], in its own size.
pub fn save_single(image: &candle_core::Tensor, path: &std::path::Path) -> Result<()> {
    let (_, channels, height, width) = image.dims4()?;
    if !matches!(channels, 1 | 3) {
        return Err(Error::Data(format!("images of {channels} channels cannot be written: only those of 1 and 3 can")));
    }
    let values = image.flatten_all()?.to_vec1::<f32>()?;
    let at = |x: u32, y: u32| {
        let place = y as usize * width + x as usize;
        let colour = |c: usize| (values[c % channels * height * width + place] * 255.0).round() as u8;
        image::Rgb([colour(0), colour(1), colour(2)])
    };
    write_png(&image::RgbImage::from_fn(width as u32, height as u32, at), path)
}
