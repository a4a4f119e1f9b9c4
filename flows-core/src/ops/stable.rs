//! Compositions that stay finite, in value and gradient, where the plain formula does not.

use super::exp;
use crate::Result;
use candle_core::{D, Tensor};

/// `ln sum_j e^{x_j}` over the last dimension, which is dropped; all minus infinity gives minus
/// infinity, not NaN.
///
/// # Errors
/// When `x` has no dimension.
pub fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    // A finite shift keeps inf - inf out of the forward pass and of the gradient.
    let shift = x.max_keepdim(D::Minus1)?.clamp(-1e38, 1e38)?.detach();
    let sum = exp(&x.broadcast_sub(&shift)?)?.sum_keepdim(D::Minus1)?.log()?;
    Ok((sum + shift)?.squeeze(D::Minus1)?)
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
