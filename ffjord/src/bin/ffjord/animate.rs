//! `ffjord animate`: the way from the base to the data.

use crate::images;
use crate::saved::Saved;
use candle_core::{DType, Device, Tensor};
use clap::Args;
use flows_core::cli::{ModelArgs, plural, print, print_json, work_bar};
use flows_core::plot::{Colour, Figure, Grid, Panel, points, window, write_gif};
use flows_core::{Error, Result, Rng};
use image::RgbImage;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Points of the density on each side.
const SIDE: usize = 100;
/// Seconds for which the first and the last frame stay.
const REST: f64 = 1.2;

/// Show density and particles, or images, as they flow from the base to the data, as an animated GIF
///
/// The first frame is the base, the last the model; both stay for a moment. For models over the plane, and for models
/// of images, which are shown side by side as they form out of noise.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ffjord animate runs/pinwheel --out pinwheel.gif
  ffjord animate runs/pinwheel --frames 60 --particles 500 --out flow.gif")]
pub struct AnimateArgs {
    /// The file to write, .gif
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Frames of the way
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub frames: u32,
    /// Frames a second
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub rate: u32,
    /// Particles, 1500 unless given; of a model of images the images, 36 unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub particles: Option<u32>,
    /// What the particles derive from
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
    #[command(flatten)]
    pub model: ModelArgs,
}

pub fn run(args: AnimateArgs) -> Result<()> {
    if args.out.extension().is_none_or(|e| !e.eq_ignore_ascii_case("gif")) {
        return Err(Error::file(&args.out, "an animation is written as .gif; give the file this extension"));
    }
    if images::is_model(&args.model)? {
        return images::animate(args);
    }
    let output = args.model.output;
    let (saved, device) = Saved::open(&args.model)?;
    let Saved { model, path } = &saved;
    if model.config().features != 2 {
        let message = format!("is a model over {} columns; only one over 2 can be drawn", model.config().features);
        return Err(Error::file(path, message));
    }
    let shares: Vec<f64> = (0..args.frames).map(|i| f64::from(i) / f64::from(args.frames - 1)).collect();
    let z = Rng::seed(args.seed).normal_tensor((args.particles.unwrap_or(1500) as usize, 2), DType::F32, &device)?;
    let states = model.path(&z, &shares)?;
    let (first, last) = (states.first().unwrap_or(&z), states.last().unwrap_or(&z));
    let window = window(&points(&Tensor::cat(&[first, last], 0)?)?, true);
    let grid = Grid::new(window[0], window[1], SIDE)?;
    let at = grid.points(DType::F32, &device)?;
    let bar = work_bar(shares.len(), "drawing", output.quiet);
    let mut frames = Vec::with_capacity(shares.len());
    for (share, state) in shares.iter().zip(&states) {
        let log_prob = model.log_prob_at(&at, *share)?.detach().to_device(&Device::Cpu)?;
        let panel = |title: &str| {
            let [x, y] = window;
            Panel::new(title).x_range(x.0, x.1).y_range(y.0, y.1).equal_aspect().without_ticks()
        };
        let figure = Figure::new(2, (260, 276))
            .panel(panel("density").density(grid.density(&log_prob)?))
            .panel(panel("particles").scatter(&points(state)?, Colour::BLUE, 0.9, 0.6));
        frames.push(figure.image(1.0)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    write(&args.out, frames, f64::from(args.rate))?;
    let frames = plural(shares.len(), "frame");
    match output.json {
        true => print_json(&json!({ "model": path, "frames": shares.len(), "out": args.out })),
        false => print(format_args!("{frames} drawn in {}", args.out.display())),
    }
}

/// Writes the frames, `rate` a second, to be repeated without end.
pub fn write(path: &Path, frames: Vec<RgbImage>, rate: f64) -> Result<()> {
    let last = frames.len() - 1;
    let shown = |i: usize| Duration::from_secs_f64(if i == 0 || i == last { REST } else { 1.0 / rate });
    write_gif(frames.into_iter().enumerate().map(|(i, frame)| Ok((frame, shown(i)))), path)
}
