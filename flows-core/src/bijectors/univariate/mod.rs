//! Monotone functions of one real number: the element-wise families that couplings and
//! autoregressive layers use as transformers, and that [`Elementwise`](super::Elementwise)
//! applies on their own.

use crate::Result;
use candle_core::Tensor;

mod affine;
mod rq_spline;

pub use affine::{Additive, Affine};
pub use rq_spline::RqSpline;

/// A family of monotone functions of one number, each element with its own parameters.
///
/// Values are (B, N). Parameters are unconstrained and come as (B, N, P), or (1, N, P) where all
/// rows share them, P being [`Self::parameters`]; a family without parameters gets P = 0 and must
/// not read them.
///
/// A point outside of the range of a family (`inverse`) or its domain (`forward`) has log-derivative
/// minus infinity and a finite value, so that its density is zero and no gradient is NaN.
pub trait Univariate: std::fmt::Debug + Send + Sync {
    /// The field's name for the family, with its settings: "RQ-spline, 8 bins on [-3, 3]".
    fn name(&self) -> String;

    /// How many numbers describe the function of one element.
    fn parameters(&self) -> usize;

    /// Raw parameters that make the function the identity, or as near to it as the family gets;
    /// `parameters()` numbers.
    fn identity(&self) -> Vec<f64>;

    /// `(x, log|dx/dz|)`, both (B, N), for z of shape (B, N).
    ///
    /// # Errors
    /// When a shape is wrong.
    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)>;

    /// `(z, log|dz/dx|)`, both (B, N), for x of shape (B, N).
    ///
    /// # Errors
    /// When a shape is wrong.
    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)>;
}
