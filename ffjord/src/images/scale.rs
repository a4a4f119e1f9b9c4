//! A continuous flow of what is left of an image at a scale.

use super::ImageConfig;
use crate::Cnf;
use crate::field::{Divergence, Probe};
use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::{Bijector, Direction, Mode, Squeeze};
use flows_core::nn::Scope;
use flows_core::{Error, Result, Rng, Structure};

/// Up to so many numbers the divergence is exact.
const EXACT: usize = 64;

/// A flow of those channels of an image that are left at a scale: after each squeeze on the way there the second
/// half of the channels leaves, and keeps its place in the image.
#[derive(Clone, Debug)]
pub(super) struct ScaleFlow {
    image: [usize; 3],
    /// Squeezes after each of which the second half of the channels leaves.
    halvings: Vec<Squeeze>,
    /// A squeeze after which none leaves.
    squeeze: Option<Squeeze>,
    cnf: Cnf,
}

/// An image taken apart.
struct Parts {
    /// (B, D), what the flow moves.
    moves: Tensor,
    /// (C, H, W) of that.
    shape: Vec<usize>,
    /// What has left, from the first scale on.
    left: Vec<Tensor>,
}

/// The flows of a model, from the base to the data.
///
/// # Errors
/// When the config names a size that cannot be.
pub(super) fn flows(config: &ImageConfig, scope: &Scope) -> Result<Vec<ScaleFlow>> {
    let mut flows = Vec::new();
    let mut halvings = Vec::new();
    for scale in 0..config.scales {
        let scope = scope.enter(scale);
        let before = config.scale_shape(scale);
        let squeeze = (scale + 1 < config.scales).then(|| Squeeze::new(&before, 2)).transpose()?;
        for (place, squeeze) in [None, squeeze.clone()].into_iter().enumerate().take(1 + usize::from(squeeze.is_some()))
        {
            let shape = squeeze.as_ref().map_or(&before[..], Squeeze::latent_shape);
            let shape = [shape[0], shape[1], shape[2]];
            for i in 0..config.flows {
                let scope = scope.enter(place * config.flows + i);
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

    fn apart(&self, image: &Tensor) -> Result<Parts> {
        if image.dims().get(1..) != Some(&self.image) {
            return Err(Error::shape("an image", image.dims(), format!("(B, C, H, W) of {:?}", self.image)));
        }
        let (mut left, mut stays) = (Vec::new(), image.clone());
        for squeeze in &self.halvings {
            let squeezed = squeeze.inverse(&stays, None)?.0;
            let half = squeezed.dim(1)? / 2;
            left.push(squeezed.narrow(1, half, half)?.contiguous()?);
            stays = squeezed.narrow(1, 0, half)?.contiguous()?;
        }
        if let Some(squeeze) = &self.squeeze {
            stays = squeeze.inverse(&stays, None)?.0;
        }
        let shape = stays.dims()[1..].to_vec();
        Ok(Parts { moves: stays.flatten_from(1)?, shape, left })
    }

    fn together(&self, parts: &Parts, moved: &Tensor) -> Result<Tensor> {
        let mut image = moved.reshape([&[moved.dim(0)?], &parts.shape[..]].concat())?;
        if let Some(squeeze) = &self.squeeze {
            image = squeeze.forward(&image, None)?.0;
        }
        for (squeeze, left) in self.halvings.iter().zip(&parts.left).rev() {
            image = squeeze.forward(&Tensor::cat(&[&image, left], 1)?, None)?.0;
        }
        Ok(image)
    }

    fn within(&self, image: &Tensor, f: impl FnOnce(&Tensor) -> Result<(Tensor, Tensor)>) -> Result<(Tensor, Tensor)> {
        let parts = self.apart(image)?;
        let (moved, log_det) = f(&parts.moves)?;
        Ok((self.together(&parts, &moved)?, log_det))
    }

    /// A direction with a divergence estimated by noise of `rng`.
    pub(super) fn estimate(&self, direction: Direction, input: &Tensor, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.within(input, |v| self.cnf.map_by(direction, v, probe(v, rng)?))
    }

    /// Draws the noise of [`Self::estimate`] for so many images, and forgets it.
    pub(super) fn skip_noise(&self, images: usize, rng: &mut Rng) -> Result<()> {
        let dims = self.cnf.latent_shape().iter().product::<usize>();
        probe(&Tensor::zeros((images, dims), DType::F32, &Device::Cpu)?, rng).map(drop)
    }

    /// The images at `times` of the flow, the first of which is that of `start`.
    pub(super) fn trajectory(&self, start: &Tensor, times: &[f64]) -> Result<Vec<Tensor>> {
        let parts = self.apart(start)?;
        let states = self.cnf.trajectory(&parts.moves, None, times)?;
        states.iter().map(|moved| self.together(&parts, moved)).collect()
    }

    /// The loss of flow matching for images (B, C, H, W).
    pub(super) fn matching_loss(&self, x: &Tensor, coupling: crate::Coupling, rng: &mut Rng) -> Result<Tensor> {
        self.cnf.matching_loss(&self.apart(x)?.moves, None, coupling, rng)
    }
}

/// What a divergence is found by.
fn probe(v: &Tensor, rng: &mut Rng) -> Result<Probe> {
    if v.dim(1)? <= EXACT { Ok(Probe::Basis) } else { Divergence::Rademacher.draw(v, rng) }
}

/// The log-determinants of large images are estimates, whose noise is the same at every call.
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
            Some(_) => self.within(input, |v| self.cnf.map(direction, v, context, mode)),
        }
    }

    fn structure(&self) -> Structure {
        let scale = self.halvings.len();
        let squeezed = if self.squeeze.is_some() { ", squeezed" } else { "" };
        Structure::new("ScaleFlow", format!("at scale {scale}{squeezed}")).part(self.cnf.structure())
    }
}
