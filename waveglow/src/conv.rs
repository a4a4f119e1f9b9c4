//! Convolutions whose weights may be normalized.

use candle_core::Tensor;
use flows_core::nn::{Init, Scope};
use flows_core::ops::{self, FusedActivation};
use flows_core::{Error, Result, Structure};

/// A convolution of signals (B, C, T) that keeps their length.
///
/// Weights: `bias` (O), and `weight` (O, C, k) or, where it is normalized, `weight_v` (O, C, k) and `weight_g` (O), the
/// directions and lengths of [`ops::weight_norm`].
#[derive(Clone, Debug)]
pub struct SignalConv {
    weight: Weight,
    bias: Tensor,
}

#[derive(Clone, Debug)]
enum Weight {
    Plain(Tensor),
    Normalized { directions: Tensor, lengths: Tensor },
}

impl SignalConv {
    /// A layer of this kernel, which must be odd, with PyTorch's initial values.
    ///
    /// # Errors
    /// When a size is 0, the kernel is even, or a name is taken in `scope`.
    pub fn new([inputs, outputs]: [usize; 2], kernel: usize, normalized: bool, scope: &Scope) -> Result<Self> {
        if inputs == 0 || outputs == 0 || kernel.is_multiple_of(2) {
            return Err(Error::Config(format!(
                "a convolution of {inputs} to {outputs} channels with a kernel of {kernel}: give an odd kernel and at \
                 least one channel"
            )));
        }
        let (shape, init) = ((outputs, inputs, kernel), Init::fan_in(inputs * kernel, 1.0));
        let weight = if normalized {
            let directions = scope.weight("weight_v", shape, init.clone())?;
            let lengths = directions.detach().flatten_from(1)?.sqr()?.sum(1)?.sqrt()?;
            let lengths = lengths.to_dtype(candle_core::DType::F64)?.to_vec1()?;
            Weight::Normalized { directions, lengths: scope.weight("weight_g", outputs, Init::Values(lengths))? }
        } else {
            Weight::Plain(scope.weight("weight", shape, init.clone())?)
        };
        Ok(Self { weight, bias: scope.weight("bias", outputs, init)? })
    }

    /// A layer that starts at zero.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn zeros([inputs, outputs]: [usize; 2], scope: &Scope) -> Result<Self> {
        let weight = Weight::Plain(scope.weight("weight", (outputs, inputs, 1), Init::Zeros)?);
        Ok(Self { weight, bias: scope.weight("bias", outputs, Init::Zeros)? })
    }

    /// The weights (O, C, k).
    ///
    /// # Errors
    /// When the device fails.
    pub fn weight(&self) -> Result<Tensor> {
        match &self.weight {
            Weight::Plain(weight) => Ok(weight.clone()),
            Weight::Normalized { directions, lengths } => ops::weight_norm(directions, lengths),
        }
    }

    /// The biases (O).
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// (B, C, T) to (B, O, T).
    ///
    /// # Errors
    /// When the channels of `x` are others.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight()?;
        let padding = (weight.dim(2)? - 1) / 2;
        ops::conv1d(x, &weight, Some(&self.bias), 1, padding, 1, FusedActivation::Identity)
    }

    /// What this is made of.
    pub fn structure(&self) -> Structure {
        let (shape, weights, normalized) = match &self.weight {
            Weight::Plain(weight) => (weight.dims(), vec![weight], ""),
            Weight::Normalized { directions, lengths } => {
                (directions.dims(), vec![directions, lengths], ", normalized")
            }
        };
        let details = format!("{} -> {}, kernel {}{normalized}", shape[1], shape[0], shape[2]);
        Structure::new("Conv1d", details).weights(weights.into_iter().chain([&self.bias]))
    }
}
