//! The images to use with a saved model.

use candle_core::Tensor;
use clap::Args;
use flows_core::cli::{OutputArgs, SkipArgs, work_bar};
use flows_core::data::images::read_fitted;
use flows_core::run::{FoundImages, Saved};
use flows_core::{Error, Result, Rng};
use glow::Glow;
use glow::run::RunConfig;
use std::path::{Path, PathBuf};

/// Images encoded at once.
const CHUNK: usize = 32;

/// The images that a subcommand works on.
#[derive(Args, Debug)]
#[command(next_help_heading = "Images")]
pub struct ImageArgs {
    /// The images: digits, uci-digits, a folder, an IDX, .npy or .parquet file, or hf:// [default: the test images of
    /// the model's run]. They are scaled and cropped, or padded, like those of the run
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

/// One image file with integer values 0 to 255, (1, C, H, W).
pub fn image(saved: &Saved<Glow>, path: &Path) -> Result<Tensor> {
    let shape = saved.model.config().shape;
    read_fitted(path, &saved.fit::<RunConfig>(shape)?, shape[0])
}

/// Encodes image files, dequantized with noise from `rng`: images (N, C, H, W) and their latents (N, D).
pub fn encode(
    saved: &Saved<Glow>,
    files: &[PathBuf],
    class: Option<u32>,
    rng: &mut Rng,
    quiet: bool,
) -> Result<(Tensor, Tensor)> {
    let bar = work_bar(files.len(), "encoding", quiet || files.len() < 4 * CHUNK);
    let (mut images, mut noise) = (Vec::new(), Vec::new());
    for files in files.chunks(CHUNK) {
        let colours = files.iter().map(|path| image(saved, path)).collect::<Result<Vec<_>>>()?;
        let x = saved.model.dequantize(&Tensor::cat(&colours, 0)?, rng)?;
        noise.push(saved.model.latent(&x, class_of(&saved.model, class, files.len())?.as_ref())?.detach());
        images.push(x);
        bar.inc(files.len() as u64);
    }
    bar.finish_and_clear();
    Ok((Tensor::cat(&images, 0)?, Tensor::cat(&noise, 0)?))
}

/// A class as context of `rows` rows; it must be given if and only if the model has classes.
pub fn class_of(glow: &Glow, class: Option<u32>, rows: usize) -> Result<Option<Tensor>> {
    if let Some(condition) = glow.config().condition {
        return Err(Error::Config(format!(
            "the model enlarges images {} times: use it by glow super-resolve",
            condition.scale
        )));
    }
    match (glow.config().classes, class) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::Config("the model has no classes; omit --class".into())),
        (Some(classes), None) => {
            Err(Error::Config(format!("the model has {classes} classes: name one from 0 by --class")))
        }
        (Some(_), Some(class)) => Ok(Some(Tensor::full(class, (rows, 1), glow.parameters().device())?)),
    }
}
