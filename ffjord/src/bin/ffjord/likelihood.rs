//! How likely a model finds rows.

use candle_core::{DType, Tensor};
use ffjord::Model;
use flows_core::Result;
use flows_core::cli::{Mean, plural, work_bar};
use flows_core::distributions::score;
use serde::Serialize;
use std::f64::consts::LN_2;

/// Rows from one movement of the bar to the next.
const CHUNK: usize = 1 << 12;

/// The log-likelihood of each row in nats.
pub fn log_likelihoods(model: &Model, x: &Tensor, quiet: bool) -> Result<Vec<f64>> {
    let rows = x.dim(0)?;
    let bar = work_bar(rows, "evaluating", quiet || rows < 2 * CHUNK);
    let mut values = Vec::with_capacity(rows);
    for start in (0..rows).step_by(CHUNK) {
        let chunk = score(model, &x.narrow(0, start, CHUNK.min(rows - start))?, None)?;
        values.extend(chunk.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        bar.set_position(values.len() as u64);
    }
    bar.finish_and_clear();
    Ok(values)
}

/// What an evaluation reports.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Likelihood {
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
