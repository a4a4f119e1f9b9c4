//! `glow eval`: the bits per dimension of images under a model.

use crate::saved::{ImageArgs, found};
use clap::Args;
use flows_core::cli::{ModelArgs, check_extension, check_out, print_or_json, with_bar};
use flows_core::data::images::Images;
use flows_core::evaluate::Mean;
use flows_core::files::write_atomically;
use flows_core::run::{FoundImages, ImageSettings, Saved};
use flows_core::train::Ranks;
use flows_core::{Error, Result, Rng};
use glow::run::RunConfig;
use glow::{Bits, Glow, log_likelihoods};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Evaluate how well a model fits images: the bits per dimension
///
/// Prints the mean over the images with its standard error. Each image is dequantized with noise drawn from --seed,
/// uniform or learnt by the model, so the figure is an upper bound on the bits of the discrete image. More --draws
/// tighten the bound (importance weighting). Without --data it evaluates the test images of the model's run.
///
/// --scores writes a line for each image: its bits, and their distance from the mean of the run's validation images
/// in standard deviations. An unusual image may take far fewer bits than the others as well as far more, so the size of
/// that deviation is what matters (Nalisnick et al., 2019, arXiv:1906.02994).
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  glow eval runs/digits
  glow eval runs/mnist --data mnist/ --json
  glow eval runs/mnist --data others/ --scores scores.csv")]
pub struct EvalArgs {
    /// Seed of the dequantization noise
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// Draws of the noise per image
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    draws: u32,
    /// Write the bits of each image, and how unusual they are, to this file
    #[arg(long, value_name = "FILE.csv")]
    scores: Option<PathBuf>,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// The log-density of each image, with noise drawn from `rng`.
pub fn evaluate(
    glow: &Glow,
    images: &Images,
    draws: usize,
    rng: &mut Rng,
    ranks: &Ranks,
    quiet: bool,
) -> Result<Vec<f64>> {
    with_bar(images.len(), "evaluating", quiet || images.len() < 512, |progress| {
        log_likelihoods(glow, images, draws, rng, ranks, progress)
    })
}

/// Writes a line for each image: its name, its bits, and their distance from the mean of `others` in standard
/// deviations.
fn write_scores(path: &Path, images: &Images, bits: &[f64], others: &[f64]) -> Result<()> {
    let Mean { mean, standard_error } = Mean::of(others);
    let deviation = standard_error * (others.len() as f64).sqrt();
    write_atomically(path, |file| {
        let mut file = std::io::BufWriter::new(file);
        let line = |(i, bits): (usize, &f64)| {
            let name = images.name(i).replace('"', "\"\"");
            format!("\"{name}\",{bits:.5},{:.3}\n", (bits - mean) / deviation)
        };
        let lines: String = bits.iter().enumerate().map(line).collect();
        let written = write!(file, "image,bits_per_dimension,deviations\n{lines}").and_then(|()| file.flush());
        written.map_err(|e| Error::unwritten(path, e))
    })
}

pub fn run(args: EvalArgs, ranks: &Ranks) -> Result<()> {
    let model = args.model.of(ranks)?;
    let output = model.output;
    let saved = Saved::open(&model, Glow::load)?;
    if let Some(scores) = &args.scores {
        check_extension(scores, "csv", "scores")?;
        check_out(scores, [&saved.path])?;
    }
    let FoundImages { images, name } = found(&saved, &args.images, output)?;
    let (glow, draws) = (&saved.model, args.draws as usize);
    let values_of = |images| evaluate(glow, images, draws, &mut Rng::seed(args.seed), ranks, output.quiet);
    let values = values_of(&images)?;
    let result = Bits::of(glow, &values, draws, images.unpadded());
    if let Some(path) = &args.scores {
        let run: Option<RunConfig> = saved.settings()?;
        let message = "has no config.toml beside it that says its images, to compare others with";
        let mut run = run.ok_or_else(|| Error::file(&saved.path, message))?;
        let others = values_of(&run.load(Some(&mut |_| {}))?.validation)?;
        let [bits, others] = [values, others].map(|v| v.into_iter().map(|v| glow.bits(v)).collect::<Vec<_>>());
        if ranks.is_first() {
            write_scores(path, &images, &bits, &others)?;
        }
    }
    if !ranks.is_first() {
        return Ok(());
    }
    let value = json!({ "model": saved.path, "data": name, "result": result });
    print_or_json(output, &value, format_args!("{} of {name}", result))
}
