//! A normal distribution for each class.

use super::Distribution;
use super::checks::{
    at_least_one, batch_shape, check_alike, check_batch, check_rows, check_values, described, event_shape, values_of,
};
use super::conditional_normal::Located;
use crate::nn::{Init, Scope};
use crate::shape::check_context;
use crate::{Error, Result, Rng};
use candle_core::Tensor;

/// A diagonal normal distribution for each of K classes, over an arbitrary event shape:
/// `log p(x | c) = log N(x; loc_c, scale_c^2)`.
///
/// The context is the class of each row, (B, 1), as u32 or as integers in a floating-point dtype.
/// Samples are differentiable with respect to the weights.
#[derive(Clone, Debug)]
pub struct ClassConditional {
    event: Vec<usize>,
    classes: usize,
    locs: Tensor,
    log_scales: Tensor,
}

impl ClassConditional {
    /// The distributions with these locations and scales, (K, event...).
    ///
    /// # Errors
    /// When shapes or dtypes differ, there are no classes, or a scale is not positive.
    pub fn new(locs: &Tensor, scales: &Tensor) -> Result<Self> {
        check_alike("the scales", locs, scales)?;
        let Some((&classes, event)) = locs.dims().split_first() else {
            return Err(Error::shape("the locations", &[], "(K, event...)"));
        };
        at_least_one("the number of classes", classes)?;
        check_values("a location", locs, "finite", f64::is_finite)?;
        check_values("a scale", scales, "positive and finite", |s| s > 0.0 && s.is_finite())?;
        Ok(Self { event: event_shape(event)?, classes, locs: locs.clone(), log_scales: scales.log()? })
    }

    /// The distributions with trainable `locs` and `log_scales`, initialised to 0.
    ///
    /// # Errors
    /// When there are no classes, the event shape has a dimension of 0 or a name is taken.
    pub fn trainable(event: impl Into<Vec<usize>>, classes: usize, scope: &Scope) -> Result<Self> {
        let event = event_shape(event)?;
        let shape = batch_shape(at_least_one("the number of classes", classes)?, &event);
        let locs = scope.weight("locs", shape.clone(), Init::Zeros)?;
        let log_scales = scope.weight("log_scales", shape, Init::Zeros)?;
        Ok(Self { event, classes, locs, log_scales })
    }

    fn at(&self, context: Option<&Tensor>, batch: usize) -> Result<Located> {
        let class = |c: f64| match c >= 0.0 && c < self.classes as f64 && c.fract() == 0.0 {
            true => Ok(c as u32),
            false => Err(Error::Data(format!(
                "the context has class {c}; classes are the integers 0 to {}",
                self.classes - 1
            ))),
        };
        let context = values_of(check_context(context, 1, batch)?)?;
        let index = context.into_iter().map(class).collect::<Result<Vec<u32>>>()?;
        let index = Tensor::from_vec(index, batch, self.locs.device())?;
        Ok(Located { loc: self.locs.index_select(&index, 0)?, log_scale: self.log_scales.index_select(&index, 0)? })
    }
}

impl Distribution for ClassConditional {
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
        check_rows(context, count)?;
        self.at(context, count)?.draw(rng)
    }

    described!(|self| "ClassConditional", self.locs, [&self.locs, &self.log_scales]);
}
