//! Pictures of several images.

use candle_core::Tensor;
use flows_core::cli::check_extension;
use flows_core::plot::image_grid;
use flows_core::{Result, Rng};
use glow::Glow;
use image::RgbImage;
use std::path::Path;

/// A picture of samples in rows of `columns`; for a model with classes, each column is a class, in order.
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
    image_grid(&glow.quantize(&x)?, columns)
}

/// Whether `out` is one picture for all images; otherwise it is a folder.
pub fn one_picture(out: &Path) -> Result<bool> {
    let folder = out.is_dir() || out.extension().is_none();
    if folder { Ok(false) } else { check_extension(out, "png", "pictures").map(|()| true) }
}
