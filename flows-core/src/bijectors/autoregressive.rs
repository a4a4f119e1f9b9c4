//! Autoregressive layers: every dimension is transformed given those before it.

use super::univariate::Univariate;
use super::{Bijector, check_event};
use crate::nn::{Made, Network, NetworkConfig, Output, Scope};
use crate::{Result, Rng, Structure, ops};
use candle_core::Tensor;
use std::sync::Arc;

/// An autoregressive layer: `z_d = f^-1(x_d; made(x_<d, context))` with a univariate family f.
///
/// `inverse` (the density) costs one evaluation of the network, `forward` (sampling) one for each
/// dimension. With the affine family this is MAF (Papamakarios et al., 2017), with the spline
/// NSF(AR); within `Inverse`, where sampling is the cheap direction, it is IAF
/// (Kingma et al., 2016).
#[derive(Debug)]
pub struct Autoregressive {
    shape: [usize; 1],
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
        let output = Output::near(univariate.identity().repeat(features));
        let made = network.build_masked(features, context, order, output, &scope.enter("conditioner"))?;
        Ok(Self { shape: [features], univariate, made })
    }

    fn inverse_given(&self, x: &Tensor, raw: Tensor) -> Result<(Tensor, Tensor)> {
        let raw = raw.reshape((x.dim(0)?, self.shape[0], self.univariate.parameters()))?;
        let (z, log) = self.univariate.inverse(x, &raw)?;
        Ok((z, ops::sum_event(&log)?))
    }
}

impl Bijector for Autoregressive {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn forward(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let batch = check_event("the input of an autoregressive layer", z, &self.shape)?;
        let p = self.univariate.parameters();
        // The columns of x that are not known yet are zero; no output that is read depends on them.
        let mut columns = vec![Tensor::zeros((batch, 1), z.dtype(), z.device())?; self.shape[0]];
        let mut logs = Vec::with_capacity(columns.len());
        for d in self.made.sequence() {
            let raw = self.made.forward(&Tensor::cat(&columns, 1)?, context)?;
            let raw = raw.narrow(1, d * p, p)?.reshape((batch, 1, p))?;
            let (x, log) = self.univariate.forward(&z.narrow(1, d, 1)?.contiguous()?, &raw)?;
            columns[d] = x;
            logs.push(log);
        }
        Ok((Tensor::cat(&columns, 1)?, ops::sum_event(&Tensor::cat(&logs, 1)?)?))
    }

    fn inverse(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        check_event("the input of an autoregressive layer", x, &self.shape)?;
        self.inverse_given(x, self.made.forward(x, context)?)
    }

    fn inverse_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        check_event("the input of an autoregressive layer", x, &self.shape)?;
        self.inverse_given(x, self.made.forward_training(x, context, rng)?)
    }

    fn structure(&self) -> Structure {
        let details = format!("[{}]: {}", self.shape[0], self.univariate.name());
        Structure::new("Autoregressive", details).part(self.made.structure()).parts(self.univariate.structure())
    }
}
