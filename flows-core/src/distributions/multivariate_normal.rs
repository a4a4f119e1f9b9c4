//! The normal distribution with a full covariance.

use super::Distribution;
use super::checks::{
    LN_2PI, at_least_one, check_alike, check_batch, check_rows, check_values, described, values_of, zero_at_infinity,
};
use crate::nn::{Init, Scope};
use crate::ops::{FusedActivation, Triangle, cholesky, linear, solve_triangular_rows, sum};
use crate::{Error, Result, Rng};
use candle_core::{DType, Tensor};

/// The normal distribution over vectors with mean `loc` and covariance `L L^T`, where L is lower
/// triangular with a positive diagonal:
/// `log p(x) = -1/2 |y|^2 - sum_i ln L_ii - D/2 ln(2 pi)`, `L y = x - loc`. A context is ignored.
#[derive(Clone, Debug)]
pub struct MultivariateNormal {
    event: [usize; 1],
    loc: Tensor,
    /// `ln L_ii`, (D).
    log_diagonal: Tensor,
    /// The entries below the diagonal, row by row, (D (D - 1) / 2).
    lower: Tensor,
}

impl MultivariateNormal {
    /// The distribution with this mean (D) and covariance (D, D).
    ///
    /// # Errors
    /// When shapes or dtypes differ, or the covariance is not symmetric and positive definite.
    pub fn new(loc: &Tensor, covariance: &Tensor) -> Result<Self> {
        let [n] = *loc.dims() else {
            return Err(Error::shape("the mean", loc.dims(), "(D)"));
        };
        at_least_one("the dimension", n)?;
        check_alike("the covariance", &loc.unsqueeze(0)?.broadcast_as((n, n))?, covariance)?;
        check_values("the mean", loc, "finite", f64::is_finite)?;
        check_symmetric(&values_of(covariance)?, n)?;
        let not_definite =
            |_| Error::Config("the covariance is not positive definite: add a small number to its diagonal".into());
        let factor = values_of(&cholesky(&covariance.to_dtype(DType::F64)?).map_err(not_definite)?)?;
        let log_diagonal: Vec<f64> = (0..n).map(|i| factor[i * n + i].ln()).collect();
        let lower: Vec<f64> = (0..n).flat_map(|i| factor[i * n..i * n + i].to_vec()).collect();
        let tensor = |values: Vec<f64>| {
            let count = values.len();
            Tensor::from_vec(values, count, loc.device())?.to_dtype(loc.dtype())
        };
        Ok(Self { event: [n], loc: loc.clone(), log_diagonal: tensor(log_diagonal)?, lower: tensor(lower)? })
    }

    /// The distribution over vectors of `n` numbers with trainable weights `loc`,
    /// `log_diagonal` and, for more than one dimension, `lower`; initially the standard normal.
    ///
    /// # Errors
    /// When `n` is 0 or a name is taken.
    pub fn trainable(n: usize, scope: &Scope) -> Result<Self> {
        at_least_one("the dimension", n)?;
        let loc = scope.weight("loc", n, Init::Zeros)?;
        let log_diagonal = scope.weight("log_diagonal", n, Init::Zeros)?;
        let lower = match n {
            1 => Tensor::zeros(0, scope.dtype(), scope.device())?,
            _ => scope.weight("lower", n * (n - 1) / 2, Init::Zeros)?,
        };
        Ok(Self { event: [n], loc, log_diagonal, lower })
    }

    /// The mean, (D).
    pub fn loc(&self) -> &Tensor {
        &self.loc
    }

    /// The factor L of the covariance, (D, D).
    ///
    /// # Errors
    /// When the device fails.
    pub fn scale_tril(&self) -> Result<Tensor> {
        let below = Triangle::lower(self.event[0], self.loc.device())?;
        below.matrix(&self.lower, Some(&self.log_diagonal.exp()?))
    }

    fn log_prob_at(&self, y: &Tensor) -> Result<Tensor> {
        let [n] = self.event;
        let square = sum(&y.sqr()?, 1)?.affine(-0.5, -0.5 * n as f64 * LN_2PI)?;
        Ok(square.broadcast_sub(&self.log_diagonal.sum_all()?)?)
    }

    /// `count` draws x, with the standard normal y of which they are images.
    fn draw(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        check_rows(context, count)?;
        let y = rng.normal_tensor((count, self.event[0]), self.loc.dtype(), self.loc.device())?;
        Ok((linear(&y, &self.scale_tril()?, Some(&self.loc), FusedActivation::Identity)?, y))
    }
}

/// Checks that a row-major matrix (n, n) is finite and, up to rounding, symmetric.
fn check_symmetric(matrix: &[f64], n: usize) -> Result<()> {
    let largest = matrix.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, j) in (0..n).flat_map(|i| (0..=i).map(move |j| (i, j))) {
        let (a, mirrored) = (matrix[i * n + j], matrix[j * n + i]);
        if !a.is_finite() || (a - mirrored).abs() > 1e-5 * largest {
            return Err(Error::Config(format!(
                "the covariance must be finite and symmetric: entries ({i}, {j}) and ({j}, {i}) are {a} and {mirrored}"
            )));
        }
    }
    Ok(())
}

impl Distribution for MultivariateNormal {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        check_batch(x, &self.event, context)?;
        let y = solve_triangular_rows(&self.scale_tril()?, &x.broadcast_sub(&self.loc)?, false, false, false)?;
        zero_at_infinity(&self.log_prob_at(&y)?, x)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        Ok(self.draw(count, context, rng)?.0)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let (x, y) = self.draw(count, context, rng)?;
        Ok((x, self.log_prob_at(&y)?))
    }

    described!(|self| "MultivariateNormal", self.loc, [&self.loc, &self.log_diagonal, &self.lower]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::difference;
    use candle_core::Device;

    #[test]
    fn density_and_covariance_of_samples() -> Result<()> {
        let cpu = Device::Cpu;
        let covariance = Tensor::new(&[[4.0, 1.2], [1.2, 1.0]], &cpu)?;
        let normal = MultivariateNormal::new(&Tensor::new(&[1.0, -1.0], &cpu)?, &covariance)?;
        let factor = normal.scale_tril()?;
        assert!(difference(&covariance, &factor.matmul(&factor.t()?)?)? < 1e-14);
        // By hand: det = 2.56, inverse = [[1, -1.2], [-1.2, 4]] / 2.56, d = (1, 1).
        let got = normal.log_prob(&Tensor::new(&[[2.0, 0.0]], &cpu)?, None)?;
        let want = -0.5 * (2.6 / 2.56) - 0.5 * 2.56f64.ln() - LN_2PI;
        assert!(difference(&Tensor::new(&[want], &cpu)?, &got)? < 1e-14);
        let n = 100_000;
        let centred = normal.sample(n, None, &mut Rng::seed(5))?.broadcast_sub(normal.loc())?;
        let got = (centred.t()?.matmul(&centred)? / n as f64)?;
        // The standard error of an entry is at most sqrt(2) 4 / sqrt(n).
        let error = (got - covariance)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(error < 5.0 * 32f64.sqrt() / (n as f64).sqrt(), "{error}");
        Ok(())
    }

    #[test]
    fn covariances_that_are_not_positive_definite_are_refused() -> Result<()> {
        let loc = Tensor::zeros(2, candle_core::DType::F64, &Device::Cpu)?;
        for bad in [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.0, 1.0]], [[f64::NAN, 0.0], [0.0, 1.0]]] {
            assert!(MultivariateNormal::new(&loc, &Tensor::new(&bad, &Device::Cpu)?).is_err());
        }
        Ok(())
    }
}
