//! Bits per dimension of images.

use super::model::BLOCK;
use crate::ImageModel;
use flows_core::data::images::Images;
use flows_core::evaluate::{BitsPerDimension, in_chunks};
use flows_core::text::plural;
use flows_core::train::Ranks;
use flows_core::{Error, Result, Rng};
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// Images at a time.
const CHUNK: usize = BLOCK;

/// The result of evaluating a model on images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ImageBits {
    /// The number of images.
    pub images: usize,
    /// Bits per dimension of images with 256 levels; the standard error includes the randomness of dequantization and
    /// of the divergence estimate.
    #[serde(flatten)]
    pub bits: BitsPerDimension,
}

impl ImageBits {
    /// The result for images with these log-densities, in nats.
    pub fn of(model: &ImageModel, values: &[f64]) -> Self {
        let bits = BitsPerDimension::of(values, model.config().dims(), |mean| model.bits(mean));
        Self { images: values.len(), bits }
    }
}

impl fmt::Display for ImageBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, bits } = self;
        write!(f, "{bits} bits/dim over {} colours  ({})", bits.dimensions, plural(*images, "image"))
    }
}

/// The log-density of each of the first `count` images in nats, noise and divergence drawn from `rng`, the same to the
/// bit whatever the number of `ranks`, which divide the images. `progress` is told how many are done, if all ranks are
/// as fast as this one.
///
/// # Errors
/// When the images have another shape than the model's, a solver cannot go on, or a rank is gone.
pub fn log_likelihoods(
    model: &ImageModel,
    images: &Images,
    count: usize,
    rng: &mut Rng,
    ranks: &Ranks,
    mut progress: impl FnMut(usize),
) -> Result<Vec<f64>> {
    if images.shape() != model.config().shape {
        let want = format!("the model's {:?}", model.config().shape);
        return Err(Error::shape("an image", &images.shape(), want));
    }
    let count = images.len().min(count);
    let done_of_all = |done: usize| progress(count.min(done * ranks.size()));
    ranks.divide(count, CHUNK, |part| {
        // Noise is that of all images, one after another.
        let skip = |images: Range<usize>, rng: &mut Rng| {
            images.clone().step_by(CHUNK).try_for_each(|i| model.detached().skip_noise(CHUNK.min(images.end - i), rng))
        };
        skip(0..part.start, rng)?;
        let values = in_chunks(part.clone(), CHUNK, done_of_all, |chunk| {
            let chunk: Vec<u32> = chunk.map(|i| i as u32).collect();
            model.detached().score(&model.dequantize(&images.tensor(&chunk, || false)?, rng)?, rng)
        })?;
        skip(part.end..count, rng)?;
        Ok(values)
    })
}
