//! The normal priors of a Glow, as affine maps of standard normal latents.

use crate::class_features::class_of_rows;
use crate::conv::last_layer;
use candle_core::Tensor;
use flows_core::bijectors::univariate::{Affine, Univariate};
use flows_core::bijectors::{Bijector, Direction, Elementwise, Mode};
use flows_core::nn::{ConvNet, Init, Scope};
use flows_core::ops::{ConvLayer, conv_network};
use flows_core::shape::check_event;
use flows_core::{Result, Structure};
use std::sync::Arc;

/// `x = m + z e^l` for images of `shape` (C, H, W), where m and l are a 3x3 convolution of the context (B, K, H, W)
/// with K = `channels`: for the half that a level splits off, the context is the kept half, followed by features if
/// there are any. It is initially the identity.
///
/// Weights: `weight` (2C, K, 3, 3), `bias`, `log_scale` (2C).
///
/// # Errors
/// When a size is 0 or a name is taken in `scope`.
pub fn normal_prior(shape: [usize; 3], channels: usize, scope: &Scope) -> Result<Elementwise> {
    let network = ConvNet::new(vec![last_layer(channels, vec![0.0; 2 * shape[0]], scope)?], None);
    Elementwise::over_channels(&shape, Arc::new(Affine::exp()), Box::new(network))
}

/// `x = m + z e^l` for the output of the last level, where m and l are a 3x3 convolution of zeros, and so the same
/// at all pixels away from the border, plus a vector for each class if there are classes. It is initially the identity.
///
/// The context is the class of each row, (B, 1), as u32. Weights: `weight` (2C, C, 3, 3), `bias`, `log_scale` (2C)
/// and, with classes, `classes` (classes, 2C).
#[derive(Debug)]
pub struct TopPrior {
    shape: [usize; 3],
    layer: ConvLayer,
    classes: Option<Tensor>,
}

impl TopPrior {
    /// The prior of a level of this shape.
    ///
    /// # Errors
    /// When a name is taken in `scope`.
    pub fn new(shape: [usize; 3], classes: Option<usize>, scope: &Scope) -> Result<Self> {
        let width = 2 * shape[0];
        let classes = classes.map(|n| scope.weight("classes", (n, width), Init::Zeros)).transpose()?;
        Ok(Self { shape, layer: last_layer(shape[0], vec![0.0; width], scope)?, classes })
    }
}

impl Bijector for TopPrior {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let batch = check_event("the top of a Glow", input, &self.shape)?;
        let [channels, height, width] = self.shape;
        let zeros = Tensor::zeros((1, channels, height, width), input.dtype(), input.device())?;
        let shared = conv_network(&zeros, vec![self.layer.clone()])?;
        let shared = shared.broadcast_as((batch, 2 * channels, height, width))?;
        let parameters = match &self.classes {
            None => shared.contiguous()?,
            Some(classes) => {
                let own = classes.index_select(&class_of_rows(context, batch, classes.dim(0)?)?, 0)?;
                shared.broadcast_add(&own.reshape((batch, 2 * channels, 1, 1))?)?
            }
        };
        let (flat, all) = (input.flatten_from(1)?, 0..channels * height * width);
        let (out, log_det) = Affine::exp().couple(direction, &flat, all, &parameters.flatten_from(1)?)?;
        Ok((out.reshape(input.shape())?, log_det))
    }

    fn structure(&self) -> Structure {
        let classes = self.classes.as_ref().map_or(String::new(), |c| format!(" given one of {} classes", c.dims()[0]));
        Structure::new("Normal", format!("{:?}{classes}", self.shape))
            .weights(self.layer.weights())
            .weights(&self.classes)
    }
}
