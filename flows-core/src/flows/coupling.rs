//! Coupling flows: NICE, RealNVP and the neural spline flow.

use super::{Architecture, chain};
use crate::Result;
use crate::bijectors::univariate::{Additive, Affine, RqSpline, Univariate};
use crate::bijectors::{Bijector, Coupling, Elementwise, LuLinear, Mask, Order, Start};
use crate::nn::{NetworkConfig, Scope};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// NICE: additive couplings and a scale for each dimension (Dinh et al., 2014). The default suits
/// tabular data; [`Nice::mnist`] has the paper's sizes for MNIST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nice {
    /// Number of couplings, with alternating halves.
    pub layers: usize,
    /// The conditioner.
    pub network: NetworkConfig,
}

impl Nice {
    /// The sizes that the authors published for MNIST: four couplings, each with five hidden layers of
    /// 1,000 ReLU units. The authors' halves are the even and odd pixels, and their base is logistic; here
    /// the halves are the first and last pixels, and the base is normal.
    pub fn mnist() -> Self {
        Self { layers: 4, network: NetworkConfig::mlp([1000; 5]) }
    }
}

impl Default for Nice {
    fn default() -> Self {
        Self { layers: 4, network: NetworkConfig::mlp([128, 128]) }
    }
}

impl Architecture for Nice {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        let scale: Arc<dyn Univariate> = Arc::new(Affine::default());
        chain(self.layers, scope, |i, scope| {
            let mut steps: Vec<Box<dyn Bijector>> = Vec::new();
            if i == 0 {
                // The only layer that does not preserve volume.
                steps.push(Box::new(Elementwise::new(&[features], scale.clone(), &scope.enter("scale"))?));
            }
            let mask = Mask::Halves { swap: i % 2 == 1 };
            let univariate: Arc<dyn Univariate> = Arc::new(Additive);
            steps.push(Box::new(Coupling::new(&[features], &mask, univariate, context, &self.network, scope)?));
            Ok(steps)
        })
    }
}

/// RealNVP: affine couplings (Dinh et al., 2016).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RealNvp {
    /// Number of couplings, with alternating masks.
    pub layers: usize,
    /// The conditioner.
    pub network: NetworkConfig,
    /// Bound on the log-scale of one coupling.
    pub max_log_scale: f64,
}

impl Default for RealNvp {
    fn default() -> Self {
        Self { layers: 10, network: NetworkConfig::mlp([100, 100]), max_log_scale: 5.0 }
    }
}

impl Architecture for RealNvp {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        let univariate: Arc<dyn Univariate> = Arc::new(Affine::bounded(self.max_log_scale)?);
        chain(self.layers, scope, |i, scope| {
            let mask = Mask::Alternating { odd: i % 2 == 1 };
            Ok(vec![Box::new(Coupling::new(&[features], &mask, univariate.clone(), context, &self.network, scope)?)])
        })
    }
}

/// The neural spline flow with couplings, RQ-NSF (C) (Durkan et al., 2019): `layers` times a linear map in LU
/// form with a random permutation and a spline coupling whose identity half has unconditional splines, then a final
/// linear map.
///
/// The authors' code divides the raw widths and heights by the square root of the number of hidden units,
/// which is omitted here: the family of flows is the same, but the networks' last layers learn faster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nsf {
    /// Number of couplings.
    pub layers: usize,
    /// The conditioner.
    pub network: NetworkConfig,
    /// Number of bins of each spline.
    pub bins: usize,
    /// The splines act on [-bound, bound].
    pub bound: f64,
    /// Whether there are linear maps between the couplings.
    pub linear: bool,
}

impl Default for Nsf {
    fn default() -> Self {
        Self { layers: 10, network: NetworkConfig::residual(256, 2), bins: 8, bound: 3.0, linear: true }
    }
}

impl Architecture for Nsf {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        let univariate: Arc<dyn Univariate> = Arc::new(RqSpline::linear_tails(self.bins, self.bound)?);
        let linear = |scope: &Scope| -> Result<Box<dyn Bijector>> {
            Ok(Box::new(LuLinear::new(features, Start::Identity, Some(Order::Random), &scope.enter("linear"))?))
        };
        chain(self.layers, scope, |i, scope| {
            let mut steps: Vec<Box<dyn Bijector>> = Vec::new();
            let linear_here = self.linear && features > 1;
            if linear_here && i == 0 {
                steps.push(linear(&scope.enter("first"))?);
            }
            let mask = Mask::Alternating { odd: i % 2 == 1 };
            let coupling = Coupling::new(&[features], &mask, univariate.clone(), context, &self.network, scope)?;
            steps.push(Box::new(coupling.with_kept_map(univariate.clone(), scope)?));
            if linear_here {
                steps.push(linear(scope)?);
            }
            Ok(steps)
        })
    }
}
