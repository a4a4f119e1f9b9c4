//! Roots of increasing functions of one number, many at once.

use rayon::prelude::*;

/// Evaluations a root may take; Newton needs a handful, and bisection alone about sixty.
const EVALUATIONS: usize = 128;
/// Roots that one thread takes at a time.
const CHUNK: usize = 256;

/// The root x of `f(i, x) = 0` in each bracket, `f` giving the value and the derivative of an
/// increasing function.
///
/// Newton's method kept inside of the bracket, with bisection where its steps do not halve, until
/// the step is below the last digit. A NaN, in a bracket or from `f`, gives NaN for its root alone.
/// If there is no root in a bracket, the result is its end on the root's side, but for rounding.
pub fn increasing_roots(brackets: &[(f64, f64)], f: impl Fn(usize, f64) -> (f64, f64) + Sync) -> Vec<f64> {
    let solve = |(i, &bracket): (usize, &(f64, f64))| increasing_root(bracket, |x| f(i, x));
    brackets.par_iter().with_min_len(CHUNK).enumerate().map(solve).collect()
}

/// One root, as [`increasing_roots`] finds it; a derivative of 0 asks for bisection.
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
