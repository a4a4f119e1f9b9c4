//! A base pushed through a bijector: the normalizing flow itself.

use super::Distribution;
use super::checks::{check_batch, check_rows, replace, zero_at_infinity};
use crate::bijectors::{Bijector, Direction, Mode};
use crate::shape::check_event;
use crate::{Error, Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};

/// The distribution of `x = f(z)` for z of the base and a bijector f:
/// `log p(x) = log p_base(z) + log|det dz/dx|`, `z = f^-1(x)`.
///
/// Base and bijector see the same context. A point that f does not reach, which is one where f^-1 has
/// log-determinant minus infinity, and one at infinity have log-probability minus infinity. What comes of a NaN, in x
/// or a weight, is NaN.
#[derive(Debug)]
pub struct Transformed {
    base: Box<dyn Distribution>,
    bijector: Box<dyn Bijector>,
    takes_context: bool,
}

impl Transformed {
    /// The flow from `base` through `bijector`.
    ///
    /// # Errors
    /// When the base's events have not the bijector's latent shape.
    pub fn new(base: impl Distribution + 'static, bijector: impl Bijector + 'static) -> Result<Self> {
        if base.event_shape() != bijector.latent_shape() {
            let want = format!("the bijector's latent shape {:?}", bijector.latent_shape());
            return Err(Error::shape("an event of the base", base.event_shape(), want));
        }
        Ok(Self { base: Box::new(base), bijector: Box::new(bijector), takes_context: true })
    }

    /// The same flow, for which a context is an error: without that it would be ignored, and the flow be one of the
    /// marginal.
    #[must_use]
    pub fn without_context(self) -> Self {
        Self { takes_context: false, ..self }
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

    /// Fails unless x is a batch of events of the base's type with as many rows of context, if any.
    pub(crate) fn check(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        check_batch(x, self.event_shape(), context)?;
        self.check_context(context)?;
        check_type("x", x, self.base.dtype())
    }

    /// Fails if a context comes that would be ignored, or is of another type than the flow.
    pub(crate) fn check_context(&self, context: Option<&Tensor>) -> Result<()> {
        let Some(context) = context else { return Ok(()) };
        if !self.takes_context {
            return Err(Error::Config("this flow is not conditional: give no context, or train one that is".into()));
        }
        // Classes may be of any type.
        if context.dtype().is_float() { check_type("the context", context, self.base.dtype()) } else { Ok(()) }
    }

    /// The log-density of x in training, from its z and `log|det dz/dx|`.
    pub(crate) fn log_prob_training_at(
        &self,
        (z, log_det): (Tensor, Tensor),
        x: &Tensor,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        check_log_det(&log_det, x)?;
        zero_at_infinity(&(self.base.log_prob_training(&z, context, rng)? + log_det)?, x)
    }
}

/// Fails if a tensor is of another floating point type than the flow.
fn check_type(what: &str, tensor: &Tensor, dtype: Option<DType>) -> Result<()> {
    match dtype {
        Some(dtype) if dtype != tensor.dtype() => Err(Error::Data(format!(
            "{what} is of type {:?}, but the flow is of {dtype:?}: convert it by `to_dtype`",
            tensor.dtype()
        ))),
        _ => Ok(()),
    }
}

/// Fails unless a log-determinant is (B), for a bijector of one's own.
fn check_log_det(log_det: &Tensor, v: &Tensor) -> Result<()> {
    let batch = v.dim(0)?;
    if log_det.dims() == [batch] {
        return Ok(());
    }
    Err(Error::shape("the log-determinant of the bijector", log_det.dims(), format!("({batch})")))
}

impl Distribution for Transformed {
    fn event_shape(&self) -> &[usize] {
        self.bijector.data_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.check(x, context)?;
        let (z, log_det) = self.bijector.inverse(x, context)?;
        check_log_det(&log_det, x)?;
        zero_at_infinity(&(self.base.log_prob(&z, context)? + log_det)?, x)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.check(x, context)?;
        let z = self.bijector.map(Direction::Inverse, x, context, &mut Mode::training(rng))?;
        self.log_prob_training_at(z, x, context, rng)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        self.check_context(context)?;
        let z = self.base.sample(count, context, rng)?;
        Ok(self.bijector.forward(&z, context)?.0)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        check_rows(context, count)?;
        self.check_context(context)?;
        let (z, log_prob) = self.base.sample_with_log_prob(count, context, rng)?;
        self.push(&z, log_prob, context, &mut Mode::evaluation())
    }

    fn sample_with_log_prob_training(
        &self,
        count: usize,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor)> {
        check_rows(context, count)?;
        self.check_context(context)?;
        let (z, log_prob) = self.base.sample_with_log_prob_training(count, context, rng)?;
        self.push(&z, log_prob, context, &mut Mode::training(rng))
    }

    fn dtype(&self) -> Option<DType> {
        self.base.dtype()
    }

    fn device(&self) -> Device {
        self.base.device()
    }

    fn structure(&self) -> Structure {
        Structure::new("Transformed", "").part(self.base.structure()).part(self.bijector.structure())
    }
}

impl Transformed {
    /// The x of z and its log-density, from that of z.
    fn push(
        &self,
        z: &Tensor,
        log_prob: Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let (x, log_det) = self.bijector.map(Direction::Forward, z, context, mode)?;
        check_event("the bijector's output", &x, self.event_shape())?;
        check_log_det(&log_det, z)?;
        // What the bijector refuses has no density, not an endless one.
        let refused = log_det.eq(f64::NEG_INFINITY)?;
        Ok((x, replace(&(log_prob - log_det)?, &refused, f64::NEG_INFINITY)?))
    }
}
