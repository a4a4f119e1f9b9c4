//! The deep sigmoid of the neural autoregressive flow.

use super::Univariate;
use crate::ops::{self, Mixture};
use crate::{Error, Result};
use candle_core::Tensor;

/// `y = logit(sum_k w_k sigmoid(a_k z + b_k))` with w a softmax and a = softplus(raw): a mixture of
/// K sigmoids, seen through the logit (Huang et al., Neural Autoregressive Flows, 2018, section 3.1).
///
/// Raw parameters of an element: K for a, K for b, K for w. Everything is computed from logarithms of
/// the sigmoids, so that the tails are exact too. `forward` has a closed form; `inverse` searches.
#[derive(Clone, Copy, Debug)]
pub struct DeepSigmoid {
    units: usize,
}

/// The raw value whose softplus is 1.
pub(super) const UNIT: f64 = 0.541_324_854_612_918_1;

/// `(a, ln a)` with a = softplus(raw), bounded away from an underflow.
pub(super) fn positive(raw: &Tensor) -> Result<(Tensor, Tensor)> {
    let a = ops::softplus(raw)?.maximum(1e-30)?;
    let log = ops::ln(&a)?;
    Ok((a, log))
}

impl DeepSigmoid {
    /// A mixture of `units` sigmoids.
    ///
    /// # Errors
    /// When there are none, or more than 10,000.
    pub fn new(units: usize) -> Result<Self> {
        if !(1..=10_000).contains(&units) {
            return Err(Error::Config("a deep sigmoid needs 1 to 10,000 units, 16 for example".into()));
        }
        Ok(Self { units })
    }
}

impl Univariate for DeepSigmoid {
    fn name(&self) -> String {
        format!("deep sigmoid of {} units", self.units)
    }

    fn parameter_count(&self) -> usize {
        3 * self.units
    }

    fn identity(&self) -> Vec<f64> {
        (0..3 * self.units).map(|i| if i < self.units { UNIT } else { 0.0 }).collect()
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::sigmoid_mixture(z, parameters, Mixture::DeepSigmoid, self.units, false)
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::sigmoid_mixture(x, parameters, Mixture::DeepSigmoid, self.units, true)
    }
}
