//! Shape checks and helpers for bijectors, including user-defined ones.

use crate::{Error, Result};
use candle_core::Tensor;
use std::fmt::Display;

/// Checks that `tensor`, which errors call `what`, is a floating-point tensor (B, event...), and returns B.
///
/// # Errors
/// When it has another shape or dtype, or no rows.
pub fn check_event(what: impl Display, tensor: &Tensor, event: &[usize]) -> Result<usize> {
    // Candle panics on elementary functions of integers.
    if !tensor.dtype().is_float() {
        return Err(Error::Data(format!("{what} has dtype {:?}: convert it to f32 or f64", tensor.dtype())));
    }
    check_shape(what, tensor, event)
}

/// [`check_event`] for tensors of any dtype.
///
/// # Errors
/// When the tensor has another shape or no rows.
pub fn check_shape(what: impl Display, tensor: &Tensor, event: &[usize]) -> Result<usize> {
    match tensor.dims() {
        // Candle panics on empty sums.
        [0, ..] => Err(Error::Data(format!("{what} has no rows: give at least one"))),
        [batch, rest @ ..] if rest == event => Ok(*batch),
        got => {
            let want: String = event.iter().map(|d| format!(", {d}")).collect();
            Err(Error::shape(what.to_string(), got, format!("(B{want})")))
        }
    }
}

/// Checks that the context is (`batch`, `width`), and returns it.
///
/// # Errors
/// When it is missing or has another shape.
pub fn check_context(context: Option<&Tensor>, width: usize, batch: usize) -> Result<&Tensor> {
    let Some(context) = context else {
        return Err(Error::Config(format!("this flow is conditional: give a context of shape ({batch}, {width})")));
    };
    match context.dims() {
        [rows, w] if *w == width && *rows == batch => Ok(context),
        got => Err(Error::shape("the context", got, format!("({batch}, {width})"))),
    }
}

/// The shape (B, event...).
pub fn batch_shape(batch: usize, event: &[usize]) -> Vec<usize> {
    [&[batch], event].concat()
}

/// The log-determinant of a volume-preserving map: zeros (B), for an input v (B, event...).
///
/// # Errors
/// When v has no batch dimension.
pub fn zero_log_det(v: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros(v.dim(0)?, v.dtype(), v.device())?)
}

/// Broadcasts one log-determinant, () or (1), to all rows of a batch, (B).
///
/// # Errors
/// When it has more than one element.
pub fn shared_log_det(log_det: &Tensor, batch: usize) -> Result<Tensor> {
    Ok(log_det.broadcast_as(batch)?)
}
