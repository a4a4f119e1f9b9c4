//! Convolutions as compositions of candle's operations, for other devices and as the tests' reference.

use super::{Convolution, Geometry};
use crate::Result;
use candle_core::Tensor;

pub(super) fn plain(convolution: &Convolution, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let geometry = &convolution.geometry;
    let y = if convolution.transposed { transposed(geometry, x, weight)? } else { forward(geometry, x, weight)? };
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1))?)?,
        None => y,
    };
    convolution.activation.plain(y.reshape(convolution.shape(x.rank()))?)
}

/// The sum over taps of the product with the positions that the tap sees; (B, O, H' W').
fn forward(geometry: &Geometry, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let Geometry { batch, inputs, outputs, input, output, kernel, stride, padding, dilation } = *geometry;
    let mut padded = x.reshape((batch, inputs, input[0], input[1]))?;
    for side in [0, 1] {
        padded = padded.pad_with_zeros(2 + side, padding[side], padding[side])?;
    }
    let weight = weight.reshape((outputs, inputs, geometry.taps()))?;
    let mut y: Option<Tensor> = None;
    for tap in 0..geometry.taps() {
        let mut seen = padded.clone();
        for (side, at) in [(0, tap / kernel[1]), (1, tap % kernel[1])] {
            let positions = (0..output[side]).map(|position| (position * stride[side] + at * dilation[side]) as u32);
            let positions = Tensor::from_vec(positions.collect::<Vec<_>>(), output[side], x.device())?;
            seen = seen.index_select(&positions, 2 + side)?;
        }
        let seen = seen.reshape((batch, inputs, geometry.output_positions()))?;
        let term = weight.narrow(2, tap, 1)?.squeeze(2)?.broadcast_matmul(&seen)?;
        y = Some(match y {
            Some(y) => (y + term)?,
            None => term,
        });
    }
    y.ok_or_else(|| crate::Error::Config("a convolution with an empty kernel: give at least one tap".into()))
}

/// The convolution, of stride 1 and with mirrored taps, of the input with zeros between its positions; (B, C, H' W').
fn transposed(geometry: &Geometry, y: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let Geometry { batch, inputs, outputs, input, output, kernel, stride, padding, .. } = *geometry;
    let mut spread = y.reshape((batch, outputs, output[0], output[1]))?;
    let mut weight = weight.reshape((outputs, inputs, kernel[0], kernel[1]))?.transpose(0, 1)?.contiguous()?;
    for side in [0, 1] {
        let axis = 2 + side;
        let mut split = spread.dims().to_vec();
        split.insert(axis + 1, 1);
        let last = (output[side] - 1) * stride[side] + 1;
        spread = spread.reshape(split)?.pad_with_zeros(axis + 1, 0, stride[side] - 1)?.flatten(axis, axis + 1)?;
        spread = spread.narrow(axis, 0, last)?;
        let mirrored = Tensor::from_vec((0..kernel[side] as u32).rev().collect(), kernel[side], y.device())?;
        weight = weight.index_select(&mirrored, axis)?;
    }
    let reach = [kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1]];
    let adjoint = Geometry {
        inputs: outputs,
        outputs: inputs,
        input: [spread.dim(2)?, spread.dim(3)?],
        output: input,
        stride: [1; 2],
        padding: reach,
        ..*geometry
    };
    forward(&adjoint, &spread, &weight)
}
