//! Planar and radial flows.

use super::{Architecture, chain};
use crate::Result;
use crate::bijectors::{Bijector, Planar as PlanarMap, Radial as RadialMap};
use crate::nn::Scope;
use serde::{Deserialize, Serialize};

/// Planar maps (Rezende and Mohamed, 2015).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Planar {
    /// Number of maps.
    pub layers: usize,
}

impl Default for Planar {
    fn default() -> Self {
        Self { layers: 32 }
    }
}

impl Architecture for Planar {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        chain(self.layers, scope, |_, scope| Ok(vec![Box::new(PlanarMap::new(features, context, scope)?)]))
    }
}

/// Radial maps (Rezende and Mohamed, 2015).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Radial {
    /// Number of maps.
    pub layers: usize,
}

impl Default for Radial {
    fn default() -> Self {
        Self { layers: 32 }
    }
}

impl Architecture for Radial {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        chain(self.layers, scope, |_, scope| Ok(vec![Box::new(RadialMap::new(features, context, scope)?)]))
    }
}
