//! Rotations.

use super::linear::{Start, entries_weight, reserve_matrix, times_rows};
use super::{Bijector, Direction, Mode};
use crate::nn::Scope;
use crate::ops::{self, Triangle};
use crate::shape::zero_log_det;
use crate::{Result, Structure};
use candle_core::Tensor;

/// A rotation by the Cayley transform: `x = Q z`, `Q = (I + A)^-1 (I - A)`, A skew-symmetric;
/// log-determinant 0.
///
/// Reaches every orthogonal matrix of determinant 1 that has no eigenvalue -1, with D (D - 1) / 2
/// parameters and no redundancy; I + A is never singular. Weight: `skew` (D (D - 1) / 2), the
/// entries of A below the diagonal in row-major order.
#[derive(Debug)]
pub struct Orthogonal {
    shape: [usize; 1],
    triangle: Triangle,
    skew: Tensor,
    identity: Tensor,
}

impl Orthogonal {
    /// A rotation of vectors of length `dim` that starts at or near the identity.
    ///
    /// # Errors
    /// When `dim` is 0.
    pub fn new(dim: usize, start: Start, scope: &Scope) -> Result<Self> {
        reserve_matrix(dim, scope)?;
        let triangle = Triangle::lower(dim, scope.device())?;
        let skew = entries_weight("skew", &triangle, start.small(1.0 / (dim as f64).sqrt()), scope)?;
        Ok(Self { shape: [dim], triangle, skew, identity: Tensor::eye(dim, scope.dtype(), scope.device())? })
    }

    /// Q (D, D).
    ///
    /// # Errors
    /// When the device fails.
    pub fn matrix(&self) -> Result<Tensor> {
        // The unit diagonal cancels.
        let lower = self.triangle.matrix(&self.skew, None)?;
        let a = (&lower - lower.t()?)?;
        ops::solve(&(&self.identity + &a)?, &(&self.identity - &a)?)
    }
}

impl Bijector for Orthogonal {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(&self, direction: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        self.check_input(direction, v)?;
        let q = self.matrix()?;
        let q = if direction == Direction::Forward { q } else { q.t()? };
        Ok((times_rows(&q, v, None)?, zero_log_det(v)?))
    }

    fn structure(&self) -> Structure {
        Structure::new("Orthogonal", format!("{0} x {0}", self.shape[0])).weights([&self.skew])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::linear::check;
    use crate::{Rng, nn::Parameters, testing::difference};
    use candle_core::{DType, Device};

    #[test]
    fn is_exact() -> Result<()> {
        for dim in [1, 2, 5] {
            check(&[dim], |scope| Orthogonal::new(dim, Start::Random, scope))?;
        }
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
        let q = Orthogonal::new(6, Start::Random, &parameters.scope())?.matrix()?;
        assert!(difference(&Tensor::eye(6, DType::F64, &Device::Cpu)?, &q.matmul(&q.t()?)?)? < 1e-13);
        Ok(())
    }
}
