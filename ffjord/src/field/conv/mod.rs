//! A convolutional network as a vector field over images.
//!
//! The convolutions are [`conv2d`](flows_core::ops::conv2d) and its transpose. The layers are not those of
//! [`flows_core::nn`], because a field is evaluated with weights that are passed in, its layers depend on time, and what
//! follows a convolution maps the tangents of the divergence along with the values, by a kernel with second derivatives.

mod activation;
mod layer;

use super::{Activation, Dual, TimeLayer, VectorField};
use activation::{ActivationInputs, activate};
use candle_core::Tensor;
use flows_core::nn::{Init, Scope};
use flows_core::{Error, Result, Structure};
use layer::{Layer, Skip, Stride};
use serde::{Deserialize, Serialize};

/// The settings of a [`ConvField`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvConfig {
    /// Channels, height and width of the images; an [`ImageModel`](crate::ImageModel) sets it itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<[usize; 3]>,
    /// The numbers of channels of the hidden layers.
    pub hidden: Vec<usize>,
    /// The stride of each layer, hidden layers and the last: 1 keeps the size (kernel 3), 2 halves it (kernel 4), -2
    /// doubles it (transposed, kernel 4). All 1 if empty.
    pub strides: Vec<i32>,
    /// How the layers depend on time; [`TimeLayer::Concat`] adds t as a constant channel.
    pub layer: TimeLayer,
    /// The activation after all layers but the last.
    pub activation: Activation,
    /// Whether skip connections add the inputs of each layer of stride 2, except the first, to the outputs of the
    /// matching layer of stride -2 (Ronneberger et al. 2015).
    pub skips: bool,
    /// Whether to add `(p + q t) z` with learnt p and q to the output of the layers. Their initial values -1 and 2
    /// give the right mean velocity at both ends for standardized data that move to noise on straight lines within a
    /// time of 1.
    pub linear: bool,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self {
            shape: None,
            hidden: vec![64, 64, 64],
            strides: Vec::new(),
            layer: TimeLayer::Concat,
            activation: Activation::Softplus,
            skips: false,
            linear: false,
        }
    }
}

/// A convolutional network `f(t, z)` for images z (C, H, W) as vectors of D = C H W numbers (Grathwohl et al. 2019,
/// appendix B): its layers depend on time as [`TimeLayer`] says, with a smooth activation between them. Each number
/// of a context becomes an additional, constant channel.
#[derive(Clone, Debug)]
pub struct ConvField {
    shape: [usize; 3],
    context: usize,
    config: ConvConfig,
    layers: Vec<Layer>,
    /// p and q.
    linear: Option<Tensor>,
}

impl ConvField {
    /// A field over images of `shape` (C, H, W), conditional on a context of the given width if any. Initial weights
    /// are uniform within `1 / sqrt(n)`, where n is the number of inputs that an output depends on.
    ///
    /// # Errors
    /// When a size is 0, the strides do not fit the layers or the images, or a name is already taken in `scope`.
    pub fn new(shape: [usize; 3], context: Option<usize>, config: &ConvConfig, scope: &Scope) -> Result<Self> {
        let bad = |message: String| Err(Error::Config(message));
        let given = context.unwrap_or(0);
        let channels = [&[shape[0] + given], &config.hidden[..], &shape[..1]].concat();
        if shape.contains(&0) || context == Some(0) || channels.contains(&0) {
            return bad("a field over images needs channels, height, width and all layers of size at least 1".into());
        }
        let count = channels.len() - 1;
        let ones = vec![1; count];
        let strides = if config.strides.is_empty() { &ones } else { &config.strides };
        if strides.len() != count {
            return bad(format!("{} strides for {count} layers: give one for each, or none", strides.len()));
        }
        let [_, mut height, mut width] = shape;
        // The layers of stride 2 without a matching one of stride -2 so far: the shape of their inputs, and their
        // index.
        let mut unmatched: Vec<([usize; 3], usize)> = Vec::new();
        let mut layers: Vec<Layer> = Vec::with_capacity(count);
        for (i, (stride, c)) in strides.iter().zip(channels.windows(2)).enumerate() {
            let (stride, inputs, outputs) = (Stride::of(*stride)?, [c[0], height, width], c[1]);
            let mut skip = Skip::None;
            match stride {
                Stride::Keep => {}
                Stride::Halve if height % 2 == 0 && width % 2 == 0 => {
                    unmatched.push((inputs, i));
                    (height, width) = (height / 2, width / 2);
                }
                Stride::Halve => {
                    return bad(format!("a size of {height} x {width} cannot be halved: use fewer strides of 2"));
                }
                Stride::Double => {
                    (height, width) = (2 * height, 2 * width);
                    if let Some((before, from)) = unmatched.pop()
                        && config.skips
                        && from > 0
                    {
                        if before != [outputs, height, width] {
                            let got = [outputs, height, width];
                            return bad(format!(
                                "a skip of shape {before:?} is added to {got:?}: mirror the channels in `hidden`"
                            ));
                        }
                        (layers[from].skip, skip) = (Skip::Save, Skip::Add);
                    }
                }
            }
            let beta = config.activation.has_beta() && i + 1 < count;
            layers.push(Layer::new(stride, inputs, outputs, (config.layer, beta), skip, &scope.enter(i))?);
        }
        if [height, width] != shape[1..] {
            return bad(format!("the layers map {shape:?} to {height} x {width}: match each stride of 2 by one of -2"));
        }
        let linear = config.linear.then(|| scope.weight("linear", 2, Init::Values(vec![-1.0, 2.0]))).transpose()?;
        Ok(Self { shape, context: given, config: config.clone(), layers, linear })
    }

    /// A field over vectors of `dim` numbers, which must be the size of the images in the config.
    ///
    /// # Errors
    /// Those of [`Self::new`], or when `dim` does not match the shape.
    pub(super) fn with_dim(dim: usize, context: Option<usize>, config: &ConvConfig, scope: &Scope) -> Result<Self> {
        let Some(shape) = config.shape.filter(|shape| shape.iter().product::<usize>() == dim) else {
            let message =
                format!("a field over images of {dim} numbers needs their `shape`: give channels, height and width");
            return Err(Error::Config(message));
        };
        Self::new(shape, context, config, scope)
    }
}

impl VectorField for ConvField {
    fn dim(&self) -> usize {
        self.shape.iter().product()
    }

    fn context(&self) -> usize {
        self.context
    }

    fn reach(&self) -> f64 {
        if self.config.activation.is_bounded() && self.linear.is_none() { f64::INFINITY } else { 1e12 }
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.layers.iter().flat_map(Layer::tensors).chain(&self.linear).cloned().collect()
    }

    /// Stacks values and tangents into one batch, so that each layer is one convolution.
    fn evaluate(&self, weights: &[Tensor], t: &Tensor, z: &Dual, context: Option<&Tensor>) -> Result<Dual> {
        let (z, tangents) = (z.value(), z.tangents());
        let (rows, dim) = z.dims2()?;
        let count = tangents.map_or(Ok(0), |tangents| tangents.dim(0))?;
        let [channels, height, width] = self.shape;
        let stacked = match tangents {
            Some(tangents) => Tensor::cat(&[z, &tangents.reshape((count * rows, dim))?], 0)?,
            None => z.clone(),
        };
        let mut h = stacked.reshape(((1 + count) * rows, channels, height, width))?;
        let (mut saved, mut weights) = (Vec::new(), weights);
        let images = h.clone();
        if let Some(context) = context {
            let planes =
                context.reshape((rows, self.context, 1, 1))?.broadcast_as((rows, self.context, height, width))?;
            // The context is constant along the tangents.
            let zeros = Tensor::zeros((count * rows, self.context, height, width), z.dtype(), z.device())?;
            let channels = if count > 0 { Tensor::cat(&[planes, zeros], 0)? } else { planes.contiguous()? };
            h = Tensor::cat(&[h, channels], 1)?;
        }
        for (l, layer) in self.layers.iter().enumerate() {
            let (own, rest) = weights.split_at(layer.tensors().count());
            weights = rest;
            let (weight, inputs) = layer.at(own, t)?;
            let u = layer.stride.convolve(&h, weight, None)?;
            if layer.skip == Skip::Save {
                saved.push(h);
            }
            let mut skip = if layer.skip == Skip::Add { saved.pop() } else { None };
            let activation = (l + 1 < self.layers.len()).then_some(self.config.activation);
            if let ([linear], None) = (weights, activation) {
                let scale = (linear.narrow(0, 1, 1)?.broadcast_mul(t)? + linear.narrow(0, 0, 1)?)?;
                let linear = images.broadcast_mul(&scale)?;
                skip = Some(if let Some(skip) = skip { (skip + linear)? } else { linear });
            }
            h = activate(&u, rows, activation, ActivationInputs { skip, ..inputs })?;
        }
        let h = h.reshape(((1 + count) * rows, dim))?;
        if count == 0 {
            return Dual::new(h, None);
        }
        let products = h.narrow(0, rows, count * rows)?.reshape((count, rows, dim))?;
        Dual::new(h.narrow(0, 0, rows)?, Some(products))
    }

    fn structure(&self) -> Structure {
        let ConvConfig { hidden, strides, layer, activation, skips, linear, .. } = &self.config;
        let strides = if strides.is_empty() { String::new() } else { format!(", strides {strides:?}") };
        let skips = if *skips { ", skips" } else { "" };
        let linear = if *linear { ", linear part" } else { "" };
        let details = format!("{:?} -> {hidden:?}{strides}, {layer:?}, {activation}{skips}{linear}", self.shape);
        Structure::new("ConvField", details).weights(self.layers.iter().flat_map(Layer::tensors).chain(&self.linear))
    }
}

#[cfg(test)]
mod tests;
