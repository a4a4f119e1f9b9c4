//! Location-scale families with independent elements.

use super::Distribution;
use super::checks::{batch_shape, check_alike, check_batch, check_rows, check_values, event_shape, node};
use crate::nn::{Init, Scope};
use crate::ops::sum_event;
use crate::{Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};
use std::fmt;

/// A standard density on the real line, symmetric about 0, for use in [`LocationScale`].
pub trait Family: fmt::Debug + Send + Sync {
    /// The name of the family.
    const NAME: &'static str;

    /// `log p(z)` of each element of z (B, event...).
    ///
    /// # Errors
    /// When the device fails.
    fn log_density(&self, z: &Tensor) -> Result<Tensor>;

    /// Independent draws from the standard density.
    ///
    /// # Errors
    /// When the device fails.
    fn noise(&self, shape: &[usize], dtype: DType, device: &Device, rng: &mut Rng) -> Result<Tensor>;

    /// The family's own tensors, such as degrees of freedom.
    fn tensors(&self) -> Vec<&Tensor> {
        Vec::new()
    }
}

/// A [`Family`] with a known distribution function F and its inverse, in terms of ln F so that
/// the lower tail is exact.
pub trait SymmetricCdf: Family {
    /// `ln F(z)` of each element.
    ///
    /// # Errors
    /// When the device fails.
    fn log_cdf(&self, z: &Tensor) -> Result<Tensor>;

    /// The z with `ln F(z) = y` for each element y < 0.
    ///
    /// # Errors
    /// When the device fails.
    fn quantile(&self, y: &Tensor) -> Result<Tensor>;
}

/// Independent elements `x_i = loc_i + scale_i z_i` with z_i from the family F with density f:
/// `log p(x) = sum_i log f((x_i - loc_i) / scale_i) - log scale_i`.
///
/// The event shape is arbitrary; a context is ignored. Samples are differentiable with respect to location
/// and scale. Its instances are [`Normal`](super::Normal), [`Laplace`](super::Laplace),
/// [`Logistic`](super::Logistic) and [`StudentT`](super::StudentT).
pub struct LocationScale<F> {
    family: F,
    event: Vec<usize>,
    loc: Tensor,
    log_scale: Tensor,
}

impl<F: Family + Default> LocationScale<F> {
    /// The distribution with this location and scale, both (event...).
    ///
    /// # Errors
    /// When shapes or dtypes differ, or a scale is not positive and finite.
    pub fn new(loc: &Tensor, scale: &Tensor) -> Result<Self> {
        Self::from_scale(F::default(), loc, scale)
    }

    /// The distribution with trainable weights `loc` and `log_scale`, both initialised to 0.
    ///
    /// # Errors
    /// When the event shape has a dimension of 0 or a name is taken.
    pub fn trainable(event: impl Into<Vec<usize>>, scope: &Scope) -> Result<Self> {
        Self::in_scope(F::default(), scope, event)
    }
}

impl<F: Family> LocationScale<F> {
    pub(super) fn from_scale(family: F, loc: &Tensor, scale: &Tensor) -> Result<Self> {
        check_alike("the scale", loc, scale)?;
        check_values("a location", loc, "finite", f64::is_finite)?;
        check_values("a scale", scale, "positive and finite", |s| s > 0.0 && s.is_finite())?;
        Ok(Self { family, event: event_shape(loc.dims())?, loc: loc.clone(), log_scale: scale.log()? })
    }

    pub(super) fn in_scope(family: F, scope: &Scope, event: impl Into<Vec<usize>>) -> Result<Self> {
        let event = event_shape(event)?;
        let loc = scope.weight("loc", event.clone(), Init::Zeros)?;
        let log_scale = scope.weight("log_scale", event.clone(), Init::Zeros)?;
        Ok(Self { family, event, loc, log_scale })
    }

    /// The location, (event...).
    pub fn loc(&self) -> &Tensor {
        &self.loc
    }

    /// The logarithm of the scale, (event...).
    pub fn log_scale(&self) -> &Tensor {
        &self.log_scale
    }

    /// The standard family.
    pub fn family(&self) -> &F {
        &self.family
    }

    /// `log p(x_i)` of each element of x (B, event...).
    pub(super) fn log_density(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.family.log_density(&self.standardize(x)?)?.broadcast_sub(&self.log_scale)?)
    }

    fn standardize(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_sub(&self.loc)?.broadcast_mul(&self.log_scale.neg()?.exp()?)?)
    }

    fn log_prob_at(&self, z: &Tensor) -> Result<Tensor> {
        Ok(sum_event(&self.family.log_density(z)?)?.broadcast_sub(&self.log_scale.sum_all()?)?)
    }

    /// `(x, z)` of `count` draws.
    fn draw(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        check_rows(context, count)?;
        let shape = batch_shape(count, &self.event);
        let z = self.family.noise(&shape, self.loc.dtype(), self.loc.device(), rng)?;
        Ok((z.broadcast_mul(&self.log_scale.exp()?)?.broadcast_add(&self.loc)?, z))
    }
}

impl<F: Family> fmt::Debug for LocationScale<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(F::NAME).field("loc", &self.loc).field("log_scale", &self.log_scale).finish_non_exhaustive()
    }
}

impl<F: Family> Distribution for LocationScale<F> {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        check_batch(x, &self.event, context)?;
        self.log_prob_at(&self.standardize(x)?)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        Ok(self.draw(count, context, rng)?.0)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let (x, z) = self.draw(count, context, rng)?;
        Ok((x, self.log_prob_at(&z)?))
    }

    fn dtype(&self) -> Option<DType> {
        Some(self.loc.dtype())
    }

    fn device(&self) -> Device {
        self.loc.device().clone()
    }

    fn structure(&self) -> Structure {
        node(F::NAME, &self.event, self.family.tensors().into_iter().chain([&self.loc, &self.log_scale]))
    }
}
