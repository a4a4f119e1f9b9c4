//! Networks of convolutions as one operation: one node of the graph, with a hand-written backward pass.

use super::super::accumulate::gradient_of;
use super::super::activation::FusedActivation;
use super::super::cpu::{Real, with_slice};
use super::super::elements;
use super::super::many::{BackwardMany, Gradients, apply_many};
use super::super::operation::with_elements;
use super::geometry::Geometry;
use super::kernels::{self, Finish};
use super::{Convolution, axis, mismatch};
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};
use rayon::prelude::*;

/// The values that a convolution sees outside the image or signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Zeros.
    Zeros,
    /// Ones, which mark the border.
    Ones,
}

/// A layer of a [`conv_network`]: `f((w * x + b) exp(3 log_scale))` with the convolution of
/// [`conv2d`](super::conv2d) or [`conv1d`](super::conv1d).
#[derive(Clone, Debug)]
pub struct ConvLayer {
    /// (O, C, kh, kw) for images, (O, C, k) for signals.
    pub weight: Tensor,
    /// (O).
    pub bias: Tensor,
    /// (O), if the layer has a scale.
    pub log_scale: Option<Tensor>,
    /// The distance in the input between adjacent positions of the output.
    pub stride: usize,
    /// The width of the padding on each side.
    pub padding: usize,
    /// The distance in the input between adjacent taps of the kernel.
    pub dilation: usize,
    /// The values of the padding.
    pub outside: Outside,
    /// f, the identity if the layer has a scale.
    pub activation: FusedActivation,
}

/// The layers, one after another, applied to images (B, C, H, W) or signals (B, C, T): (B, O, H', W') or (B, O, T').
///
/// # Errors
/// When shapes or types do not agree, when a layer has both a scale and an activation, and as for
/// [`conv2d`](super::conv2d) and [`conv1d`](super::conv1d).
pub fn conv_network(x: &Tensor, layers: Vec<ConvLayer>) -> Result<Tensor> {
    let geometries = check(x, &layers)?;
    if !(x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)) {
        return composed(x, &layers, &geometries);
    }
    let layers = layers.into_iter().map(ConvLayer::contiguous).collect::<Result<Vec<_>>>()?;
    let x = x.contiguous()?;
    Ok(match x.dtype() {
        DType::F32 => fused::<f32>(&x, layers, geometries)?,
        _ => fused::<f64>(&x, layers, geometries)?,
    })
}

fn fused<T: Real>(x: &Tensor, layers: Vec<ConvLayer>, geometries: Vec<Geometry>) -> candle_core::Result<Tensor> {
    let weights: Vec<Tensor> = layers.iter().flat_map(ConvLayer::weights).cloned().collect();
    let keeps = x.track_op() || weights.iter().any(Tensor::track_op);
    let (y, kept) = with_slice(x, |x| evaluate::<T>(&layers, &geometries, x, keeps))??;
    let mut shape = x.dims().to_vec();
    if let Some(Geometry { outputs, output: [height, width], .. }) = geometries.last() {
        let rank = shape.len();
        (shape[1], shape[2], shape[rank - 1]) = (*outputs, *height, *width);
    }
    let shape = Shape::from(shape);
    if !keeps {
        return T::tensor(y, &shape);
    }
    let nothing = Tensor::zeros(0, x.dtype(), x.device())?;
    apply_many((T::storage(y), shape), [x, &nothing], &weights, ConvNetwork { layers, geometries, kept })
}

/// The value and, if it `keeps` them, the outputs of all layers but the last.
fn evaluate<T: Real>(
    layers: &[ConvLayer],
    geometries: &[Geometry],
    x: &[T],
    keeps: bool,
) -> candle_core::Result<(Vec<T>, Vec<Vec<T>>)> {
    let (mut kept, mut last) = (Vec::new(), None::<Vec<T>>);
    for (layer, geometry) in layers.iter().zip(geometries) {
        let y = layer.evaluate(last.as_deref().unwrap_or(x), geometry)?;
        kept.extend(last.replace(y).filter(|_| keeps));
    }
    Ok((last.unwrap_or_else(|| x.to_vec()), kept))
}

fn check(x: &Tensor, layers: &[ConvLayer]) -> Result<Vec<Geometry>> {
    let (batch, mut channels, mut size) = match *x.dims() {
        [batch, channels, length] => (batch, channels, [1, length]),
        [batch, channels, height, width] => (batch, channels, [height, width]),
        ref got => return Err(Error::shape("the input of a convolution", got, "(B, C, H, W) or (B, C, T)")),
    };
    if x.elem_count() == 0 {
        return Err(Error::Data("the input of a convolution is empty: give at least one row".into()));
    }
    let is_image = x.rank() == 4;
    let sides = |value: usize, none: usize| if is_image { [value; 2] } else { [none, value] };
    let mut geometries = Vec::with_capacity(layers.len());
    for layer in layers {
        let (outputs, kernel) = match *layer.weight.dims() {
            [o, c, height, width] if is_image && c == channels && o > 0 => (o, [height, width]),
            [o, c, k] if !is_image && c == channels && o > 0 => (o, [1, k]),
            ref weight if is_image => {
                return Err(mismatch(&[batch, channels, size[0], size[1]], weight, "(B, C, H, W)", "(O, C, kh, kw)"));
            }
            ref weight => return Err(mismatch(&[batch, channels, size[1]], weight, "(B, C, T)", "(O, C, k)")),
        };
        for (what, t) in [("the bias of a convolution", Some(&layer.bias)), ("its scale", layer.log_scale.as_ref())] {
            if let Some(t) = t.filter(|t| t.dims() != [outputs]) {
                return Err(Error::shape(what, t.dims(), format!("({outputs})")));
            }
        }
        if layer.log_scale.is_some() && layer.activation != FusedActivation::Identity {
            return Err(Error::Config("a convolution has both a scale and an activation: give one of them".into()));
        }
        if let Some(other) = layer.weights().find(|t| t.dtype() != x.dtype()) {
            let message = format!("a convolution of {:?} with weights of {:?}: convert both", x.dtype(), other.dtype());
            return Err(Error::Data(message));
        }
        let (stride, padding, dilation) = (sides(layer.stride, 1), sides(layer.padding, 0), sides(layer.dilation, 1));
        let along = |side: usize| axis(size[side], kernel[side], stride[side], padding[side], dilation[side]);
        let output = [along(0)?, along(1)?];
        let padded = [0, 1].map(|side| size[side].saturating_add(padding[side].saturating_mul(2)));
        elements(&[batch, channels.max(outputs), padded[0], padded[1]])?;
        geometries.push(Geometry {
            batch,
            inputs: channels,
            outputs,
            input: size,
            output,
            kernel,
            stride,
            padding,
            dilation,
        });
        (channels, size) = (outputs, output);
    }
    Ok(geometries)
}

/// The same as a composition of other operations, for other devices and as the tests' reference.
fn composed(x: &Tensor, layers: &[ConvLayer], geometries: &[Geometry]) -> Result<Tensor> {
    layers.iter().zip(geometries).try_fold(x.clone(), |x, (layer, &geometry)| {
        let (seen, geometry) = match layer.outside {
            Outside::Zeros => (x, geometry),
            Outside::Ones => {
                let Geometry { input, padding, .. } = geometry;
                let mut framed = (x - 1.0)?;
                for (axis, side) in (2..framed.rank()).rev().zip([1, 0]) {
                    framed = framed.pad_with_zeros(axis, padding[side], padding[side])?;
                }
                let input = [0, 1].map(|side| input[side] + 2 * padding[side]);
                ((framed + 1.0)?, Geometry { input, padding: [0; 2], ..geometry })
            }
        };
        let convolution = Convolution { geometry, transposed: false, activation: layer.activation };
        let y = convolution.apply(&seen, &layer.weight, Some(&layer.bias))?;
        match &layer.log_scale {
            Some(log_scale) => {
                let along = [&[1, geometry.outputs], vec![1; y.rank() - 2].as_slice()].concat();
                Ok(y.broadcast_mul(&(log_scale * 3.0)?.exp()?.reshape(along)?)?)
            }
            None => Ok(y),
        }
    })
}

impl ConvLayer {
    fn contiguous(self) -> Result<Self> {
        let log_scale = self.log_scale.map(|t| t.contiguous()).transpose()?;
        Ok(Self { weight: self.weight.contiguous()?, bias: self.bias.contiguous()?, log_scale, ..self })
    }

    /// Weight, bias and, if there is one, the scale.
    pub fn weights(&self) -> impl Iterator<Item = &Tensor> {
        [&self.weight, &self.bias].into_iter().chain(&self.log_scale)
    }

    /// Whether the output, `(y + b + border) exp(3 log_scale)`, is more than the kernels compute.
    fn is_finished_apart(&self, geometry: &Geometry) -> bool {
        self.log_scale.is_some() || self.sees_ones(geometry)
    }

    fn sees_ones(&self, geometry: &Geometry) -> bool {
        self.outside == Outside::Ones && geometry.taps() > 1
    }

    fn evaluate<T: Real>(&self, x: &[T], geometry: &Geometry) -> candle_core::Result<Vec<T>> {
        with_slice(&self.weight, |weight: &[T]| {
            with_slice(&self.bias, |bias: &[T]| {
                if !self.is_finished_apart(geometry) {
                    let finish = Finish { bias: Some(bias), activation: self.activation };
                    return Ok(kernels::outputs(x, weight, geometry, finish));
                }
                let mut y = kernels::outputs(x, weight, geometry, Finish::NONE);
                let (scales, positions) = (self.scales::<T>()?, geometry.output_positions());
                let mut added: Vec<T> = bias.iter().flat_map(|&bias| std::iter::repeat_n(bias, positions)).collect();
                if self.sees_ones(geometry) {
                    add_border(weight, geometry, &mut added);
                }
                y.par_chunks_mut(geometry.outputs * positions).for_each(|image| {
                    for ((row, added), &scale) in image.chunks_mut(positions).zip(added.chunks(positions)).zip(&scales)
                    {
                        row.iter_mut().zip(added).for_each(|(y, &a)| *y = (*y + a) * scale);
                    }
                });
                self.activation.apply(&mut y);
                Ok(y)
            })?
        })?
    }

    /// `exp(3 log_scale)`, or 1 if there is no scale.
    fn scales<T: Real>(&self) -> candle_core::Result<Vec<T>> {
        match &self.log_scale {
            Some(log_scale) => {
                with_slice(log_scale, |s: &[T]| s.iter().map(|&s| (s * T::of(3.0)).fast_exp()).collect())
            }
            None => Ok(vec![T::one(); self.bias.elem_count()]),
        }
    }

    /// The gradients with respect to the weights and, if wanted, to x, given that with respect to the output y.
    fn gradients<T: Real>(
        &self,
        [x, y]: [&[T]; 2],
        mut g: Vec<T>,
        geometry: &Geometry,
        wanted: bool,
    ) -> candle_core::Result<(Vec<Option<Tensor>>, Vec<T>)> {
        self.activation.backward(y, &mut g);
        let positions = geometry.output_positions();
        let mut log_scale = None;
        if let Some(tensor) = &self.log_scale {
            let products: Vec<T> = g.iter().zip(y).map(|(&g, &y)| g * y).collect();
            let sums = kernels::channel_sums(&products, geometry.outputs, positions);
            log_scale = gradient_of(tensor, sums.into_iter().map(|v| v * T::of(3.0)).collect())?;
            let scales = self.scales::<T>()?;
            for (row, &scale) in g.chunks_mut(positions).zip(scales.iter().cycle()) {
                row.iter_mut().for_each(|g| *g *= scale);
            }
        }
        let of_weight = || {
            let mut part = kernels::weights(x, &g, geometry);
            if self.sees_ones(geometry) {
                add_border_gradient(&g, geometry, &mut part);
            }
            part
        };
        let of_x = || with_slice(&self.weight, |w| kernels::inputs(&g, w, geometry, Finish::NONE));
        let (gx, part) = rayon::join(|| wanted.then(of_x), || self.weight.track_op().then(of_weight));
        let weight = part.map_or(Ok(None), |part| gradient_of(&self.weight, part))?;
        let bias = gradient_of(&self.bias, kernels::channel_sums(&g, geometry.outputs, positions))?;
        let gx = gx.transpose()?.unwrap_or_default();
        let weights = [weight, bias].into_iter().chain(self.log_scale.iter().map(|_| log_scale.take())).collect();
        Ok((weights, gx))
    }
}

/// The output positions at which a tap lies outside the image.
fn outside(geometry: &Geometry, tap: usize) -> Vec<usize> {
    let Geometry { input, output: [height, width], kernel, stride, padding, dilation, .. } = *geometry;
    let taps = [tap / kernel[1], tap % kernel[1]];
    let within = |side: usize, position: usize| {
        let at = position * stride[side] + taps[side] * dilation[side];
        at >= padding[side] && at < input[side] + padding[side]
    };
    let is_outside = |row: usize, column: usize| !(within(0, row) && within(1, column));
    let positions = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
    positions.filter(|&(row, column)| is_outside(row, column)).map(|(row, column)| row * width + column).collect()
}

/// Adds the contribution of the ones outside the image to the output, (O, positions).
fn add_border<T: Real>(weight: &[T], geometry: &Geometry, added: &mut [T]) {
    let (taps, positions) = (geometry.taps(), geometry.output_positions());
    for (tap, outside) in (0..taps).map(|tap| (tap, outside(geometry, tap))) {
        for (weight, added) in weight.chunks(geometry.inputs * taps).zip(added.chunks_mut(positions)) {
            let sum: T = weight[tap..].iter().step_by(taps).copied().sum();
            outside.iter().for_each(|&position| added[position] += sum);
        }
    }
}

/// Adds the gradient with respect to the weights through [`add_border`].
fn add_border_gradient<T: Real>(g: &[T], geometry: &Geometry, sum: &mut [T]) {
    let (taps, positions, outputs) = (geometry.taps(), geometry.output_positions(), geometry.outputs);
    let mut total = vec![T::zero(); outputs * positions];
    for image in g.chunks(outputs * positions) {
        total.iter_mut().zip(image).for_each(|(t, &g)| *t += g);
    }
    for (tap, outside) in (0..taps).map(|tap| (tap, outside(geometry, tap))) {
        for (sum, total) in sum.chunks_mut(geometry.inputs * taps).zip(total.chunks(positions)) {
            let of_tap: T = outside.iter().map(|&position| total[position]).sum();
            sum[tap..].iter_mut().step_by(taps).for_each(|s| *s += of_tap);
        }
    }
}

struct ConvNetwork<T> {
    layers: Vec<ConvLayer>,
    geometries: Vec<Geometry>,
    /// The outputs of all layers but the last.
    kept: Vec<Vec<T>>,
}

impl<T: Real> BackwardMany for ConvNetwork<T> {
    const NAME: &'static str = "conv-network";

    fn gradients(&self, [x, _]: [&Tensor; 2], y: &Tensor, grad: &Tensor) -> candle_core::Result<Gradients> {
        let wants_input = x.track_op();
        let mut of_each = Vec::new();
        let g = with_elements([x, y, grad], |[x, y, grad]: [&[T]; 3]| {
            let mut g = grad.to_vec();
            for (i, (layer, geometry)) in self.layers.iter().zip(&self.geometries).enumerate().rev() {
                let from = if i == 0 { x } else { &self.kept[i - 1] };
                let to = if i == self.kept.len() { y } else { &self.kept[i] };
                let wanted = i > 0 || wants_input;
                let (weights, gx) = layer.gradients([from, to], g, geometry, wanted)?;
                of_each.push(weights);
                g = gx;
            }
            candle_core::Result::Ok(g)
        })??;
        let of_x = if wants_input { Some(T::tensor(g, x.shape())?) } else { None };
        Ok(Gradients { inputs: [of_x, None], further: of_each.into_iter().rev().flatten().collect() })
    }
}

#[cfg(test)]
mod tests;
