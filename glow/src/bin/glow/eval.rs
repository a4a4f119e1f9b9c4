//! `glow eval`: how well a model fits images.

use crate::config::context;
use crate::saved::{ImageArgs, ModelArgs};
use candle_core::DType;
use clap::Args;
use flows_core::cli::{Mean, plural, print, print_json, work_bar};
use flows_core::files::write_atomically;
use flows_core::{Error, Result, Rng};
use glow::Glow;
use glow::data::Images;
use serde::Serialize;
use serde_json::json;
use std::f64::consts::LN_2;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Images from one movement of the bar to the next.
const CHUNK: usize = 64;

/// Tell how well a model fits images: the bits a colour takes
///
/// Prints the mean over the images with its standard error; each image gets uniform noise of the width of a colour's
/// value, drawn from --seed, so the figure is a bound on the bits of the discrete image. Without --data it evaluates
/// the test images of the run that the model comes from.
///
/// --scores writes a line for each image: its bits, and how far they are from the mean of the run's validation images,
/// in their standard deviations. An image that is unlike the others may take far fewer bits than they do as well as far
/// more, so it is the size of that deviation that tells it (Nalisnick et al., 2019, arXiv:1906.02994).
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  glow eval runs/digits
  glow eval runs/mnist --data mnist/ --json
  glow eval runs/mnist --data others/ --scores scores.csv")]
pub struct EvalArgs {
    /// What the noise derives from
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// Write the bits of each image, and how unusual they are, to this file
    #[arg(long, value_name = "FILE.csv")]
    scores: Option<PathBuf>,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// What an evaluation reports.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bits {
    pub images: usize,
    /// The mean over the images, over all colours of the model's images.
    pub bits_per_dimension: f64,
    /// Of that mean.
    pub standard_error: f64,
    /// Colours of an image.
    pub dimensions: usize,
    /// The same over the colours that the images had before they were padded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_unpadded_dimension: Option<f64>,
    /// How many these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpadded_dimensions: Option<usize>,
    /// The mean log-density of the images as numbers in [-1/2, 1/2].
    pub log_likelihood: f64,
}

impl Bits {
    /// The report on images with these log-densities, which had `unpadded` colours before they were padded, if they
    /// were.
    pub fn of(glow: &Glow, values: &[f64], unpadded: Option<usize>) -> Self {
        let Mean { mean, standard_error } = Mean::of(values);
        let dimensions = glow.config().dims();
        let bits_per_dimension = glow.bits(mean);
        let unpadded = unpadded.filter(|unpadded| *unpadded != dimensions);
        Self {
            images: values.len(),
            bits_per_dimension,
            standard_error: standard_error / (dimensions as f64 * LN_2),
            dimensions,
            bits_per_unpadded_dimension: unpadded.map(|n| bits_per_dimension * dimensions as f64 / n as f64),
            unpadded_dimensions: unpadded,
            log_likelihood: mean,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let bits = Mean { mean: self.bits_per_dimension, standard_error: self.standard_error }.text();
        let unpadded = self.bits_per_unpadded_dimension.zip(self.unpadded_dimensions);
        let unpadded = unpadded.map_or(String::new(), |(bits, n)| format!(", {bits:.4} over the {n} before padding"));
        let images = plural(self.images, "image");
        format!("{bits} bits/dim over {} colours{unpadded}  ({images})", self.dimensions)
    }
}

/// The log-density of each of these images in nats, its noise drawn from `rng`.
pub fn log_likelihoods(glow: &Glow, images: &Images, indices: &[u32], rng: &mut Rng, quiet: bool) -> Result<Vec<f64>> {
    if images.shape() != glow.config().shape {
        let want = format!("the model's {:?}: give --size, and --grey if need be", glow.config().shape);
        return Err(Error::shape("an image", &images.shape(), want));
    }
    let bar = work_bar(indices.len(), "evaluating", quiet || indices.len() < 8 * CHUNK);
    let mut values = Vec::with_capacity(indices.len());
    for chunk in indices.chunks(CHUNK) {
        let colours = images.tensor(chunk, || false)?;
        let x = glow.dequantize(&colours, rng)?;
        let scores = glow.score(&x, context(glow, images, chunk, &colours)?.as_ref())?;
        values.extend(scores.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        bar.set_position(values.len() as u64);
    }
    bar.finish_and_clear();
    Ok(values)
}

fn bits_of(glow: &Glow, values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| glow.bits(*value)).collect()
}

/// A line for each image: its name, its bits, and their distance from the mean of `others` in deviations of these.
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

pub fn run(args: EvalArgs) -> Result<()> {
    let output = args.model.output;
    let saved = args.model.open()?;
    let found = saved.images(&args.images, output)?;
    let all: Vec<u32> = (0..found.images.len() as u32).collect();
    let values = log_likelihoods(&saved.glow, &found.images, &all, &mut Rng::seed(args.seed), output.quiet)?;
    let result = Bits::of(&saved.glow, &values, found.unpadded);
    if let Some(path) = &args.scores {
        let others = saved.validation()?;
        let all: Vec<u32> = (0..others.len() as u32).collect();
        let others = log_likelihoods(&saved.glow, &others, &all, &mut Rng::seed(args.seed), output.quiet)?;
        write_scores(path, &found.images, &bits_of(&saved.glow, &values), &bits_of(&saved.glow, &others))?;
    }
    if output.json {
        return print_json(&json!({ "model": saved.path, "data": found.name, "result": result }));
    }
    print(format_args!("{} of {}", result.text(), found.name))
}
