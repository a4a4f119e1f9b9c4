//! Log-likelihoods of images.

use crate::ImageModel;
use flows_core::data::images::Images;
use flows_core::evaluate::noisy_log_likelihoods;
use flows_core::train::Ranks;
use flows_core::{Error, Result, Rng};

/// The log-density of each of the first `count` images in nats, with noise and divergence estimates from `rng`, bit for
/// bit the same for any number of `ranks`, which divide the images. `progress` is called with the number done, assuming
/// that all ranks are equally fast.
///
/// # Errors
/// When the images have another shape than the model's, a solver fails, or a rank is gone.
pub fn log_likelihoods(
    model: &ImageModel,
    images: &Images,
    count: usize,
    rng: &mut Rng,
    ranks: &Ranks,
    progress: impl FnMut(usize),
) -> Result<Vec<f64>> {
    if images.shape() != model.config().shape {
        let want = format!("the model's {:?}: give --size, and --grey if needed", model.config().shape);
        return Err(Error::shape("an image", &images.shape(), want));
    }
    let (model, count) = (model.detached(), images.len().min(count));
    let skip = |images: usize, rng: &mut Rng| model.skip_noise(images, rng);
    noisy_log_likelihoods(count, rng, ranks, progress, skip, |part, rng| {
        let indices: Vec<u32> = part.map(|i| i as u32).collect();
        model.score(&model.dequantize(&images.tensor(&indices, || false)?, rng)?, rng)
    })
}
