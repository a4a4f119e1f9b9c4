//! The Gaussian with a full covariance, shrunk towards its diagonal.

use super::{Density, Split, best};

#[derive(Clone, Debug)]
pub(super) struct Gaussian {
    pub(super) mean: Vec<f64>,
    /// The lower Cholesky factor of the covariance, row-major.
    factor: Vec<f64>,
    log_norm: f64,
}

const SHRINKAGES: [f64; 8] = [0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0];

/// What a variance is at least, of columns of variance 1.
const LEAST_VARIANCE: f64 = 1e-6;

impl Gaussian {
    /// The Gaussian of the training rows with the shrinkage that suits the validation rows, and the shrinkage.
    pub(super) fn chosen(split: &Split<'_>, columns: usize) -> (Self, f64) {
        let weights = vec![1.0; split.train.len() / columns];
        let fitted = SHRINKAGES.iter().map(|&shrinkage| {
            let gaussian = Self::fit(split.train, &weights, columns, shrinkage);
            let score = gaussian.mean_log_density(split.validation, columns);
            ((gaussian, shrinkage), score)
        });
        best(fitted).unwrap_or_else(|| (Self::fit(split.train, &weights, columns, 1.0), 1.0))
    }

    /// The Gaussian with the mean and `(1 - shrinkage) S + shrinkage diag(S)` for the covariance S of weighted rows.
    pub(super) fn fit(rows: &[f64], weights: &[f64], columns: usize, shrinkage: f64) -> Self {
        let d = columns;
        let total = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let mut mean = vec![0.0; d];
        for (row, weight) in rows.chunks(d).zip(weights) {
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += weight * x);
        }
        mean.iter_mut().for_each(|mean| *mean /= total);
        let mut covariance = vec![0.0; d * d];
        let mut centred = vec![0.0; d];
        for (row, &weight) in rows.chunks(d).zip(weights).filter(|(_, weight)| **weight > 1e-9) {
            centred.iter_mut().zip(row.iter().zip(&mean)).for_each(|(c, (x, mean))| *c = x - mean);
            for (i, part) in covariance.chunks_mut(d).enumerate() {
                let own = weight * centred[i];
                part[..=i].iter_mut().zip(&centred).for_each(|(sum, c)| *sum += own * c);
            }
        }
        for i in 0..d {
            for j in 0..i {
                covariance[i * d + j] *= (1.0 - shrinkage) / total;
            }
            covariance[i * d + i] = covariance[i * d + i] / total + LEAST_VARIANCE;
        }
        let factor = cholesky(covariance, d);
        let log_det = (0..d).map(|i| factor[i * d + i].ln()).sum::<f64>();
        let log_norm = -log_det - 0.5 * d as f64 * (2.0 * std::f64::consts::PI).ln();
        Self { mean, factor, log_norm }
    }

    /// The square of the distance from the mean, by the covariance; `scratch` has a number for each column.
    pub(super) fn distance(&self, row: &[f64], scratch: &mut [f64]) -> f64 {
        let d = self.mean.len();
        let mut sum = 0.0;
        for i in 0..d {
            let factor = &self.factor[i * d..=i * d + i];
            let before: f64 = factor[..i].iter().zip(&*scratch).map(|(l, v)| l * v).sum();
            scratch[i] = (row[i] - self.mean[i] - before) / factor[i];
            sum += scratch[i] * scratch[i];
        }
        sum
    }

    pub(super) fn log_norm(&self) -> f64 {
        self.log_norm
    }
}

impl Density for Gaussian {
    fn log_density(&self, row: &[f64]) -> f64 {
        self.log_norm - 0.5 * self.distance(row, &mut vec![0.0; row.len()])
    }
}

/// The lower Cholesky factor of a matrix given by its lower triangle; pivots that rounding has made too small are raised.
pub(crate) fn cholesky(mut a: Vec<f64>, d: usize) -> Vec<f64> {
    for i in 0..d {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| a[i * d + k] * a[j * d + k]).sum();
            let rest = a[i * d + j] - dot;
            a[i * d + j] = if i == j { rest.max(0.01 * LEAST_VARIANCE).sqrt() } else { rest / a[j * d + j] };
        }
        a[i * d + i + 1..(i + 1) * d].fill(0.0);
    }
    a
}
