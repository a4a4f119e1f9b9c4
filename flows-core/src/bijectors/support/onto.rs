//! What the maps onto supports have in common.

use super::Support;
use crate::bijectors::keep::row_mask;
use crate::bijectors::{Bijector, Direction, Mode};
use crate::ops::{self, sum_event};
use crate::shape::check_event;
use crate::{Error, Result, Structure};
use candle_core::{DType, Device, Tensor};
use std::fmt::Debug;

/// A bijection from unconstrained z onto the x of a support; shapes are checked before it is called.
pub(super) trait Map: Debug + Send + Sync {
    /// `(x, log|det dx/dz|)`.
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)>;

    /// Marks finite x that are not in the support, (B, ..): one mark in a row is enough.
    fn outside(&self, x: &Tensor) -> Result<Tensor>;

    /// `(z, log|det dz/dx|)` for x of the support.
    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)>;
}

/// The bijector of a [`Support`].
#[derive(Debug)]
pub(super) struct Onto {
    pub(super) support: Support,
    pub(super) latent: Vec<usize>,
    pub(super) data: Vec<usize>,
    pub(super) map: Box<dyn Map>,
    /// The x of z = 0, (1, ...).
    pub(super) centre: Tensor,
}

impl Onto {
    /// [`Map::forward`] of any z.
    pub(super) fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        match self.support {
            // Element by element, where those without a bound stay as they are.
            Support::Real { .. } | Support::Bounded { .. } | Support::Named { .. } => self.map.forward(z),
            // So that sums over elements are finite.
            _ => self.map.forward(&ops::limited(z)?),
        }
    }

    /// [`Map::inverse`] of any x: the log-determinant is minus infinity where x is not in the support, and z is 0 then,
    /// without a gradient. A row with a NaN gives NaN.
    pub(super) fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let any = |mask: &Tensor| -> Result<Tensor> { Ok(sum_event(&mask.to_dtype(DType::F32)?)?.gt(0.0)?) };
        let unknown = any(&x.ne(x)?)?;
        let outside = (any(&self.map.outside(x)?)? + any(&x.abs()?.eq(f64::INFINITY)?)?)?;
        let replaced = row_mask(&(&outside + &unknown)?, x)?;
        let (z, log_det) = self.map.inverse(&replaced.where_cond(&self.centre.broadcast_as(x.shape())?, x)?)?;
        let log_det = fill(&fill(&log_det, &outside, f64::NEG_INFINITY)?, &unknown, f64::NAN)?;
        Ok((fill(&z, &row_mask(&unknown, &z)?, f64::NAN)?, log_det))
    }
}

impl Bijector for Onto {
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
            Direction::Forward => {
                check_event("the latent of a support", input, &self.latent)?;
                self.forward(&input.contiguous()?)
            }
            Direction::Inverse => {
                check_event("the data of a support", input, &self.data)?;
                self.inverse(&input.contiguous()?)
            }
        }
    }

    fn support(&self) -> Option<Support> {
        Some(self.support.clone())
    }

    fn structure(&self) -> Structure {
        Structure::new("Support", self.support.to_string())
    }
}

/// What a floating type can tell apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The smallest positive number of full precision.
    pub(super) tiny: f64,
    /// The largest number.
    pub(super) huge: f64,
    /// The gap above 1.
    pub(super) epsilon: f64,
}

impl Limits {
    pub(super) fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self { tiny: f64::MIN_POSITIVE, huge: f64::MAX, epsilon: f64::EPSILON },
            _ => Self { tiny: f32::MIN_POSITIVE.into(), huge: f32::MAX.into(), epsilon: f32::EPSILON.into() },
        }
    }

    /// By how much an equation that defines a support (elements that add up to 1) may fail.
    pub(super) fn tolerance(self) -> f64 {
        self.epsilon.sqrt()
    }

    /// `e^z` for z within what neither underflows nor exceeds the `share`-th power of the largest number over `parts`.
    pub(super) fn exp(self, z: &Tensor, share: f64, parts: usize) -> Result<Tensor> {
        let (low, high) = (share * self.tiny.ln() + 1.0, share * (self.huge.ln() - (parts as f64).ln()) - 1.0);
        ops::exp(&clip(z, low, high)?)
    }

    /// `ln x` where x is positive; the logarithm of a tiny number elsewhere, or of the largest for infinity.
    pub(super) fn ln(self, x: &Tensor) -> Result<Tensor> {
        ops::ln(&clip(x, self.tiny, self.huge)?)
    }
}

/// x with this value where the mask says so.
pub(super) fn fill(x: &Tensor, mask: &Tensor, value: f64) -> Result<Tensor> {
    let value = Tensor::full(value, x.shape().clone(), x.device())?.to_dtype(x.dtype())?;
    Ok(mask.where_cond(&value, x)?)
}

/// x between two ends. Beyond them the gradient is 0 whatever comes from above, where candle's `clamp` makes NaN of an
/// infinity; a NaN stays.
pub(super) fn clip(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    fill(&fill(x, &x.lt(low)?, low)?, &x.gt(high)?, high)
}

/// `values` as a tensor of this shape, type and place.
pub(super) fn constant(values: Vec<f64>, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
}

/// Passes if the map can be of this type.
pub(super) fn check_dtype(dtype: DType) -> Result<()> {
    match dtype {
        DType::F32 | DType::F64 => Ok(()),
        other => Err(Error::Config(format!("a support is of type f32 or f64, not {other:?}"))),
    }
}
