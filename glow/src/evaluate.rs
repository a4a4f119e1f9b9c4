//! Evaluation of a Glow on images.

use crate::{Glow, GlowConfig};
use candle_core::Tensor;
use flows_core::data::images::{Images, shrink};
use flows_core::evaluate::{ImageBits, noisy_log_likelihoods};
use flows_core::train::Ranks;
use flows_core::{Error, Result, Rng};
use serde::Serialize;
use std::fmt;

/// The report of an evaluation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bits {
    /// The images, with values in [-1/2, 1/2], and their bits.
    #[serde(flatten)]
    pub images: ImageBits,
    /// The number of draws of the noise per image for the upper bound.
    pub draws: usize,
    /// Whether the noise is from a learnt dequantizer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub variational: bool,
    /// What the model is conditioned on, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<&'static str>,
}

impl Bits {
    /// The report on images with these log-densities, which are bounds by `draws` draws; the images had `unpadded`
    /// values before padding, if they were padded.
    pub fn of(glow: &Glow, values: &[f64], draws: usize, unpadded: Option<usize>) -> Self {
        Self {
            images: ImageBits::of(values, glow.config().dims(), unpadded, |mean| glow.bits(mean)),
            draws,
            variational: glow.config().dequantizer.is_some(),
            given: match (glow.config().classes, glow.config().condition) {
                (Some(_), _) => Some("the class"),
                (_, Some(_)) => Some("the smaller image"),
                (None, None) => None,
            },
        }
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = match (self.variational, self.draws) {
            (false, 1) => String::new(),
            (true, 1) => "; an upper bound by learnt noise".into(),
            (variational, draws) => {
                let noise = if variational { "learnt noise" } else { "uniform noise" };
                format!("; an upper bound by {draws} draws of {noise}")
            }
        };
        let given = self.given.map_or(String::new(), |given| format!(" given {given}"));
        f.write_str(&self.images.text(&given, &bound))
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
    progress: impl FnMut(usize),
) -> Result<Vec<f64>> {
    if images.shape() != glow.config().shape {
        let want = format!("the model's {:?}: give --size, and --grey if needed", glow.config().shape);
        return Err(Error::shape("an image", &images.shape(), want));
    }
    let skip = |images: usize, rng: &mut Rng| glow.detached().skip_noise(images * draws, rng);
    noisy_log_likelihoods(images.len(), rng, ranks, progress, skip, |part, rng| {
        let indices: Vec<u32> = part.map(|i| i as u32).collect();
        let colours = images.tensor(&indices, || false)?;
        glow.detached().bound(&colours, context(glow, images, &indices, &colours)?.as_ref(), draws, rng)
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

/// The class that `class` names as context of `rows` rows, which must be given if and only if the model has classes.
///
/// # Errors
/// When it is given or missing without need, there is no such class, or the model enlarges images.
pub fn class_context(glow: &Glow, class: Option<&str>, rows: usize) -> Result<Option<Tensor>> {
    let config = glow.config();
    if let Some(condition) = config.condition {
        let message = format!("the model enlarges images {} times: use it by glow super-resolve", condition.scale);
        return Err(Error::Config(message));
    }
    match (config.classes, class) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::Config("the model has no classes; omit --class".into())),
        (Some(classes), None) => {
            let names = config.class_list();
            Err(Error::Config(format!("the model has {classes} classes: name one by --class, of {names}")))
        }
        (Some(_), Some(class)) => Ok(Some(Tensor::full(config.class(class)?, (rows, 1), glow.parameters().device())?)),
    }
}
