//! A linear layer.

use super::{Activation, Init, Scope};
use crate::{Error, Result, Structure, ops};
use candle_core::Tensor;

/// The output of a network: its width and the initial values of the last layer.
#[derive(Clone, Debug)]
pub struct Output {
    /// Number of outputs.
    pub width: usize,
    /// The factor on the usual initial weights of the last layer; with 0 they are zero.
    pub gain: f64,
    /// The initial biases, which with gain 0 are the initial output; drawn like the weights if `None`.
    pub bias: Option<Vec<f64>>,
}

impl Output {
    /// An output like any other layer's.
    pub fn new(width: usize) -> Self {
        Self { width, gain: 1.0, bias: None }
    }

    /// An output that starts within about a hundredth of these values, so that the bijectors whose
    /// parameters they are start near the identity without being all the same.
    pub fn near(values: Vec<f64>) -> Self {
        Self { width: values.len(), gain: 1e-2, bias: Some(values) }
    }
}

/// `y = x W^T + b`, W of shape (outputs, inputs).
#[derive(Clone, Debug)]
pub struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Linear {
    /// A layer with PyTorch's initial values: all uniform within `1/sqrt(inputs)`.
    ///
    /// # Errors
    /// When a size is 0 or the names `weight` and `bias` are taken in `scope`.
    pub fn new(inputs: usize, outputs: usize, scope: &Scope) -> Result<Self> {
        Self::scaled(inputs, outputs, 1.0, scope)
    }

    /// A layer whose initial values are `gain` times as large; 0 for one that starts at zero.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn scaled(inputs: usize, outputs: usize, gain: f64, scope: &Scope) -> Result<Self> {
        Self::output(inputs, Output { width: outputs, gain, bias: None }, scope)
    }

    /// A layer that ends a network.
    ///
    /// # Errors
    /// As [`Self::new`], or when the biases are not one for each output.
    pub fn output(inputs: usize, output: Output, scope: &Scope) -> Result<Self> {
        let Output { width, gain, bias } = output;
        if inputs == 0 || width == 0 {
            return Err(Error::Config(format!("a linear layer of {inputs} inputs and {width} outputs is empty")));
        }
        let init = Init::fan_in(inputs, gain);
        let weight = scope.weight("weight", (width, inputs), init.clone())?;
        let bias = scope.weight("bias", width, bias.map_or(init, Init::Values))?;
        Ok(Self { weight, bias })
    }

    /// (B, inputs) to (B, outputs).
    ///
    /// # Errors
    /// When `x` has another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, Some(&self.bias), ops::FusedActivation::Identity)
    }

    /// [`Self::forward`] followed by an activation.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_with(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match activation.fused() {
            Some(fused) => ops::linear(x, &self.weight, Some(&self.bias), fused),
            None => activation.apply(&self.forward(x)?),
        }
    }

    /// The layer as a part of a network's own operation.
    pub(super) fn affine(&self) -> Result<ops::LinearLayer> {
        ops::LinearLayer::new(&self.weight, &self.bias)
    }

    /// W, (outputs, inputs).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// b, (outputs).
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// The width of x.
    pub(super) fn inputs(&self) -> usize {
        self.weight.elem_count() / self.outputs()
    }

    /// The width of y.
    pub(super) fn outputs(&self) -> usize {
        self.bias.elem_count()
    }

    /// What this is made of.
    pub fn structure(&self) -> Structure {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        Structure::new("Linear", format!("{inputs} -> {outputs}")).weights([&self.weight, &self.bias])
    }
}
