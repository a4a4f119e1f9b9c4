//! The logistic distribution.

use super::{Family, LocationScale, SymmetricCdf};
use crate::ops;
use crate::{Result, Rng};
use candle_core::{DType, Device, Tensor};

/// Independent logistic elements with density `s(z) s(-z) / scale`, `z = (x - loc) / scale`, s
/// being the sigmoid; variance `pi^2 / 3 scale^2`.
pub type Logistic = LocationScale<LogisticFamily>;

/// The standard logistic density `e^-z / (1 + e^-z)^2`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogisticFamily;

impl Family for LogisticFamily {
    const NAME: &'static str = "Logistic";

    fn log_density(&self, z: &Tensor) -> Result<Tensor> {
        // ln sigmoid(z) + ln sigmoid(-z) is even in z: evaluate it at -|z|, where no infinities cancel.
        let below = z.abs()?.neg()?;
        Ok((&below - (ops::softplus(&below)? * 2.0)?)?)
    }

    fn noise(&self, shape: &[usize], dtype: DType, device: &Device, rng: &mut Rng) -> Result<Tensor> {
        // The inverse of the distribution function, ln u - ln(1 - u), excluding u = 0.
        rng.tensor(shape, dtype, device, |rng| {
            let u: f64 = rng.draw(&rand_distr::Open01);
            u.ln() - (-u).ln_1p()
        })
    }
}

impl SymmetricCdf for LogisticFamily {
    fn log_cdf(&self, z: &Tensor) -> Result<Tensor> {
        ops::log_sigmoid(z)
    }

    fn quantile(&self, y: &Tensor) -> Result<Tensor> {
        Ok((y - ops::ln(&ops::exp(y)?.affine(-1.0, 1.0)?)?)?)
    }
}
