//! One layer of a convolutional field.

use super::super::TimeLayer;
use super::activation::Given;
use candle_core::Tensor;
use flows_core::nn::{Init, Scope};
use flows_core::ops::FusedActivation;
use flows_core::{Error, Result, ops};

/// A convolution that sees time, with the weights of what follows it.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) stride: Stride,
    /// (C, H, W) of its inputs.
    inputs: [usize; 3],
    pub(super) skip: Skip,
    weight: Tensor,
    bias: Tensor,
    /// Weights of the constant channel of a concat layer, h of a concat-squash layer.
    shift: Option<Tensor>,
    /// g and c of a concat-squash layer.
    gate: Option<[Tensor; 2]>,
    /// Of the activation behind it, (1).
    beta: Option<Tensor>,
}

/// What a layer does to the size of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stride {
    Keeps,
    Halves,
    Doubles,
}

/// What a layer does for skips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    Nothing,
    /// Its inputs are kept.
    Keeps,
    /// What was kept last is added to its outputs.
    Adds,
}

impl Stride {
    pub(super) fn of(stride: i32) -> Result<Self> {
        match stride {
            1 => Ok(Self::Keeps),
            2 => Ok(Self::Halves),
            -2 => Ok(Self::Doubles),
            _ => Err(Error::Config(format!("a layer has no stride {stride}: give 1, 2 or -2"))),
        }
    }

    fn kernel(self) -> usize {
        if self == Self::Keeps { 3 } else { 4 }
    }

    /// The shape of weights between so many channels.
    fn weights(self, inputs: usize, outputs: usize) -> [usize; 4] {
        let k = self.kernel();
        if self == Self::Doubles { [inputs, outputs, k, k] } else { [outputs, inputs, k, k] }
    }

    /// Numbers that an output depends on, for each input channel.
    fn taps(self) -> usize {
        if self == Self::Doubles { 4 } else { self.kernel().pow(2) }
    }

    pub(super) fn convolve(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Keeps => ops::conv2d(x, weight, bias, 1, 1, FusedActivation::Identity),
            Self::Halves => ops::conv2d(x, weight, bias, 2, 1, FusedActivation::Identity),
            Self::Doubles => ops::conv_transpose2d(x, weight, bias, 2, 1),
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
        let weight = scope.weight("weight", &stride.weights(inputs[0], outputs), init.clone())?;
        let bias = scope.weight("bias", outputs, init.clone())?;
        let of_time = |name| scope.weight(name, outputs, Init::fan_in(1, 1.0));
        let (shift, gate) = match layer {
            TimeLayer::Ignore => (None, None),
            TimeLayer::Concat => (Some(scope.weight("shift", &stride.weights(1, outputs), init)?), None),
            TimeLayer::ConcatSquash => (Some(of_time("shift")?), Some([of_time("gate")?, of_time("gate_bias")?])),
            TimeLayer::Hyper => {
                let message = "a convolution has no \"hyper\" layers: take \"concat\" or \"concat-squash\" ones";
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

    /// The weight, and what the activation is given at time t, a skip aside.
    pub(super) fn at<'a>(&self, own: &'a [Tensor], t: &Tensor) -> Result<(&'a Tensor, Given)> {
        let (beta, own) = match own.split_last() {
            Some((beta, own)) if self.beta.is_some() => (Some(beta.clone()), own),
            _ => (None, own),
        };
        let given = |shift, gate| Given { shift, gate, beta: beta.clone(), skip: None };
        Ok(match own {
            [weight, bias] => (weight, given(bias.clone(), None)),
            // The constant channel is seen through the same padding as the others.
            [weight, bias, shift] => {
                let [_, height, width] = self.inputs;
                let channel = t.reshape((1, 1, 1, 1))?.broadcast_as((1, 1, height, width))?;
                (weight, given(self.stride.convolve(&channel, shift, Some(bias))?.squeeze(0)?, None))
            }
            [weight, bias, shift, gate, gate_bias] => {
                let gate = ops::sigmoid(&(gate.broadcast_mul(t)? + gate_bias)?)?;
                let shift = ((bias * &gate)? + shift.broadcast_mul(t)?)?;
                (weight, given(shift, Some(gate)))
            }
            _ => return Err(Error::Internal("a layer was given other weights than its own".into())),
        })
    }
}
