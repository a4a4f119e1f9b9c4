//! What the maps onto supports have in common.

use super::Support;
use crate::bijectors::{Bijector, Direction, Mode};
use crate::ops::sum_event;
use crate::shape::check_event;
use crate::{Error, Result, Structure};
use candle_core::{DType, Device, Tensor};
use std::fmt::Debug;

/// A bijection from unconstrained z onto the x of a support; shapes are checked before it is called.
pub(super) trait Map: Debug + Send + Sync {
    /// `(x, log|det dx/dz|)`.
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)>;

    /// `(z, log|det dz/dx|)`, the second of which is minus infinity for an x that is not in the support.
    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)>;
}

/// The bijector of a [`Support`].
#[derive(Debug)]
pub(super) struct Onto {
    pub(super) support: Support,
    pub(super) latent: Vec<usize>,
    pub(super) data: Vec<usize>,
    pub(super) map: Box<dyn Map>,
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
                self.map.forward(input)
            }
            Direction::Inverse => {
                check_event("the data of a support", input, &self.data)?;
                self.map.inverse(input)
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
        crate::ops::exp(&z.clamp(low, high)?)
    }

    /// `ln x` where x is positive; the logarithm of a tiny number elsewhere, or of the largest for infinity.
    pub(super) fn ln(self, x: &Tensor) -> Result<Tensor> {
        crate::ops::ln(&x.clamp(self.tiny, self.huge)?)
    }
}

/// `log_det`, (B), with minus infinity in the rows that `outside` (B, ...) marks or that hold an infinity, and NaN in
/// those where x (B, ...) has a NaN.
pub(super) fn restrict(log_det: &Tensor, outside: &Tensor, x: &Tensor) -> Result<Tensor> {
    let any = |mask: &Tensor| -> Result<Tensor> { Ok(sum_event(&mask.to_dtype(DType::F32)?)?.gt(0.0)?) };
    let fill = |to: &Tensor, mask: Tensor, value: f64| -> Result<Tensor> {
        let value = Tensor::full(value, to.shape().clone(), to.device())?.to_dtype(to.dtype())?;
        Ok(mask.where_cond(&value, to)?)
    };
    let restricted = fill(log_det, any(outside)?, f64::NEG_INFINITY)?;
    let restricted = fill(&restricted, any(&x.abs()?.eq(f64::INFINITY)?)?, f64::NEG_INFINITY)?;
    fill(&restricted, any(&x.ne(x)?)?, f64::NAN)
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
