//! A family with its directions swapped.

use super::Univariate;
use crate::bijectors::Bounds;
use crate::ops::Direction;
use crate::{Result, Structure};
use candle_core::Tensor;
use std::ops::Range;

/// The family whose `forward` is the `inverse` of U and vice versa: for density
/// estimation, where x -> z should be the direction with a closed form.
#[derive(Clone, Debug)]
pub struct Inverted<U>(pub U);

impl<U: Univariate> Univariate for Inverted<U> {
    fn name(&self) -> String {
        format!("inverse of {}", self.0.name())
    }

    fn parameter_count(&self) -> usize {
        self.0.parameter_count()
    }

    fn identity(&self) -> Vec<f64> {
        self.0.identity()
    }

    fn domain(&self) -> Bounds {
        self.0.range()
    }

    fn range(&self) -> Bounds {
        self.0.domain()
    }

    fn structure(&self) -> Option<Structure> {
        self.0.structure()
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        self.0.inverse(z, parameters)
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        self.0.forward(x, parameters)
    }

    fn couple(
        &self,
        direction: Direction,
        x: &Tensor,
        moved: Range<usize>,
        parameters: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        self.0.couple(direction.opposite(), x, moved, parameters)
    }
}
