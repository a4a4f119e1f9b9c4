//! The standard normal distribution, the usual base of flows, and the diagonal normal distribution.

use super::checks::{LN_2PI, batch_shape, check_batch, check_float, check_rows, event_shape, node};
use super::{Distribution, Family, LocationScale, SymmetricCdf};
use crate::ops::{special, sum_event};
use crate::{Error, Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};

/// Independent standard normal elements, the usual base of flows, with an arbitrary event shape and no weights.
///
/// `log p(z) = -1/2 sum_i z_i^2 - n/2 ln(2 pi)`. A context is ignored.
///
/// ```
/// use candle_core::{DType, Device};
/// use flows_core::{Rng, distributions::{Distribution, StandardNormal}};
/// let base = StandardNormal::new([3, 8, 8], DType::F32, &Device::Cpu)?;
/// let z = base.sample_tempered(4, 0.7, &mut Rng::seed(0))?;
/// assert_eq!(base.log_prob(&z, None)?.dims(), [4]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StandardNormal {
    event: Vec<usize>,
    dtype: DType,
    device: Device,
}

impl StandardNormal {
    /// The base over events of this shape, whose draws have `dtype` and are on `device`.
    ///
    /// # Errors
    /// When a dimension is 0, or the dtype is neither f32 nor f64.
    pub fn new(event: impl Into<Vec<usize>>, dtype: DType, device: &Device) -> Result<Self> {
        check_float(dtype)?;
        Ok(Self { event: event_shape(event)?, dtype, device: device.clone() })
    }

    /// `count` draws with standard deviation `temperature`, (count, event...); 0 gives the mode.
    ///
    /// # Errors
    /// When the temperature is negative or not finite.
    pub fn sample_tempered(&self, count: usize, temperature: f64, rng: &mut Rng) -> Result<Tensor> {
        if !temperature.is_finite() || temperature < 0.0 {
            return Err(Error::Config(format!("the temperature must be 0 or more, not {temperature}")));
        }
        rng.tensor(batch_shape(count, &self.event), self.dtype, &self.device, |rng| temperature * rng.normal())
    }
}

impl Distribution for StandardNormal {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        check_batch(x, &self.event, context)?;
        let n = self.event.iter().product::<usize>() as f64;
        Ok(sum_event(&x.sqr()?)?.affine(-0.5, -0.5 * n * LN_2PI)?)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        self.sample_tempered(count, 1.0, rng)
    }

    fn condition<'a>(&'a self, _: &Tensor) -> Result<Option<Box<dyn Distribution + 'a>>> {
        Ok(Some(Box::new(self.clone())))
    }

    fn dtype(&self) -> Option<DType> {
        Some(self.dtype)
    }

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn structure(&self) -> Structure {
        node("StandardNormal", &self.event, [])
    }
}

/// Independent normal elements, each with its mean and standard deviation:
/// `log p(x) = sum_i -(x_i - loc_i)^2 / (2 scale_i^2) - log scale_i - 1/2 ln(2 pi)`.
pub type Normal = LocationScale<NormalFamily>;

/// The standard normal density `exp(-z^2 / 2) / sqrt(2 pi)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NormalFamily;

impl Family for NormalFamily {
    const NAME: &'static str = "Normal";

    fn log_density(&self, z: &Tensor) -> Result<Tensor> {
        Ok(z.sqr()?.affine(-0.5, -0.5 * LN_2PI)?)
    }

    fn noise(&self, shape: &[usize], dtype: DType, device: &Device, rng: &mut Rng) -> Result<Tensor> {
        rng.normal_tensor(shape, dtype, device)
    }
}

impl SymmetricCdf for NormalFamily {
    fn log_cdf(&self, z: &Tensor) -> Result<Tensor> {
        special::log_ndtr(z)
    }

    fn quantile(&self, y: &Tensor) -> Result<Tensor> {
        special::ndtri_exp(y)
    }
}
