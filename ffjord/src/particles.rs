//! Configurations of particles with centre 0.

use crate::field::{MAX_COORDINATES, centred_basis};
use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::nn::{Buffer, Scope};
use flows_core::shape::check_event;
use flows_core::{Error, Result, Structure, ops};

/// Maps (N - 1) D coordinates to the positions of N particles in D dimensions with centre 0: `x = s E z` (N D,
/// particle by particle), where E is an orthonormal basis of such configurations and s a scale.
///
/// Densities of x are densities on that subspace, with `log|det| = (N - 1) D log s`. The inverse subtracts the centre,
/// so it is invariant under translations.
///
/// Buffer: `scale`, 1 until [`Self::fit`] sets it; clones share it.
#[derive(Clone, Debug)]
pub struct ZeroCentre {
    latent: [usize; 1],
    data: [usize; 1],
    /// The transpose of E, (latent, data).
    basis: Tensor,
    scale: Buffer,
}

impl ZeroCentre {
    /// The map for N = `particles` particles in D = `dimension` dimensions.
    ///
    /// # Errors
    /// When there are fewer than two particles or too many numbers, or a name is already taken in `scope`.
    pub fn new(particles: usize, dimension: usize, scope: &Scope) -> Result<Self> {
        if particles < 2 || dimension == 0 || particles.saturating_mul(dimension) > MAX_COORDINATES {
            return Err(Error::Config(format!(
                "{particles} particles in {dimension} dimensions: a configuration needs at least two particles, at \
                 least one dimension and at most {MAX_COORDINATES} numbers"
            )));
        }
        let (latent, data) = ((particles - 1) * dimension, particles * dimension);
        let mut values = vec![0.0; latent * data];
        for (a, row) in centred_basis(particles).chunks_exact(particles).enumerate() {
            for (i, &v) in row.iter().enumerate() {
                (0..dimension).for_each(|c| values[(a * dimension + c) * data + i * dimension + c] = v);
            }
        }
        let basis = Tensor::from_vec(values, (latent, data), &Device::Cpu)?;
        let basis = basis.to_dtype(scope.dtype())?.to_device(scope.device())?;
        let scale = scope.buffer("scale", &Tensor::ones(1, scope.dtype(), scope.device())?)?;
        Ok(Self { latent: [latent], data: [data], basis, scale })
    }

    /// Sets the scale to the root mean square of the coordinates of configurations x (B, N D).
    ///
    /// # Errors
    /// When the shape is wrong, a value is not finite, or all particles coincide.
    pub fn fit(&self, x: &Tensor) -> Result<()> {
        check_event("the configurations to fit the scale to", x, &self.data)?;
        let z = ops::product(&x.to_dtype(DType::F64)?, &self.basis.to_dtype(DType::F64)?.t()?)?;
        let scale = z.sqr()?.mean_all()?.sqrt()?;
        let value = scale.to_scalar::<f64>()?;
        if !(value.is_finite() && value > 1e-12) {
            return Err(Error::Data(format!(
                "the root mean square of the coordinates is {value:e}: check the data for bad rows"
            )));
        }
        let like = self.scale.get();
        self.scale.set(&scale.reshape(1)?.to_dtype(like.dtype())?.to_device(like.device())?)
    }

    fn log_det(&self, rows: usize) -> Result<Tensor> {
        Ok((self.scale.get().log()? * self.latent[0] as f64)?.broadcast_as(rows)?)
    }

    fn to_data(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let rows = check_event("the coordinates of configurations", z, &self.latent)?;
        Ok((ops::product(z, &self.basis)?.broadcast_mul(&self.scale.get())?, self.log_det(rows)?))
    }

    fn to_latent(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let rows = check_event("configurations", x, &self.data)?;
        let z = ops::product(x, &self.basis.t()?)?.broadcast_div(&self.scale.get())?;
        Ok((z, self.log_det(rows)?.neg()?))
    }
}

impl Bijector for ZeroCentre {
    fn latent_shape(&self) -> &[usize] {
        &self.latent
    }

    fn data_shape(&self) -> &[usize] {
        &self.data
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        _: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match direction {
            Direction::Forward => self.to_data(input),
            Direction::Inverse => self.to_latent(input),
        }
    }

    fn structure(&self) -> Structure {
        Structure::new("ZeroCentre", format!("{} -> {} coordinates", self.latent[0], self.data[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::nn::Parameters;
    use flows_core::{Rng, testing::difference};

    #[test]
    fn configurations_are_centred_and_scaled() -> Result<()> {
        let mut rng = Rng::seed(0);
        let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
        let map = ZeroCentre::new(4, 3, &parameters.scope())?;
        let x = (rng.normal_tensor((500, 12), DType::F64, &Device::Cpu)? * 3.0)?;
        map.fit(&x)?;
        let (z, log_det) = map.inverse(&x, None)?;
        assert!((z.sqr()?.mean_all()?.to_scalar::<f64>()? - 1.0).abs() < 1e-12);
        let (back, forward) = map.forward(&z, None)?;
        let centre = x.reshape((500, 4, 3))?.mean_keepdim(1)?;
        let centred = x.reshape((500, 4, 3))?.broadcast_sub(&centre)?.reshape((500, 12))?;
        assert!(difference(&centred, &back)? < 1e-12);
        assert!(difference(&log_det, &forward.neg()?)? < 1e-12);
        // Lengths scale by the same factor in each of 9 directions.
        let ratio = (centred.sqr()?.sum(1)? / z.sqr()?.sum(1)?)?.log()?;
        assert!(difference(&(ratio * 4.5)?, &forward)? < 1e-12);
        assert!(map.fit(&Tensor::ones((2, 12), DType::F64, &Device::Cpu)?).is_err());
        assert!(map.inverse(&z, None).is_err());
        for (particles, dimension) in [(1, 3), (2, 0), (0, 1), (1_000, 3)] {
            assert!(ZeroCentre::new(particles, dimension, &parameters.scope().enter("other")).is_err());
        }
        Ok(())
    }
}
