//! A mixture of Gaussians with full covariances, by expectation-maximisation.

use super::gaussian::Gaussian;
use super::{Density, Split, best, log_sum_exp, some_rows};
use crate::Rng;
use rayon::prelude::*;

#[derive(Clone, Debug)]
pub(super) struct Mixture {
    log_weights: Vec<f64>,
    parts: Vec<Gaussian>,
}

const COMPONENTS: [usize; 5] = [2, 4, 8, 16, 32];
const STARTS: usize = 3;
const MOST_ROWS: usize = 10_000;
const MOST_STEPS: usize = 60;
/// Steps end when the mean log-likelihood rises by less.
const LEAST_GAIN: f64 = 5e-4;
/// The least mean number of rows of a component, for each column.
const ROWS_A_COLUMN: usize = 3;
const SHRINKAGE: f64 = 0.01;

impl Mixture {
    /// The best of a few starts for each of a few numbers of components, by the validation rows, beginning with the
    /// Gaussian that was chosen, one component. The first number that is no better ends the search.
    pub(super) fn chosen(split: &Split<'_>, columns: usize, gaussian: Gaussian, rng: &mut Rng) -> Self {
        let rows = some_rows(split.train, columns, MOST_ROWS, rng);
        let n = rows.len() / columns;
        let mut score = gaussian.mean_log_density(split.validation, columns);
        let mut found = Self { log_weights: vec![0.0], parts: vec![gaussian] };
        for components in COMPONENTS.into_iter().filter(|k| k * columns * ROWS_A_COLUMN <= n) {
            let starts = (0..STARTS).map(|_| {
                let mixture = Self::fit(&rows, columns, components, split.validation, rng);
                let score = mixture.mean_log_density(split.validation, columns);
                ((mixture, score), score)
            });
            match best(starts) {
                Some((mixture, better)) if better > score => (found, score) = (mixture, better),
                _ => break,
            }
        }
        found
    }

    /// The mixture after the step with the largest likelihood of the validation rows.
    fn fit(rows: &[f64], columns: usize, components: usize, validation: &[f64], rng: &mut Rng) -> Self {
        let n = rows.len() / columns;
        // The nearest of centres that are far from one another (k-means++).
        let row = |i: usize| &rows[i * columns..(i + 1) * columns];
        let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let mut nearest = vec![(f64::INFINITY, 0); n];
        for part in 0..components {
            let total: f64 = nearest.iter().map(|(distance, _)| distance.min(f64::MAX)).sum();
            let mut left = rng.uniform() * total;
            let by_distance = nearest.iter().position(|(distance, _)| {
                left -= distance;
                left < 0.0
            });
            let centre = if part == 0 { rng.below(n) } else { by_distance.unwrap_or(n - 1) };
            for (i, nearest) in nearest.iter_mut().enumerate() {
                let own = distance(row(i), row(centre));
                if own < nearest.0 {
                    *nearest = (own, part);
                }
            }
        }
        let mut shares = vec![0.0; n * components];
        shares.chunks_mut(components).zip(&nearest).for_each(|(shares, (_, part))| shares[*part] = 1.0);
        let mut kept = Self::maximise(rows, columns, &shares, components);
        let mut score = kept.mean_log_density(validation, columns);
        let (mut mixture, mut last) = (kept.clone(), f64::NEG_INFINITY);
        for _ in 0..MOST_STEPS {
            let likelihood = mixture.expect(rows, columns, &mut shares);
            if likelihood - last < LEAST_GAIN {
                break;
            }
            last = likelihood;
            mixture = Self::maximise(rows, columns, &shares, components);
            let now = mixture.mean_log_density(validation, columns);
            if now > score {
                (kept, score) = (mixture.clone(), now);
            }
        }
        kept
    }

    /// Writes the components' shares in each row, and returns the mean log-likelihood.
    fn expect(&self, rows: &[f64], columns: usize, shares: &mut [f64]) -> f64 {
        let parts = shares.par_chunks_mut(self.parts.len()).zip(rows.par_chunks(columns));
        let each = |(shares, row): (&mut [f64], &[f64])| {
            self.terms(row, shares);
            let total = log_sum_exp(shares);
            shares.iter_mut().for_each(|share| *share = (*share - total).exp());
            total
        };
        let logs: Vec<f64> = parts.map(each).collect();
        logs.iter().sum::<f64>() / logs.len() as f64
    }

    fn maximise(rows: &[f64], columns: usize, shares: &[f64], components: usize) -> Self {
        let n = rows.len() / columns;
        let part = |i: usize| {
            let weights: Vec<f64> = shares.iter().skip(i).step_by(components).copied().collect();
            // Half a row of each keeps an empty one.
            let log_weight = ((weights.iter().sum::<f64>() + 0.5) / (n as f64 + 0.5 * components as f64)).ln();
            (log_weight, Gaussian::fit(rows, &weights, columns, SHRINKAGE))
        };
        let (log_weights, parts) = (0..components).into_par_iter().map(part).unzip();
        Self { log_weights, parts }
    }

    fn terms(&self, row: &[f64], terms: &mut [f64]) {
        let mut scratch = vec![0.0; row.len()];
        for ((term, part), log_weight) in terms.iter_mut().zip(&self.parts).zip(&self.log_weights) {
            *term = log_weight + part.log_norm() - 0.5 * part.distance(row, &mut scratch);
        }
    }

    pub(super) fn components(&self) -> usize {
        self.parts.len()
    }
}

impl Density for Mixture {
    fn log_density(&self, row: &[f64]) -> f64 {
        let mut terms = vec![0.0; self.parts.len()];
        self.terms(row, &mut terms);
        log_sum_exp(&terms)
    }
}
