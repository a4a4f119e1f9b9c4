//! A full matrix.

use super::linear::{Start, reserve_matrix, times_rows};
use super::{Bijector, Direction, Mode};
use crate::nn::{Init, Scope};
use crate::shape::shared_log_det;
use crate::{Error, Result, Structure, ops};
use candle_core::{DType, Tensor};

/// A full linear map: `x = W z + b`, `log|det dx/dz| = log|det W|`.
///
/// The determinant and the solution of `W z = x - b` are found in f64 by an LU decomposition with
/// partial pivoting, O(D^3) per call. Weights: `weight` (D, D), `bias` (D).
#[derive(Debug)]
pub struct Matrix {
    shape: [usize; 1],
    weight: Tensor,
    bias: Tensor,
}

impl Matrix {
    /// A map of vectors of length `dim` that starts at the identity or a random orthogonal matrix.
    ///
    /// # Errors
    /// When `dim` is 0.
    pub fn new(dim: usize, start: Start, scope: &Scope) -> Result<Self> {
        reserve_matrix(dim, scope)?;
        let values = start.matrix(dim, scope);
        let weight = scope.weight("weight", (dim, dim), Init::Values(values))?;
        Ok(Self { shape: [dim], weight, bias: scope.weight("bias", dim, Init::Zeros)? })
    }

    fn log_det(&self) -> Result<Tensor> {
        finite_log_det(&self.weight, "Matrix")
    }
}

/// `log|det W|`, or an error if W is singular.
pub(super) fn finite_log_det(weight: &Tensor, name: &str) -> Result<Tensor> {
    let log_det = ops::log_abs_det(weight)?;
    if log_det.to_dtype(DType::F64)?.to_scalar::<f64>()? == f64::NEG_INFINITY {
        return Err(Error::Diverged(format!(
            "the weight of a `{name}` is singular, so the flow cannot be inverted: start from the identity or an \
             orthogonal matrix and lower the learning rate, or take an LU-parametrised map, which cannot be singular"
        )));
    }
    Ok(log_det)
}

impl Matrix {
    fn to_data(&self, z: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let x = times_rows(&self.weight, z, Some(&self.bias))?;
        Ok((x, shared_log_det(&self.log_det()?, batch)?))
    }

    fn to_latent(&self, x: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let log_det = self.log_det()?.neg()?;
        let z = ops::solve_rows(&self.weight, &x.broadcast_sub(&self.bias)?)?;
        Ok((z, shared_log_det(&log_det, batch)?))
    }
}

impl Bijector for Matrix {
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
        Structure::new("Matrix", format!("{0} x {0}", self.shape[0])).weights([&self.weight, &self.bias])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::linear::check;
    use crate::{Rng, nn::Parameters};
    use candle_core::{Device, Var};

    #[test]
    fn is_exact() -> Result<()> {
        for dim in [1, 5] {
            check(&[dim], |scope| Matrix::new(dim, Start::Random, scope))?;
        }
        Ok(())
    }

    #[test]
    fn a_singular_matrix_is_an_error() -> Result<()> {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let matrix = Matrix::new(2, Start::Identity, &parameters.scope())?;
        let z = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
        assert_eq!(matrix.forward(&z, None)?.0.to_vec2::<f32>()?, [[1.0, 2.0]]);
        Var::from_tensor(&matrix.weight)?.set(&Tensor::new(&[[1f32, 2.0], [2.0, 4.0]], &Device::Cpu)?)?;
        assert!(matrix.inverse(&z, None).unwrap_err().to_string().contains("singular"));
        Ok(())
    }
}
