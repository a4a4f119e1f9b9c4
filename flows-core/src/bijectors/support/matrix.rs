//! Positive definite matrices.

use super::factor::{CorrelationFactor, CovarianceFactor};
use super::onto::{Limits, Map, clip};
use crate::Result;
use crate::ops::{cholesky, sum, sum_event};
use candle_core::{D, DType, Device, Tensor};

/// See [`super::Support::Correlation`].
#[derive(Debug)]
pub(super) struct Correlation {
    factor: CorrelationFactor,
    limits: Limits,
    unit: Tensor,
}

impl Correlation {
    pub(super) fn new(size: usize, dtype: DType, device: &Device) -> Result<Self> {
        let factor = CorrelationFactor::of_correlation(size, dtype, device)?;
        Ok(Self { factor, limits: Limits::of(dtype), unit: Tensor::eye(size, dtype, device)?.unsqueeze(0)? })
    }
}

impl Map for Correlation {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let (factor, log_det) = self.factor.forward(z)?;
        let most = 1.0 - self.limits.epsilon;
        let x = clip(&square(&factor)?, -most, most)?;
        // The diagonal is 1 to the bit.
        let beside = x.broadcast_mul(&self.unit.affine(-1.0, 1.0)?)?;
        Ok((definite(&beside.broadcast_add(&self.unit)?, &self.unit, self.limits)?, log_det))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        let off = sum_event(&x.broadcast_sub(&self.unit)?.broadcast_mul(&self.unit)?.abs()?)?;
        let off = off.gt(self.limits.tolerance())?.unsqueeze(1)?;
        Ok(Tensor::cat(&[off, not_definite(x, &self.unit, self.limits)?], 1)?)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        self.factor.inverse(&cholesky(x)?)
    }
}

/// See [`super::Support::Covariance`].
#[derive(Debug)]
pub(super) struct Covariance {
    size: usize,
    factor: CovarianceFactor,
    limits: Limits,
    unit: Tensor,
}

impl Covariance {
    pub(super) fn new(size: usize, dtype: DType, device: &Device) -> Result<Self> {
        let factor = CovarianceFactor::of_covariance(size, dtype, device)?;
        Ok(Self { size, factor, limits: Limits::of(dtype), unit: Tensor::eye(size, dtype, device)?.unsqueeze(0)? })
    }

    /// The constant in the log-determinant: each diagonal entry is a square.
    fn constant(&self) -> f64 {
        self.size as f64 * std::f64::consts::LN_2
    }
}

impl Map for Covariance {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let (factor, log_det) = self.factor.forward(z)?;
        Ok((definite(&square(&factor)?, &self.unit, self.limits)?, (log_det + self.constant())?))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        not_definite(x, &self.unit, self.limits)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (z, log_det) = self.factor.inverse(&cholesky(x)?)?;
        Ok((z, (log_det - self.constant())?))
    }
}

/// `L L^T`, rounded once where the device has f64.
fn square(factor: &Tensor) -> Result<Tensor> {
    let exact = if factor.device().is_metal() { factor.dtype() } else { DType::F64 };
    let wide = factor.to_dtype(exact)?;
    Ok(wide.matmul(&wide.transpose(D::Minus1, D::Minus2)?.contiguous()?)?.to_dtype(factor.dtype())?)
}

/// The matrices x (B, K, K), with what is beside the diagonal made smaller by some roundings where x is singular but
/// for rounding.
fn definite(x: &Tensor, unit: &Tensor, limits: Limits) -> Result<Tensor> {
    let less = 16.0 * x.dim(D::Minus1)? as f64 * limits.epsilon;
    let singular = positive_definite(x)?.eq(0u8)?.to_dtype(x.dtype())?;
    let less = (singular * less)?.unsqueeze(1)?.unsqueeze(1)?;
    // 1 on the diagonal, and 1 or a little less beside it.
    let scale = less.broadcast_mul(&unit.affine(1.0, -1.0)?)?.affine(1.0, 1.0)?;
    Ok((x * scale)?)
}

/// Marks the entries that differ from their mirror image and, in one more column, the matrices that are not positive
/// definite: (B, K K + 1).
fn not_definite(x: &Tensor, unit: &Tensor, limits: Limits) -> Result<Tensor> {
    let deviation = clip(&sum(&x.detach().broadcast_mul(unit)?, 2)?, limits.tiny, limits.huge)?.sqrt()?;
    let most = (deviation.unsqueeze(2)?.broadcast_mul(&deviation.unsqueeze(1)?)? * limits.tolerance())?;
    let asymmetric = (x - x.transpose(D::Minus1, D::Minus2)?)?.abs()?.gt(&most)?.flatten_from(1)?;
    Ok(Tensor::cat(&[asymmetric, positive_definite(x)?.eq(0u8)?.unsqueeze(1)?], 1)?)
}

/// Whether the symmetric part of each matrix is positive definite, in f64 and beyond rounding: 1 or 0, (B).
fn positive_definite(x: &Tensor) -> Result<Tensor> {
    let n = x.dim(D::Minus1)?;
    let values = x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let mut factor = vec![0.0; n * n];
    let definite = values.chunks_exact(n * n).map(|a| u8::from(has_factor(a, n, &mut factor))).collect::<Vec<_>>();
    Ok(Tensor::from_vec(definite, x.dim(0)?, x.device())?)
}

/// Whether a matrix, scaled to a diagonal of ones, has a factor; that is written to `factor`.
fn has_factor(matrix: &[f64], n: usize, factor: &mut [f64]) -> bool {
    let scale = |i: usize| matrix[i * n + i].sqrt();
    for i in 0..n {
        let variance = matrix[i * n + i];
        if !variance.is_finite() || variance <= 0.0 {
            return false;
        }
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| factor[i * n + k] * factor[j * n + k]).sum();
            let entry = 0.5 * (matrix[i * n + j] / scale(i) / scale(j) + matrix[j * n + i] / scale(i) / scale(j));
            let left = entry - sum;
            if i == j && (left.is_nan() || left <= n as f64 * f64::EPSILON) {
                return false;
            }
            factor[i * n + j] = if i == j { left.sqrt() } else { left / factor[j * n + j] };
        }
    }
    true
}
