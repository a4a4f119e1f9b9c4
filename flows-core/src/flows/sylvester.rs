//! The Sylvester flow.

use super::{Architecture, chain};
use crate::Result;
use crate::bijectors::{Bijector, Sylvester as SylvesterMap, SylvesterBasis};
use crate::nn::Scope;
use serde::{Deserialize, Serialize};

/// Sylvester maps (van den Berg et al., 2018).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SylvesterFlow {
    /// Number of maps.
    pub layers: usize,
    /// The basis of every map; a triangular basis is flipped from map to map.
    pub basis: SylvesterBasis,
}

impl Default for SylvesterFlow {
    fn default() -> Self {
        Self { layers: 16, basis: SylvesterBasis::Householder { reflections: 8 } }
    }
}

impl Architecture for SylvesterFlow {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        chain(self.layers, scope, |i, scope| {
            let basis = match self.basis {
                SylvesterBasis::Triangular { flip } => SylvesterBasis::Triangular { flip: flip != (i % 2 == 1) },
                // The paper's numbers are for 64 dimensions; a basis has at most as many columns as dimensions.
                SylvesterBasis::Orthogonal { columns } => SylvesterBasis::Orthogonal { columns: columns.min(features) },
                basis => basis,
            };
            Ok(vec![Box::new(SylvesterMap::new(features, basis, context, scope)?)])
        })
    }
}
