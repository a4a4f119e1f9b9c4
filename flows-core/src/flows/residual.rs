//! The residual flow.

use super::{Architecture, chain};
use crate::Result;
use crate::bijectors::{ActNorm, Bijector, Residual as ResidualMap, ResidualSettings};
use crate::nn::Scope;
use serde::{Deserialize, Serialize};

/// Invertible residual blocks with actnorm between them (Behrmann et al., 2019; Chen et al., 2019).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualFlow {
    /// Number of blocks.
    pub layers: usize,
    /// The settings of each block.
    pub block: ResidualSettings,
}

impl Default for ResidualFlow {
    fn default() -> Self {
        Self { layers: 16, block: ResidualSettings::default() }
    }
}

impl Architecture for ResidualFlow {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        chain(self.layers, scope, |_, scope| {
            let block = ResidualMap::new(features, &self.block, context, &scope.enter("block"))?;
            Ok(vec![Box::new(block), Box::new(ActNorm::new(&[features], &scope.enter("norm"))?)])
        })
    }

    fn splits_batches(&self) -> bool {
        false
    }
}
