//! Mixtures of normal distributions.

use super::Distribution;
use super::categorical::Chooser;
use super::checks::{
    LN_2PI, at_least_one, batch_shape, check_alike, check_batch, check_rows, check_values, described, event_shape,
};
use crate::nn::{Init, Scope};
use crate::ops::{log_softmax, log_sum_exp, sum};
use crate::{Error, Result, Rng};
use candle_core::Tensor;

/// A mixture of K diagonal normal distributions over an arbitrary event shape:
/// `log p(x) = log sum_k softmax(logits)_k N(x; loc_k, scale_k^2)`.
///
/// Gradients flow through a sample to the location and scale of its component, but not through the choice of the
/// component: train the mixing weights through `log_prob`. A context is ignored.
#[derive(Clone, Debug)]
pub struct GaussianMixture {
    event: Vec<usize>,
    logits: Tensor,
    locs: Tensor,
    log_scales: Tensor,
}

impl GaussianMixture {
    /// The mixture with logits (K), locations and scales (K, event...).
    ///
    /// # Errors
    /// When shapes or dtypes differ, a scale is not positive, or a number is not finite.
    pub fn new(logits: &Tensor, locs: &Tensor, scales: &Tensor) -> Result<Self> {
        check_alike("the scales", locs, scales)?;
        let Some((&components, event)) = locs.dims().split_first() else {
            return Err(Error::shape("the locations", &[], "(K, event...)"));
        };
        at_least_one("the number of components", components)?;
        check_alike("the logits", &locs.reshape((components, ()))?.narrow(1, 0, 1)?.squeeze(1)?, logits)?;
        check_values("a logit", logits, "finite", f64::is_finite)?;
        check_values("a location", locs, "finite", f64::is_finite)?;
        check_values("a scale", scales, "positive and finite", |s| s > 0.0 && s.is_finite())?;
        let event = event_shape(event)?;
        Ok(Self { event, logits: logits.clone(), locs: locs.clone(), log_scales: scales.log()? })
    }

    /// A mixture of `components` with trainable `logits` and `log_scales`, initialised to 0, and
    /// `locs`, initialised with standard normal draws.
    ///
    /// # Errors
    /// When there are no components, the event shape has a dimension of 0 or a name is taken.
    pub fn trainable(event: impl Into<Vec<usize>>, components: usize, scope: &Scope) -> Result<Self> {
        let event = event_shape(event)?;
        let shape = batch_shape(at_least_one("the number of components", components)?, &event);
        Ok(Self {
            logits: scope.weight("logits", components, Init::Zeros)?,
            locs: scope.weight("locs", shape.clone(), Init::Normal(1.0))?,
            log_scales: scope.weight("log_scales", shape, Init::Zeros)?,
            event,
        })
    }
}

impl Distribution for GaussianMixture {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let batch = check_batch(x, &self.event, context)?;
        let (components, n) = (self.logits.elem_count(), self.event.iter().product::<usize>());
        let log_scales = self.log_scales.reshape((components, n))?;
        let z = x.reshape((batch, 1, n))?.broadcast_sub(&self.locs.reshape((1, components, n))?)?;
        let z = z.broadcast_mul(&log_scales.neg()?.exp()?.unsqueeze(0)?)?;
        let weights = (log_softmax(&self.logits)? - log_scales.sum(1)?)?;
        let each = sum(&z.sqr()?, 2)?.affine(-0.5, -0.5 * n as f64 * LN_2PI)?.broadcast_add(&weights)?;
        log_sum_exp(&each)
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        let device = self.locs.device();
        let component = Tensor::from_vec(Chooser::new(&self.logits)?.draw(count, rng), count, device)?;
        let noise = rng.normal_tensor(batch_shape(count, &self.event), self.locs.dtype(), device)?;
        let scale = self.log_scales.index_select(&component, 0)?.exp()?;
        Ok(((noise * scale)? + self.locs.index_select(&component, 0)?)?)
    }

    described!(|self| "GaussianMixture", self.locs, [&self.logits, &self.locs, &self.log_scales]);
}
