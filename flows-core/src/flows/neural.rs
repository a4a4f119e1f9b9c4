//! Neural autoregressive flows.

use super::{Architecture, autoregressive::order, chain};
use crate::Result;
use crate::bijectors::univariate::{DeepSigmoid, Inverted, Univariate};
use crate::bijectors::{Autoregressive, Bijector};
use crate::nn::{Activation, NetworkConfig, Scope};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// NAF: autoregressive layers whose transformer is a deep sigmoid (Huang et al., 2018). Density evaluation
/// is one pass; sampling inverts each dimension numerically.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Naf {
    /// Number of autoregressive layers.
    pub layers: usize,
    /// The masked network.
    pub network: NetworkConfig,
    /// Number of sigmoids in each transformer.
    pub units: usize,
}

impl Default for Naf {
    fn default() -> Self {
        Self { layers: 5, network: NetworkConfig::Mlp { hidden: vec![100], activation: Activation::Elu }, units: 16 }
    }
}

impl Architecture for Naf {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        let univariate: Arc<dyn Univariate> = Arc::new(Inverted(DeepSigmoid::new(self.units)?));
        chain(self.layers, scope, |i, scope| {
            let order = order(i, features);
            let layer = Autoregressive::new(features, univariate.clone(), context, order, &self.network, scope)?;
            Ok(vec![Box::new(layer)])
        })
    }
}
