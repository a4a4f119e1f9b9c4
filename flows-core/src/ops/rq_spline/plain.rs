//! The spline as a composition of candle's operations, for other devices and as the tests' reference.

use super::{Direction, Ends, RqSpline, RqSplineSettings};
use crate::Result;
use crate::ops::softplus;
use candle_core::{D, DType, Tensor};

impl RqSpline {
    pub(super) fn composed(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let RqSplineSettings { bins: k, low, high, ends, min_bin, min_slope } = self.settings;
        let (batch, n) = x.dims2()?;
        let parameters = parameters.broadcast_as((batch, n, self.settings.parameter_count()))?.contiguous()?;
        let inside = x.ge(low)?.mul(&x.le(high)?)?;
        // A clamp may lose a NaN.
        let number = x.eq(x)?;
        let at = inside.where_cond(x, &number.where_cond(&x.detach().clamp(low, high)?, &x.detach())?)?;
        // Edges and sizes of the bins along one axis, (B, N, K) each.
        let sum_before = strictly_upper(k, x)?;
        let axis = |start: usize| -> Result<(Tensor, Tensor)> {
            let logits = parameters.narrow(2, start, k)?;
            let weights = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?.exp()?;
            let shares = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
            let size = ((shares * (1.0 - min_bin * k as f64))? + min_bin)?.affine(high - low, 0.0)?;
            let start = size.reshape((batch * n, k))?.matmul(&sum_before)?.reshape((batch, n, k))?.affine(1.0, low)?;
            Ok((start, size))
        };
        let (x0, width) = axis(0)?;
        let (y0, height) = axis(k)?;
        let free = (softplus(&parameters.narrow(2, 2 * k, self.settings.parameter_count() - 2 * k)?)? + min_slope)?;
        let slopes = match ends {
            Ends::Linear => {
                let one = Tensor::ones((batch, n, 1), x.dtype(), x.device())?;
                Tensor::cat(&[&one, &free, &one], 2)?
            }
            Ends::Closed => free,
            Ends::Periodic => Tensor::cat(&[&free, &free.narrow(2, 0, 1)?], 2)?,
        };
        let starts = if self.direction == Direction::Forward { &x0 } else { &y0 };
        let index = match k {
            // Some devices have no empty tensors.
            1 => Tensor::zeros((batch, n, 1), DType::U32, x.device())?,
            _ => {
                let inner = starts.narrow(2, 1, k - 1)?.detach();
                at.unsqueeze(2)?.broadcast_ge(&inner)?.to_dtype(DType::F32)?.sum_keepdim(2)?.to_dtype(DType::U32)?
            }
        };
        let pick = |t: &Tensor, index: &Tensor| -> Result<Tensor> { Ok(t.contiguous()?.gather(index, 2)?.squeeze(2)?) };
        let (x0, width, y0, height) =
            (pick(&x0, &index)?, pick(&width, &index)?, pick(&y0, &index)?, pick(&height, &index)?);
        let (d0, d1) = (pick(&slopes.narrow(2, 0, k)?, &index)?, pick(&slopes.narrow(2, 1, k)?, &index)?);
        let s = (&height / &width)?;
        let twist = ((&d0 + &d1)? - (&s * 2.0)?)?;
        let least = if x.dtype() == DType::F64 { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) };
        let xi = match self.direction {
            Direction::Forward => ((&at - &x0)? / &width)?,
            Direction::Inverse => {
                let dy = (&at - &y0)?;
                let excess = (&dy * &twist)?;
                let a = ((&height * (&s - &d0)?)? + &excess)?;
                let b = ((&height * &d0)? - &excess)?;
                let c = (&s * &dy)?.neg()?;
                // The discriminant is at least (h d)^2 > 0 up to rounding.
                let root = (b.sqr()? - (a * &c)?.affine(4.0, 0.0)?)?.maximum(least)?.sqrt()?;
                ((c * 2.0)? / (b.neg()? - root)?)?
            }
        };
        // Rounding may leave a point just outside its bin.
        let xi = (&xi + (xi.clamp(0.0, 1.0)? - &xi)?.detach())?;
        let rest = xi.affine(-1.0, 1.0)?;
        let q = (&xi * &rest)?;
        let quotient = ((&s * xi.sqr()?)? + (&d0 * &q)?)?;
        let denominator = (&s + (&twist * &q)?)?;
        let numerator = (((&d1 * xi.sqr()?)? + (&s * &q)?.affine(2.0, 0.0)?)? + (&d0 * rest.sqr()?)?)?;
        let log = ((numerator.log()? + (s.log()? * 2.0)?)? - (denominator.log()? * 2.0)?)?;
        let (value, log) = match self.direction {
            Direction::Forward => ((y0 + ((height * quotient)? / denominator)?)?, log),
            Direction::Inverse => ((x0 + (xi * width)?)?, log.neg()?),
        };
        match ends {
            Ends::Linear => Ok((inside.where_cond(&value, x)?, inside.where_cond(&log, &log.zeros_like()?)?)),
            Ends::Closed | Ends::Periodic => {
                let never = number.where_cond(&(log.zeros_like()? + f64::NEG_INFINITY)?, &x.detach())?;
                Ok((inside.where_cond(&value, &at.detach())?, inside.where_cond(&log, &never)?))
            }
        }
    }
}

/// The (k, k) matrix that turns sizes into their exclusive cumulative sums.
fn strictly_upper(k: usize, like: &Tensor) -> Result<Tensor> {
    let ones: Vec<f64> = (0..k * k).map(|i| if i / k < i % k { 1.0 } else { 0.0 }).collect();
    Ok(Tensor::from_vec(ones, (k, k), like.device())?.to_dtype(like.dtype())?)
}
