//! The categorical distribution.

use super::Distribution;
use super::checks::{
    at_least_one, batch_shape, check_batch, check_float, check_rows, check_values, described, event_shape, replace,
    values_of,
};
use crate::bijectors::Support;
use crate::nn::{Init, Scope};
use crate::ops::{log_softmax, sum_event};
use crate::{Error, Result, Rng};
use candle_core::{D, DType, Tensor};

/// Independent elements in the classes 0 to K - 1:
/// `log p(x) = sum_i log softmax(logits_i)[x_i]`.
///
/// x holds class indices, as u32 or as integers in the logits' dtype; other values have
/// probability 0. Draws have the logits' dtype and are not differentiable. The event shape is arbitrary; a
/// context is ignored.
#[derive(Clone, Debug)]
pub struct Categorical {
    event: Vec<usize>,
    classes: usize,
    logits: Tensor,
}

impl Categorical {
    /// The distribution with these logits (event..., K); minus infinity excludes a class.
    ///
    /// # Errors
    /// When there are no classes, or an element's logits contain NaN or infinity, or exclude every class.
    pub fn new(logits: &Tensor) -> Result<Self> {
        check_float(logits.dtype())?;
        let Some((&classes, event)) = logits.dims().split_last() else {
            return Err(Error::shape("the logits", &[], "(event..., K)"));
        };
        at_least_one("the number of classes", classes)?;
        check_values("a largest logit", &logits.max(D::Minus1)?, "finite", f64::is_finite)?;
        check_values("a logit", logits, "a number", |l| !l.is_nan())?;
        Ok(Self { event: event_shape(event)?, classes, logits: logits.clone() })
    }

    /// The distribution over `classes` with trainable `logits`, initialised to 0.
    ///
    /// # Errors
    /// When there are no classes, the event shape has a dimension of 0 or the name is taken.
    pub fn trainable(event: impl Into<Vec<usize>>, classes: usize, scope: &Scope) -> Result<Self> {
        let event = event_shape(event)?;
        let shape = [event.as_slice(), &[at_least_one("the number of classes", classes)?]].concat();
        let logits = scope.weight("logits", shape, Init::Zeros)?;
        Ok(Self { event, classes, logits })
    }

    /// The logits, (event..., K).
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }
}

/// Draws class indices from logits (..., K).
pub(super) struct Chooser {
    cumulative: Vec<f64>,
    classes: usize,
}

impl Chooser {
    pub(super) fn new(logits: &Tensor) -> Result<Self> {
        let log_p = log_softmax(&logits.to_dtype(DType::F64)?)?;
        let classes = log_p.dim(D::Minus1)?;
        let mut cumulative = values_of(&log_p.exp()?)?;
        for row in cumulative.chunks_mut(classes) {
            let mut sum = 0.0;
            for p in row {
                sum += *p;
                *p = sum;
            }
        }
        Ok(Self { cumulative, classes })
    }

    /// `count` draws for each row, (count, rows).
    pub(super) fn draw(&self, count: usize, rng: &mut Rng) -> Vec<u32> {
        let mut choose = |row: &[f64]| {
            let u = rng.uniform() * row.last().copied().unwrap_or(1.0);
            row.partition_point(|&c| c <= u).min(self.classes - 1) as u32
        };
        (0..count).flat_map(|_| self.cumulative.chunks(self.classes)).map(&mut choose).collect()
    }
}

impl Distribution for Categorical {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        check_batch(x, &self.event, context)?;
        let x = x.detach().to_dtype(self.logits.dtype())?;
        let class = x.clamp(0.0, (self.classes - 1) as f64)?.round()?;
        // The row-major index of each element's class in the table (N, K).
        let elements: usize = self.event.iter().product();
        let start = Tensor::arange_step(0, (elements * self.classes) as u32, self.classes as u32, x.device())?;
        let place = class.reshape(((), elements))?.to_dtype(DType::U32)?.broadcast_add(&start)?.flatten_all()?;
        let value = log_softmax(&self.logits)?.flatten_all()?.index_select(&place, 0)?.reshape(x.shape())?;
        let value = replace(&value, &x.ne(&class)?, f64::NEG_INFINITY)?;
        sum_event(&replace(&value, &x.ne(&x)?, f64::NAN)?)
    }

    fn support(&self) -> Support {
        Support::Integers { shape: self.event.clone(), low: 0, high: self.classes as i64 - 1 }
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        let classes = Chooser::new(&self.logits)?.draw(count, rng);
        let x = Tensor::from_vec(classes, batch_shape(count, &self.event), self.logits.device())?;
        Ok(x.to_dtype(self.logits.dtype())?)
    }

    described!(|self| "Categorical", on self.logits, [&self.logits]);
}
