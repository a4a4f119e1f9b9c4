//! A continuous flow over the channels of an image that remain at a scale.

use super::ImageConfig;
use crate::Cnf;
use crate::field::{Divergence, Probe};
use candle_core::Tensor;
use flows_core::bijectors::{Bijector, Direction, Mode, Squeeze};
use flows_core::nn::Scope;
use flows_core::{Error, Result, Rng, Structure};

/// The largest number of dimensions for which log-likelihoods use the exact divergence.
const MAX_EXACT: usize = 64;

/// A flow over whole images that moves only the channels that remain at a scale: after each squeeze of the scales
/// before it, the second half of the channels is factored out, and stays as it is.
#[derive(Clone, Debug)]
pub(super) struct ScaleFlow {
    /// The shape of the whole image, (C, H, W).
    image: [usize; 3],
    /// The squeezes after each of which the second half of the channels is factored out.
    halvings: Vec<Squeeze>,
    /// A squeeze after which no channels are factored out.
    squeeze: Option<Squeeze>,
    cnf: Cnf,
}

/// An image split into the channels that the flow moves and those that it does not.
struct Parts {
    /// The channels that the flow moves, (B, D).
    active: Tensor,
    /// The shape (C, H, W) of an active image.
    shape: Vec<usize>,
    /// The channels factored out at each scale, from the first on.
    factored_out: Vec<Tensor>,
}

/// The flows of a model, in order from the base to the data.
///
/// # Errors
/// When the config has an invalid size.
pub(super) fn flows(config: &ImageConfig, scope: &Scope) -> Result<Vec<ScaleFlow>> {
    let mut flows = Vec::new();
    let mut halvings = Vec::new();
    for scale in 0..config.scales {
        let scope = scope.enter(scale);
        let before = config.scale_shape(scale);
        let squeeze = (scale + 1 < config.scales).then(|| Squeeze::new(&before, 2)).transpose()?;
        for (position, squeeze) in
            [None, squeeze.clone()].into_iter().enumerate().take(1 + usize::from(squeeze.is_some()))
        {
            let shape = squeeze.as_ref().map_or(&before[..], Squeeze::latent_shape);
            let shape = [shape[0], shape[1], shape[2]];
            for i in 0..config.flows {
                let scope = scope.enter(position * config.flows + i);
                let cnf = Cnf::new(shape.iter().product(), &config.flow_of(shape), None, &scope)?;
                let (image, halvings, squeeze) = (config.shape, halvings.clone(), squeeze.clone());
                flows.push(ScaleFlow { image, halvings, squeeze, cnf });
            }
        }
        halvings.extend(squeeze);
    }
    flows.reverse();
    Ok(flows)
}

impl ScaleFlow {
    /// The flow itself.
    pub(super) fn cnf(&self) -> &Cnf {
        &self.cnf
    }

    fn split(&self, image: &Tensor) -> Result<Parts> {
        if image.dims().get(1..) != Some(&self.image) {
            return Err(Error::shape("an image", image.dims(), format!("(B, C, H, W) of {:?}", self.image)));
        }
        let (mut factored_out, mut active) = (Vec::new(), image.clone());
        for squeeze in &self.halvings {
            let squeezed = squeeze.inverse(&active, None)?.0;
            let half = squeezed.dim(1)? / 2;
            factored_out.push(squeezed.narrow(1, half, half)?.contiguous()?);
            active = squeezed.narrow(1, 0, half)?.contiguous()?;
        }
        if let Some(squeeze) = &self.squeeze {
            active = squeeze.inverse(&active, None)?.0;
        }
        let shape = active.dims()[1..].to_vec();
        Ok(Parts { active: active.flatten_from(1)?, shape, factored_out })
    }

    fn merge(&self, parts: &Parts, moved: &Tensor) -> Result<Tensor> {
        let mut image = moved.reshape([&[moved.dim(0)?], &parts.shape[..]].concat())?;
        if let Some(squeeze) = &self.squeeze {
            image = squeeze.forward(&image, None)?.0;
        }
        for (squeeze, channels) in self.halvings.iter().zip(&parts.factored_out).rev() {
            image = squeeze.forward(&Tensor::cat(&[&image, channels], 1)?, None)?.0;
        }
        Ok(image)
    }

    /// Applies `f` to the channels of an image (B, C, H, W) that the flow moves.
    fn apply(&self, image: &Tensor, f: impl FnOnce(&Tensor) -> Result<(Tensor, Tensor)>) -> Result<(Tensor, Tensor)> {
        let parts = self.split(image)?;
        let (moved, log_det) = f(&parts.active)?;
        Ok((self.merge(&parts, &moved)?, log_det))
    }

    /// Maps in one direction, with noise from `rng` to estimate the divergence of large images.
    pub(super) fn estimate(&self, direction: Direction, input: &Tensor, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.apply(input, |v| self.cnf.map_by(direction, v, probe(v, rng)?))
    }

    /// Advances the generator as [`Self::estimate`] would for this many images.
    #[cfg(feature = "cli")]
    pub(super) fn skip_noise(&self, images: usize, rng: &mut Rng) -> Result<()> {
        let dims = self.cnf.latent_shape().iter().product::<usize>();
        probe(&Tensor::zeros((images, dims), candle_core::DType::F32, &candle_core::Device::Cpu)?, rng).map(drop)
    }

    /// The images at `times` of the flow; `start` is the image at the first.
    pub(super) fn trajectory(&self, start: &Tensor, times: &[f64]) -> Result<Vec<Tensor>> {
        let parts = self.split(start)?;
        let states = self.cnf.trajectory(&parts.active, None, times)?;
        states.iter().map(|moved| self.merge(&parts, moved)).collect()
    }

    /// The loss of flow matching for images (B, C, H, W).
    pub(super) fn matching_loss(&self, x: &Tensor, pairing: crate::Pairing, rng: &mut Rng) -> Result<Tensor> {
        self.cnf.matching_loss(&self.split(x)?.active, None, pairing, rng)
    }
}

/// The probe for the divergence of a log-likelihood: exact for small images, random otherwise.
fn probe(v: &Tensor, rng: &mut Rng) -> Result<Probe> {
    if v.dim(1)? <= MAX_EXACT { Ok(Probe::Basis) } else { Divergence::Rademacher.draw(v, rng) }
}

/// Log-determinants of large images are estimated, with noise that is the same at every call.
impl Bijector for ScaleFlow {
    fn latent_shape(&self) -> &[usize] {
        &self.image
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match mode.rng() {
            None => self.estimate(direction, input, &mut Rng::seed(0)),
            Some(_) => self.apply(input, |v| self.cnf.map(direction, v, context, mode)),
        }
    }

    fn structure(&self) -> Structure {
        let scale = self.halvings.len();
        let squeezed = if self.squeeze.is_some() { ", squeezed" } else { "" };
        Structure::new("ScaleFlow", format!("at scale {scale}{squeezed}")).part(self.cnf.structure())
    }
}
