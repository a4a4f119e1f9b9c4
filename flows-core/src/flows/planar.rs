//! Planar and radial flows.

use super::{Architecture, chain};
use crate::Result;
use crate::bijectors::{Bijector, Planar as PlanarMap, Radial as RadialMap};
use crate::nn::Scope;
use serde::{Deserialize, Serialize};

/// Planar maps (Rezende and Mohamed, 2015).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanarFlow {
    /// Number of maps.
    pub layers: usize,
}

impl Default for PlanarFlow {
    fn default() -> Self {
        Self { layers: 32 }
    }
}

impl Architecture for PlanarFlow {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        chain(self.layers, scope, |_, scope| Ok(vec![Box::new(PlanarMap::new(features, context, scope)?)]))
    }
}

/// Radial maps (Rezende and Mohamed, 2015).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RadialFlow {
    /// Number of maps.
    pub layers: usize,
}

impl Default for RadialFlow {
    fn default() -> Self {
        Self { layers: 32 }
    }
}

impl Architecture for RadialFlow {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        chain(self.layers, scope, |_, scope| Ok(vec![Box::new(RadialMap::new(features, context, scope)?)]))
    }
}
