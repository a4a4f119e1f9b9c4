//! Vectors of length 1.

use super::onto::{Limits, Map, restrict};
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
        let z = z.clamp(-far, far)?;
        let square = sum(&z.sqr()?, 1)?;
        let scale = (&square + 1.0)?.recip()?.affine(2.0, 0.0)?.unsqueeze(1)?;
        let last = scale.affine(-1.0, 1.0)?;
        let log_det = ln_1p(&square)?.affine(-(n as f64), n as f64 * LN_2)?;
        Ok((Tensor::cat(&[z.broadcast_mul(&scale)?, last], 1)?, log_det))
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = self.size - 1;
        let inside = x.clamp(-2.0, 2.0)?;
        let (first, last) = (inside.narrow(1, 0, n)?, inside.narrow(1, n, 1)?);
        let square = sum(&first.sqr()?, 1)?.unsqueeze(1)?;
        // 1 - x_K, above the equator as |x_1..K-1|^2 / (1 + x_K), which does not cancel.
        let below = last.minimum(0.0)?.affine(-1.0, 1.0)?;
        let above = (square.maximum(self.limits.tiny)? / (last.maximum(0.0)? + 1.0)?)?;
        let gap = last.gt(0.0)?.where_cond(&above, &below)?;
        let z = first.broadcast_div(&gap)?;
        let log_det = (ln(&gap)?.squeeze(1)? * -(n as f64))?;
        let length = (&square + last.sqr()?)?;
        let off = (length - 1.0)?.abs()?.gt(self.limits.tolerance())?;
        let pole = (square.le(0.0)? * last.gt(0.0)?)?;
        Ok((z, restrict(&log_det, &(off + pole)?, x)?))
    }
}
