//! Vectors whose elements add up to zero, and the simplex beside them.

use super::onto::{Limits, Map, clip, constant};
use crate::Result;
use crate::ops::{exp, log_softmax, sum};
use candle_core::{DType, Device, Tensor};

/// The orthonormal basis of the vectors that add up to zero, as rows (K - 1, K): row i is 1 in its first i positions
/// and -i in the next, over `sqrt(i (i + 1))`.
fn basis(size: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let mut values = vec![0.0; (size - 1) * size];
    for (i, row) in (1..size).zip(values.chunks_exact_mut(size)) {
        let n = i as f64;
        let unit = (n * (n + 1.0)).sqrt().recip();
        row[..i].fill(unit);
        row[i] = -n * unit;
    }
    constant(values, &[size - 1, size], dtype, device)
}

/// See [`super::Support::SumToZero`].
#[derive(Debug)]
pub(super) struct SumToZero {
    basis: Tensor,
    limits: Limits,
}

impl SumToZero {
    pub(super) fn new(size: usize, dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self { basis: basis(size, dtype, device)?, limits: Limits::of(dtype) })
    }
}

impl Map for SumToZero {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((z.matmul(&self.basis)?, sum(&z.zeros_like()?, 1)?))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        let most = ((sum(&x.abs()?, 1)? + 1.0)? * self.limits.tolerance())?;
        Ok(sum(x, 1)?.abs()?.gt(&most)?)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((x.matmul(&self.basis.t()?)?, sum(&x.zeros_like()?, 1)?))
    }
}

/// The softmax of a vector that adds up to zero; see [`super::Support::Simplex`].
#[derive(Debug)]
pub(super) struct Simplex {
    size: usize,
    basis: Tensor,
    limits: Limits,
}

impl Simplex {
    pub(super) fn new(size: usize, dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self { size, basis: basis(size, dtype, device)?, limits: Limits::of(dtype) })
    }

    /// The log-determinant of `forward`, from ln x.
    fn log_det(&self, logs: &Tensor) -> Result<Tensor> {
        Ok((sum(logs, 1)? + 0.5 * (self.size as f64).ln())?)
    }
}

impl Map for Simplex {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let logits = z.matmul(&self.basis)?;
        // The largest first of all: among large numbers the logarithm of a sum would be lost in rounding.
        let logs = log_softmax(&logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?)?;
        let log_det = self.log_det(&logs)?;
        Ok((probabilities(&logs, self.limits)?, log_det))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        outside_simplex(x, self.limits)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let logs = self.limits.ln(x)?;
        Ok((logs.matmul(&self.basis.t()?)?, self.log_det(&logs)?.neg()?))
    }
}

/// Probabilities from their logarithms, none of them 0 or 1.
pub(super) fn probabilities(logs: &Tensor, limits: Limits) -> Result<Tensor> {
    let most = 1.0 - limits.epsilon;
    clip(&exp(&clip(logs, limits.tiny.ln() + 1.0, 0.0)?)?, 0.0, most)
}

/// Marks the elements that are not positive and, in one more column, the rows that do not add up to 1.
pub(super) fn outside_simplex(x: &Tensor, limits: Limits) -> Result<Tensor> {
    let off = (sum(x, 1)? - 1.0)?.abs()?.gt(limits.tolerance())?;
    Ok(Tensor::cat(&[x.le(0.0)?, off.unsqueeze(1)?], 1)?)
}
