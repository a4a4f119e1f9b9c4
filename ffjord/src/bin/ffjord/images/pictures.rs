//! Pictures of images.

use candle_core::{DType, Device, Tensor};
use ffjord::ImageModel;
use flows_core::plot::image_grid;
use flows_core::{Error, Result, Rng};
use image::RgbImage;

/// Samples side by side, in rows of `columns`.
pub fn samples(model: &ImageModel, count: usize, columns: usize, rng: &mut Rng) -> Result<RgbImage> {
    picture(&model.detached().decode(&noise(model, count, rng)?)?, columns)
}

/// What samples are made of, (`count`, D).
pub fn noise(model: &ImageModel, count: usize, rng: &mut Rng) -> Result<Tensor> {
    let parameters = model.parameters();
    rng.normal_tensor((count, model.config().dims()), parameters.dtype(), parameters.device())
}

/// Images of the model side by side, each colour the lower end of its bin, stretched to reach 1.
pub fn picture(images: &Tensor, columns: usize) -> Result<RgbImage> {
    if !matches!(images.dims(), [_, 1 | 3, _, _]) {
        return Err(Error::shape("images to be shown", images.dims(), "(N, 1, H, W) or (N, 3, H, W)"));
    }
    let values = images.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    // A comparison that NaN fails gives black.
    let level = |v: f32| if v > 0.0 { (v * 256.0).floor().min(255.0) / 255.0 } else { 0.0 };
    let values: Vec<f32> = values.into_iter().map(level).collect();
    image_grid(&Tensor::from_vec(values, images.shape(), &Device::Cpu)?, columns)
}
