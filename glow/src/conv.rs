//! The convolutional networks of a Glow.

use flows_core::Result;
use flows_core::nn::{Conv2d, ConvNet, Init, Scope};
use flows_core::ops::{ConvLayer, FusedActivation, Outside};

/// The standard deviation of the initial weights, as published.
const DEVIATION: f64 = 0.05;

/// Convolutions 3x3, 1x1 and 3x3 with ReLU, from `inputs` channels and those of a context if there is one, with
/// `hidden` channels. The outputs are initially `start`, one number per channel.
///
/// Weights: `0.weight`, `0.bias`, `1.weight`, `1.bias`, `2.weight`, `2.bias`, `2.log_scale`.
pub(crate) fn network(
    inputs: usize,
    hidden: usize,
    start: Vec<f64>,
    context: Option<usize>,
    scope: &Scope,
) -> Result<ConvNet> {
    let layers = vec![
        layer(inputs + context.unwrap_or(0), hidden, 3, &scope.enter(0))?,
        layer(hidden, hidden, 1, &scope.enter(1))?,
        last_layer(hidden, start, &scope.enter(2))?,
    ];
    Ok(ConvNet::new(layers, context))
}

/// A convolution with ReLU, with weights initialised from a normal of standard deviation 0.05 and biases from 0.
fn layer(channels: usize, outputs: usize, kernel: usize, scope: &Scope) -> Result<ConvLayer> {
    let start = [Init::Normal(DEVIATION), Init::Zeros];
    Ok(Conv2d::starting_at([channels, outputs], kernel, start, scope)?.layer(FusedActivation::Relu))
}

/// The 3x3 convolution with a scale, padded with ones, whose outputs are initially `start`, one number per channel.
pub(crate) fn last_layer(channels: usize, start: Vec<f64>, scope: &Scope) -> Result<ConvLayer> {
    let ends = [channels, start.len()];
    let layer = Conv2d::starting_at(ends, 3, [Init::Zeros, Init::Values(start)], scope)?.scaled(scope)?;
    Ok(layer.outside(Outside::Ones).layer(FusedActivation::Identity))
}
