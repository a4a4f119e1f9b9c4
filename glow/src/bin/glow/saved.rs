//! The images that go with a model that was saved.

use candle_core::Tensor;
use clap::Args;
use flows_core::cli::{OutputArgs, SkipArgs, work_bar};
use flows_core::data::images::{Fit, Framing, ImageSource, Images, read_fitted};
use flows_core::run::Saved;
use flows_core::{Error, Result, Rng};
use glow::Glow;
use glow::run::RunConfig;
use std::path::{Path, PathBuf};

/// Images whose noise is found at once.
const CHUNK: usize = 32;

/// The images that a subcommand works on.
#[derive(Args, Debug)]
#[command(next_help_heading = "Images")]
pub struct ImageArgs {
    /// The images: digits, uci-digits, a folder, an IDX, .npy or .parquet file, or hf://; those that the model was
    /// tested on unless given. They are scaled and cropped, or padded, as those of the run were
    #[arg(long, value_name = "D")]
    pub data: Option<String>,
    #[command(flatten)]
    pub skip: SkipArgs,
}

/// Images, what to call them, and how many colours they had before they were padded.
pub struct Found {
    pub images: Images,
    pub name: String,
    pub unpadded: Option<usize>,
}

/// What images are to be like for the model.
fn fit(saved: &Saved<Glow>) -> Result<Fit> {
    let framing = saved.settings()?.map_or(Framing::Crop, |run: RunConfig| run.fit.framing);
    Ok(Fit::to(saved.model.config().shape, framing))
}

/// The images that `args` name.
pub fn found(saved: &Saved<Glow>, args: &ImageArgs, output: OutputArgs) -> Result<Found> {
    let Some(text) = &args.data else {
        return saved.of_run("test images", "--data", |run: RunConfig| {
            let images = args.skip.reading(output, |skip| run.load(skip))?.test;
            Ok(Found { images, name: format!("{} (test)", run.data), unpadded: run.data.unpadded(&run.fit)? })
        });
    };
    let (source, fit): (ImageSource, _) = (text.parse()?, fit(saved)?);
    let unpadded = source.unpadded(&fit)?;
    let mut images = args.skip.reading(output, |skip| source.test(&fit, skip))?;
    if let Some(names) = &saved.model.config().class_names {
        images = images.named(names).map_err(|e| Error::Data(format!("{text}: {e}")))?;
    }
    Ok(Found { images, name: text.clone(), unpadded })
}

/// One image file as colours 0 to 255, (1, C, H, W).
pub fn image(saved: &Saved<Glow>, path: &Path) -> Result<Tensor> {
    read_fitted(path, &fit(saved)?, saved.model.config().shape[0])
}

/// Image files as the model sees them, with noise of `rng` within the values of colours: images (N, C, H, W) and their
/// noise (N, D).
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

/// The class by its number as context of `rows` rows; an error unless it is given just where the model has classes.
pub fn class_of(glow: &Glow, class: Option<u32>, rows: usize) -> Result<Option<Tensor>> {
    if let Some(condition) = glow.config().condition {
        return Err(Error::Config(format!(
            "the model makes images {} times larger than those that it is given: use it by glow super-resolve",
            condition.scale
        )));
    }
    match (glow.config().classes, class) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::Config("the model has no classes; leave out --class".into())),
        (Some(classes), None) => {
            Err(Error::Config(format!("the model has {classes} classes: name one from 0 by --class")))
        }
        (Some(_), Some(class)) => Ok(Some(Tensor::full(class, (rows, 1), glow.parameters().device())?)),
    }
}
