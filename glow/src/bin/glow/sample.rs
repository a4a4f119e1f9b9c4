//! `glow sample`: new images.

use crate::pictures::{grid, one_picture};
use clap::Args;
use flows_core::cli::{ModelArgs, check_draws, count, plural, print_or_json, work_bar};
use flows_core::files::in_folder;
use flows_core::plot::{image_grid, write_image, write_png};
use flows_core::run::{Saved, check_temperature};
use flows_core::{Error, Result, Rng};
use glow::{Glow, class_context};
use serde_json::json;
use std::path::PathBuf;

/// Images drawn at once.
const CHUNK: usize = 64;

/// The largest number of images that one command draws.
const MOST: usize = 100_000;

/// Draw new images from a model
///
/// The same seed draws the same images. --temperature is the standard deviation of the noise: below 1 images are less
/// varied and often cleaner. --out names one picture of all images (.png), or a folder for single files. A model with
/// classes draws one class per column, or only --class.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  glow sample runs/digits --out digits.png
  glow sample runs/faces --count 16 --temperature 0.7 --seed 3 --out faces.png
  glow sample runs/faces --count 1000 --out faces/")]
pub struct SampleArgs {
    /// Number of images to draw
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true)]
    count: usize,
    /// The standard deviation of the noise
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw only images of this class, by its name or its number from 0
    #[arg(long, value_name = "C")]
    class: Option<String>,
    /// Images per row of the picture
    #[arg(long, value_name = "N")]
    columns: Option<usize>,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The picture to write, or the folder for single images
    #[arg(long, value_name = "PATH", default_value = "samples.png")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: SampleArgs) -> Result<()> {
    let output = args.model.output;
    check_temperature(args.temperature)?;
    if !(1..=MOST).contains(&args.count) || args.columns.is_some_and(|columns| !(1..=MOST).contains(&columns)) {
        return Err(Error::Config(format!("give --count and --columns from 1 to {}", count(MOST))));
    }
    let saved = Saved::open(&args.model, Glow::load)?;
    let (glow, mut rng) = (&saved.model, Rng::seed(args.seed));
    let by_class = glow.config().classes.is_some() && args.class.is_none();
    if by_class && args.columns.is_some() {
        let message = "a model with classes draws one per column: omit --columns, or name a --class";
        return Err(Error::Config(message.into()));
    }
    let mut draw = |count: usize| {
        let context = class_context(glow, args.class.as_deref(), count)?;
        glow.quantize(&glow.detached().sample_at(args.temperature, count, context.as_ref(), &mut rng)?)
    };
    let columns = args.columns.unwrap_or(args.count.isqrt().max(1));
    let mut files = 1;
    if !one_picture(&args.out)? {
        files = args.count;
        let bar = work_bar(args.count, "drawing", output.quiet);
        for start in (0..args.count).step_by(CHUNK) {
            let count = CHUNK.min(args.count - start);
            let images = draw(count)?;
            for i in 0..count {
                let path = in_folder(&args.out, &format!("{:06}.png", start + i))?;
                write_image(&images.narrow(0, i, 1)?, path)?;
            }
            bar.inc(count as u64);
        }
        bar.finish_and_clear();
    } else {
        check_draws(args.count, glow.config().dims(), "image")?;
        let picture = match by_class {
            true => grid(glow, args.temperature, args.count, columns, &mut Rng::seed(args.seed))?,
            false => image_grid(&draw(args.count)?, columns)?,
        };
        write_png(&picture, &args.out)?;
    }
    let value = json!({
        "model": saved.path, "images": args.count, "files": files, "temperature": args.temperature,
        "seed": args.seed, "out": args.out,
    });
    let columns = if by_class && files == 1 { glow.config().class_list() } else { String::new() };
    let columns = if columns.is_empty() { columns } else { format!(", columns of {columns}") };
    let text = format!("{} drawn in {}{columns}", plural(args.count, "image"), args.out.display());
    print_or_json(output, &value, text)
}
