//! The affine family, and the additive one, which only shifts.

use super::Univariate;
use super::pointwise::{Kind, Pointwise};
use crate::ops::{self, Direction, Scale};
use crate::{Error, Result};
use candle_core::Tensor;

/// The affine family; raw parameters: shift t, then the scale's r.
///
/// Three kinds: [`Affine::bounded`], the default, whose log-scale cannot run away (RealNVP, MAF,
/// IAF); [`Affine::exp`] without a bound; [`Affine::sigmoid`], Glow's, which shifts first.
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
}

impl Univariate for Affine {
    fn name(&self) -> String {
        match self.scale {
            Scale::Exp => "affine".into(),
            Scale::Bounded(bound) => format!("affine, |log-scale| < {bound}"),
            Scale::Sigmoid(_) => "affine, sigmoid scale".into(),
        }
    }

    fn parameters(&self) -> usize {
        2
    }

    fn identity(&self) -> Vec<f64> {
        // A sigmoid reaches 1 only at infinity: Glow's start is its raw zero.
        vec![0.0, 0.0]
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::affine(z, parameters, self.scale, Direction::Forward)
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::affine(x, parameters, self.scale, Direction::Inverse)
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

    fn parameters(&self) -> usize {
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

    fn pointwise(&self) -> Option<Pointwise> {
        Some(Pointwise(Kind::Additive))
    }
}
