//! `ln(1 + e^x)` to the last digit, also where it is tiny.

use super::cpu::{Real, with_slice};
use super::special::log1p;
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};

/// `ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)`, element by element, without loss of digits in either
/// tail; its derivative is the sigmoid.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64) {
        return Ok(x.contiguous()?.apply_op1(Softplus)?);
    }
    plain(x)
}

/// The same as a composition of candle's operations, for other devices and as the tests' reference.
fn plain(x: &Tensor) -> Result<Tensor> {
    // The kinks of relu and abs at 0 cancel: gradients 1 and -1/2 there sum to 1/2.
    Ok((x.relu()? + log1p(&x.abs()?.neg()?.exp()?)?)?)
}

struct Softplus;

impl Softplus {
    fn value<T: Real>(x: T) -> T {
        if x.is_nan() { x } else { x.max(T::zero()) + (-x.abs()).exp().ln_1p() }
    }

    fn gradient<T: Real>(x: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let product = with_slice::<T, _>(x, |x| {
            with_slice::<T, _>(grad, |grad| {
                x.iter().zip(grad).map(|(&x, &g)| g / (T::one() + (-x).exp())).collect::<Vec<T>>()
            })
        })??;
        T::tensor(product, x.shape()).map(Some)
    }
}

impl CustomOp1 for Softplus {
    fn name(&self) -> &'static str {
        "softplus"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        fn map<T: Real>(storage: &CpuStorage, layout: &Layout) -> candle_core::Result<CpuStorage> {
            Ok(T::storage(T::slice(storage, layout)?.iter().map(|&x| Softplus::value(x)).collect()))
        }
        let values = match storage {
            CpuStorage::F32(_) => map::<f32>(storage, layout)?,
            _ => map::<f64>(storage, layout)?,
        };
        Ok((values, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        match x.dtype() {
            DType::F32 => Self::gradient::<f32>(x, grad),
            _ => Self::gradient::<f64>(x, grad),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::difference;
    use candle_core::{Device, Var};

    #[test]
    fn both_ways_agree_and_keep_their_digits() -> Result<()> {
        let x = Tensor::new(&[-700.0f64, -50.0, -17.0, -1.0, 0.0, 0.5, 30.0, 800.0], &Device::Cpu)?;
        for dtype in [DType::F32, DType::F64] {
            let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
            let (fused, composed) = (softplus(&x)?, plain(&x)?);
            assert!(difference(&fused, &composed)? < 1e-6);
            let grad = |y: &Tensor| -> Result<Tensor> {
                let grads = y.sum_all()?.backward()?;
                Ok(grads.get(&x).map_or_else(|| x.zeros_like(), |g| Ok(g.clone()))?)
            };
            assert!(difference(&grad(&fused)?, &grad(&composed)?)? < 1e-6);
            let tiny = fused.get(2)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            assert!((tiny / (-17f64).exp() - 1.0).abs() < 1e-6, "{tiny}");
        }
        Ok(())
    }
}
