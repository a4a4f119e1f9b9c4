//! Gaussianization: alternating element-wise maps and rotations.

use super::{Architecture, chain};
use crate::Result;
use crate::bijectors::univariate::{RqSpline, Univariate};
use crate::bijectors::{Bijector, Elementwise, Orthogonal, Start};
use crate::nn::{NetworkConfig, Scope};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Alternating element-wise rational-quadratic splines and trained rotations (Meng et al.,
/// Gaussianization Flows, 2020, with splines in place of mixtures of logistics).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gaussianization {
    /// Number of spline layers, each with a rotation.
    pub layers: usize,
    /// Number of bins of each spline.
    pub bins: usize,
    /// The splines act on [-bound, bound].
    pub bound: f64,
    /// The network that maps the context, if there is one, to the splines' parameters.
    pub network: NetworkConfig,
}

impl Default for Gaussianization {
    fn default() -> Self {
        Self { layers: 8, bins: 16, bound: 4.0, network: NetworkConfig::mlp([64, 64]) }
    }
}

impl Architecture for Gaussianization {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        let spline: Arc<dyn Univariate> = Arc::new(RqSpline::linear_tails(self.bins, self.bound)?);
        chain(self.layers, scope, |_, scope| {
            let map = match context {
                Some(width) => Elementwise::conditional(
                    &[features],
                    spline.clone(),
                    width,
                    &self.network,
                    &scope.enter("splines"),
                )?,
                None => Elementwise::new(&[features], spline.clone(), &scope.enter("splines"))?,
            };
            let mut steps: Vec<Box<dyn Bijector>> = vec![Box::new(map)];
            if features > 1 {
                steps.push(Box::new(Orthogonal::new(features, Start::Random, &scope.enter("rotation"))?));
            }
            Ok(steps)
        })
    }
}
