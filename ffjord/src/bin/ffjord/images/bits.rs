//! The bits that a colour takes.

use ffjord::ImageModel;
use flows_core::cli::{in_chunks, plural};
use flows_core::data::images::Images;
use flows_core::evaluate::BitsPerDimension;
use flows_core::{Error, Result, Rng};
use serde::Serialize;
use std::fmt;

/// Images from one movement of the bar to the next: a block of the solver.
const CHUNK: usize = 64;

/// What an evaluation reports.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bits {
    pub images: usize,
    /// Of the images as numbers of [0, 1]; the error is that of the noise of images and of the divergence as well.
    #[serde(flatten)]
    pub bits: BitsPerDimension,
}

impl Bits {
    /// The report on images with these log-densities.
    pub fn of(model: &ImageModel, values: &[f64]) -> Self {
        let bits = BitsPerDimension::of(values, model.config().dims(), |mean| model.bits(mean));
        Self { images: values.len(), bits }
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, bits } = self;
        write!(f, "{bits} bits/dim over {} colours  ({})", bits.dimensions, plural(*images, "image"))
    }
}

/// The log-density of each of the first `count` images in nats, noise and divergence drawn from `rng`.
pub fn log_likelihoods(
    model: &ImageModel,
    images: &Images,
    count: usize,
    rng: &mut Rng,
    quiet: bool,
) -> Result<Vec<f64>> {
    if images.shape() != model.config().shape {
        let want = format!("the model's {:?}", model.config().shape);
        return Err(Error::shape("an image", &images.shape(), want));
    }
    in_chunks(images.len().min(count), CHUNK, quiet, |chunk| {
        model.score(&model.dequantize(&images.tensor(chunk, || false)?, rng)?, rng)
    })
}
