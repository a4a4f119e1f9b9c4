//! The non-linearities of conditioners.

use crate::Result;
use crate::ops::cpu::Real;
use crate::ops::{self, FusedActivation};
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

    /// The activation of one number.
    #[inline(always)]
    pub(super) fn value<T: Real>(self, x: T) -> T {
        match self {
            Self::Relu if x < T::zero() => T::zero(),
            Self::Relu => x,
            Self::Tanh => x.fast_tanh(),
            Self::Elu if x < T::zero() => x.fast_exp_m1(),
            Self::Elu => x,
            Self::Silu => x.fast_silu(),
            Self::Softplus => x.fast_softplus(),
            Self::LeakyRelu if x < T::zero() => x * T::of(0.01),
            Self::LeakyRelu => x,
            Self::Gelu => x.fast_gelu(),
            Self::Sigmoid => x.fast_sigmoid(),
        }
    }

    /// The derivative of [`Self::value`].
    pub(super) fn slope<T: Real>(self, x: T) -> T {
        let one = T::one();
        match self {
            Self::Relu => {
                if x > T::zero() {
                    one
                } else {
                    T::zero()
                }
            }
            Self::Tanh => one - x.fast_tanh() * x.fast_tanh(),
            Self::Elu => {
                if x > T::zero() {
                    one
                } else {
                    x.fast_exp()
                }
            }
            Self::Silu => x.fast_silu_slope(),
            Self::Softplus => x.fast_sigmoid(),
            Self::LeakyRelu => {
                if x > T::zero() {
                    one
                } else {
                    T::of(0.01)
                }
            }
            Self::Gelu => x.fast_gelu_slope(),
            Self::Sigmoid => x.fast_sigmoid() * (-x).fast_sigmoid(),
        }
    }

    /// The same within a network's own operation, where there is a kernel for it.
    pub(super) fn fused(self) -> Option<FusedActivation> {
        match self {
            Self::Relu => Some(FusedActivation::Relu),
            Self::Tanh => Some(FusedActivation::Tanh),
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
