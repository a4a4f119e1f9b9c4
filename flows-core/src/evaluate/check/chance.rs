//! What a statistic is by chance.

/// Values of a statistic of two samples whose rows are exchanged at random, in their order: what it is if the distributions
/// are equal.
pub(super) struct Chance(Vec<f64>);

impl Chance {
    /// That of these values.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    /// The values.
    pub(super) fn values(&self) -> &[f64] {
        &self.0
    }

    /// What 5% of the values are above.
    pub(super) fn critical(&self) -> f64 {
        self.0[self.0.len() * 19 / 20]
    }

    /// The number of values that are at least what was found, up to rounding.
    pub(super) fn at_least(&self, found: f64) -> usize {
        self.0.len() - self.0.partition_point(|&value| value < found - 1e-12)
    }

    /// The p-value of what was found, one of the exchanges itself.
    pub(super) fn p_value(&self, found: f64) -> f64 {
        (1.0 + self.at_least(found) as f64) / (1.0 + self.0.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_count_as_extreme() {
        let chance = Chance::of((0..19).rev().map(f64::from).collect());
        assert_eq!((chance.values()[0], chance.critical()), (0.0, 18.0));
        assert_eq!([-1.0, 17.0, 17.5, 19.0].map(|found| chance.at_least(found)), [19, 2, 1, 0]);
        assert_eq!([18.0, 18.5].map(|found| chance.p_value(found)), [0.1, 0.05]);
    }
}
