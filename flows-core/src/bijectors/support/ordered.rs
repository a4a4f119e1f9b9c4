//! Vectors in increasing order.

use super::onto::{Limits, Map};
use crate::Result;
use crate::ops::{increasing, sum};
use candle_core::{DType, Tensor};

/// Elements that increase; see [`super::Support::Ordered`] and [`super::Support::PositiveOrdered`].
#[derive(Debug)]
pub(super) struct Ordered {
    size: usize,
    /// Whether the first element is an increment too, from 0.
    positive: bool,
    limits: Limits,
}

impl Ordered {
    pub(super) fn new(size: usize, positive: bool, dtype: DType) -> Self {
        Self { size, positive, limits: Limits::of(dtype) }
    }

    /// The first element, unless it is an increment, and the increments: (B, 0 or 1) and (B, ..).
    fn split(&self, v: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let free = usize::from(!self.positive);
        let part = |start: usize, n: usize| (n > 0).then(|| v.narrow(1, start, n)).transpose();
        Ok((part(0, free)?, part(free, self.size - free)?))
    }

    /// The increments of x, if there are any.
    fn steps(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let n = self.size - 1;
        let rises = (n > 0).then(|| x.narrow(1, 1, n)? - x.narrow(1, 0, n)?).transpose()?;
        let first = self.positive.then(|| x.narrow(1, 0, 1)).transpose()?;
        let parts: Vec<Tensor> = first.into_iter().chain(rises).collect();
        Ok(if parts.is_empty() { None } else { Some(Tensor::cat(&parts, 1)?) })
    }
}

impl Map for Ordered {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let (first, steps) = self.split(z)?;
        let Some(steps) = steps else { return Ok((z.clone(), sum(&z.zeros_like()?, 1)?)) };
        let log_det = sum(&steps, 1)?;
        let steps = self.limits.exp(&steps, 1.0, 2 * self.size)?;
        let parts: Vec<Tensor> = first.into_iter().chain([steps]).collect();
        Ok((increasing(&Tensor::cat(&parts, 1)?)?, log_det))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        match self.steps(x)? {
            Some(steps) => Ok(steps.le(0.0)?),
            None => Ok(x.ne(x)?),
        }
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let Some(steps) = self.steps(x)? else { return Ok((x.clone(), sum(&x.zeros_like()?, 1)?)) };
        let logs = self.limits.ln(&steps)?;
        let log_det = sum(&logs, 1)?.neg()?;
        let z = if self.positive { logs } else { Tensor::cat(&[x.narrow(1, 0, 1)?, logs], 1)? };
        Ok((z, log_det))
    }
}
