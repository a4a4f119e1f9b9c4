//! The states that a solver works on.

use super::Tolerance;
use candle_core::{DType, Tensor};
use flows_core::{Result, ops};

/// The state of a differential equation, with the operations that a solver needs.
pub trait State: Clone {
    /// `base + sum c k` over the terms `(c, k)`, or `sum c k` without a base. There is at least one term, and all have
    /// the same shape.
    ///
    /// # Errors
    /// When shapes differ or the device fails.
    fn combine(base: Option<&Self>, terms: &[(f64, &Self)]) -> Result<Self>;

    /// The root mean square of `self / (atol + rtol max(|a|, |b|))` over all elements; for a pair of states, the
    /// larger of the two. It is not finite if an element is not.
    ///
    /// # Errors
    /// When shapes differ or the device fails.
    fn norm(&self, a: &Self, b: &Self, tolerance: Tolerance) -> Result<f64>;
}

/// The number of elements for which all terms are summed before the next ones: few enough for the first-level cache.
const BLOCK: usize = 2048;

macro_rules! vectors {
    ($($t:ty),*) => {$(
        impl State for Vec<$t> {
            fn combine(base: Option<&Self>, terms: &[(f64, &Self)]) -> Result<Self> {
                let n = base.or(terms.first().map(|(_, k)| *k)).map_or(0, Vec::len);
                let mut out = base.map_or_else(|| vec![0.0; n], Vec::clone);
                for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                    for (c, k) in terms.iter().filter(|(c, _)| *c != 0.0) {
                        let c = *c as $t;
                        for (out, k) in out.iter_mut().zip(&k[i * BLOCK..]) {
                            *out += c * k;
                        }
                    }
                }
                Ok(out)
            }

            fn norm(&self, a: &Self, b: &Self, tolerance: Tolerance) -> Result<f64> {
                let Tolerance { rtol, atol } = tolerance;
                let square = |((error, a), b): ((&$t, &$t), &$t)| {
                    let (a, b) = (f64::from(*a).abs(), f64::from(*b).abs());
                    (f64::from(*error) / (atol + rtol * if a > b { a } else { b })).powi(2)
                };
                let sum: f64 = self.iter().zip(a).zip(b).map(square).sum();
                Ok((sum / self.len().max(1) as f64).sqrt())
            }
        }
    )*};
}
vectors!(f32, f64);

impl State for Tensor {
    fn combine(base: Option<&Self>, terms: &[(f64, &Self)]) -> Result<Self> {
        let mut sum = base.cloned();
        for (c, k) in terms.iter().filter(|(c, _)| *c != 0.0) {
            let term = (*k * *c)?;
            sum = Some(match sum {
                Some(sum) => (sum + term)?,
                None => term,
            });
        }
        match (sum, terms.first()) {
            (Some(sum), _) => Ok(sum),
            (None, Some((_, k))) => Ok(k.zeros_like()?),
            (None, None) => Err(flows_core::Error::Internal("a linear combination of states has no terms".into())),
        }
    }

    fn norm(&self, a: &Self, b: &Self, tolerance: Tolerance) -> Result<f64> {
        let (error, a, b) = (self.detach(), a.detach(), b.detach());
        if error.elem_count() == 0 {
            return Ok(0.0);
        }
        let scale = a.abs()?.maximum(&b.abs()?)?.affine(tolerance.rtol, tolerance.atol)?;
        let square = (error / scale)?.sqr()?;
        Ok(ops::mean(&square.flatten_all()?, 0)?.to_dtype(DType::F64)?.to_scalar::<f64>()?.sqrt())
    }
}

impl<A: State, B: State> State for (A, B) {
    fn combine(base: Option<&Self>, terms: &[(f64, &Self)]) -> Result<Self> {
        let first: Vec<_> = terms.iter().map(|(c, k)| (*c, &k.0)).collect();
        let second: Vec<_> = terms.iter().map(|(c, k)| (*c, &k.1)).collect();
        Ok((A::combine(base.map(|b| &b.0), &first)?, B::combine(base.map(|b| &b.1), &second)?))
    }

    fn norm(&self, a: &Self, b: &Self, tolerance: Tolerance) -> Result<f64> {
        Ok(larger(self.0.norm(&a.0, &b.0, tolerance)?, self.1.norm(&a.1, &b.1, tolerance)?))
    }
}

/// The larger of two norms; unlike `f64::max` it propagates NaN.
pub(crate) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}
