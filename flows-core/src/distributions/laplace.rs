//! The Laplace distribution.

use super::{Family, LocationScale, SymmetricCdf};
use crate::{Result, Rng, ops};
use candle_core::{DType, Device, Tensor};
use std::f64::consts::LN_2;

/// Independent Laplace elements:
/// `log p(x) = sum_i -|x_i - loc_i| / scale_i - ln(2 scale_i)`; variance `2 scale^2`.
pub type Laplace = LocationScale<LaplaceFamily>;

/// The standard Laplace density `exp(-|z|) / 2`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaplaceFamily;

impl Family for LaplaceFamily {
    const NAME: &'static str = "Laplace";

    fn log_density(&self, z: &Tensor) -> Result<Tensor> {
        Ok(z.abs()?.affine(-1.0, -LN_2)?)
    }

    fn noise(&self, shape: &[usize], dtype: DType, device: &Device, rng: &mut Rng) -> Result<Tensor> {
        rng.tensor(shape, dtype, device, |rng| {
            let size: f64 = rng.draw(&rand_distr::Exp1);
            if rng.uniform() < 0.5 { -size } else { size }
        })
    }
}

impl SymmetricCdf for LaplaceFamily {
    fn log_cdf(&self, z: &Tensor) -> Result<Tensor> {
        // F(z) is e^z / 2 below 0 and 1 - e^-z / 2 above.
        let below = z.minimum(0.0)?.affine(1.0, -LN_2)?;
        let above = ops::ln(&ops::exp(&z.maximum(0.0)?.neg()?)?.affine(-0.5, 1.0)?)?;
        Ok(z.lt(0.0)?.where_cond(&below, &above)?)
    }

    fn quantile(&self, y: &Tensor) -> Result<Tensor> {
        let below = y.minimum(-LN_2)?.affine(1.0, LN_2)?;
        let above = ops::ln(&ops::exp(&y.maximum(-LN_2)?)?.affine(-2.0, 2.0)?)?.neg()?;
        Ok(y.lt(-LN_2)?.where_cond(&below, &above)?)
    }
}
