//! The deep dense sigmoid of the neural autoregressive flow.

use super::deep_sigmoid::{UNIT, positive};
use super::{Univariate, numerical_inverse, within_reach};
use crate::{Error, Result, ops};
use candle_core::{D, Tensor};

/// Deep sigmoids in layers, from one number through K to one:
/// `h' = logit(w sigmoid(a (u h) + b))`, the rows of u (K x inputs) and w (outputs x K) being
/// softmaxes and a positive (Huang et al., Neural Autoregressive Flows, 2018, section 3.2).
///
/// Raw parameters of an element, layer by layer: K for a, K for b, outputs x K for w, K x inputs
/// for u. Derivatives are computed as logarithms. `inverse` searches.
#[derive(Clone, Copy, Debug)]
pub struct DeepDenseSigmoid {
    units: usize,
    layers: usize,
}

impl DeepDenseSigmoid {
    /// `layers` layers of `units` sigmoids.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn new(units: usize, layers: usize) -> Result<Self> {
        if units == 0 || layers == 0 {
            return Err(Error::Config("a deep dense sigmoid needs at least one layer of one unit".into()));
        }
        ops::check_width("a deep dense sigmoid", &[layers, units, units])?;
        Ok(Self { units, layers })
    }

    /// Inputs and outputs of every layer.
    fn widths(&self) -> impl Iterator<Item = (usize, usize)> {
        let (units, layers) = (self.units, self.layers);
        (0..layers).map(move |l| (if l == 0 { 1 } else { units }, if l + 1 == layers { 1 } else { units }))
    }
}

impl DeepDenseSigmoid {
    fn evaluate(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let k = self.units;
        let (rows, n, _) = parameters.dims3()?;
        let (mut h, mut log) = (z.unsqueeze(2)?, z.zeros_like()?.unsqueeze(2)?);
        let mut at = 0;
        for (inputs, outputs) in self.widths() {
            let mut take = |size: usize| {
                at += size;
                parameters.narrow(2, at - size, size)
            };
            let ((a, log_a), b) = (positive(&take(k)?)?, take(k)?);
            let log_w = ops::log_softmax(&take(outputs * k)?.reshape((rows, n, outputs, k))?)?;
            let log_u = ops::log_softmax(&take(k * inputs)?.reshape((rows, n, k, inputs))?)?;
            let mixed = ops::sum(&h.unsqueeze(2)?.broadcast_mul(&ops::exp(&log_u)?)?, D::Minus1)?;
            let pre = mixed.broadcast_mul(&a)?.broadcast_add(&b)?;
            // ln(d mixed / dz), then through the sigmoids and out.
            let log_mixed = ops::log_sum_exp(&log.unsqueeze(2)?.broadcast_add(&log_u)?)?;
            let (up, down) = (ops::log_sigmoid(&pre)?, ops::log_sigmoid(&pre.neg()?)?);
            let inner = ((&up + &down)? + log_mixed.broadcast_add(&log_a)?)?;
            let out = |v: &Tensor| ops::log_sum_exp(&v.unsqueeze(2)?.broadcast_add(&log_w)?);
            let (log_p, log_q) = (out(&up)?, out(&down)?);
            h = (&log_p - &log_q)?;
            log = ((out(&inner)? - log_p)? - log_q)?;
        }
        Ok((h.squeeze(2)?, log.squeeze(2)?))
    }
}

impl Univariate for DeepDenseSigmoid {
    fn name(&self) -> String {
        format!("deep dense sigmoid, {} layers of {} units", self.layers, self.units)
    }

    fn parameter_count(&self) -> usize {
        self.widths().map(|(inputs, outputs)| self.units * (2 + inputs + outputs)).sum()
    }

    fn identity(&self) -> Vec<f64> {
        let layer = |(inputs, outputs)| {
            let zeros = std::iter::repeat_n(0.0, self.units * (1 + inputs + outputs));
            std::iter::repeat_n(UNIT, self.units).chain(zeros)
        };
        self.widths().flat_map(layer).collect()
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        within_reach(z, |z| self.evaluate(z, parameters))
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        numerical_inverse(x, |z| self.forward(z, parameters))
    }
}
