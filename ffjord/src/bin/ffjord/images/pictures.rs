//! Samples of a model of images.

use candle_core::Tensor;
use ffjord::ImageModel;
use flows_core::plot::image_grid;
use flows_core::{Result, Rng};
use image::RgbImage;

/// A picture of samples, in rows of `columns`.
pub fn samples(model: &ImageModel, count: usize, columns: usize, rng: &mut Rng) -> Result<RgbImage> {
    image_grid(&model.quantize(&model.detached().decode(&noise(model, count, rng)?)?)?, columns)
}

/// Noise for `count` samples, (count, D).
pub fn noise(model: &ImageModel, count: usize, rng: &mut Rng) -> Result<Tensor> {
    let parameters = model.parameters();
    rng.normal_tensor((count, model.config().dims()), parameters.dtype(), parameters.device())
}
