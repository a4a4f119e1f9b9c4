//! The Bernoulli distribution.

use super::Distribution;
use super::checks::{
    batch_shape, check_batch, check_float, check_rows, check_values, described, event_shape, replace, values_of,
};
use crate::bijectors::Support;
use crate::nn::{Init, Scope};
use crate::ops::{sigmoid, softplus, sum_event};
use crate::{Result, Rng};
use candle_core::{DType, Tensor};

/// Independent elements of {0, 1}:
/// `log p(x) = sum_i x_i logit_i - softplus(logit_i)`, the stable form of
/// `x ln s(logit) + (1 - x) ln(1 - s(logit))`, s being the sigmoid.
///
/// x has the logits' dtype; values other than 0 and 1 have probability 0. Draws are not
/// differentiable. The event shape is arbitrary; a context is ignored.
#[derive(Clone, Debug)]
pub struct Bernoulli {
    event: Vec<usize>,
    logits: Tensor,
}

impl Bernoulli {
    /// The distribution with these logits (event...).
    ///
    /// # Errors
    /// When a logit is not finite.
    pub fn new(logits: &Tensor) -> Result<Self> {
        check_float(logits.dtype())?;
        check_values("a logit", logits, "finite", f64::is_finite)?;
        Ok(Self { event: event_shape(logits.dims())?, logits: logits.clone() })
    }

    /// The distribution with trainable `logits`, initialised to 0.
    ///
    /// # Errors
    /// When the event shape has a dimension of 0 or the name is taken.
    pub fn trainable(event: impl Into<Vec<usize>>, scope: &Scope) -> Result<Self> {
        let event = event_shape(event)?;
        let logits = scope.weight("logits", event.clone(), Init::Zeros)?;
        Ok(Self { event, logits })
    }

    /// The logits, (event...).
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }
}

impl Distribution for Bernoulli {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        check_batch(x, &self.event, context)?;
        let bit = x.detach().clamp(0.0, 1.0)?.round()?;
        let value = bit.broadcast_mul(&self.logits)?.broadcast_sub(&softplus(&self.logits)?)?;
        let value = replace(&value, &x.ne(&bit)?, f64::NEG_INFINITY)?;
        sum_event(&replace(&value, &x.ne(x)?, f64::NAN)?)
    }

    fn support(&self) -> Support {
        Support::Integers { shape: self.event.clone(), low: 0, high: 1 }
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        let p = values_of(&sigmoid(&self.logits.to_dtype(DType::F64)?)?)?;
        let mut p = p.iter().cycle();
        let shape = batch_shape(count, &self.event);
        rng.tensor(shape, self.logits.dtype(), self.logits.device(), |rng| {
            f64::from(p.next().is_some_and(|&p| rng.uniform() < p))
        })
    }

    described!(|self| "Bernoulli", self.logits, [&self.logits]);
}
