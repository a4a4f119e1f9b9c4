//! Compositions that stay finite, in value and gradient, where the plain formula does not.

use super::{log_sum_exp, softplus};
use crate::Result;
use candle_core::{D, Tensor};
use std::f64::consts::LN_2;

/// The logarithm of the softmax over the last dimension.
///
/// # Errors
/// When `x` has no dimension.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_sub(&log_sum_exp(x)?.unsqueeze(D::Minus1)?)?)
}

/// `ln(1 - tanh^2 x) = 2 (ln 2 - x - softplus(-2x))`, element by element.
pub(crate) fn log_tanh_slope(x: &Tensor) -> Result<Tensor> {
    let tail = softplus(&(x * -2.0)?)?;
    Ok((x + tail)?.affine(-2.0, 2.0 * LN_2)?)
}
