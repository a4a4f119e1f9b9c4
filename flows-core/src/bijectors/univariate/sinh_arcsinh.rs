//! The sinh-arcsinh family: skewness and weight of the tails.

use super::Univariate;
use crate::{Result, ops};
use candle_core::Tensor;
use std::f64::consts::LN_2;

/// `x = sinh((asinh(z) + s) e^t)`: s > 0 skews to the right, t > 0 makes the tails heavier (Jones
/// and Pewsey, Sinh-arcsinh distributions, 2009).
///
/// Raw parameters: s, and r of `t = 2 tanh(r / 2)`. Both directions have closed forms, written so
/// that neither squares of large nor differences of small numbers spoil them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SinhArcsinh;

/// Bound on t: an exponent of e^2 at most.
const MAX_LOG_WEIGHT: f64 = 2.0;

impl SinhArcsinh {
    fn parts(parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let part = |i| parameters.narrow(2, i, 1)?.squeeze(2);
        Ok((part(0)?, (ops::tanh(&(part(1)? / MAX_LOG_WEIGHT)?)? * MAX_LOG_WEIGHT)?))
    }
}

/// 1 where v is not negative, -1 elsewhere, and |v| with the gradient of the one side or the other.
fn sign_and_size(v: &Tensor) -> Result<(Tensor, Tensor)> {
    let sign = v.ge(0.0)?.to_dtype(v.dtype())?.affine(2.0, -1.0)?;
    let size = (v * &sign)?;
    Ok((sign, size))
}

/// `(asinh(v), ln sqrt(1 + v^2))`.
fn asinh(v: &Tensor) -> Result<(Tensor, Tensor)> {
    let (sign, a) = sign_and_size(v)?;
    let unit = a.maximum(1.0)?.detach();
    let root = (unit.recip()?.sqr()? + (&a / &unit)?.sqr()?)?.sqrt()?;
    let log_root = (unit.log()? + root.log()?)?;
    let rise = (&a / ((&unit * &root)? + 1.0)?)?;
    let value = ops::ln_1p(&(&a + (&a * rise)?)?)?;
    Ok(((value * sign)?, log_root))
}

/// `(sinh(u), ln cosh(u))`.
fn sinh(u: &Tensor) -> Result<(Tensor, Tensor)> {
    let (sign, a) = sign_and_size(u)?;
    let log_cosh = ((&a + ops::softplus(&(&a * -2.0)?)?)? - LN_2)?;
    // Small numbers by the half-angle formula, large ones by their exponential.
    let t = (a.minimum(1.0)? * 0.5)?.tanh()?;
    let small = ((&t * 2.0)? / t.sqr()?.affine(-1.0, 1.0)?)?;
    let large = ((a.exp()? - a.neg()?.exp()?)? * 0.5)?;
    Ok(((a.le(1.0)?.where_cond(&small, &large)? * sign)?, log_cosh))
}

impl Univariate for SinhArcsinh {
    fn name(&self) -> String {
        "sinh-arcsinh".into()
    }

    fn parameters(&self) -> usize {
        2
    }

    fn identity(&self) -> Vec<f64> {
        vec![0.0, 0.0]
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let (skew, log_weight) = Self::parts(parameters)?;
        let (inner, log_root) = asinh(z)?;
        let (x, log_cosh) = sinh(&inner.broadcast_add(&skew)?.broadcast_mul(&log_weight.exp()?)?)?;
        Ok((x, (log_cosh - log_root)?.broadcast_add(&log_weight)?))
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let (skew, log_weight) = Self::parts(parameters)?;
        let (inner, log_root) = asinh(x)?;
        let (z, log_cosh) = sinh(&inner.broadcast_mul(&log_weight.neg()?.exp()?)?.broadcast_sub(&skew)?)?;
        Ok((z, (log_cosh - log_root)?.broadcast_sub(&log_weight)?))
    }
}
