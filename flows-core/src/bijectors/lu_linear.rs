//! A matrix in its LU decomposition.

use super::linear::{Start, entries_weight, reserve_matrix, times_rows};
use super::permutation::{Order, inverted};
use super::{Bijector, Direction, Mode};
use crate::nn::{Buffer, Init, Scope};
use crate::ops::{self, Triangle};
use crate::shape::shared_log_det;
use crate::{Result, Structure};
use candle_core::Tensor;

/// The smallest diagonal entry of U, so that the map stays invertible.
const FLOOR: f64 = 1e-3;

/// A linear map in its LU decomposition: `z = L U P x + b`, `log|det dz/dx| = sum log diag(U)`.
///
/// L is unit lower triangular; the diagonal of U is `softplus(diag) + 0.001`, so the map cannot
/// become singular; P is a permutation that is not trained, the identity unless one is asked for
/// (then as [`Permutation`](super::Permutation): `(P x)_i = x_{permutation_i}`). The direction that
/// training needs, `inverse`, is one product with a D x D matrix; `forward` solves two triangular
/// systems, in f64.
///
/// Weights: `lower` and `upper` (D (D - 1) / 2), the off-diagonal entries in row-major order,
/// `diag` (D), `bias` (D); buffer: `permutation` (D, u32), if there is one. As in the LULinear of nflows
/// (Oliva et al. 2018, arXiv:1801.09819).
#[derive(Debug)]
pub struct LuLinear {
    shape: [usize; 1],
    below: Triangle,
    above: Triangle,
    lower: Tensor,
    upper: Tensor,
    diag: Tensor,
    bias: Tensor,
    permutation: Option<Buffer>,
}

impl LuLinear {
    /// A map of vectors of length `dim` whose L U starts at or near the identity, after the permutation
    /// `order`, if any.
    ///
    /// # Errors
    /// When `dim` is 0 or the order does not permute `dim` elements.
    pub fn new(dim: usize, start: Start, order: Option<Order>, scope: &Scope) -> Result<Self> {
        reserve_matrix(dim, scope)?;
        let below = Triangle::lower(dim, scope.device())?;
        let above = Triangle::upper(dim, scope.device())?;
        let bound = 1.0 / (dim as f64).sqrt();
        // softplus(diag) + FLOOR = 1.
        let one = Init::Constant((1.0 - FLOOR).exp_m1().ln());
        Ok(Self {
            shape: [dim],
            lower: entries_weight("lower", &below, start.small(bound), scope)?,
            upper: entries_weight("upper", &above, start.small(bound), scope)?,
            diag: scope.weight("diag", dim, one)?,
            bias: scope.weight("bias", dim, Init::Zeros)?,
            permutation: order.map(|order| order.buffer(dim, scope)).transpose()?,
            below,
            above,
        })
    }

    fn diagonal(&self) -> Result<Tensor> {
        Ok((ops::softplus(&self.diag)? + FLOOR)?)
    }

    fn l(&self) -> Result<Tensor> {
        self.below.matrix(&self.lower, None)
    }

    fn u(&self, diagonal: &Tensor) -> Result<Tensor> {
        self.above.matrix(&self.upper, Some(diagonal))
    }

    fn to_data(&self, z: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let diagonal = self.diagonal()?;
        let x = ops::solve_triangular_rows(&self.l()?, &z.broadcast_sub(&self.bias)?, false, true, false)?;
        let mut x = ops::solve_triangular_rows(&self.u(&diagonal)?, &x, true, false, false)?;
        if let Some(permutation) = &self.permutation {
            x = x.index_select(&inverted(&permutation.get())?, 1)?;
        }
        Ok((x, shared_log_det(&diagonal.log()?.sum_all()?.neg()?, batch)?))
    }

    fn to_latent(&self, x: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let diagonal = self.diagonal()?;
        let mut w = ops::lu_product(&self.lower, &self.upper, &diagonal)?;
        if let Some(permutation) = &self.permutation {
            // The columns of the matrix are permuted, not those of the batch.
            w = w.index_select(&inverted(&permutation.get())?, 1)?;
        }
        let z = times_rows(&w, x, Some(&self.bias))?;
        Ok((z, shared_log_det(&diagonal.log()?.sum_all()?, batch)?))
    }
}

impl Bijector for LuLinear {
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
        let permuted = if self.permutation.is_some() { ", permuted" } else { "" };
        let weights = [&self.lower, &self.upper, &self.diag, &self.bias];
        Structure::new("LuLinear", format!("{0} x {0}{permuted}", self.shape[0])).weights(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::Permutation;
    use crate::bijectors::linear::check;
    use crate::nn::Parameters;
    use crate::{Rng, testing::difference};
    use candle_core::{DType, Device};

    #[test]
    fn is_exact() -> Result<()> {
        for (dim, order) in [(1, None), (5, None), (5, Some(Order::Random)), (2, Some(Order::Reverse))] {
            check(&[dim], |scope| LuLinear::new(dim, Start::Random, order.clone(), scope))?;
        }
        Ok(())
    }

    #[test]
    fn starts_as_its_permutation() -> Result<()> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let order = Order::Given(vec![2, 0, 1]);
        let lu = LuLinear::new(3, Start::Identity, Some(order.clone()), &parameters.scope().enter("a"))?;
        let plain = Permutation::new(&[3], order, &parameters.scope().enter("b"))?;
        let x = Tensor::new(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu)?;
        let (z, log_det) = lu.inverse(&x, None)?;
        assert!(difference(&plain.inverse(&x, None)?.0, &z)? < 1e-14);
        assert!(difference(&Tensor::zeros(2, DType::F64, &Device::Cpu)?, &log_det)? < 1e-14);
        Ok(())
    }
}
