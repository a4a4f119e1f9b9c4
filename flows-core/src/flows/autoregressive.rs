//! Autoregressive flows: MAF, IAF and the autoregressive neural spline flow.

use super::{Architecture, chain};
use crate::bijectors::univariate::{Affine, Inverted, RqSpline, Univariate};
use crate::bijectors::{Autoregressive, BatchNorm, Bijector, Inverse, LuLinear, Order, Start};
use crate::nn::{NetworkConfig, Scope};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The order of the dimensions in layer `layer`: alternately their own and the reverse.
pub(super) fn order(layer: usize, features: usize) -> Option<Vec<usize>> {
    (layer % 2 == 1).then(|| (0..features).rev().collect())
}

/// MAF: masked autoregressive affine layers, with the order reversed from one to the next
/// (Papamakarios et al., 2017). Density evaluation is one pass; sampling is sequential in the dimensions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Maf {
    /// Number of autoregressive layers.
    pub layers: usize,
    /// The masked network.
    pub network: NetworkConfig,
    /// Whether a batch-norm layer precedes each autoregressive layer.
    pub batch_norm: bool,
    /// Bound on the log-scale of one layer.
    pub max_log_scale: f64,
}

impl Default for Maf {
    fn default() -> Self {
        Self { layers: 5, network: NetworkConfig::mlp([100]), batch_norm: true, max_log_scale: 5.0 }
    }
}

impl Architecture for Maf {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        let univariate: Arc<dyn Univariate> = Arc::new(Affine::bounded(self.max_log_scale)?);
        chain(self.layers, scope, |i, scope| {
            let mut steps: Vec<Box<dyn Bijector>> = Vec::new();
            if self.batch_norm {
                steps.push(Box::new(BatchNorm::new(&[features], 0.1, &scope.enter("norm"))?));
            }
            let order = order(i, features);
            steps.push(Box::new(Autoregressive::new(
                features,
                univariate.clone(),
                context,
                order,
                &self.network,
                scope,
            )?));
            Ok(steps)
        })
    }

    fn splits_batches(&self) -> bool {
        !self.batch_norm
    }
}

/// IAF: the inverse of masked autoregressive affine layers (Kingma et al., 2016). Sampling is one
/// pass; the density of points that the flow did not sample is sequential in the dimensions.
///
/// A layer is `x = (z - t) e^-s`, or with [`Self::gate`] `x = g z + (1 - g) t`; s, t and g of a
/// dimension depend on z in the preceding dimensions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Iaf {
    /// Number of autoregressive layers.
    pub layers: usize,
    /// The masked network.
    pub network: NetworkConfig,
    /// Bound on the log-scale of one layer without a gate.
    pub max_log_scale: f64,
    /// If set, use the paper's numerically stable layer, whose gate g is the sigmoid of this number plus the network's
    /// output; the paper uses 1 or 2, so that the gate starts open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<f64>,
}

impl Default for Iaf {
    fn default() -> Self {
        Self { layers: 4, network: NetworkConfig::mlp([320, 320]), max_log_scale: 5.0, gate: None }
    }
}

impl Architecture for Iaf {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        let univariate: Arc<dyn Univariate> = match self.gate {
            None => Arc::new(Affine::bounded(self.max_log_scale)?),
            Some(offset) if offset.is_finite() => Arc::new(Inverted(Affine::gated(offset))),
            Some(offset) => return Err(Error::Config(format!("a `gate` of {offset}: set it to 1 or 2"))),
        };
        chain(self.layers, scope, |i, scope| {
            let order = order(i, features);
            let layer = Autoregressive::new(features, univariate.clone(), context, order, &self.network, scope)?;
            Ok(vec![Box::new(Inverse(Box::new(layer)))])
        })
    }
}

/// The autoregressive neural spline flow, RQ-NSF (AR) (Durkan et al., 2019); as in [`Nsf`](super::Nsf),
/// raw widths and heights are not divided by the square root of the hidden units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NsfAutoregressive {
    /// Number of autoregressive layers.
    pub layers: usize,
    /// The masked network.
    pub network: NetworkConfig,
    /// Number of bins of each spline.
    pub bins: usize,
    /// The splines act on [-bound, bound].
    pub bound: f64,
    /// Whether there are linear maps with random permutations between the layers; otherwise the order is reversed
    /// from layer to layer.
    pub linear: bool,
}

impl Default for NsfAutoregressive {
    fn default() -> Self {
        Self { layers: 10, network: NetworkConfig::residual(256, 2), bins: 8, bound: 3.0, linear: true }
    }
}

impl Architecture for NsfAutoregressive {
    fn bijector(&self, features: usize, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
        let univariate: Arc<dyn Univariate> = Arc::new(RqSpline::linear_tails(self.bins, self.bound)?);
        chain(self.layers, scope, |i, scope| {
            let order = if self.linear { None } else { order(i, features) };
            let layer = Autoregressive::new(features, univariate.clone(), context, order, &self.network, scope)?;
            let mut steps: Vec<Box<dyn Bijector>> = vec![Box::new(layer)];
            if self.linear && features > 1 {
                let scope = scope.enter("linear");
                steps.push(Box::new(LuLinear::new(features, Start::Identity, Some(Order::Random), &scope)?));
            }
            Ok(steps)
        })
    }
}
