//! The distribution function of Student's t-distribution and its inverse, in logarithms.
//!
//! Like the functions of [`special`](super::special), they are evaluated in f64 on the CPU: they are
//! meant for parameters and bounds, not for the hot path.

use super::special::log_gamma;
use crate::Result;
use candle_core::{DType, Device, Tensor};
use std::f64::consts::{LN_2, PI};

/// `ln F(z)` for the distribution function F with nu degrees of freedom, element by element; nu has the shape of z or
/// of its trailing axes. Exact up to rounding in both tails.
///
/// # Errors
/// When the shapes do not agree.
pub(crate) fn student_log_cdf(z: &Tensor, nu: &Tensor) -> Result<Tensor> {
    let by_z = |z: f64, nu: f64, y: f64| (log_density(z, nu) - y).exp();
    apply([z, nu], log_cdf, [&by_z, &|z, nu, _| log_cdf_by_nu(z, nu)])
}

/// The z with `ln F(z) = y`, for y < 0: the inverse of [`student_log_cdf`].
///
/// # Errors
/// When the shapes do not agree.
pub(crate) fn student_quantile(y: &Tensor, nu: &Tensor) -> Result<Tensor> {
    let by_y = |y: f64, nu: f64, z: f64| (y - log_density(z, nu)).exp();
    apply([y, nu], quantile, [&by_y, &|y, nu, z| -log_cdf_by_nu(z, nu) * by_y(y, nu, z)])
}

/// A function of two numbers, element by element, given its derivatives as functions of the two and of the value.
fn apply(
    [x, nu]: [&Tensor; 2],
    function: fn(f64, f64) -> f64,
    slopes: [&dyn Fn(f64, f64, f64) -> f64; 2],
) -> Result<Tensor> {
    let exact = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.broadcast_as(x.shape());
    let inputs = [exact(x)?, exact(nu)?];
    let [xs, nus] = inputs.each_ref().map(|t| t.flatten_all()?.to_vec1::<f64>());
    let (xs, nus) = (xs?, nus?);
    let tensor = |values: Vec<f64>| Tensor::from_vec(values, x.shape(), &Device::Cpu);
    let values: Vec<f64> = xs.iter().zip(&nus).map(|(&x, &nu)| function(x, nu)).collect();
    let mut result = tensor(values.clone())?;
    for (input, slope) in inputs.iter().zip(slopes).filter(|(input, _)| input.track_op()) {
        let slopes = xs.iter().zip(&nus).zip(&values).map(|((&x, &nu), &value)| slope(x, nu, value)).collect();
        // The term is zero; it adds the gradient alone.
        result = (result + (tensor(slopes)? * (input - input.detach())?)?)?;
    }
    Ok(result.to_dtype(x.dtype())?.to_device(x.device())?)
}

/// `ln Gamma(a + 1/2) - ln Gamma(a)`; by a series of its own where the two would cancel.
fn log_gamma_ratio(a: f64) -> f64 {
    if a < 40.0 {
        return log_gamma(a + 0.5) - log_gamma(a);
    }
    let s = 1.0 / (a * a);
    0.5 * a.ln() + (-1.0 / 8.0 + s * (1.0 / 192.0 + s * (-1.0 / 640.0 + s * 17.0 / 14336.0))) / a
}

/// `ln(nu / (nu + t^2))`.
fn log_share(t: f64, nu: f64) -> f64 {
    let r = t / nu * t;
    if r < 1e30 { -r.ln_1p() } else { nu.ln() - 2.0 * t.abs().ln() }
}

/// The logarithm of the density's normalising constant.
fn log_constant(nu: f64) -> f64 {
    log_gamma_ratio(0.5 * nu) - 0.5 * (PI * nu).ln()
}

fn log_density(z: f64, nu: f64) -> f64 {
    log_constant(nu) + 0.5 * (nu + 1.0) * log_share(z, nu)
}

fn log_cdf(z: f64, nu: f64) -> f64 {
    if z > 0.0 { (-log_tail(z, nu).exp()).ln_1p() } else { log_tail(-z, nu) }
}

/// `ln(1 - F(t))` for t >= 0: half the regularised incomplete beta function at `nu / (nu + t^2)`, with
/// a = nu / 2 and b = 1/2, or one minus that with the roles of the two exchanged.
fn log_tail(t: f64, nu: f64) -> f64 {
    let (a, b) = (0.5 * nu, 0.5);
    let r = t / nu * t;
    let (x, y, log_x) = (1.0 / (1.0 + r), 1.0 / (1.0 + 1.0 / r), log_share(t, nu));
    let log_power = a * log_x + b * (log_x + 2.0 * t.ln() - nu.ln()) + log_gamma_ratio(a) - 0.5 * PI.ln();
    if r * (a + 1.0) > b + 1.0 {
        log_power + continued_fraction([a, b], [x, y]).ln() - LN_2
    } else {
        (-log_power.exp() * continued_fraction([b, a], [y, x])).ln_1p() - LN_2
    }
}

/// The continued fraction f of the incomplete beta function, `I_x(a, b) = x^a y^b / B(a, b) f`, at x = 1 - y up to
/// about a / (a + b) (DiDonato and Morris, Algorithm 708, 1992, section 4), by Lentz's method.
fn continued_fraction([a, b]: [f64; 2], [x, y]: [f64; 2]) -> f64 {
    // It takes on the order of sqrt(max(a, b)) terms.
    const TERMS: u32 = 100_000;
    let nonzero = |v: f64| if v.abs() < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { v };
    let lambda = a * y - b * x;
    let first = a / (a + 1.0) * (lambda + 1.0);
    let (mut fraction, mut c, mut d) = (first, first, 0.0);
    for n in (1..=TERMS).map(f64::from) {
        let s = a + 2.0 * n - 1.0;
        let above = (a + n - 1.0) * (a + b + n - 1.0) / (s * s) * n * (b - n) * x * x;
        let below = n + n * (b - n) * x / s + (a + n) / (s + 2.0) * (lambda + 1.0 + n * (1.0 + y));
        d = nonzero(below + above * d).recip();
        c = nonzero(below + above / c);
        fraction *= c * d;
        if (c * d - 1.0).abs() <= f64::EPSILON || fraction.is_nan() {
            break;
        }
    }
    fraction.recip()
}

/// The derivative of [`log_cdf`] with respect to nu, by extrapolated differences, since no closed form is known; their
/// error is below 1e-9, because the function is exact up to rounding.
fn log_cdf_by_nu(z: f64, nu: f64) -> f64 {
    let central = |step: f64| (log_cdf(z, nu + step) - log_cdf(z, nu - step)) / (2.0 * step);
    let step = 2e-3 * nu;
    (4.0 * central(0.5 * step) - central(step)) / 3.0
}

fn quantile(y: f64, nu: f64) -> f64 {
    if y.is_nan() || y >= 0.0 {
        return f64::NAN;
    }
    if y > -LN_2 { lower_tail((-y.exp_m1()).ln(), nu) } else { -lower_tail(y, nu) }
}

/// The t >= 0 with `ln(1 - F(t)) = y`, for y <= ln(1/2), by Newton's method where the function is convex or concave, so
/// that it converges without a bracket.
fn lower_tail(y: f64, nu: f64) -> f64 {
    if y > -1.4 {
        // In t: 1 - F is convex, and 0 lies to the left of the root.
        let p = y.exp();
        return newton(0.0, |t| ((log_tail(t, nu).exp() - p) / log_density(t, nu).exp(), 1e-16));
    }
    // In ln t: ln(1 - F) is concave, and its asymptote in the tail lies above it.
    let start = (log_constant(nu) + 0.5 * (nu - 1.0) * nu.ln() - y) / nu;
    if start > 200.0 {
        return start.exp();
    }
    let log_t = newton(start, |s| {
        let tail = log_tail(s.exp(), nu);
        ((tail - y) / (s + log_density(s.exp(), nu) - tail).exp(), 1e-15)
    });
    log_t.exp()
}

/// Adds the steps that `step` returns, until one is within the tolerance that it returns as well.
fn newton(start: f64, step: impl Fn(f64) -> (f64, f64)) -> f64 {
    let mut x = start;
    for _ in 0..100 {
        let (by, tolerance) = step(x);
        x += by;
        if by.abs() <= tolerance * x.abs().max(1.0) || by.is_nan() {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Parameters;
    use crate::ops::special::log_ndtr;
    use crate::testing::gradient_difference;
    use crate::{Rng, testing::difference};
    use candle_core::Var;

    const NUS: [f64; 7] = [0.5, 1.0, 2.0, 3.7, 30.0, 1e3, 1e6];

    fn close(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{got} is not {want}");
    }

    #[test]
    fn closed_forms() {
        for t in [0.0, 1e-12, 0.3, 1.0, 1.7, 5.0, 1e3, 1e8, 1e150] {
            // Cauchy's, and two degrees of freedom.
            close(log_cdf(-t, 1.0), (1f64.atan2(t) / PI).ln(), 1e-14);
            close(log_cdf(t, 1.0), (-1f64.atan2(t) / PI).ln_1p(), 1e-14);
            let root = (2.0 + t * t).sqrt();
            close(log_cdf(-t, 2.0), (1.0 / (root * (root + t))).ln(), 1e-14);
        }
        // From a table.
        close(log_cdf(-2.015_048_373, 5.0), 0.05f64.ln(), 1e-9);
        let z = Tensor::new(&[-6.0, -2.0, 0.0, 3.0], &Device::Cpu).unwrap();
        let nu = Tensor::full(1e6, 4, &Device::Cpu).unwrap();
        let d = difference(&log_ndtr(&z).unwrap(), &student_log_cdf(&z, &nu).unwrap()).unwrap();
        assert!((1e-8..1e-4).contains(&d), "{d}");
    }

    #[test]
    fn the_cdf_is_the_integral_of_the_density() {
        // Simpson's rule.
        const N: u32 = 20_000;
        for nu in NUS {
            for (low, high) in [(-30.0, -3.0), (-3.0, 0.2), (0.1, 4.0)] {
                let h = (high - low) / f64::from(N);
                let weight = |i| if i == 0 || i == N { 1.0 } else { 2.0 + 2.0 * f64::from(i % 2) };
                let f = |i: u32| weight(i) * log_density(low + h * f64::from(i), nu).exp();
                let integral = (0..=N).map(f).sum::<f64>() * h / 3.0;
                close(log_cdf(high, nu).exp() - log_cdf(low, nu).exp(), integral, 1e-12);
            }
        }
    }

    #[test]
    fn the_quantile_inverts_the_cdf() {
        for nu in NUS {
            for y in [-300.0, -50.0, -4.0, -1.400001, -1.4, -1.2, -0.7, -LN_2, -0.5, -1e-3, -1e-9] {
                let z = quantile(y, nu);
                let back = log_cdf(z, nu);
                // Near F = 1, the comparison is of 1 - F.
                let near = if y > -LN_2 { (back.exp_m1() / y.exp_m1()).ln() } else { back - y };
                assert!(near.abs() < 2e-13 * y.abs().max(1.0), "{nu}: {y} comes back as {back} from {z}");
            }
        }
        assert_eq!(quantile(f64::NEG_INFINITY, 3.0), f64::NEG_INFINITY);
        assert!(quantile(0.1, 3.0).is_nan());
    }

    #[test]
    fn gradients_agree_with_differences() -> Result<()> {
        let none = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let z = Var::new(&[[-50.0, -2.0, 0.3, 4.0], [-7.0, -1.0, -0.1, 1.0]], &Device::Cpu)?;
        let y = Var::new(&[[-2.0, -1.5, -0.6, -0.1], [-0.4, -1.0, -0.7, -8.0]], &Device::Cpu)?;
        let nu = Var::new(&[0.7, 3.0, 12.0, 200.0], &Device::Cpu)?;
        for (function, at) in [(student_log_cdf as fn(&Tensor, &Tensor) -> Result<Tensor>, &z), (student_quantile, &y)]
        {
            let weights = Rng::seed(1).normal_tensor((2, 4), DType::F64, &Device::Cpu)?;
            let loss = || Ok((function(at, &nu)? * &weights)?.sum_all()?);
            let d = gradient_difference(loss, &none, &[("x", at), ("nu", &nu)], &mut Rng::seed(2))?;
            assert!(d < 1e-7, "{d}");
        }
        Ok(())
    }
}
