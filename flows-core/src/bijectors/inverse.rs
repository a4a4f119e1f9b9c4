//! A bijector the other way round.

use super::{Bijector, Pass};
use crate::ops::Direction;
use crate::{Result, Rng, Structure};
use candle_core::Tensor;

/// The inverse of a bijector: `x = f^-1(z)`, with the log-determinants exchanged.
///
/// What the bijector does in training alone (dropout, statistics of the batch) belongs to its
/// `inverse`, which is `forward` here, so a step of maximum likelihood takes the plain pass.
#[derive(Debug)]
pub struct Inverse(pub Box<dyn Bijector>);

impl Bijector for Inverse {
    fn latent_shape(&self) -> &[usize] {
        self.0.data_shape()
    }

    fn data_shape(&self) -> &[usize] {
        self.0.latent_shape()
    }

    fn forward(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.0.inverse(z, context)
    }

    fn inverse(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.0.forward(x, context)
    }

    fn pass<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        _: Option<&mut Rng>,
    ) -> Result<Pass<'a>> {
        self.0.pass(direction.opposite(), input, context, None)
    }

    fn structure(&self) -> Structure {
        Structure::new("Inverse", "").part(self.0.structure())
    }
}
