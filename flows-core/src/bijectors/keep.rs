//! Draws that rounding does not carry out of their range.

use crate::Result;
use candle_core::{DType, Tensor};

/// v (B, ...) with the rows that `lost` marks, (B), moved toward `middle` until it marks them no more, if they come to
/// that; each element by no more than a few roundings of the row's largest if that is enough. Gradients pass through.
pub(crate) fn keep(
    v: &Tensor,
    middle: impl Fn() -> Result<Tensor>,
    lost: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let from = v.detach();
    let mut marks = lost(&from)?;
    if !any(&marks)? {
        return Ok(v.clone());
    }
    let all = row_mask(&marks, v)?;
    let way = middle()?.broadcast_sub(&from)?;
    let (mut kept, mut reach) = (from.clone(), reach(&from)?);
    for _ in 0..STEPS {
        let step = way.broadcast_minimum(&reach)?.broadcast_maximum(&reach.neg()?)?;
        kept = row_mask(&marks, v)?.where_cond(&(&from + step)?, &kept)?;
        marks = lost(&kept)?;
        if !any(&marks)? {
            break;
        }
        reach = (reach * 4.0)?;
    }
    Ok(all.where_cond(&(kept + (v - from)?)?, v)?)
}

/// Marks of rows, (B), as marks of all elements of v (B, ...).
pub(crate) fn row_mask(rows: &Tensor, v: &Tensor) -> Result<Tensor> {
    Ok(rows.reshape(of_rows(v))?.broadcast_as(v.shape())?.contiguous()?)
}

/// The shape (B, 1...) for v (B, ...).
fn of_rows(v: &Tensor) -> Vec<usize> {
    v.dims().iter().enumerate().map(|(axis, &n)| if axis == 0 { n } else { 1 }).collect()
}

/// So many that the last takes f64 all the way.
const STEPS: usize = 30;

fn any(marks: &Tensor) -> Result<bool> {
    Ok(marks.max_all()?.to_scalar::<u8>()? != 0)
}

/// A rounding of the largest element of each row, (B, 1...).
fn reach(v: &Tensor) -> Result<Tensor> {
    let (epsilon, tiny) = match v.dtype() {
        DType::F64 => (f64::EPSILON, f64::MIN_POSITIVE),
        _ => (f32::EPSILON.into(), f32::MIN_POSITIVE.into()),
    };
    let batch = v.dim(0)?;
    let largest = v.abs()?.reshape((batch, ()))?.max(1)?;
    Ok(((largest * epsilon)? + tiny)?.reshape(of_rows(v))?)
}
