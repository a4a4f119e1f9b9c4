//! Means with their standard errors.

use crate::text::decimals;
use serde::Serialize;
use std::fmt;

/// The mean of independent figures and its standard error; shown as `1.2345 ± 0.0012`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error, `sqrt(variance / n)` with the unbiased variance; NaN for a single figure.
    pub standard_error: f64,
}

impl Mean {
    /// The mean of `values`.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self { mean, standard_error: (variance / n).sqrt() }
    }
}

impl fmt::Display for Mean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mean, standard_error } = self;
        match standard_error.is_finite() {
            true => write!(f, "{} ± {}", decimals(*mean), decimals(*standard_error)),
            false => f.write_str(&decimals(*mean)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_of_the_mean() {
        // Variance 5/3 of 4 figures.
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((mean.mean, mean.standard_error), (2.5, (5.0 / 12.0f64).sqrt()));
        assert_eq!(mean.to_string(), "2.5000 ± 0.6455");
        assert_eq!(Mean::of(&[2.0]).to_string(), "2.0000");
    }
}
