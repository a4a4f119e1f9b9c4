//! Elementary functions for the inner loops of kernels. For f32 they have no branches and no calls, so that
//! the compiler turns loops over them into vector instructions (see [`dispatch`](super::simd::dispatch)).
//!
//! In f32 they are evaluated in f64 by short polynomials, interpolated at Chebyshev nodes, and are exact to one unit in
//! the last place; in f64 they are those of the standard library and of libm, exact to two. Except in f64's gelu no
//! multiplication is fused with an addition, so all machines give the same digits.

use candle_core::cpu::erf::{erf_f64, erfc_f64};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LN_2, LOG2_E};

/// The functions, for f32 and f64. NaN gives NaN; limits are taken at the infinities.
pub trait Functions: Copy {
    /// `e^x`.
    fn fast_exp(self) -> Self;
    /// `e^x - 1`.
    fn fast_exp_m1(self) -> Self;
    /// `ln x`.
    fn fast_ln(self) -> Self;
    /// `ln(1 + x)`.
    fn fast_ln_1p(self) -> Self;
    /// `tanh x`.
    fn fast_tanh(self) -> Self;
    /// `1 / (1 + e^-x)`.
    fn fast_sigmoid(self) -> Self;
    /// `ln(1 + e^x)`.
    fn fast_softplus(self) -> Self;
    /// `e^x` in f64, as accurate as this type needs, but not rounded to it.
    fn wide_exp(x: f64) -> f64;
    /// `e^x - 1` in the same way.
    fn wide_exp_m1(x: f64) -> f64;
    /// `ln(1 + x)` in the same way.
    fn wide_ln_1p(x: f64) -> f64;
    /// [`fast_softplus`](Self::fast_softplus) before it is rounded.
    fn wide_softplus(self) -> f64;
    /// `x / (1 + e^-x)`.
    fn fast_silu(self) -> Self;
    /// The derivative of [`fast_silu`](Self::fast_silu).
    fn fast_silu_slope(self) -> Self;
    /// `2 / sqrt(pi)` times the integral of `e^-t^2` from 0 to x.
    fn fast_erf(self) -> Self;
    /// The derivative of [`fast_erf`](Self::fast_erf).
    fn fast_erf_slope(self) -> Self;
    /// `x Phi(x)`, Phi being the distribution function of the standard normal.
    fn fast_gelu(self) -> Self;
    /// The derivative of [`fast_gelu`](Self::fast_gelu).
    fn fast_gelu_slope(self) -> Self;
}

/// `(2^r - 1) / r` on [-1/2, 1/2], to 2^-26.
const EXP2: [f64; 6] = [
    0.6931471880262288,
    0.24022650760568126,
    0.05550357114219078,
    0.009618082557277852,
    0.0013390863364671234,
    0.0001545316294512069,
];

/// `atanh(s) / s` as a function of s^2 on [0, 1/9], to 2^-33.
const ATANH: [f64; 6] = [
    0.9999999999045031,
    0.33333339513216986,
    0.19999355623431167,
    0.14310103704218619,
    0.10699280253339272,
    0.12196954042011512,
];

/// The same for the s of logarithms of [sqrt(1/2), sqrt(2)], to 2^-30.
const ATANH_NEAR: [f64; 4] = [0.9999999993156591, 0.33333407669075593, 0.19987425258759525, 0.14962195239572493];

/// `erf(x) / x` as a function of x^2/8 - 1 for |x| up to 4, to 2^-29.
const ERF: [f64; 18] = [
    0.35353099633699614,
    -0.17657623355634394,
    0.13167500462304274,
    -0.1077104012536239,
    0.09021197583802171,
    -0.07472896226500954,
    0.05985653048124558,
    -0.04575393377883074,
    0.03321488463790601,
    -0.022530380754105718,
    0.013912674213802432,
    -0.008445061534000995,
    0.005571999462168701,
    -0.0028438421375724847,
    0.0006199186266208,
    -0.00036323960546510515,
    0.0005955966060005109,
    -0.0002375303008633824,
];

/// `Phi(-x) e^(x^2/2) (x + PIVOT)` as a function of `(x - PIVOT) / (x + PIVOT)` for x in [0, 15],
/// to 2^-30.
const PHI: [f64; 11] = [
    0.7502940720850636,
    -0.5881884107964488,
    0.35293986712534287,
    -0.15151711498398987,
    0.03748923120811078,
    0.001170869091341114,
    -0.004162170206769191,
    0.0005991200855018693,
    0.00046564845388085633,
    -9.577899098966842e-05,
    -5.796528892324733e-05,
];
const PIVOT: f64 = 3.75;

/// Beyond this `e^x` is infinite in f32, and 0 on the other side.
const FAR: f64 = 110.0;

/// Beyond this `e^(-x^2/2)` is 0 in f32.
const FAR_NORMAL: f64 = 14.8;

#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: &[f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    for k in (0..N - 1).rev() {
        sum = sum * x + coefficients[k];
    }
    sum
}

/// `x` clamped to two bounds, in two instructions, unlike `f64::clamp`. NaN stays.
#[inline(always)]
fn between(x: f64, low: f64, high: f64) -> f64 {
    let x = if x > high { high } else { x };
    if x < low { low } else { x }
}

/// `e^x` as `2^n (1 + t)`: the power of two, and t.
#[inline(always)]
fn exp_parts(x: f64) -> (f64, f64) {
    // Adding this rounds to an integer, which is then in the last bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = between(x, -FAR, FAR) * LOG2_E;
    let n = x + ROUND;
    let r = x - (n - ROUND);
    (f64::from_bits((n.to_bits() << 52).wrapping_add(1f64.to_bits())), r * polynomial(r, &EXP2))
}

#[inline(always)]
fn exp(x: f64) -> f64 {
    let (power, t) = exp_parts(x);
    power + power * t
}

#[inline(always)]
fn exp_m1(x: f64) -> f64 {
    let (power, t) = exp_parts(x);
    (power - 1.0) + power * t
}

/// `ln u`, given u and `u - 1`, which may have digits that u has lost.
#[inline(always)]
fn ln(u: f64, u_minus_1: f64) -> f64 {
    const ONE: u64 = 1f64.to_bits();
    // The last bit of the number 2^52 is worth 1.
    const UNIT: u64 = 4_503_599_627_370_496f64.to_bits();
    // u = 2^k m with m in [sqrt(1/2), sqrt(2)).
    let biased = u.to_bits().wrapping_add(ONE - FRAC_1_SQRT_2.to_bits()) >> 52;
    let m = f64::from_bits(u.to_bits().wrapping_sub(biased << 52).wrapping_add(ONE));
    let k = f64::from_bits(biased | UNIT) - (f64::from_bits(UNIT) + 1023.0);
    let f = if k == 0.0 { u_minus_1 } else { m - 1.0 };
    let s = f / (2.0 + f);
    let value = k * LN_2 + 2.0 * s * polynomial(s * s, &ATANH_NEAR);
    let value = if u < f64::INFINITY { value } else { u };
    let value = if u == 0.0 { f64::NEG_INFINITY } else { value };
    if u < 0.0 { f64::NAN } else { value }
}

#[inline(always)]
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// `Phi(x)` and `e^(-x^2/2)` for |x| up to `FAR_NORMAL`.
#[inline(always)]
fn normal(x: f64) -> (f64, f64) {
    let a = x.abs();
    let bell = exp(-0.5 * a * a);
    let d = 1.0 / (a + PIVOT);
    let tail = bell * d * polynomial((a - PIVOT) * d, &PHI);
    (if x > 0.0 { 1.0 - tail } else { tail }, bell)
}

const FRAC_1_SQRT_2_PI: f64 = 0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI;

impl Functions for f32 {
    #[inline(always)]
    fn fast_exp(self) -> Self {
        exp(self.into()) as f32
    }

    #[inline(always)]
    fn fast_exp_m1(self) -> Self {
        let y = exp_m1(self.into()) as f32;
        // For the sign of zero.
        if self == 0.0 { self } else { y }
    }

    #[inline(always)]
    fn fast_ln(self) -> Self {
        let x = f64::from(self);
        ln(x, x - 1.0) as f32
    }

    #[inline(always)]
    fn fast_ln_1p(self) -> Self {
        let x = f64::from(self);
        let y = ln(1.0 + x, x) as f32;
        if self == 0.0 { self } else { y }
    }

    #[inline(always)]
    fn fast_tanh(self) -> Self {
        let t = exp_m1(2.0 * f64::from(self));
        let y = (t / (t + 2.0)) as f32;
        if self == 0.0 { self } else { y }
    }

    #[inline(always)]
    fn fast_sigmoid(self) -> Self {
        sigmoid(self.into()) as f32
    }

    #[inline(always)]
    fn fast_softplus(self) -> Self {
        self.wide_softplus() as f32
    }

    #[inline(always)]
    fn wide_exp(x: f64) -> f64 {
        exp(x)
    }

    #[inline(always)]
    fn wide_exp_m1(x: f64) -> f64 {
        exp_m1(x)
    }

    #[inline(always)]
    fn wide_ln_1p(x: f64) -> f64 {
        ln(1.0 + x, x)
    }

    #[inline(always)]
    fn wide_softplus(self) -> f64 {
        // ln(1 + e) = 2 atanh(e / (2 + e)).
        let x = f64::from(self);
        let e = exp(-x.abs());
        let s = e / (2.0 + e);
        let positive = if x < 0.0 { 0.0 } else { x };
        positive + 2.0 * s * polynomial(s * s, &ATANH)
    }

    #[inline(always)]
    fn fast_silu(self) -> Self {
        let x = between(self.into(), -FAR, f64::INFINITY);
        (x * sigmoid(x)) as f32
    }

    #[inline(always)]
    fn fast_silu_slope(self) -> Self {
        let x = between(self.into(), -FAR, FAR);
        let s = sigmoid(x);
        (s + s * x * (1.0 - s)) as f32
    }

    #[inline(always)]
    fn fast_erf(self) -> Self {
        let x = between(self.into(), -4.0, 4.0);
        (x * polynomial(x * x * 0.125 - 1.0, &ERF)) as f32
    }

    #[inline(always)]
    fn fast_erf_slope(self) -> Self {
        let x = between(self.into(), -FAR_NORMAL, FAR_NORMAL);
        (FRAC_2_SQRT_PI * exp(-x * x)) as f32
    }

    #[inline(always)]
    fn fast_gelu(self) -> Self {
        let x = between(self.into(), -FAR_NORMAL, f64::INFINITY);
        (x * normal(between(x, -FAR_NORMAL, FAR_NORMAL)).0) as f32
    }

    #[inline(always)]
    fn fast_gelu_slope(self) -> Self {
        let x = between(self.into(), -FAR_NORMAL, FAR_NORMAL);
        let (phi, bell) = normal(x);
        (phi + x * bell * FRAC_1_SQRT_2_PI) as f32
    }
}

impl Functions for f64 {
    #[inline(always)]
    fn fast_exp(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn fast_exp_m1(self) -> Self {
        self.exp_m1()
    }

    #[inline(always)]
    fn fast_ln(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn fast_ln_1p(self) -> Self {
        self.ln_1p()
    }

    #[inline(always)]
    fn fast_tanh(self) -> Self {
        self.tanh()
    }

    #[inline(always)]
    fn fast_sigmoid(self) -> Self {
        // The exponential that does not overflow.
        let e = (-self.abs()).exp();
        (if self < 0.0 { e } else { 1.0 }) / (1.0 + e)
    }

    #[inline(always)]
    fn fast_softplus(self) -> Self {
        (if self < 0.0 { 0.0 } else { self }) + (-self.abs()).exp().ln_1p()
    }

    #[inline(always)]
    fn wide_exp(x: f64) -> f64 {
        x.exp()
    }

    #[inline(always)]
    fn wide_exp_m1(x: f64) -> f64 {
        x.exp_m1()
    }

    #[inline(always)]
    fn wide_ln_1p(x: f64) -> f64 {
        x.ln_1p()
    }

    #[inline(always)]
    fn wide_softplus(self) -> f64 {
        self.fast_softplus()
    }

    #[inline(always)]
    fn fast_silu(self) -> Self {
        // Not minus infinity times 0.
        let x = if self < -1e4 { -1e4 } else { self };
        x * x.fast_sigmoid()
    }

    #[inline(always)]
    fn fast_silu_slope(self) -> Self {
        let x = between(self, -1e4, 1e4);
        let s = x.fast_sigmoid();
        s + s * x * (-x).fast_sigmoid()
    }

    #[inline(always)]
    fn fast_erf(self) -> Self {
        erf_f64(self)
    }

    #[inline(always)]
    fn fast_erf_slope(self) -> Self {
        FRAC_2_SQRT_PI * (-self * self).exp()
    }

    #[inline(always)]
    fn fast_gelu(self) -> Self {
        // The rounding errors of the product below and of its constant, which erfc would magnify.
        const REST: f64 = -4.833646656726457e-17;
        let x = if self < -50.0 { -50.0 } else { self };
        let h = -x * FRAC_1_SQRT_2;
        let lost = (-x).mul_add(FRAC_1_SQRT_2, -h) - x * REST;
        let lost = if lost.is_finite() { lost } else { 0.0 };
        0.5 * x * (erfc_f64(h) - lost * h.fast_erf_slope())
    }

    #[inline(always)]
    fn fast_gelu_slope(self) -> Self {
        let x = between(self, -50.0, 50.0);
        0.5 * erfc_f64(-x * FRAC_1_SQRT_2) + x * FRAC_1_SQRT_2_PI * (-0.5 * x * x).exp()
    }
}

#[cfg(test)]
mod tests;
