//! Autoregressive layers: every dimension is transformed given those before it.

use super::univariate::{Univariate, apply, identities};
use super::{Bijector, Direction, Mode};
use crate::nn::{Made, Network, NetworkConfig, Scope};
use crate::shape::check_event;
use crate::{Result, Rng, Structure, ops};
use candle_core::{DType, Tensor};
use std::sync::Arc;

mod gradient;
mod sequential;

/// An autoregressive layer: `z_d = f^-1(x_d; made(x_<d, context))` with a univariate family f.
///
/// `inverse` (the density) is one evaluation of the network. `forward` (sampling) goes from
/// dimension to dimension, on the CPU computing every unit of the network once: the price of about
/// one evaluation as well; on other devices it is one for each dimension. With the affine family
/// this is MAF (Papamakarios et al., 2017), with the spline NSF(AR); within `Inverse` it is IAF
/// (Kingma et al., 2016).
#[derive(Debug)]
pub struct Autoregressive {
    shape: [usize; 1],
    map: Arc<Map>,
}

/// The network and the family whose parameters it computes.
#[derive(Debug)]
struct Map {
    univariate: Arc<dyn Univariate>,
    made: Made,
}

impl Autoregressive {
    /// A layer over `features` dimensions, conditioned on a context of width `context`, if any;
    /// `order[i]` is the place of dimension i, its own if `None`. It starts near the identity.
    ///
    /// # Errors
    /// When a width is 0 or the order does not name each place once.
    pub fn new(
        features: usize,
        univariate: Arc<dyn Univariate>,
        context: Option<usize>,
        order: Option<Vec<usize>>,
        network: &NetworkConfig,
        scope: &Scope,
    ) -> Result<Self> {
        let output = identities(univariate.as_ref(), features)?;
        let made = network.build_masked(features, context, order, output, &scope.enter("conditioner"))?;
        Ok(Self { shape: [features], map: Arc::new(Map { univariate, made }) })
    }
}

impl Map {
    /// `(z, log|dz_d/dx_d|)`, both (B, D), at x with the network's output for it.
    fn inverse_given(&self, x: &Tensor, raw: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, d) = x.dims2()?;
        let raw = raw.reshape((batch, d, self.univariate.parameters()))?;
        apply(self.univariate.as_ref(), Direction::Inverse, x, &raw)
    }

    /// The forward direction by one evaluation of the network for each dimension, all with the same units dropped.
    fn forward_by_passes(&self, z: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let ((batch, d), p) = (z.dims2()?, self.univariate.parameters());
        let rng = mode.rng().filter(|_| self.made.drops_units()).map(Rng::fork);
        // The columns of x that are not known yet are zero; no output that is read depends on them.
        let mut columns = vec![Tensor::zeros((batch, 1), z.dtype(), z.device())?; d];
        let mut logs = Vec::with_capacity(d);
        for d in self.made.sequence() {
            let mut rng = rng.clone();
            let mode = &mut Mode::recomputing(rng.as_mut());
            let raw = self.made.forward(&Tensor::cat(&columns, 1)?, context, mode)?;
            let raw = raw.narrow(1, d * p, p)?.reshape((batch, 1, p))?;
            let z = z.narrow(1, d, 1)?.contiguous()?;
            let (x, log) = apply(self.univariate.as_ref(), Direction::Forward, &z, &raw)?;
            columns[d] = x;
            logs.push(log);
        }
        Ok((Tensor::cat(&columns, 1)?, ops::sum_event(&Tensor::cat(&logs, 1)?)?))
    }
}

impl Autoregressive {
    fn to_data(&self, z: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let batch = check_event("the input of an autoregressive layer", z, &self.shape)?;
        let made = &self.map.made;
        let dtype = z.dtype();
        let is_fused = z.device().is_cpu() && matches!(dtype, DType::F32 | DType::F64) && made.dtype() == dtype;
        if !is_fused || (mode.is_training() && made.drops_units()) {
            return self.map.forward_by_passes(z, context, mode);
        }
        let given = made.context_term(context, batch)?;
        let solution = match dtype {
            DType::F32 => self.map.solve::<f32>(z, given.as_ref())?,
            _ => self.map.solve::<f64>(z, given.as_ref())?,
        };
        gradient::attach(&self.map, z, given.as_ref(), solution)
    }

    fn to_latent(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        check_event("the input of an autoregressive layer", x, &self.shape)?;
        let (z, log) = self.map.inverse_given(x, &self.map.made.forward(x, context, mode)?)?;
        Ok((z, ops::sum_event(&log)?))
    }
}

impl Bijector for Autoregressive {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match direction {
            Direction::Forward => self.to_data(input, context, mode),
            Direction::Inverse => self.to_latent(input, context, mode),
        }
    }

    fn structure(&self) -> Structure {
        let Map { univariate, made } = &*self.map;
        let details = format!("[{}]: {}", self.shape[0], univariate.name());
        Structure::new("Autoregressive", details).part(made.structure()).parts(univariate.structure())
    }
}

#[cfg(test)]
mod tests;
