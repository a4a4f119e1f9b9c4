//! Invertible 1x1 convolutions.

use super::linear::{Start, entries_weight, reserve_matrix};
use super::matrix::finite_log_det;
use super::{Bijector, Direction, Mode};
use crate::nn::{Buffer, Init, Scope};
use crate::ops::{self, Triangle};
use crate::shape::shared_log_det;
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// An invertible 1x1 convolution, one C x C matrix for all positions of an event (C, H, W) or (C, T):
/// `z_p = W x_p`, `log|det dz/dx| = H W log|det W|` (Kingma and Dhariwal 2018, arXiv:1807.03039,
/// section 3.2).
///
/// `inverse` is the product with W, `forward` that with W^-1, which is found in f64.
/// Plain ([`Self::new`]): weight `weight` (C, C), its determinant by an LU decomposition in f64
/// per call. By its factors ([`Self::lu`]): `W = P L (U + diag(sign exp(log_scale)))` with P and
/// sign fixed, so that W cannot become singular and the log-determinant is the sum of `log_scale`;
/// weights `lower`, `upper` (C (C - 1) / 2), the off-diagonal entries in row-major order,
/// `log_scale` (C); buffers `permutation` (C, u32; row i of W is row `permutation_i` of the rest)
/// and `sign` (C).
#[derive(Debug)]
pub struct Conv1x1 {
    shape: Vec<usize>,
    kernel: Kernel,
}

#[derive(Debug)]
enum Kernel {
    Plain(Tensor),
    Lu(Box<Factors>),
}

#[derive(Debug)]
struct Factors {
    lower: Tensor,
    upper: Tensor,
    log_scale: Tensor,
    sign: Buffer,
    permutation: Buffer,
}

impl Conv1x1 {
    /// A convolution of events of `shape` by a plain matrix, from a random rotation or the identity.
    ///
    /// # Errors
    /// When the shape has fewer than two dimensions or no channel.
    pub fn new(shape: &[usize], start: Start, scope: &Scope) -> Result<Self> {
        let channels = check_shape(shape)?;
        reserve_matrix(channels, scope)?;
        let values = start.matrix(channels, scope);
        let weight = scope.weight("weight", (channels, channels), Init::Values(values))?;
        Ok(Self { shape: shape.to_vec(), kernel: Kernel::Plain(weight) })
    }

    /// A convolution of events of `shape` by the LU factors of a random rotation or of the identity.
    ///
    /// # Errors
    /// When the shape has fewer than two dimensions or no channel.
    pub fn lu(shape: &[usize], start: Start, scope: &Scope) -> Result<Self> {
        let n = check_shape(shape)?;
        reserve_matrix(n, scope)?;
        let lu = ops::lu(&start.matrix(n, scope), n)?;
        let below = Triangle::lower(n, scope.device())?;
        let above = Triangle::upper(n, scope.device())?;
        let diagonal: Vec<f64> = lu.upper.iter().step_by(n + 1).copied().collect();
        let signs: Vec<f64> = diagonal.iter().map(|d| d.signum()).collect();
        let logs = diagonal.iter().map(|d| d.abs().ln()).collect();
        let lower = Init::Values(below.entries_of(&lu.lower));
        let upper = Init::Values(above.entries_of(&lu.upper));
        let signs = Tensor::from_vec(signs, n, scope.device())?.to_dtype(scope.dtype())?;
        let factors = Factors {
            lower: entries_weight("lower", &below, lower, scope)?,
            upper: entries_weight("upper", &above, upper, scope)?,
            log_scale: scope.weight("log_scale", n, Init::Values(logs))?,
            sign: scope.buffer("sign", &signs)?,
            permutation: scope.buffer("permutation", &Tensor::from_vec(lu.permutation, n, scope.device())?)?,
        };
        Ok(Self { shape: shape.to_vec(), kernel: Kernel::Lu(Box::new(factors)) })
    }

    /// W (C, C).
    ///
    /// # Errors
    /// When the device fails.
    pub fn matrix(&self) -> Result<Tensor> {
        match &self.kernel {
            Kernel::Plain(weight) => Ok(weight.clone()),
            Kernel::Lu(f) => {
                let diagonal = (f.log_scale.exp()? * f.sign.get())?;
                let product = ops::lu_product(&f.lower, &f.upper, &diagonal)?;
                Ok(product.index_select(&f.permutation.get(), 0)?)
            }
        }
    }

    /// `log|det dz/dx|` of one event.
    fn log_det(&self) -> Result<Tensor> {
        let one = match &self.kernel {
            Kernel::Plain(weight) => finite_log_det(weight, "Conv1x1")?,
            Kernel::Lu(f) => f.log_scale.sum_all()?,
        };
        Ok((one * self.shape[1..].iter().product::<usize>() as f64)?)
    }

    fn apply(&self, w: &Tensor, x: &Tensor) -> Result<Tensor> {
        let flat = x.flatten_from(2)?;
        Ok(ops::conv1d(&flat, &w.unsqueeze(2)?, None, 1, 0, 1, ops::FusedActivation::Identity)?.reshape(x.shape())?)
    }
}

/// The number of channels of an event, which a 1x1 convolution must be able to map.
fn check_shape(shape: &[usize]) -> Result<usize> {
    match shape {
        [channels, _, ..] if *channels > 0 => Ok(*channels),
        _ => Err(Error::shape("the event of a 1x1 convolution", shape, "(C, H, W) or (C, T)")),
    }
}

impl Conv1x1 {
    fn to_data(&self, z: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let log_det = self.log_det()?.neg()?;
        let x = self.apply(&ops::inverse(&self.matrix()?)?, z)?;
        Ok((x, shared_log_det(&log_det, batch)?))
    }

    fn to_latent(&self, x: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        let log_det = self.log_det()?;
        Ok((self.apply(&self.matrix()?, x)?, shared_log_det(&log_det, batch)?))
    }
}

impl Bijector for Conv1x1 {
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
        let c = self.shape[0];
        match &self.kernel {
            Kernel::Plain(weight) => Structure::new("Conv1x1", format!("of {c} channels")).weights([weight]),
            Kernel::Lu(f) => {
                Structure::new("Conv1x1", format!("of {c} channels, LU")).weights([&f.lower, &f.upper, &f.log_scale])
            }
        }
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
        for shape in [&[3, 2, 2][..], &[1, 2, 1], &[4, 3]] {
            for start in [Start::Random, Start::Identity] {
                check(shape, |scope| Conv1x1::new(shape, start, scope))?;
                check(shape, |scope| Conv1x1::lu(shape, start, scope))?;
            }
        }
        Ok(())
    }

    #[test]
    fn the_factors_make_up_the_rotation() -> Result<()> {
        let build = |make: fn(&[usize], Start, &Scope) -> Result<Conv1x1>| {
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(5));
            make(&[6, 4], Start::Random, &parameters.scope())
        };
        let (plain, lu) = (build(Conv1x1::new)?, build(Conv1x1::lu)?);
        assert!(difference(&plain.matrix()?, &lu.matrix()?)? < 1e-13);
        // A view with its memory in another order, as after a squeeze.
        let x = Rng::seed(6).normal_tensor((3, 4, 6), DType::F64, &Device::Cpu)?.transpose(1, 2)?;
        let (z, log_det) = lu.inverse(&x, None)?;
        for b in 0..3 {
            assert!(difference(&z.get(b)?, &plain.matrix()?.matmul(&x.get(b)?.contiguous()?)?)? < 1e-13);
        }
        assert!(difference(&log_det, &Tensor::zeros(3, DType::F64, &Device::Cpu)?)? < 1e-13);
        assert!(build(|_, start, scope| Conv1x1::lu(&[4], start, scope)).is_err());
        Ok(())
    }
}
