//! Linear maps of a batch of rows.

use crate::{Error, Result};
use candle_core::Tensor;

/// `x W^T + b` for x (B, inputs), W (outputs, inputs) and b (outputs).
///
/// # Errors
/// When shapes do not agree.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (_, inputs) = weight.dims2()?;
    match x.dims() {
        [_, width] if *width == inputs => {}
        got => return Err(Error::shape("the input of a linear layer", got, format!("(B, {inputs})"))),
    }
    let y = x.matmul(&weight.t()?)?;
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}
