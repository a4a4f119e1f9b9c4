//! Simple densities to stand beside a model's likelihood.

mod gaussian;
mod kernel;
mod margins;
mod mixture;

use super::Mean;
use crate::distributions::{Column, Content};
use crate::{Error, Result, Rng};
use gaussian::Gaussian;
pub(crate) use gaussian::cholesky;
use kernel::Kernels;
use margins::Margins;
use mixture::Mixture;
use rayon::prelude::*;

/// Rows of a table for training, for choices and for the result, each row-major.
#[derive(Clone, Copy, Debug)]
pub struct Split<'a> {
    /// The rows to which densities are fitted.
    pub train: &'a [f64],
    /// The rows by which bandwidths and sizes are chosen.
    pub validation: &'a [f64],
    /// The rows that are scored.
    pub test: &'a [f64],
}

/// A density that was fitted, with its log-likelihoods.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// What it is.
    pub name: &'static str,
    /// What was chosen for it.
    pub details: String,
    /// The log-likelihood of each test row in nats, for differences from a model's.
    pub log_likelihoods: Vec<f64>,
}

impl Baseline {
    /// The mean log-likelihood of a test row.
    pub fn mean(&self) -> Mean {
        Mean::of(&self.log_likelihoods)
    }
}

/// The log-density of a row.
trait Density: Sync {
    fn log_density(&self, row: &[f64]) -> f64;

    /// Of each of some rows.
    fn log_densities(&self, rows: &[f64], columns: usize) -> Vec<f64> {
        rows.par_chunks(columns).map(|row| self.log_density(row)).collect()
    }

    fn mean_log_density(&self, rows: &[f64], columns: usize) -> f64 {
        let densities = self.log_densities(rows, columns);
        densities.iter().sum::<f64>() / densities.len() as f64
    }
}

/// Independent margins, a Gaussian, a mixture of Gaussians and a kernel density, fitted to the training rows and chosen by
/// the validation rows.
///
/// All but the first are of the numbers alone, with independent categories, and only where no number has cells that are
/// missing and no real number has atoms. Whole numbers are dequantized by uniform noise, so that their log-likelihoods are
/// lower bounds of log-probabilities.
///
/// The columns must be those that were fitted to the training rows. A mixture is fitted to at most 10,000 rows, a kernel
/// density to at most 5,000, drawn by `rng`.
///
/// ```
/// use flows_core::bijectors::Bounds;
/// use flows_core::distributions::Column;
/// use flows_core::evaluate::{Split, baselines};
/// let rng = &mut flows_core::Rng::seed(0);
/// let rows: Vec<f64> = (0..600).flat_map(|_| { let x = rng.normal(); [x, x + 0.1 * rng.normal()] }).collect();
/// let column = |i: usize| rows[..800].iter().skip(i).step_by(2).copied().collect::<Vec<f64>>();
/// let columns = [Column::number("a", &column(0), Bounds::NONE)?, Column::number("b", &column(1), Bounds::NONE)?];
/// let split = Split { train: &rows[..800], validation: &rows[800..1000], test: &rows[1000..] };
/// let found = baselines(&columns, split, rng)?;
/// assert_eq!(found.iter().map(|b| b.name).collect::<Vec<_>>(), ["margins", "gaussian", "mixture", "kernels"]);
/// assert!(found[1].mean().mean > found[0].mean().mean + 1.0);
/// # Ok::<(), flows_core::Error>(())
/// ```
///
/// # Errors
/// When there are no rows, their number of cells is no multiple of that of the columns, or a cell is none of its column.
pub fn baselines(columns: &[Column], split: Split<'_>, rng: &mut Rng) -> Result<Vec<Baseline>> {
    let d = columns.len();
    for (name, rows) in [("training", split.train), ("validation", split.validation), ("test", split.test)] {
        if rows.is_empty() || d == 0 || rows.len() % d != 0 {
            let cells = rows.len();
            return Err(Error::Data(format!("the {name} rows have {cells} cells: give at least one row of {d} cells")));
        }
        for (i, row) in rows.chunks(d).enumerate() {
            columns.iter().zip(row).try_for_each(|(column, &x)| column.log_prob(i, x).map(drop))?;
        }
    }
    let found = |name, density: &dyn Density, details| Baseline {
        name,
        details,
        log_likelihoods: density.log_densities(split.test, d),
    };
    let margins = Margins::fit(columns, &split, rng);
    let mut all = vec![found("margins", &margins, margins.details())];
    let is_category = |i: &usize| matches!(columns[*i].content, Content::Category { .. });
    let is_smooth = |i: &usize| match &columns[*i].content {
        Content::Number(number) => number.atoms.is_empty() && !number.missing,
        Content::Whole(number) => !number.missing,
        Content::Category { .. } => false,
    };
    let (categories, numbers): (Vec<usize>, Vec<usize>) = (0..d).partition(is_category);
    // A density in several dimensions needs more rows than one.
    if numbers.is_empty() || !numbers.iter().all(is_smooth) || split.train.len() / d < 2 {
        return Ok(all);
    }
    let of_categories = match categories.is_empty() {
        true => vec![0.0; split.test.len() / d],
        false => {
            let columns: Vec<Column> = categories.iter().map(|&i| columns[i].clone()).collect();
            let parts = [split.train, split.validation, split.test].map(|rows| pick(rows, d, &categories));
            let split = Split { train: &parts[0], validation: &parts[1], test: &parts[2] };
            Margins::fit(&columns, &split, rng).log_densities(split.test, columns.len())
        }
    };
    let is_whole: Vec<bool> = numbers.iter().map(|&i| matches!(columns[i].content, Content::Whole(_))).collect();
    let parts = [split.train, split.validation, split.test].map(|rows| {
        let mut rows = pick(rows, d, &numbers);
        let whole = rows.iter_mut().zip(is_whole.iter().cycle()).filter(|(_, is_whole)| **is_whole);
        whole.for_each(|(x, _)| *x += rng.uniform() - 0.5);
        rows
    });
    let (split, d) = (Split { train: &parts[0], validation: &parts[1], test: &parts[2] }, numbers.len());
    let scaled = Scaled::of(split.train, d);
    let standard = scaled.split(&split, d);
    let standard = Split { train: &standard[0], validation: &standard[1], test: &standard[2] };
    let mut add = |name, density: &dyn Density, details| {
        let log_likelihoods = density.log_densities(standard.test, d);
        let both = log_likelihoods.into_iter().zip(&of_categories);
        let log_likelihoods = both.map(|(value, of_categories)| value + scaled.log_det + of_categories).collect();
        all.push(Baseline { name, details, log_likelihoods });
    };
    let (gaussian, shrinkage) = Gaussian::chosen(&standard, d);
    add("gaussian", &gaussian, format!("shrinkage {shrinkage}"));
    let mixture = Mixture::chosen(&standard, d, gaussian, rng);
    add("mixture", &mixture, format!("{} components", mixture.components()));
    let kernels = Kernels::chosen(&standard, d, rng);
    add("kernels", &kernels, format!("{} kernels, bandwidth {:.3}", kernels.count(), kernels.bandwidth()));
    Ok(all)
}

/// Columns shifted and scaled to mean 0 and variance 1.
struct Scaled {
    shift: Vec<f64>,
    scale: Vec<f64>,
    /// Of the map to the scaled columns.
    log_det: f64,
}

impl Scaled {
    fn of(rows: &[f64], columns: usize) -> Self {
        let n = (rows.len() / columns) as f64;
        let column = |i: usize| rows.iter().skip(i).step_by(columns);
        let shift: Vec<f64> = (0..columns).map(|i| column(i).sum::<f64>() / n).collect();
        let deviation = |i: usize| {
            let variance = column(i).map(|x| (x - shift[i]).powi(2)).sum::<f64>() / n;
            if variance > 0.0 && variance.is_finite() { variance.sqrt() } else { 1.0 }
        };
        let scale: Vec<f64> = (0..columns).map(deviation).collect();
        let log_det = -scale.iter().map(|s| s.ln()).sum::<f64>();
        Self { shift, scale, log_det }
    }

    fn split(&self, split: &Split<'_>, columns: usize) -> [Vec<f64>; 3] {
        [split.train, split.validation, split.test].map(|rows| {
            let scaled = rows.iter().enumerate().map(|(i, x)| (x - self.shift[i % columns]) / self.scale[i % columns]);
            scaled.collect()
        })
    }
}

/// Some of the columns.
fn pick(rows: &[f64], columns: usize, chosen: &[usize]) -> Vec<f64> {
    rows.chunks(columns).flat_map(|row| chosen.iter().map(|&i| row[i])).collect()
}

/// At most this many rows, drawn without replacement.
fn some_rows(rows: &[f64], columns: usize, most: usize, rng: &mut Rng) -> Vec<f64> {
    let n = rows.len() / columns;
    if n <= most {
        return rows.to_vec();
    }
    let chosen = rng.permutation(n);
    chosen[..most].iter().flat_map(|&i| rows[i as usize * columns..][..columns].iter().copied()).collect()
}

/// The item of the largest finite score; the first if there is none.
fn best<T>(items: impl IntoIterator<Item = (T, f64)>) -> Option<T> {
    let larger = |a: (T, f64), b: (T, f64)| if b.1 > a.1 || a.1.is_nan() { b } else { a };
    items.into_iter().reduce(larger).map(|(item, _)| item)
}

/// `ln sum_i e^{x_i}`.
pub(crate) fn log_sum_exp(values: &[f64]) -> f64 {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Terms beyond are lost in the rounding of a million others.
    let terms = values.iter().map(|v| v - top).filter(|v| *v > -50.0);
    if top == f64::NEG_INFINITY { top } else { top + terms.map(f64::exp).sum::<f64>().ln() }
}

#[cfg(test)]
mod tests;
