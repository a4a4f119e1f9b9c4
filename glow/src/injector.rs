//! The affine injector of SRFlow.

use crate::conv::network;
use crate::coupling::GlowAffine;
use flows_core::bijectors::Elementwise;
use flows_core::nn::Scope;
use flows_core::ops::Coupled;
use flows_core::{Error, Result};
use std::sync::Arc;

/// An affine map of all channels of images of `shape` (C, H, W) that depends only on `features` channels, the context
/// (B, F, H, W) (Lugmayr et al., SRFlow, 2020, arXiv:2006.14200, equation 6).
///
/// `inverse` is `z = (x + t) s`, `s = sigmoid(max(r, -7) + 2)`, where convolutions of the features, 3x3, 1x1 and 3x3
/// with `hidden` channels, output all r, then all t; the last is initialised to zero. The weights are named as in
/// [`coupling`](crate::coupling()).
///
/// # Errors
/// When a size is 0.
pub fn injector(shape: [usize; 3], features: usize, hidden: usize, scope: &Scope) -> Result<Elementwise> {
    if shape.contains(&0) || features == 0 || hidden == 0 {
        let message = format!("an injector of {features} features into {shape:?}, {hidden} channels within");
        return Err(Error::Config(format!("{message}: give at least 1 for each")));
    }
    let network = network(features, hidden, vec![0.0; 2 * shape[0]], None, scope)?;
    Elementwise::over_channels(&shape, Arc::new(GlowAffine(Coupled::Sigmoid)), Box::new(network))
}
