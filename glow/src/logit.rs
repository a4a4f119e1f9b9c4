//! Colours as logits.

use candle_core::Tensor;
use flows_core::bijectors::univariate::Fixed;
use flows_core::bijectors::{Bijector, Elementwise};
use flows_core::nn::Scope;
use flows_core::{Error, Result, Structure};
use std::sync::Arc;

/// Colours without ends: `inverse` is `z = logit(a + (1 - 2a) (x + 1/2))` for x in [-1/2, 1/2], element by element (Dinh
/// et al., RealNVP, 2016, arXiv:1605.08803, section 4.1).
///
/// `log|det dz/dx| = sum(ln(1 - 2a) - ln p - ln(1 - p))`, p being what the logit is taken of.
#[derive(Debug)]
pub struct Logit {
    sigmoid: Elementwise,
    a: f64,
}

impl Logit {
    /// The logits of images of `shape` (C, H, W).
    ///
    /// # Errors
    /// When a is not above 0 and below 1/2.
    pub fn new(shape: [usize; 3], a: f64, scope: &Scope) -> Result<Self> {
        if !(a > 0.0 && a < 0.5) {
            return Err(Error::Config(format!("logits with a = {a}: give a number above 0 and below 0.5")));
        }
        Ok(Self { sigmoid: Elementwise::new(&shape, Arc::new(Fixed::Sigmoid), scope)?, a })
    }

    /// The log-determinant of `p = a + (1 - 2a) (x + 1/2)`.
    fn log_det(&self) -> f64 {
        self.latent_shape().iter().product::<usize>() as f64 * (1.0 - 2.0 * self.a).ln()
    }
}

impl Bijector for Logit {
    fn latent_shape(&self) -> &[usize] {
        self.sigmoid.latent_shape()
    }

    fn forward(&self, z: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let (p, log_det) = self.sigmoid.forward(z, None)?;
        let width = 1.0 - 2.0 * self.a;
        Ok((p.affine(width.recip(), -self.a / width - 0.5)?, (log_det - self.log_det())?))
    }

    fn inverse(&self, x: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let width = 1.0 - 2.0 * self.a;
        let (z, log_det) = self.sigmoid.inverse(&x.affine(width, self.a + 0.5 * width)?, None)?;
        Ok((z, (log_det + self.log_det())?))
    }

    fn structure(&self) -> Structure {
        Structure::new("Logit", format!("{:?}, a = {}", self.latent_shape(), self.a))
    }
}
