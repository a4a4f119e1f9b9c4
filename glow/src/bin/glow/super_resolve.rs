//! `glow super-resolve`: larger images from small ones.

use crate::pictures::picture;
use crate::sample::{one_picture, save_single};
use crate::saved::{Saved, image_files};
use candle_core::{DType, Device, Tensor};
use clap::{Args, ValueEnum};
use flows_core::cli::{Mean, ModelArgs, check_out, check_temperature, plural, print, print_json, work_bar};
use flows_core::data::images::{Enlarging, Fit, Images, enlarge, read_image, shrink};
use flows_core::files::in_folder;
use flows_core::plot::write_png;
use flows_core::{Error, Result, Rng};
use glow::Glow;
use image::RgbImage;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Rows of the picture of a run, and answers in each.
const ROWS: usize = 8;
const ANSWERS: usize = 4;

/// The most answers to an image.
const MOST: usize = 1000;

/// Draw larger images that a small one may be of
///
/// For a model that `glow train --super-resolution` made. Each image becomes a row of the picture: the image enlarged
/// without more ado, by bicubic polynomials, --count answers and, --from high, the original. --from high takes images
/// of the size of the answers, which are first made smaller by the means of squares, as in training, and reports the
/// PSNR against them.
///
/// PSNR is 10 log10(255^2 / mean squared error) in decibels, of colours as they are written. The consistency is that
/// of the answers made smaller again against the small image. Low --temperature draws answers near to each other.
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
    /// What the images are: small ones, or such as the answers are to be
    #[arg(long, value_enum, default_value = "low")]
    from: From,
    /// Answers to each image
    #[arg(long, value_name = "N", default_value_t = 4, allow_negative_numbers = true)]
    count: usize,
    /// The standard deviation of the noise
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// What the draws derive from
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The picture to write (.png), or the folder for the answers alone
    #[arg(long, value_name = "PATH", default_value = "answers.png")]
    out: PathBuf,
}

/// The resolution of the images that are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    Low,
    High,
}

/// Decibels for an image.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    /// The mean over the answers.
    samples: Option<f64>,
    /// Of the mean of the answers.
    mean: Option<f64>,
    bicubic: Option<f64>,
    /// The mean over the answers, of the small image.
    consistency: f64,
    consistency_of_bicubic: f64,
}

/// A small image with all that comes of it, as whole colours: (1, C, h, w), the answers (N, C, H, W).
struct Answered {
    small: Tensor,
    bicubic: Tensor,
    answers: Tensor,
    original: Option<Tensor>,
}

pub fn run(args: SuperResolveArgs) -> Result<()> {
    let output = args.model.output;
    check_temperature(args.temperature)?;
    if !(1..=MOST).contains(&args.count) {
        return Err(Error::Config(format!("give --count from 1 to {MOST} answers")));
    }
    let saved = Saved::open(&args.model)?;
    let glow = &saved.glow;
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
                let original = saved.image(path)?;
                (shrink(&original, scale)?, Some(original))
            }
        };
        let answered = Answered::new(glow, small, original, args.count, args.temperature, &mut rng)?;
        figures.push(answered.figures(scale)?);
        if one_picture {
            rows.push(answered.row(scale)?);
        } else {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            for i in 0..args.count {
                let image = (answered.answers.narrow(0, i, 1)?.to_dtype(DType::F32)? / 255.0)?;
                save_single(&image, &in_folder(&args.out, &format!("{number:04}-{name}-{i}.png"))?)?;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if one_picture {
        write_png(&table(&rows)?, &args.out)?;
    }
    let over = |figure: fn(&Figures) -> Option<f64>| {
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
    if output.json {
        let each: Vec<_> = files.iter().zip(&figures).map(|(path, f)| json!({ "image": path, "psnr": f })).collect();
        let means: serde_json::Map<_, _> = lines.iter().map(|(name, mean)| (name.to_string(), json!(mean))).collect();
        return print_json(&json!({
            "model": saved.path, "scale": scale, "count": args.count, "temperature": args.temperature,
            "seed": args.seed, "psnr": means, "images": each, "out": args.out,
        }));
    }
    let about =
        ["PSNR of an answer", "of their mean", "of bicubic", "of answers made small again", "of bicubic likewise"];
    let lines = about.into_iter().zip(lines).filter_map(|(about, (_, mean))| Some((about, mean?)));
    let text: String = lines.map(|(about, mean)| format!("{about:28} {:.2} dB\n", mean.mean)).collect();
    let (answers, images) = (plural(args.count, "answer"), plural(files.len(), "image"));
    print(format_args!("{text}{:28} {}, {answers} to each of {images}", "written", args.out.display()))
}

/// How many times larger than the images that it is given the model's are.
fn scale(glow: &Glow) -> Result<usize> {
    let condition = glow.config().condition.ok_or_else(|| {
        Error::Config("the model is not given images: train one by glow train --super-resolution 4".into())
    })?;
    Ok(condition.scale)
}

/// A file of the size that the model is given, (1, C, h, w).
fn small_image(glow: &Glow, path: &Path) -> Result<Tensor> {
    let want = glow.config().condition_shape().unwrap_or(glow.config().shape);
    let (shape, values) = read_image(path)?;
    if shape[1..] != want[1..] {
        return Err(Error::file(
            path,
            format!(
                "is of {} x {}, the model is given images of {} x {}: scale it to that size, or give --from high where \
                 it is such as the answers are to be",
                shape[1], shape[2], want[1], want[2]
            ),
        ));
    }
    let fit = Fit { grey: want[0] == 1, ..Default::default() };
    let (shape, values) = fit.apply(shape, values)?;
    let values = if shape[0] < want[0] { values.repeat(want[0] / shape[0]) } else { values };
    Ok(Tensor::from_vec(values, (1, want[0], want[1], want[2]), &Device::Cpu)?)
}

impl Answered {
    fn new(
        glow: &Glow,
        small: Tensor,
        original: Option<Tensor>,
        count: usize,
        temperature: f64,
        rng: &mut Rng,
    ) -> Result<Self> {
        let given = glow.given(&small)?.repeat((count, 1, 1, 1))?;
        let x = glow.sample_at(temperature, count, Some(&given), rng)?;
        let bicubic = enlarge(&small, scale(glow)?, Enlarging::Bicubic)?;
        Ok(Self { small, bicubic, answers: colours(&x)?, original })
    }

    fn figures(&self, scale: usize) -> Result<Figures> {
        let count = self.answers.dim(0)?;
        let answers = (0..count).map(|i| Ok(self.answers.narrow(0, i, 1)?)).collect::<Result<Vec<_>>>()?;
        let mean_of = |psnr: &dyn Fn(&Tensor) -> Result<f64>| -> Result<f64> {
            Ok(answers.iter().map(psnr).sum::<Result<f64>>()? / count as f64)
        };
        let against = |original: &Tensor| -> Result<[f64; 3]> {
            let mean = self.answers.to_dtype(DType::F64)?.mean_keepdim(0)?;
            let samples = mean_of(&|answer| psnr(answer, original))?;
            Ok([samples, psnr(&mean, original)?, psnr(&self.bicubic, original)?])
        };
        let found = self.original.as_ref().map(against).transpose()?;
        let [samples, mean, bicubic] = [0, 1, 2].map(|i| found.map(|found| found[i]));
        Ok(Figures {
            samples,
            mean,
            bicubic,
            consistency: mean_of(&|answer| psnr(&shrink(answer, scale)?, &self.small))?,
            consistency_of_bicubic: psnr(&shrink(&self.bicubic, scale)?, &self.small)?,
        })
    }

    /// All side by side, (N, C, H, W).
    fn row(&self, scale: usize) -> Result<Tensor> {
        let enlarged = enlarge(&self.small, scale, Enlarging::Nearest)?;
        let parts: Vec<&Tensor> = [&enlarged, &self.bicubic, &self.answers].into_iter().chain(&self.original).collect();
        Ok(Tensor::cat(&parts, 0)?)
    }
}

/// Rows below each other.
fn table(rows: &[Tensor]) -> Result<RgbImage> {
    let columns = rows.first().map_or(Ok(1), |row| row.dim(0))?;
    picture(&(Tensor::cat(rows, 0)?.to_dtype(DType::F32)? / 255.0)?, columns)
}

/// The first images, each made smaller, and what the model makes of that.
pub fn page(glow: &Glow, images: &Images, temperature: f64, rng: &mut Rng) -> Result<RgbImage> {
    let scale = scale(glow)?;
    let row = |i: usize| -> Result<Tensor> {
        let original = images.tensor(&[i as u32], || false)?;
        let small = shrink(&original, scale)?;
        Answered::new(glow, small, Some(original), ANSWERS, temperature, rng)?.row(scale)
    };
    table(&(0..ROWS.min(images.len())).map(row).collect::<Result<Vec<_>>>()?)
}

/// The whole colours nearest to those of images of the model, not those of its bits alone.
fn colours(x: &Tensor) -> Result<Tensor> {
    let values = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    // A conversion takes NaN to black, and what is out of range to its end.
    let colour = |v: f64| ((v + 0.5) * 256.0 - 0.5).round() as u8;
    Ok(Tensor::from_vec(values.into_iter().map(colour).collect::<Vec<u8>>(), x.shape(), &Device::Cpu)?)
}

/// `10 log10(255^2 / mean squared error)`, at most that of a single error of 1 in a colour of these.
fn psnr(image: &Tensor, original: &Tensor) -> Result<f64> {
    let (image, original) = (image.to_dtype(DType::F64)?, original.to_dtype(DType::F64)?);
    let error = (image - &original)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
    Ok(10.0 * (255f64.powi(2) / error.max(1.0 / original.elem_count() as f64)).log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decibels_are_those_of_the_error() -> Result<()> {
        let a = Tensor::new(&[10u8, 200, 30, 40], &Device::Cpu)?;
        let b = Tensor::new(&[10u8, 205, 30, 40], &Device::Cpu)?;
        assert!((psnr(&b, &a)? - 10.0 * (65025.0 / 6.25f64).log10()).abs() < 1e-12);
        assert!((psnr(&a, &a)? - 10.0 * (65025.0 * 4.0f64).log10()).abs() < 1e-12);
        let wild = Tensor::new(&[-0.5f32, 0.0, 0.499, 9.0, f32::NAN], &Device::Cpu)?;
        assert_eq!(colours(&wild)?.to_vec1::<u8>()?, [0, 128, 255, 255, 0]);
        Ok(())
    }
}
