//! Compositions that stay finite, in value and gradient, where the plain formula does not.

use super::softplus;
use crate::Result;
use candle_core::{D, Tensor};
use std::f64::consts::LN_2;

/// `ln sigmoid(x) = -softplus(-x)`, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(softplus(&x.neg()?)?.neg()?)
}

/// `1 / (1 + e^-x)`, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(candle_nn::ops::sigmoid(x)?)
}

/// `ln sum_j e^{x_j}` over the last dimension, which is dropped; all minus infinity gives minus
/// infinity, not NaN.
///
/// # Errors
/// When `x` has no dimension.
pub fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    // A finite shift keeps inf - inf out of the forward pass and of the gradient.
    let shift = x.max_keepdim(D::Minus1)?.clamp(-1e38, 1e38)?.detach();
    let sum = x.broadcast_sub(&shift)?.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok((sum + shift)?.squeeze(D::Minus1)?)
}

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

/// Sums everything but the batch: (B, ...) to (B).
///
/// # Errors
/// When `x` has no batch dimension.
pub fn sum_event(x: &Tensor) -> Result<Tensor> {
    match x.rank() {
        1 => Ok(x.clone()),
        2 => Ok(x.sum(1)?),
        _ => Ok(x.flatten_from(1)?.sum(1)?),
    }
}
