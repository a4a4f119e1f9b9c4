//! Distribution functions of test statistics.

use candle_core::cpu::erf::erfc_f64;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The distribution function of the standard normal.
pub(crate) fn normal(z: f64) -> f64 {
    0.5 * erfc_f64(-z * FRAC_1_SQRT_2)
}

/// The distribution function of chi-squared, the sum of the squares of `degrees` standard normal numbers.
pub(crate) fn chi_squared(x: f64, degrees: usize) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return if x.is_nan() { x } else { 1.0 };
    }
    let half = 0.5 * x.max(0.0);
    if half == 0.0 || degrees == 0 {
        return if degrees == 0 { 1.0 } else { 0.0 };
    }
    // 1 - F is e^-h for two degrees, erfc(sqrt h) for one; two more add h^a e^-h / Gamma(a + 1).
    let odd = degrees % 2 == 1;
    let mut above = if odd { erfc_f64(half.sqrt()) } else { 0.0 };
    let mut power = if odd { 0.5 } else { 0.0 };
    // ln Gamma(3/2) is ln(sqrt(pi) / 2).
    let mut log_term = power * half.ln() - half - if odd { 0.5 * PI.ln() - 2f64.ln() } else { 0.0 };
    for _ in 0..degrees / 2 {
        above += log_term.exp();
        power += 1.0;
        log_term += half.ln() - power.ln();
    }
    (1.0 - above).clamp(0.0, 1.0)
}

/// The probability of at least `successes` among `trials` of probability one half.
pub(crate) fn at_least(successes: usize, trials: usize) -> f64 {
    if trials > 500 {
        let (n, k) = (trials as f64, successes as f64);
        return normal(-(k - 0.5 - 0.5 * n) / (0.25 * n).sqrt());
    }
    let mut log = -(trials as f64) * 2f64.ln();
    let mut sum = 0.0;
    for k in 0..=trials {
        if k >= successes {
            sum += log.exp();
        }
        log += ((trials - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_tables() {
        for (x, degrees, want) in [
            (3.841, 1, 0.95),
            (5.991, 2, 0.95),
            (7.815, 3, 0.95),
            (18.307, 10, 0.95),
            (1101.0, 1000, 0.9861),
            (0.711, 4, 0.05),
        ] {
            let found = chi_squared(x, degrees);
            assert!((found - want).abs() < 2e-4, "{x}, {degrees}: {found}");
            assert!(chi_squared(f64::INFINITY, degrees) == 1.0 && chi_squared(f64::NAN, degrees).is_nan());
        }
        assert!((normal(1.96) - 0.975).abs() < 1e-4 && normal(-40.0) == 0.0);
        // 10 heads of 10, and 9 or 10.
        assert!((at_least(10, 10) - 1.0 / 1024.0).abs() < 1e-12 && (at_least(9, 10) - 11.0 / 1024.0).abs() < 1e-12);
        assert!((at_least(0, 10) - 1.0).abs() < 1e-12 && at_least(0, 0) == 1.0);
        assert!((at_least(265, 500) - at_least(265, 501)).abs() < 0.02);
    }
}
