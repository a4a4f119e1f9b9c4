//! The mixture of logistics of Flow++.

use super::Univariate;
use crate::ops::{self, Mixture};
use crate::{Error, Result};
use candle_core::Tensor;
use std::f64::consts::PI;

/// `z = e^a logit(F(x)) + b`, F being the distribution function of a mixture of K logistics,
/// `F(x) = sum_k w_k sigmoid((x - m_k) e^-s_k)` (Ho et al., Flow++, 2019, section 3.2).
///
/// Raw parameters of an element: K for w, a softmax; K for m; K for s and one for a, each
/// `5 tanh(raw / 5)`; b. The direction that training needs, `inverse`, has a closed form, computed from
/// logarithms of F and 1 - F, so that both tails are exact; `forward` searches, by Newton's method in a
/// bracket, and has the gradient of the implicit function.
#[derive(Clone, Copy, Debug)]
pub struct LogisticMixture {
    components: usize,
}

/// Bound on the log-scales.
const BOUND: f64 = 5.0;

impl LogisticMixture {
    /// A mixture of `components` logistics.
    ///
    /// # Errors
    /// When there are none, or more than 10,000.
    pub fn new(components: usize) -> Result<Self> {
        if !(1..=10_000).contains(&components) {
            return Err(Error::Config("a mixture needs 1 to 10,000 logistics, 32 for example".into()));
        }
        Ok(Self { components })
    }
}

impl Univariate for LogisticMixture {
    fn name(&self) -> String {
        format!("mixture of {} logistics", self.components)
    }

    fn parameter_count(&self) -> usize {
        3 * self.components + 2
    }

    /// Means from -1 to 1 and scales that give the variance of one standard logistic: near the identity
    /// and not at it, since identical components would stay identical.
    fn identity(&self) -> Vec<f64> {
        let k = self.components;
        let mean = |i: usize| if k == 1 { 0.0 } else { 2.0 * i as f64 / (k - 1) as f64 - 1.0 };
        let variance = (0..k).map(|i| mean(i).powi(2)).sum::<f64>() / k as f64;
        let log_scale = 0.5 * (1.0 - 3.0 * variance / (PI * PI)).ln();
        let raw = BOUND * (log_scale / BOUND).atanh();
        let parts = std::iter::repeat_n(0.0, k).chain((0..k).map(mean));
        parts.chain(std::iter::repeat_n(raw, k)).chain([0.0; 2]).collect()
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::sigmoid_mixture(z, parameters, Mixture::Logistic(BOUND), self.components, true)
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::sigmoid_mixture(x, parameters, Mixture::Logistic(BOUND), self.components, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn starts_near_the_identity() -> Result<()> {
        let x = Tensor::new(&[[-3.0, -1.0, 0.0, 0.5, 2.0]], &Device::Cpu)?;
        for (components, limit) in [(1, 1e-12), (2, 0.25), (8, 0.1), (32, 0.1)] {
            let family = LogisticMixture::new(components)?;
            let raw =
                Tensor::new(family.identity().repeat(5), &Device::Cpu)?.reshape((1, 5, family.parameter_count()))?;
            let (z, log) = family.inverse(&x, &raw)?;
            let off = |t: Tensor| t.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>();
            let (off, bend) = (off((z - &x)?)?, off(log)?);
            assert!(off < limit && bend < limit, "{components}: {off} {bend}");
        }
        Ok(())
    }
}
