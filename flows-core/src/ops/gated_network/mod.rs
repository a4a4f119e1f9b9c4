//! Networks of dilated, gated convolutions as one operation: one node of the graph, with a hand-written backward pass.

mod kernel;
mod tiles;
mod winograd;

use super::accumulate::gradient_of;
use super::activation::FusedActivation;
use super::cpu::{Real, with_slices};
use super::many::{BackwardMany, Gradients, apply_many};
use super::{conv1d, gated_tanh_sigmoid};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use kernel::{Kept, Layer, LayerGradients, NetworkGradients, Sizes};
use tiles::Tiling;

/// A layer of a [`gated_network`].
#[derive(Clone, Debug)]
pub struct GatedLayer {
    /// The weights D of the dilated convolution, (2C, C, taps) with odd taps.
    pub dilated: Tensor,
    /// Its bias, (2C).
    pub dilated_bias: Tensor,
    /// The weights R of what leaves the layer, (2C, C, 1): C residual channels, then C skip channels; in the last layer
    /// the skip channels alone.
    pub output: Tensor,
    /// Its bias.
    pub output_bias: Tensor,
    /// The distance between adjacent taps.
    pub dilation: usize,
}

/// The layers of a network of gated convolutions (WaveNet, van den Oord et al., 2016, arXiv:1609.03499, as in WaveGlow,
/// Prenger et al., 2018, arXiv:1811.00002).
#[derive(Clone, Debug)]
pub struct GatedNetwork {
    /// The layers.
    pub layers: Vec<GatedLayer>,
    /// The weights of the condition, (2C L, K, 1), those of the L layers one after another, and its bias, (2C L).
    pub condition: Option<[Tensor; 2]>,
}

/// The sum of the skip connections, (B, C, T), for x (B, C, T) and a condition c (B, K, T) if the network has one. In
/// each layer `(a, b) = D * h + W c`, `(r, s) = R (tanh(a) sigmoid(b))` and `h <- h + r`, beginning with `h = x`; the
/// result is the sum of the s.
///
/// # Errors
/// When shapes or types do not agree, or `x` is empty.
pub fn gated_network(x: &Tensor, condition: Option<&Tensor>, network: GatedNetwork) -> Result<Tensor> {
    let channels = check(x, condition, &network)?;
    if !(x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)) {
        return composed(x, condition, &network, channels);
    }
    let (x, network) = (x.contiguous()?, network.contiguous()?);
    let condition = match condition {
        Some(condition) => condition.contiguous()?,
        None => Tensor::zeros(0, x.dtype(), x.device())?,
    };
    Ok(match x.dtype() {
        DType::F32 => fused::<f32>(&x, &condition, network)?,
        _ => fused::<f64>(&x, &condition, network)?,
    })
}

fn check(x: &Tensor, condition: Option<&Tensor>, network: &GatedNetwork) -> Result<usize> {
    let [batch, channels, positions] = match *x.dims() {
        [batch, channels, positions] if x.elem_count() > 0 => [batch, channels, positions],
        ref got => return Err(Error::shape("the input of a gated network", got, "(B, C, T), none of them 0")),
    };
    let count = network.layers.len();
    if count == 0 {
        return Err(Error::Config("a gated network without layers: give at least one".into()));
    }
    let expect = |what: &str, t: &Tensor, want: &[usize]| match t.dims() == want && t.dtype() == x.dtype() {
        true => Ok(()),
        false => Err(Error::shape(what, t.dims(), format!("{want:?} of type {:?}", x.dtype()))),
    };
    for (i, layer) in network.layers.iter().enumerate() {
        let taps = layer.dilated.dims().get(2).copied().unwrap_or(1);
        // Far beyond any signal, and within what positions are counted in.
        if taps.is_multiple_of(2) || !(1..=1 << 30).contains(&layer.dilation) || taps > 1 << 20 {
            let message = format!("a gated layer of {taps} taps with dilation {}: give an odd number", layer.dilation);
            return Err(Error::Config(format!("{message} of taps up to 2^20 and a dilation from 1 to 2^30")));
        }
        let made = if i + 1 == count { channels } else { 2 * channels };
        expect("the weights of a gated layer", &layer.dilated, &[2 * channels, channels, taps])?;
        expect("the bias of a gated layer", &layer.dilated_bias, &[2 * channels])?;
        expect("the output weights of a gated layer", &layer.output, &[made, channels, 1])?;
        expect("the output bias of a gated layer", &layer.output_bias, &[made])?;
    }
    match (condition, &network.condition) {
        (None, None) => {}
        (Some(condition), Some([weight, bias])) => {
            let width = weight.dims().get(1).copied().unwrap_or(0);
            expect("the context", condition, &[batch, width, positions])?;
            expect("the weights of the context", weight, &[2 * channels * count, width, 1])?;
            expect("the bias of the context", bias, &[2 * channels * count])?;
        }
        (None, Some(_)) => {
            return Err(Error::Config("this network is conditional: give a context, one row for each signal".into()));
        }
        (Some(_), None) => {
            return Err(Error::Config("this network has no weights for a context: omit it".into()));
        }
    }
    Ok(channels)
}

/// The same as a composition of other operations, for other devices and as the tests' reference.
fn composed(x: &Tensor, condition: Option<&Tensor>, network: &GatedNetwork, c: usize) -> Result<Tensor> {
    let identity = FusedActivation::Identity;
    let condition = match (condition, &network.condition) {
        (Some(condition), Some([weight, bias])) => Some(conv1d(condition, weight, Some(bias), 1, 0, 1, identity)?),
        _ => None,
    };
    let mut h = x.clone();
    let mut sum: Option<Tensor> = None;
    for (i, layer) in network.layers.iter().enumerate() {
        let padding = (layer.dilated.dim(2)? - 1) / 2 * layer.dilation;
        let bias = Some(&layer.dilated_bias);
        let mut units = match padding <= x.dim(2)? {
            true => conv1d(&h, &layer.dilated, bias, 1, padding, layer.dilation, identity)?,
            // A convolution refuses signals much shorter than its kernel.
            false => {
                let h = h.pad_with_zeros(2, padding, padding)?;
                conv1d(&h, &layer.dilated, bias, 1, 0, layer.dilation, identity)?
            }
        };
        if let Some(condition) = &condition {
            units = (units + condition.narrow(1, 2 * c * i, 2 * c)?)?;
        }
        let both = conv1d(&gated_tanh_sigmoid(&units)?, &layer.output, Some(&layer.output_bias), 1, 0, 1, identity)?;
        let skip = if i + 1 == network.layers.len() {
            both
        } else {
            h = (h + both.narrow(1, 0, c)?)?;
            both.narrow(1, c, c)?
        };
        sum = Some(match sum {
            None => skip,
            Some(sum) => (sum + skip)?,
        });
    }
    // A network has layers.
    sum.ok_or_else(|| Error::Internal("a gated network without layers".into()))
}

impl GatedNetwork {
    fn contiguous(self) -> Result<Self> {
        let layer = |layer: GatedLayer| -> Result<GatedLayer> {
            Ok(GatedLayer {
                dilated: layer.dilated.contiguous()?,
                dilated_bias: layer.dilated_bias.contiguous()?,
                output: layer.output.contiguous()?,
                output_bias: layer.output_bias.contiguous()?,
                dilation: layer.dilation,
            })
        };
        let condition = match self.condition {
            Some([weight, bias]) => Some([weight.contiguous()?, bias.contiguous()?]),
            None => None,
        };
        Ok(Self { layers: self.layers.into_iter().map(layer).collect::<Result<_>>()?, condition })
    }

    /// All weights: those of each layer, then those of the condition.
    fn weights(&self) -> Vec<Tensor> {
        let of_layers =
            self.layers.iter().flat_map(|l| [&l.dilated, &l.dilated_bias, &l.output, &l.output_bias]).cloned();
        of_layers.chain(self.condition.iter().flatten().cloned()).collect()
    }

    /// Calls `f` with the layers as slices.
    fn with_layers<T: Real, R>(&self, c: usize, f: impl FnOnce(&[Layer<'_, T>]) -> R) -> candle_core::Result<R> {
        let weights = self.weights();
        with_slices(&weights, |slices: &[&[T]]| {
            let zeros = vec![T::zero(); 2 * c];
            let of_condition = &slices[4 * self.layers.len()..];
            let layer = |(i, layer): (usize, &GatedLayer)| {
                let &[dilated, dilated_bias, output, output_bias] = &slices[4 * i..4 * i + 4] else {
                    unreachable!("a layer has four weights")
                };
                let (condition, condition_bias) = match of_condition {
                    [weight, bias] => {
                        let rows = weight.len() / self.layers.len();
                        (&weight[i * rows..(i + 1) * rows], &bias[2 * c * i..2 * c * (i + 1)])
                    }
                    _ => (&[][..], &zeros[..]),
                };
                let taps = dilated.len() / (2 * c * c);
                let dilation = layer.dilation;
                Layer { dilated, dilated_bias, condition, condition_bias, output, output_bias, taps, dilation }
            };
            let layers: Vec<_> = self.layers.iter().enumerate().map(layer).collect();
            f(&layers)
        })
    }
}

fn fused<T: Real>(x: &Tensor, condition: &Tensor, network: GatedNetwork) -> candle_core::Result<Tensor> {
    let weights = network.weights();
    let (batch, channels, positions) = x.dims3()?;
    let keeps = [x, condition].into_iter().chain(&weights).any(Tensor::track_op);
    let sizes = Sizes { channels, condition: condition.elem_count() / (batch * positions) };
    let tiling = Tiling::new(batch, positions);
    let (sum, condition_tiles, kept) = with_slices(&[x.clone(), condition.clone()], |slices: &[&[T]]| {
        let condition = tiling.split(slices[1], sizes.condition);
        let x = tiling.split(slices[0], channels);
        network.with_layers(channels, |layers| {
            let (sum, kept) = kernel::forward(tiling, sizes, layers, x, &condition, keeps);
            (tiling.join(&sum, channels), condition, kept)
        })
    })??;
    if !keeps {
        return T::tensor(sum, x.shape());
    }
    let backward = Fused { network, tiling, sizes, condition: condition_tiles, kept };
    apply_many((T::storage(sum), x.shape().clone()), [x, condition], &weights, backward)
}

struct Fused<T> {
    network: GatedNetwork,
    tiling: Tiling,
    sizes: Sizes,
    /// The condition by tiles.
    condition: Vec<Vec<T>>,
    kept: Vec<Kept<T>>,
}

impl<T: Real> BackwardMany for Fused<T> {
    const NAME: &'static str = "gated-network";

    fn gradients(&self, [x, condition]: [&Tensor; 2], _: &Tensor, grad: &Tensor) -> candle_core::Result<Gradients> {
        let Self { network, tiling, sizes, .. } = self;
        let c = sizes.channels;
        let of_sum = with_slices(&[grad.contiguous()?], |slices: &[&[T]]| tiling.split(slices[0], c))?;
        let NetworkGradients { x: of_x, condition: of_condition, layers: of_layers } = network
            .with_layers(c, |layers| kernel::backward(*tiling, *sizes, layers, &self.kept, &self.condition, &of_sum))?;
        let mut further = Vec::new();
        let (mut condition_weights, mut condition_biases) = (Vec::new(), Vec::new());
        for (layer, gradients) in network.layers.iter().zip(of_layers) {
            let LayerGradients { dilated, condition, output, units_bias, output_bias } = gradients;
            condition_weights.extend(condition);
            condition_biases.extend_from_slice(&units_bias);
            further.push(gradient_of(&layer.dilated, dilated)?);
            further.push(gradient_of(&layer.dilated_bias, units_bias)?);
            further.push(gradient_of(&layer.output, output)?);
            further.push(gradient_of(&layer.output_bias, output_bias)?);
        }
        if let Some([weight, bias]) = &network.condition {
            further.push(gradient_of(weight, condition_weights)?);
            further.push(gradient_of(bias, condition_biases)?);
        }
        let input = |tensor: &Tensor, tiles: &[Vec<T>], rows: usize| match tensor.track_op() {
            true => T::tensor(tiling.join(tiles, rows), tensor.shape()).map(Some),
            false => Ok(None),
        };
        let inputs = [input(x, &of_x, c)?, input(condition, &of_condition, sizes.condition)?];
        Ok(Gradients { inputs, further })
    }
}

#[cfg(test)]
mod tests;
