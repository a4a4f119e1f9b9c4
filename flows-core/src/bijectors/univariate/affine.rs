//! The affine family, and the additive one, which only shifts.

use super::Univariate;
use super::pointwise::{Kind, Pointwise};
use crate::ops::{self, Coupled, Direction, Scale};
use crate::{Error, Result};
use candle_core::Tensor;
use std::ops::Range;

/// The affine family; raw parameters: shift t, then the scale's r.
///
/// Four kinds: [`Affine::bounded`], the default, whose log-scale cannot run away (RealNVP, MAF,
/// IAF); [`Affine::exp`] without a bound; [`Affine::sigmoid`], Glow's, which shifts first;
/// [`Affine::gated`], which moves part of the way to t.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    scale: Scale,
}

impl Default for Affine {
    fn default() -> Self {
        Self { scale: Scale::Bounded(5.0) }
    }
}

impl Affine {
    /// `x = z e^s + t` with `s = b tanh(r / b)`: close to r while that is small, never beyond b.
    ///
    /// # Errors
    /// When the bound is not positive and finite.
    pub fn bounded(bound: f64) -> Result<Self> {
        if bound > 0.0 && bound.is_finite() {
            return Ok(Self { scale: Scale::Bounded(bound) });
        }
        Err(Error::Config(format!("the bound of a log-scale is {bound}: choose a positive number, 5 for example")))
    }

    /// `x = z e^r + t`.
    pub fn exp() -> Self {
        Self { scale: Scale::Exp }
    }

    /// `x = (z + t) sigmoid(r + offset)`; Glow's offset is 2 (Kingma and Dhariwal, 2018, as
    /// published in code).
    pub fn sigmoid(offset: f64) -> Self {
        Self { scale: Scale::Sigmoid(offset) }
    }

    /// `x = g z + (1 - g) t` with the gate `g = sigmoid(r + offset)`, in the manner of an LSTM's;
    /// offsets of 1 to 2 start it open (Kingma et al., Improved Variational Inference with Inverse
    /// Autoregressive Flow, 2016, algorithm 1).
    pub fn gated(offset: f64) -> Self {
        Self { scale: Scale::Gate(offset) }
    }
}

impl Univariate for Affine {
    fn name(&self) -> String {
        match self.scale {
            Scale::Exp => "affine".into(),
            Scale::Bounded(bound) => format!("affine, |log-scale| < {bound}"),
            Scale::Sigmoid(_) => "affine, sigmoid scale".into(),
            Scale::Gate(_) => "affine, gated".into(),
        }
    }

    fn parameter_count(&self) -> usize {
        2
    }

    fn identity(&self) -> Vec<f64> {
        // A sigmoid reaches 1 only at infinity: Glow and IAF start from a raw zero.
        vec![0.0, 0.0]
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::affine(z, parameters, self.scale, Direction::Forward)
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::affine(x, parameters, self.scale, Direction::Inverse)
    }

    fn couple(
        &self,
        direction: Direction,
        x: &Tensor,
        moved: Range<usize>,
        parameters: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        ops::coupled(x, parameters, moved, Coupled::Affine(self.scale), direction)
    }

    fn pointwise(&self) -> Option<Pointwise> {
        Some(Pointwise(Kind::Affine(self.scale)))
    }
}

/// `x = z + t`, the transformer of NICE (Dinh et al., 2014); log-derivative 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Additive;

impl Univariate for Additive {
    fn name(&self) -> String {
        "additive".into()
    }

    fn parameter_count(&self) -> usize {
        1
    }

    fn identity(&self) -> Vec<f64> {
        vec![0.0]
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((z.broadcast_add(&parameters.squeeze(2)?)?, z.zeros_like()?))
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((x.broadcast_sub(&parameters.squeeze(2)?)?, x.zeros_like()?))
    }

    fn couple(
        &self,
        direction: Direction,
        x: &Tensor,
        moved: Range<usize>,
        parameters: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        // That kernel subtracts in the forward direction.
        ops::coupled(x, parameters, moved, Coupled::Shift, direction.opposite())
    }

    fn pointwise(&self) -> Option<Pointwise> {
        Some(Pointwise(Kind::Additive))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_gate_goes_part_of_the_way() -> Result<()> {
        let z = Tensor::new(&[[2.0]], &Device::Cpu)?;
        let raw = Tensor::new(&[[[-1.0, 0.3]]], &Device::Cpu)?;
        let (x, log) = Affine::gated(1.5).forward(&z, &raw)?;
        let g = 1.0 / (1.0 + (-1.8f64).exp());
        assert!((x.to_vec2::<f64>()?[0][0] - (g * 2.0 - (1.0 - g))).abs() < 1e-14);
        assert!((log.to_vec2::<f64>()?[0][0] - g.ln()).abs() < 1e-14);
        Ok(())
    }
}
