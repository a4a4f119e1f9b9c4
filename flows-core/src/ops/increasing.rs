//! Cumulative sums that increase strictly.

use super::cpu::{Real, with_slice};
use super::linalg::on_cpu;
use super::operation::{Kernel, Operation, View};
use crate::Result;
use candle_core::{D, Shape, Tensor};

/// The cumulative sums `y_k = x_1 + ... + x_k` over the last dimension, for x whose elements after the first are not
/// negative; where rounding would make a sum no larger than the one before it, it is the next larger number or the one
/// after that.
///
/// The gradient is that of the exact sums. Runs on the CPU.
///
/// # Errors
/// When x has no dimension, or is not of f32 or f64.
pub(crate) fn increasing(x: &Tensor) -> Result<Tensor> {
    on_cpu(x, |x| x.apply_op1(Operation(Increasing)))
}

struct Increasing;

impl Increasing {
    fn forward<T: Real>(x: &[T], n: usize) -> Vec<T> {
        let mut y = x.to_vec();
        for row in y.chunks_exact_mut(n.max(1)) {
            let (mut sum, mut last) = (0.0, T::neg_infinity());
            for value in row {
                sum += value.wide();
                let next = last + last.abs() * T::epsilon() + T::min_positive_value();
                *value = T::of(sum);
                // False for a NaN, which stays.
                if *value <= last {
                    *value = next;
                }
                last = *value;
            }
        }
        y
    }

    /// The sums from element k to the last.
    fn backward<T: Real>(grad: &[T], n: usize) -> Vec<T> {
        let mut out = grad.to_vec();
        for row in out.chunks_exact_mut(n.max(1)) {
            let mut sum = 0.0;
            for value in row.iter_mut().rev() {
                sum += value.wide();
                *value = T::of(sum);
            }
        }
        out
    }
}

impl Kernel<1> for Increasing {
    const NAME: &'static str = "increasing";

    fn value<T: Real>(&self, [x]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        let Some(&n) = x.shape.dims().last() else { candle_core::bail!("cumulative sums of a scalar") };
        Ok((Self::forward(x.values, n), x.shape.clone()))
    }

    fn gradients<T: Real>(
        &self,
        [x]: [&Tensor; 1],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let n = x.dim(D::Minus1)?;
        let values = with_slice::<T, _>(grad, |grad| Self::backward(grad, n))?;
        Ok([Some(T::tensor(values, grad.shape())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn sums_increase_and_have_the_gradient_of_sums() -> Result<()> {
        let x =
            Var::new(&[[1.0f32, 0.0, 2.0, 1e-20], [-1e30, 1.0, 0.0, 1e30], [0.0, 0.0, f32::NAN, 1.0]], &Device::Cpu)?;
        let y = increasing(&x)?;
        let rows = y.to_vec2::<f32>()?;
        assert!(rows[..2].iter().all(|row| row.windows(2).all(|pair| pair[0] < pair[1])), "{rows:?}");
        assert_eq!([rows[0][0], rows[0][2]], [1.0, 3.0]);
        assert!(rows[2][0] < rows[2][1] && rows[2][2].is_nan() && rows[2][3].is_nan(), "{rows:?}");
        let weights = Tensor::new(&[[1.0f32, 2.0, 4.0, 8.0]], &Device::Cpu)?;
        let gradients = y.broadcast_mul(&weights)?.sum_all()?.backward()?;
        let gradient = gradients.get(&x).map(|g| g.to_vec2::<f32>()).transpose()?.unwrap_or_default();
        assert_eq!(gradient[0], [15.0, 14.0, 12.0, 8.0]);
        Ok(())
    }
}
