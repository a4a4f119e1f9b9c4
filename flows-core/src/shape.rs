//! Checks and helpers that every bijector needs, one of your own included.

use crate::{Error, Result};
use candle_core::Tensor;

/// Passes if `tensor`, which the message calls `what`, is a batch of `event`s of floating point numbers, and gives
/// the batch size.
///
/// # Errors
/// When it is of another shape or type, or has no rows.
pub fn check_event(what: &str, tensor: &Tensor, event: &[usize]) -> Result<usize> {
    // Candle panics at functions of integers.
    if !tensor.dtype().is_float() {
        return Err(Error::Data(format!("{what} is of type {:?}: convert it to f32 or f64", tensor.dtype())));
    }
    check_shape(what, tensor, event)
}

/// [`check_event`] for events of any type.
///
/// # Errors
/// When the tensor is of another shape or has no rows.
pub fn check_shape(what: &str, tensor: &Tensor, event: &[usize]) -> Result<usize> {
    match tensor.dims() {
        // Candle panics at sums over nothing.
        [0, ..] => Err(Error::Data(format!("{what} has no row: give at least one"))),
        [batch, rest @ ..] if rest == event => Ok(*batch),
        got => {
            let want: String = event.iter().map(|d| format!(", {d}")).collect();
            Err(Error::shape(what, got, format!("(B{want})")))
        }
    }
}

/// The context, known to be of shape (`batch`, `width`).
///
/// # Errors
/// When it is missing or of another shape.
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

/// The log-determinant of a map that preserves volume: zeros, (B), for an input v of shape (B, event...).
///
/// # Errors
/// When v has no batch dimension.
pub fn zero_log_det(v: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros(v.dim(0)?, v.dtype(), v.device())?)
}

/// One log-determinant, a scalar or of shape (1), for all rows of a batch, (B).
///
/// # Errors
/// When it has more elements than one.
pub fn shared_log_det(log_det: &Tensor, batch: usize) -> Result<Tensor> {
    Ok(log_det.broadcast_as(batch)?)
}
