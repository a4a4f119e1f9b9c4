//! Pictures of images.

use candle_core::Tensor;
use flows_core::cli::check_extension;
use flows_core::plot::image_grid;
use flows_core::{Error, Result, Rng};
use glow::Glow;
use image::RgbImage;
use std::path::Path;

/// Samples in rows of `columns`; of a model with classes, a class a column, in order.
pub fn grid(glow: &Glow, temperature: f64, count: usize, columns: usize, rng: &mut Rng) -> Result<RgbImage> {
    let (columns, context) = match glow.config().classes {
        None => (columns, None),
        Some(classes) => {
            let columns = classes.min(count);
            let class = (0..count).map(|i| (i % columns) as u32).collect::<Vec<_>>();
            (columns, Some(Tensor::from_vec(class, (count, 1), glow.parameters().device())?))
        }
    };
    let x = glow.detached().sample_at(temperature, count, context.as_ref(), rng)?;
    picture(&glow.quantize(&x)?, columns)
}

/// Colours in [0, 1] side by side.
pub fn picture(images: &Tensor, columns: usize) -> Result<RgbImage> {
    match images.dims() {
        [_, 1 | 3, _, _] => image_grid(images, columns),
        [_, channels, ..] => {
            Err(Error::Data(format!("images of {channels} channels cannot be shown: only those of 1 and 3 can")))
        }
        got => Err(Error::shape("images", got, "(N, C, H, W)")),
    }
}

/// Whether images go into one picture: else `out` is a folder.
pub fn one_picture(out: &Path) -> Result<bool> {
    let folder = out.is_dir() || out.extension().is_none();
    if folder { Ok(false) } else { check_extension(out, "png", "pictures").map(|()| true) }
}
