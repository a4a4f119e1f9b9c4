//! The uniform distribution on a box.

use super::Distribution;
use super::checks::{
    batch_shape, box_of, check_alike, check_batch, check_rows, check_values, described, event_shape, restrict,
};
use crate::bijectors::Support;
use crate::ops::sum_event;
use crate::{Error, Result, Rng};
use candle_core::Tensor;

/// Independent elements, uniform on `[low_i, high_i]`: `log p(x) = -sum_i ln(high_i - low_i)`
/// inside and minus infinity outside. The event shape is arbitrary; a context is ignored.
#[derive(Clone, Debug)]
pub struct BoxUniform {
    event: Vec<usize>,
    low: Tensor,
    high: Tensor,
    support: Support,
}

impl BoxUniform {
    /// The distribution on the box between `low` and `high`, both (event...).
    ///
    /// # Errors
    /// When shapes or dtypes differ, a bound is not finite, or a lower bound is not below its upper bound.
    pub fn new(low: &Tensor, high: &Tensor) -> Result<Self> {
        check_alike("the upper bound", low, high)?;
        check_values("a lower bound", low, "finite", f64::is_finite)?;
        check_values("a width of the box", &(high - low)?, "positive and finite", |w| w > 0.0 && w.is_finite())?;
        let event = event_shape(low.dims())?;
        let support = box_of(&event, low, high, f64::INFINITY)?;
        Ok(Self { event, low: low.clone(), high: high.clone(), support })
    }

    /// The distribution truncated to another box, which is uniform again.
    ///
    /// # Errors
    /// When the boxes do not overlap.
    pub fn truncate(&self, low: &Tensor, high: &Tensor) -> Result<Self> {
        check_alike("the lower bound", &self.low, low)?;
        check_alike("the upper bound", &self.low, high)?;
        Self::new(&self.low.maximum(low)?, &self.high.minimum(high)?)
            .map_err(|e| Error::Config(format!("the boxes do not overlap: {e}")))
    }
}

impl Distribution for BoxUniform {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        check_batch(x, &self.event, context)?;
        let value = (&self.high - &self.low)?.log()?.neg()?.broadcast_as(x.shape())?;
        sum_event(&restrict(&value, x, &self.low, &self.high)?)
    }

    fn support(&self) -> Support {
        self.support.clone()
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        let u = rng.uniform_tensor(batch_shape(count, &self.event), self.low.dtype(), self.low.device())?;
        let x = u.broadcast_mul(&(&self.high - &self.low)?)?.broadcast_add(&self.low)?;
        // Rounding must not push a draw over the edge, where its density would be 0.
        Ok(x.broadcast_minimum(&self.high)?)
    }

    described!(|self| "BoxUniform", self.low, []);
}
