//! Activations that are fused into other operations.

use super::cpu::Real;
use super::simd::{map_in_place, zip_map, zip_map_in_place};
use crate::Result;
use candle_core::Tensor;
use std::borrow::Cow;

/// An activation that an operation applies to its result; the derivative is a function of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusedActivation {
    /// None.
    Identity,
    /// `max(y, 0)`.
    Relu,
    /// `tanh y`.
    Tanh,
}

impl FusedActivation {
    /// The activation of every number, in place.
    pub(super) fn apply<T: Real>(self, y: &mut [T]) {
        match self {
            Self::Identity => {}
            Self::Relu => y.iter_mut().for_each(|v| *v = if *v < T::zero() { T::zero() } else { *v }),
            Self::Tanh => map_in_place(
                y,
                #[inline(always)]
                |v: T| v.fast_tanh(),
            ),
        }
    }

    /// Turns the gradient with respect to the activation's values y into that with respect to its inputs, in place.
    pub(super) fn backward<T: Real>(self, y: &[T], grad: &mut [T]) {
        match self {
            Self::Identity => {}
            Self::Relu => zip_map_in_place(grad, y, relu_gradient),
            Self::Tanh => zip_map_in_place(grad, y, tanh_gradient),
        }
    }

    /// The same for a gradient that must not change.
    pub(super) fn before<'a, T: Real>(self, y: &[T], grad: &'a [T]) -> Cow<'a, [T]> {
        match self {
            Self::Identity => Cow::Borrowed(grad),
            Self::Relu => Cow::Owned(zip_map(grad, y, relu_gradient)),
            Self::Tanh => Cow::Owned(zip_map(grad, y, tanh_gradient)),
        }
    }

    /// The activation as an operation of candle, for other devices and as the tests' reference.
    pub(super) fn plain(self, y: Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Identity => y,
            Self::Relu => y.relu()?,
            Self::Tanh => y.tanh()?,
        })
    }
}

impl std::fmt::Display for FusedActivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Identity => "none",
            Self::Relu => "ReLU",
            Self::Tanh => "tanh",
        })
    }
}

#[inline(always)]
fn relu_gradient<T: Real>(grad: T, y: T) -> T {
    if y > T::zero() { grad } else { T::zero() }
}

#[inline(always)]
fn tanh_gradient<T: Real>(grad: T, y: T) -> T {
    grad * (T::one() - y * y)
}
