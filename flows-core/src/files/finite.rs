//! Checks that numbers are finite.

use crate::ops::kernel::{Real, dispatch, with_slice};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

/// Elements that one thread takes at a time.
const CHUNK: usize = 1 << 16;

/// Whether all elements of a tensor are finite; integers always are.
pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool> {
    fn all<T: Real>(values: &[T]) -> bool {
        // Without a branch in the loop, which could not be vectorised.
        let finite = |values: &[T]| {
            dispatch(
                #[inline(always)]
                || {
                    let mut all = true;
                    for value in values {
                        all &= value.abs() <= T::max_value();
                    }
                    all
                },
            )
        };
        if values.len() <= CHUNK { finite(values) } else { values.par_chunks(CHUNK).all(finite) }
    }
    Ok(match (tensor.device(), tensor.dtype()) {
        (_, dtype) if !dtype.is_float() => true,
        (Device::Cpu, DType::F32) => with_slice(tensor, all::<f32>)?,
        (Device::Cpu, DType::F64) => with_slice(tensor, all::<f64>)?,
        // Zero times infinity or NaN is NaN.
        _ => (tensor.detach().to_dtype(DType::F32)? * 0.0)?.sum_all()?.to_scalar::<f32>()? == 0.0,
    })
}

/// Refuses tensors with non-finite elements.
pub(super) fn check_finite(tensors: &[(String, Tensor)]) -> Result<()> {
    for (name, tensor) in tensors {
        if !is_finite(tensor)? {
            return Err(Error::Diverged(format!(
                "the tensor `{name}` holds a number that is not finite, so the model was not saved: return to the last \
                 saved model, and train at a lower learning rate"
            )));
        }
    }
    Ok(())
}
