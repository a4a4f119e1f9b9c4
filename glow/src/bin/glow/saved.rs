//! The images to use with a saved model.

use candle_core::Tensor;
use clap::Args;
use flows_core::cli::{OutputArgs, SkipArgs, work_bar};
use flows_core::data::images::{Images, read_files};
use flows_core::run::{FoundImages, Saved};
use flows_core::{Error, Result, Rng};
use glow::run::RunConfig;
use glow::{Glow, class_context};
use std::path::PathBuf;

/// Images encoded at once.
const CHUNK: usize = 32;

/// The images that a subcommand works on.
#[derive(Args, Debug)]
#[command(next_help_heading = "Images")]
pub struct ImageArgs {
    /// The images: digits, uci-digits, a folder, an IDX, .npy, .npz or .parquet file, or hf:// [default: the test
    /// images of the model's run]. They are scaled and cropped, or padded, like those of the run
    #[arg(long, value_name = "D")]
    pub data: Option<String>,
    #[command(flatten)]
    pub skip: SkipArgs,
}

/// The images that `args` name.
pub fn found(saved: &Saved<Glow>, args: &ImageArgs, output: OutputArgs) -> Result<FoundImages> {
    let config = saved.model.config();
    let mut found = saved.images::<RunConfig>(config.shape, args.data.as_deref(), args.skip, output)?;
    if let Some(names) = &config.class_names {
        let named = found.images.named(names);
        found.images = named.map_err(|e| Error::Data(format!("{}: {e}", found.name)))?;
    }
    Ok(found)
}

/// Image files, of the model's shape.
pub fn images(saved: &Saved<Glow>, files: &[PathBuf], quiet: bool) -> Result<Images> {
    let images = read_files(files, &saved.fit::<RunConfig>(saved.model.config().shape)?)?;
    SkipArgs::default().tell(OutputArgs { quiet, ..Default::default() }, &images.notes)?;
    Ok(images)
}

/// Encodes image files, dequantized with noise from `rng`: images (N, C, H, W) and their latents (N, D).
pub fn encode(
    saved: &Saved<Glow>,
    files: &[PathBuf],
    class: Option<&str>,
    rng: &mut Rng,
    quiet: bool,
) -> Result<(Tensor, Tensor)> {
    let bar = work_bar(files.len(), "encoding", quiet || files.len() < 4 * CHUNK);
    let (colours, indices) = (images(saved, files, quiet)?, (0..files.len() as u32).collect::<Vec<_>>());
    let (mut all, mut noise) = (Vec::new(), Vec::new());
    for part in indices.chunks(CHUNK) {
        let x = saved.model.dequantize(&colours.tensor(part, || false)?, rng)?;
        noise.push(saved.model.latent(&x, class_context(&saved.model, class, part.len())?.as_ref())?.detach());
        all.push(x);
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    Ok((Tensor::cat(&all, 0)?, Tensor::cat(&noise, 0)?))
}
