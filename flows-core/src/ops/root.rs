//! Roots of increasing functions of one number, many at once.
//!
//! Three searches do not go through [`increasing_root`]. Those of the sigmoid mixture and of
//! [`numerical_inverse`](crate::bijectors::univariate::numerical_inverse) evaluate their function at many points at
//! once, in vector registers and on tensors. Those for quantiles need no bracket: Newton's method converges from one
//! side there.

use rayon::prelude::*;

/// Evaluations for a root at most; Newton's method needs a handful, and bisection alone about sixty.
const EVALUATIONS: usize = 128;
/// Roots that one task finds.
const CHUNK: usize = 256;

/// The root x of `f(i, x) = 0` in each bracket i, where `f` returns the value and the derivative of an
/// increasing function.
///
/// Newton's method, kept inside the bracket, with bisection where a step is more than half the last one, until
/// the step is below rounding. A NaN, in a bracket or from `f`, makes only its own root NaN.
/// If there is no root in a bracket, the result is, up to rounding, the end of the bracket on the root's side.
pub fn increasing_roots(brackets: &[(f64, f64)], f: impl Fn(usize, f64) -> (f64, f64) + Sync) -> Vec<f64> {
    let solve = |(i, &bracket): (usize, &(f64, f64))| increasing_root(bracket, |x| f(i, x));
    brackets.par_iter().with_min_len(CHUNK).enumerate().map(solve).collect()
}

/// One root, as [`increasing_roots`] finds it; where `f` returns a derivative of 0, the step is a bisection.
pub(crate) fn increasing_root((mut low, mut high): (f64, f64), f: impl Fn(f64) -> (f64, f64)) -> f64 {
    let mut x = 0.5 * low + 0.5 * high;
    let mut last = high - low;
    for _ in 0..EVALUATIONS {
        let (value, slope) = f(x);
        if value.is_nan() {
            return f64::NAN;
        }
        if value == 0.0 {
            return x;
        }
        *(if value < 0.0 { &mut low } else { &mut high }) = x;
        let newton = value / slope;
        let next = match x - newton {
            inside if (low..=high).contains(&inside) && newton.abs() <= 0.5 * last.abs() => inside,
            _ => 0.5 * low + 0.5 * high,
        };
        last = next - x;
        if last.abs() <= f64::EPSILON * x.abs() {
            return next;
        }
        x = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_exact() {
        let wants = [-3.0, -1e-9, 0.0, 2.5, 1e12, f64::NAN];
        // Flat around the root of the cubic, steep around that of the hyperbolic tangent.
        let brackets = wants.map(|w: f64| (w - 10.0 - w.abs(), w + 20.0 + w.abs()));
        let steep = increasing_roots(&brackets, |i, x| {
            let t = (50.0 * (x - wants[i])).tanh();
            (t + 1e-3 * (x - wants[i]), 50.0 * (1.0 - t * t) + 1e-3)
        });
        for (want, got) in wants.iter().zip(&steep) {
            assert!((want - got).abs() <= 4.0 * f64::EPSILON * want.abs() || want.is_nan() && got.is_nan(), "{got}");
        }
        assert!((increasing_roots(&[(1.0, 2.0)], |_, x| (x, 1.0))[0] - 1.0).abs() < 1e-15);
        assert!((increasing_roots(&[(-1.0, 4.0)], |_, x| (x.powi(3), 3.0 * x * x))[0]).abs() < 1e-9);
    }
}
