//! The convolutions within a Glow.

use flows_core::Result;
use flows_core::nn::{Conv2d, ConvNet, Init, Scope};
use flows_core::ops::{ConvLayer, FusedActivation, Outside};

/// The deviation of the weights at the start, as published.
const DEVIATION: f64 = 0.05;

/// Convolutions 3x3, 1x1 and 3x3 with ReLU, of `inputs` channels and those of a context if there is one, with `hidden`
/// channels within. All that they give starts at these numbers, one for each channel.
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

/// A convolution with ReLU, the weight from a normal of deviation 0.05, the bias from 0.
fn layer(channels: usize, outputs: usize, kernel: usize, scope: &Scope) -> Result<ConvLayer> {
    let start = [Init::Normal(DEVIATION), Init::Zeros];
    Ok(Conv2d::starting_at([channels, outputs], kernel, start, scope)?.layer(FusedActivation::Relu))
}

/// The 3x3 convolution with a scale that sees ones around the image and starts at these numbers, one for each channel.
pub(crate) fn last_layer(channels: usize, start: Vec<f64>, scope: &Scope) -> Result<ConvLayer> {
    let ends = [channels, start.len()];
    let layer = Conv2d::starting_at(ends, 3, [Init::Zeros, Init::Values(start)], scope)?.scaled(scope)?;
    Ok(layer.outside(Outside::Ones).layer(FusedActivation::Identity))
}
