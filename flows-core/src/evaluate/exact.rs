//! Comparison of a model with the exact density of its data.

use super::Mean;
use crate::Result;
use crate::data::{Examples, Toy};
use candle_core::DType;
use serde::Serialize;
use std::fmt;

/// How a model compares with the density that the data was drawn from.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Exact {
    /// The entropy in nats: minus the highest expected log-likelihood of any model.
    pub entropy: f64,
    /// The mean log-likelihood of the test rows under the exact density.
    pub log_likelihood: f64,
    /// The mean of `log p(x) - log q(x)` over the test rows: the Kullback-Leibler divergence KL(p || q) of the model q.
    pub divergence: Mean,
}

impl Exact {
    /// The comparison over rows drawn from `toy`, whose log-likelihoods under the model are `values`.
    ///
    /// # Errors
    /// When the rows do not have two columns.
    pub fn of(toy: Toy, rows: &Examples, values: &[f64]) -> Result<Self> {
        let exact = toy.log_density(&rows.x.to_dtype(DType::F64)?)?.to_vec1::<f64>()?;
        let short: Vec<f64> = exact.iter().zip(values).map(|(p, q)| p - q).collect();
        Ok(Self { entropy: toy.entropy(), log_likelihood: Mean::of(&exact).mean, divergence: Mean::of(&short) })
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log_likelihood, divergence, .. } = self;
        write!(f, "{log_likelihood:.4} nats on the same rows: the model is {divergence} below it")
    }
}
