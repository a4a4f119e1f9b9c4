//! Colours as unbounded numbers.

use super::{Bijector, Bounds, Direction, Mode, Support};
use crate::ops::{self, Open};
use crate::shape::check_event;
use crate::{Error, Result, Structure};
use candle_core::{DType, Tensor};

/// Colours x of [l, h] as numbers `z = logit(p)`, `p = a + (1 - 2a) (x - l) / (h - l)`, element by element (Dinh et al.,
/// RealNVP, 2016, arXiv:1605.08803, section 4.1): `inverse` takes the logits.
///
/// `forward` gives x strictly inside of the range that `inverse` takes, `l - a/(1 - 2a) (h - l)` to
/// `h + a/(1 - 2a) (h - l)`: what would round to one of its ends is a number just before it.
///
/// `log|det dz/dx| = sum(ln((1 - 2a) / (h - l)) - ln p - ln(1 - p))`, and minus infinity where p is not between 0 and 1,
/// which is by the a-th part of the range beyond its ends.
#[derive(Clone, Debug)]
pub struct Logit {
    shape: Vec<usize>,
    a: f64,
    range: [f64; 2],
}

impl Logit {
    /// The logits of colours of `range`, [l, h], in events of `shape`.
    ///
    /// # Errors
    /// When a is not above 0 and below 1/2, or the range has no inside.
    pub fn new(shape: &[usize], a: f64, range: [f64; 2]) -> Result<Self> {
        if !(a > 0.0 && a < 0.5) {
            return Err(Error::Config(format!("logits with a = {a}: give a number above 0 and below 0.5")));
        }
        check_range(range)?;
        Ok(Self { shape: shape.to_vec(), a, range })
    }

    /// dp/dx.
    fn slope(&self) -> f64 {
        (1.0 - 2.0 * self.a) / (self.range[1] - self.range[0])
    }

    fn log_det(&self) -> f64 {
        let [low, high] = self.range;
        self.shape.iter().product::<usize>() as f64 * ((-2.0 * self.a).ln_1p() - (high - low).ln())
    }
}

/// Passes if there is something between two ends.
pub(super) fn check_range([low, high]: [f64; 2]) -> Result<()> {
    if low < high && (high - low).is_finite() {
        return Ok(());
    }
    Err(Error::Config(format!("colours from {low} to {high}: give a lower end, then a higher one")))
}

impl Logit {
    /// What colours of density lie between.
    fn bounds(&self) -> Bounds {
        let ([low, high], reach) = (self.range, self.a / self.slope());
        Bounds::between(low - reach, high + reach)
    }

    fn to_data(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        check_event("the latent of a logit", z, &self.shape)?;
        let scale = 1.0 / self.slope();
        let open = Open::Scaled { scale, shift: self.range[0] - self.a * scale, ends: self.bounds().inner(z.dtype()) };
        let x = ops::onto(z, open)?;
        let log = (ops::log_sigmoid(z)? + ops::log_sigmoid(&z.neg()?)?)?;
        Ok((x, (ops::sum_event(&log)? - self.log_det())?))
    }

    fn to_latent(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        check_event("the data of a logit", x, &self.shape)?;
        let ([low, high], slope) = (self.range, self.slope());
        // p and 1 - p by the distances from the ends, which near them have digits that p itself has lost.
        let [up, down] = [x.affine(1.0, -low)?, x.affine(-1.0, high)?].map(|from| from.affine(slope, self.a));
        let (up, down) = (up?, down?);
        // Comparisons say no to a NaN, whose row is to stay NaN.
        let [first, last] = self.bounds().ends(x.dtype());
        let outside = (x.le(first)? + x.ge(last)?)?;
        let tiny = if x.dtype() == DType::F64 { f64::MIN_POSITIVE } else { f32::MIN_POSITIVE.into() };
        let (up, down) = (ops::ln(&up.clamp(tiny, 1.0)?)?, ops::ln(&down.clamp(tiny, 1.0)?)?);
        let log = (&up + &down)?.neg()?;
        let log = outside.where_cond(&(log.zeros_like()? + f64::NEG_INFINITY)?, &log)?;
        Ok(((up - down)?, (ops::sum_event(&log)? + self.log_det())?))
    }
}

impl Bijector for Logit {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        _: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match direction {
            Direction::Forward => self.to_data(input),
            Direction::Inverse => self.to_latent(input),
        }
    }

    fn support(&self) -> Option<Support> {
        Some(Support::bounded(&self.shape[..], [self.bounds()]))
    }

    fn structure(&self) -> Structure {
        Structure::new("Logit", format!("{:?}, a = {}", self.shape, self.a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn draws_are_inside() -> Result<()> {
        let z = [-1e30, -200.0, -40.0, -18.0, 0.0, 18.0, 40.0, 200.0, 1e30];
        for [low, high] in [[0.0, 1.0], [-0.5, 0.5], [1e-6, 1.0], [-1.0, 3.0], [100.0, 104.0]] {
            for (a, dtype) in [(1e-6, DType::F32), (1e-6, DType::F64), (0.05, DType::F32), (0.05, DType::F64)] {
                let logit = Logit::new(&[1], a, [low, high])?;
                let z = Tensor::new(&z, &Device::Cpu)?.to_dtype(dtype)?.unsqueeze(1)?;
                let (back, log_det) = logit.inverse(&logit.forward(&z, None)?.0, None)?;
                for t in [back, log_det] {
                    let t = t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                    assert!(t.iter().all(|v| v.is_finite()), "[{low}, {high}], a = {a}, {dtype:?}: {t:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn black_and_white_are_finite_and_far_beyond_is_nothing() -> Result<()> {
        for [low, high] in [[0.0, 1.0], [-0.5, 0.5], [-1.0, 3.0]] {
            let logit = Logit::new(&[1], 1e-6, [low, high])?;
            let width = high - low;
            let x = [low, high, low - 0.1 * width, high + 0.1 * width, f64::INFINITY, f64::NAN];
            let x = Tensor::new(&x, &Device::Cpu)?.to_dtype(DType::F32)?.unsqueeze(1)?;
            let (z, log_det) = logit.inverse(&x, None)?;
            let (z, log_det) = (z.flatten_all()?.to_vec1::<f32>()?, log_det.to_vec1::<f32>()?);
            // ln(1e-6) = -13.8155.
            assert!((z[0] + 13.8155).abs() < 1e-3 && (z[1] - 13.8155).abs() < 1e-3, "{z:?}");
            assert!(z[..5].iter().all(|z| z.is_finite()) && z[5].is_nan(), "{z:?}");
            let want = 13.8155 - width.ln() as f32;
            assert!(log_det[..2].iter().all(|l| (l - want).abs() < 1e-3), "{log_det:?}");
            assert!(log_det[2..5].iter().all(|l| *l == f32::NEG_INFINITY) && log_det[5].is_nan(), "{log_det:?}");
        }
        let bad = [
            (0.0, [0.0, 1.0]),
            (0.5, [0.0, 1.0]),
            (f64::NAN, [0.0, 1.0]),
            (0.1, [1.0, 1.0]),
            (0.1, [0.0, f64::INFINITY]),
        ];
        assert!(bad.into_iter().all(|(a, range)| Logit::new(&[1], a, range).is_err()));
        Ok(())
    }
}
