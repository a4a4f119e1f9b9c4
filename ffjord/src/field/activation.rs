//! Smooth activations with their first and second derivatives.

use candle_core::Tensor;
use flows_core::ops::kernel::{Real, dispatch};
use flows_core::{Result, ops};
use serde::{Deserialize, Serialize};

/// An activation with continuous derivatives: at kinks an adaptive solver would take tiny steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `tanh u`.
    Tanh,
    /// `ln(1 + e^u)`.
    Softplus,
    /// `u / (1 + e^-u)`.
    Silu,
    /// `u / (1 + e^(-beta u))`, with one learnt beta per layer that starts at 1.
    Swish,
}

/// Evaluates an expression for each element of slices of equal length, compiled for vector registers.
macro_rules! each {
    (|$($out:ident),*; $($x:ident),*| $body:expr) => {
        dispatch(
            #[inline(always)]
            || {
                let n = each!(@first $($x),*).len();
                $(let $out = &mut $out[..n];)*
                $(let $x = &$x[..n];)*
                for i in 0..n {
                    $(let $x = $x[i];)*
                    let values = $body;
                    each!(@set i values; $($out),*);
                }
            },
        )
    };
    (@first $x:ident $(, $rest:ident)*) => { $x };
    (@set $i:ident $v:ident; $a:ident) => { $a[$i] = $v };
    (@set $i:ident $v:ident; $a:ident, $b:ident) => { ($a[$i], $b[$i]) = $v };
}

impl Activation {
    /// Whether its values, and so those of a field that uses it, are bounded.
    pub(super) fn is_bounded(self) -> bool {
        self == Self::Tanh
    }

    /// Whether it has a learnt beta.
    pub(super) fn has_beta(self) -> bool {
        self == Self::Swish
    }

    /// Computes `y = phi(u)` and `slope = phi'(u)`; pass a beta of 1 where it is not learnt.
    pub(super) fn value<T: Real>(self, beta: T, u: &[T], y: &mut [T], slope: &mut [T]) {
        let one = T::one();
        match self {
            Self::Tanh => each!(|y, slope; u| {
                let y = u.fast_tanh();
                (y, one - y * y)
            }),
            Self::Softplus => each!(|y, slope; u| (u.fast_softplus(), u.fast_sigmoid())),
            Self::Silu | Self::Swish => each!(|y, slope; u| {
                let s = (beta * u).fast_sigmoid();
                let y = u * s;
                (y, s + beta * y * (one - s))
            }),
        }
    }

    /// Computes `phi''(u)` from u, `y = phi(u)` and `slope = phi'(u)`.
    pub(super) fn curvature<T: Real>(self, beta: T, u: &[T], y: &[T], slope: &[T], out: &mut [T]) {
        let one = T::one();
        let two = one + one;
        match self {
            Self::Tanh => each!(|out; y, slope| -two * y * slope),
            Self::Softplus => each!(|out; slope| slope * (one - slope)),
            Self::Silu | Self::Swish => each!(|out; u| {
                let s = (beta * u).fast_sigmoid();
                beta * s * (one - s) * (two + beta * u * (one - two * s))
            }),
        }
    }

    /// The gradient with respect to beta, `sum g dy/dbeta`, given the gradient g with respect to y.
    pub(super) fn beta_gradient<T: Real>(beta: T, u: &[T], gradient: &[T]) -> T {
        let term = |(&u, &g): (&T, &T)| {
            let s = (beta * u).fast_sigmoid();
            g * u * u * s * (T::one() - s)
        };
        u.iter().zip(gradient).map(term).sum()
    }

    /// `(phi(u), phi'(u))` in candle's operations.
    pub(super) fn composed(self, beta: Option<&Tensor>, u: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(match self {
            Self::Tanh => {
                let y = u.tanh()?;
                let slope = y.sqr()?.affine(-1.0, 1.0)?;
                (y, slope)
            }
            Self::Softplus => (ops::softplus(u)?, ops::sigmoid(u)?),
            Self::Silu => {
                let s = ops::sigmoid(u)?;
                let y = (u * &s)?;
                let slope = (&s + (&y * s.affine(-1.0, 1.0)?)?)?;
                (y, slope)
            }
            Self::Swish => {
                let ones = u.ones_like()?;
                let beta = beta.map_or(Ok(ones.clone()), |beta| ones.broadcast_mul(beta))?;
                let s = ops::sigmoid(&(u * &beta)?)?;
                let y = (u * &s)?;
                let slope = (&s + ((&y * &beta)? * s.affine(-1.0, 1.0)?)?)?;
                (y, slope)
            }
        })
    }
}

impl std::fmt::Display for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Silu => "SiLU",
            Self::Swish => "swish",
        })
    }
}
