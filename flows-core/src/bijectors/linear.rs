//! Parts shared by the linear bijectors.

use crate::nn::{Init, Scope};
use crate::ops::{self, Triangle};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// The matrix that a linear map starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The identity.
    #[default]
    Identity,
    /// At random: a rotation where the map can be one, else near the identity.
    Random,
}

impl Start {
    /// The values of an n x n matrix, row-major: the identity, which also stands in for values that are
    /// stored already, or a random orthogonal matrix.
    pub(super) fn matrix(self, n: usize, scope: &Scope) -> Vec<f64> {
        // The identity draws too, so that what is made next starts the same either way.
        let drawn = scope.draw(|rng| matches!(self, Self::Random).then(|| ops::orthogonal(n, rng)));
        drawn.flatten().unwrap_or_else(|| (0..n * n).map(|e| f64::from(u8::from(e / n == e % n))).collect())
    }

    /// Zeros, or numbers uniform within `bound`.
    pub(super) fn small(self, bound: f64) -> Init {
        match self {
            Self::Identity => Init::Zeros,
            Self::Random => Init::Uniform(bound),
        }
    }
}

/// Fails unless `dim` is at least 1.
pub(super) fn check_dim(dim: usize) -> Result<()> {
    if dim == 0 { Err(Error::Config("a linear map needs at least one dimension".into())) } else { Ok(()) }
}

/// [`check_dim`], which also reserves room for a constant matrix.
pub(super) fn reserve_matrix(dim: usize, scope: &Scope) -> Result<()> {
    check_dim(dim)?;
    scope.reserve("matrix", (dim, dim), DType::F64)
}

/// The number of channels of an event, the size of its first dimension.
pub(super) fn channels(shape: &[usize]) -> Result<usize> {
    match shape {
        [channels, ..] if *channels > 0 => Ok(*channels),
        _ => Err(Error::shape("the event", shape, "(D), (C, T) or (C, H, W)")),
    }
}

/// The weight with the off-diagonal entries of a triangular matrix.
pub(super) fn entries_weight(name: &str, triangle: &Triangle, init: Init, scope: &Scope) -> Result<Tensor> {
    match triangle.entries() {
        // Nothing to train, and candle cannot add to a variable without elements.
        0 => Ok(scope.buffer(name, &Tensor::zeros(0, scope.dtype(), scope.device())?)?.get()),
        n => scope.weight(name, n, init),
    }
}

/// `W x + b` for each row x of a batch: (B, D) times (E, D) to (B, E).
pub(super) fn times_rows(w: &Tensor, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    ops::linear(x, w, bias, ops::FusedActivation::Identity)
}

/// Measures a bijector at random points, with its weights moved off their starting values.
#[cfg(test)]
pub(super) fn check<B: super::Bijector>(shape: &[usize], build: impl Fn(&Scope) -> Result<B>) -> Result<()> {
    use crate::Rng;
    use candle_core::Device;
    let rng = &mut Rng::seed(11);
    let parameters = crate::nn::Parameters::new(DType::F64, &Device::Cpu, Rng::seed(3));
    let bijector = build(&parameters.scope())?;
    crate::testing::perturb(&parameters, 0.1, rng)?;
    for batch in [1, 3] {
        let z = rng.normal_tensor([&[batch], shape].concat(), DType::F64, &Device::Cpu)?;
        let report = crate::testing::measure(&bijector, &parameters, &z, None, rng)?;
        let exact = [report.round_trip, report.consistency, report.forward_log_det, report.inverse_log_det];
        assert!(exact.into_iter().fold(0.0, f64::max) < 1e-9, "{report:?}");
        assert!(report.worst() < 1e-6, "{report:?}");
    }
    // In single precision too.
    let parameters = crate::nn::Parameters::new(DType::F32, &Device::Cpu, Rng::seed(3));
    let bijector = build(&parameters.scope())?;
    let z = rng.normal_tensor([&[4], shape].concat(), DType::F32, &Device::Cpu)?;
    let (x, log_det) = bijector.forward(&z, None)?;
    let (back, back_log_det) = bijector.inverse(&x, None)?;
    assert!(crate::testing::difference(&z, &back)? < 1e-5);
    assert!(crate::testing::difference(&log_det, &back_log_det.neg()?)? < 1e-5);
    Ok(())
}
