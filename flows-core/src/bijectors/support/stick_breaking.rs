//! The simplex by breaking a stick.

use super::onto::{Limits, Map, constant};
use super::sum_to_zero::{outside_simplex, probabilities};
use crate::Result;
use crate::ops::{log_sigmoid, sum};
use candle_core::{DType, Device, Tensor};

/// See [`super::Support::StickBreaking`].
#[derive(Debug)]
pub(super) struct StickBreaking {
    size: usize,
    /// `ln(K - k)`, (1, K - 1).
    offsets: Tensor,
    /// Sums what comes before an element, (K - 1, K).
    before: Tensor,
    /// Sums an element and what comes behind it, (K, K).
    behind: Tensor,
    limits: Limits,
}

impl StickBreaking {
    pub(super) fn new(size: usize, dtype: DType, device: &Device) -> Result<Self> {
        let ones = |rows: usize, inside: fn(usize, usize) -> bool| {
            let values = (0..rows * size).map(|e| f64::from(u8::from(inside(e / size, e % size)))).collect();
            constant(values, &[rows, size], dtype, device)
        };
        let offsets = (1..size).map(|k| ((size - k) as f64).ln()).collect();
        Ok(Self {
            size,
            offsets: constant(offsets, &[1, size - 1], dtype, device)?,
            before: ones(size - 1, |j, k| j < k)?,
            behind: ones(size, |j, k| j >= k)?,
            limits: Limits::of(dtype),
        })
    }
}

impl Map for StickBreaking {
    fn forward(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = self.size - 1;
        let u = z.broadcast_sub(&self.offsets)?;
        let (broken, left) = (log_sigmoid(&u)?, log_sigmoid(&u.neg()?)?);
        // The logarithm of what there is before each break, and at the end.
        let rest = left.matmul(&self.before)?;
        let first = (rest.narrow(1, 0, n)? + &broken)?;
        let log_det = (sum(&first, 1)? + sum(&left, 1)?)?;
        let logs = Tensor::cat(&[first, rest.narrow(1, n, 1)?], 1)?;
        Ok((probabilities(&logs, self.limits)?, log_det))
    }

    fn outside(&self, x: &Tensor) -> Result<Tensor> {
        outside_simplex(x, self.limits)
    }

    fn inverse(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = self.size - 1;
        // Sums of positive numbers, not 1 less what comes before, which cancels.
        let rest = self.limits.ln(&x.matmul(&self.behind)?)?;
        let (rest, left) = (rest.narrow(1, 0, n)?, rest.narrow(1, 1, n)?);
        let logs = self.limits.ln(&x.narrow(1, 0, n)?)?;
        let z = (&logs - &left)?.broadcast_add(&self.offsets)?;
        let log_det = (sum(&rest, 1)? - sum(&left, 1)?)?;
        Ok((z, (log_det - sum(&logs, 1)?)?))
    }
}
