//! Distances between distributions of one variable, and what chance makes of them.

use super::tails::chi_squared;
use crate::Rng;
use serde::Serialize;

/// A distance between two samples, or between one and a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distance {
    /// The distance, from 0 to 1.
    pub distance: f64,
    /// What equal distributions exceed in 5% of samples of these sizes.
    pub critical: f64,
    /// The share of samples from equal distributions that are as far apart.
    pub p_value: f64,
}

/// `Q(1.3581) = 0.05` for [`kolmogorov`].
const CRITICAL: f64 = 1.358_1;

/// Draws of the distance of equal distributions.
const DRAWS: usize = 4000;

impl Distance {
    /// The greatest difference between the distribution functions of two samples (Kolmogorov and Smirnov); none where one
    /// is empty. NaN is left out. Values that repeat make the p-value larger than it should be.
    ///
    /// ```
    /// use flows_core::evaluate::Distance;
    /// let found = Distance::between(&[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 5.0, 6.0]).unwrap();
    /// assert_eq!(found.distance, 0.5);
    /// ```
    pub fn between(a: &[f64], b: &[f64]) -> Option<Self> {
        let mut distance: f64 = 0.0;
        let [n, m] = steps(a, b, |_, difference| distance = distance.max(difference.abs()))?;
        Some(Self::of(distance, n * m / (n + m)))
    }

    /// The greatest difference between the distribution function of a sample and that of the uniform distribution on
    /// [0, 1]; none for an empty sample.
    pub fn from_uniform(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let n = sorted.len() as f64;
        let off = |(i, &u): (usize, &f64)| f64::max((i as f64 + 1.0) / n - u, u - i as f64 / n);
        let distance = sorted.iter().enumerate().map(off).fold(0.0, f64::max);
        (n > 0.0).then(|| Self::of(distance, n))
    }

    /// The p-value of Kolmogorov's distribution for `n` values, with the correction for few of them by Stephens (1970).
    fn of(distance: f64, n: f64) -> Self {
        let scale = n.sqrt() + 0.12 + 0.11 / n.sqrt();
        Self { distance, critical: (CRITICAL / scale).min(1.0), p_value: kolmogorov(scale * distance) }
    }

    /// The total variation `1/2 sum |p - q|` between the shares p and q of classes that two samples have these counts of;
    /// none where one is empty. The distances of equal distributions are drawn, with the pooled shares and normal errors.
    pub fn between_counts(a: &[f64], b: &[f64], rng: &mut Rng) -> Option<Self> {
        let (n, m): (f64, f64) = (a.iter().sum(), b.iter().sum());
        if n == 0.0 || m == 0.0 {
            return None;
        }
        let distance = 0.5 * a.iter().zip(b).map(|(a, b)| (a / n - b / m).abs()).sum::<f64>();
        let roots: Vec<f64> = a.iter().zip(b).map(|(a, b)| ((a + b) / (n + m)).sqrt()).filter(|p| *p > 0.0).collect();
        let scale = (1.0 / n + 1.0 / m).sqrt();
        let off = a.iter().zip(b).filter(|(a, b)| *a + *b > 0.0).zip(&roots);
        let square: f64 = off.map(|((a, b), root)| ((a / n - b / m) / (root * scale)).powi(2)).sum();
        let mut normal = vec![0.0; roots.len()];
        let mut chance = || {
            normal.iter_mut().for_each(|z| *z = rng.normal());
            let common: f64 = normal.iter().zip(&roots).map(|(z, root)| z * root).sum();
            let off = normal.iter().zip(&roots).map(|(z, root)| (root * (z - root * common)).abs());
            0.5 * scale * off.sum::<f64>()
        };
        let mut drawn: Vec<f64> = (0..DRAWS).map(|_| chance()).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        // Half of the least step of a distance of counts: the normal errors have none.
        let above = DRAWS - drawn.partition_point(|&drawn| drawn < distance - 0.25 / n.min(m));
        let p_value = match above {
            // Beyond all draws, that of the chi-squared test.
            0 => f64::min(1.0 - chi_squared(square, roots.len() - 1), 1.0 / (1.0 + DRAWS as f64)),
            above => (1.0 + above as f64) / (1.0 + DRAWS as f64),
        };
        Some(Self { distance, critical: drawn[DRAWS * 19 / 20].min(1.0), p_value })
    }
}

/// The distance in units of the first sample's deviation that its values have to be moved, on the average, to become the
/// second (the Wasserstein distance of order 1); none where one is empty or the first has no spread.
pub fn wasserstein(a: &[f64], b: &[f64]) -> Option<f64> {
    let mut moved = 0.0;
    let [n, _] = steps(a, b, |width, difference| moved += width * difference.abs())?;
    let known = || a.iter().filter(|x| !x.is_nan());
    let mean = known().sum::<f64>() / n;
    let deviation = (known().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    (deviation > 0.0 && deviation.is_finite()).then(|| moved / deviation)
}

/// Calls `of` with the width of each step between the values of two samples, and with the difference of the distribution
/// functions there; returns the sizes, or none where one is empty.
fn steps(a: &[f64], b: &[f64], mut of: impl FnMut(f64, f64)) -> Option<[f64; 2]> {
    let (a, b) = (sorted(a), sorted(b));
    let (n, m) = (a.len() as f64, b.len() as f64);
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let at = |i: usize, of: &[f64]| of.get(i).copied().unwrap_or(f64::INFINITY);
        let value = at(i, &a).min(at(j, &b));
        i += a[i..].iter().take_while(|x| **x <= value).count();
        j += b[j..].iter().take_while(|x| **x <= value).count();
        let next = at(i, &a).min(at(j, &b));
        let width = if next.is_finite() { next - value } else { 0.0 };
        of(width, i as f64 / n - j as f64 / m);
    }
    Some([n, m])
}

/// The values but NaN, in order.
fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|x| !x.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// `2 sum_k (-1)^(k - 1) e^(-2 k^2 x^2)`, the probability that Kolmogorov's statistic exceeds x.
fn kolmogorov(x: f64) -> f64 {
    if x < 0.3 {
        return 1.0;
    }
    let term = |k: i32| f64::from(1 - 2 * ((k - 1) % 2)) * (-2.0 * f64::from(k * k) * x * x).exp();
    (2.0 * (1..=30).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() {
        let a = [1.0, 2.0, f64::NAN, 3.0, 4.0];
        let shifted = a.map(|x| x + 2.0);
        assert_eq!(Distance::between(&a, &shifted).unwrap().distance, 0.5);
        assert_eq!(
            Distance::between(&a, &a).unwrap(),
            Distance { distance: 0.0, p_value: 1.0, ..Distance::between(&a, &shifted).unwrap() }
        );
        // The deviation of 1, 2, 3, 4 is sqrt(1.25).
        assert!((wasserstein(&a, &shifted).unwrap() - 2.0 / 1.25f64.sqrt()).abs() < 1e-12);
        assert!((wasserstein(&[0.0, 2.0], &[1.0, 1.0, 1.0]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(Distance::from_uniform(&[0.1, 0.2, 0.3]).unwrap().distance, 0.7);
        assert!(Distance::between(&[f64::NAN], &a).is_none() && wasserstein(&[3.0], &a).is_none());
        let counts = Distance::between_counts(&[30.0, 70.0], &[50.0, 50.0], &mut Rng::seed(0)).unwrap();
        assert!((counts.distance - 0.2).abs() < 1e-12);
        // For two classes the difference of shares is normal: 1.96 sqrt(0.4 0.6 2 / 100).
        assert!((counts.critical - 0.1358).abs() < 0.006, "{counts:?}");
        assert!((counts.p_value - 0.0039).abs() < 0.003, "{counts:?}");
        assert!((kolmogorov(CRITICAL) - 0.05).abs() < 1e-4 && kolmogorov(0.31) > 0.999_9);
    }

    #[test]
    fn equal_distributions_are_flagged_as_often_as_stated() {
        let rng = &mut Rng::seed(0);
        let repeats = 600;
        for n in [30, 300] {
            let mut flagged = [0; 3];
            for _ in 0..repeats {
                let mut normal = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f64>>();
                let two = Distance::between(&normal(n), &normal(n)).unwrap();
                flagged[0] += usize::from(two.p_value < 0.05);
                assert_eq!(two.p_value < 0.05, two.distance > two.critical);
                let uniform: Vec<f64> = (0..n).map(|_| rng.uniform()).collect();
                flagged[1] += usize::from(Distance::from_uniform(&uniform).unwrap().p_value < 0.05);
                let mut counts = || {
                    let mut counts = [0.0; 4];
                    (0..n).for_each(|_| counts[[0, 0, 0, 0, 1, 1, 1, 2, 2, 3][rng.below(10)]] += 1.0);
                    counts
                };
                let (a, b) = (counts(), counts());
                flagged[2] += usize::from(Distance::between_counts(&a, &b, rng).unwrap().p_value < 0.05);
            }
            let shares = flagged.map(|flagged| flagged as f64 / f64::from(repeats));
            assert!(shares.iter().all(|share| *share < 0.08), "{n}: {shares:?}");
            assert!(shares[1] > 0.025 && shares[2] > 0.02, "{n}: {shares:?}");
        }
    }
}
