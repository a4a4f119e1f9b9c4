//! The affine injector of SRFlow.

use crate::conv::{last_layer, layer, weights};
use candle_core::Tensor;
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::nn::Scope;
use flows_core::ops::{ConvLayer, Coupled, conv_network, coupled};
use flows_core::shape::check_event;
use flows_core::{Error, Result, Structure};

/// An affine map of all channels, as features alone say, which are the context (B, F, H, W) (Lugmayr et al., SRFlow,
/// 2020, arXiv:2006.14200, equation 6).
///
/// `inverse` is `z = (x + t) s`, `s = sigmoid(max(r, -7) + 2)`, convolutions of the features, 3x3, 1x1 and 3x3, giving all r, then
/// all t; the last starts at zero. Weights: as those of [`ImageCoupling`](crate::ImageCoupling).
#[derive(Debug)]
pub struct AffineInjector {
    shape: [usize; 3],
    network: Vec<ConvLayer>,
}

impl AffineInjector {
    /// A layer over images of `shape` (C, H, W) that is given `features` channels, with `hidden` within its network.
    ///
    /// # Errors
    /// When a size is 0.
    pub fn new(shape: [usize; 3], features: usize, hidden: usize, scope: &Scope) -> Result<Self> {
        if shape.contains(&0) || features == 0 || hidden == 0 {
            let message = format!("an injector of {features} features into {shape:?}, {hidden} channels within");
            return Err(Error::Config(format!("{message}: give at least 1 for each")));
        }
        let network = vec![
            layer(features, hidden, 3, &scope.enter(0))?,
            layer(hidden, hidden, 1, &scope.enter(1))?,
            last_layer(hidden, 2 * shape[0], &scope.enter(2))?,
        ];
        Ok(Self { shape, network })
    }
}

/// The context, once it is known to be features of this shape.
pub(crate) fn features(context: Option<&Tensor>, batch: usize, shape: [usize; 3]) -> Result<&Tensor> {
    let [channels, height, width] = shape;
    let want = format!("({batch}, {channels}, {height}, {width})");
    match context {
        None => Err(Error::Config(format!("this layer is conditional: give features {want} as its context"))),
        Some(features) if features.dims() == [batch, channels, height, width] => Ok(features),
        Some(features) => Err(Error::shape("the features", features.dims(), want)),
    }
}

impl Bijector for AffineInjector {
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
        let batch = check_event("the input of an injector", input, &self.shape)?;
        let [_, height, width] = self.shape;
        let features = features(context, batch, [self.network[0].weight.dim(1)?, height, width])?;
        let parameters = conv_network(features, self.network.clone())?.flatten_from(1)?;
        let (out, log_det) = coupled(&input.flatten_from(1)?, &parameters, 0, Coupled::Sigmoid, direction)?;
        Ok((out.reshape(input.shape())?, log_det))
    }

    fn structure(&self) -> Structure {
        let [inputs, within] = [1, 0].map(|axis| self.network[0].weight.dims()[axis]);
        let details = format!("{:?} given {inputs} features, {within} channels within", self.shape);
        Structure::new("Affine injector", details).weights(weights(&self.network))
    }
}
