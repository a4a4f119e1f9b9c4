//! How likely a model finds rows.

use candle_core::{DType, Tensor};
use flows_core::cli::work_bar;
use flows_core::data::Examples;
use flows_core::distributions::Distribution;
use flows_core::flows::Flow;
use flows_core::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;
use std::f64::consts::LN_2;

/// Rows that are evaluated at once by one thread: memory is bounded, whatever the table.
const CHUNK: usize = 1024;

/// The log-likelihood of each row in nats.
pub fn log_likelihoods(flow: &Flow, rows: &Examples, quiet: bool) -> Result<Vec<f64>> {
    let starts: Vec<usize> = (0..rows.len()).step_by(CHUNK).collect();
    let bar = work_bar(rows.len(), "evaluating", quiet || starts.len() < 100);
    let evaluate = |start: &usize| -> Result<Vec<f64>> {
        let chunk = rows.rows(*start..rows.len().min(start + CHUNK))?;
        let values = flow.log_prob(&chunk.x, chunk.context.as_ref())?;
        bar.inc(chunk.len() as u64);
        Ok(values.to_dtype(DType::F64)?.to_vec1()?)
    };
    // A GPU does one thing at a time.
    let chunks: Vec<Vec<f64>> = match rows.x.device().is_cpu() {
        true => starts.par_iter().map(evaluate).collect::<Result<_>>()?,
        false => starts.iter().map(evaluate).collect::<Result<_>>()?,
    };
    bar.finish_and_clear();
    Ok(chunks.concat())
}

/// The mean of independent figures and its standard error.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Mean {
    pub mean: f64,
    pub standard_error: f64,
}

impl Mean {
    /// The mean of `values`; the standard error of a single one is not known: NaN.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self { mean, standard_error: (variance / n).sqrt() }
    }
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
}

/// Passes if the rows have the columns that the model is over, and the context that it needs.
pub fn check_columns(flow: &Flow, rows: &Examples, source: &str) -> Result<()> {
    let config = flow.config();
    let width = |x: Option<&Tensor>| x.and_then(|x| x.dims().get(1).copied()).unwrap_or(0);
    let (got, context) = (width(Some(&rows.x)), width(rows.context.as_ref()));
    let (want, given) = (config.features, config.context.unwrap_or(0));
    if (got, context) == (want, given) {
        return Ok(());
    }
    let remedy = if given > 0 {
        format!("the model is over {want} given a context of {given}: name the context's columns by --context")
    } else {
        format!("the model is over {want} without a context: give data of the same columns")
    };
    let beside = if context > 0 { format!(" beside a context of {context}") } else { String::new() };
    let s = if got == 1 { "" } else { "s" };
    Err(Error::Data(format!("{source} has {got} column{s}{beside}, but {remedy}")))
}
