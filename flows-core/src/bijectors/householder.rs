//! Products of reflections.

use super::{Bijector, Direction, Mode};
use crate::nn::{Init, Scope};
use crate::shape::zero_log_det;
use crate::{Error, Result, Structure, ops};
use candle_core::{DType, Tensor};

/// A product of Householder reflections, an orthogonal map: `z = H_K ... H_1 x`,
/// `H_k = I - 2 q_k q_k^T / |q_k|^2`, log-determinant 0.
///
/// K = D reflections reach every orthogonal matrix of determinant (-1)^D, fewer only some of them
/// (Tomczak and Welling 2016, arXiv:1611.09630). The product is not taken factor by factor: with Q
/// (K, D) the matrix of the q_k and S the strict upper triangle of Q Q^T plus half its diagonal,
/// `H_1 ... H_K = I - Q^T S^-1 Q` (Joffrain et al. 2006), two matrix products per call.
///
/// Weight: `q` (K, D), from a standard normal; a row of zeros defines no reflection and gives NaN.
#[derive(Debug)]
pub struct Householder {
    shape: [usize; 1],
    q: Tensor,
    mask: Tensor,
}

impl Householder {
    /// A map of vectors of length `dim` by `reflections` reflections.
    ///
    /// # Errors
    /// When either is 0.
    pub fn new(dim: usize, reflections: usize, scope: &Scope) -> Result<Self> {
        if dim == 0 || reflections == 0 {
            return Err(Error::Config("a Householder map needs at least one dimension and one reflection".into()));
        }
        let k = reflections;
        scope.reserve("mask", (k, k), DType::F64)?;
        let entry = |i: usize, j: usize| match i.cmp(&j) {
            std::cmp::Ordering::Less => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 0.0,
        };
        let mask: Vec<f64> = (0..k * k).map(|e| entry(e / k, e % k)).collect();
        Ok(Self {
            shape: [dim],
            q: scope.weight("q", (k, dim), Init::Normal(1.0))?,
            mask: Tensor::from_vec(mask, (k, k), scope.device())?.to_dtype(scope.dtype())?,
        })
    }

    /// `x - Q^T op(S)^-1 Q x` for the rows x.
    fn apply(&self, x: &Tensor, transpose: bool) -> Result<Tensor> {
        let s = (ops::product(&self.q, &self.q.t()?)? * &self.mask)?;
        // For rows, the transpose: x Q^T op(S)^-T Q.
        let solved = ops::solve_triangular(&s, &self.q, true, false, !transpose)?;
        let x = x.contiguous()?;
        let along = ops::linear(&x, &self.q, None, ops::FusedActivation::Identity)?;
        Ok((&x - ops::product(&along, &solved)?)?)
    }
}

impl Bijector for Householder {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(&self, direction: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        self.check_input(direction, v)?;
        Ok((self.apply(v, direction == Direction::Inverse)?, zero_log_det(v)?))
    }

    fn structure(&self) -> Structure {
        let details = format!("{} reflections of {}", self.q.dims()[0], self.shape[0]);
        Structure::new("Householder", details).weights([&self.q])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::linear::check;
    use crate::{Rng, nn::Parameters, testing::difference};
    use candle_core::Device;

    #[test]
    fn is_exact() -> Result<()> {
        for (dim, reflections) in [(1, 1), (5, 3), (4, 6)] {
            check(&[dim], |scope| Householder::new(dim, reflections, scope))?;
        }
        Ok(())
    }

    #[test]
    fn reflects_in_order() -> Result<()> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
        let map = Householder::new(4, 3, &parameters.scope())?;
        let x = Rng::seed(2).normal_tensor((5, 4), DType::F64, &Device::Cpu)?;
        let mut want = x.clone();
        for k in 0..3 {
            let q = map.q.narrow(0, k, 1)?;
            let along = want.matmul(&q.t()?)?.broadcast_div(&q.sqr()?.sum_all()?)?;
            want = (want - (along.matmul(&q)? * 2.0)?)?;
        }
        assert!(difference(&want, &map.inverse(&x, None)?.0)? < 1e-13);
        Ok(())
    }
}
