//! Importance sampling of a density known up to a factor.

use super::Mean;
use crate::distributions::Distribution;
use crate::{Result, Rng};
use candle_core::{DType, Tensor};

/// Number of draws at a time.
const CHUNK: usize = 1000;

/// The importance weights `w = p~(x) / q(x)` of draws x from q, for an unnormalised density p~.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportanceWeights {
    log_weights: Vec<f64>,
}

impl ImportanceWeights {
    /// Weights given by their logarithms, `log p~(x) - log q(x)`.
    pub fn new(log_weights: Vec<f64>) -> Self {
        Self { log_weights }
    }

    /// The weights of `count` draws from `q`, given a context with one row per draw if it is conditional. `log_density`
    /// maps x (B, event...) to `log p~(x)` (B).
    ///
    /// # Errors
    /// Any error from the distribution or `log_density`.
    pub fn draw(
        q: &dyn Distribution,
        mut log_density: impl FnMut(&Tensor) -> Result<Tensor>,
        count: usize,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<Self> {
        let mut log_weights = Vec::with_capacity(count);
        while log_weights.len() < count {
            let (start, length) = (log_weights.len(), CHUNK.min(count - log_weights.len()));
            let context = context.map(|context| context.narrow(0, start, length)).transpose()?;
            let (x, log_q) = q.sample_with_log_prob(length, context.as_ref(), rng)?;
            let [log_p, log_q] = [log_density(&x)?, log_q].map(|log| log.to_dtype(DType::F64)?.to_vec1::<f64>());
            log_weights.extend(log_p?.iter().zip(log_q?).map(|(p, q)| p - q));
        }
        Ok(Self { log_weights })
    }

    /// The logarithms of the weights.
    pub fn log_weights(&self) -> &[f64] {
        &self.log_weights
    }

    /// `log(1/n sum w)`, an estimate of the logarithm of the integral of p~, which is the evidence if p~ is a joint
    /// density at the observed data. Its expectation is a lower bound (Burda et al., 2016, arXiv:1509.00519).
    pub fn log_evidence(&self) -> f64 {
        self.greatest() + (self.sum_of_powers(1.0) / self.log_weights.len() as f64).ln()
    }

    /// The standard error of [`Self::log_evidence`]: the standard error of the mean weight divided by the mean weight.
    pub fn log_evidence_error(&self) -> f64 {
        let greatest = self.greatest();
        let weights: Vec<f64> = self.log_weights.iter().map(|w| (w - greatest).exp()).collect();
        let Mean { mean, standard_error } = Mean::of(&weights);
        standard_error / mean
    }

    /// `(sum w)^2 / sum w^2`: the number of draws from p that these draws are worth (Kong, 1992).
    pub fn effective_sample_size(&self) -> f64 {
        self.sum_of_powers(1.0).powi(2) / self.sum_of_powers(2.0)
    }

    /// The effective sample size divided by the number of draws.
    pub fn efficiency(&self) -> f64 {
        self.effective_sample_size() / self.log_weights.len() as f64
    }

    /// The weights normalised to a sum of 1: the mean of f under p is `sum w f(x)`.
    pub fn normalized(&self) -> Vec<f64> {
        let (greatest, sum) = (self.greatest(), self.sum_of_powers(1.0));
        self.log_weights.iter().map(|w| (w - greatest).exp() / sum).collect()
    }

    fn greatest(&self) -> f64 {
        self.log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// `sum (w / max w)^power`.
    fn sum_of_powers(&self, power: f64) -> f64 {
        let greatest = self.greatest();
        self.log_weights.iter().map(|w| (power * (w - greatest)).exp()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::StandardNormal;
    use candle_core::Device;

    #[test]
    fn weights_by_hand() {
        let log = |weights: &[f64]| ImportanceWeights::new(weights.iter().map(|w| w.ln() - 800.0).collect());
        let weights = log(&[1.0, 2.0, 5.0]);
        assert!((weights.log_evidence() - ((8.0 / 3.0f64).ln() - 800.0)).abs() < 1e-12);
        assert!((weights.effective_sample_size() - 64.0 / 30.0).abs() < 1e-12);
        assert!((weights.efficiency() - 64.0 / 90.0).abs() < 1e-12);
        assert!(weights.normalized().iter().zip([0.125, 0.25, 0.625]).all(|(a, b)| (a - b).abs() < 1e-12));
        let equal = log(&[3.0; 4]);
        assert!((equal.effective_sample_size() - 4.0).abs() < 1e-12 && equal.log_evidence_error() < 1e-12);
    }

    #[test]
    fn the_integral_is_estimated() -> Result<()> {
        // 2 exp(-x^2 / 4), whose integral is 4 sqrt(pi), by draws from a normal with half its variance.
        let q = StandardNormal::new([1], DType::F64, &Device::Cpu)?;
        let log_density = |x: &Tensor| Ok(x.sqr()?.sum(1)?.affine(-0.25, 2f64.ln())?);
        let weights = ImportanceWeights::draw(&q, log_density, 20_500, None, &mut Rng::seed(0))?;
        assert_eq!(weights.log_weights().len(), 20_500);
        let off = weights.log_evidence() - (4.0 * std::f64::consts::PI.sqrt()).ln();
        assert!(off.abs() < 4.0 * weights.log_evidence_error() && weights.log_evidence_error() < 0.05, "{off}");
        Ok(())
    }
}
