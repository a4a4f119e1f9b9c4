//! Initial values of weights.

use crate::{Result, Rng};
use candle_core::{DType, Device, Shape, Tensor};

/// The initial values of a weight, drawn in f64 and rounded to the weight's dtype.
#[derive(Clone, Debug)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All the same.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
    /// These values, in row-major order.
    Values(Vec<f64>),
}

impl Init {
    /// Uniform with bound `gain / sqrt(inputs)`: PyTorch's default for a linear layer at gain 1.
    pub fn fan_in(inputs: usize, gain: f64) -> Self {
        Self::Uniform(gain / (inputs.max(1) as f64).sqrt())
    }

    pub(super) fn tensor(&self, shape: &Shape, dtype: DType, device: &Device, rng: &mut Rng) -> Result<Tensor> {
        let filled = |value: f64| Ok(Tensor::full(value, shape.clone(), device)?.to_dtype(dtype)?);
        match self {
            Self::Zeros => filled(0.0),
            Self::Constant(value) => filled(*value),
            Self::Normal(std) => rng.tensor(shape.clone(), dtype, device, |rng| std * rng.normal()),
            Self::Uniform(bound) => rng.tensor(shape.clone(), dtype, device, |rng| bound * (2.0 * rng.uniform() - 1.0)),
            Self::Values(values) => Ok(Tensor::from_vec(values.clone(), shape.clone(), device)?.to_dtype(dtype)?),
        }
    }
}
