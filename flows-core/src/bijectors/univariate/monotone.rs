//! The inverse of any increasing function, by root finding, with the gradient of the implicit function.

use super::Univariate;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use std::fmt;

/// The most evaluations of a search. Newton's method needs about ten; bisection alone, with a bracket
/// still to be found, about a hundred.
const EVALUATIONS: usize = 200;

/// A family made of any increasing function with a known derivative; `inverse` searches.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use flows_core::bijectors::univariate::{Monotone, Univariate};
/// // x = z + z^3, with no parameters.
/// let cubic = Monotone::new("cubic", vec![], |z: &Tensor, _: &Tensor| {
///     Ok(((z + z.powf(3.0)?)?, ((z.sqr()? * 3.0)? + 1.0)?.log()?))
/// });
/// let none = Tensor::zeros((1, 1, 0), candle_core::DType::F64, &Device::Cpu)?;
/// let (z, _) = cubic.inverse(&Tensor::new(&[[10.0f64]], &Device::Cpu)?, &none)?;
/// assert!((z.to_vec2::<f64>()?[0][0] - 2.0).abs() < 1e-12);
/// # Ok::<(), flows_core::Error>(())
/// ```
pub struct Monotone<F> {
    name: String,
    identity: Vec<f64>,
    function: F,
}

impl<F> Monotone<F>
where
    F: Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)> + Send + Sync,
{
    /// The family of `function`, which gives value and log-derivative of z (B, N) under raw
    /// parameters (B or 1, N, P), P being the length of `identity`, the parameters to start from.
    pub fn new(name: impl Into<String>, identity: Vec<f64>, function: F) -> Self {
        Self { name: name.into(), identity, function }
    }
}

impl<F> fmt::Debug for Monotone<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Monotone({})", self.name)
    }
}

impl<F> Univariate for Monotone<F>
where
    F: Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)> + Send + Sync,
{
    fn name(&self) -> String {
        self.name.clone()
    }

    fn parameter_count(&self) -> usize {
        self.identity.len()
    }

    fn identity(&self) -> Vec<f64> {
        self.identity.clone()
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        (self.function)(z, parameters)
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        numerical_inverse(x, |z| (self.function)(z, parameters))
    }
}

/// `(z, log|dz/dx|)` with `f(z) = x`, element by element, for an increasing f that gives its value
/// and log-derivative.
///
/// Newton's method, kept inside a bracket that is widened until it holds the root; each element has its
/// own bracket and stops when only rounding can be left. A NaN stays NaN; an x beyond the range of f, or at
/// which f gives a log-derivative of minus infinity, gives some finite z and a log-derivative of minus
/// infinity. The gradient is that of the implicit function, `dz = (dx - df) / f'(z)`, by one more step of
/// Newton's method that autograd sees.
///
/// # Errors
/// Any error from `f`, and when its value has another shape than x.
pub fn numerical_inverse(x: &Tensor, f: impl Fn(&Tensor) -> Result<(Tensor, Tensor)>) -> Result<(Tensor, Tensor)> {
    let (root, outside) = search(x, &f)?;
    let (value, log) = f(&root)?;
    // No step where there is no root, and no unbounded one where f is flat.
    let outside = (outside + log.eq(f64::NEG_INFINITY)?)?;
    let rate = log.neg()?.exp()?.minimum(Precision::of(x.dtype()).most.sqrt())?;
    let rate = outside.where_cond(&root.zeros_like()?, &rate)?.detach();
    let z = (&root - ((value - x)? * rate)?)?;
    // A wild step is due to rounding.
    let close = (&z - &root)?.abs()?.le(&(root.abs()? + 1.0)?)?;
    let z = close.where_cond(&z, &root)?;
    let (_, log) = f(&z)?;
    let outside = (outside + log.eq(f64::NEG_INFINITY)?)?;
    let never = (log.zeros_like()? + f64::NEG_INFINITY)?;
    Ok((z, outside.where_cond(&never, &log.neg()?)?))
}

/// One element's search.
struct Search {
    at: f64,
    low: f64,
    high: f64,
    step: f64,
    done: bool,
    /// x is beyond the range of f.
    outside: bool,
}

impl Search {
    fn bracketed(&self) -> bool {
        self.low.is_finite() && self.high.is_finite()
    }

    fn advance(&mut self, value: f64, target: f64, slope: f64, precision: Precision) {
        let excess = value - target;
        if excess.is_nan() || excess == 0.0 {
            self.done = true;
            if excess.is_nan() {
                // Either x or a parameter is NaN, or f has overflowed.
                let known = if self.low.is_finite() { self.low } else { self.high };
                self.outside = known.is_finite();
                self.at = if self.outside { known } else { f64::NAN };
            }
            return;
        }
        *(if excess < 0.0 { &mut self.low } else { &mut self.high }) = self.at;
        let newton = -excess / slope;
        let next = if precision.converged((newton, self.at), (excess, target)) {
            self.done = true;
            (self.at + newton).max(self.low).min(self.high)
        } else if self.bracketed() {
            let inside = self.at + newton;
            if inside > self.low && inside < self.high && newton.abs() <= 0.5 * self.step.abs() {
                inside
            } else {
                0.5 * self.low + 0.5 * self.high
            }
        } else {
            // No bracket yet: Newton's step, but at most twice the last one.
            let limit = 2.0 * self.step.abs();
            let step = if newton.is_finite() { newton.abs().clamp(f64::MIN_POSITIVE, limit) } else { limit };
            self.at - step * excess.signum()
        };
        if next.abs() > precision.most {
            (self.done, self.outside) = (true, true);
            return;
        }
        self.step = next - self.at;
        self.done |= self.step.abs() <= precision.epsilon * next.abs();
        self.at = next;
    }
}

/// The precision of the dtype of x.
#[derive(Clone, Copy)]
struct Precision {
    epsilon: f64,
    most: f64,
}

impl Precision {
    fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self { epsilon: f64::EPSILON, most: f64::MAX },
            _ => Self { epsilon: f32::EPSILON.into(), most: f32::MAX.into() },
        }
    }

    /// Whether a step of Newton's method, which squares its errors, leaves only rounding: it is small
    /// relative to where it begins, and so is the excess that it corrects.
    fn converged(self, (newton, at): (f64, f64), (excess, target): (f64, f64)) -> bool {
        let near = self.epsilon.powf(2.0 / 3.0);
        newton.abs() <= near * (1.0 + at.abs()) && excess.abs() <= near.sqrt() * (1.0 + target.abs())
    }
}

/// The roots, and a mask of the elements that have none.
fn search(x: &Tensor, f: &impl Fn(&Tensor) -> Result<(Tensor, Tensor)>) -> Result<(Tensor, Tensor)> {
    let precision = Precision::of(x.dtype());
    let values = |t: &Tensor| -> Result<Vec<f64>> {
        if t.shape() != x.shape() {
            return Err(Error::shape("the value of the function to invert", t.dims(), format!("{:?}", x.dims())));
        }
        Ok(t.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let targets = values(x)?;
    let start = |&x: &f64| Search {
        at: if x.is_nan() { x } else { x.clamp(-1e3, 1e3) },
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
        step: 1.0 + x.abs().min(1e3),
        done: !x.is_finite(),
        outside: x.is_infinite(),
    };
    let mut searches: Vec<Search> = targets.iter().map(start).collect();
    let points = |searches: &[Search]| -> Result<Tensor> {
        let at: Vec<f64> = searches.iter().map(|s| s.at).collect();
        Ok(Tensor::from_vec(at, x.shape().clone(), x.device())?.to_dtype(x.dtype())?)
    };
    for _ in 0..EVALUATIONS {
        if searches.iter().all(|s| s.done) {
            break;
        }
        let (value, log) = f(&points(&searches)?)?;
        let (value, log) = (values(&value)?, values(&log)?);
        for (i, search) in searches.iter_mut().enumerate().filter(|(_, s)| !s.done) {
            search.advance(value[i], targets[i], log[i].exp(), precision);
        }
    }
    let outside = |s: &Search| u8::from(s.outside || !s.done && !s.bracketed());
    let outside: Vec<u8> = searches.iter().map(outside).collect();
    Ok((points(&searches)?, Tensor::from_vec(outside, x.shape().clone(), x.device())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::bijectors::univariate::DeepSigmoid;
    use crate::testing::difference;
    use candle_core::Device;
    use std::cell::Cell;

    /// A search that goes on within rounding falls back on bisection and takes dozens of evaluations.
    #[test]
    fn a_search_takes_few_evaluations() -> Result<()> {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
            for units in [1, 8] {
                let family = DeepSigmoid::new(units)?;
                let mut rng = Rng::seed(0);
                let raw = rng.normal_tensor((1000, 3, family.parameter_count()), dtype, &Device::Cpu)?;
                let z = rng.normal_tensor((1000, 3), dtype, &Device::Cpu)?;
                let count = Cell::new(0);
                let forward = |z: &Tensor| {
                    count.set(count.get() + 1);
                    family.forward(z, &raw)
                };
                let x = family.forward(&z, &raw)?.0;
                let (back, _) = numerical_inverse(&x, forward)?;
                assert!(difference(&z, &back)? < tolerance, "{dtype:?}");
                assert!(count.get() <= 15, "{} evaluations in {dtype:?}", count.get());
            }
        }
        Ok(())
    }
}
