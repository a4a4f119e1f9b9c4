//! The non-linearities of conditioners.

use crate::Result;
use crate::ops::cpu::Real;
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
            Self::Tanh => x.tanh()?,
            Self::Elu => x.elu(1.0)?,
            Self::Silu => x.silu()?,
            Self::Softplus => ops::softplus(x)?,
            Self::LeakyRelu => ((x.relu()? * 0.99)? + (x * 0.01)?)?,
        })
    }

    /// The activation of one number.
    pub(super) fn value<T: Real>(self, x: T) -> T {
        match self {
            Self::Relu => {
                if x < T::zero() {
                    T::zero()
                } else {
                    x
                }
            }
            Self::Tanh => x.tanh(),
            Self::Elu => {
                if x > T::zero() {
                    x
                } else {
                    x.exp_m1()
                }
            }
            Self::Silu => x / (T::one() + (-x).exp()),
            Self::Softplus => x.max(T::zero()) + (-x.abs()).exp().ln_1p(),
            Self::LeakyRelu => {
                if x > T::zero() {
                    x
                } else {
                    x * T::of(0.01)
                }
            }
        }
    }

    /// The derivative of [`Self::value`].
    pub(super) fn slope<T: Real>(self, x: T) -> T {
        let sigmoid = |x: T| T::one() / (T::one() + (-x).exp());
        match self {
            Self::Relu => {
                if x > T::zero() {
                    T::one()
                } else {
                    T::zero()
                }
            }
            Self::Tanh => T::one() - x.tanh() * x.tanh(),
            Self::Elu => {
                if x > T::zero() {
                    T::one()
                } else {
                    x.exp()
                }
            }
            Self::Silu => sigmoid(x) * (T::one() + x * (T::one() - sigmoid(x))),
            Self::Softplus => sigmoid(x),
            Self::LeakyRelu => {
                if x > T::zero() {
                    T::one()
                } else {
                    T::of(0.01)
                }
            }
        }
    }

    /// The activation of `x W^T + b`, in one pass where there is a kernel for it.
    pub(super) fn behind(self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        self.fused(|fused| ops::linear(x, weight, Some(bias), fused))
    }

    /// The activation of what `linear` gives, which applies it itself where there is a kernel for that.
    pub(super) fn fused(self, linear: impl FnOnce(Fused) -> Result<Tensor>) -> Result<Tensor> {
        match self {
            Self::Relu => linear(Fused::Relu),
            Self::Tanh => linear(Fused::Tanh),
            _ => self.apply(&linear(Fused::Identity)?),
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
            Self::Softplus => "softplus",
            Self::LeakyRelu => "leaky ReLU",
        })
    }
}
