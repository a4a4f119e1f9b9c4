//! Variational dequantization.

use crate::encoder::Features;
use crate::{CouplingKind, Dequantizer, Encoder, GlowConfig, coupling, normal_prior};
use flows_core::bijectors::univariate::Fixed;
use flows_core::bijectors::{Bijector, Chain, Conv1x1, Elementwise, Embed, Squeeze, Start};
use flows_core::nn::Scope;
use flows_core::{Error, Result};
use std::sync::Arc;

/// The bijection between normal noise (4C, H/2, W/2) and dequantization noise in (0, 1) of an image (C, H, W), which
/// is its context: a normal distribution and couplings, both conditioned on features of the image, then a sigmoid (Ho
/// et al., Flow++, 2019, arXiv:1902.00275, section 3.1). The tensors are `encoder`, `normal`, `K.mix` and `K.coupling`.
///
/// # Errors
/// When the config has no dequantizer or an invalid size.
pub fn dequantizer(config: &GlowConfig, scope: &Scope) -> Result<Box<dyn Bijector>> {
    config.check()?;
    let Some(Dequantizer { steps, hidden, features, blocks }) = config.dequantizer else {
        return Err(Error::Config("this Glow has no `dequantizer`".into()));
    };
    let shape = config.level_shape(0);
    let [_, height, width] = shape;
    let encoder = Encoder::new(config.shape, features, blocks, &[[height, width]], &scope.enter("encoder"))?;
    let mut chain: Vec<Box<dyn Bijector>> = vec![Box::new(normal_prior(shape, features, &scope.enter("normal"))?)];
    for k in 0..steps {
        let scope = scope.enter(k);
        chain.push(Box::new(Conv1x1::lu(&shape, Start::Random, &scope.enter("mix"))?));
        let (affine, features, scope) = (CouplingKind::Affine, Some(features), scope.enter("coupling"));
        chain.push(Box::new(coupling(shape, affine, hidden, features, &scope)?));
    }
    chain.push(Box::new(Squeeze::new(&config.shape, 2)?));
    chain.push(Box::new(Elementwise::new(&config.shape, Arc::new(Fixed::Sigmoid), scope)?));
    let given = Embed::new(Box::new(Features::new(0, [features, height, width])), Box::new(Chain::new(chain)?));
    Ok(Box::new(Embed::new(Box::new(encoder), Box::new(given))))
}
