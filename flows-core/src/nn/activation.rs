//! The non-linearities of conditioners.

use crate::Result;
use crate::ops::{self, Fused};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// An element-wise non-linearity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`.
    #[default]
    Relu,
    /// `tanh x`.
    Tanh,
    /// `x` where positive, `e^x - 1` elsewhere.
    Elu,
    /// `x sigmoid(x)`.
    Silu,
    /// `x Phi(x)`, Phi being the distribution function of the standard normal.
    Gelu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x` where positive, `x / 100` elsewhere.
    LeakyRelu,
}

impl Activation {
    /// The activation of every element of `x`.
    ///
    /// # Errors
    /// When `x` is not of a floating type.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => x.relu()?,
            Self::Tanh => ops::tanh(x)?,
            Self::Elu => ops::elu(x)?,
            Self::Silu => ops::silu(x)?,
            Self::Gelu => ops::gelu(x)?,
            Self::Sigmoid => ops::sigmoid(x)?,
            Self::Softplus => ops::softplus(x)?,
            Self::LeakyRelu => ((x.relu()? * 0.99)? + (x * 0.01)?)?,
        })
    }

    /// The same within a network's own operation, where there is a kernel for it.
    pub(super) fn fused(self) -> Option<Fused> {
        match self {
            Self::Relu => Some(Fused::Relu),
            Self::Tanh => Some(Fused::Tanh),
            _ => None,
        }
    }
}

impl std::fmt::Display for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Relu => "ReLU",
            Self::Tanh => "tanh",
            Self::Elu => "ELU",
            Self::Silu => "SiLU",
            Self::Gelu => "GELU",
            Self::Sigmoid => "sigmoid",
            Self::Softplus => "softplus",
            Self::LeakyRelu => "leaky ReLU",
        })
    }
}
