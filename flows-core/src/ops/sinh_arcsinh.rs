//! The sinh-arcsinh transformer: value and log-derivative in one pass, the backward pass in another.

use super::cpu::Real;
use super::pairs::{self, Pairwise};
use super::transformer::{Transformer, transform};
use super::{Direction, softplus, tanh};
use crate::Result;
use candle_core::{DType, Tensor};
use std::f64::consts::LN_2;

/// The bounds of the parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SinhArcsinh {
    /// The skew is its raw value up to this bound, and at most twice as large.
    pub(crate) skew: f64,
    /// The logarithm t of the weight of the tails is `b tanh(raw / b)`, b being this bound.
    pub(crate) log_weight: f64,
}

/// `x = sinh((asinh(z) + s) e^t)`, or its inverse, of x (B, N), and its log-derivative; parameters (B, N, 2) or
/// (1, N, 2) are raw skews and raw weights.
///
/// A value so large that its gradient could overflow is replaced by the bound, with log-derivative minus infinity and a
/// gradient of 0.
///
/// # Errors
/// When shapes do not agree.
pub(crate) fn sinh_arcsinh(
    x: &Tensor,
    parameters: &Tensor,
    bounds: SinhArcsinh,
    direction: Direction,
) -> Result<(Tensor, Tensor)> {
    transform(Kernel { bounds, direction }, x, parameters)
}

#[derive(Clone, Copy, Debug)]
struct Kernel {
    bounds: SinhArcsinh,
    direction: Direction,
}

/// The derivative of a value with respect to the weight is less than `e^8.7` times the value.
const MARGIN: f64 = 8.7;

/// s and t with their derivatives with respect to the raw parameters.
#[derive(Clone, Copy)]
struct Parts {
    skew: f64,
    skew_slope: f64,
    log_weight: f64,
    log_weight_slope: f64,
}

/// The steps of the map for one element.
#[derive(Clone, Copy)]
struct Path {
    /// asinh of the input v, and `sqrt(1 + v^2)`, its cosh.
    inner: f64,
    root: f64,
    /// The argument of the sinh.
    outer: f64,
    cosh: f64,
    value: f64,
    log: f64,
}

/// `sinh u`, `cosh u` and `ln cosh u`.
#[inline(always)]
fn sinh<T: Real>(u: f64) -> (f64, f64, f64) {
    let e = T::wide_exp_m1(u.abs());
    let inverse = 1.0 / (1.0 + e);
    let rise = 0.5 * e * (e * inverse);
    ((0.5 * (e + e * inverse)).copysign(u), 1.0 + rise, T::wide_ln_1p(rise))
}

impl SinhArcsinh {
    #[inline(always)]
    fn parts<T: Real>(self, raw: [T; 2]) -> Parts {
        let [skew, weight] = raw.map(T::wide);
        let near = if skew > self.skew { self.skew } else { skew };
        let near = if near < -self.skew { -self.skew } else { near };
        let far = T::of((skew - near) / self.skew).fast_tanh().wide();
        let weight = T::of(weight / self.log_weight).fast_tanh().wide();
        Parts {
            skew: near + self.skew * far,
            skew_slope: 1.0 - far * far,
            log_weight: self.log_weight * weight,
            log_weight_slope: 1.0 - weight * weight,
        }
    }
}

impl Kernel {
    /// The largest argument of a sinh.
    fn most<T: Real>() -> f64 {
        T::max_value().wide().ln() - MARGIN
    }

    #[inline(always)]
    fn path<T: Real>(self, v: f64, parts: Parts, most: f64) -> Path {
        let a = v.abs();
        let a = if a > f64::MAX { f64::MAX } else { a };
        let root = if a < 1e150 { (1.0 + a * a).sqrt() } else { a };
        // root - 1, and asinh v = ln(v + root).
        let rise = a * (a / (1.0 + root));
        let inner = T::wide_ln_1p(a + rise).copysign(v);
        let log_root = T::wide_ln_1p(rise);
        let Parts { skew, log_weight: t, .. } = parts;
        let (outer, sign) = match self.direction {
            Direction::Forward => ((inner + skew) * T::wide_exp(t), 1.0),
            Direction::Inverse => (inner * T::wide_exp(-t) - skew, -1.0),
        };
        let kept = if outer > most { most } else { outer };
        let (value, cosh, log_cosh) = sinh::<T>(if kept < -most { -most } else { kept });
        let log = if outer.abs() > most { f64::NEG_INFINITY } else { log_cosh - log_root + sign * t };
        Path { inner, root, outer, cosh, value, log }
    }

    /// The gradients with respect to the input and both raw parameters.
    #[inline(always)]
    fn gradient<T: Real>(self, v: f64, parts: Parts, most: f64, [gvalue, glog]: [f64; 2]) -> [f64; 3] {
        let Path { inner, root, outer, cosh, value, log } = self.path::<T>(v, parts, most);
        let refused = log == f64::NEG_INFINITY;
        let by_outer = gvalue * cosh + glog * (value / cosh);
        let t = parts.log_weight;
        let (by_inner, by_skew, by_weight) = match self.direction {
            Direction::Forward => {
                let by_sum = by_outer * T::wide_exp(t);
                (by_sum, by_sum, by_outer * outer + glog)
            }
            Direction::Inverse => {
                let weight = T::wide_exp(-t);
                (by_outer * weight, -by_outer, -by_outer * inner * weight - glog)
            }
        };
        // The derivative of ln(root) with respect to asinh(v) is v / root.
        let by_v = by_inner / root - glog * (v / root) / root;
        let gradients = [by_v, by_skew * parts.skew_slope, by_weight * parts.log_weight_slope];
        gradients.map(|g| if refused { 0.0 } else { g })
    }
}

/// The map with the largest argument of a sinh.
#[derive(Clone, Copy)]
struct Loop {
    kernel: Kernel,
    most: f64,
}

impl<T: Real> Pairwise<T> for Loop {
    #[inline(always)]
    fn at(self, x: T, pair: [T; 2]) -> (T, T) {
        let path = self.kernel.path::<T>(x.wide(), self.kernel.bounds.parts(pair), self.most);
        (T::of(path.value), T::of(path.log))
    }

    #[inline(always)]
    fn gradient(self, x: T, pair: [T; 2], grads: [T; 2]) -> [T; 3] {
        let parts = self.kernel.bounds.parts(pair);
        self.kernel.gradient::<T>(x.wide(), parts, self.most, grads.map(T::wide)).map(T::of)
    }

    #[inline(always)]
    fn specialised(self, f: impl FnOnce(Self)) {
        let Self { kernel: Kernel { bounds, direction }, most } = self;
        match direction {
            Direction::Forward => f(Self { kernel: Kernel { bounds, direction: Direction::Forward }, most }),
            Direction::Inverse => f(Self { kernel: Kernel { bounds, direction: Direction::Inverse }, most }),
        }
    }
}

impl Transformer for Kernel {
    const NAME: &'static str = "sinh-arcsinh";

    fn parameter_count(&self) -> usize {
        2
    }

    fn evaluate<T: Real>(&self, x: &[T], parameters: &[T]) -> Vec<T> {
        pairs::evaluate(x, parameters, Loop { kernel: *self, most: Self::most::<T>() }, |_| ())
    }

    fn gradients<T: Real>(&self, x: &[T], parameters: &[T], _: &[T], grad: &[T]) -> (Vec<T>, Vec<T>) {
        pairs::gradients(x, parameters, grad, Loop { kernel: *self, most: Self::most::<T>() }, |_| ())
    }

    fn plain(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let SinhArcsinh { skew: bound, log_weight: weight_bound } = self.bounds;
        let part = |i| parameters.narrow(2, i, 1)?.squeeze(2);
        let (skew, log_weight) = (part(0)?, part(1)?);
        let near = skew.clamp(-bound, bound)?;
        let skew = (&near + (tanh(&((skew - &near)? / bound)?)? * bound)?)?;
        let log_weight = (tanh(&(log_weight / weight_bound)?)? * weight_bound)?;
        let most = if x.dtype() == DType::F64 { Self::most::<f64>() } else { Self::most::<f32>() };
        let (inner, log_root) = plain_asinh(x)?;
        let (outer, sign) = match self.direction {
            Direction::Forward => (inner.broadcast_add(&skew)?.broadcast_mul(&log_weight.exp()?)?, 1.0),
            Direction::Inverse => (inner.broadcast_mul(&log_weight.neg()?.exp()?)?.broadcast_sub(&skew)?, -1.0),
        };
        let beyond = outer.abs()?.gt(most)?;
        let (value, log_cosh) = plain_sinh(&outer.clamp(-most, most)?)?;
        let log = (log_cosh - log_root)?.broadcast_add(&(log_weight * sign)?)?;
        Ok((value, beyond.where_cond(&(log.zeros_like()? + f64::NEG_INFINITY)?, &log)?))
    }
}

/// 1 where v is not negative, -1 elsewhere; and |v|, with a one-sided gradient at 0.
fn sign_and_size(v: &Tensor) -> Result<(Tensor, Tensor)> {
    let sign = v.ge(0.0)?.to_dtype(v.dtype())?.affine(2.0, -1.0)?;
    let size = (v * &sign)?;
    Ok((sign, size))
}

/// `(asinh(v), ln sqrt(1 + v^2))`.
fn plain_asinh(v: &Tensor) -> Result<(Tensor, Tensor)> {
    let (sign, a) = sign_and_size(v)?;
    let unit = a.maximum(1.0)?.detach();
    let root = (unit.recip()?.sqr()? + (&a / &unit)?.sqr()?)?.sqrt()?;
    let log_root = (unit.log()? + root.log()?)?;
    let rise = (&a / ((&unit * &root)? + 1.0)?)?;
    let value = super::ln_1p(&(&a + (&a * rise)?)?)?;
    Ok(((value * sign)?, log_root))
}

/// `(sinh(u), ln cosh(u))`.
fn plain_sinh(u: &Tensor) -> Result<(Tensor, Tensor)> {
    let (sign, a) = sign_and_size(u)?;
    let log_cosh = ((&a + softplus(&(&a * -2.0)?)?)? - LN_2)?;
    // Small numbers by the half-angle formula, large ones by their exponential.
    let t = (a.minimum(1.0)? * 0.5)?.tanh()?;
    let small = ((&t * 2.0)? / t.sqr()?.affine(-1.0, 1.0)?)?;
    let large = ((a.exp()? - a.neg()?.exp()?)? * 0.5)?;
    Ok(((a.le(1.0)?.where_cond(&small, &large)? * sign)?, log_cosh))
}

#[cfg(test)]
mod tests {
    use super::super::transformer::check;
    use super::*;
    use crate::testing::difference;
    use candle_core::Device;

    const BOUNDS: SinhArcsinh = SinhArcsinh { skew: 4.0, log_weight: 2.0 };

    #[test]
    fn the_kernel_is_the_plain_composition() -> Result<()> {
        for direction in [Direction::Forward, Direction::Inverse] {
            for shape in [[1, 1, 1], [5, 3, 5], [5, 3, 1], [900, 7, 1], [900, 7, 900]] {
                check(Kernel { bounds: BOUNDS, direction }, shape, [-2.0, 2.0], 1e-9, 1e-3)?;
            }
        }
        Ok(())
    }

    #[test]
    fn values_agree_with_the_standard_library() -> Result<()> {
        let z = [-1e300f64, -1e30, -6.0, -1e-9, 0.0, 1e-300, 0.4, 3.0, 1e8];
        for (skew, raw) in [(0.0, 0.0), (1.5, 0.3), (-4.0, -1.0), (9.0, -0.5), (1e9, 3.0)] {
            let t = 2.0 * (raw / 2.0f64).tanh();
            let s = if skew > 4.0 { 4.0 + 4.0 * ((skew - 4.0) / 4.0f64).tanh() } else { skew };
            let parameters =
                Tensor::new(&[[[skew, raw]]], &Device::Cpu)?.broadcast_as((1, z.len(), 2))?.contiguous()?;
            let at = Tensor::new(&[z], &Device::Cpu)?;
            let (x, log) = sinh_arcsinh(&at, &parameters, BOUNDS, Direction::Forward)?;
            let (x, log) = (x.flatten_all()?.to_vec1::<f64>()?, log.flatten_all()?.to_vec1::<f64>()?);
            for (i, &z) in z.iter().enumerate() {
                let u = (z.asinh() + s) * t.exp();
                if u.abs() > 701.0 {
                    assert!(x[i].is_finite() && log[i] == f64::NEG_INFINITY, "{z} {skew} {raw}");
                    continue;
                }
                let want = u.sinh();
                assert!((x[i] - want).abs() <= 1e-11 * want.abs().max(1e-290), "{z} {skew} {raw}: {} {want}", x[i]);
                let log_cosh = |u: f64| u.abs() + (-2.0 * u.abs()).exp().ln_1p() - LN_2;
                let want = log_cosh(u) - log_cosh(z.asinh()) + t;
                assert!((log[i] - want).abs() < 1e-12 * want.abs().max(1.0), "{z} {skew} {raw}: {} {want}", log[i]);
            }
        }
        // For |z| <= 6 everything is finite in f32, whatever the parameters.
        let z = Tensor::new(&[[-6f32, 6.0], [6.0, -6.0]], &Device::Cpu)?;
        let raw = Tensor::new(&[[[-1e9f32, 1e9], [1e9, 1e9]], [[1e9, -1e9], [-1e9, 1e9]]], &Device::Cpu)?;
        let (x, log) = sinh_arcsinh(&z, &raw, BOUNDS, Direction::Forward)?;
        let finite =
            |t: &Tensor| Ok::<_, crate::Error>(t.flatten_all()?.to_vec1::<f32>()?.iter().all(|v| v.is_finite()));
        assert!(finite(&x)? && finite(&log)?, "{x} {log}");
        let (back, _) = sinh_arcsinh(&x.to_dtype(DType::F64)?, &raw.to_dtype(DType::F64)?, BOUNDS, Direction::Inverse)?;
        assert!(difference(&z.to_dtype(DType::F64)?, &back)? < 1e-3);
        Ok(())
    }
}
