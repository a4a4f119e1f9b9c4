//! Evaluation of a Glow on images.

use crate::{Glow, GlowConfig};
use candle_core::Tensor;
use flows_core::data::images::{Images, shrink};
use flows_core::evaluate::{BitsPerDimension, in_chunks};
use flows_core::text::plural;
use flows_core::train::Ranks;
use flows_core::{Error, Result, Rng};
use serde::Serialize;
use std::fmt;

/// The number of images at a time.
const CHUNK: usize = 64;

/// The report of an evaluation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bits {
    /// The number of images.
    pub images: usize,
    /// The number of draws of the noise per image for the upper bound.
    pub draws: usize,
    /// Whether the noise is from a learnt dequantizer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub variational: bool,
    /// What the model is conditioned on, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<&'static str>,
    /// Over all values of the model's images, in [-1/2, 1/2].
    #[serde(flatten)]
    pub bits: BitsPerDimension,
    /// Bits per value that the images had before padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_unpadded_dimension: Option<f64>,
    /// The number of values per image before padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpadded_dimensions: Option<usize>,
}

impl Bits {
    /// The report on images with these log-densities, which are bounds by `draws` draws; the images had `unpadded`
    /// values before padding, if they were padded.
    pub fn of(glow: &Glow, values: &[f64], draws: usize, unpadded: Option<usize>) -> Self {
        let dimensions = glow.config().dims();
        let bits = BitsPerDimension::of(values, dimensions, |mean| glow.bits(mean));
        let unpadded = unpadded.filter(|unpadded| *unpadded != dimensions);
        Self {
            images: values.len(),
            draws,
            variational: glow.config().dequantizer.is_some(),
            given: match (glow.config().classes, glow.config().condition) {
                (Some(_), _) => Some("the class"),
                (_, Some(_)) => Some("the smaller image"),
                (None, None) => None,
            },
            bits,
            bits_per_unpadded_dimension: unpadded.map(|n| bits.bits_per_dimension * dimensions as f64 / n as f64),
            unpadded_dimensions: unpadded,
        }
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unpadded = self.bits_per_unpadded_dimension.zip(self.unpadded_dimensions);
        let unpadded = unpadded.map_or(String::new(), |(bits, n)| format!(", {bits:.4} over the {n} before padding"));
        let images = plural(self.images, "image");
        let bound = match (self.variational, self.draws) {
            (false, 1) => String::new(),
            (true, 1) => "; an upper bound by learnt noise".into(),
            (variational, draws) => {
                let noise = if variational { "learnt noise" } else { "uniform noise" };
                format!("; an upper bound by {draws} draws of {noise}")
            }
        };
        let given = self.given.map_or(String::new(), |given| format!(" given {given}"));
        let bits = self.bits;
        write!(f, "{bits} bits/dim{given} over {} colours{unpadded}  ({images}{bound})", bits.dimensions)
    }
}

/// The log-density of each image in nats, or its bound by `draws` draws of the noise from `rng`
/// ([`GlowDensity::bound`](crate::GlowDensity::bound)), bit for bit the same for any number of `ranks`, which divide
/// the images. `progress` is called with the number done, assuming that all ranks are equally fast.
///
/// # Errors
/// When the images have another shape than the model's, or a rank is gone.
pub fn log_likelihoods(
    glow: &Glow,
    images: &Images,
    draws: usize,
    rng: &mut Rng,
    ranks: &Ranks,
    mut progress: impl FnMut(usize),
) -> Result<Vec<f64>> {
    if images.shape() != glow.config().shape {
        let want = format!("the model's {:?}: give --size, and --grey if needed", glow.config().shape);
        return Err(Error::shape("an image", &images.shape(), want));
    }
    let done_of_all = |done: usize| progress(images.len().min(done * ranks.size()));
    ranks.divide(images.len(), CHUNK, |part| {
        // The noise is drawn as if for all images in order.
        glow.detached().skip_noise(part.start * draws, rng)?;
        let values = in_chunks(part.clone(), CHUNK, done_of_all, |chunk| {
            let chunk: Vec<u32> = chunk.map(|i| i as u32).collect();
            let colours = images.tensor(&chunk, || false)?;
            glow.detached().bound(&colours, context(glow, images, &chunk, &colours)?.as_ref(), draws, rng)
        })?;
        glow.detached().skip_noise((images.len() - part.end) * draws, rng)?;
        Ok(values)
    })
}

/// The context of these images with values `colours`: their classes, or the images at lower
/// resolution; none if the model is not conditional.
///
/// # Errors
/// When the images have no such class or size.
pub fn context(glow: &Glow, images: &Images, indices: &[u32], colours: &Tensor) -> Result<Option<Tensor>> {
    let GlowConfig { classes, condition, .. } = *glow.config();
    if let Some(condition) = condition {
        return glow.context_of(&shrink(colours, condition.scale)?).map(Some);
    }
    let classes = classes.map(|_| Ok(images.context(indices)?.to_device(glow.parameters().device())?));
    classes.transpose()
}
