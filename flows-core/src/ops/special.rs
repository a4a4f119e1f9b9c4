//! Special functions of densities: the log-gamma function and the normal distribution function.
//!
//! All are evaluated in f64 on the CPU, whatever the argument's device and type, and the result is converted back: they
//! are meant for parameters and bounds, not for the hot path.

use super::cpu::Real;
use super::exp;
use super::operation::{Kernel, Operation, View};
use crate::Result;
use candle_core::cpu::erf::{erfc_f64, erfc_inv};
use candle_core::{DType, Device, Shape, Tensor};
use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};

/// `ln Gamma(x)` for x > 0 (NaN elsewhere), element by element; its gradient is [`digamma`].
///
/// # Errors
/// When `x` is not of a floating type.
pub fn lgamma(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::LogGamma)
}

/// `d/dx ln Gamma(x)` for x > 0 (NaN elsewhere), element by element; it is not differentiable itself.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn digamma(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Digamma)
}

/// `ln Phi(x)`, Phi being the distribution function of the standard normal, element by element;
/// exact up to rounding in both tails.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn log_ndtr(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::LogNdtr)
}

/// The x with `ln Phi(x) = y`, for y < 0, element by element: the inverse of [`log_ndtr`].
///
/// # Errors
/// When `y` is not of a floating type.
pub fn ndtri_exp(y: &Tensor) -> Result<Tensor> {
    apply(y, Function::NdtriExp)
}

/// `Phi(x)`, element by element.
///
/// # Errors
/// When `x` is not of a floating type.
pub fn ndtr(x: &Tensor) -> Result<Tensor> {
    exp(&log_ndtr(x)?)
}

/// The quantile of the standard normal at p in (0, 1), element by element.
///
/// # Errors
/// When `p` is not of a floating type.
pub fn ndtri(p: &Tensor) -> Result<Tensor> {
    // The logarithm in f64: in f32 it would lose the upper tail.
    let exact = p.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(ndtri_exp(&exact.log()?)?.to_dtype(p.dtype())?.to_device(p.device())?)
}

fn apply(x: &Tensor, function: Function) -> Result<Tensor> {
    let exact = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()?;
    Ok(exact.apply_op1(Operation(function))?.to_dtype(x.dtype())?.to_device(x.device())?)
}

#[derive(Clone, Copy)]
enum Function {
    LogGamma,
    Digamma,
    LogNdtr,
    NdtriExp,
    Mills,
}

impl Kernel<1> for Function {
    const NAME: &'static str = "special function";

    fn value<T: Real>(&self, [x]: [View<'_, T>; 1]) -> candle_core::Result<(Vec<T>, Shape)> {
        let function = match self {
            Self::LogGamma => log_gamma,
            Self::Digamma => digamma_at,
            Self::LogNdtr => log_phi,
            Self::NdtriExp => log_phi_inverse,
            Self::Mills => mills,
        };
        Ok((x.values.iter().map(|x| T::of(function(x.wide()))).collect(), x.shape.clone()))
    }

    fn gradients<T: Real>(
        &self,
        [x]: [&Tensor; 1],
        y: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 1]> {
        let at = |x: &Tensor, function| x.contiguous()?.apply_op1_no_bwd(&Operation(function));
        // Phi(x) / phi(x) is Mills' ratio at -x, which is computed without cancellation.
        let slope = match self {
            Self::LogGamma => at(x, Self::Digamma)?,
            Self::LogNdtr => at(&x.neg()?, Self::Mills)?.recip()?,
            Self::NdtriExp => at(&y.neg()?, Self::Mills)?,
            Self::Digamma | Self::Mills => candle_core::bail!("digamma has no gradient"),
        };
        Ok([Some((grad * slope)?)])
    }
}

/// From here on, Stirling's series with the terms below is exact up to rounding.
const STIRLING: f64 = 10.0;

/// Stirling's series, after `Gamma(x + 1) = x Gamma(x)` has raised the argument to at least 10.
pub(super) fn log_gamma(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return f64::NAN;
    }
    let (mut x, mut product) = (x, 1.0);
    while x < STIRLING {
        product *= x;
        x += 1.0;
    }
    if x.is_infinite() {
        return x;
    }
    let s = 1.0 / (x * x);
    let series = 1.0 / 12.0
        + s * (-1.0 / 360.0 + s * (1.0 / 1260.0 + s * (-1.0 / 1680.0 + s * (1.0 / 1188.0 - s * 691.0 / 360360.0))));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series / x - product.ln()
}

/// The derivative of Stirling's series, with the argument raised in the same way.
fn digamma_at(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return f64::NAN;
    }
    let (mut x, mut sum) = (x, 0.0);
    while x < STIRLING {
        sum += 1.0 / x;
        x += 1.0;
    }
    let s = 1.0 / (x * x);
    let series = s
        * (1.0 / 12.0
            + s * (-1.0 / 120.0 + s * (1.0 / 252.0 + s * (-1.0 / 240.0 + s * (1.0 / 132.0 - s * 691.0 / 32760.0)))));
    x.ln() - 0.5 / x - series - sum
}

/// From this many standard deviations on, the continued fraction is exact up to rounding.
const FAR: f64 = 10.0;

/// Mills' ratio `(1 - Phi(x)) / phi(x)`.
fn mills(x: f64) -> f64 {
    if x <= FAR {
        return 0.5 * erfc_f64(x * FRAC_1_SQRT_2) * (2.0 * PI).sqrt() * (0.5 * x * x).exp();
    }
    // Laplace's continued fraction: 1 / (x + 1 / (x + 2 / (x + 3 / ...))).
    (1..=40).rev().fold(x, |tail, k| x + f64::from(k) / tail).recip()
}

fn log_phi(x: f64) -> f64 {
    if x > 0.0 {
        (-0.5 * erfc_f64(x * FRAC_1_SQRT_2)).ln_1p()
    } else if x > -FAR {
        (0.5 * erfc_f64(-x * FRAC_1_SQRT_2)).ln()
    } else {
        -0.5 * x * x - 0.5 * (2.0 * PI).ln() + mills(-x).ln()
    }
}

/// A first guess, then Newton's method, which converges without a bracket because `ln Phi` is concave.
fn log_phi_inverse(y: f64) -> f64 {
    if y.is_nan() || y > 0.0 {
        return f64::NAN;
    }
    let mut x = if y > -600.0 { -SQRT_2 * erfc_inv(2.0 * y.exp()) } else { -(-2.0 * y).sqrt() };
    if x.is_infinite() {
        return x;
    }
    for _ in 0..4 {
        x -= (log_phi(x) - y) * mills(-x);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Parameters;
    use crate::ops::ln_1p;
    use crate::testing::gradient_difference;
    use crate::{Rng, testing::difference};
    use candle_core::Var;

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() <= 2e-14 * want.abs().max(1.0), "{got} is not {want}");
    }

    #[test]
    fn gamma_at_known_points() {
        close(log_gamma(0.5), 0.5 * PI.ln());
        close(log_gamma(1.0), 0.0);
        close(log_gamma(2.0), 0.0);
        close(log_gamma(11.0), 3_628_800f64.ln());
        close(log_gamma(1e-3), 6.907_178_885_383_853);
        let euler = 0.577_215_664_901_532_9;
        close(digamma_at(1.0), -euler);
        close(digamma_at(0.5), -euler - 2.0 * 2f64.ln());
        assert!(log_gamma(-1.0).is_nan() && digamma_at(0.0).is_nan());
    }

    #[test]
    fn normal_at_known_points() {
        close(log_phi(0.0), 0.5f64.ln());
        // Table values of Phi(-1), Phi(-5) and of ln Phi(-40).
        close(log_phi(-1.0), 0.158_655_253_931_457_05f64.ln());
        close(log_phi(-5.0), 2.866_515_718_791_939e-7f64.ln());
        close(log_phi(-40.0), -804.608_442_013_754);
        close(log_phi(-FAR * (1.0 + 1e-15)), log_phi(-FAR));
        for x in [-1e9, -1e3, -38.0, -11.0, -9.0, -3.0, -0.4, 0.0, 0.6, 2.0, 5.0] {
            let back = log_phi_inverse(log_phi(x));
            assert!((back - x).abs() < 1e-9 * f64::max(1.0, x.abs()), "{x} comes back as {back}");
        }
    }

    #[test]
    fn gradients_and_types() -> Result<()> {
        let mut rng = Rng::seed(1);
        let none = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let positive = Var::new(&[0.3, 1.0, 2.5, 17.0], &Device::Cpu)?;
        let any = Var::new(&[-12.0, -9.0, -0.5, 0.0, 3.0], &Device::Cpu)?;
        let negative = Var::new(&[-800.0, -3.0, -0.7, -0.1], &Device::Cpu)?;
        let small = Var::new(&[-0.5, 1e-9, 0.0, 4.0], &Device::Cpu)?;
        let check = |function: fn(&Tensor) -> Result<Tensor>, at: &Var, rng: &mut Rng| -> Result<()> {
            let loss = || Ok(function(at)?.sum_all()?);
            let d = gradient_difference(loss, &none, &[("x", at)], rng)?;
            assert!(d < 1e-7, "{d}");
            let single = function(&at.to_dtype(DType::F32)?)?;
            assert_eq!(single.dtype(), DType::F32);
            assert!(difference(&function(at)?, &single)? < 1e-5);
            Ok(())
        };
        check(lgamma, &positive, &mut rng)?;
        check(log_ndtr, &any, &mut rng)?;
        check(ndtri_exp, &negative, &mut rng)?;
        check(ln_1p, &small, &mut rng)?;
        let tiny = ln_1p(&Tensor::new(1e-12, &Device::Cpu)?)?.to_scalar::<f64>()?;
        assert!((tiny / 1e-12f64.ln_1p() - 1.0).abs() < 1e-15);
        let p = Tensor::new(&[0.025f32, 0.999_999], &Device::Cpu)?;
        assert!(difference(&ndtr(&ndtri(&p)?)?, &p)? < 1e-7);
        Ok(())
    }
}
