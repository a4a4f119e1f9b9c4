//! Bits per dimension.

use super::Mean;
use serde::Serialize;
use std::f64::consts::LN_2;
use std::fmt;

/// `-log_likelihood / (dimensions ln 2)`: a log-likelihood in nats per event, as bits per dimension.
pub fn bits_per_dimension(log_likelihood: f64, dimensions: usize) -> f64 {
    -log_likelihood / (dimensions as f64 * LN_2)
}

/// The bits per dimension of discrete data, such as the channel values of an image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BitsPerDimension {
    /// The mean over the events.
    pub bits_per_dimension: f64,
    /// The standard error of the mean.
    pub standard_error: f64,
    /// The number of dimensions of an event.
    pub dimensions: usize,
    /// The mean log-density of the events as the model sees them, in nats.
    pub log_likelihood: f64,
}

impl BitsPerDimension {
    /// The bits per dimension of events with these log-densities; `bits` converts a log-density, accounting for the
    /// scale of the model's data.
    pub fn of(log_densities: &[f64], dimensions: usize, bits: impl FnOnce(f64) -> f64) -> Self {
        let Mean { mean, standard_error } = Mean::of(log_densities);
        let standard_error = standard_error / (dimensions as f64 * LN_2);
        Self { bits_per_dimension: bits(mean), standard_error, dimensions, log_likelihood: mean }
    }
}

/// Shown as the mean and its standard error.
impl fmt::Display for BitsPerDimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Mean { mean: self.bits_per_dimension, standard_error: self.standard_error }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats_become_bits() {
        assert_eq!(bits_per_dimension(-6.0 * LN_2, 3), 2.0);
        let bits = BitsPerDimension::of(&[-2.0 * LN_2, -4.0 * LN_2], 3, |nats| 8.0 + bits_per_dimension(nats, 3));
        assert!((bits.bits_per_dimension - 9.0).abs() < 1e-12);
        assert!((bits.standard_error - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(bits.to_string(), "9.0000 ± 0.3333");
    }
}
