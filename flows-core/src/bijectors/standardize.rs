//! The fixed shift and scale of data columns.

use super::{Bijector, Bounds, Direction, Mode, Support};
use crate::nn::{Buffer, Network, Scope};
use crate::shape::check_event;
use crate::{Error, Result, Structure};
use candle_core::{DType, Tensor};

/// `x = z scale + shift` with fixed vectors, `log|det| = sum log scale`: undoes a z-score.
///
/// As the last step of a flow it lets the others work on standardized data, while densities and
/// samples are those of the data in their own units. As a [`Network`] it standardizes a context, for
/// [`Embed`](super::Embed).
///
/// Buffers: `shift` and `scale`, of the event's shape; 0 and 1 until [`Self::fit`] sets them.
/// Clones share them.
#[derive(Clone, Debug)]
pub struct Standardize {
    shape: Vec<usize>,
    shift: Buffer,
    scale: Buffer,
    fits_at_initialization: bool,
}

impl Standardize {
    /// The identity on events of `shape`.
    ///
    /// # Errors
    /// When a buffer's name is taken.
    pub fn new(shape: &[usize], scope: &Scope) -> Result<Self> {
        let constant = |value: f64| Tensor::full(value, shape, scope.device())?.to_dtype(scope.dtype());
        let (shift, scale) = (scope.buffer("shift", &constant(0.0)?)?, scope.buffer("scale", &constant(1.0)?)?);
        Ok(Self { shape: shape.to_vec(), shift, scale, fits_at_initialization: false })
    }

    /// The same map, which [`Bijector::initialize`] fits to the first batch that it sees; for one inside a chain, whose
    /// input is not known beforehand.
    #[must_use]
    pub fn fitted_at_initialization(self) -> Self {
        Self { fits_at_initialization: true, ..self }
    }

    /// Whether it has been fitted, or has loaded fitted buffers, so that it is no longer the identity.
    ///
    /// # Errors
    /// When the device fails.
    pub fn is_fitted(&self) -> Result<bool> {
        let is = |buffer: &Buffer, value: f64| -> Result<bool> {
            Ok(buffer.get().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?.iter().all(|v| *v == value))
        };
        Ok(!(is(&self.shift, 0.0)? && is(&self.scale, 1.0)?))
    }

    /// Sets shift and scale to mean and standard deviation of the batch x, (B, event...), computed
    /// in f64; an element that never varies keeps scale 1.
    ///
    /// # Errors
    /// When the shape is wrong, or a value is not finite.
    pub fn fit(&self, x: &Tensor) -> Result<()> {
        check_event("the data to standardize by", x, &self.shape)?;
        let x = x.to_dtype(DType::F64)?;
        let mean = x.mean_keepdim(0)?;
        let deviation = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?.sqrt()?;
        let finite = (&mean + &deviation)?.flatten_all()?.to_vec1::<f64>()?.iter().all(|v| v.is_finite());
        if !finite {
            return Err(Error::Data(
                "the data to standardize by have values that are not finite: remove those rows".into(),
            ));
        }
        // What an element that never varies has is the rounding of its mean; a smaller scale is beyond f32.
        let least = (mean.abs()? * 1e-13)?.maximum(f64::from(f32::MIN_POSITIVE))?;
        let scale = deviation.gt(&least)?.where_cond(&deviation, &deviation.ones_like()?)?;
        let place = |buffer: &Buffer, value: &Tensor| {
            let like = buffer.get();
            buffer.set(&value.reshape(like.shape())?.to_dtype(like.dtype())?.to_device(like.device())?)
        };
        place(&self.shift, &mean)?;
        place(&self.scale, &scale)
    }

    fn log_det(&self, batch: usize) -> Result<Tensor> {
        Ok(self.scale.get().log()?.sum_all()?.broadcast_as(batch)?)
    }

    fn to_data(&self, z: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        Ok((z.broadcast_mul(&self.scale.get())?.broadcast_add(&self.shift.get())?, self.log_det(batch)?))
    }

    fn to_latent(&self, x: &Tensor, batch: usize) -> Result<(Tensor, Tensor)> {
        Ok((x.broadcast_sub(&self.shift.get())?.broadcast_div(&self.scale.get())?, self.log_det(batch)?.neg()?))
    }
}

impl Standardize {
    /// The box that `map` makes of the box that holds `support`, element by element, given each scale and shift.
    fn scaled(&self, support: &Support, map: impl Fn(&Bounds, f64, f64) -> Bounds) -> Option<Support> {
        let numbers = |buffer: &Buffer| buffer.get().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let (scale, shift) = (numbers(&self.scale).ok()?, numbers(&self.shift).ok()?);
        let bounds = support.bounds();
        let bounds =
            bounds.iter().zip(scale.into_iter().zip(shift)).map(|(bounds, (scale, shift))| map(bounds, scale, shift));
        Support::in_box(&self.shape, bounds.collect())
    }
}

impl Bijector for Standardize {
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

    fn initialize(&self, x: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
        if self.fits_at_initialization && !self.is_fitted()? {
            self.fit(x)?;
        }
        Ok(Bijector::inverse(self, x, None)?.0)
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        self.scaled(latent, |bounds, scale, shift| bounds.scaled(scale, shift))
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        self.scaled(data, |bounds, scale, shift| bounds.scaled(scale.recip(), -shift / scale))
    }

    fn structure(&self) -> Structure {
        Structure::new("Standardize", format!("{:?}", self.shape))
    }
}

impl Network for Standardize {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        Ok(Bijector::inverse(self, x, None)?.0)
    }

    fn structure(&self) -> Structure {
        Bijector::structure(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::bijectors::{Chain, FixedAffine};
    use crate::nn::Parameters;
    use crate::testing::difference;
    use candle_core::Device;

    #[test]
    fn the_unit_of_the_data_does_not_matter() -> Result<()> {
        let mut rng = Rng::seed(0);
        let x = (rng.normal_tensor((200, 2), DType::F64, &Device::Cpu)? + 3.0)?;
        let constant = Tensor::full(14.62, (200, 1), &Device::Cpu)?;
        for unit in [1e-30, 1e-19, 1e-13, 1.0, 1e20, 1e30] {
            let data = Tensor::cat(&[&(&x * unit)?, &constant], 1)?.to_dtype(DType::F32)?;
            let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
            let layer = Standardize::new(&[3], &parameters.scope())?;
            layer.fit(&data)?;
            let (z, log_det) = Bijector::inverse(&layer, &data, None)?;
            let scale = z.narrow(1, 0, 2)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
            assert!((scale - 1.0).abs() < 1e-3, "{unit}: {scale}");
            let want = -2.0 * (unit as f32).ln();
            assert!((log_det.to_vec1::<f32>()?[0] - want).abs() < 0.3, "{unit}");
            assert!(z.narrow(1, 2, 1)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-4);
        }
        Ok(())
    }

    #[test]
    fn inside_a_chain_it_is_fitted_once_to_what_it_sees() -> Result<()> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let layer = Standardize::new(&[2], &parameters.scope())?.fitted_at_initialization();
        let outer = FixedAffine::new(&[vec![10.0, 0.0], vec![0.0, 0.1]], &[2.0, 5.0])?;
        let chain = Chain::new(vec![Box::new(layer.clone()), Box::new(outer)])?;
        let x = Rng::seed(1).normal_tensor((500, 2), DType::F64, &Device::Cpu)?;
        assert!(!layer.is_fitted()?);
        let z = chain.initialize(&x, None)?;
        assert!(layer.is_fitted()?);
        let zero = Tensor::zeros(2, DType::F64, &Device::Cpu)?;
        assert!(
            difference(&z.mean(0)?, &zero)? < 1e-12 && difference(&z.sqr()?.mean(0)?, &zero.affine(1.0, 1.0)?)? < 1e-12
        );
        // Another batch does not change it.
        assert!(difference(&chain.initialize(&(&x * 3.0)?, None)?, &chain.inverse(&(&x * 3.0)?, None)?.0)? == 0.0);
        Ok(())
    }
}
