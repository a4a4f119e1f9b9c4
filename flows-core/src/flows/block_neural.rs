//! The block neural autoregressive flow.

use super::{Architecture, chain};
use crate::Result;
use crate::bijectors::{Bijector, BlockNeural, Order, Permutation};
use crate::nn::Scope;
use serde::{Deserialize, Serialize};

/// B-NAF: block neural autoregressive layers, with the order reversed from one to the next (De Cao et
/// al., 2019). Density evaluation is one pass; sampling inverts each dimension numerically.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bnaf {
    /// Number of layers.
    pub layers: usize,
    /// Hidden layers per layer.
    pub hidden: usize,
    /// Units per feature in each hidden layer.
    pub factor: usize,
}

impl Default for Bnaf {
    fn default() -> Self {
        Self { layers: 5, hidden: 1, factor: 10 }
    }
}

impl Architecture for Bnaf {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        chain(self.layers, scope, |i, scope| {
            let layer = BlockNeural::new(features, self.hidden, self.factor, context, scope)?;
            let mut steps: Vec<Box<dyn Bijector>> = vec![Box::new(layer)];
            if i + 1 < self.layers {
                steps.push(Box::new(Permutation::new(&[features], Order::Reverse, scope)?));
            }
            Ok(steps)
        })
    }
}
