//! Numbers that a network takes without an overflow.

use super::cpu::{Real, with_slice};
use super::simd::dispatch;
use crate::Result;
use candle_core::{DType, Tensor};

/// x with each element that is larger in size than the square root of the largest number of its type replaced by that
/// root, of the same sign: 1.8e19 in f32. So the sums of a network of such numbers are finite. A NaN stays; the gradient
/// of what is replaced is 0.
///
/// # Errors
/// When the device fails.
pub(crate) fn limited(x: &Tensor) -> Result<Tensor> {
    let most = match x.dtype() {
        DType::F64 => most::<f64>(),
        _ => most::<f32>().into(),
    };
    // On the CPU reading all elements is cheap beside the network that follows.
    let is_within = match (x.device().is_cpu(), x.dtype()) {
        (true, DType::F32) => with_slice::<f32, _>(x, all_within)?,
        (true, DType::F64) => with_slice::<f64, _>(x, all_within)?,
        _ => false,
    };
    if is_within {
        return Ok(x.clone());
    }
    let bound = |bound: f64| Tensor::full(bound, x.shape(), x.device())?.to_dtype(x.dtype());
    // Comparisons with a NaN are false.
    let x = x.gt(most)?.where_cond(&bound(most)?, x)?;
    Ok(x.lt(-most)?.where_cond(&bound(-most)?, &x)?)
}

/// The largest number that [`limited`] leaves as it is.
pub(crate) fn most<T: Real>() -> T {
    T::max_value().sqrt()
}

/// Without a branch in its loop.
fn all_within<T: Real>(x: &[T]) -> bool {
    dispatch(
        #[inline(always)]
        || {
            let (mut beyond, most) = (false, most::<T>());
            for x in x {
                beyond |= x.abs() > most;
            }
            !beyond
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn large_numbers_are_limited_and_others_stay() -> Result<()> {
        let most = f32::MAX.sqrt();
        let calm = [0.0, -1e19, most, f32::NAN];
        assert_eq!(
            format!("{:?}", limited(&Tensor::new(&calm, &Device::Cpu)?)?.to_vec1::<f32>()?),
            format!("{calm:?}")
        );
        let x = Var::new(&[1e20f32, -f32::MAX, f32::INFINITY, -2.0, f32::NAN], &Device::Cpu)?;
        let y = limited(&x)?;
        let values = y.to_vec1::<f32>()?;
        assert!(values[..4] == [most, -most, most, -2.0] && values[4].is_nan(), "{values:?}");
        let gradient = y.sum_all()?.backward()?.get(&x).map(Tensor::to_vec1::<f32>).transpose()?;
        assert_eq!(gradient, Some(vec![0.0, 0.0, 0.0, 1.0, 1.0]));
        Ok(())
    }
}
