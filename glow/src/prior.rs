//! The normal distributions that Glow compares with, as maps onto noise.

use crate::class_features::class_of_rows;
use crate::conv::{last_layer, weights};
use candle_core::Tensor;
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::nn::{Init, Scope};
use flows_core::ops::{ConvLayer, Coupled, conv_network, coupled};
use flows_core::shape::check_event;
use flows_core::{Error, Result, Structure};

/// `x = m + z e^l` for the half of the channels that leaves a level, m and l being a 3x3 convolution of the half that
/// stays, which is the context (B, C, H, W). It starts as the identity.
///
/// Weights: `weight` (2C, C, 3, 3), `bias`, `log_scale` (2C). Where there are features too, the context is both, and so
/// are the inputs of the convolution.
#[derive(Debug)]
pub struct NormalPrior {
    shape: [usize; 3],
    layer: ConvLayer,
}

impl NormalPrior {
    /// The prior of a half of this shape.
    ///
    /// # Errors
    /// When a name is taken in `scope`.
    pub fn new(shape: [usize; 3], scope: &Scope) -> Result<Self> {
        Self::given(shape, shape[0], scope)
    }

    /// The same, given a context of another number of `channels`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn given(shape: [usize; 3], channels: usize, scope: &Scope) -> Result<Self> {
        Ok(Self { shape, layer: last_layer(channels, 2 * shape[0], scope)? })
    }
}

/// The map of v given all means, then all log-deviations along the channels.
fn normal(v: &Tensor, parameters: &Tensor, direction: Direction) -> Result<(Tensor, Tensor)> {
    let (out, log_det) = coupled(&v.flatten_from(1)?, &parameters.flatten_from(1)?, 0, Coupled::Normal, direction)?;
    Ok((out.reshape(v.shape())?, log_det))
}

impl Bijector for NormalPrior {
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
        check_event("the half that leaves", input, &self.shape)?;
        let stays = context.ok_or_else(|| Error::Config("a split prior needs the half that stays".into()))?;
        normal(input, &conv_network(stays, vec![self.layer.clone()])?, direction)
    }

    fn structure(&self) -> Structure {
        let given = self.layer.weight.dims()[1];
        Structure::new("Normal", format!("{:?} given {given} channels", self.shape)).weights(weights([&self.layer]))
    }
}

/// `x = m + z e^l` for what the last level gives, m and l being a 3x3 convolution of zeros, so that they are the same
/// at all places away from the border, plus a vector of each class if there are classes. It starts as the identity.
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
        Ok(Self { shape, layer: last_layer(shape[0], width, scope)?, classes })
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
        normal(input, &parameters, direction)
    }

    fn structure(&self) -> Structure {
        let classes = self.classes.as_ref().map_or(String::new(), |c| format!(" given one of {} classes", c.dims()[0]));
        Structure::new("Normal", format!("{:?}{classes}", self.shape))
            .weights(weights([&self.layer]))
            .weights(&self.classes)
    }
}
