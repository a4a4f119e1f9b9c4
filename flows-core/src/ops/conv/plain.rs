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

/// A product for each tap with the places that it sees; (B, O, H' W').
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
            let places = (0..output[side]).map(|place| (place * stride[side] + at * dilation[side]) as u32);
            let places = Tensor::from_vec(places.collect::<Vec<_>>(), output[side], x.device())?;
            seen = seen.index_select(&places, 2 + side)?;
        }
        let seen = seen.reshape((batch, inputs, geometry.output_places()))?;
        let term = weight.narrow(2, tap, 1)?.squeeze(2)?.broadcast_matmul(&seen)?;
        y = Some(match y {
            Some(y) => (y + term)?,
            None => term,
        });
    }
    y.ok_or_else(|| crate::Error::Config("a kernel without weights: give at least one".into()))
}

/// One product, whose columns are cut into pieces of `stride` places that follow one another; (B, C, T').
fn transposed(geometry: &Geometry, y: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let Geometry { batch, inputs, outputs, .. } = *geometry;
    let (taps, steps, stride, made) = (geometry.kernel[1], geometry.output[1], geometry.stride[1], geometry.input[1]);
    let weight = weight.reshape((outputs, inputs * taps))?.t()?.contiguous()?;
    let columns = weight.broadcast_matmul(y)?.reshape((batch, inputs, taps, steps))?;
    let pieces = taps.div_ceil(stride);
    let columns = columns.pad_with_zeros(2, 0, pieces * stride - taps)?;
    let mut x: Option<Tensor> = None;
    for piece in 0..pieces {
        let term = columns.narrow(2, piece * stride, stride)?.transpose(2, 3)?.contiguous()?;
        let term = term.pad_with_zeros(2, piece, pieces - 1 - piece)?;
        x = Some(match x {
            Some(x) => (x + term)?,
            None => term,
        });
    }
    let x = x.ok_or_else(|| crate::Error::Config("a kernel without weights: give at least one".into()))?;
    let x = x.reshape((batch, inputs, (steps + pieces - 1) * stride))?;
    // With a stride beyond the kernel the last places lie behind all pieces.
    Ok(x.narrow(2, geometry.padding[1], made)?)
}
