//! Distances between distributions of one variable, and what chance makes of them.

use super::chance::Chance;
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

/// How often rows are exchanged between samples.
const EXCHANGES: usize = 999;

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

    /// The total variation `1/2 sum_k |p_k - q_k|` between the shares p and q of classes, counted from 0, in two samples of
    /// as many rows; none where they are empty. The p-value is exact: rows of the same number are exchanged at random
    /// between the samples, which changes nothing if their distributions are equal.
    pub fn between_classes(a: &[usize], b: &[usize], classes: usize, rng: &mut Rng) -> Option<Self> {
        let n = a.len().min(b.len()) as f64;
        if n == 0.0 {
            return None;
        }
        // Rows of equal classes change nothing.
        let pairs: Vec<(usize, usize)> = a.iter().copied().zip(b.iter().copied()).filter(|(a, b)| a != b).collect();
        let mut counts = vec![0i64; classes];
        let mut distance = |is_exchanged: &mut dyn FnMut() -> bool| {
            counts.fill(0);
            for &(a, b) in &pairs {
                let sign = if is_exchanged() { -1 } else { 1 };
                counts[a] += sign;
                counts[b] -= sign;
            }
            0.5 * counts.iter().map(|count| count.unsigned_abs() as f64).sum::<f64>() / n
        };
        let found = distance(&mut || false);
        let mut coins = 0u64;
        let mut left = 0;
        let mut toss = || {
            if left == 0 {
                (coins, left) = (rng.draw(&rand_distr::StandardUniform), 64);
            }
            left -= 1;
            coins >> left & 1 == 1
        };
        let chance = Chance::of((0..EXCHANGES).map(|_| distance(&mut toss)).collect());
        let mut p_value = chance.p_value(found);
        if chance.at_least(found) == 0 {
            // Beyond all exchanges, the bound of McDiarmid (1989): one exchange moves the distance by 2/n at most.
            let beyond = n * (found - chance.values().iter().sum::<f64>() / EXCHANGES as f64);
            p_value = f64::min((-0.5 * beyond * beyond / pairs.len() as f64).exp(), p_value);
        }
        Some(Self { distance: found, critical: chance.critical(), p_value })
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
        // 30 and 50 rows of a class, in no order.
        let rows =
            |share: usize, step: usize| (0..100).map(|i| usize::from(i * step % 100 < share)).collect::<Vec<_>>();
        let counts = Distance::between_classes(&rows(30, 1), &rows(50, 37), 2, &mut Rng::seed(0)).unwrap();
        assert!((counts.distance - 0.2).abs() < 1e-12);
        // For two classes the difference of shares is about normal: 1.96 sqrt(0.4 0.6 2 / 100), in steps of 0.02.
        assert!((counts.critical - 0.1358).abs() < 0.025, "{counts:?}");
        assert!((counts.p_value - 0.0039).abs() < 0.006, "{counts:?}");
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
                let mut classes = || (0..n).map(|_| [0, 0, 0, 0, 1, 1, 1, 2, 2, 3][rng.below(10)]).collect::<Vec<_>>();
                let (a, b) = (classes(), classes());
                flagged[2] += usize::from(Distance::between_classes(&a, &b, 4, rng).unwrap().p_value < 0.05);
            }
            let shares = flagged.map(|flagged| flagged as f64 / f64::from(repeats));
            assert!(shares.iter().all(|share| *share < 0.08), "{n}: {shares:?}");
            assert!(shares[1] > 0.025 && shares[2] > 0.02, "{n}: {shares:?}");
        }
    }

    #[test]
    fn many_rare_values_are_compared_without_false_alarms() {
        let rng = &mut Rng::seed(1);
        let (mut flagged, mut least) = (0, 1.0);
        for _ in 0..200 {
            // One of 500 values once in ten rows, the first one else.
            let mut classes = || -> Vec<usize> {
                (0..1000).map(|_| if rng.below(10) == 0 { 1 + rng.below(500) } else { 0 }).collect()
            };
            let (a, b) = (classes(), classes());
            let found = Distance::between_classes(&a, &b, 501, rng).unwrap();
            flagged += usize::from(found.p_value <= 0.05);
            least = f64::min(least, found.p_value);
        }
        assert!(flagged <= 20 && least > 0.999e-3, "{flagged} of 200, {least}");
        // Other shares, however sure, have a p-value far below that of all exchanges.
        let other: Vec<usize> = (0..1000).map(|i| 1 + i % 500).collect();
        assert!(Distance::between_classes(&vec![0; 1000], &other, 501, rng).unwrap().p_value < 1e-50);
    }
}
