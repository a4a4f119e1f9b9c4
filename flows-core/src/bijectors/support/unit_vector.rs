//! Vectors of length 1.

use super::onto::{Limits, Map, clip, fill};
use crate::Result;
use crate::ops::{ln, ln_1p, sum};
use candle_core::{DType, Tensor};
use std::f64::consts::LN_2;

/// The stereographic projection; see [`super::Support::UnitVector`].
#[derive(Debug)]
pub(super) struct UnitVector {
    size: usize,
    limits: Limits,
}

impl UnitVector {
    pub(super) fn new(size: usize, dtype: DType) -> Self {
        Self { size, limits: Limits::of(dtype) }
    }
}

impl Map for UnitVector {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = self.size - 1;
        // Neither the square of z nor that of 2 / z leaves what the type holds.
        let far = self.limits.huge.powf(0.48) / (n as f64).sqrt();
        let z = clip(z, -far, far)?;
        let square = sum(&z.sqr()?, 1)?;
        let scale = (&square + 1.0)?.recip()?.affine(2.0, 0.0)?.unsqueeze(1)?;
        let last = scale.affine(-1.0, 1.0)?;
        let log_det = ln_1p(&square)?.affine(-(n as f64), n as f64 * LN_2)?;
        Ok((Tensor::cat(&[z.broadcast_mul(&scale)?, last], 1)?, log_det))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        let n = self.size - 1;
        let off = (sum(&x.sqr()?, 1)? - 1.0)?.abs()?.gt(self.limits.tolerance())?;
        let pole = x.narrow(1, 0, n)?.abs()?.max_keepdim(1)?.lt(self.limits.tiny)?;
        Ok(Tensor::cat(&[off.unsqueeze(1)?, (pole * x.narrow(1, n, 1)?.gt(0.0)?)?], 1)?)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = self.size - 1;
        let (first, last) = (x.narrow(1, 0, n)?, x.narrow(1, n, 1)?);
        let north = last.gt(0.0)?;
        // There 1 - x_K = |x_1..K-1|^2 / (1 + x_K), which does not cancel; in units of the largest element, so that
        // neither squares underflow nor their gradients overflow.
        let largest = first.detach().abs()?.max_keepdim(1)?;
        let unit = fill(&largest, &largest.lt(self.limits.tiny)?, 1.0)?;
        let scaled = first.broadcast_div(&unit)?;
        let square = clip(&sum(&scaled.sqr()?, 1)?.unsqueeze(1)?, self.limits.tiny, self.limits.huge)?;
        let sum_with_one = (clip(&last, 0.0, 2.0)? + 1.0)?;
        let of_north = scaled.broadcast_mul(&sum_with_one.broadcast_div(&(&square * &unit)?)?)?;
        let log_north = ((ln(&square)? + (ln(&unit)? * 2.0)?)? - ln(&sum_with_one)?)?;
        let gap = clip(&last, -2.0, 0.0)?.affine(-1.0, 1.0)?;
        let z = north.broadcast_as(first.shape())?.where_cond(&of_north, &first.broadcast_div(&gap)?)?;
        let log_gap = north.where_cond(&log_north, &ln(&gap)?)?;
        Ok((z, (log_gap.squeeze(1)? * -(n as f64))?))
    }
}
