//! `glow eval`: how well a model fits images.

use crate::config::{RunConfig, context};
use crate::saved::{Found, ImageArgs, found};
use clap::Args;
use flows_core::cli::{ModelArgs, check_extension, check_out, in_chunks, plural, print_or_json};
use flows_core::data::images::Images;
use flows_core::evaluate::{BitsPerDimension, Mean};
use flows_core::files::write_atomically;
use flows_core::run::Saved;
use flows_core::{Error, Result, Rng};
use glow::Glow;
use serde::Serialize;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Images from one movement of the bar to the next.
const CHUNK: usize = 64;

/// Tell how well a model fits images: the bits a colour takes
///
/// Prints the mean over the images with its standard error; each image gets noise of the width of a colour's value,
/// uniform or as the model has learnt it, drawn from --seed, so the figure is an upper bound on the bits of the discrete
/// image. With more --draws the bound becomes tighter (importance weighting). Without --data it evaluates
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
    /// Draws of the noise of each image
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

/// What an evaluation reports.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bits {
    pub images: usize,
    /// Draws of the noise of an image, by which the figure is an upper bound.
    pub draws: usize,
    /// Whether the noise is that of a dequantizer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub variational: bool,
    /// What the model is given, if it is: the figure is of the images given that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<&'static str>,
    /// Over all colours of the model's images, as numbers in [-1/2, 1/2].
    #[serde(flatten)]
    pub bits: BitsPerDimension,
    /// The same over the colours that the images had before they were padded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_unpadded_dimension: Option<f64>,
    /// How many these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpadded_dimensions: Option<usize>,
}

impl Bits {
    /// The report on images with these log-densities, bounds by so many draws, which had `unpadded` colours before they
    /// were padded, if they were.
    pub fn of(glow: &Glow, values: &[f64], draws: usize, unpadded: Option<usize>) -> Self {
        let dimensions = glow.config().dims();
        let bits = BitsPerDimension::of(values, dimensions, |mean| glow.bits(mean));
        let unpadded = unpadded.filter(|unpadded| *unpadded != dimensions);
        Self {
            images: values.len(),
            draws,
            variational: glow.config().dequantizer.is_some(),
            given: match (glow.config().classes, glow.config().condition) {
                (Some(_), _) => Some("the class"),
                (_, Some(_)) => Some("the smaller image"),
                (None, None) => None,
            },
            bits,
            bits_per_unpadded_dimension: unpadded.map(|n| bits.bits_per_dimension * dimensions as f64 / n as f64),
            unpadded_dimensions: unpadded,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let unpadded = self.bits_per_unpadded_dimension.zip(self.unpadded_dimensions);
        let unpadded = unpadded.map_or(String::new(), |(bits, n)| format!(", {bits:.4} over the {n} before padding"));
        let images = plural(self.images, "image");
        let bound = match (self.variational, self.draws) {
            (false, 1) => String::new(),
            (true, 1) => "; an upper bound by learnt noise".into(),
            (variational, draws) => {
                let noise = if variational { "learnt noise" } else { "uniform noise" };
                format!("; an upper bound by {draws} draws of {noise}")
            }
        };
        let given = self.given.map_or(String::new(), |given| format!(" given {given}"));
        let bits = self.bits;
        format!("{bits} bits/dim{given} over {} colours{unpadded}  ({images}{bound})", bits.dimensions)
    }
}

/// The log-density of each of these images in nats, or rather its bound, the noise drawn from `rng`.
pub fn log_likelihoods(
    glow: &Glow,
    images: &Images,
    draws: usize,
    rng: &mut Rng,
    quiet: bool,
) -> Result<Vec<f64>> {
    if images.shape() != glow.config().shape {
        let want = format!("the model's {:?}: give --size, and --grey if need be", glow.config().shape);
        return Err(Error::shape("an image", &images.shape(), want));
    }
    in_chunks(images.len(), CHUNK, quiet || images.len() < 8 * CHUNK, |chunk| {
        let colours = images.tensor(chunk, || false)?;
        glow.bound(&colours, context(glow, images, chunk, &colours)?.as_ref(), draws, rng)
    })
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
    let saved = Saved::open(&args.model, Glow::load)?;
    if let Some(scores) = &args.scores {
        check_extension(scores, "csv", "scores")?;
        check_out(scores, [&saved.path])?;
    }
    let Found { images, name, unpadded } = found(&saved, &args.images, output)?;
    let (glow, draws) = (&saved.model, args.draws as usize);
    let evaluate = |images| log_likelihoods(glow, images, draws, &mut Rng::seed(args.seed), output.quiet);
    let values = evaluate(&images)?;
    let result = Bits::of(glow, &values, draws, unpadded);
    if let Some(path) = &args.scores {
        let run: Option<RunConfig> = saved.settings()?;
        let message = "has no config.toml beside it that says its images, to compare others with";
        let run = run.ok_or_else(|| Error::file(&saved.path, message))?;
        let others = evaluate(&run.load(Some(&mut |_| {}))?.validation)?;
        let [bits, others] = [values, others].map(|v| v.into_iter().map(|v| glow.bits(v)).collect::<Vec<_>>());
        write_scores(path, &images, &bits, &others)?;
    }
    let value = json!({ "model": saved.path, "data": name, "result": result });
    print_or_json(output, &value, format_args!("{} of {name}", result.text()))
}
