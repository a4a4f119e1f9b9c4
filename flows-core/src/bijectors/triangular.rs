//! A lower-triangular matrix with a positive diagonal.

use super::linear::{entries_weight, reserve_matrix, times_rows};
use super::{Bijector, Direction, Mode};
use crate::nn::{Init, Scope};
use crate::ops::{self, Triangle};
use crate::shape::shared_log_det;
use crate::{Result, Structure};
use candle_core::Tensor;

/// The affine map that turns a standard normal into any Gaussian: `x = L z + b` with covariance L L^T.
///
/// L is lower triangular with diagonal `exp(log_diagonal)`; `log|det dx/dz| = sum log_diagonal`.
/// Starts at the identity. Weights: `lower` (D (D - 1) / 2), the entries below the diagonal in
/// row-major order, `log_diagonal` (D), `bias` (D).
#[derive(Debug)]
pub struct Triangular {
    shape: [usize; 1],
    triangle: Triangle,
    lower: Tensor,
    log_diagonal: Tensor,
    bias: Tensor,
}

impl Triangular {
    /// A map of vectors of length `dim`.
    ///
    /// # Errors
    /// When `dim` is 0.
    pub fn new(dim: usize, scope: &Scope) -> Result<Self> {
        reserve_matrix(dim, scope)?;
        let triangle = Triangle::lower(dim, scope.device())?;
        Ok(Self {
            shape: [dim],
            lower: entries_weight("lower", &triangle, Init::Zeros, scope)?,
            triangle,
            log_diagonal: scope.weight("log_diagonal", dim, Init::Zeros)?,
            bias: scope.weight("bias", dim, Init::Zeros)?,
        })
    }

    /// L (D, D).
    ///
    /// # Errors
    /// When the device fails.
    pub fn matrix(&self) -> Result<Tensor> {
        self.triangle.matrix(&self.lower, Some(&self.log_diagonal.exp()?))
    }

    fn to_data(&self, z: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let x = times_rows(&self.matrix()?, z, Some(&self.bias))?;
        Ok((x, shared_log_det(&self.log_diagonal.sum_all()?, batch)?))
    }

    fn to_latent(&self, x: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let centred = x.broadcast_sub(&self.bias)?;
        let z = ops::solve_triangular_rows(&self.matrix()?, &centred, false, false, false)?;
        Ok((z, shared_log_det(&self.log_diagonal.sum_all()?.neg()?, batch)?))
    }
}

impl Bijector for Triangular {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(&self, direction: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let batch = self.check_input(direction, v)?;
        match direction {
            Direction::Forward => self.to_data(v, batch),
            Direction::Inverse => self.to_latent(v, batch),
        }
    }

    fn structure(&self) -> Structure {
        let weights = [&self.lower, &self.log_diagonal, &self.bias];
        Structure::new("Triangular", format!("{0} x {0}", self.shape[0])).weights(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::linear::check;

    #[test]
    fn is_exact() -> Result<()> {
        for dim in [1, 5] {
            check(&[dim], |scope| Triangular::new(dim, scope))?;
        }
        Ok(())
    }
}
