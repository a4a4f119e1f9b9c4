//! The neural circular spline flow, for angles.

use super::{Architecture, chain};
use crate::Result;
use crate::bijectors::univariate::{RqSpline, Univariate};
use crate::bijectors::{Bijector, Coupling, Mask};
use crate::distributions::{BoxUniform, Distribution};
use crate::nn::{NetworkConfig, Scope};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::sync::Arc;

/// Couplings of circular rational-quadratic splines on [-pi, pi) over a uniform base (Rezende et
/// al., Normalizing Flows on Tori and Spheres, 2020). The data are angles in radians, which the
/// conditioner takes unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CircularSpline {
    /// Number of couplings, with alternating masks.
    pub layers: usize,
    /// The conditioner.
    pub network: NetworkConfig,
    /// Number of bins of each spline.
    pub bins: usize,
}

impl Default for CircularSpline {
    fn default() -> Self {
        Self { layers: 6, network: NetworkConfig::mlp([64, 64]), bins: 8 }
    }
}

impl Architecture for CircularSpline {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        let univariate: Arc<dyn Univariate> = Arc::new(RqSpline::circular(self.bins, -PI, PI)?);
        chain(self.layers, scope, |i, scope| {
            let mask = Mask::Alternating { odd: i % 2 == 1 };
            Ok(vec![Box::new(Coupling::new(&[features], &mask, univariate.clone(), context, &self.network, scope)?)])
        })
    }

    fn base(&self, features: usize, scope: &Scope) -> Result<Box<dyn Distribution>> {
        let bound = Tensor::full(PI, features, scope.device())?.to_dtype(scope.dtype())?;
        Ok(Box::new(BoxUniform::new(&bound.neg()?, &bound)?))
    }

    fn is_standardized(&self) -> bool {
        false
    }
}
