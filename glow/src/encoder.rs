//! The encoder of the image that a Glow is conditioned on.

use crate::GlowConfig;
use candle_core::Tensor;
use flows_core::bijectors::{Bijector, Squeeze};
use flows_core::nn::{Conv2d, Init, Mode, Network, Scope};
use flows_core::ops::{ConvLayer, FusedActivation, conv_network};
use flows_core::shape::check_event;
use flows_core::{Error, Result, Structure};

/// Features of an image at several sizes: a 3x3 convolution, residual blocks `x + w * relu(v * x)`, and for each size
/// another 3x3 convolution, followed by depth-to-space if the size is larger (Shi et al., 2016, arXiv:1609.05158), or
/// preceded by space-to-depth if it is smaller.
///
/// It maps images (B, C, H, W) to (B, N), the concatenated features (F, h, w) of all sizes, so that the image
/// is encoded once, however many layers use the features (as in Lugmayr et al., SRFlow, 2020, arXiv:2006.14200,
/// section 3.3). Weights: `first`, `blocks.K.0`, `blocks.K.1` and `sizes.I`.
#[derive(Debug)]
pub struct Encoder {
    shape: [usize; 3],
    first: ConvLayer,
    blocks: Vec<[ConvLayer; 2]>,
    sizes: Vec<Resized>,
}

/// The features at one size.
#[derive(Debug)]
struct Resized {
    layer: ConvLayer,
    space: Space,
}

/// How features are brought to a size.
#[derive(Debug)]
enum Space {
    Same,
    /// Depth to space.
    Up(Squeeze),
    /// Space to depth.
    Down(Squeeze),
}

impl Encoder {
    /// An encoder of images of `shape` (C, H, W) with `features` channels at each of `sizes` (height, width).
    ///
    /// # Errors
    /// When a size is neither an integer multiple nor an integer fraction of the image's, or a number is 0.
    pub fn new(shape: [usize; 3], features: usize, blocks: usize, sizes: &[[usize; 2]], scope: &Scope) -> Result<Self> {
        let [channels, height, width] = shape;
        if features == 0 || shape.contains(&0) {
            let message = format!("an encoder of images of {shape:?} to {features} features: give at least 1 for each");
            return Err(Error::Config(message));
        }
        let first = layer(channels, features, FusedActivation::Identity, &scope.enter("first"))?;
        let block = |k: usize| -> Result<[ConvLayer; 2]> {
            let scope = scope.enter("blocks").enter(k);
            Ok([
                layer(features, features, FusedActivation::Relu, &scope.enter(0))?,
                layer(features, features, FusedActivation::Identity, &scope.enter(1))?,
            ])
        };
        let blocks = (0..blocks).map(block).collect::<Result<_>>()?;
        let resized = |(i, &[h, w]): (usize, &[usize; 2])| -> Result<Resized> {
            let scope = scope.enter("sizes").enter(i);
            let factor = |large: [usize; 2], small: [usize; 2]| {
                let factor = large[0].checked_div(small[0])?;
                (factor > 0 && small[0] * factor == large[0] && small[1] * factor == large[1]).then_some(factor)
            };
            let (inputs, outputs, space) = match (factor([h, w], [height, width]), factor([height, width], [h, w])) {
                (Some(1), _) => (features, features, Space::Same),
                (Some(up), _) => (features, features * up * up, Space::Up(Squeeze::new(&[features, h, w], up)?)),
                (None, Some(down)) => {
                    let squeeze = Squeeze::new(&[features, height, width], down)?;
                    (features * down * down, features, Space::Down(squeeze))
                }
                (None, None) => {
                    let message = format!("features of {h} x {w} of an image of {height} x {width}");
                    return Err(Error::Config(format!("{message}: give an integer multiple or fraction of its size")));
                }
            };
            Ok(Resized { layer: layer(inputs, outputs, FusedActivation::Relu, &scope)?, space })
        };
        let sizes = sizes.iter().enumerate().map(resized).collect::<Result<_>>()?;
        Ok(Self { shape, first, blocks, sizes })
    }

    fn layers(&self) -> impl Iterator<Item = &ConvLayer> {
        let sizes = self.sizes.iter().map(|size| &size.layer);
        [&self.first].into_iter().chain(self.blocks.iter().flatten()).chain(sizes)
    }
}

/// A 3x3 convolution with weights initialised to preserve the variance (He et al., 2015, arXiv:1502.01852).
fn layer(channels: usize, outputs: usize, activation: FusedActivation, scope: &Scope) -> Result<ConvLayer> {
    let start = [Init::Normal((2.0 / (9 * channels) as f64).sqrt()), Init::Zeros];
    Ok(Conv2d::starting_at([channels, outputs], 3, start, scope)?.layer(activation))
}

impl Network for Encoder {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        check_event("the image that a Glow is given", x, &self.shape)?;
        let mut v = conv_network(x, vec![self.first.clone()])?;
        for block in &self.blocks {
            v = (&v + conv_network(&v, block.to_vec())?)?;
        }
        let resized = |size: &Resized| -> Result<Tensor> {
            let layer = vec![size.layer.clone()];
            let features = match &size.space {
                Space::Same => conv_network(&v, layer)?,
                Space::Up(squeeze) => squeeze.forward(&conv_network(&v, layer)?, None)?.0,
                Space::Down(squeeze) => conv_network(&squeeze.inverse(&v, None)?.0, layer)?,
            };
            Ok(features.flatten_from(1)?)
        };
        Ok(Tensor::cat(&self.sizes.iter().map(resized).collect::<Result<Vec<_>>>()?, 1)?)
    }

    fn structure(&self) -> Structure {
        let details = format!("{:?}, {} residual blocks", self.shape, self.blocks.len());
        Structure::new("Encoder", details).weights(self.layers().flat_map(ConvLayer::weights))
    }
}

/// The features of one size among the outputs of an [`Encoder`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    start: usize,
    pub(crate) shape: [usize; 3],
}

impl Features {
    /// The features of `shape` (F, H, W) that begin at index `start`.
    pub(crate) fn new(start: usize, shape: [usize; 3]) -> Self {
        Self { start, shape }
    }

    /// The features for a level of a model that is conditioned on an image or on class features.
    pub(crate) fn of_level(config: &GlowConfig, level: usize) -> Option<Self> {
        let features = config.features()?;
        let shape = |level: usize| {
            let [_, height, width] = config.level_shape(level);
            [features, height, width]
        };
        let start = (0..level).map(|i| shape(i).iter().product::<usize>()).sum();
        Some(Self::new(start, shape(level)))
    }

    fn among(&self, all: &Tensor) -> Result<Tensor> {
        let [features, height, width] = self.shape;
        Ok(all.narrow(1, self.start, features * height * width)?.reshape(((), features, height, width))?)
    }
}

impl Network for Features {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        self.among(x)
    }

    fn structure(&self) -> Structure {
        Structure::new("Features", format!("{:?}", self.shape))
    }
}

/// Concatenates the kept half of a level with the features of its size.
#[derive(Debug)]
pub(crate) struct WithFeatures(pub(crate) Features);

impl Network for WithFeatures {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        let missing =
            || Error::Config("this Glow is conditional on an image or a class: its features are missing".into());
        Ok(Tensor::cat(&[x, &self.0.among(context.ok_or_else(missing)?)?], 1)?)
    }

    fn structure(&self) -> Structure {
        Structure::new("Half that stays, features", format!("{:?}", self.0.shape))
    }
}
