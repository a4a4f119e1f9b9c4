//! Ranks among reference values.

/// Reference values in order.
///
/// ```
/// use flows_core::evaluate::Ranked;
/// let known = Ranked::new(vec![3.0, 2.0, 1.0, 2.0]);
/// assert_eq!([2.0, 0.0, 9.0].map(|value| known.percentile(value)), [50.0, 0.0, 100.0]);
/// assert_eq!(known.p_value(0.0), 0.2);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranked(Vec<f64>);

impl Ranked {
    /// These values, without NaN.
    pub fn new(mut values: Vec<f64>) -> Self {
        values.retain(|value| !value.is_nan());
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of values below this one; what equals it counts half.
    pub fn below(&self, value: f64) -> f64 {
        let below = self.0.partition_point(|known| *known < value);
        let equal = self.0.partition_point(|known| *known <= value) - below;
        below as f64 + 0.5 * equal as f64
    }

    /// The percentage of the values below this one; what equals it counts half.
    pub fn percentile(&self, value: f64) -> f64 {
        100.0 * self.below(value) / self.len() as f64
    }

    /// `(1 + #{known <= value}) / (n + 1)`, a conformal p-value (Vovk et al., 2005): of new values that are like the n
    /// reference values, a share of at most q have one of at most q, with ties or without.
    pub fn p_value(&self, value: f64) -> f64 {
        let no_greater = self.0.partition_point(|known| *known <= value);
        (1.0 + no_greater as f64) / (1.0 + self.len() as f64)
    }
}

/// The log-likelihoods of reference rows, and how far they are from their mean.
#[derive(Clone, Debug)]
pub struct Typical {
    likely: Ranked,
    mean: f64,
    /// Minus the distances from the mean.
    close: Ranked,
}

impl Typical {
    /// Of rows with these log-likelihoods.
    pub fn of(log_likelihoods: Vec<f64>) -> Self {
        let likely = Ranked::new(log_likelihoods);
        let finite = || likely.0.iter().filter(|log| log.is_finite());
        let mean = finite().sum::<f64>() / finite().count().max(1) as f64;
        let close = Ranked::new(likely.0.iter().map(|log| -(log - mean).abs()).collect());
        Self { likely, mean, close }
    }

    /// The log-likelihoods in order.
    pub fn likely(&self) -> &Ranked {
        &self.likely
    }

    /// The p-value of a row whose log-likelihood is as far from the mean, on either side: in many dimensions a row may be far
    /// more likely than all others, and as unlike them as one that is far less likely.
    ///
    /// ```
    /// use flows_core::evaluate::Typical;
    /// let known = Typical::of((0..99).map(f64::from).collect());
    /// assert_eq!([known.typicality(-500.0), known.typicality(500.0)], [0.01, 0.01]);
    /// assert!(known.typicality(49.0) > 0.99 && known.likely().p_value(500.0) == 1.0);
    /// ```
    pub fn typicality(&self, log_likelihood: f64) -> f64 {
        self.close.p_value(-(log_likelihood - self.mean).abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn p_values_are_calibrated() {
        let rng = &mut Rng::seed(0);
        let (mut low, mut odd) = (0, 0);
        for _ in 0..300 {
            let known = Typical::of((0..99).map(|_| rng.normal()).collect());
            for _ in 0..10 {
                let value = rng.normal();
                low += usize::from(known.likely().p_value(value) <= 0.1);
                odd += usize::from(known.typicality(value) <= 0.1);
            }
        }
        for share in [low, odd].map(|count| count as f64 / 3000.0) {
            assert!((share - 0.1).abs() < 0.02, "{share}");
        }
        // All ties count; what is impossible is the least likely.
        let known = Typical::of(vec![1.0, 1.0, 2.0]);
        assert_eq!((known.likely().p_value(1.0), known.likely().percentile(1.0)), (0.75, 100.0 / 3.0));
        assert_eq!([known.likely().p_value(f64::NEG_INFINITY), known.typicality(f64::NEG_INFINITY)], [0.25, 0.25]);
    }

    #[test]
    fn p_values_of_scores_with_ties_are_never_too_small() {
        let rng = &mut Rng::seed(0);
        let mut found = Vec::new();
        for _ in 0..300 {
            // Three values, with probabilities 0.125, 0.575 and 0.3.
            let mut score = || f64::from(u8::from(rng.uniform() > 0.2) + u8::from(rng.uniform() > 0.625));
            let known = Typical::of((0..99).map(|_| score()).collect());
            let new: Vec<f64> = (0..10).map(|_| score()).collect();
            found.extend(new.iter().map(|&value| [known.likely().p_value(value), known.typicality(value)]));
        }
        for level in [0.05, 0.1, 0.13, 0.2, 0.3, 0.5] {
            for which in 0..2 {
                let share = found.iter().filter(|p| p[which] <= level).count() as f64 / found.len() as f64;
                assert!(share < level + 0.02, "{share} at {level}");
            }
        }
    }
}
