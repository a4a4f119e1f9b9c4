//! Unconstrained monotonic neural networks.

use super::{Architecture, autoregressive::order, chain};
use crate::Result;
use crate::bijectors::univariate::{Inverted, MonotonicIntegral, Univariate};
use crate::bijectors::{Autoregressive, Bijector};
use crate::nn::{NetworkConfig, Scope};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// UMNN-MAF: autoregressive layers whose transformer is the integral of a positive network (Wehenkel
/// and Louppe, 2019). Density evaluation is one pass; sampling inverts each dimension numerically.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Umnn {
    /// Number of autoregressive layers.
    pub layers: usize,
    /// The masked network that computes the embeddings.
    pub network: NetworkConfig,
    /// Width of an embedding.
    pub embedding: usize,
    /// Widths of the integrand's hidden layers.
    pub integrand: Vec<usize>,
    /// Intervals of the quadrature.
    pub intervals: usize,
}

impl Default for Umnn {
    fn default() -> Self {
        Self {
            layers: 5,
            network: NetworkConfig::mlp([512, 512]),
            embedding: 30,
            integrand: vec![50; 4],
            intervals: 20,
        }
    }
}

impl Architecture for Umnn {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        chain(self.layers, scope, |i, scope| {
            let integral = MonotonicIntegral::new(self.embedding, &self.integrand, self.intervals, scope)?;
            let univariate: Arc<dyn Univariate> = Arc::new(Inverted(integral));
            let order = order(i, features);
            Ok(vec![Box::new(Autoregressive::new(features, univariate, context, order, &self.network, scope)?)])
        })
    }
}
