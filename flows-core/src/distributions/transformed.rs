//! A base pushed through a bijector: the normalizing flow itself.

use super::Distribution;
use super::checks::{check_batch, check_rows, zero_where_undefined};
use crate::bijectors::{Bijector, check_event};
use crate::{Error, Result, Rng, Structure};
use candle_core::Tensor;

/// The distribution of `x = f(z)` for z of the base and a bijector f:
/// `log p(x) = log p_base(z) + log|det dz/dx|`, `z = f^-1(x)`.
///
/// Base and bijector see the same context. A point that f does not reach has log-probability
/// minus infinity; a row with a NaN has NaN.
#[derive(Debug)]
pub struct Transformed {
    base: Box<dyn Distribution>,
    bijector: Box<dyn Bijector>,
}

impl Transformed {
    /// The flow from `base` through `bijector`.
    ///
    /// # Errors
    /// When the base's events have not the bijector's latent shape.
    pub fn new(base: Box<dyn Distribution>, bijector: Box<dyn Bijector>) -> Result<Self> {
        if base.event_shape() != bijector.latent_shape() {
            let want = format!("the bijector's latent shape {:?}", bijector.latent_shape());
            return Err(Error::shape("an event of the base", base.event_shape(), want));
        }
        Ok(Self { base, bijector })
    }

    /// The distribution of z.
    pub fn base(&self) -> &dyn Distribution {
        self.base.as_ref()
    }

    /// The map from z to x.
    pub fn bijector(&self) -> &dyn Bijector {
        self.bijector.as_ref()
    }

    /// The z of x, (B, latent...), for x of shape (B, data...).
    ///
    /// # Errors
    /// When a shape is wrong, or a context is missing that is needed.
    pub fn latent(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.check(x, context)?;
        Ok(self.bijector.inverse(x, context)?.0)
    }

    /// Sets what depends on data from a first batch, unless that was done before, and returns
    /// the batch's z.
    ///
    /// # Errors
    /// As [`Self::latent`].
    pub fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.check(x, context)?;
        self.bijector.initialize(x, context)
    }

    /// Fails unless x is a batch of events with as many rows of context, if any.
    pub(crate) fn check(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        check_batch(x, self.event_shape(), context).map(drop)
    }

    /// The log-density of x in training, from its z and `log|det dz/dx|`.
    pub(crate) fn log_prob_training_at(
        &self,
        (z, log_det): (Tensor, Tensor),
        x: &Tensor,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        zero_where_undefined(&(self.base.log_prob_training(&z, context, rng)? + log_det)?, x)
    }

    /// What the flow is made of, for people to read.
    pub fn structure(&self) -> Structure {
        let debug = format!("{:?}", self.base);
        let name = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        Structure::new("Transformed", format!("base {name}")).part(self.bijector.structure())
    }
}

impl Distribution for Transformed {
    fn event_shape(&self) -> &[usize] {
        self.bijector.data_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.check(x, context)?;
        let (z, log_det) = self.bijector.inverse(x, context)?;
        zero_where_undefined(&(self.base.log_prob(&z, context)? + log_det)?, x)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.check(x, context)?;
        let z = self.bijector.inverse_training(x, context, rng)?;
        self.log_prob_training_at(z, x, context, rng)
    }

    fn transformed(&self) -> Option<&Transformed> {
        Some(self)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        let z = self.base.sample(count, context, rng)?;
        Ok(self.bijector.forward(&z, context)?.0)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        check_rows(context, count)?;
        let (z, log_prob) = self.base.sample_with_log_prob(count, context, rng)?;
        let (x, log_det) = self.bijector.forward(&z, context)?;
        check_event("the bijector's output", &x, self.event_shape())?;
        Ok((x, (log_prob - log_det)?))
    }
}
