//! How likely a model finds rows, and how that compares with the density they were drawn from.

use super::{Mean, plural, work_bar};
use crate::Result;
use crate::data::{Examples, Toy};
use crate::distributions::{Distribution, score};
use candle_core::DType;
use serde::Serialize;
use std::f64::consts::LN_2;

/// Rows from one movement of the bar to the next.
const CHUNK: usize = 1 << 12;

/// The log-likelihood of each row in nats; a bar shows how far it is with many rows, unless `quiet`.
///
/// # Errors
/// As [`score`].
pub fn log_likelihoods(distribution: &dyn Distribution, rows: &Examples, quiet: bool) -> Result<Vec<f64>> {
    let bar = work_bar(rows.len(), "evaluating", quiet || rows.len() < 2 * CHUNK);
    let mut values = Vec::with_capacity(rows.len());
    for start in (0..rows.len()).step_by(CHUNK) {
        let chunk = rows.rows(start..rows.len().min(start + CHUNK))?;
        let chunk = score(distribution, &chunk.x, chunk.context.as_ref())?;
        values.extend(chunk.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        bar.set_position(values.len() as u64);
    }
    bar.finish_and_clear();
    Ok(values)
}

/// What an evaluation reports.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Likelihood {
    /// How many rows there were.
    pub rows: usize,
    /// The mean over the rows, in nats.
    pub log_likelihood: f64,
    /// Of that mean.
    pub standard_error: f64,
    /// `-log_likelihood / (features ln 2)`.
    pub bits_per_dimension: f64,
}

impl Likelihood {
    /// The report on rows of `features` columns with these log-likelihoods.
    pub fn of(values: &[f64], features: usize) -> Self {
        let Mean { mean, standard_error } = Mean::of(values);
        let bits_per_dimension = -mean / (features as f64 * LN_2);
        Self { rows: values.len(), log_likelihood: mean, standard_error, bits_per_dimension }
    }

    /// For people; `of` says which rows they are.
    pub fn text(self, of: &str) -> String {
        let nats = Mean { mean: self.log_likelihood, standard_error: self.standard_error }.text();
        let rows = plural(self.rows, "row");
        format!("{nats} nats  ({:.4} bits a dimension, {rows}{of})", self.bits_per_dimension)
    }
}

/// How a model compares with the density that the data was drawn from.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Exact {
    /// In nats: minus the log-likelihood that cannot be surpassed on average.
    pub entropy: f64,
    /// The mean log-likelihood of the test rows under the exact density.
    pub log_likelihood: f64,
    /// The mean of log p - log q over the test rows: the Kullback-Leibler divergence of the model.
    pub divergence: Mean,
}

impl Exact {
    /// The comparison over rows of the density `toy`, whose log-likelihoods under the model are `values`.
    ///
    /// # Errors
    /// When the rows have not two columns.
    pub fn of(toy: Toy, rows: &Examples, values: &[f64]) -> Result<Self> {
        let exact = toy.log_density(&rows.x.to_dtype(DType::F64)?)?.to_vec1::<f64>()?;
        let short: Vec<f64> = exact.iter().zip(values).map(|(p, q)| p - q).collect();
        Ok(Self { entropy: toy.entropy(), log_likelihood: Mean::of(&exact).mean, divergence: Mean::of(&short) })
    }
}
