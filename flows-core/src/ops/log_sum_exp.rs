//! The logarithm of a sum of exponentials over the last dimension, with its forward and its backward pass in one loop
//! each.

use super::cpu::Real;
use super::operation::{Kernel, Operation, View, with_elements};
use super::reduce::total;
use super::simd::{CHUNK, chunks, dispatch};
use crate::Result;
use candle_core::{D, DType, Shape, Tensor};

/// `ln sum_j e^{x_j}` over the last dimension, which is dropped; where all x are minus infinity, so is the result, not
/// NaN.
///
/// # Errors
/// When `x` has no dimension.
pub fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64) && x.rank() > 0 {
        return Ok(x.contiguous()?.apply_op1(Operation(LogSumExp))?);
    }
    plain(x)
}

/// The same as a composition of candle's operations, for other devices and as the tests' reference.
fn plain(x: &Tensor) -> Result<Tensor> {
    // A finite shift keeps inf - inf out of the forward pass and of the gradient.
    let shift = x.max_keepdim(D::Minus1)?.clamp(-1e38, 1e38)?.detach();
    let sum = x.broadcast_sub(&shift)?.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok((sum + shift)?.squeeze(D::Minus1)?)
}

/// `x`, or the finite number nearest to it.
#[inline(always)]
fn finite<T: Real>(x: T) -> T {
    if x > T::max_value() {
        T::max_value()
    } else if x < T::min_value() {
        T::min_value()
    } else {
        x
    }
}

#[inline(always)]
fn larger<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// The largest number of a slice, in independent lanes.
#[inline(always)]
fn largest<T: Real>(x: &[T]) -> T {
    const LANES: usize = 16;
    let mut top = T::neg_infinity();
    let parts = x.chunks_exact(LANES);
    let rest = parts.remainder();
    if x.len() >= LANES {
        let mut lanes = [top; LANES];
        for part in parts {
            for (lane, &x) in lanes.iter_mut().zip(part) {
                *lane = larger(*lane, x);
            }
        }
        for lane in lanes {
            top = larger(top, lane);
        }
    }
    for &x in rest {
        top = larger(top, x);
    }
    top
}

/// Rows of `n` that make one task.
fn rows(n: usize) -> usize {
    (CHUNK / n.max(1)).max(1)
}

struct LogSumExp;

impl LogSumExp {
    fn forward<T: Real>(x: &[T], n: usize, count: usize) -> Vec<T> {
        let mut out = vec![T::neg_infinity(); count];
        chunks(&mut out, rows(n), &|start, out: &mut [T]| {
            dispatch(
                #[inline(always)]
                || {
                    for (i, out) in out.chunks_mut(rows(n)).enumerate() {
                        let start = start + i * rows(n);
                        let x = &x[start * n..(start + out.len()) * n];
                        // Step by step, so that each function is one loop, however short the rows.
                        let mut powers = x.to_vec();
                        let mut sums = vec![T::zero(); out.len()];
                        for (out, row) in out.iter_mut().zip(powers.chunks_exact_mut(n.max(1))) {
                            *out = finite(largest(row));
                            for x in row {
                                *x -= *out;
                            }
                        }
                        for x in &mut powers {
                            *x = x.fast_exp();
                        }
                        for (sum, row) in sums.iter_mut().zip(powers.chunks_exact(n.max(1))) {
                            *sum = T::of(total(row));
                        }
                        for (out, sum) in out.iter_mut().zip(sums) {
                            *out += sum.fast_ln();
                        }
                    }
                },
            );
        });
        out
    }

    /// `grad e^(x - y)`.
    fn backward<T: Real>(x: &[T], y: &[T], grad: &[T], n: usize) -> Vec<T> {
        let mut out = x.to_vec();
        chunks(&mut out, n * rows(n), &|start, out: &mut [T]| {
            dispatch(
                #[inline(always)]
                || {
                    for (row, &y) in out.chunks_exact_mut(n).zip(&y[start / n..]) {
                        let y = finite(y);
                        for x in row {
                            *x -= y;
                        }
                    }
                    for x in out.iter_mut() {
                        *x = x.fast_exp();
                    }
                    for (row, &g) in out.chunks_exact_mut(n).zip(&grad[start / n..]) {
                        for x in row {
                            *x *= g;
                        }
                    }
                },
            );
        });
        out
    }
}

impl Kernel<1> for LogSumExp {
    const NAME: &'static str = "log_sum_exp";

    fn value<T: Real>(&self, [x]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        let Some((&n, rows)) = x.shape.dims().split_last() else { candle_core::bail!("log_sum_exp of a scalar") };
        Ok((Self::forward(x.values, n, rows.iter().product()), rows.into()))
    }

    fn gradients<T: Real>(
        &self,
        [x]: [&Tensor; 1],
        y: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let n = x.dim(D::Minus1)?.max(1);
        let gx = with_elements::<T, _, _>([x, y, grad], |[x, y, grad]| Self::backward(x, y, grad, n))?;
        Ok([Some(T::tensor(gx, x.shape())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::testing::difference;
    use candle_core::{Device, Var};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn run(f: fn(&Tensor) -> Result<Tensor>, x: &Tensor, dtype: DType) -> Result<[Tensor; 2]> {
        let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
        let y = f(&x)?;
        let gradient = y.sin()?.sum_all()?.backward()?.get(&x).cloned().unwrap_or(x.zeros_like()?);
        Ok([y, gradient])
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
        })]
        #[test]
        fn fused_is_plain(
            rows in prop_oneof![Just(1usize), 2usize..20, 1000usize..2000],
            n in prop_oneof![Just(1usize), 2usize..40],
            seed in any::<u64>(),
        ) {
            let x = (Rng::seed(seed).normal_tensor((rows, n), DType::F32, &Device::Cpu).unwrap() * 5.0).unwrap();
            let want = run(plain, &x, DType::F64).unwrap();
            for (dtype, tolerance) in [(DType::F32, 5e-6), (DType::F64, 1e-12)] {
                for (want, got) in want.iter().zip(run(log_sum_exp, &x, dtype).unwrap()) {
                    let off = difference(want, &got.to_dtype(DType::F64).unwrap()).unwrap();
                    prop_assert!(off < tolerance, "{dtype:?} {off}");
                }
            }
        }
    }

    #[test]
    fn infinities_and_nan_stay_in_their_rows() -> Result<()> {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let x = Var::new(&[[-inf, -inf], [-inf, 1.0], [inf, 0.0], [nan, 0.0], [0.0, 0.0]], &Device::Cpu)?;
        let y = log_sum_exp(&x)?;
        let values = y.to_vec1::<f32>()?;
        assert_eq!(values[..3], [-inf, 1.0, inf]);
        assert!(values[3].is_nan() && values[4] == std::f32::consts::LN_2);
        let grads = y.sum_all()?.backward()?;
        let gradient = grads.get(&x).map(|g| g.to_vec2::<f32>()).transpose()?.unwrap_or_default();
        assert_eq!([&gradient[0], &gradient[1], &gradient[4]], [&[0.0, 0.0], &[0.0, 1.0], &[0.5, 0.5]]);
        Ok(())
    }
}
