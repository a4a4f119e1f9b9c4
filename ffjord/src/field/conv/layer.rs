//! One layer of a convolutional field.

use super::super::TimeLayer;
use super::activation::ActivationInputs;
use candle_core::Tensor;
use flows_core::nn::{Init, Scope};
use flows_core::ops::FusedActivation;
use flows_core::{Error, Result, ops};

/// A convolution that depends on time, with the weights of the activation that follows.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) stride: Stride,
    /// The shape of the inputs, (C, H, W).
    inputs: [usize; 3],
    pub(super) skip: Skip,
    weight: Tensor,
    bias: Tensor,
    /// The weights of a concat layer's time channel, or h of a concat-squash layer, (outputs).
    shift: Option<Tensor>,
    /// g and c of a concat-squash layer, (outputs) each.
    gate: Option<[Tensor; 2]>,
    /// The beta of the activation that follows, (1).
    beta: Option<Tensor>,
}

/// What a layer does to the height and width of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stride {
    Keep,
    Halve,
    Double,
}

/// A layer's part in a skip connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    None,
    /// Its inputs are saved.
    Save,
    /// The inputs saved last are added to its outputs.
    Add,
}

impl Stride {
    pub(super) fn of(stride: i32) -> Result<Self> {
        match stride {
            1 => Ok(Self::Keep),
            2 => Ok(Self::Halve),
            -2 => Ok(Self::Double),
            _ => Err(Error::Config(format!("a layer has no stride {stride}: give 1, 2 or -2"))),
        }
    }

    fn kernel(self) -> usize {
        if self == Self::Keep { 3 } else { 4 }
    }

    /// The shape of the weight between the given numbers of channels.
    fn weight_shape(self, inputs: usize, outputs: usize) -> [usize; 4] {
        let k = self.kernel();
        if self == Self::Double { [inputs, outputs, k, k] } else { [outputs, inputs, k, k] }
    }

    /// The number of inputs that an output depends on, per input channel.
    fn taps(self) -> usize {
        if self == Self::Double { 4 } else { self.kernel().pow(2) }
    }

    pub(super) fn convolve(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Keep => ops::conv2d(x, weight, bias, 1, 1, FusedActivation::Identity),
            Self::Halve => ops::conv2d(x, weight, bias, 2, 1, FusedActivation::Identity),
            Self::Double => ops::conv_transpose2d(x, weight, bias, 2, 1),
        }
    }
}

impl Layer {
    pub(super) fn new(
        stride: Stride,
        inputs: [usize; 3],
        outputs: usize,
        (layer, beta): (TimeLayer, bool),
        skip: Skip,
        scope: &Scope,
    ) -> Result<Self> {
        let init = Init::fan_in(inputs[0] * stride.taps(), 1.0);
        let weight = scope.weight("weight", &stride.weight_shape(inputs[0], outputs), init.clone())?;
        let bias = scope.weight("bias", outputs, init.clone())?;
        let time_weight = |name| scope.weight(name, outputs, Init::fan_in(1, 1.0));
        let (shift, gate) = match layer {
            TimeLayer::Ignore => (None, None),
            TimeLayer::Concat => (Some(scope.weight("shift", &stride.weight_shape(1, outputs), init)?), None),
            TimeLayer::ConcatSquash => {
                (Some(time_weight("shift")?), Some([time_weight("gate")?, time_weight("gate_bias")?]))
            }
            TimeLayer::Hyper => {
                let message = "convolutions have no \"hyper\" layers: set `layer` to \"concat\" or \"concat-squash\"";
                return Err(Error::Config(message.into()));
            }
        };
        let beta = beta.then(|| scope.weight("beta", 1, Init::Constant(1.0))).transpose()?;
        Ok(Self { stride, inputs, skip, weight, bias, shift, gate, beta })
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let gate = self.gate.iter().flatten();
        [&self.weight, &self.bias].into_iter().chain(&self.shift).chain(gate).chain(&self.beta)
    }

    /// The weight of the convolution, and the inputs of the activation without a skip, at time t.
    pub(super) fn at<'a>(&self, own: &'a [Tensor], t: &Tensor) -> Result<(&'a Tensor, ActivationInputs)> {
        let (beta, own) = match own.split_last() {
            Some((beta, own)) if self.beta.is_some() => (Some(beta.clone()), own),
            _ => (None, own),
        };
        let inputs = |shift, gate| ActivationInputs { shift, gate, beta: beta.clone(), skip: None };
        Ok(match own {
            [weight, bias] => (weight, inputs(bias.clone(), None)),
            // The time channel is zero in the padding, as the other channels are.
            [weight, bias, shift] => {
                let [_, height, width] = self.inputs;
                let channel = t.reshape((1, 1, 1, 1))?.broadcast_as((1, 1, height, width))?;
                (weight, inputs(self.stride.convolve(&channel, shift, Some(bias))?.squeeze(0)?, None))
            }
            [weight, bias, shift, gate, gate_bias] => {
                let gate = ops::sigmoid(&(gate.broadcast_mul(t)? + gate_bias)?)?;
                let shift = ((bias * &gate)? + shift.broadcast_mul(t)?)?;
                (weight, inputs(shift, Some(gate)))
            }
            _ => return Err(Error::Internal("a layer was given a wrong number of weights".into())),
        })
    }
}
