//! `glow super-resolve`: larger images from small ones.

use crate::pictures::one_picture;
use crate::saved::images;
use candle_core::{DType, Tensor};
use clap::{Args, ValueEnum};
use flows_core::cli::{ModelArgs, check_out, plural, print_or_json, work_bar};
use flows_core::data::images::{Fit, Images, image_files, read_files, shrink};
use flows_core::evaluate::Mean;
use flows_core::files::in_folder;
use flows_core::plot::{image_grid, write_image, write_png};
use flows_core::run::{Saved, check_temperature};
use flows_core::{Error, Result, Rng};
use glow::{Answers, AnswersPsnr, Glow};
use image::RgbImage;
use serde_json::json;
use std::path::PathBuf;

/// Rows of the picture of a run, and answers per row.
const ROWS: usize = 8;
const ANSWERS: usize = 4;

/// The largest number of answers to an image.
const MOST: usize = 1000;

/// Draw larger images that a small image may come from
///
/// Needs a model trained by `glow train --super-resolution`. Each image becomes a row of the picture: the image with
/// square pixels, its bicubic enlargement, --count answers and, with --from high, the original. --from high takes
/// images of the size of the answers, which are first shrunk by averaging squares, as in training, and reports the PSNR
/// against them.
///
/// PSNR is 10 log10(255^2 / mean squared error) in decibels, for the values that are written. Consistency is the PSNR
/// of the answers, shrunk again, against the small image. A low --temperature draws answers that are close to each
/// other.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  glow super-resolve runs/sr small.png --count 4 --out answers.png
  glow super-resolve runs/sr photos/ --from high --temperature 0.5 --json
  glow super-resolve runs/sr small/ --out answers/")]
pub struct SuperResolveArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Image files, folders of them, or .txt files that list them
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// The resolution of the images: low to enlarge them, high to shrink them first and compare
    #[arg(long, value_enum, default_value = "low")]
    from: From,
    /// Number of answers to each image
    #[arg(long, value_name = "N", default_value_t = 4, allow_negative_numbers = true)]
    count: usize,
    /// The standard deviation of the noise
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The picture to write (.png), or a folder for the answers only
    #[arg(long, value_name = "PATH", default_value = "answers.png")]
    out: PathBuf,
}

/// The resolution of the given images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    Low,
    High,
}

pub fn run(args: SuperResolveArgs) -> Result<()> {
    let output = args.model.output;
    check_temperature(args.temperature)?;
    if !(1..=MOST).contains(&args.count) {
        return Err(Error::Config(format!("give --count from 1 to {MOST} answers")));
    }
    let saved = Saved::open(&args.model, Glow::load)?;
    let glow = &saved.model;
    let scale = scale(glow)?;
    let files = image_files(&args.images)?;
    check_out(&args.out, &files)?;
    let mut rng = Rng::seed(args.seed);
    let bar = work_bar(files.len(), "drawing", output.quiet || files.len() < 8);
    let one_picture = one_picture(&args.out)?;
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for (number, path) in files.iter().enumerate() {
        let (small, original) = match args.from {
            From::Low => (small_image(glow, path)?, None),
            From::High => {
                let original = images(&saved, std::slice::from_ref(path), output.quiet)?.tensor(&[0], || false)?;
                (shrink(&original, scale)?, Some(original))
            }
        };
        let answers = Answers::draw(glow, small, original, (args.count, args.temperature), &mut rng)?;
        figures.push(answers.psnr()?);
        if one_picture {
            rows.push(answers.row()?);
        } else {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            for i in 0..args.count {
                let image = (answers.answers.narrow(0, i, 1)?.to_dtype(DType::F32)? / 255.0)?;
                write_image(&image, in_folder(&args.out, &format!("{number:04}-{name}-{i}.png"))?)?;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if one_picture {
        write_png(&table(&rows)?, &args.out)?;
    }
    let over = |figure: fn(&AnswersPsnr) -> Option<f64>| {
        let values: Vec<f64> = figures.iter().filter_map(figure).collect();
        (!values.is_empty()).then(|| Mean::of(&values))
    };
    let lines = [
        ("samples", over(|f| f.samples)),
        ("mean", over(|f| f.mean)),
        ("bicubic", over(|f| f.bicubic)),
        ("consistency", over(|f| Some(f.consistency))),
        ("consistency_of_bicubic", over(|f| Some(f.consistency_of_bicubic))),
    ];
    let each: Vec<_> = files.iter().zip(&figures).map(|(path, f)| json!({ "image": path, "psnr": f })).collect();
    let means: serde_json::Map<_, _> = lines.iter().map(|(name, mean)| (name.to_string(), json!(mean))).collect();
    let value = json!({
        "model": saved.path, "scale": scale, "count": args.count, "temperature": args.temperature,
        "seed": args.seed, "psnr": means, "images": each, "out": args.out,
    });
    let about = ["PSNR of an answer", "of their mean", "of bicubic", "of shrunk answers", "of shrunk bicubic"];
    let lines = about.into_iter().zip(lines).filter_map(|(about, (_, mean))| Some((about, mean?)));
    let text: String = lines.map(|(about, mean)| format!("{about:28} {:.2} dB\n", mean.mean)).collect();
    let (answers, images) = (plural(args.count, "answer"), plural(files.len(), "image"));
    let written = format!("{:28} {}, {answers} to each of {images}", "written", args.out.display());
    print_or_json(output, &value, text + &written)
}

/// The factor by which the model enlarges images.
fn scale(glow: &Glow) -> Result<usize> {
    let condition = glow.config().condition.ok_or_else(|| {
        Error::Config("the model does not enlarge images: train one by glow train --super-resolution 4".into())
    })?;
    Ok(condition.scale)
}

/// An image file of the size that the model enlarges, (1, C, h, w).
fn small_image(glow: &Glow, path: &PathBuf) -> Result<Tensor> {
    let want = glow.config().condition_shape().unwrap_or(glow.config().shape);
    let fit = Fit { grey: want[0] == 1, colour: want[0] == 3, ..Fit::default() };
    let image = read_files(std::slice::from_ref(path), &fit)?.tensor(&[0], || false)?;
    match image.dims()[2..] == want[1..] {
        true => Ok(image),
        false => Err(Error::file(
            path,
            format!(
                "is {} x {}, but the model enlarges images of {} x {}: scale it to that size, or give --from high if \
                 it has the size of the answers",
                image.dims()[2],
                image.dims()[3],
                want[1],
                want[2]
            ),
        )),
    }
}

/// Stacks rows into one picture.
fn table(rows: &[Tensor]) -> Result<RgbImage> {
    let columns = rows.first().map_or(Ok(1), |row| row.dim(0))?;
    image_grid(&(Tensor::cat(rows, 0)?.to_dtype(DType::F32)? / 255.0)?, columns)
}

/// A picture of the first images, each shrunk and enlarged again by the model.
pub fn page(glow: &Glow, images: &Images, temperature: f64, rng: &mut Rng) -> Result<RgbImage> {
    let scale = scale(glow)?;
    let row = |i: usize| -> Result<Tensor> {
        let original = images.tensor(&[i as u32], || false)?;
        Answers::draw(glow, shrink(&original, scale)?, Some(original), (ANSWERS, temperature), rng)?.row()
    };
    table(&(0..ROWS.min(images.len())).map(row).collect::<Result<Vec<_>>>()?)
}
