//! Sums over one dimension, accumulated in f64, at the speed of memory.

use super::cpu::Real;
use super::operation::{Kernel, Operation, View};
use super::simd::{chunks, dispatch};
use crate::Result;
use candle_core::shape::Dim;
use candle_core::{DType, Shape, Tensor};

/// The sum over dimension `dim`, which is dropped.
///
/// # Errors
/// When there is no such dimension.
pub fn sum(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "sum")?;
    if is_fused(x) {
        return Ok(x.contiguous()?.apply_op1(Operation(Sum { dim, scale: 1.0 }))?);
    }
    Ok(x.sum(dim)?)
}

/// The mean over dimension `dim`, which is dropped.
///
/// # Errors
/// When there is no such dimension.
pub fn mean(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "mean")?;
    if is_fused(x) {
        return Ok(x.contiguous()?.apply_op1(Operation(Sum { dim, scale: 1.0 / x.dim(dim)? as f64 }))?);
    }
    Ok(x.mean(dim)?)
}

/// Sums everything but the batch: (B, ...) to (B).
///
/// # Errors
/// When `x` has no batch dimension.
pub fn sum_event(x: &Tensor) -> Result<Tensor> {
    match x.rank() {
        1 => Ok(x.clone()),
        2 => sum(x, 1),
        _ => sum(&x.flatten_from(1)?, 1),
    }
}

fn is_fused(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// The numbers that one task adds, which takes about ten microseconds.
const CHUNK: usize = 1 << 16;

/// The sum over one dimension, times a number.
struct Sum {
    dim: usize,
    scale: f64,
}

impl Sum {
    /// The number of elements before, along and after the dimension that is summed over.
    fn sizes(&self, dims: &[usize]) -> [usize; 3] {
        [&dims[..self.dim], &dims[self.dim..=self.dim], &dims[self.dim + 1..]].map(|part| part.iter().product())
    }

    fn forward<T: Real>(&self, x: &[T], [outer, n, inner]: [usize; 3]) -> Vec<T> {
        let mut out = vec![T::zero(); outer * inner];
        let size = (CHUNK / n.max(1)).clamp(1, CHUNK);
        if inner == 1 {
            chunks(&mut out, size, &|start, out: &mut [T]| {
                dispatch(
                    #[inline(always)]
                    || {
                        for (i, out) in (start..).zip(out) {
                            *out = T::of(total(&x[i * n..(i + 1) * n]) * self.scale);
                        }
                    },
                );
            });
            return out;
        }
        // Columns side by side, enough of them to read whole cache lines.
        chunks(&mut out, size.max(64), &|start, out: &mut [T]| {
            dispatch(
                #[inline(always)]
                || {
                    let mut totals = vec![0.0; out.len().min(inner)];
                    let mut done = 0;
                    while done < out.len() {
                        let (row, column) = ((start + done) / inner, (start + done) % inner);
                        let totals = &mut totals[..(inner - column).min(out.len() - done)];
                        totals.fill(0.0);
                        for i in 0..n {
                            let at = (row * n + i) * inner + column;
                            for (total, x) in totals.iter_mut().zip(&x[at..]) {
                                *total += x.wide();
                            }
                        }
                        for (out, &total) in out[done..].iter_mut().zip(totals.iter()) {
                            *out = T::of(total * self.scale);
                        }
                        done += totals.len();
                    }
                },
            );
        });
        out
    }
}

/// The sum of a slice, in independent lanes that the compiler turns into vector instructions.
#[inline(always)]
pub(super) fn total<T: Real>(x: &[T]) -> f64 {
    // Enough to hide the latency of an addition.
    const LANES: usize = 32;
    let (parts, rest) = x.as_chunks::<LANES>();
    let mut total = rest.iter().map(|x| x.wide()).sum();
    if !parts.is_empty() {
        let mut lanes = [0.0; LANES];
        for part in parts {
            for (lane, x) in lanes.iter_mut().zip(part) {
                *lane += x.wide();
            }
        }
        // By halves: one after another, each addition would wait for the one before.
        for half in [16, 8, 4, 2, 1] {
            let (low, high) = lanes.split_at_mut(half);
            low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        }
        total += lanes[0];
    }
    total
}

impl Kernel<1> for Sum {
    const NAME: &'static str = "sum";

    fn value<T: Real>(&self, [x]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        let mut dims = x.shape.dims().to_vec();
        let sums = self.forward(x.values, self.sizes(&dims));
        dims.remove(self.dim);
        Ok((sums, dims.into()))
    }

    fn gradients<T: Real>(
        &self,
        [x]: [&Tensor; 1],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let grad = if self.scale == 1.0 { grad.clone() } else { (grad * self.scale)? };
        let grad = grad.unsqueeze(self.dim)?.broadcast_as(x.shape())?;
        // candle adds such a broadcast tensor without a copy if it repeats a whole block or single numbers.
        let [outer, _, inner] = self.sizes(x.dims());
        Ok([Some(if outer == 1 || inner == 1 { grad } else { grad.contiguous()? })])
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

    fn both(x: &Tensor, dim: usize, dtype: DType, fused: bool) -> Result<Vec<Tensor>> {
        let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
        let at = x.transpose(0, 2)?;
        let (sum, mean) = if fused { (sum(&at, dim)?, mean(&at, dim)?) } else { (at.sum(dim)?, at.mean(dim)?) };
        let loss = (sum.sin()? + mean.sqr()?)?.sum_all()?;
        let gradient = loss.backward()?.get(&x).cloned().unwrap_or(x.zeros_like()?);
        Ok(vec![sum, mean, gradient])
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
        })]
        #[test]
        fn fused_is_plain(
            a in prop_oneof![Just(1usize), 2usize..20, 100usize..300],
            b in 1usize..40,
            c in prop_oneof![Just(1usize), 2usize..30],
            dim in 0usize..3,
            seed in any::<u64>(),
        ) {
            let x = Rng::seed(seed).normal_tensor((a, b, c), DType::F32, &Device::Cpu).unwrap();
            let want = both(&x, dim, DType::F64, false).unwrap();
            for (dtype, tolerance) in [(DType::F32, 5e-6), (DType::F64, 1e-12)] {
                for (want, got) in want.iter().zip(both(&x, dim, dtype, true).unwrap()) {
                    let off = difference(want, &got.to_dtype(DType::F64).unwrap()).unwrap();
                    prop_assert!(off < tolerance, "{dtype:?} {off}");
                }
            }
        }
    }

    #[test]
    fn sums_are_exact_and_may_be_empty() -> Result<()> {
        // f32 cannot represent 2^24 + 1.
        let mut values = vec![1f32; 4097];
        values[0] = 16_777_216.0;
        values[4096] = -16_777_216.0;
        let x = Tensor::from_vec(values, (1, 17, 241), &Device::Cpu)?;
        assert_eq!(sum_event(&x)?.to_vec1::<f32>()?, [4095.0]);
        let empty = Tensor::zeros((3, 0), DType::F32, &Device::Cpu)?;
        assert_eq!(sum(&empty, 1)?.to_vec1::<f32>()?, [0.0; 3]);
        assert_eq!(sum(&empty, 0)?.dims(), [0]);
        assert!(sum(&empty, 2).is_err());
        Ok(())
    }
}
