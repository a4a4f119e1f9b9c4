//! The affine family, and the additive one, which only shifts.

use super::Univariate;
use super::pointwise::{Kind, Pointwise};
use crate::ops::cpu::Real;
use crate::{Error, Result, ops};
use candle_core::Tensor;

/// How an affine map's scale follows from its raw parameter r.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// `x = z e^s + t`, s = r.
    Exp,
    /// `x = z e^s + t`, s = b tanh(r / b), so that |s| < b.
    Bounded(f64),
    /// `x = (z + t) sigmoid(r + o)`.
    Sigmoid(f64),
}

impl Scale {
    /// x and the log-scale of one z.
    pub(super) fn forward_at<T: Real>(self, z: T, shift: T, raw: T) -> (T, T) {
        match self {
            Self::Exp => (z * raw.exp() + shift, raw),
            Self::Bounded(bound) => {
                let log_scale = (raw * T::of(1.0 / bound)).tanh() * T::of(bound);
                (z * log_scale.exp() + shift, log_scale)
            }
            Self::Sigmoid(offset) => {
                let at = raw + T::of(offset);
                let log_scale = at.min(T::zero()) - (-at.abs()).exp().ln_1p();
                ((z + shift) * log_scale.exp(), log_scale)
            }
        }
    }
}

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

    /// Shift and log-scale, both (B or 1, N).
    fn parts(&self, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let raw = parameters.narrow(2, 1, 1)?.squeeze(2)?;
        let log_scale = match self.scale {
            Scale::Exp => raw,
            Scale::Bounded(bound) => ((raw / bound)?.tanh()? * bound)?,
            Scale::Sigmoid(offset) => ops::log_sigmoid(&(raw + offset)?)?,
        };
        Ok((parameters.narrow(2, 0, 1)?.squeeze(2)?, log_scale))
    }

    fn shifts_first(&self) -> bool {
        matches!(self.scale, Scale::Sigmoid(_))
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
        let (shift, log_scale) = self.parts(parameters)?;
        let scale = log_scale.exp()?;
        let x = if self.shifts_first() {
            z.broadcast_add(&shift)?.broadcast_mul(&scale)?
        } else {
            z.broadcast_mul(&scale)?.broadcast_add(&shift)?
        };
        Ok((x, log_scale.broadcast_as(z.shape())?))
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let (shift, log_scale) = self.parts(parameters)?;
        let scale = log_scale.neg()?.exp()?;
        let z = if self.shifts_first() {
            x.broadcast_mul(&scale)?.broadcast_sub(&shift)?
        } else {
            x.broadcast_sub(&shift)?.broadcast_mul(&scale)?
        };
        Ok((z, log_scale.neg()?.broadcast_as(x.shape())?))
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
