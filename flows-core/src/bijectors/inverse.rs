//! A bijector the other way round.

use super::{Bijector, Direction, Mode, Recompute, Support, Vjp, vjp};
use crate::{Result, Structure};
use candle_core::Tensor;

/// The inverse of a bijector: `x = f^-1(z)`, with the log-determinants exchanged.
#[derive(Debug)]
pub struct Inverse(pub Box<dyn Bijector>);

impl Bijector for Inverse {
    fn latent_shape(&self) -> &[usize] {
        self.0.data_shape()
    }

    fn data_shape(&self) -> &[usize] {
        self.0.latent_shape()
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        self.0.map(direction.opposite(), input, context, mode)
    }

    fn support(&self) -> Option<Support> {
        self.image(&Support::real(self.latent_shape()))
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        self.0.preimage(latent)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        self.0.image(data)
    }

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }

    fn structure(&self) -> Structure {
        Structure::new("Inverse", "").part(self.0.structure())
    }
}

impl Recompute for Inverse {
    fn vjp<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<Vjp<'a>> {
        vjp(self.0.as_ref(), direction.opposite(), input, context, mode)
    }
}
