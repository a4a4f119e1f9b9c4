//! Draws that rounding does not carry out of their range.

use super::{Bounds, Support};
use crate::Result;
use crate::shape::batch_shape;
use candle_core::{DType, Tensor};

/// v (B, ...) with the rows that `lost` marks, (B), moved toward `target` until it marks them no more; each element by
/// no more than a few roundings of the row's largest if that is enough. Elements whose target is NaN stay, and so do rows
/// that no move helps. Gradients pass through.
pub(crate) fn keep(
    v: &Tensor,
    target: impl Fn() -> Result<Tensor>,
    lost: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let from = v.detach();
    let mut marks = lost(&from)?;
    if !any(&marks)? {
        return Ok(v.clone());
    }
    let all = row_mask(&marks, v)?;
    let target = target()?.broadcast_as(v.shape())?.contiguous()?;
    let target = target.eq(&target)?.where_cond(&target, &from)?;
    let (mut kept, mut reach) = (from.clone(), reach(&from)?);
    for _ in 0..STEPS {
        let (low, high) = (from.broadcast_sub(&reach)?, from.broadcast_add(&reach)?);
        kept = row_mask(&marks, v)?.where_cond(&target.maximum(&low)?.minimum(&high)?, &kept)?;
        marks = lost(&kept)?;
        if !any(&marks)? {
            break;
        }
        reach = (reach * 4.0)?;
    }
    // What no step helps stays as it was.
    let kept = row_mask(&marks, v)?.where_cond(&from, &kept)?;
    Ok(all.where_cond(&(kept + (v - from)?)?, v)?)
}

/// A target for [`keep`], (1, event...), if the support is a box: the middle between two bounds, the largest number
/// beyond one, and NaN where there is none.
pub(crate) fn inward(support: &Support, like: &Tensor) -> Result<Option<Tensor>> {
    let Support::Bounded { shape, .. } = support else { return Ok(None) };
    let huge = if like.dtype() == DType::F64 { f64::MAX } else { f32::MAX.into() };
    let target = |bounds: Bounds| match (bounds.lower, bounds.upper) {
        (Some(a), Some(b)) => 0.5 * a + 0.5 * b,
        (Some(_), None) => huge,
        (None, Some(_)) => -huge,
        (None, None) => f64::NAN,
    };
    let values: Vec<f64> = support.bounds().into_iter().map(target).collect();
    Ok(Some(Tensor::from_vec(values, batch_shape(1, shape), like.device())?.to_dtype(like.dtype())?))
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
