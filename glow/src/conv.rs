//! The weights of the convolutions within a Glow.

use candle_core::Tensor;
use flows_core::Result;
use flows_core::nn::{Init, Scope};
use flows_core::ops::{ConvLayer, Fused, Outside};

/// The deviation of the weights at the start, as published.
const DEVIATION: f64 = 0.05;

/// A convolution with an activation: weight (O, C, k, k) from a normal of deviation 0.05, bias (O) from 0.
pub(crate) fn layer(channels: usize, outputs: usize, kernel: usize, scope: &Scope) -> Result<ConvLayer> {
    Ok(ConvLayer {
        weight: scope.weight("weight", [outputs, channels, kernel, kernel].as_slice(), Init::Normal(DEVIATION))?,
        bias: scope.weight("bias", outputs, Init::Zeros)?,
        log_scale: None,
        outside: Outside::Zeros,
        activation: Fused::Relu,
    })
}

/// The 3x3 convolution with a scale that starts at zero and sees ones around the image.
pub(crate) fn last_layer(channels: usize, outputs: usize, scope: &Scope) -> Result<ConvLayer> {
    last_layer_from(channels, vec![0.0; outputs], scope)
}

/// The same that starts at these numbers.
pub(crate) fn last_layer_from(channels: usize, start: Vec<f64>, scope: &Scope) -> Result<ConvLayer> {
    let outputs = start.len();
    Ok(ConvLayer {
        weight: scope.weight("weight", (outputs, channels, 3, 3), Init::Zeros)?,
        bias: scope.weight("bias", outputs, Init::Values(start))?,
        log_scale: Some(scope.weight("log_scale", outputs, Init::Zeros)?),
        outside: Outside::Ones,
        activation: Fused::Identity,
    })
}

/// The weights of layers.
pub(crate) fn weights<'a>(layers: impl IntoIterator<Item = &'a ConvLayer>) -> impl Iterator<Item = &'a Tensor> {
    layers.into_iter().flat_map(|layer| [&layer.weight, &layer.bias].into_iter().chain(&layer.log_scale))
}
