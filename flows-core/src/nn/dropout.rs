//! Dropout, in training passes only, with the generator that they are given.

use super::Mode;
use crate::{Error, Result, Rng};
use candle_core::Tensor;

/// Sets a share of the units to zero and scales up the rest, so that the mean is unchanged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropout(f64);

impl Dropout {
    pub(super) fn new(share: f64) -> Result<Self> {
        if (0.0..1.0).contains(&share) {
            return Ok(Self(share));
        }
        Err(Error::Config(format!("dropout is {share}: choose a share of at least 0 and less than 1")))
    }

    /// Whether it does anything.
    pub(super) fn is_active(self) -> bool {
        self.0 > 0.0
    }

    /// `x` itself in evaluation.
    pub(super) fn apply(self, x: Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let Some(rng) = mode.rng().filter(|_| self.is_active()) else { return Ok(x) };
        let kept = 1.0 / (1.0 - self.0);
        let draw = |rng: &mut Rng| if rng.uniform() < self.0 { 0.0 } else { kept };
        let mask = rng.tensor(x.shape().clone(), x.dtype(), x.device(), draw)?;
        Ok((x * mask)?)
    }

    pub(super) fn details(self) -> String {
        if self.is_active() { format!(", dropout {}", self.0) } else { String::new() }
    }
}
