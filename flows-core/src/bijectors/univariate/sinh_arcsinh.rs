//! The sinh-arcsinh family: skewness and weight of the tails.

use super::Univariate;
use crate::Result;
use crate::ops::{self, Direction};
use candle_core::Tensor;

/// `x = sinh((asinh(z) + s) e^t)`: s > 0 skews to the right, t > 0 makes the tails heavier (Jones
/// and Pewsey, Sinh-arcsinh distributions, 2009).
///
/// Raw parameters: r, which gives s, and q, with `t = 2 tanh(q / 2)`. s is r itself up to 4 and bends to at most 8
/// beyond: `s = c + 4 tanh((r - c) / 4)`, c being r clamped to [-4, 4]. So x is finite, in f32 too, for |z| up to 6 and
/// any parameters; where `|asinh(z) + s| e^t` is beyond 80 in f32 (701 in f64), x stays at its bound with log-derivative
/// minus infinity. Both directions have closed forms.
#[derive(Clone, Copy, Debug, Default)]
pub struct SinhArcsinh;

/// Bounds: an exponent of at most e^2, and a skew with which 6 standard deviations stay finite.
const BOUNDS: ops::SinhArcsinh = ops::SinhArcsinh { skew: 4.0, log_weight: 2.0 };

impl Univariate for SinhArcsinh {
    fn name(&self) -> String {
        "sinh-arcsinh".into()
    }

    fn parameter_count(&self) -> usize {
        2
    }

    fn identity(&self) -> Vec<f64> {
        vec![0.0, 0.0]
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::sinh_arcsinh(z, parameters, BOUNDS, Direction::Forward)
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::sinh_arcsinh(x, parameters, BOUNDS, Direction::Inverse)
    }
}
