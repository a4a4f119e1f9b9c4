//! A normal distribution whose parameters are a linear map of the context.

use super::Distribution;
use super::checks::{LN_2PI, at_least_one, batch_shape, check_batch, described, event_shape};
use crate::nn::{Init, Scope};
use crate::ops::{self, FusedActivation, linear, sum_event};
use crate::shape::check_context;
use crate::{Result, Rng};
use candle_core::Tensor;

/// A diagonal normal distribution over an arbitrary event shape, conditioned on a context c (B, W):
/// `log p(x | c) = log N(x; loc, scale^2)`, `(loc, s) = A c + b`, `log scale = 5 tanh(s / 5)`.
///
/// The bound keeps the scale between e^-5 and e^5 for any context. The weights, `weight`
/// (2 N, W) and `bias` (2 N) for N elements, are initialised to 0, which gives a standard normal. Samples are
/// differentiable with respect to weights and context.
#[derive(Clone, Debug)]
pub struct ConditionalNormal {
    event: Vec<usize>,
    weight: Tensor,
    bias: Tensor,
}

/// The largest |log scale|.
const BOUND: f64 = 5.0;

impl ConditionalNormal {
    /// The distribution over events of this shape, given contexts (B, `width`).
    ///
    /// # Errors
    /// When the width is 0, the event shape has a dimension of 0 or a name is taken.
    pub fn new(event: impl Into<Vec<usize>>, width: usize, scope: &Scope) -> Result<Self> {
        let event = event_shape(event)?;
        let outputs = 2 * event.iter().product::<usize>();
        let width = at_least_one("the width of the context", width)?;
        let weight = scope.weight("weight", (outputs, width), Init::Zeros)?;
        let bias = scope.weight("bias", outputs, Init::Zeros)?;
        Ok(Self { event, weight, bias })
    }

    fn at(&self, context: Option<&Tensor>, batch: usize) -> Result<Located> {
        let context = check_context(context, self.weight.dim(1)?, batch)?;
        let out = linear(context, &self.weight, Some(&self.bias), FusedActivation::Identity)?;
        let n = self.bias.elem_count() / 2;
        let shape = batch_shape(batch, &self.event);
        let loc = out.narrow(1, 0, n)?.reshape(shape.clone())?;
        let log_scale = (ops::tanh(&(out.narrow(1, n, n)?.reshape(shape)? / BOUND)?)? * BOUND)?;
        Ok(Located { loc, log_scale })
    }
}

/// A normal distribution for each row, with location and log-scale (B, event...).
pub(super) struct Located {
    pub(super) loc: Tensor,
    pub(super) log_scale: Tensor,
}

impl Located {
    pub(super) fn log_prob(&self, x: &Tensor) -> Result<Tensor> {
        self.log_prob_at(&((x - &self.loc)? * ops::exp(&self.log_scale.neg()?)?)?)
    }

    /// `log N(loc + e^log_scale z; loc, scale^2)`.
    fn log_prob_at(&self, z: &Tensor) -> Result<Tensor> {
        sum_event(&(z.sqr()?.affine(-0.5, -0.5 * LN_2PI)? - &self.log_scale)?)
    }

    /// One draw per row, with its log-density.
    pub(super) fn draw(&self, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let z = rng.normal_tensor(self.loc.shape().clone(), self.loc.dtype(), self.loc.device())?;
        Ok((((&z * ops::exp(&self.log_scale)?)? + &self.loc)?, self.log_prob_at(&z)?))
    }
}

impl Distribution for ConditionalNormal {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let batch = check_batch(x, &self.event, context)?;
        self.at(context, batch)?.log_prob(x)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        Ok(self.sample_with_log_prob(count, context, rng)?.0)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.at(context, count)?.draw(rng)
    }

    described!(|self| "ConditionalNormal", self.weight, [&self.weight, &self.bias]);
}
