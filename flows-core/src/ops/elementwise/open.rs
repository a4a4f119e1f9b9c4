//! Increasing functions onto open intervals, whose ends no result reaches.

use super::{Function, apply};
use crate::Result;
use crate::ops::cpu::Real;
use candle_core::{DType, Tensor};

/// A function onto an open interval, element by element: a result that rounds to an end of the interval is the nearest
/// number inside that is not subnormal. A NaN stays.
///
/// # Errors
/// When `x` is not of a floating type.
pub(crate) fn onto(x: &Tensor, function: Open) -> Result<Tensor> {
    apply(x, Function::Onto(function))
}

/// Increasing functions onto open intervals.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Open {
    /// `e^x`, positive.
    Exp,
    /// `ln(1 + e^x)`, positive.
    Softplus,
    /// The sigmoid, of (0, 1).
    Sigmoid,
    /// The hyperbolic tangent, of (-1, 1).
    Tanh,
    /// `scale sigmoid(x) + shift`, within `ends`, which are representable in the type of x.
    Scaled { scale: f64, shift: f64, ends: [f64; 2] },
}

impl Open {
    /// The smallest and the largest number inside.
    pub(super) fn ends<T: Real>(self) -> [T; 2] {
        let below_one = T::one() - T::epsilon() / T::of(2.0);
        match self {
            Self::Exp | Self::Softplus => [T::min_positive_value(), T::max_value()],
            Self::Sigmoid => [T::min_positive_value(), below_one],
            Self::Tanh => [-below_one, below_one],
            Self::Scaled { ends, .. } => ends.map(T::of),
        }
    }

    pub(super) fn plain(self, x: &Tensor) -> Result<Tensor> {
        let [low, high] = match x.dtype() {
            DType::F64 => self.ends::<f64>(),
            _ => self.ends::<f32>().map(f64::from),
        };
        let y = match self {
            Self::Exp => Function::Exp.plain(x)?,
            Self::Softplus => Function::Softplus.plain(x)?,
            Self::Sigmoid => Function::Sigmoid.plain(x)?,
            Self::Tanh => Function::Tanh.plain(x)?,
            Self::Scaled { scale, shift, .. } => Function::Sigmoid.plain(x)?.affine(scale, shift)?,
        };
        Ok(y.eq(&y)?.where_cond(&y.clamp(low, high)?, &y)?)
    }
}
