//! Log-likelihoods of many rows.

use super::{Mean, bits_per_dimension};
use crate::data::Examples;
use crate::distributions::{BLOCK, Distribution, score};
use crate::text::{decimals, plural};
use crate::train::Ranks;
use crate::{Result, Rng};
use candle_core::{DType, Tensor};
use serde::Serialize;
use std::ops::Range;

/// Rows between progress reports.
const CHUNK: usize = 1 << 12;

/// Events that are evaluated at once with noise.
const EVENTS: usize = 64;

/// The log-likelihood of each row in nats, bit for bit the same for any number of `ranks`, which divide the rows.
/// After each chunk `progress` is called with the number of rows done, assuming that all ranks are equally fast.
///
/// # Errors
/// Same as [`score`], and when a rank is gone.
pub fn log_likelihoods(
    distribution: &dyn Distribution,
    rows: &Examples,
    ranks: &Ranks,
    mut progress: impl FnMut(usize),
) -> Result<Vec<f64>> {
    let done_of_all = |done: usize| progress(rows.len().min(done * ranks.size()));
    ranks.divide(rows.len(), BLOCK, |part| {
        in_chunks(part, CHUNK, done_of_all, |chunk| {
            let chunk = rows.rows(chunk)?;
            score(distribution, &chunk.x, chunk.context.as_ref())
        })
    })
}

/// The log-likelihood in nats of each of `count` events whose evaluation is random, such as images that are dequantized,
/// bit for bit the same for any number of `ranks`, which divide the events. `score` evaluates a range of events, a block
/// at a time, with noise from the generator; `skip` advances the generator as `score` would for this many.
/// `progress` is called with the number done, assuming that all ranks are equally fast.
///
/// # Errors
/// Any error from `skip` and `score`, and when a rank is gone.
pub fn noisy_log_likelihoods(
    count: usize,
    rng: &mut Rng,
    ranks: &Ranks,
    mut progress: impl FnMut(usize),
    skip: impl Fn(usize, &mut Rng) -> Result<()>,
    mut score: impl FnMut(Range<usize>, &mut Rng) -> Result<Tensor>,
) -> Result<Vec<f64>> {
    let done_of_all = |done: usize| progress(count.min(done * ranks.size()));
    // The noise is drawn as if for all events in order.
    let skip = |events: Range<usize>, rng: &mut Rng| {
        events.clone().step_by(EVENTS).try_for_each(|start| skip(EVENTS.min(events.end - start), rng))
    };
    ranks.divide(count, EVENTS, |part| {
        skip(0..part.start, rng)?;
        let values = in_chunks(part.clone(), EVENTS, done_of_all, |events| score(events, rng))?;
        skip(part.end..count, rng)?;
        Ok(values)
    })
}

/// Calls `score` on consecutive ranges of `numbers`, `chunk` at a time, and concatenates its results (B). After each
/// chunk `progress` is called with the number done.
///
/// # Errors
/// Any error from `score`.
pub fn in_chunks(
    numbers: Range<usize>,
    chunk: usize,
    mut progress: impl FnMut(usize),
    mut score: impl FnMut(Range<usize>) -> Result<Tensor>,
) -> Result<Vec<f64>> {
    let mut values = Vec::with_capacity(numbers.len());
    for start in numbers.clone().step_by(chunk) {
        values.extend(score(start..numbers.end.min(start + chunk))?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        progress(values.len());
    }
    Ok(values)
}

/// The mean log-likelihood of rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Likelihood {
    /// The number of rows.
    pub rows: usize,
    /// The mean over the rows, in nats.
    pub log_likelihood: f64,
    /// The standard error of the mean.
    pub standard_error: f64,
    /// `-log_likelihood / (features ln 2)`.
    pub bits_per_dimension: f64,
}

impl Likelihood {
    /// The mean over rows of `features` columns with these log-likelihoods.
    pub fn of(values: &[f64], features: usize) -> Self {
        let Mean { mean, standard_error } = Mean::of(values);
        let bits_per_dimension = bits_per_dimension(mean, features);
        Self { rows: values.len(), log_likelihood: mean, standard_error, bits_per_dimension }
    }

    /// A description for the user; `of` says which rows these are.
    pub fn text(self, of: &str) -> String {
        let nats = Mean { mean: self.log_likelihood, standard_error: self.standard_error };
        let rows = plural(self.rows, "row");
        format!("{nats} nats  ({} bits per dimension, {rows}{of})", decimals(self.bits_per_dimension))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::distributions::StandardNormal;
    use candle_core::Device;

    #[test]
    fn chunks_are_the_whole() -> Result<()> {
        let normal = StandardNormal::new([2], DType::F64, &Device::Cpu)?;
        let x = normal.sample(CHUNK + 5, None, &mut Rng::seed(0))?;
        let mut seen = Vec::new();
        let rows = Examples { x: x.clone(), context: None };
        let values = log_likelihoods(&normal, &rows, &Ranks::alone(), |done| seen.push(done))?;
        assert_eq!(values, normal.log_prob(&x, None)?.to_vec1::<f64>()?);
        assert_eq!(seen, [CHUNK, CHUNK + 5]);
        let likelihood = Likelihood::of(&values, 2);
        // Minus the entropy of a normal in two dimensions, 1 + ln(2 pi) nats.
        let off = likelihood.log_likelihood + 1.0 + std::f64::consts::TAU.ln();
        assert!(off.abs() < 4.0 * likelihood.standard_error, "{likelihood:?}");
        assert!((likelihood.bits_per_dimension - 2.047).abs() < 0.05, "{likelihood:?}");
        Ok(())
    }
}
