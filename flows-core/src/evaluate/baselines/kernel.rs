//! Kernel densities: the mean of Gaussians about the training rows.

use super::{Density, Split, best, log_sum_exp, some_rows};
use crate::Rng;

/// Gaussians of one width about rows.
#[derive(Clone, Debug)]
pub(super) struct Kernels {
    rows: Vec<f64>,
    columns: usize,
    bandwidth: f64,
}

const MOST_ROWS: usize = 5000;

/// Rows by which a bandwidth is chosen.
const VALIDATION_ROWS: usize = 500;

/// Bandwidths are at least this.
const LEAST: f64 = 0.01;
/// Each is this many times the one before.
const FACTOR: f64 = 1.4;
const COUNT: i32 = 15;

impl Kernels {
    /// The density with the bandwidth that suits the validation rows; columns have variance 1.
    pub(super) fn chosen(split: &Split<'_>, columns: usize, rng: &mut Rng) -> Self {
        let rows = some_rows(split.train, columns, MOST_ROWS, rng);
        let validation = some_rows(split.validation, columns, VALIDATION_ROWS, rng);
        let start = Self { rows, columns, bandwidth: 1.0 };
        let of_width = |bandwidth: f64| Self { bandwidth, ..start.clone() };
        let fitted = (0..COUNT).map(|i| {
            let kernels = of_width(LEAST * FACTOR.powi(i));
            (kernels.bandwidth, kernels.mean_log_density(&validation, columns))
        });
        of_width(best(fitted).unwrap_or(1.0))
    }

    pub(super) fn count(&self) -> usize {
        self.rows.len() / self.columns
    }

    pub(super) fn bandwidth(&self) -> f64 {
        self.bandwidth
    }
}

impl Density for Kernels {
    fn log_density(&self, row: &[f64]) -> f64 {
        let factor = -0.5 / (self.bandwidth * self.bandwidth);
        let distance = |other: &[f64]| row.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let exponents: Vec<f64> = self.rows.chunks_exact(self.columns).map(|other| factor * distance(other)).collect();
        let d = self.columns as f64;
        let norm = d * (self.bandwidth * (2.0 * std::f64::consts::PI).sqrt()).ln() + (self.count() as f64).ln();
        log_sum_exp(&exponents) - norm
    }
}
