//! A base pushed through a bijector: the normalizing flow itself.

use super::checks::{check_batch, check_rows, finite_rows, lowest, replace, zero_at_infinity};
use super::{Distribution, given};
use crate::bijectors::keep::{inward, keep};
use crate::bijectors::{Bijector, Direction, Mode, Support};
use crate::shape::check_event;
use crate::{Error, Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

/// The distribution of `x = f(z)` for z from the base and a bijector f:
/// `log p(x) = log p_base(z) + log|det dz/dx|`, `z = f^-1(x)`.
///
/// Base and bijector are given the same context. The log-density is minus infinity at infinity and at points outside
/// the range of f, where the log-determinant of f^-1 is minus infinity. A density that is only too small for the type,
/// such as that of a normal base at a finite z beyond 1.8e19 in f32, has the lowest finite logarithm. NaN, in x or a
/// weight, propagates.
#[derive(Debug)]
pub struct Transformed {
    base: Box<dyn Distribution>,
    bijector: Box<dyn Bijector>,
    takes_context: bool,
    /// The box that the base is in, if it has bounds that the bijector's rounding may carry z out of.
    within: Option<Support>,
    onto: Option<Onto>,
}

/// Where the x of a flow are known to lie: every finite one of these has a density.
#[derive(Debug)]
pub(crate) enum Onto {
    /// All real numbers.
    Reals,
    /// The range of this map, which has no context.
    Range(Arc<dyn Bijector>),
}

impl Transformed {
    /// The flow from `base` through `bijector`.
    ///
    /// # Errors
    /// When the base's event shape is not the bijector's latent shape.
    pub fn new(base: impl Distribution + 'static, bijector: impl Bijector + 'static) -> Result<Self> {
        if base.event_shape() != bijector.latent_shape() {
            let want = format!("the bijector's latent shape {:?}", bijector.latent_shape());
            return Err(Error::shape("an event of the base", base.event_shape(), want));
        }
        let within = Some(base.support()).filter(|support| matches!(support, Support::Bounded { .. }));
        Ok(Self { base: Box::new(base), bijector: Box::new(bijector), takes_context: true, within, onto: None })
    }

    /// Says that the bijector itself brings no z out of the range of the base by rounding, which need not be checked.
    pub(crate) fn unchecked(self) -> Self {
        Self { within: None, ..self }
    }

    /// Says that the bijector is onto this set, so that the log-density is finite at every finite x of it: minus
    /// infinity is an overflow there.
    pub(crate) fn onto(self, onto: Onto) -> Self {
        Self { onto: Some(onto), ..self }
    }

    /// Makes passing a context an error. Otherwise it would be ignored, and the flow would silently model the
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

    /// The latent z (B, latent...) of x (B, data...).
    ///
    /// # Errors
    /// When a shape is wrong, or a required context is missing.
    pub fn latent(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.check(x, context)?;
        Ok(self.bijector.inverse(x, context)?.0)
    }

    /// Fails unless x is a batch of events of the base's dtype, and a context, if any, has as many rows.
    pub(crate) fn check(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        check_batch(x, self.event_shape(), context)?;
        self.check_context(context)?;
        check_type("x", x, self.base.dtype())
    }

    /// Fails if a context is passed that would be ignored, or that has another dtype than the flow.
    pub(crate) fn check_context(&self, context: Option<&Tensor>) -> Result<()> {
        let Some(context) = context else { return Ok(()) };
        if !self.takes_context {
            return Err(Error::Config("this flow is not conditional: give no context, or train one that is".into()));
        }
        // Class labels may have any dtype.
        if context.dtype().is_float() { check_type("the context", context, self.base.dtype()) } else { Ok(()) }
    }

    /// The log-density of x in training mode, given its z and `log|det dz/dx|`.
    pub(crate) fn log_prob_training_at(
        &self,
        z: (Tensor, Tensor),
        x: &Tensor,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        self.parts(context).log_prob_training_at(z, x, rng)
    }
}

/// Fails if a tensor has another floating-point dtype than the flow.
fn check_type(what: &str, tensor: &Tensor, dtype: Option<DType>) -> Result<()> {
    match dtype {
        Some(dtype) if dtype != tensor.dtype() => Err(Error::Data(format!(
            "{what} has dtype {:?}, but the flow has {dtype:?}: convert it by `to_dtype`",
            tensor.dtype()
        ))),
        _ => Ok(()),
    }
}

/// Fails unless a log-determinant is (B), which a user-defined bijector may get wrong.
fn check_log_det(log_det: &Tensor, v: &Tensor) -> Result<()> {
    let batch = v.dim(0)?;
    if log_det.dims() == [batch] {
        return Ok(());
    }
    Err(Error::shape("the log-determinant of the bijector", log_det.dims(), format!("({batch})")))
}

/// Where the density of a base tells whether it has one further out.
const FAR: f64 = 1e15;

/// z (B, event...) with each row stretched so that its largest element is of this size.
fn stretched(z: &Tensor, size: f64) -> Result<Tensor> {
    let flat = z.detach().reshape((z.dim(0)?, ()))?;
    let largest = flat.abs()?.max_keepdim(1)?.maximum(f64::from(f32::MIN_POSITIVE))?;
    Ok((flat.broadcast_div(&largest)? * size)?.reshape(z.shape())?)
}

/// A base and a bijector, each with its context.
struct Parts<'a> {
    base: &'a dyn Distribution,
    of_base: Option<&'a Tensor>,
    bijector: &'a dyn Bijector,
    of_bijector: Option<&'a Tensor>,
    within: Option<&'a Support>,
    onto: Option<&'a Onto>,
}

impl Parts<'_> {
    /// Draws z of the base, moved by a few roundings where the base would refuse what x gives back.
    fn keep(&self, z: Tensor) -> Result<Tensor> {
        let Some(within) = self.within else { return Ok(z) };
        keep(
            &z,
            || Ok(inward(within, &z)?.unwrap_or_else(|| z.detach())),
            |z| {
                let (x, forward) = self.bijector.forward(z, self.of_bijector)?;
                let (back, _) = self.bijector.inverse(&x, self.of_bijector)?;
                let never = f64::NEG_INFINITY;
                Ok((forward.ne(never)? * self.base.log_prob(&back, self.of_base)?.eq(never)?)?)
            },
        )
    }

    fn log_prob(&self, x: &Tensor) -> Result<Tensor> {
        let (z, log_det) = self.bijector.inverse(x, self.of_bijector)?;
        check_log_det(&log_det, x)?;
        let log_prob = zero_at_infinity(&(self.base.log_prob(&z, self.of_base)? + &log_det)?, x)?;
        self.representable(log_prob, x, (&z, &log_det))
    }

    /// The log-densities (B) of x with the lowest finite number in the place of a minus infinity that is an overflow.
    fn representable(&self, log_prob: Tensor, x: &Tensor, (z, log_det): (&Tensor, &Tensor)) -> Result<Tensor> {
        let (never, lowest) = (f64::NEG_INFINITY, lowest(log_prob.dtype()));
        let mut low = log_prob.eq(never)?;
        if low.max_all()?.to_scalar::<u8>()? == 0 {
            return Ok(log_prob);
        }
        low = match self.onto {
            Some(Onto::Reals) => (low * finite_rows(x)?)?,
            Some(Onto::Range(map)) => ((low * finite_rows(x)?)? * map.inverse(x, None)?.1.ne(never)?)?,
            None => {
                // A base with a density so far out in the direction of z has one at z.
                let far = self.base.log_prob(&stretched(z, FAR)?, self.of_base)?.ne(never)?;
                (((low * finite_rows(z)?)? * log_det.ne(never)?)? * far)?
            }
        };
        replace(&log_prob, &low, lowest)
    }

    fn log_prob_training(&self, x: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let z = self.bijector.map(Direction::Inverse, x, self.of_bijector, &mut Mode::training(rng))?;
        self.log_prob_training_at(z, x, rng)
    }

    /// The log-density of x in training mode, given its z and `log|det dz/dx|`.
    fn log_prob_training_at(&self, (z, log_det): (Tensor, Tensor), x: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        check_log_det(&log_det, x)?;
        zero_at_infinity(&(self.base.log_prob_training(&z, self.of_base, rng)? + log_det)?, x)
    }

    fn sample(&self, count: usize, rng: &mut Rng) -> Result<Tensor> {
        let z = self.keep(self.base.sample(count, self.of_base, rng)?)?;
        Ok(self.bijector.forward(&z, self.of_bijector)?.0)
    }

    fn sample_with_log_prob(&self, count: usize, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let z = self.base.sample_with_log_prob(count, self.of_base, rng)?;
        self.push(z, &mut Mode::evaluation())
    }

    fn sample_with_log_prob_training(&self, count: usize, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let z = self.base.sample_with_log_prob_training(count, self.of_base, rng)?;
        self.push(z, &mut Mode::training(rng))
    }

    /// Pushes z with its log-density forward to x with its log-density.
    fn push(&self, (z, log_prob): (Tensor, Tensor), mode: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let z = self.keep(z)?;
        let (x, log_det) = self.bijector.map(Direction::Forward, &z, self.of_bijector, mode)?;
        check_event("the bijector's output", &x, self.bijector.data_shape())?;
        check_log_det(&log_det, &z)?;
        // A point outside the bijector's domain has density 0, not infinity.
        let refused = log_det.eq(f64::NEG_INFINITY)?;
        let log_prob = replace(&(log_prob - log_det)?, &refused, f64::NEG_INFINITY)?;
        if self.onto.is_none() || mode.is_training() || refused.max_all()?.to_scalar::<u8>()? == 0 {
            return Ok((x, log_prob));
        }
        // Every z has an x, but this one has overflowed on the way: what counts is the density of the x that it got.
        let log_prob = refused.where_cond(&self.log_prob(&x)?, &log_prob)?;
        Ok((x, log_prob))
    }
}

impl Transformed {
    fn parts<'a>(&'a self, context: Option<&'a Tensor>) -> Parts<'a> {
        let (within, onto) = (self.within.as_ref(), self.onto.as_ref());
        Parts { base: &*self.base, of_base: context, bijector: &*self.bijector, of_bijector: context, within, onto }
    }
}

impl Distribution for Transformed {
    fn event_shape(&self) -> &[usize] {
        self.bijector.data_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.check(x, context)?;
        self.parts(context).log_prob(x)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.check(x, context)?;
        self.parts(context).log_prob_training(x, rng)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        self.check_context(context)?;
        self.parts(context).sample(count, rng)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        check_rows(context, count)?;
        self.check_context(context)?;
        self.parts(context).sample_with_log_prob(count, rng)
    }

    fn sample_with_log_prob_training(
        &self,
        count: usize,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor)> {
        check_rows(context, count)?;
        self.check_context(context)?;
        self.parts(context).sample_with_log_prob_training(count, rng)
    }

    fn condition<'a>(&'a self, context: &Tensor) -> Result<Option<Box<dyn Distribution + 'a>>> {
        self.check_context(Some(context))?;
        let Some((bijector, embedded)) = self.bijector.embed(context)? else { return Ok(None) };
        let (base, within, onto) = (given::at(&*self.base, context)?, self.within.as_ref(), self.onto.as_ref());
        Ok(Some(Box::new(Conditioned { base, bijector, context: embedded, within, onto })))
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        self.check(x, context)?;
        let first = |t: &Tensor| t.narrow(0, 0, t.dim(0)?.min(INITIAL_ROWS));
        self.bijector.initialize(&first(x)?, context.map(first).transpose()?.as_ref())?;
        Ok(())
    }

    fn support(&self) -> Support {
        self.bijector.image(&self.base.support()).unwrap_or_else(|| Support::real(self.event_shape()))
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

/// The largest number of rows used for the data-dependent initialisation of layers.
const INITIAL_ROWS: usize = 4096;

/// A flow at one context: the base at that context, and the bijector with the context as it embeds it, (1, ...).
#[derive(Debug)]
struct Conditioned<'a> {
    base: Box<dyn Distribution + 'a>,
    bijector: &'a dyn Bijector,
    context: Tensor,
    within: Option<&'a Support>,
    onto: Option<&'a Onto>,
}

impl Conditioned<'_> {
    fn rows(&self, context: Option<&Tensor>, count: usize) -> Result<Tensor> {
        given::check_given(context)?;
        given::repeat(&self.context, count)
    }

    fn parts<'a>(&'a self, context: &'a Tensor) -> Parts<'a> {
        let (base, bijector, within, onto) = (&*self.base, self.bijector, self.within, self.onto);
        Parts { base, of_base: None, bijector, of_bijector: Some(context), within, onto }
    }
}

impl Distribution for Conditioned<'_> {
    fn event_shape(&self) -> &[usize] {
        self.bijector.data_shape()
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let context = self.rows(context, check_batch(x, self.event_shape(), None)?)?;
        check_type("x", x, self.dtype())?;
        self.parts(&context).log_prob(x)
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let context = self.rows(context, check_batch(x, self.event_shape(), None)?)?;
        check_type("x", x, self.dtype())?;
        self.parts(&context).log_prob_training(x, rng)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.parts(&self.rows(context, count)?).sample(count, rng)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.parts(&self.rows(context, count)?).sample_with_log_prob(count, rng)
    }

    fn sample_with_log_prob_training(
        &self,
        count: usize,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor)> {
        self.parts(&self.rows(context, count)?).sample_with_log_prob_training(count, rng)
    }

    fn support(&self) -> Support {
        self.bijector.image(&self.base.support()).unwrap_or_else(|| Support::real(self.event_shape()))
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
