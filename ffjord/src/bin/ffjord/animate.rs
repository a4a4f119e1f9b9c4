//! `ffjord animate`: the path from the base to the data.

use crate::images::noise;
use crate::kind::Kind;
use candle_core::{DType, Device, Tensor};
use clap::Args;
use ffjord::{ContinuousFlow, ImageModel};
use flows_core::cli::{ModelArgs, check_extension, plural, print_or_json, work_bar};
use flows_core::plot::{Colour, Figure, Grid, Panel, image_grid, points, window, write_gif};
use flows_core::run::Saved;
use flows_core::{Error, Result, Rng};
use image::RgbImage;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// The number of grid points of the density on each side.
const SIDE: usize = 100;
/// The time in seconds for which the first and the last frame are shown.
const REST: f64 = 1.2;

/// Animate how points and their density, or images, flow from the base to the data, as a GIF
///
/// The first frame shows the base, the last one the model; both are held for a moment. For models of points in the plane
/// and of images.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ffjord animate runs/pinwheel --out pinwheel.gif
  ffjord animate runs/pinwheel --frames 60 --particles 500 --out flow.gif
  ffjord animate runs/digits --particles 16 --out digits.gif")]
pub struct AnimateArgs {
    /// The file to write, .gif
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Number of frames
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub frames: u32,
    /// Frames per second
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub rate: u32,
    /// Number of points or images [default: 1500 points or 36 images]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub particles: Option<u32>,
    /// Seed of the points or images
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
    #[command(flatten)]
    pub model: ModelArgs,
}

pub fn run(args: AnimateArgs) -> Result<()> {
    check_extension(&args.out, "gif", "animations")?;
    let fractions: Vec<f64> = (0..args.frames).map(|i| f64::from(i) / f64::from(args.frames - 1)).collect();
    let (frames, path) = match Kind::of(&args.model)? {
        Kind::Images => of_images(&args, &fractions)?,
        _ => of_plane(&args, &fractions)?,
    };
    let shown = |i| if i == 0 || i + 1 == fractions.len() { REST } else { 1.0 / f64::from(args.rate) };
    let frames = frames.into_iter().enumerate().map(|(i, frame)| Ok((frame, Duration::from_secs_f64(shown(i)))));
    write_gif(frames, &args.out)?;
    let value = json!({ "model": path, "frames": fractions.len(), "out": args.out });
    let text = format!("{} drawn in {}", plural(fractions.len(), "frame"), args.out.display());
    print_or_json(args.model.output, &value, text)
}

fn of_plane(args: &AnimateArgs, fractions: &[f64]) -> Result<(Vec<RgbImage>, PathBuf)> {
    let Saved { model, path, device } = Saved::open(&args.model, ContinuousFlow::load)?;
    if model.config().features != 2 {
        let message = format!("is a model of {} columns; only one of 2 can be animated", model.config().features);
        return Err(Error::file(path, message));
    }
    let count = args.particles.unwrap_or(1500) as usize;
    let z = Rng::seed(args.seed).normal_tensor((count, 2), DType::F32, &device)?;
    let states = model.detached().path(&z, fractions)?;
    let (first, last) = (states.first().unwrap_or(&z), states.last().unwrap_or(&z));
    let [x, y] = window(&points(&Tensor::cat(&[first, last], 0)?)?, true);
    let grid = Grid::new(x, y, SIDE)?;
    let at = grid.points(DType::F32, &device)?;
    let bar = work_bar(fractions.len(), "drawing", args.model.output.quiet);
    let mut frames = Vec::with_capacity(fractions.len());
    for (fraction, state) in fractions.iter().zip(&states) {
        let log_prob = model.detached().log_prob_at(&at, *fraction)?.detach().to_device(&Device::Cpu)?;
        let panel = |title: &str| Panel::new(title).x_range(x.0, x.1).y_range(y.0, y.1).equal_aspect().without_ticks();
        let figure = Figure::new(2, (260, 276))
            .panel(panel("density").density(grid.density(&log_prob)?))
            .panel(panel("samples").scatter(&points(state)?, Colour::BLUE, 0.9, 0.6));
        frames.push(figure.image(1.0)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((frames, path))
}

fn of_images(args: &AnimateArgs, fractions: &[f64]) -> Result<(Vec<RgbImage>, PathBuf)> {
    let count = args.particles.unwrap_or(36) as usize;
    if count > 1024 {
        let message = format!("a picture of {count} images is too large: give --particles from 1 to 1,024");
        return Err(Error::Config(message));
    }
    let saved = Saved::open(&args.model, ImageModel::load)?;
    let states = saved.model.detached().path(&noise(&saved.model, count, &mut Rng::seed(args.seed))?, fractions)?;
    let frame = |state: &Tensor| image_grid(&saved.model.quantize(state)?, count.isqrt());
    let frames = states.iter().map(frame).collect::<Result<_>>()?;
    Ok((frames, saved.path))
}
